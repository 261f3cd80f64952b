"""Nearest passages among very many: FAISS's inverted file over cells of vectors, set to a measured recall.

Owns the cells and how they grow. Knows nothing about passages or encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retriever.blocks import Blocks
from retriever.exact_index import Facts, Rows, among, bitmap, finite, one_thread, read, write
from retriever.lines import LIVE, Order
from retriever.passages import RetrieverError, Vectors

CELLS: Final = "cells.faiss"
VECTORS: Final = "vectors"
RECALL: Final = 0.98
PROBES: Final = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Cells that a search looks into, tried in this order until `RECALL` is reached on the company's own vectors."""
TRAINED: Final = 64
"""Vectors a cell that the cells are laid by."""
OUTGROWN: Final = 1.5
"""The cells are laid anew when there should be so many times as many."""
SAME: Final = 1e-5
"""Products that differ by less are equal: the order of a sum decides them."""
SAMPLE: Final = 200
BETWEEN, BLUR = 3, 1.0
"""What stands in for a question: what so many passages have in common, and noise of this length. Real questions lie
between cells too; a passage with noise lies deep in one, and promises too much (docs/decisions.md)."""
REMEASURED: Final = 1.01
"""Growth since the recall was measured from which it is measured again."""
FEW: Final = 20_000
"""Up to this many chosen rows are all compared: they may lie in many cells, a few in each."""


