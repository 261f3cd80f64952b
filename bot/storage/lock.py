"""Who may touch the record's file: everybody who uses it holds a shared lock, who replaces it an exclusive one.

A lock file beside the database, locked with flock: the kernel lets go of it however the holder dies. (Opening and
closing the database file itself for this would drop SQLite's own locks on it.)
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bot import FrontdeskError


class FileLock:
    """Not held when made. Raises FrontdeskError if the lock file cannot be made."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        try:
            self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FrontdeskError(
                f"{self.path} cannot be made ({error.strerror}); "
                f"give this user write access and space in {database.parent}"
            ) from error

    def share(self) -> bool:
        """Takes the lock beside other users; False while somebody holds it alone."""
        return self._take(fcntl.LOCK_SH)

    def own(self) -> bool:
        """Takes the lock alone; False while anybody else holds it."""
        return self._take(fcntl.LOCK_EX)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take(self, kind: int) -> bool:
        if self._file is None:
            raise FrontdeskError(f"{self.path} was released: open the record again")
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
