"""Nearest passages by meaning: what search needs of vectors, and which structure gives it.

Owns the protocol and the choice. Knows nothing about passages or encoders: a row is a number, and whoever loads files
has checked their SHA-256 first (FAISS loads one damaged file in eight without an error and answers wrongly).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from retriever.exact_index import ExactIndex, Facts, Rows
from retriever.ivf_index import IvfIndex
from retriever.lines import Order, in_order
from retriever.passages import RetrieverError, Vectors

EXACT: Final = 20_000
"""Up to this many rows every one is compared: a millisecond or two, beside an encoder's ten."""


class VectorIndex(Protocol):
    """What search needs of vectors. A distributed store is another class with these methods: the conformance tests in
    tests/retriever/test_vector_index.py say the rest."""

    @property
    def size(self) -> int: ...

    @property
    def facts(self) -> Facts: ...

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        """`(inner products, rows)`, each `[n, min(k, found)]`, best first; only among `rows` when given."""

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        """The stored vectors of `rows`, float32 `[len(rows), d]`."""

    def save(self, folder: Path) -> None:
        """Write the index's files into `folder`; OSError when the disk refuses."""


def index_of(added: Vectors, order: Order | None = None, before: VectorIndex | None = None) -> VectorIndex:
    """An index of `added` `[n, d]`, behind the rows of the index `before`, all of them in `order`: exact while that is
    fast, else by cells, which grow out of those before.

    Raises RetrieverError when `added` are not a finite table.
    """
    if before is not None and order is not None:
        if isinstance(before, IvfIndex) and len(order) > EXACT:
            return IvfIndex.grown(added, order, before)
        added = in_order(before.vectors, before.size, added, order)
    return ExactIndex(added) if len(added) <= EXACT else IvfIndex.built(added)


def load_index(folder: Path, facts: Facts, *, rows: int, dimension: int) -> VectorIndex:
    """The index that was saved in `folder`, which must hold `rows` x `dimension`. Check the files' SHA-256 before.

    Raises RetrieverError when it does not.
    """
    kind = facts.get("kind", ExactIndex.kind)
    if kind == ExactIndex.kind:
        return ExactIndex.load(folder, rows=rows, dimension=dimension)
    if kind != IvfIndex.kind:
        raise RetrieverError(f"{folder}: an index of kind {kind!r}, which this program does not read; ingest again")
    return IvfIndex.load(folder, facts, rows=rows, dimension=dimension)
