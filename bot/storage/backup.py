"""Copies of the record that are known to be good, taken while the service runs, and brought back when it does not.

Owns the file of the record alone; the folders beside it are plain files that need no such care.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2 as sqlite

from bot import FrontdeskError
from bot.storage.faults import BUSY_SECONDS, plainly
from bot.storage.lock import FileLock
from bot.storage.migrations import revision_of


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was read back and found whole."""

    path: Path
    bytes: int
    turns: int


def backup_database(record: Path, to: Path) -> Copied:
    """Writes one moment of `record` to the new file `to`, whole or not at all; the service may go on writing.

    Raises FrontdeskError if `record` is damaged or no record, or if `to` exists or cannot be written.
    """
    if not record.is_file():
        raise FrontdeskError(f"{record}: no such file; nothing has been recorded yet")
    if to.exists():
        raise FrontdeskError(f"{to} exists already; give a new name")
    if not to.parent.is_dir():
        raise FrontdeskError(f"{to.parent}: no such folder; make it first")
    return _copy(record, to)


def restore_database(copy: Path, record: Path) -> Path | None:
    """Puts a copy made by `backup_database` in the place of `record`, whole or not at all.

    Returns where the record that was there is kept, None if there was none. Raises FrontdeskError if the copy is
    not whole or of a newer program, or while any program uses `record`.
    """
    if not copy.is_file():
        raise FrontdeskError(f"{copy}: no such file; give a copy that `frontdesk backup` made")
    lock = FileLock(record)
    try:
        if not lock.own():
            raise FrontdeskError(f"{record} is in use by a running program; stop the service, then restore")
        incoming = record.with_name(f".{record.name}.incoming")
        incoming.unlink(missing_ok=True)
        _copy(copy, incoming)
        kept = _set_aside(record) if record.exists() else None
        os.replace(incoming, record)
        _sync(record.parent)
        return kept
    finally:
        lock.release()


def _copy(source: Path, to: Path) -> Copied:
    staging = to.with_name(f".{to.name}.partial")
    staging.unlink(missing_ok=True)
    try:
        with plainly(source):
            if not revision_of(source):
                raise FrontdeskError(f"{source} is empty; give a record or a copy that `frontdesk backup` made")
        # SQLite fills an empty file that is there, and one that it made itself could be read by anybody meanwhile.
        os.close(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with plainly(to), closing(_connect(source)) as connection:
            # Reads one snapshot, so it neither waits for the writer nor sees half of what it does.
            connection.execute("VACUUM INTO ?", (str(staging),))
        _sync(staging)
        with plainly(source), closing(_connect(staging)) as connection:
            turns = _check_is_whole(source, connection)
        os.replace(staging, to)
        _sync(to.parent)
    except OSError as error:
        raise FrontdeskError(f"{to} cannot be written ({error.strerror}); choose another place") from error
    finally:
        staging.unlink(missing_ok=True)
    return Copied(to, to.stat().st_size, turns)


def _check_is_whole(path: Path, connection: Any) -> int:
    """How many turns it holds. Raises FrontdeskError if a page is damaged or a reference leads nowhere."""
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise FrontdeskError(f"{path} is damaged ({verdict}); use an older copy")
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise FrontdeskError(f"{path} is damaged (a reference leads nowhere); use an older copy")
    (turns,) = connection.execute("SELECT count(*) FROM turns").fetchone()
    return int(turns)


def _set_aside(record: Path) -> Path:
    """Keeps the old record under another name. Its WAL must be folded in or go along: found beside the new file,
    it would be played into it."""
    kept = record.with_name(f"{record.name}.before-restore")
    for suffix in ("", "-wal", "-shm"):
        kept.with_name(kept.name + suffix).unlink(missing_ok=True)
    try:
        with closing(_connect(record)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite.Error:
        pass  # damaged, which may be why it is replaced: it is kept as it is
    os.link(record, kept)
    for suffix in ("-wal", "-shm"):
        left = record.with_name(record.name + suffix)
        if left.exists():
            os.replace(left, kept.with_name(kept.name + suffix))
    return kept


def _connect(path: Path) -> Any:
    connection = sqlite.connect(str(path), isolation_level=None, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
