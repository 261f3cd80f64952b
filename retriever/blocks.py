"""A table of vectors in files that never change again: it grows by a file, and the next version takes the others over.

Owns the files and which row lies in which. Knows nothing about what is searched, or what a row stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.lines import MOST_PARTS, link
from retriever.passages import RetrieverError, Vectors

BLOCK = 50_000
"""Rows at a time where all are looked at."""


class Blocks:
    """`[n, d]` float32, mapped and not read. Threads may share it."""

    def __init__(self, parts: Sequence[Vectors], files: Sequence[Path] = ()) -> None:
        """The first of the `parts` lie in `files`, if any are given."""
        self._parts = parts
        self._files = files
        self._starts = np.cumsum([0, *map(len, parts)])
        self.dimension = parts[0].shape[1]

    @classmethod
    def load(cls, folder: Path, rows: int, dimension: int) -> Blocks:
        """Raises RetrieverError when `folder` does not hold `rows` x `dimension`. Check the files' SHA-256 before."""
        files = sorted(folder.glob("vectors.*.npy"))
        try:
            # As arrays of their own class: a memmap asks for its file's name at each row that is taken.
            parts = [np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files]
            held = sum(map(len, parts)), *{(part.shape[1:], part.dtype.str) for part in parts}
        except (OSError, ValueError) as error:
            raise RetrieverError(f"{folder}: vectors not readable ({error}); ingest again or roll back") from None
        if held != (rows, ((dimension,), "<f4")):
            raise RetrieverError(f"{folder}: does not hold {rows} x {dimension} vectors; ingest again or roll back")
        return cls(parts, files)

    def save(self, folder: Path) -> None:
        for number, part in enumerate(self._parts):
            file = folder / f"vectors.{number:02}.npy"
            if number < len(self._files):
                link(self._files[number], file)
            else:
                np.save(file, part)

    def then(self, added: Vectors) -> Blocks:
        if not len(added):
            return self
        if len(self._parts) >= MOST_PARTS:
            return Blocks([np.concatenate([*self._parts, added])])
        return Blocks([*self._parts, added], self._files)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: NDArray[np.int64]) -> Vectors:
        """The vectors of an array of rows, of any shape."""
        if len(self._parts) == 1:
            return self._parts[0][rows]
        found = np.empty((*rows.shape, self.dimension), np.float32)
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part).tolist():
            here = part == number
            found[here] = self._parts[number][rows[here] - self._starts[number]]
        return found

    def __iter__(self) -> Iterator[Vectors]:
        """All of it, a block at a time."""
        for part in self._parts:
            for start in range(0, len(part), BLOCK):
                yield part[start : start + BLOCK]
