"""Files that are there whole or not at all, one writer at a time, and a disk that refuses as one line.

Owns fsync, the rename and the lock. Knows nothing about what the files mean.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retriever.passages import RetrieverError


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk as one line that says what to do; the version in service is untouched by then."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RetrieverError(
            f"{error.filename or folder}: {reason}; free space or make the folder writable and try again "
            "(the version in service is unchanged)"
        ) from None


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """One writer of `folder` at a time, across processes; a killed one lets go. `busy` says what the other is doing."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RetrieverError(f"{folder}: {busy}; wait until it ends") from None
        yield
    finally:
        os.close(lock)


def write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Whoever reads `path` finds what it held before or all of `content`, after a power cut too."""
    new = path.with_name(path.name + ".new")
    try:
        write(new, content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
