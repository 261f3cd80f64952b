"""Which rows a search may see: by audience, language and entity.

Owns what the passages of a version are marked with. Knows nothing about ranking: it gives rows, and every index looks
among these alone, so that a filter never leaves fewer hits than there are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retriever.marks import Column, Marks
from retriever.passages import Filter

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Seen(NamedTuple):
    """What a filter lets through, as a mark for each row and as row numbers."""

    mask: Mask
    rows: Rows


class Filters:
    """The marks of a version's passages. Built once; read-only, so threads may share it."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        # A service asks with the same few filters all day.
        self.seen = lru_cache(maxsize=64)(self._seen)

    def _seen(self, only: Filter) -> Seen | None:
        """What `only` lets through; None when it is everything."""
        masks = [
            _among(column, names)
            for column, names in (
                (self._marks.audience, only.audiences),
                (self._marks.language, only.languages),
                (self._marks.entity, only.entities),
            )
            if names is not None
        ]
        mask: Mask = np.logical_and.reduce(masks) if masks else np.ones(0, bool)
        return None if mask.all() else Seen(mask, np.flatnonzero(mask))


def _among(column: Column, names: frozenset[str]) -> Mask:
    chosen = np.array([name in names for name in column.names], bool)
    mask: Mask = chosen[column.numbers]
    return mask
