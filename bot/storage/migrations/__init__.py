"""Brings the record's tables up to date when it is opened: one transaction, so a killed migration never happened.

Owns which revision this program needs and who may migrate (one process, alone). The steps are in `versions/`.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection, Engine

from bot import FrontdeskError
from bot.storage.faults import BUSY_SECONDS
from bot.storage.lock import FileLock

HEAD = "0003"
"""The newest revision in `versions/`. A constant, so that opening a current record does not load Alembic."""
REVISIONS = ("0001", "0002", "0003")
_PATIENCE_SECONDS = 10.0


def bring_up_to_date(path: Path, lock: FileLock, engine: Engine) -> None:
    """Returns with `lock` shared and the tables at `HEAD`.

    Raises FrontdeskError if the file belongs to a newer or another program, or others keep it from migrating.
    """
    _make_private(path)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if lock.share():
            if revision_of(path) == HEAD:
                return
            if lock.own() and revision_of(path) != HEAD:
                _upgrade(engine)
        engine.dispose()  # the file may be replaced while we do not hold the lock
        time.sleep(0.02)
    raise FrontdeskError(
        f"{path} is being restored, or needs an upgrade while another program uses it: stop that program, try again"
    )


def revision_of(path: Path) -> str:
    """The revision the file is at, empty for a new file. Refuses files this program did not write, untouched."""
    with closing(sqlite.connect(str(path), isolation_level=None, timeout=BUSY_SECONDS)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return ""
        if "alembic_version" not in tables:
            raise FrontdeskError(f"{path} is a database of another program; set FRONTDESK_HOME to a folder of its own")
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    revision = str(found[0]) if found else ""
    if revision and revision not in REVISIONS:
        raise FrontdeskError(f"{path} was written by a newer Frontdesk (revision {revision}): install that one")
    return revision


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Runs the steps up to `revision` in the transaction that `connection` is in."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _upgrade(engine: Engine) -> None:
    with engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        # Batch mode rebuilds a table by copying and dropping it. With foreign keys on, the drop would delete every
        # row that refers to it. The switch only works outside a transaction; the check afterwards makes up for it.
        driver.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            upgrade(connection)
            if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise FrontdeskError(f"the upgrade would break a reference in table {broken[0]}; restore a backup")
    engine.dispose()


def _make_private(path: Path) -> None:
    """A new record is readable by its owner only; SQLite gives the files beside it the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise FrontdeskError(
            f"{path} cannot be made ({error.strerror}); give this user write access and space in {path.parent}"
        ) from error
