"""How well retrieval finds what people needed, on a file of questions with known answers.

Owns reading those questions and the figures. Knows nothing about whose questions they are: no weight is chosen here.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retriever.keyword_index import KeywordIndex
from retriever.knowledge_base import Knowledge, PassageEncoder
from retriever.passages import Document, Line, Query, RetrieverError
from retriever.readers import FileRead, Skipped, read_path
from retriever.search import AnswerScore, Indexes
from retriever.smoothing import smoothed
from retriever.split import embedded_text, split
from retriever.subjects import Subjects
from retriever.vector_index import index_of

Progress = Callable[[int, int], None]
DEPTH = 5
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A query and the ids of the documents that answer it."""

    query: Query
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Figures over `queries` questions. A document counts once, at its best passage. `p50_ms` includes the encoder."""

    recall_at_1: float
    recall_at_5: float
    mrr_at_5: float
    ndcg_at_5: float
    p50_ms: float
    queries: int
    passages: int
    passages_per_second: float
    problems: tuple[str, ...]
    """Rows that were skipped, each as `file:line: reason`."""
    ranks: tuple[int | None, ...]
    """For each question the rank, from 1, of the first relevant document, None beyond 5."""

    def to_json(self) -> dict[str, float]:
        """The figures under the names that `evaluate retrieval --json` prints."""
        return {
            "recall@1": self.recall_at_1,
            "recall@5": self.recall_at_5,
            "mrr@5": self.mrr_at_5,
            "ndcg@5": self.ndcg_at_5,
            "p50_ms": self.p50_ms,
            "queries": self.queries,
            "passages": self.passages,
            "passages_per_second": self.passages_per_second,
        }


def evaluate_retrieval(
    knowledge: Path, queries: Path, encoder: PassageEncoder, progress: Progress | None = None
) -> RetrievalReport:
    """Index `knowledge` (a file or folder) apart from any knowledge base and ask it the questions in `queries`.

    Bad rows of either are skipped and reported with their line. Raises RetrieverError when none are left.
    """
    documents, skipped = _documents(knowledge)
    questions, bad = read_questions(queries, documents)
    return evaluate_documents(documents, questions, encoder, progress, (*skipped, *bad))


def evaluate_documents(
    documents: Sequence[Document],
    questions: Sequence[Question],
    encoder: PassageEncoder,
    progress: Progress | None = None,
    skipped: Sequence[Skipped] = (),
) -> RetrievalReport:
    passages = tuple(passage for document in documents for passage in split(document))
    if not passages or not questions:
        raise RetrieverError("nothing to evaluate: give at least one document and one question")
    texts = [embedded_text(passage) for passage in passages]
    began = time.perf_counter()
    vectors = encoder.encode(texts, progress)
    with tempfile.TemporaryDirectory() as folder:
        keywords = KeywordIndex.build(Path(folder) / "keywords", texts)
        rate = len(passages) / (time.perf_counter() - began)
        searched = smoothed(vectors, [passage.entity for passage in passages])
        indexes = Indexes(passages, index_of(searched), keywords, Subjects(passages))
        loaded = Knowledge("evaluation", documents, indexes, encoder, score=AnswerScore())
        for question in questions[:_WARM_UP]:
            loaded.search(question.query, None, DEPTH)
        ranks, milliseconds = [], []
        for question in questions:
            started = time.perf_counter()
            # Several passages of one document may lead: ask for enough to see five documents.
            hits = loaded.search(question.query, None, 4 * DEPTH)
            milliseconds.append(1000 * (time.perf_counter() - started))
            found = list(dict.fromkeys(hit.passage.source for hit in hits))[:DEPTH]
            ranks.append(next((i for i, source in enumerate(found, 1) if _is(source, question.relevant)), None))
    return RetrievalReport(
        recall_at_1=_mean([rank == 1 for rank in ranks]),
        recall_at_5=_mean([rank is not None for rank in ranks]),
        mrr_at_5=_mean([1 / rank if rank else 0.0 for rank in ranks]),
        # One relevant document a question is the rule: the ideal gain is then 1.
        ndcg_at_5=_mean([1 / math.log2(rank + 1) if rank else 0.0 for rank in ranks]),
        p50_ms=statistics.median(milliseconds),
        queries=len(questions),
        passages=len(passages),
        passages_per_second=rate,
        problems=tuple(f"{place}: {reason}" for place, reason in skipped),
        ranks=tuple(ranks),
    )


def read_questions(path: Path, documents: Sequence[Document]) -> tuple[list[Question], list[Skipped]]:
    """Rows `{"history": [{"speaker", "text"}, ...], "relevant": [id]}`, the last line of history being the question, or
    `{"query", "relevant"}`. A row is skipped with its line when it is broken or names no known document.
    """
    known = {name for document in documents for name in _names(document.source)}
    questions: list[Question] = []
    skipped: list[Skipped] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        questions.append(_question(line, known))
                    except RetrieverError as error:
                        skipped.append((f"{path.name}:{number}", str(error)))
    except OSError as error:
        raise RetrieverError(f"{path}: {error.strerror}; give a file of questions") from None
    if not questions:
        first = "".join(f"; {place}: {reason}" for place, reason in skipped[:1])
        raise RetrieverError(f"{path}: no usable question{first}")
    return questions, skipped


def _question(line: bytes, known: set[str]) -> Question:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise RetrieverError("not JSON; give one JSON object a line") from None
    if not isinstance(row, dict):
        raise RetrieverError("not a JSON object")
    relevant = row.get("relevant")
    if not isinstance(relevant, list) or not all(isinstance(name, str) for name in relevant) or not relevant:
        raise RetrieverError('"relevant" must be a list of document ids')
    if not known.intersection(relevant):
        raise RetrieverError(f"no document is called {', '.join(relevant)[:100]}; check the ids")
    if isinstance(row.get("query"), str):
        return Question(Query(row["query"]), frozenset(relevant))
    lines = row.get("history")
    if not isinstance(lines, list) or not lines or not all(map(_is_line, lines)):
        raise RetrieverError('give "query", or "history" as a list of {"speaker", "text"}')
    if lines[-1]["speaker"] != "customer":
        raise RetrieverError("the last line of history must be the customer's question")
    said = [Line(line["speaker"], line["text"]) for line in lines]
    return Question(Query(said[-1].text, tuple(said[:-1])), frozenset(relevant))


def _is_line(line: object) -> bool:
    return (
        isinstance(line, dict)
        and line.get("speaker") in ("customer", "bot", "agent")
        and isinstance(line.get("text"), str)
    )


def _documents(path: Path) -> tuple[list[Document], list[Skipped]]:
    if not path.exists():
        raise RetrieverError(f"{path}: no such file or folder")
    documents: list[Document] = []
    skipped: list[Skipped] = []
    for found in read_path(path.resolve(), path.resolve() if path.is_dir() else path.resolve().parent, {}):
        if isinstance(found, FileRead):
            documents += found.documents
        else:
            skipped.append(found)
    if not documents:
        reason = "".join(f"; {place}: {reason}" for place, reason in skipped[:1])
        raise RetrieverError(f"{path}: no readable document in it{reason}")
    return documents, skipped


def _names(source: str) -> tuple[str, str]:
    """A row of a file is also known by its own id."""
    return source, source.partition("#")[2] or source


def _is(source: str, relevant: frozenset[str]) -> bool:
    return not relevant.isdisjoint(_names(source))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
