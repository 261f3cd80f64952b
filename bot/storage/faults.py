"""What SQLite and the disk report, told in one line with the cure, and what may be done after it.

Owns the meaning of SQLite's result codes. Knows nothing about what was being stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite
from sqlalchemy.exc import DBAPIError

from bot import FrontdeskError

BUSY_SECONDS = 5
"""How long SQLite waits for another process before it gives up."""

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_NOT_WRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")
_LITTLE_ROOM = 2**20


class RecordUnavailable(FrontdeskError):
    """Nothing was stored, through no fault of the caller: disk full, locked, too many waiting. Worth a retry."""


@contextmanager
def plainly(path: Path) -> Iterator[None]:
    """Turns faults of the file and the disk into FrontdeskError, RecordUnavailable where a retry may help.

    A broken constraint or wrong SQL is a bug, and passes as it is.
    """
    try:
        yield
    except (DBAPIError, sqlite.Error) as error:
        plain = _explained(path, error)
        if plain is None:
            raise
        raise plain from error


def is_of_the_disk(error: BaseException) -> bool:
    """True if the disk, the file or a lock is at fault; false for what a statement did wrong."""
    return _code(error).startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", *_NOT_WRITABLE, *_DAMAGED))


class DiskFault(RecordUnavailable):
    """Writing or syncing failed on a disk that has room. The kernel may have dropped what was written, so a later
    sync that succeeds proves nothing: nothing more may be acknowledged until the file was opened anew."""


def _explained(path: Path, error: DBAPIError | sqlite.Error) -> FrontdeskError | None:
    code = _code(error)
    said = error.orig if isinstance(error, DBAPIError) else error
    # Growing the index of the WAL on a full disk is an I/O error too, and the driver does not tell which one.
    if code.startswith("SQLITE_FULL") or (code.startswith("SQLITE_IOERR") and _is_full(path)):
        return RecordUnavailable(f"{path}: the disk is full, nothing was stored; free some space")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return RecordUnavailable(
            f"{path} has been locked by another process for {BUSY_SECONDS} seconds; find it with `fuser {path}`"
        )
    if code.startswith(_DAMAGED):
        return FrontdeskError(f"{path} is not a healthy record ({said}); bring a copy back with `frontdesk restore`")
    if code.startswith(_NOT_WRITABLE):
        return FrontdeskError(f"{path} cannot be written ({said}); give this user write access to {path.parent}")
    if code.startswith("SQLITE_IOERR"):
        return DiskFault(f"{path}: the disk failed ({said}), nothing is stored; check the disk, then restart")
    return None


def _is_full(path: Path) -> bool:
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < _LITTLE_ROOM


def _code(error: BaseException) -> str:
    source = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(source, "sqlite_errorname", None) or "")
