"""The vectors of an index on the graphics cards, in half precision: every row compared, faster than a graph walks.

Owns the copy and what happens when it does not fit. Knows nothing about passages; a machine without a card never
loads more than this file.
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
        return GpuIndex(index, faiss.get_num_gpus())
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        _log.warning("vectors stay on the processor: %d rows do not fit the graphics memory (%s)", index.size, reason)
        return index


class GpuIndex:
    """Searches all rows on the cards; a choice of rows, and the vectors themselves, stay with the index it copies."""

    def __init__(self, index: VectorIndex, cards: int) -> None:
        import faiss

        self._index = index
        self._resources = [faiss.StandardGpuResources() for _ in range(cards)]
        # Resources of a card serve one call at a time.
        self._one = threading.Lock()
        parts = [self._part(card, rows) for card, rows in enumerate(np.array_split(np.arange(index.size), cards))]
        self._flat: Any = parts[0]
        if cards > 1:
            # Threaded, and a row keeps its number across the parts.
            self._flat = faiss.IndexShards(parts[0].d, True, True)  # type: ignore[call-arg]
            for part in parts:
                self._flat.add_shard(part)
        self._parts = parts

    def _part(self, card: int, rows: Rows) -> Any:
        import faiss

        settings = faiss.GpuIndexFlatConfig()
        settings.device = card
        settings.useFloat16 = True
        dimension = self._index.vectors([0]).shape[1]
        flat = faiss.GpuIndexFlatIP(self._resources[card], dimension, settings)
        for start in range(0, len(rows), BLOCK):
            flat.add(np.ascontiguousarray(self._index.vectors(rows[start : start + BLOCK])))
        return flat

    @property
    def size(self) -> int:
        return self._index.size

    @property
    def facts(self) -> Facts:
        return self._index.facts

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        if rows is not None or not 0 < k <= DEEPEST:
            return self._index.search(queries, k, rows)
        with self._one:
            products, found = self._flat.search(np.ascontiguousarray(queries, np.float32), min(k, self.size))
        return products, found

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        return self._index.vectors(rows)

    def save(self, folder: Path) -> None:
        self._index.save(folder)