class IvfIndex:
    """`IndexIVFScalarQuantizer`, eight bits, finds the finalists; their whole vectors, mapped from the disk, are
    compared exactly. 1.27 times the bytes of the vectors. FAISS knows a row by its slot in the whole vectors."""

    kind: Final = "ivf"

    def __init__(self, whole: Blocks, cells: Any, probes: int, recall: float, measured: int) -> None:
        self._whole = whole
        self._cells = cells
        self._row_of = whole.rows
        self._live = self._row_of >= 0
        self._probes = probes
        self._recall = recall
        self._measured = measured
        """Slots there were when the recall was measured."""

    @classmethod
    def built(cls, vectors: Vectors) -> IvfIndex:
        """Cells of `vectors` alone. One thread and a fixed seed: the same vectors give the same cells."""
        import faiss

        checked = finite(vectors)
        count, dimension = checked.shape
        number = _cells_for(count)
        cells: Any = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dimension), dimension, number,
            faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT,
        )  # fmt: skip
        cells.cp.spherical = True
        cells.cp.min_points_per_centroid = 1  # a warning on standard error otherwise
        drawn = np.random.default_rng(0).permutation(count)[: TRAINED * number]
        one_thread(cells).train(checked[np.sort(drawn)])
        cells.add(checked)
        return cls(Blocks([checked]), cells, 0, 0.0, 0)._tuned()

    @classmethod
    def grown(cls, added: Vectors, order: Order, before: IvfIndex) -> IvfIndex:
        """An index of the rows of `before` and then of `added`, in `order`: those of `added` go to the cells that there
        are, unless too many slots are empty, or there should be many more cells by now."""
        import faiss

        checked = finite(added)
        whole = before._whole.then(checked, order)
        if whole.live < LIVE or _cells_for(len(whole)) > OUTGROWN * before._cells.nlist:
            return cls.built(whole[np.arange(len(whole))])
        # Not a clone: that of a mapped index shares its memory, and adding to it ends the process.
        cells: Any = faiss.deserialize_index(faiss.serialize_index(before._cells))
        one_thread(cells).add(checked)
        same = cls(whole, cells, before._probes, before._recall, before._measured)
        # Measuring takes longer than adding a few.
        return same if whole.held <= REMEASURED * before._measured else same._tuned()

    @classmethod
    def load(cls, folder: Path, facts: Facts, *, rows: int, dimension: int) -> IvfIndex:
        import faiss

        try:
            probes, recall, measured = int(facts["probes"]), float(facts["recall"]), int(facts["measured"])
        except (ValueError, KeyError) as error:
            raise RetrieverError(f"{folder}: not an index of this program ({error}); ingest again") from None
        whole = Blocks.load(folder, VECTORS, rows, dimension)
        cells = read(folder / CELLS, faiss.IndexIVFScalarQuantizer, whole.held, dimension)
        return cls(whole, cells, probes, recall, measured)

    def save(self, folder: Path) -> None:
        self._whole.save(folder, VECTORS)
        write(self._cells, folder / CELLS)

    @property
    def size(self) -> int:
        return len(self._whole)

    @property
    def facts(self) -> Facts:
        return {
            "kind": self.kind, "cells": self._cells.nlist, "probes": self._probes, "recall": self._recall,
            "measured": self._measured,
        }  # fmt: skip

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        """Nearly exact: `facts` says how nearly. Fewer than `FEW` chosen rows are compared one by one, and so are all
        chosen rows where the cells looked into hold too few of them: they lie apart from the question."""
        if rows is None or len(rows) > FEW:
            most = min(k, self.size if rows is None else len(rows))
            products, slots = self._search(queries, most, rows, self._probes)
            if (slots >= 0).all():
                return products, self._row_of[slots]
        return among(queries, k, np.arange(self.size) if rows is None else np.asarray(rows, np.int64), self._whole)

    def _search(self, queries: Vectors, k: int, rows: Rows | None, probes: int) -> tuple[Vectors, Rows]:
        """As `search`, with slots for rows, -1 where no more were met."""
        import faiss

        bits = selector = None
        if rows is not None or not self._live.all():
            chosen = self._live
            if rows is not None:
                chosen = np.zeros(len(self._live), bool)
                chosen[self._whole.slots[rows]] = True
                # Of a part of the rows only that part of what is visited counts.
                probes = int(probes * self.size / len(rows))
            bits = bitmap(chosen)
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        asked = np.ascontiguousarray(queries, np.float32)
        settings = faiss.SearchParametersIVF(nprobe=min(probes, self._cells.nlist), sel=selector)  # type: ignore[call-arg]
        # In eight bits the last few of the nearest may swap places with the next.
        finalists = one_thread(self._cells).search(asked, k + k // 4 + 10, params=settings)[1]
        products = np.einsum("nd,nkd->nk", asked, self._whole.at(np.maximum(finalists, 0)))
        products[finalists < 0] = -np.inf
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(products, order, 1), np.take_along_axis(finalists, order, 1)

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        return self._whole[np.asarray(rows, dtype=np.int64)]

    def _tuned(self) -> IvfIndex:
        """With the fewest probes that find `RECALL` of the ten nearest of `SAMPLE` made-up questions."""
        random = np.random.default_rng(0)
        picked = self.vectors(random.integers(0, self.size, BETWEEN * SAMPLE)).reshape(BETWEEN, SAMPLE, -1).sum(axis=0)
        noise = random.normal(0, BLUR / np.sqrt(picked.shape[1]), picked.shape)
        asked = (picked + noise).astype(np.float32)
        k = min(10, self.size)
        # What is as near as the last of the nearest is one of them: of copies any will do.
        exact = _nearest(asked, self._whole, self._live, k)
        least = np.einsum("nd,nkd->nk", asked, self._whole.at(exact)).min(axis=1, keepdims=True) - SAME
        for probes in PROBES:
            products, slots = self._search(asked, k, None, probes)
            recall = float(((products >= least) & (slots >= 0)).mean())
            if recall >= RECALL:
                break
        return IvfIndex(self._whole, self._cells, probes, round(recall, 4), self._whole.held)


def _cells_for(rows: int) -> int:
    """Four times the square root: looking for the cell costs about what looking into it does."""
    return max(1, min(rows, int(4 * rows**0.5)))


def _nearest(asked: Vectors, stored: Blocks, live: NDArray[np.bool_], k: int) -> Rows:
    """The slots of the `k` nearest live vectors of each row of `asked`, every one compared."""
    best = np.empty((len(asked), 0), np.int64)
    products = np.empty((len(asked), 0), np.float32)
    # In blocks: at a million rows the whole table of products would be most of a gigabyte.
    seen = 0
    for block in stored:
        slots = np.arange(seen, seen + len(block))
        seen += len(block)
        products = np.hstack([products, np.where(live[slots], asked @ block.T, -np.inf)])
        best = np.hstack([best, np.broadcast_to(slots, (len(asked), len(slots)))])
        order = np.argpartition(-products, min(k, products.shape[1]) - 1, axis=1)[:, :k]
        products, best = np.take_along_axis(products, order, 1), np.take_along_axis(best, order, 1)
    return best
