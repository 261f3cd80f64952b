"""A disk that fails on command, and remembers: SQLite's own way of talking to files, wrapped.

SQLite reaches the disk through a table of functions (a VFS). This registers a copy of it whose write, truncate and
sync can be made to fail, and are written down in order, which is what a power cut leaves some of.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pysqlite3._sqlite3 as driver

FULL, IOERR_WRITE, IOERR_FSYNC = 13, 778, 1034
Operation = Literal["write", "truncate", "sync"]


@dataclass(frozen=True, slots=True)
class Act:
    """One thing done to one file, in order. `data` at `offset` for a write, the new size in `offset` for a truncate."""

    operation: Operation
    file: str
    offset: int = 0
    data: bytes = b""


class FaultyDisk:
    """`fault` maps an operation to the result code it fails with; `acts` is what was done since it was cleared."""

    def __init__(self) -> None:
        self.fault: dict[Operation, int] = {}
        self.acts: list[Act] = []
        self.remembers = False

    def does(self, operation: Operation, file: str, offset: int = 0, data: bytes = b"") -> int:
        code = self.fault.get(operation, 0)
        if not code and self.remembers:
            self.acts.append(Act(operation, file, offset, data))
        return code


class _Methods(ctypes.Structure):
    """The start of sqlite3_io_methods; what follows is copied as it is."""

    _fields_ = [("version", ctypes.c_int)] + [
        (name, ctypes.c_void_p)
        for name in ("close", "read", "write", "truncate", "sync", *(f"rest{n}" for n in range(13)))
    ]


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("path_size", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        *((f"rest{n}", ctypes.c_void_p) for n in range(15)),
    ]


_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_File), ctypes.c_int, ctypes.c_void_p
)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """Every file that SQLite opens in the block goes through the disk it yields."""
    library = ctypes.CDLL(driver.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    usual = library.sqlite3_vfs_find(None)
    disk = FaultyDisk()
    kept: list[Any] = []  # what C points to must outlive the files

    def open_file(vfs: int, path: int | None, file: Any, flags: int, out: int) -> int:
        # SQLite keeps the address of the path as long as the file is open: it is passed on, never copied.
        result = int(_OPEN(usual.contents.open)(vfs, path, file, flags, out))
        if result == 0 and path is not None:
            kept.append(_watch(file.contents, ctypes.string_at(path).decode(), disk, kept))
        return result

    ours = _Vfs.from_buffer_copy(usual.contents)
    opener = _OPEN(open_file)
    ours.name, ours.open = b"faulty", ctypes.cast(opener, ctypes.c_void_p).value
    kept.extend([ours, opener])
    library.sqlite3_vfs_register(ctypes.byref(ours), 1)
    try:
        yield disk
    finally:
        library.sqlite3_vfs_register(usual, 1)
        library.sqlite3_vfs_unregister(ctypes.byref(ours))


def _watch(file: _File, path: str, disk: FaultyDisk, kept: list[Any]) -> _Methods:
    usual = file.methods.contents
    ours = _Methods.from_buffer_copy(usual)

    def write(handle: int, data: int, size: int, offset: int) -> int:
        failed = disk.does("write", path, offset, ctypes.string_at(data, size))
        return failed or int(_WRITE(usual.write)(handle, data, size, offset))

    def truncate(handle: int, size: int) -> int:
        return disk.does("truncate", path, size) or int(_TRUNCATE(usual.truncate)(handle, size))

    def sync(handle: int, flags: int) -> int:
        return disk.does("sync", path) or int(_SYNC(usual.sync)(handle, flags))

    for name, function in (("write", _WRITE(write)), ("truncate", _TRUNCATE(truncate)), ("sync", _SYNC(sync))):
        setattr(ours, name, ctypes.cast(function, ctypes.c_void_p).value)
        kept.append(function)
    file.methods = ctypes.pointer(ours)
    return ours
