"""Ranking: which passages answer a question asked in the middle of a conversation, and why.

Owns how meaning, words and subject are weighed. Pure: works on one loaded version and changes nothing. Knows nothing
about files, encoders or what is done with the hits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.answer_score import FIRST, AnswerScore, Features, built_in, signals
from retriever.filters import Filters, Seen
from retriever.keyword_index import KeywordIndex, Rows, terms, unspaced_share, weighty
from retriever.marks import Marks
from retriever.passages import Filter, Hit, Passage, Query, Vectors, Why
from retriever.subjects import Subjects
from retriever.vector_index import VectorIndex

_CODE = re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9]{3,}")
BY_MEANING: Final = 100
BY_WORDS: Final = 100
BY_SUBJECT: Final = 30
CONTEXT_LINES: Final = 4
LINES: Final = 30
"""How many of the last lines are searched for subjects."""
RERANKED: Final = 20
"""How many of the best a cross-encoder judges, where one is set."""
JUDGED: Final = 1.0
"""What its judgement, 0 to 1, counts beside the other signals: as much as the cosine of the last message."""
EVERYBODY: Final = Filter()
"""What any customer may see."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts. All signals lie in 0 to 1 (cosines may be below 0)."""

    last: float
    """Cosine of the last message."""
    window: float
    """Cosine of the last lines together."""
    words: float
    """Share of the last message's word weight."""
    strength: float
    """BM25 of the last message, as a share of the most it could be."""
    context: float
    """The same of the lines before it."""
    codes: float
    """Share of the weight of the last message's codes (`SR-17`, `EN417`): an encoder cannot tell them apart."""
    entity: float
    title: float
    domain: float
    precedent: float = 0.0
    """What resolved past questions of the kind, where the reader knows."""


# Chosen on the sample company's chats, follow-ups and changes of subject: docs/decisions.md has the numbers. What was
# said before, by its vector and by its words, tells which article is talked about.
ARTICLES: Final = Weights(
    last=1.0, window=0.5, words=0.1, strength=0.0, context=1.0, codes=0.4, entity=0.2, title=0.2, domain=0.2
)  # fmt: skip
# Chosen on the even queries of dstc9_faq: in a catalogue the entity that was named says it, and the words around it
# are about something else.
CATALOGUE: Final = replace(ARTICLES, window=0.25, context=0.0, entity=0.5, title=0.0)
# Where a trained reader tells what resolved like questions: its vectors were trained on the conversation as a whole.
LEARNT: Final = replace(ARTICLES, window=0.5, context=0.0, entity=0.5, precedent=0.75)
SHARPNESS: Final = 0.15
"""How far apart two scores must be for one passage to be e times as likely as the other: the best of .05 to .5 by the
likelihood of 373 held-out questions."""
# The default encoder reads English only: a Chinese question is found by its words.
UNSPACED: Final = Weights(
    last=0.0, window=0.0, words=0.0, strength=2.0, context=0.4, codes=0.4, entity=0.5, title=0.2, domain=0.25
)  # fmt: skip

POINTS: Final = ("meaning", "window", "precedent", "words", "codes", "earlier", "subject", "reranker")
"""What a score is the sum of."""


