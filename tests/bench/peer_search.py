"""Measures the searches of haystack and txtai on dstc9_faq, in an environment of their own: their pins are not ours.

`python -m tests.bench.peer_search` makes `.venv-search`, hands both the same rows, questions and encoder, and puts
R@1 / MRR@5 / R@5 and the median milliseconds of a question, one thread, into docs/benchmarks.md. Both are asked with
the last message, and with the last lines in front of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get("FRONTDESK_PEERS", Path(__file__).parents[2] / ".venv-search"))
PINS = ("torch==2.13.0", "haystack-ai==3.4.1", "txtai==9.14.0", "sentence-transformers==6.2.0")
LINES = 4
Search = Callable[[str], Iterable[str]]


def environment() -> Path:
    """The Python of the peers' environment, made when it is not there."""
    python = HOME / "bin" / "python"
    if not (HOME / ".installed").exists():
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
        (HOME / ".installed").touch()
    return python


def haystack_searches(rows: Sequence[tuple[str, str]], base: str) -> dict[str, Search]:
    """Runs in the peers' environment: in-memory store; dense, BM25, and both joined by reciprocal rank."""
    from haystack import Document, Pipeline  # type: ignore[import-not-found]
    from haystack.components.joiners import DocumentJoiner  # type: ignore[import-not-found]
    from haystack.components.retrievers.in_memory import (  # type: ignore[import-not-found]
        InMemoryBM25Retriever,
        InMemoryEmbeddingRetriever,
    )
    from haystack.document_stores.in_memory import InMemoryDocumentStore  # type: ignore[import-not-found]
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(base, device="cpu")
    store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
    vectors = encoder.encode([text for _, text in rows], batch_size=64, normalize_embeddings=True)
    store.write_documents(
        [Document(id=name, content=text, embedding=v.tolist()) for (name, text), v in zip(rows, vectors, strict=True)]
    )
    joined = Pipeline()
    joined.add_component("meaning", InMemoryEmbeddingRetriever(store, top_k=20))
    joined.add_component("words", InMemoryBM25Retriever(store, top_k=20))
    joined.add_component("join", DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=5))
    joined.connect("meaning", "join")
    joined.connect("words", "join")

    def vector(text: str) -> list[float]:
        found: list[float] = encoder.encode(text, normalize_embeddings=True).tolist()
        return found

    def words(text: str) -> Iterable[str]:
        return [d.id for d in InMemoryBM25Retriever(store, top_k=5).run(text)["documents"]]

    def meaning(text: str) -> Iterable[str]:
        return [d.id for d in InMemoryEmbeddingRetriever(store, top_k=5).run(vector(text))["documents"]]

    def hybrid(text: str) -> Iterable[str]:
        asked: dict[str, Any] = {"meaning": {"query_embedding": vector(text)}, "words": {"query": text}}
        return [d.id for d in joined.run(asked)["join"]["documents"]]

    return {"haystack BM25": words, "haystack dense": meaning, "haystack hybrid": hybrid}


def txtai_searches(rows: Sequence[tuple[str, str]], base: str) -> dict[str, Search]:
    """Runs in the peers' environment: its hybrid index with its own weights."""
    from txtai import Embeddings  # type: ignore[import-not-found]

    searches: dict[str, Search] = {}
    for name, hybrid in (("txtai dense", False), ("txtai hybrid", True)):
        index = Embeddings(path=base, hybrid=hybrid, content=False, gpu=False)
        index.index([(number, text, None) for number, (_, text) in enumerate(rows)])
        searches[name] = lambda text, index=index: [rows[int(n)][0] for n, _ in index.search(text, 5)]
    return searches


def measure_inside(folder: Path, base: str) -> None:
    """Runs in the peers' environment."""
    import torch

    torch.set_num_threads(1)
    rows = [(row["id"], row["text"]) for row in map(json.loads, (folder / "rows.jsonl").open())]
    asked = [json.loads(line) for line in (folder / "questions.jsonl").open()]
    for name, search in {**haystack_searches(rows, base), **txtai_searches(rows, base)}.items():
        for form in ("last", "lines"):
            ranks, taken = [], []
            for question in asked:
                began = time.perf_counter()
                found = list(search(question[form]))
                taken.append(1000 * (time.perf_counter() - began))
                ranks.append(next((n for n, one in enumerate(found, 1) if one in question["relevant"]), None))
            print(
                json.dumps({"name": name, "form": form, "ranks": ranks, "p50_ms": statistics.median(taken)}), flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", nargs=2, metavar=("FOLDER", "BASE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        measure_inside(Path(chosen.inside[0]), chosen.inside[1])
        return
    from retriever.encoders import weights_folder
    from tests.bench.page import machine, put
    from tests.bench.retriever import dstc9, figures

    python = environment()
    documents, questions = dstc9()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = ({"id": d.source.partition("#")[2], "text": f"{d.question}\n{d.text}"} for d in documents)
        (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
        with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
            for question in questions:
                before = [line.text for line in question.query.history[-LINES:]]
                row = {
                    "last": question.query.text, "lines": " ".join([*before, question.query.text]),
                    "relevant": sorted(question.relevant),
                }  # fmt: skip
                file.write(f"{json.dumps(row)}\n")
        command = [python, __file__, "--inside", name, str(weights_folder())]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    columns = (
        "peer, dstc9_faq, R@1 / MRR@5 / R@5",
        "last message alone",
        "p50, ms",
        "with four lines before",
        "p50, ms",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|"]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for last, longer in zip(found[::2], found[1::2], strict=True):
        cells = (f"{figures(each['ranks'])} | {each['p50_ms']:.1f}" for each in (last, longer))
        lines.append(f"| {last['name']} | {' | '.join(cells)} |")
    print("\n".join(lines))
    put("peers", "\n".join([*lines, "", f"One thread; {machine()}."]))


if __name__ == "__main__":
    main()
