"""Nearest passages among very many: FAISS's HNSW graph over the exact vectors, set to a measured recall.

Owns the graph, the table from its slots to rows, and how it grows. Knows nothing about passages or encoders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retriever.exact_index import FILE, Facts, Rows, among, bitmap, finite, one_thread, read, view, write
from retriever.passages import RetrieverError, Vectors

NEIGHBOURS: Final = 16
CONSTRUCTION: Final = 100
"""HNSW's M and efConstruction: docs/decisions.md has what others cost."""
RECALL: Final = 0.98
BREADTHS: Final = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""efSearch, tried in this order until `RECALL` is reached on the company's own vectors."""
SAME: Final = 1e-5
"""Products that differ by less are equal: the order of a sum decides them."""
SAMPLE: Final = 200
BLUR: Final = 0.9
"""Length of the noise on a passage that makes it a question about it: a cosine of .74 to it."""
REMEASURED: Final = 1.01
"""Growth since the recall was measured from which it is measured again."""
LIVE: Final = 0.8
"""The graph is built anew when less than this share of its slots is live."""
FEW: Final = 20_000
"""Up to this many chosen rows are all compared: a graph finds little of a small part of itself."""
SLOTS: Final = "slots.npy"

_DEAD: Final = -1


class GraphIndex:
    """`IndexHNSWFlat`: 1.1 times the memory of the vectors. A slot of the graph holds one row, or none any more."""

    kind: Final = "graph"

    def __init__(self, graph: Any, row_of: Rows, breadth: int, recall: float, measured: int) -> None:
        self._graph = graph
        self._row_of = row_of
        self._live = row_of != _DEAD
        self._slot_of = np.empty(int(self._live.sum()), np.int64)
        self._slot_of[row_of[self._live]] = np.flatnonzero(self._live)
        self._stored = view(_storage(graph))
        self._breadth = breadth
        self._recall = recall
        self._measured = measured
        """Slots there were when the recall was measured."""

    @classmethod
    def built(cls, vectors: Vectors) -> GraphIndex:
        """A graph of `vectors` alone. One thread: the same vectors give the same graph."""
        import faiss

        checked = finite(vectors)
        graph = faiss.IndexHNSWFlat(checked.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = CONSTRUCTION
        one_thread(graph).add(checked)
        return cls(graph, np.arange(len(checked)), 0, 0.0, 0)._tuned()

    @classmethod
    def grown(cls, vectors: Vectors, before: GraphIndex) -> GraphIndex:
        """A graph of `vectors` that keeps the slots of those which `before` holds and adds the others to it."""
        import faiss

        checked = finite(vectors)
        if checked.shape[1] != before._stored.shape[1]:
            return cls.built(checked)
        free: dict[bytes, list[int]] = defaultdict(list)
        for slot in np.flatnonzero(before._live).tolist():
            free[before._stored[slot].tobytes()].append(slot)
        row_of = np.full(len(before._row_of), _DEAD, np.int64)
        new = []
        for row, vector in enumerate(checked):
            if slots := free.get(vector.tobytes()):
                row_of[slots.pop()] = row
            else:
                new.append(row)
        row_of = np.concatenate([row_of, np.array(new, np.int64)])
        if len(checked) < LIVE * len(row_of):
            return cls.built(checked)
        # Not a clone: that of a mapped index shares its memory, and adding to it ends the process.
        graph: Any = faiss.deserialize_index(faiss.serialize_index(before._graph))
        graph.hnsw.efConstruction = CONSTRUCTION
        one_thread(graph).add(checked[new])
        same = cls(graph, row_of, before._breadth, before._recall, before._measured)
        # Measuring takes longer than adding a few.
        return same if len(row_of) <= REMEASURED * before._measured else same._tuned()

    @classmethod
    def load(cls, folder: Path, facts: Facts, *, rows: int, dimension: int) -> GraphIndex:
        import faiss

        try:
            row_of = np.load(folder / SLOTS, allow_pickle=False)
            breadth, recall, measured = int(facts["breadth"]), float(facts["recall"]), int(facts["measured"])
            sound = row_of.dtype == np.int64 and np.array_equal(np.sort(row_of[row_of != _DEAD]), np.arange(rows))
        except (OSError, ValueError, KeyError) as error:
            raise RetrieverError(f"{folder}: not a graph of this program ({error}); ingest again") from None
        if not sound:
            raise RetrieverError(f"{folder / SLOTS}: does not hold each of {rows} rows once; ingest again or roll back")
        graph = read(folder / FILE, faiss.IndexHNSWFlat, len(row_of), dimension)
        return cls(graph, row_of, breadth, recall, measured)

    def save(self, folder: Path) -> None:
        write(self._graph, folder / FILE)
        np.save(folder / SLOTS, self._row_of)

    @property
    def size(self) -> int:
        return len(self._slot_of)

    @property
    def facts(self) -> Facts:
        return {
            "kind": self.kind, "neighbours": NEIGHBOURS, "breadth": self._breadth, "recall": self._recall,
            "measured": self._measured,
        }  # fmt: skip

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        """Nearly exact: `facts` says how nearly. Fewer than `FEW` chosen rows are compared one by one, and so are all
        chosen rows where the way through the graph does not meet enough of them: they lie apart from the question."""
        if rows is None or len(rows) > FEW:
            products, slots = self._search(
                queries, min(k, self.size if rows is None else len(rows)), rows, self._breadth
            )
            if (slots >= 0).all():
                return products, self._row_of[slots]
        chosen = np.flatnonzero(self._live) if rows is None else self._slot_of[np.asarray(rows, np.int64)]
        products, slots = among(queries, k, chosen, self._stored)
        return products, self._row_of[slots]

    def _search(self, queries: Vectors, k: int, rows: Rows | None, breadth: int) -> tuple[Vectors, Rows]:
        """As `search`, with slots for rows, -1 where no more were met."""
        import faiss

        wide = max(breadth, k)
        bits = selector = None
        if rows is not None or not self._live.all():
            chosen = self._live
            if rows is not None:
                chosen = np.zeros(len(self._live), bool)
                chosen[self._slot_of[rows]] = True
                # Of a part of the graph only that part of what is visited counts.
                wide = int(wide * self.size / len(rows))
            bits = bitmap(chosen)
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        asked = np.ascontiguousarray(queries, np.float32)
        settings = faiss.SearchParametersHNSW(efSearch=wide, sel=selector)  # type: ignore[attr-defined]
        products, slots = one_thread(self._graph).search(asked, k, params=settings)
        return products, slots

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        found: Vectors = self._stored[self._slot_of[np.asarray(rows, dtype=np.int64)]]
        return found

    def _tuned(self) -> GraphIndex:
        """With the least breadth that finds `RECALL` of the ten nearest of `SAMPLE` blurred passages."""
        random = np.random.default_rng(0)
        rows = random.choice(self.size, min(SAMPLE, self.size), replace=False)
        picked = self.vectors(rows)
        noise = random.normal(0, BLUR / np.sqrt(picked.shape[1]), picked.shape)
        asked = (picked + noise).astype(np.float32)
        k = min(10, self.size)
        # What is as near as the last of the nearest is one of them: of copies any will do.
        exact = _nearest(asked, self._stored, self._live, k)
        least = np.einsum("nd,nkd->nk", asked, self._stored[exact]).min(axis=1, keepdims=True) - SAME
        for breadth in BREADTHS:
            products, slots = self._search(asked, k, None, breadth)
            recall = float(((products >= least) & (slots >= 0)).mean())
            if recall >= RECALL:
                break
        return GraphIndex(self._graph, self._row_of, breadth, round(recall, 4), len(self._row_of))


def _nearest(asked: Vectors, stored: Vectors, live: NDArray[np.bool_], k: int) -> Rows:
    """The slots of the `k` nearest live vectors of each row of `asked`, every one compared."""
    best = np.empty((len(asked), 0), np.int64)
    products = np.empty((len(asked), 0), np.float32)
    # In blocks: at a million rows the whole table of products would be most of a gigabyte.
    for start in range(0, len(stored), 50_000):
        block = np.where(live[start : start + 50_000], asked @ stored[start : start + 50_000].T, -np.inf)
        products = np.hstack([products, block])
        best = np.hstack([best, np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)])
        order = np.argpartition(-products, min(k, products.shape[1]) - 1, axis=1)[:, :k]
        products, best = np.take_along_axis(products, order, 1), np.take_along_axis(best, order, 1)
    return best


def _storage(graph: Any) -> Any:
    import faiss

    return faiss.downcast_index(graph.storage)
