"""A table of vectors in files that never change again: it grows by a file, and the next version takes the others over.

Owns the files, and which row lies in which slot of them. Knows nothing about what is searched, or what a row stands
for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.lines import LIVE, MOST_PARTS, Order, link
from retriever.passages import RetrieverError, Vectors

BLOCK = 50_000
"""Rows at a time where all are looked at."""


class Blocks:
    """`[n, d]` float32, mapped and not read. Each row lies in a slot of its own; a slot whose row is gone stays where
    it is, and is no row's any more. Threads may share it."""

    def __init__(self, parts: Sequence[Vectors], slots: Order | None = None, files: Sequence[Path] = ()) -> None:
        """`slots` are those of each row, without them one after the other. The first `parts` lie in `files`."""
        self._parts = parts
        self._files = files
        self._starts = np.cumsum([0, *map(len, parts)])
        self.held = int(self._starts[-1])
        """How many slots there are."""
        self.slots = np.arange(self.held) if slots is None else slots
        self.dimension = parts[0].shape[1]

    @classmethod
    def load(cls, folder: Path, name: str, rows: int, dimension: int) -> Blocks:
        """Raises RetrieverError when `folder` does not hold `rows` x `dimension`. Check the files' SHA-256 before."""
        files = sorted(folder.glob(f"{name}.[0-9][0-9].npy"))
        try:
            # As arrays of their own class: a memmap asks for its file's name at each row that is taken.
            parts = [np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files]
            shapes, held = {(part.shape[1:], part.dtype.str) for part in parts}, sum(map(len, parts))
            slots = np.load(_slots(folder, name), allow_pickle=False)
            times = np.bincount(slots, minlength=held)
        except (OSError, ValueError, TypeError) as error:
            raise RetrieverError(f"{folder / name}: not readable ({error}); ingest again or roll back") from None
        if shapes != {((dimension,), "<f4")} or len(slots) != rows or len(times) > held or times.max() > 1:
            raise RetrieverError(
                f"{folder / name}: does not hold {rows} x {dimension} vectors, each once; ingest again or roll back"
            )
        return cls(parts, slots, files)

    def save(self, folder: Path, name: str) -> None:
        for number, part in enumerate(self._parts):
            file = folder / f"{name}.{number:02}.npy"
            if number < len(self._files):
                link(self._files[number], file)
            else:
                np.save(file, part)
        np.save(_slots(folder, name), self.slots)

    def then(self, added: Vectors, order: Order) -> Blocks:
        """These rows and then `added`, in `order`: each in the slot that it has, and the new ones behind."""
        slots = np.concatenate([self.slots, np.arange(self.held, self.held + len(added))])[order]
        if not len(added):
            return Blocks(self._parts, slots, self._files)
        if len(self._parts) >= MOST_PARTS:
            return Blocks([np.concatenate([*self._parts, added])], slots)
        return Blocks([*self._parts, added], slots, self._files)

    def packed(self) -> Blocks:
        """The same rows without the slots that are no row's, where these are too many."""
        return self if self.live >= LIVE else Blocks([self[np.arange(len(self))]])

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of each slot, -1 where there is none any more."""
        found = np.full(self.held, -1, np.int64)
        found[self.slots] = np.arange(len(self))
        return found

    @property
    def live(self) -> float:
        """The share of the slots that is some row's."""
        return len(self) / max(1, self.held)

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, rows: Order) -> Vectors:
        """The vectors of an array of rows, of any shape."""
        return self.at(self.slots[rows])

    def at(self, slots: Order) -> Vectors:
        """The vectors in an array of slots, of any shape."""
        if len(self._parts) == 1:
            return self._parts[0][slots]
        found = np.empty((*slots.shape, self.dimension), np.float32)
        part = np.searchsorted(self._starts, slots, side="right") - 1
        for number in np.unique(part).tolist():
            here = part == number
            found[here] = self._parts[number][slots[here] - self._starts[number]]
        return found

    def __iter__(self) -> Iterator[Vectors]:
        """What is in all slots, a block at a time."""
        for part in self._parts:
            for start in range(0, len(part), BLOCK):
                yield part[start : start + BLOCK]


def _slots(folder: Path, name: str) -> Path:
    return folder / f"{name}.slots.npy"
