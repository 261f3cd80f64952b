"""The FAISS index answers as NumPy does, and refuses what is not its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retriever.passages import RetrieverError, Vectors
from retriever.vector_index import ExactIndex


def _unit(rows: int, dimension: int = 32, seed: int = 0) -> Vectors:
    table = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def test_search_equals_sorting_the_inner_products() -> None:
    stored, queries = _unit(500), _unit(20, seed=1)
    cosines, rows = ExactIndex(stored).search(queries, 10)
    truth = queries @ stored.T
    expected = np.argsort(-truth, axis=1)[:, :10]
    assert (rows == expected).all()
    np.testing.assert_allclose(cosines, np.take_along_axis(truth, expected, 1), atol=1e-6)


def test_search_among_rows_equals_sorting_those_rows() -> None:
    stored, queries = _unit(300), _unit(5, seed=2)
    chosen = np.array([7, 3, 250, 99, 41])
    _, rows = ExactIndex(stored).search(queries, 3, chosen)
    truth = queries @ stored[chosen].T
    assert (rows == chosen[np.argsort(-truth, axis=1)[:, :3]]).all()


def test_asking_for_more_than_there_is_returns_what_there_is() -> None:
    index = ExactIndex(_unit(3))
    assert index.search(_unit(1, seed=3), 10)[1].shape == (1, 3)
    assert index.search(_unit(1, seed=3), 10, np.array([], dtype=np.int64))[1].shape == (1, 0)


def test_saved_then_loaded_index_gives_identical_neighbours(tmp_path: Path) -> None:
    stored, queries = _unit(200), _unit(10, seed=4)
    index = ExactIndex(stored)
    index.save(tmp_path / "vectors.faiss")
    loaded = ExactIndex.load(tmp_path / "vectors.faiss", rows=200, dimension=32)
    for before, after in zip(index.search(queries, 7), loaded.search(queries, 7), strict=True):
        assert (before == after).all()
    assert (loaded.vectors([5, 190]) == stored[[5, 190]]).all()


def test_an_index_of_another_shape_or_kind_is_refused(tmp_path: Path) -> None:
    import faiss

    ExactIndex(_unit(20)).save(tmp_path / "a")
    with pytest.raises(RetrieverError, match="20 x 32 instead of"):
        ExactIndex.load(tmp_path / "a", rows=21, dimension=32)
    faiss.write_index(faiss.IndexFlatL2(32), str(tmp_path / "l2"))
    with pytest.raises(RetrieverError, match="IndexFlatL2"):
        ExactIndex.load(tmp_path / "l2", rows=0, dimension=32)
    (tmp_path / "junk").write_bytes(b"not an index")
    with pytest.raises(RetrieverError, match="not a FAISS index"):
        ExactIndex.load(tmp_path / "junk", rows=1, dimension=32)


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RetrieverError, match="finite"):
        ExactIndex(np.full((2, 4), np.nan, np.float32))
