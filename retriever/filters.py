"""Which rows a search may see: by audience, language and entity.

Owns what the passages of a version are marked with. Knows nothing about ranking: it gives rows, and every index looks
among these alone, so that a filter never leaves fewer hits than there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retriever.passages import Filter, Passage

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Seen(NamedTuple):
    """What a filter lets through, as a mark for each row and as row numbers."""

    mask: Mask
    rows: Rows


class Filters:
    """The marks of a version's passages. Built once; read-only, so threads may share it."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._audiences = _Marks(passage.audience for passage in passages)
        self._languages = _Marks(passage.language for passage in passages)
        self._entities = _Marks(passage.entity for passage in passages)
        # A service asks with the same few filters all day.
        self.seen = lru_cache(maxsize=64)(self._seen)

    def _seen(self, only: Filter) -> Seen | None:
        """What `only` lets through; None when it is everything."""
        masks = [
            marks.among(names)
            for marks, names in (
                (self._audiences, only.audiences),
                (self._languages, only.languages),
                (self._entities, only.entities),
            )
            if names is not None
        ]
        mask: Mask = np.logical_and.reduce(masks) if masks else np.ones(0, bool)
        return None if mask.all() else Seen(mask, np.flatnonzero(mask))


class _Marks:
    def __init__(self, names: Iterable[str]) -> None:
        self._names, self._number = np.unique(np.array(list(names), str), return_inverse=True)

    def among(self, names: frozenset[str]) -> Mask:
        chosen = np.array([name in names for name in self._names.tolist()], bool)
        mask: Mask = chosen[self._number]
        return mask