class Reranker(Protocol):
    """A second opinion on the best passages; `retriever.rerank.CrossEncoder` is one."""

    def judge(self, query: Query, passages: Sequence[Passage]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Indexes:
    """One loaded version: row `i` of each part is `passages[i]`."""

    passages: Sequence[Passage]
    """Of a loaded version they lie on disk: one is read when it is asked for."""
    marks: Marks
    vectors: VectorIndex
    keywords: KeywordIndex
    subjects: Subjects
    filters: Filters
    catalogue: bool
    """Whether the passages say the like of many entities, and the vectors are smoothed for it (`smoothing.py`)."""

    @classmethod
    def of(
        cls,
        passages: Sequence[Passage],
        vectors: VectorIndex,
        keywords: KeywordIndex,
        *,
        marks: Marks | None = None,
        catalogue: bool = False,
    ) -> Indexes:
        marks = marks or Marks.of(passages)
        return cls(passages, marks, vectors, keywords, Subjects(marks), Filters(marks), catalogue)


def search(
    query: Query,
    vectors: tuple[Vectors, ...] | None,
    indexes: Indexes,
    k: int,
    *,
    score: AnswerScore | None = None,
    known: float | None = None,
    only: Filter = EVERYBODY,
    reranker: Reranker | None = None,
) -> list[Hit]:
    """The best `k` passages, best first, each with the signals that found it.

    `vectors` are `(last, window)` of this one query, `[1, d]` each, and a third for what resolved past questions of
    the kind if the reader knows; None ranks by words and subject alone. `known` is how sure the reader is that the
    question is one for this company, 0 to 1; with it a `score` that was fitted says how likely anything answers.
    """
    if not indexes.passages or k <= 0:
        return []
    # Cut once: three parts read these lines.
    lines = [terms(text) for text in (query.text, *(line.text for line in reversed(query.history[1 - LINES :])))]
    asked, before = weighty(lines[0]), weighty([*chain.from_iterable(reversed(lines[1 : 1 + CONTEXT_LINES]))])
    subject = indexes.subjects.read(lines)
    seen = indexes.filters.seen(only)
    strength, context = (indexes.keywords.strength(wanted, BY_WORDS, seen and seen.mask) for wanted in (asked, before))
    rows = _candidates([*strength, *context], vectors, indexes, indexes.subjects.rows(subject), seen)
    if not len(rows):
        return []
    weights = _weights(query, lines, vectors, indexes)
    stored = indexes.vectors.vectors(rows)
    last, window, precedent, *_ = [stored @ v[0] for v in vectors or ()] + 3 * [np.zeros(len(rows), np.float32)]
    words = _coverage(indexes.keywords, asked, rows)
    entity, title, domain = indexes.subjects.fit(subject, rows)
    codes = [term for term in asked if _CODE.fullmatch(term)]
    strong, earlier = (np.array([of.get(row, 0.0) for row in rows.tolist()], np.float32) for of in (strength, context))
    subjects = weights.entity * entity + weights.title * title + weights.domain * domain
    fit = subjects / (weights.entity + weights.title + weights.domain)
    points = np.stack([
        weights.last * last, weights.window * window, weights.precedent * precedent,
        weights.words * words + weights.strength * strong, weights.codes * _coverage(indexes.keywords, codes, rows),
        weights.context * earlier, subjects, np.zeros(len(rows), np.float32),
    ])  # fmt: skip
    total = points.sum(axis=0)
    order = place = np.lexsort((rows, -total))
    judged = points[-1]
    if reranker is not None:
        read = order[:RERANKED]
        judged[read] = JUDGED * reranker.judge(query, [indexes.passages[row] for row in rows[read]])
        total = points.sum(axis=0)
        order = np.lexsort((rows, -total))
    found = np.stack([total, last, words, fit, precedent, judged / JUDGED, window, earlier], axis=1)
    moved = np.argsort(place)[order] - np.arange(len(rows))
    numbers = [term for term in dict.fromkeys(asked) if any(c.isdigit() for c in term)]
    best = _hits(indexes, rows[order], found[order], points.T[order], moved, numbers, max(k, FIRST))
    shares = _shares(best, indexes.marks.source.numbers[rows], total)
    if score is not None and known is not None and vectors is not None:
        anything = float(score.any_answers(signals(query, best, known)))
        best = [Hit(hit.passage, hit.score, 0.0, replace(hit.why, anything=anything)) for hit in best]
        chances = anything * shares
    else:
        # Whether anything answers is then for the reader to say, where one was trained to know.
        chances = shares if weights is LEARNT else built_in(best)
    told = zip(best[:k], chances.tolist()[:k], strict=True)
    return [Hit(hit.passage, hit.score, chance, hit.why) for hit, chance in told]


def _shares(hits: Sequence[Hit], sources: NDArray[np.int32], total: NDArray[np.floating]) -> Features:
    """The chance that each hit answers if any passage does: a softmax over the best passage of each source. Behind the
    best of its own source a passage has as much of that source's share as its score allows. `sources` and `total` are
    those of all candidates."""
    names, number = np.unique(sources, return_inverse=True)
    leading = np.full(len(names), -np.inf)
    np.maximum.at(leading, number, total)
    whole = np.exp((leading - hits[0].score) / SHARPNESS).sum()
    chances: Features = np.exp((np.array([hit.score for hit in hits]) - hits[0].score) / SHARPNESS) / whole
    return chances


def _weights(
    query: Query, lines: Sequence[Sequence[str]], vectors: tuple[Vectors, ...] | None, indexes: Indexes
) -> Weights:
    if vectors is None or unspaced_share(query.text) > 0.3:
        return UNSPACED
    if len(vectors) > 2 and vectors[2].any():
        return LEARNT
    if indexes.catalogue:
        return CATALOGUE
    # Without a line before it the window is the message itself, which must not outweigh its words and codes for that;
    # and what was said of one product is in the way when another one is named.
    alone = not query.history or indexes.subjects.changed(lines)
    return replace(ARTICLES, window=CATALOGUE.window, context=0.0) if alone else ARTICLES


def _candidates(
    by_words: Sequence[int],
    vectors: tuple[Vectors, ...] | None,
    indexes: Indexes,
    of_subject: Sequence[Rows],
    seen: Seen | None,
) -> Rows:
    found = [np.array(by_words, np.int64)]
    if seen is not None:
        of_subject = [rows[seen.mask[rows]] for rows in of_subject]
    if vectors is not None:
        asked = np.concatenate([v[:1] for v in vectors])
        found.append(indexes.vectors.search(asked, BY_MEANING, seen and seen.rows)[1].ravel())
        found += [indexes.vectors.search(asked[:1], BY_SUBJECT, rows)[1].ravel() for rows in of_subject]
    else:
        found += [rows[:BY_SUBJECT] for rows in of_subject]
    return np.unique(np.concatenate(found))


def _coverage(keywords: KeywordIndex, wanted: Sequence[str], rows: Rows) -> NDArray[np.float32]:
    # A pair of characters that no passage holds is rarely a word, and its characters are counted by themselves.
    known = [term for term in wanted if len(term) != 2 or not unspaced_share(term) or keywords.holds(term)]
    return keywords.coverage({term: keywords.weight(term) for term in known}, rows)


def _hits(
    indexes: Indexes,
    rows: Rows,
    found: NDArray[np.floating],
    points: NDArray[np.floating],
    moved: NDArray[np.int64],
    numbers: Sequence[str],
    k: int,
) -> list[Hit]:
    """The first `k` of the ranked `rows` as hits; `found` are total and signals of `Why`, `points` those of POINTS.

    The margin is against the best passage of another source, wherever it ranks.
    """
    sources, best = indexes.marks.source.numbers[rows], float(found[0, 0])
    others = np.flatnonzero(sources != sources[0])
    rival = float(found[others[0], 0]) if len(others) else None
    hits = []
    first = (column[:k].tolist() for column in (rows, sources, found, points, moved))
    for row, source, told, gained, places in zip(*first, strict=True):
        total, meaning, words, fit, precedent, judged, window, earlier = told
        against = rival if source == sources[0] else best
        margin = 0.0 if against is None else total - against
        held = indexes.keywords.held(numbers, row)
        gains = sorted(((name, one) for name, one in zip(POINTS, gained, strict=True) if one), key=lambda one: -one[1])
        why = Why(meaning, words, fit, margin, precedent, judged, window, earlier, held, places, tuple(gains))
        hits.append(Hit(indexes.passages[row], total, 0.0, why))
    return hits
