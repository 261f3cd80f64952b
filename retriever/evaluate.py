"""How well retrieval finds what people needed, and how well it knows what nothing answers, on a file of questions.

Owns asking those questions and the report: figures, the same by group of documents, the worst misses. Knows nothing
about whose questions they are: no weight is chosen here. `questions.py` reads them, `figures.py` has the formulas.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retriever.answer_score import AnswerScore
from retriever.figures import DEPTH, Figures, Places, auroc, rejected_at_5
from retriever.keyword_index import KeywordIndex
from retriever.knowledge import Knowledge, PassageEncoder
from retriever.marks import Column
from retriever.passages import Document, Hit, Query, RetrieverError
from retriever.questions import Question, names_of, read_questions
from retriever.readers import FileRead, Skipped, read_path
from retriever.readers.child import Child
from retriever.readers.outline import one_line
from retriever.search import Indexes, Reranker
from retriever.smoothing import smoothed
from retriever.split import embedded_text, split
from retriever.vector_index import index_of

Progress = Callable[[int, int], None]
Known = Callable[[Query], float]
"""How sure a reader is that a question is one for this company at all, 0 to 1."""
WORST: Final = 20
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Miss:
    """An answerable question whose right document did not come first, and what came instead."""

    query: str
    """What was asked, as one line without what nobody sees: it is shown on terminals."""
    first: Hit
    relevant: tuple[str, ...]
    """Sources that would have answered, the best placed first."""
    rank: int | None
    """Of the first right document; None beyond 5."""
    lead: float | None
    """How much higher the wrong one scores than the first right one; None where that is beyond 5."""

    def to_json(self) -> dict[str, object]:
        passage = self.first.passage
        return {
            "query": self.query,
            "found": passage.source,
            "title": passage.title,
            "relevant": list(self.relevant),
            "rank": self.rank,
            "lead": self.lead,
            "answers": self.first.answers,
            "why": asdict(self.first.why),
        }


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """`overall` and `groups` are over the questions that something answers. A document counts once, at its best
    passage. Milliseconds are of all questions and include the encoder."""

    overall: Figures
    groups: Mapping[str, Figures]
    """By what the right documents are filed under, the largest group first; a question counts in each of its own."""
    unanswerable: int
    """Questions that nothing answers."""
    auroc: float | None
    """How well the chance of the best hit tells answerable questions from others; None without any others."""
    unanswerable_rejected_at_5: float | None
    """Share of the others turned away by the threshold on that chance that loses 5 % of the answerable."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    passages: int
    passages_per_second: float
    problems: tuple[str, ...]
    """What was skipped, rows or ids of one, each as `file:line: reason`."""
    ranks: tuple[int | None, ...]
    """For each answerable question the rank, from 1, of the first relevant document, None beyond 5."""
    worst: tuple[Miss, ...]
    """At most WORST: those not found at all by the chance claimed for the wrong one, then by its lead."""

    @property
    def missed(self) -> int:
        """Answerable questions whose right document is not first."""
        return sum(rank != 1 for rank in self.ranks)

    def to_json(self) -> dict[str, object]:
        """Under the names that `evaluate retrieval --json` prints."""
        return {
            **self.overall.to_json(),
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "passages": self.passages,
            "passages_per_second": self.passages_per_second,
            "unanswerable": self.unanswerable,
            "auroc": self.auroc,
            "unanswerable_rejected_at_5": self.unanswerable_rejected_at_5,
            "groups": {name: figures.to_json() for name, figures in self.groups.items()},
            "worst": [miss.to_json() for miss in self.worst],
        }


@dataclass(frozen=True, slots=True)
class _Asked:
    """One answerable question, the best hit of each document found, and the sources of the right documents."""

    query: Query
    found: tuple[Hit, ...]
    relevant: frozenset[str]

    @property
    def places(self) -> Places:
        ranks = (rank for rank, hit in enumerate(self.found, 1) if hit.passage.source in self.relevant)
        return Places(tuple(ranks), len(self.relevant))


def evaluate_retrieval(
    knowledge: Path,
    queries: Path,
    encoder: PassageEncoder,
    progress: Progress | None = None,
    known: Known | None = None,
    reranker: Reranker | None = None,
    score: AnswerScore | None = None,
) -> RetrievalReport:
    """Index `knowledge` (a file or folder) apart from any knowledge base and ask it the questions in `queries`.

    Bad rows of either are skipped and reported with their line. Raises RetrieverError when none are left.
    """
    documents, skipped = _documents(knowledge)
    questions, bad = read_questions(queries, documents)
    return evaluate_documents(documents, questions, encoder, progress, (*skipped, *bad), known, reranker, score)


