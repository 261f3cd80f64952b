"""Nearest passages by meaning: FAISS over unit vectors, exact.

Owns the FAISS index and its file. Knows nothing about passages or encoders: a row is a number, and whoever loads a
file has checked its SHA-256 first (FAISS loads one damaged file in eight without an error and answers wrongly).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.passages import RetrieverError, Vectors

Rows = NDArray[np.int64]


class VectorIndex(Protocol):
    """What search needs of vectors. Another structure (HNSW, IVF, a GPU) is another class with these methods."""

    @property
    def size(self) -> int: ...

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        """`(cosines, rows)`, each `[n, min(k, found)]`, best first; only among `rows` when given."""

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        """The stored vectors of `rows`, float32 `[len(rows), d]`."""


class ExactIndex:
    """Inner product over every row (`IndexFlatIP`): no error to tune, 0.5 ms at 10,000 rows, 10 ms at 100,000."""

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        checked = np.ascontiguousarray(vectors, dtype=np.float32)
        if checked.ndim != 2 or not np.isfinite(checked).all():
            raise RetrieverError("vectors must be a finite table, one row a passage; check the encoder")
        self._index: Any = faiss.IndexFlatIP(checked.shape[1])
        self._index.add(checked)
        self._stored = _view(self._index)

    @classmethod
    def load(cls, path: Path, *, rows: int, dimension: int) -> ExactIndex:
        """The index in `path`, which must hold exactly `rows` x `dimension`. Check the file's SHA-256 before."""
        import faiss

        try:
            index = faiss.read_index(str(path))
        except RuntimeError:
            raise RetrieverError(f"{path}: not a FAISS index; ingest again or roll back") from None
        if type(index) is not faiss.IndexFlatIP or index.ntotal != rows or index.d != dimension:
            raise RetrieverError(
                f"{path}: holds {type(index).__name__} {index.ntotal} x {index.d} instead of IndexFlatIP "
                f"{rows} x {dimension}; ingest again or roll back"
            )
        loaded = cls.__new__(cls)
        loaded._index = index
        loaded._stored = _view(index)
        return loaded

    def save(self, path: Path) -> None:
        """Write the index; OSError when the disk refuses."""
        import faiss

        # Python writes the bytes: FAISS turns a full disk into a RuntimeError without errno.
        path.write_bytes(faiss.serialize_index(self._index).tobytes())

    @property
    def size(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        """Exact: the answer equals sorting `queries @ vectors.T`. Ties come in no promised order."""
        k = min(k, self.size if rows is None else len(rows))
        if k <= 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        contiguous = np.ascontiguousarray(queries, dtype=np.float32)
        if rows is None:
            import faiss

            # FAISS brings its own OpenMP; beside torch's the two would spin against each other on busy cores.
            faiss.omp_set_num_threads(1)
            return self._index.search(contiguous, k)  # type: ignore[no-any-return]
        chosen = np.asarray(rows, dtype=np.int64)
        cosines = contiguous @ self._stored[chosen].T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(cosines, order, axis=1), chosen[order]

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        found: Vectors = self._stored[np.asarray(rows, dtype=np.int64)]
        return found


def _view(index: Any) -> Vectors:
    """The index's own memory as an array: no second copy of the vectors."""
    import faiss

    flat = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    view: Vectors = flat.reshape(index.ntotal, index.d)
    return view
