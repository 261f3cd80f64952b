"""Vector indexes measured: what a search costs at 10,000 to a million passages, and what it finds.

`python -m tests.bench.vectors` puts its table and its picture into docs/ (a million rows take a quarter of an hour to
build); with sizes it measures those and only prints. The vectors are mixtures of those of dstc9_faq, so that they lie
as the encoder's do; questions are other mixtures of the same, and the truth is a comparison with every row.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.encoders import FrozenEncoder, weights_folder
from retriever.exact_index import ExactIndex
from retriever.ivf_index import IvfIndex
from retriever.passages import Vectors
from retriever.split import embedded_text, split
from retriever.vector_index import EXACT, VectorIndex, index_of, load_index
from tests.bench.page import machine, put
from tests.bench.retriever import dstc9
from tests.conftest import ROOT

PICTURE = ROOT / "docs" / "search-cost.png"
SIZES = (10_000, 100_000, 1_000_000)
QUESTIONS = 500
DEPTH = 100
CLIENTS = 16


def mixtures(base: Vectors, count: int, seed: int) -> Vectors:
    random = np.random.default_rng(seed)
    first, second = random.integers(0, len(base), (2, count))
    noise = random.normal(0, 0.35 / np.sqrt(base.shape[1]), (count, base.shape[1]))
    mixed = (base[first] + 0.4 * base[second] + noise).astype(np.float32)
    unit: Vectors = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return unit


def questions_about(vectors: Vectors) -> Vectors:
    """A cosine of about .74 to the passage they are about, as questions have."""
    random = np.random.default_rng(1)
    picked = vectors[random.integers(0, len(vectors), QUESTIONS)]
    noise = random.normal(0, 0.9 / np.sqrt(picked.shape[1]), picked.shape)
    asked = (picked + noise).astype(np.float32)
    unit: Vectors = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    return unit


def percentiles(search: Callable[[Any], object], asked: Sequence[Any] | Vectors) -> tuple[float, float]:
    """p50 and p99 in milliseconds, one question at a time."""
    taken = []
    for one in asked:
        began = time.perf_counter()
        search(one)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken), float(np.quantile(taken, 0.99))


def queries_a_second(search: Callable[[Any], object], asked: Sequence[Any] | Vectors) -> float:
    """Of `CLIENTS` at once."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        began = time.perf_counter()
        list(clients.map(search, asked))
        return len(asked) / (time.perf_counter() - began)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    pairs = zip(found[:, :10].tolist(), truth.tolist(), strict=True)
    return float(np.mean([len(set(ours) & set(theirs)) / 10 for ours, theirs in pairs]))


def measured(base: Vectors, size: int) -> tuple[list[str], tuple[float, float]]:
    """Rows of the table for one size, and the p50 of the chosen index and of comparing every row."""
    vectors = mixtures(base, size, seed=0)
    asked = questions_about(vectors)
    exact = ExactIndex(vectors)
    truth = exact.search(asked, 10)[1]
    flat = percentiles(lambda one: exact.search(one, DEPTH), asked[:100, None])
    began = time.perf_counter()
    chosen = index_of(vectors)
    built = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        chosen.save(Path(folder))
        share = sum(file.stat().st_size for file in Path(folder).iterdir()) / vectors.nbytes
        began = time.perf_counter()
        chosen = load_index(Path(folder), chosen.facts, rows=size, dimension=vectors.shape[1])
        opened = 1000 * (time.perf_counter() - began)
        p50, p99 = percentiles(lambda one: chosen.search(one, DEPTH), asked[:, None])
        raw = raw_call(chosen, asked)
        qps = queries_a_second(lambda one: chosen.search(one, DEPTH), asked[:, None])
        order = np.array([*range(size, size + 5), *range(5, size)])
        began = time.perf_counter()
        index_of(mixtures(base, 5, seed=9), order, chosen)
        five = time.perf_counter() - began
    kind = "IVF" if size > EXACT else "exact"
    facts = chosen.facts
    row = (
        f"| {size:,} | {kind} | {p50:.2f} | {p99:.2f} | {p50 - raw:.2f} | {flat[0]:.2f} | {qps:,.0f} | "
        f"{recall(chosen.search(asked, DEPTH)[1], truth):.4f} | {facts['recall']} | {built:.1f} | {five:.1f} | "
        f"{opened:.0f} | {share:.2f} |"
    )
    print(row, flush=True)
    return [row], (p50, flat[0])


