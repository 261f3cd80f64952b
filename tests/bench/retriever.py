"""Retrieval measured: what each signal is worth on dstc9_faq, and what the encoder, an ingest and a query cost.

`python -m tests.bench.retriever` puts its tables into docs/benchmarks.md between the marks of this suite. The weights
were chosen on the even questions; odd ones were only read.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bot.golden import read_golden
from retriever import search as ranking
from retriever.encoders import FrozenEncoder, weights_folder
from retriever.evaluate import Question, evaluate_documents, read_questions
from retriever.knowledge_base import KnowledgeBase
from retriever.passages import Document, Line, Query, Vectors
from retriever.readers import FileRead, read_path
from retriever.readers.child import Child
from retriever.search import Weights
from tests.bench.page import machine, put
from tests.conftest import ROOT, SHARED

NOTHING = Weights(last=0, window=0, words=0, strength=0, context=0, codes=0, entity=0, title=0, domain=0)
FULL = ranking.CATALOGUE
STEPS = (
    ("keywords alone (BM25)", replace(NOTHING, strength=1.0)),
    ("meaning of the last message", replace(NOTHING, last=FULL.last)),
    ("+ window", replace(NOTHING, last=FULL.last, window=FULL.window)),
    ("+ words and codes", replace(FULL, entity=0, title=0, domain=0)),
    ("+ naive BM25 instead of words", replace(FULL, words=0, strength=1.0, entity=0, title=0, domain=0)),
    ("+ subject (all)", FULL),
)


class Remembering:
    """An encoder that computes each text once, so that the ablation costs one pass."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self._encoder, self.name, self.dimension = encoder, encoder.name, encoder.dimension
        self._passages: dict[tuple[str, ...], Vectors] = {}
        self._queries: dict[Query, tuple[Vectors, Vectors]] = {}

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        key = tuple(texts)
        if key not in self._passages:
            self._passages[key] = self._encoder.encode(texts, progress)
        return self._passages[key]

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, Vectors]:
        (query,) = queries
        if query not in self._queries:
            self._queries[query] = self._encoder.encode_queries([query])
        return self._queries[query]

    def knows(self, word: str) -> bool:
        return self._encoder.knows(word)


def figures(ranks: Sequence[int | None]) -> str:
    """R@1 / MRR@5 / R@5."""
    n = len(ranks)
    parts = (sum(r == 1 for r in ranks), sum(1 / r for r in ranks if r), sum(r is not None for r in ranks))
    return " / ".join(f"{part / n:.3f}" for part in parts)


def ablation(encoder: FrozenEncoder) -> list[str]:
    documents, questions = dstc9()
    remembering = Remembering(encoder)
    lines = ["| dstc9_faq, untrained, R@1 / MRR@5 / R@5 | even (choosing) | odd | all 176 |", "|---|---|---|---|"]
    for name, weights in STEPS:
        ranking.CATALOGUE = weights  # type: ignore[misc]
        r = evaluate_documents(documents, questions, remembering).ranks
        lines.append(f"| {name} | {figures(r[::2])} | {figures(r[1::2])} | {figures(r)} |")
        print(lines[-1], flush=True)
    ranking.CATALOGUE = FULL  # type: ignore[misc]
    return lines


def dstc9() -> tuple[list[Document], list[Question]]:
    folder = SHARED / "dstc9_faq"
    documents: list[Document] = []
    with Child() as child:
        for found in read_path(folder / "knowledge.jsonl", folder, {}, child):
            assert isinstance(found, FileRead)
            documents += found.documents
    return documents, read_questions(folder / "queries.jsonl", documents)[0]


