"""Every vector index answers as NumPy does, keeps what it was given, and refuses what is not its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retriever import exact_index, ivf_index, vector_index
from retriever.exact_index import ExactIndex, Rows
from retriever.gpu_index import GpuIndex, on_gpu
from retriever.ivf_index import IvfIndex
from retriever.passages import RetrieverError, Vectors
from retriever.vector_index import VectorIndex, index_of, load_index


def _unit(rows: int, dimension: int = 32, seed: int = 0) -> Vectors:
    table = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def _grown(vectors: Vectors) -> VectorIndex:
    """Cells that once held other rows: some are gone, the rest stand elsewhere, and the new ones were added."""
    gone, kept = len(vectors) // 10, len(vectors) * 4 // 5
    older = np.vstack([_unit(gone, vectors.shape[1], seed=99), vectors[:kept]])
    return IvfIndex.grown(vectors[kept:], np.arange(gone, gone + len(vectors)), IvfIndex.built(older))


KINDS = {"exact": ExactIndex, "ivf": IvfIndex.built, "grown ivf": _grown}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def make(request: pytest.FixtureRequest) -> Callable[[Vectors], VectorIndex]:
    return request.param  # type: ignore[no-any-return]


def test_search_equals_sorting_the_inner_products(make: Callable[[Vectors], VectorIndex]) -> None:
    stored, queries = _unit(600), _unit(40, seed=1)
    products, rows = make(stored).search(queries, 10)
    truth = queries @ stored.T
    expected = np.argsort(-truth, axis=1)[:, :10]
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), expected.tolist(), strict=True)])
    assert found == 1 if make is ExactIndex else found >= 0.97
    np.testing.assert_allclose(products, np.take_along_axis(truth, rows, 1), atol=1e-5)
    assert (np.diff(products) <= 1e-6).all(), "best first"


@pytest.mark.parametrize("few", [10, 10_000])
def test_search_among_rows_finds_only_those(
    make: Callable[[Vectors], VectorIndex], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf_index, "FEW", few)
    monkeypatch.setattr(exact_index, "GATHERED", few)
    stored, queries = _unit(600), _unit(20, seed=2)
    chosen = np.random.default_rng(3).choice(600, 60, replace=False)
    _, rows = make(stored).search(queries, 3, chosen)
    expected = chosen[np.argsort(-(queries @ stored[chosen].T), axis=1)[:, :3]]
    assert set(rows.ravel().tolist()) <= set(chosen.tolist())
    assert np.mean(rows == expected) >= (1 if make is ExactIndex or few > 60 else 0.9)


def test_rows_that_lie_apart_from_the_question_are_found_and_no_others(
    make: Callable[[Vectors], VectorIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a customer's words are those of passages for staff: the cells looked into hold none that count."""
    monkeypatch.setattr(ivf_index, "FEW", 10)
    monkeypatch.setattr(exact_index, "GATHERED", 10)
    stored = _unit(2_000)
    stored[:, 0] += np.where(np.arange(2_000) < 1_000, 30, -30)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    queries, chosen = stored[:20], np.arange(1_000, 2_000)
    products, rows = make(stored).search(queries, 5, chosen)
    truth = np.sort(queries @ stored[chosen].T, axis=1)[:, ::-1][:, :5]
    assert set(rows.ravel().tolist()) <= set(chosen.tolist())
    np.testing.assert_allclose(products, truth, atol=1e-4)


def test_copies_do_not_make_an_index_look_worse_than_it_is() -> None:
    index = IvfIndex.built(np.repeat(_unit(200), 20, axis=0))
    assert index.facts["recall"] >= ivf_index.RECALL and index.facts["probes"] <= 128  # type: ignore[operator]


@pytest.mark.slow
def test_what_lies_in_tight_crowds_is_found_as_well() -> None:
    """As the articles of one product do. A graph (HNSW, breadth 128) finds .82 here: few of its ways leave a crowd."""
    random = np.random.default_rng(0)
    crowds = _unit(60, 64)
    stored = crowds[random.integers(0, 60, 12_000)] + random.normal(0, 0.03, (12_000, 64))
    stored = (stored / np.linalg.norm(stored, axis=1, keepdims=True)).astype(np.float32)
    asked = crowds[random.integers(0, 60, 200)] + 0.7 * crowds[random.integers(0, 60, 200)]
    asked = (asked + random.normal(0, 0.05, asked.shape)).astype(np.float32)
    index = IvfIndex.built(stored)
    products, _ = index.search(asked, 10)
    tenth = np.sort(asked @ stored.T, axis=1)[:, ::-1][:, 9:10]
    assert np.mean(products >= tenth - 1e-5) >= ivf_index.RECALL
    assert float(index.facts["recall"]) >= ivf_index.RECALL


