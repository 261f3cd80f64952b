"""The vectors of an index on the graphics cards, in half precision: every row compared.

Owns the copy and what happens when it, or a search, does not fit. Knows nothing about passages; a machine without a
card never loads more than this file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from retriever.exact_index import Facts, Rows
from retriever.passages import Vectors
from retriever.vector_index import VectorIndex

BLOCK: Final = 100_000
DEEPEST: Final = 2048
"""The most neighbours that FAISS finds on a card."""

_log = logging.getLogger(__name__)


def on_gpu(index: VectorIndex) -> VectorIndex:
    """`index` with its vectors on all cards, or itself: without a card, or with one log line where they do not fit."""
    import faiss

    if not faiss.get_num_gpus() or not index.size:
        return index
    try:
        return GpuIndex(index, *_copied(index, faiss.get_num_gpus()))
    except (RuntimeError, MemoryError) as error:
        _log.warning(
            "vectors stay on the processor: %d rows do not fit the graphics memory (%s)", index.size, _reason(error)
        )
        return index


def _copied(index: VectorIndex, cards: int) -> tuple[Any, object]:
    """The rows of `index` on the cards as one index of FAISS, and what must live as long as it does."""
    import faiss

    resources = [faiss.StandardGpuResources() for _ in range(cards)]
    parts = []
    for card, rows in enumerate(np.array_split(np.arange(index.size), cards)):
        settings = faiss.GpuIndexFlatConfig()
        settings.device = card
        settings.useFloat16 = True
        part = faiss.GpuIndexFlatIP(resources[card], index.vectors([0]).shape[1], settings)
        for start in range(0, len(rows), BLOCK):
            part.add(np.ascontiguousarray(index.vectors(rows[start : start + BLOCK])))
        parts.append(part)
    if cards == 1:
        return parts[0], resources
    # Threaded, and a row keeps its number across the parts.
    shards = faiss.IndexShards(parts[0].d, True, True)  # type: ignore[call-arg]
    for part in parts:
        shards.add_shard(part)
    return shards, (resources, parts)


def _reason(error: Exception) -> str:
    # FAISS begins with where in its source it stood, and ends with what is wrong.
    return str(error).splitlines()[0][-200:] if str(error) else type(error).__name__


class GpuIndex:
    """Searches all rows on the cards; a choice of rows, and the vectors themselves, stay with the index it copies, and
    so does what the cards fail to answer."""

    def __init__(self, index: VectorIndex, flat: Any, kept: object = None) -> None:
        """`flat` holds the rows of `index` on the cards; `kept` lives as long."""
        self._index, self._flat, self._kept = index, flat, kept
        # Resources of a card serve one call at a time.
        self._one = threading.Lock()
        self._failed = False

    @property
    def size(self) -> int:
        return self._index.size

    @property
    def facts(self) -> Facts:
        return self._index.facts

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        if rows is not None or not 0 < k <= DEEPEST:
            return self._index.search(queries, k, rows)
        try:
            with self._one:
                products, found = self._flat.search(np.ascontiguousarray(queries, np.float32), min(k, self.size))
        except (RuntimeError, MemoryError) as error:
            # The memory may be another program's for a moment only, so the card is asked again next time; one line
            # says it, not one a question.
            if not self._failed:
                self._failed = True
                _log.warning("the graphics card fails; the processor searches when it does (%s)", _reason(error))
            return self._index.search(queries, k)
        return products, found

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        return self._index.vectors(rows)

    def save(self, folder: Path) -> None:
        self._index.save(folder)