def raw_call(index: VectorIndex, asked: Vectors) -> float:
    """Median milliseconds of FAISS itself, called as the index calls it."""
    import faiss

    if isinstance(index, IvfIndex):
        settings = faiss.SearchParametersIVF(nprobe=int(index.facts["probes"]))  # type: ignore[call-arg]
        return percentiles(lambda one: index._cells.search(one, DEPTH, params=settings), asked[:, None])[0]
    assert isinstance(index, ExactIndex)
    return percentiles(lambda one: index._index.search(one, DEPTH), asked[:, None])[0]


def others(base: Vectors, size: int = 100_000) -> list[str]:
    """What else FAISS offers, at the least setting that finds .98 of the ten nearest."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = mixtures(base, size, seed=0)
    asked = questions_about(vectors)
    truth = ExactIndex(vectors).search(asked, 10)[1]
    lines = [
        f"| {size:,} rows, one thread | p50, ms | recall@10 | build, s | bytes a vector |",
        "|---|---|---|---|---|",
    ]
    for name, factory, refined in (
        ("HNSW 16, whole vectors", "HNSW16,Flat", 1),
        ("HNSW 32, whole vectors", "HNSW32,Flat", 1),
        ("IVF 1024, whole vectors", "IVF1024,Flat", 1),
        ("IVF 1024, eight bits (ours, with finalists compared exactly)", "IVF1024,SQ8", 1),
        ("IVF 1024, RaBitQ, finalists compared exactly", "IVF1024,RaBitQ", 8),
    ):
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        began = time.perf_counter()
        if "HNSW" in factory:
            index.hnsw.efConstruction = 100
        index.train(vectors[:50_000])
        index.add(vectors)
        built = time.perf_counter() - began
        for width in (8, 16, 32, 48, 64, 96, 128, 192, 256, 512):
            if "HNSW" in factory:
                index.hnsw.efSearch = width
            else:
                index.nprobe = width

            def search(one: Vectors, refined: int = refined, index: object = index) -> NDArray[np.int64]:
                rows: NDArray[np.int64] = index.search(one, 10 * refined)[1]  # type: ignore[attr-defined]
                if refined == 1:
                    return rows
                best = [np.argsort(-(vectors[r] @ q))[:10] for q, r in zip(one, rows, strict=True)]
                return np.stack([r[b] for r, b in zip(rows, best, strict=True)])

            reached = recall(search(asked), truth)
            if reached >= 0.98:
                break
        p50, _ = percentiles(search, asked[:, None])
        size_of = len(faiss.serialize_index(index)) / size
        lines.append(f"| {name}, {width} | {p50:.2f} | {reached:.4f} | {built:.1f} | {size_of:,.0f} |")
        print(lines[-1], flush=True)
    return lines


def draw(sizes: list[int], costs: list[tuple[float, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.loglog(sizes, [ours for ours, _ in costs], marker="o", label="the chosen index")
    axes.loglog(sizes, [flat for _, flat in costs], marker="o", linestyle="--", label="comparing every passage")
    axes.set_xlabel("passages")
    axes.set_ylabel("milliseconds a search (median)")
    axes.set_title("What a search of the vectors costs, one core")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    documents, _ = dstc9()
    texts = [embedded_text(passage) for document in documents for passage in split(document)]
    base = FrozenEncoder(weights_folder()).encode(texts)
    sizes = [int(size) for size in sys.argv[1:]] or list(SIZES)
    columns = (
        *("passages", "index", "p50, ms", "p99, ms", "over the raw call", "every row compared, p50"),
        *(f"questions a second, {CLIENTS} clients", "recall@10", "as the manifest says", "build, s", "five changed, s"),
        *("open, ms", "of the vectors' bytes"),
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    costs = []
    for size in sizes:
        rows, cost = measured(base, size)
        lines += rows
        costs.append(cost)
    lines += ["", *others(base)]
    text = "\n".join([*lines, "", f"The {DEPTH} nearest, float32, one thread; {machine()}."])
    print(text)
    if not sys.argv[1:]:
        draw(sizes, costs)
        text += "\n\n![What a search costs](search-cost.png)"
        put("vectors", text)


if __name__ == "__main__":
    main()