def test_asking_for_more_than_there_is_returns_what_there_is(make: Callable[[Vectors], VectorIndex]) -> None:
    index = make(_unit(10))
    assert sorted(index.search(_unit(1, seed=3), 99)[1][0].tolist()) == list(range(10))
    assert index.search(_unit(1, seed=3), 99, np.array([4, 2]))[1].shape == (1, 2)
    assert index.search(_unit(1, seed=3), 99, np.array([], dtype=np.int64))[1].shape == (1, 0)


def test_saved_then_loaded_index_gives_identical_neighbours(
    make: Callable[[Vectors], VectorIndex], tmp_path: Path
) -> None:
    stored, queries = _unit(300), _unit(10, seed=4)
    index = make(stored)
    index.save(tmp_path)
    loaded = load_index(tmp_path, index.facts, rows=300, dimension=32)
    for before, after in zip(index.search(queries, 7), loaded.search(queries, 7), strict=True):
        assert (before == after).all()
    assert (loaded.vectors([5, 190]) == stored[[5, 190]]).all()
    assert loaded.size == 300 and loaded.facts == index.facts


def test_an_index_of_another_shape_or_kind_is_refused(make: Callable[[Vectors], VectorIndex], tmp_path: Path) -> None:
    import faiss

    index = make(_unit(20))
    index.save(tmp_path)
    with pytest.raises(RetrieverError, match=r"20 x 32 instead of|does not hold 21 x 32"):
        load_index(tmp_path, index.facts, rows=21, dimension=32)
    file = next(tmp_path.glob("*.faiss"))
    faiss.write_index(faiss.IndexFlatL2(32), str(file))
    with pytest.raises(RetrieverError, match="IndexFlatL2"):
        load_index(tmp_path, index.facts, rows=20, dimension=32)
    file.write_bytes(b"not an index")
    with pytest.raises(RetrieverError, match="not a FAISS index"):
        load_index(tmp_path, index.facts, rows=20, dimension=32)


def test_vectors_that_are_not_finite_are_refused(make: Callable[[Vectors], VectorIndex]) -> None:
    with pytest.raises(RetrieverError, match="finite"):
        make(np.full((20, 4), np.nan, np.float32))


