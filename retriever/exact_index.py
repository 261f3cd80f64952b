"""Nearest passages by meaning, every one compared: FAISS's flat index.

Owns the exact answer, and reading and writing FAISS's files. Knows nothing about passages or encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retriever.blocks import Blocks
from retriever.passages import RetrieverError, Vectors

Rows = NDArray[np.int64]
Facts = Mapping[str, str | int | float]
"""What a manifest says of an index: its kind, and how it was set to reach which recall."""

FILE: Final = "vectors.faiss"
GATHERED: Final = 2_000
"""Up to this many chosen rows are copied together; beyond, FAISS passes over the others."""


class ExactIndex:
    """Inner product over every row (`IndexFlatIP`): no error to tune."""

    kind: Final = "exact"

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        checked = finite(vectors)
        self._index: Any = faiss.IndexFlatIP(checked.shape[1])
        self._index.add(checked)
        self.stored = view(self._index)
        """The vectors in the index's own memory, `[n, d]`: no second copy of them."""

    @classmethod
    def load(cls, folder: Path, *, rows: int, dimension: int) -> ExactIndex:
        import faiss

        loaded = cls.__new__(cls)
        loaded._index = read(folder / FILE, faiss.IndexFlatIP, rows, dimension)
        loaded.stored = view(loaded._index)
        return loaded

    def save(self, folder: Path) -> None:
        write(self._index, folder / FILE)

    @property
    def size(self) -> int:
        return int(self._index.ntotal)

    @property
    def facts(self) -> Facts:
        return {"kind": self.kind, "recall": 1.0}

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Vectors, Rows]:
        """Exact: the answer equals sorting `queries @ vectors.T`. Ties come in no promised order."""
        if rows is not None and len(rows) <= GATHERED:
            return among(queries, k, np.asarray(rows, np.int64), self.stored)
        if rows is not None:
            import faiss

            chosen = np.zeros(self.size, bool)
            chosen[rows] = True
            bits = bitmap(chosen)
            settings = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg, arg-type]
            asked = np.ascontiguousarray(queries, np.float32)
            return one_thread(self._index).search(asked, min(k, len(rows)), params=settings)  # type: ignore[no-any-return]
        return one_thread(self._index).search(np.ascontiguousarray(queries, np.float32), min(k, self.size))  # type: ignore[no-any-return]

    def vectors(self, rows: Sequence[int] | Rows) -> Vectors:
        found: Vectors = self.stored[np.asarray(rows, dtype=np.int64)]
        return found


def among(queries: Vectors, k: int, rows: Rows, stored: Vectors | Blocks) -> tuple[Vectors, Rows]:
    """The best `k` of `rows`, every one compared; `stored[row]` is the vector of a row."""
    cosines = np.asarray(queries, np.float32) @ stored[rows].T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, order, axis=1), rows[order]


def bitmap(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One bit a row, as FAISS wants it. FAISS keeps no copy: hold it while the search runs."""
    return np.packbits(chosen, bitorder="little")


def finite(vectors: Vectors) -> Vectors:
    checked = np.ascontiguousarray(vectors, dtype=np.float32)
    if checked.ndim != 2 or not np.isfinite(checked).all():
        raise RetrieverError("vectors must be a finite table, one row a passage; check the encoder")
    return checked


def one_thread(index: Any) -> Any:
    """FAISS brings its own OpenMP; beside torch's the two would spin against each other on busy cores."""
    import faiss

    faiss.omp_set_num_threads(1)
    return index


def read(path: Path, kind: type, rows: int, dimension: int) -> Any:
    """The FAISS index in `path`, mapped rather than copied into memory; it must be of that kind and shape."""
    import faiss

    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError:
        raise RetrieverError(f"{path}: not a FAISS index; ingest again or roll back") from None
    if type(index) is not kind or index.ntotal != rows or index.d != dimension:
        raise RetrieverError(
            f"{path}: holds {type(index).__name__} {index.ntotal} x {index.d} instead of {kind.__name__} "
            f"{rows} x {dimension}; ingest again or roll back"
        )
    return index


def write(index: Any, path: Path) -> None:
    import faiss

    # Python writes the bytes: FAISS turns a full disk into a RuntimeError without errno.
    path.write_bytes(faiss.serialize_index(index).tobytes())


def view(flat: Any) -> Vectors:
    """A flat index's own memory as an array: no second copy of the vectors."""
    import faiss

    values = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    seen: Vectors = values.reshape(flat.ntotal, flat.d)
    return seen