def company(encoder: FrozenEncoder) -> list[str]:
    """The sample company's evaluation set: the right article first, and what no article answers told apart.

    Left out are rows that the playbook answers without any article.
    """
    folder = ROOT / "data" / "knowledge"
    with Child() as child:
        found = [one for one in read_path(folder, folder, {}, child) if isinstance(one, FileRead)]
    documents = [document for one in found for document in one.documents]
    questions = [
        Question(Query(row.text, tuple(Line(*line) for line in row.history)), frozenset(row.articles))  # type: ignore[arg-type]
        for row in read_golden(ROOT / "data" / "evaluation.jsonl")
        if row.articles or not row.answerable
    ]
    dense = replace(NOTHING, last=FULL.last, domain=1e-9)  # the fit of the subject is a share of something
    lines = ["| sample company, untrained | right article first | among five | unanswerable told apart, 5 % lost |"]
    lines.append("|---|---|---|---|")
    kept = ranking.ARTICLES
    for name, weights in (("meaning of the last message", dense), ("all", kept)):
        ranking.ARTICLES = weights  # type: ignore[misc]
        report = evaluate_documents(documents, questions, encoder)
        told = report.unanswerable_rejected_at_5
        cells = [f"{report.overall.recall_at_1:.3f}", f"{report.overall.recall_at_5:.3f}", f"{told or 0:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ranking.ARTICLES = kept  # type: ignore[misc]
    return lines


def p50(work: Callable[[], object], times: int = 60) -> float:
    """Median milliseconds of `times` runs after three to warm up."""
    taken = []
    for run in range(times + 3):
        began = time.perf_counter()
        work()
        if run >= 3:
            taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def speed() -> list[str]:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(weights_folder()), device="cpu")
    documents, _ = dstc9()
    short = Query("How long does a refund take?")
    talk = Query("and to Norway?", (Line("customer", "Do you ship abroad?"), Line("bot", "Yes, to many countries.")))
    texts = [f"{document.question}\n{document.text}" for document in documents[:600]]
    lines = ["| what | 1 thread | 2 threads |", "|---|---|---|"]
    rows: dict[str, list[str]] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        encoder = FrozenEncoder(weights_folder(), threads=threads)
        times = {
            "one short message, ms": p50(lambda e=encoder: e.encode_queries([short])),
            "one message with its window, ms": p50(lambda e=encoder: e.encode_queries([talk])),
            "one short message, sentence-transformers, ms": p50(lambda: peer.encode([short.text])),
        }
        for name, milliseconds in times.items():
            rows.setdefault(name, []).append(f"{milliseconds:.1f}")
        for name, work in (
            ("question-and-answer pairs encoded a second", lambda e=encoder: e.encode(texts)),
            ("the same, sentence-transformers", lambda: peer.encode(texts, batch_size=64)),
        ):
            began = time.perf_counter()
            work()
            rows.setdefault(name, []).append(f"{len(texts) / (time.perf_counter() - began):.0f}")
        with tempfile.TemporaryDirectory(dir=ROOT) as folder:
            rows.setdefault("pairs ingested a second, from file to synced version", []).append(
                f"{ingest_rate(Path(folder), encoder, documents[:600]):.0f}"
            )
    for name, milliseconds in queries(FrozenEncoder(weights_folder())).items():
        rows[name] = [f"{milliseconds:.1f}", ""]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]
    return lines


def queries(encoder: FrozenEncoder) -> dict[str, float]:
    """Milliseconds of a question of dstc9_faq, with its conversation, against its 2,900 passages."""
    _, questions = dstc9()
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        base = KnowledgeBase(Path(folder), encoder)
        base.ingest([SHARED / "dstc9_faq" / "knowledge.jsonl"])
        knowledge = base.load()
        asked = [question.query for question in questions]
        vectors = iter([(query, encoder.encode_queries([query])) for query in asked])
        whole = iter(asked)
        return {
            "search of 2,900 passages without the encoder, ms": p50(lambda: knowledge.search(*next(vectors), 5), 170),
            "query of 2,900 passages with the encoder, ms": p50(lambda: knowledge.search(next(whole), None, 5), 170),
        }


def ingest_rate(folder: Path, encoder: FrozenEncoder, documents: Sequence[Document]) -> float:
    rows = [{"id": n, "question": d.question, "answer": d.text} for n, d in enumerate(documents)]
    (folder / "faq.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    began = time.perf_counter()
    report = KnowledgeBase(folder / "knowledge", encoder).ingest([folder / "faq.jsonl"])
    assert report.added == len(documents)
    return len(documents) / (time.perf_counter() - began)


def main() -> None:
    encoder = FrozenEncoder(weights_folder())
    table = ablation(encoder)
    text = "\n".join(
        [*table, "", *company(encoder), "", *speed(), "", f"Computed in {encoder.precision}; {machine()}."]
    )
    print(text)
    put("retriever", text)


if __name__ == "__main__":
    main()