def test_an_index_says_the_recall_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: one that may look into few cells admits it."""
    stored, queries = _unit(3000), _unit(200, seed=5)
    truth = np.argsort(-(queries @ stored.T), axis=1)[:, :10]

    def recall(index: IvfIndex) -> float:
        found = index.search(queries, 10)[1]
        return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))

    good = IvfIndex.built(stored)
    assert float(good.facts["recall"]) >= ivf_index.RECALL
    assert recall(good) >= ivf_index.RECALL - 0.05, "strangers are harder than its own rows, but not by much"
    monkeypatch.setattr(ivf_index, "PROBES", (4,))
    poor = IvfIndex.built(stored)
    assert float(poor.facts["recall"]) < ivf_index.RECALL
    assert recall(poor) < recall(good)


def test_cells_grow_by_what_is_new_and_is_built_anew_when_too_much_is_gone() -> None:
    stored = _unit(500)
    first = IvfIndex.built(stored)
    changed = _unit(1, seed=8)
    order = np.array([*range(7), 500, *range(8, 500), 501, 502])
    grown = IvfIndex.grown(np.vstack([changed, _unit(2, seed=9)]), order, first)
    assert (grown.size, grown._whole.held) == (502, 503), "one slot is dead, three are new"
    assert not (grown.search(stored[7:8], 5)[0] > 0.999).any(), "what is gone is not found"
    assert grown.search(changed, 1)[1][0, 0] == 7
    assert (first.search(stored[7:8], 1)[1] == 7).all(), "the version before it serves on, untouched"
    smaller = IvfIndex.grown(stored[:0], np.arange(350), first)
    assert smaller._whole.held == 350, "a third was dead weight"


def test_loaded_cells_grow_too(tmp_path: Path) -> None:
    stored = _unit(200)
    built = IvfIndex.built(stored)
    built.save(tmp_path)
    content = (tmp_path / "vectors.00.npy").read_bytes()
    loaded = load_index(tmp_path, built.facts, rows=200, dimension=32)
    assert isinstance(loaded, IvfIndex)
    grown = IvfIndex.grown(_unit(1, seed=6), np.arange(201), loaded)
    assert grown.search(_unit(1, seed=6), 1)[1][0, 0] == 200
    assert (tmp_path / "vectors.00.npy").read_bytes() == content, "the file of a version never changes"


def test_an_index_is_measured_again_when_it_has_grown() -> None:
    """Few at a time: their sum counts."""
    stored = _unit(1000)
    index = IvfIndex.built(stored)
    for extra in range(1, 13):
        index = IvfIndex.grown(_unit(extra, seed=7)[-1:], np.arange(1000 + extra), index)
        assert index.facts["measured"] == (1000 if extra <= 10 else 1011)


def test_equal_texts_keep_a_slot_each() -> None:
    twice = np.vstack([_unit(50), _unit(50)])
    grown = IvfIndex.grown(twice[:1], np.arange(101), IvfIndex.built(twice))
    assert grown._whole.held == grown.size == 101
    assert set(grown.search(twice[:1], 3)[1][0].tolist()) == {0, 50, 100}


def test_few_rows_are_searched_exactly_and_many_by_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_index, "EXACT", 100)
    assert isinstance(index_of(_unit(100)), ExactIndex)
    many = index_of(_unit(101))
    assert isinstance(many, IvfIndex)
    fewer = index_of(_unit(1, seed=1), np.array([101, *range(98)]), many)
    assert isinstance(fewer, ExactIndex) and fewer.size == 99
    np.testing.assert_array_equal(fewer.vectors(range(99)), np.vstack([_unit(1, seed=1), _unit(101)[:98]]))
    assert isinstance(index_of(_unit(2, seed=1), np.arange(101), fewer), IvfIndex)


def test_without_a_card_the_index_stays_where_it_is() -> None:
    import faiss

    if faiss.get_num_gpus():
        pytest.skip("this machine has a graphics card")
    index = ExactIndex(_unit(5))
    assert on_gpu(index) is index


class Card:
    """A copy of the rows on a card whose memory others use too: when it is full, FAISS raises."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors, self.full, self.asked = vectors, False, 0

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
        self.asked += 1
        if self.full:
            raise RuntimeError(
                "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) at "
                "StandardGpuResources.cpp:530: Error: 'err == cudaSuccess' failed: StandardGpuResources: alloc fail "
                "type TemporaryMemoryOverflow dev 0 space Device stream 0x1 size 6442450944 bytes (cudaMalloc error "
                "out of memory [2])\nfrom the card"
            )
        products = queries @ self.vectors.T
        rows = np.argsort(-products, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(products, rows, axis=1), rows


def test_a_search_that_does_not_fit_the_card_is_answered_by_the_processor_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored, queries = _unit(500), _unit(20, seed=1)
    exact, card = ExactIndex(stored), Card(stored)
    moved = GpuIndex(exact, card)
    for full in (False, True, True, False):
        card.full = full
        ours, theirs = moved.search(queries, 5), exact.search(queries, 5)
        np.testing.assert_array_equal(ours[1], theirs[1])
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)
    assert card.asked == 4, "it is asked again: the memory may have been another's for a moment"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    said = caplog.records[0].getMessage()
    assert "the processor" in said and "out of memory" in said and "\n" not in said
    assert (moved.search(queries, 5, np.arange(40))[1] < 40).all() and card.asked == 4


def test_a_search_that_is_wrong_is_not_taken_for_a_full_card() -> None:
    moved = GpuIndex(ExactIndex(_unit(50)), Card(_unit(50)))
    with pytest.raises(ValueError, match="matmul"):
        moved.search(_unit(1, dimension=7), 5)


@pytest.mark.gpu
def test_a_card_finds_what_the_processor_finds() -> None:
    import faiss

    if not faiss.get_num_gpus():
        pytest.skip("needs faiss-gpu and a graphics card")
    stored, queries = _unit(50_000, 384), _unit(100, 384, seed=1)
    exact = ExactIndex(stored)
    moved = on_gpu(exact)
    assert moved is not exact
    for k in (1, 10, 100):
        ours, theirs = moved.search(queries, k)[1], exact.search(queries, k)[1]
        shared = [len(set(a) & set(b)) / k for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
        assert np.mean(shared) > 0.99
    assert (moved.search(queries, 5, np.arange(40))[1] < 40).all()
