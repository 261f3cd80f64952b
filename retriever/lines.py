"""Rows of text on disk: written once, mapped and not read, and taken over by the next version without a copy.

Owns the parts, files of lines that never change again, and the table of which line is which row. Knows nothing about
what a line means, about versions or about checksums: check those before.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from retriever.passages import RetrieverError

Order = NDArray[np.int64]
"""Of each row of something new: its row in what was before, or, counted on from there, in what was added."""

MANY: Final = 20_000
"""Rows from which a version takes parts over. Fewer are written anew in no time, and stand alone."""
LIVE: Final = 0.8
"""Parts are written anew, as one, when less than this share of their lines is a row."""
MOST_PARTS: Final = 20
PART: Final = 10_000
"""Rows put in order at a time."""

T = TypeVar("T")
S = TypeVar("S", bound=np.generic)


class Lines(Sequence[bytes]):
    """The rows `name` of `folder`, without their line breaks. Threads may share it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open what `write_lines` wrote. Raises RetrieverError when that is not there."""
        try:
            self.table: Order = np.load(_table(folder, name), allow_pickle=False)
            """`[n, 3]`: part, start and end of each row."""
            self.files = sorted(folder.glob(f"{name}.*.lines"))
            self._parts = [_mapped(file) for file in self.files]
            ends = np.array([len(part) for part in self._parts], np.int64)
            part, start, end = self.table.T
            if not ((start >= 0) & (start <= end) & (end < ends[part])).all():
                raise ValueError("rows lie outside its lines")
        except (OSError, ValueError, IndexError) as error:
            raise RetrieverError(f"{folder / name}: not readable ({error}); ingest again or roll back") from None

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        part, start, end = self.table[row].tolist()
        line: bytes = self._parts[part][start:end]
        return line

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.take(np.arange(len(self))))

    def take(self, rows: Order) -> list[bytes]:
        """Many at once."""
        parts = self._parts
        return [parts[part][start:end] for part, start, end in self.table[rows].tolist()]

    @property
    def live(self) -> float:
        """The share of the bytes that is some row."""
        return float((self.table[:, 2] - self.table[:, 1] + 1).sum() / max(1, sum(map(len, self._parts))))


def write_lines(folder: Path, name: str, order: Order, added: Iterable[bytes], before: Lines | None = None) -> None:
    """Write rows into `folder`: those of `before` and then `added`, in `order`; OSError when the disk refuses.

    Of many rows only what was added is written: the rest are the same files under a second name, and whoever removes
    one folder leaves the other whole.
    """
    new = list(added)
    if before is None or not grows(len(order), before.live, len(before.files)):
        lines = [*(before or ()), *new]
        new, before, order = [lines[row] for row in order.tolist()], None, np.arange(len(order))
    parts = before.files if before is not None else []
    for number, part in enumerate(parts):
        link(part, _part(folder, name, number))
    _part(folder, name, len(parts)).write_bytes(b"".join(line + b"\n" for line in new))
    lengths = np.array([len(line) for line in new], np.int64)
    ends = np.cumsum(lengths + 1) - 1
    table = np.stack([np.full(len(new), len(parts)), ends - lengths, ends], axis=1)
    np.save(_table(folder, name), (table if before is None else np.concatenate([before.table, table]))[order])


def in_order(kept: Callable[[Order], NDArray[S]], size: int, added: NDArray[S], order: Order) -> NDArray[S]:
    """The `size` rows that `kept` gives and then those of `added`, in `order`. A part at a time: of a million vectors
    there is no room for a copy without need."""
    found = np.empty((len(order), *added.shape[1:]), added.dtype)
    for start in range(0, len(order), PART):
        part, rows = found[start : start + PART], order[start : start + PART]
        old = rows < size
        part[old] = kept(rows[old])
        part[~old] = added[rows[~old] - size]
    return found


def grows(rows: int, live: float, parts: int) -> bool:
    """Whether something of so many rows, in so many parts of which that share is live, is added to: else it is written
    anew."""
    return rows > MANY and live >= LIVE and parts < MOST_PARTS


def link(file: Path, to: Path) -> None:
    """The same file under a second name, or its copy where the disk knows no such thing."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


class Parsed(Sequence[T]):
    """Rows of JSON as values, made when they are asked for."""

    def __init__(self, lines: Lines, parse: Callable[[bytes], T]) -> None:
        self.lines = lines
        self._parse = parse

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...
    def __getitem__(self, row: int | slice) -> T | Sequence[T]:
        found = self.lines[row]
        return self._parse(found) if isinstance(found, bytes) else [self._parse(line) for line in found]

    def __iter__(self) -> Iterator[T]:
        return map(self._parse, self.lines)


def _part(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.{number:02}.lines"


def _table(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _mapped(file: Path) -> bytes | mmap.mmap:
    with file.open("rb") as opened:
        # An empty file cannot be mapped.
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""