def evaluate_documents(
    documents: Sequence[Document],
    questions: Sequence[Question],
    encoder: PassageEncoder,
    progress: Progress | None = None,
    skipped: Sequence[Skipped] = (),
    known: Known | None = None,
    reranker: Reranker | None = None,
    score: AnswerScore | None = None,
) -> RetrievalReport:
    """`questions` name only these documents, as `read_questions` sees to it.

    What nothing answers is told apart by the `score` that was fitted for a reader that is `known` to be sure, by that
    alone where there is none, and without either by the chance that the best passage answers.

    Raises RetrieverError without a passage, or without a question that something answers.
    """
    passages = tuple(passage for document in documents for passage in split(document))
    if not passages or not any(question.relevant for question in questions):
        raise RetrieverError("nothing to evaluate: give at least one document and one question that it answers")
    sources = _sources(documents)
    texts = [embedded_text(passage) for passage in passages]
    began = time.perf_counter()
    vectors = encoder.encode(texts, progress)
    asked: list[_Asked] = []
    answerable: list[float] = []
    unanswerable: list[float] = []
    milliseconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        keywords = KeywordIndex.build(Path(folder) / "keywords", texts)
        rate = len(passages) / (time.perf_counter() - began)
        searched = smoothed(vectors, Column.of(passage.entity for passage in passages))
        indexes = Indexes.of(passages, index_of(searched), keywords, catalogue=searched is not vectors)
        ordered = sorted(documents, key=lambda document: document.source)
        loaded = Knowledge("evaluation", ordered, indexes, encoder, score=score, reranker=reranker)
        for question in questions[:_WARM_UP]:
            loaded.search(question.query, None, DEPTH)
        for question in questions:
            # A service reads what was mended.
            mended = Query(loaded.mended(question.query.text), question.query.history)
            reads = known(mended) if known is not None else None
            started = time.perf_counter()
            # Several passages of one document may lead: ask for enough to see five documents.
            hits = loaded.search(question.query, None, 4 * DEPTH, known=reads)
            milliseconds.append(1000 * (time.perf_counter() - started))
            chance = hits[0].answers if hits else 0.0
            if reads is not None:
                chance = hits[0].why.anything if score is not None and hits else reads
            (answerable if question.relevant else unanswerable).append(chance)
            if question.relevant:
                relevant = frozenset(s for name in question.relevant for s in sources[name])
                asked.append(_Asked(question.query, _by_document(hits), relevant))
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]).tolist()
    return RetrievalReport(
        overall=Figures.of([each.places for each in asked]),
        groups=_groups(asked, documents),
        unanswerable=len(unanswerable),
        auroc=auroc(answerable, unanswerable),
        unanswerable_rejected_at_5=rejected_at_5(answerable, unanswerable),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        passages=len(passages),
        passages_per_second=rate,
        problems=tuple(f"{place}: {reason}" for place, reason in skipped),
        ranks=tuple(each.places.first for each in asked),
        worst=_worst(asked),
    )


def _by_document(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(hit.passage.source, hit)
    return tuple(best.values())[:DEPTH]


def _groups(asked: Sequence[_Asked], documents: Sequence[Document]) -> dict[str, Figures]:
    group_of = {document.source: _group(document) for document in documents}
    members: dict[str, list[Places]] = defaultdict(list)
    for each in asked:
        for name in {group_of[source] for source in each.relevant}:
            members[name].append(each.places)
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: Figures.of(places) for name, places in ordered}


def _group(document: Document) -> str:
    """Its domain; else the folder or file at the top of its source."""
    return document.domain or document.source.partition("#")[0].partition("/")[0]


def _worst(asked: Sequence[_Asked]) -> tuple[Miss, ...]:
    misses = [_miss(each) for each in asked if each.found and each.places.first != 1]
    misses.sort(key=lambda miss: (miss.rank is not None, -(miss.first.answers if miss.lead is None else miss.lead)))
    return tuple(misses[:WORST])


def _miss(asked: _Asked) -> Miss:
    first, rank = asked.found[0], asked.places.first
    placed = [asked.found[r - 1].passage.source for r in asked.places.ranks]
    return Miss(
        query=one_line(asked.query.text),
        first=first,
        relevant=(*placed, *sorted(asked.relevant.difference(placed))),
        rank=rank,
        lead=None if rank is None else first.score - asked.found[rank - 1].score,
    )


def _sources(documents: Sequence[Document]) -> dict[str, list[str]]:
    """The sources that each name stands for: two files may have a row of the same id."""
    found: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        for name in names_of(document.source):
            found[name].append(document.source)
    return dict(found)


def _documents(path: Path) -> tuple[list[Document], list[Skipped]]:
    if not path.exists():
        raise RetrieverError(f"{path}: no such file or folder")
    documents: list[Document] = []
    skipped: list[Skipped] = []
    root = path.resolve() if path.is_dir() else path.resolve().parent
    with Child() as child:
        for found in read_path(path.resolve(), root, {}, child):
            if isinstance(found, FileRead):
                documents += (each for each in found.documents if isinstance(each, Document))
            else:
                skipped.append(found)
    if not documents:
        reason = "".join(f"; {place}: {reason}" for place, reason in skipped[:1])
        raise RetrieverError(f"{path}: no readable document in it{reason}")
    return documents, skipped
