"""Where articles repeat or contradict each other: neighbours by meaning, decided by what their sentences say.

Owns what counts as a duplicate and as a contradiction. Knows nothing about files, encoders or who reads the findings;
no list of words here is about any company's matter. What it is not sure of it leaves out: a person reads every finding.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Final, TypeAlias

import numpy as np

from retriever.keyword_index import terms, unspaced_share
from retriever.knowledge import Progress, Report
from retriever.passages import Passage, Vectors
from retriever.split import CJK, sentences
from retriever.statements import CLOCK, Statement, alternatives, names, opposed, plain, statement
from retriever.vector_index import index_of

NEIGHBOURS: Final = 20
NEAR: Final = 0.5
"""How near, as a cosine, two passages must be to speak of one thing."""
ALIKE: Final = 0.8
"""The share of word triples that makes two passages one text."""
SHORTEST: Final = 8
"""Words below which a repeated passage (`See shipping costs.`) costs nobody anything."""
SAME_MATTER: Final = 0.4
"""The share of the weight of their content words that two sentences about the same thing have in common."""
SAME_MATTER_UNSPACED: Final = 0.25
"""The same where words are not spaced: their terms are pairs of characters, and fewer of them coincide."""
FEWEST: Final = 3
"""Content words in common below which a sentence says too little of what it is about."""
OFTEN: Final = 3
RARELY: Final = 0.1
"""Passages with `X or Y`, and the share of those with the rarer of the two, from which X and Y exclude each other."""
LAYOUT: Final = 3
"""Sources with the same heading from which it is a layout, and what stands under it is about each one's title."""
BLOCK: Final = 256

_Found: TypeAlias = tuple[float, str, str, tuple[str, str]]
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Nearly the same text in two sources. `likeness` is the Jaccard index of their word triples, up to 1."""

    first: Passage
    second: Passage
    likeness: float


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two sources that speak of one thing and differ; `what` is what the first and the second sentence say of it."""

    first: Passage
    second: Passage
    sentence_first: str
    sentence_second: str
    what: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Findings:
    """Most alike first. A pair of passages occurs once: what contradicts itself is not reported as a repeat too."""

    duplicates: tuple[Duplicate, ...]
    contradictions: tuple[Contradiction, ...]


def check(passages: Sequence[Passage], vectors: Vectors, report: Report | None = None) -> Findings:
    """What repeats and what contradicts itself among `passages`, whose `vectors` are `[n, d]` in their order.

    Compared are the nearest of another source under the same entity and in the same language: two hotels may differ.
    """
    report = report or (lambda step, done, total: None)
    book = _Book(passages)
    duplicates, contradictions = [], []
    told: set[tuple[str, str]] = set()
    copies = _Copies(len(passages))
    pairs = _neighbours(passages, vectors, partial(report, "looking for what is near"))
    for done, (i, j) in enumerate(pairs, 1):
        if done % 1000 == 0 or done == len(pairs):
            report("comparing", done, len(pairs))
        if found := book.difference(i, j):
            # Fifty articles may say the same sentence that one contradicts.
            if (key := (found[1].sentence_first, found[1].sentence_second)) not in told:
                told.add(key)
                contradictions.append(found)
        elif (likeness := book.likeness(i, j)) >= ALIKE and copies.join(i, j):
            duplicates.append(Duplicate(passages[i], passages[j], likeness))
    duplicates.sort(key=lambda duplicate: -duplicate.likeness)
    contradictions.sort(key=lambda item: -item[0])
    return Findings(tuple(duplicates), tuple(contradiction for _, contradiction in contradictions))


def _neighbours(passages: Sequence[Passage], vectors: Vectors, progress: Progress) -> list[list[int]]:
    """Rows of two sources that may speak of one thing, each pair once, in order."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, passage in enumerate(passages):
        groups[passage.entity, passage.language].append(row)
    sources = np.unique([passage.source for passage in passages], return_inverse=True)[1]
    pairs = [np.empty((0, 2), np.int64)]
    looked = 0
    for group in groups.values():
        rows = np.array(group)
        # A version's vectors may be smoothed, and then are no longer of length one.
        unit = vectors[rows] / np.maximum(np.linalg.norm(vectors[rows], axis=1, keepdims=True), 1e-9)
        index = index_of(unit)
        for start in range(0, len(rows), BLOCK):
            cosines, near = index.search(unit[start : start + BLOCK], NEIGHBOURS + 1)
            asked, place = np.nonzero(cosines >= NEAR)
            found = np.column_stack([rows[start + asked], rows[near[asked, place]]])
            pairs.append(np.sort(found[sources[found[:, 0]] != sources[found[:, 1]]], axis=1))
            looked += len(cosines)
            progress(looked, len(passages))
    found_pairs: list[list[int]] = np.unique(np.concatenate(pairs), axis=0).tolist()
    return found_pairs


class _Copies:
    """Which passages are known as copies of one another: fifty copies are forty-nine findings, not a thousand."""

    def __init__(self, size: int) -> None:
        self._leader = list(range(size))

    def join(self, i: int, j: int) -> bool:
        """Whether that was news."""
        i, j = self._found(i), self._found(j)
        self._leader[j] = i
        return i != j

    def _found(self, i: int) -> int:
        while self._leader[i] != i:
            self._leader[i] = i = self._leader[self._leader[i]]
        return i


class _Book:
    """The passages taken apart, and what their words weigh and mean here."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._statements = [tuple(_statements(passage)) for passage in passages]
        self._words = [frozenset(terms(_said(passage))) for passage in passages]
        held = Counter(chain.from_iterable(self._words))
        self._weight = {word: math.log(1 + (len(passages) - n + 0.5) / (n + 0.5)) for word, n in held.items()}
        # A name is a word that texts never write like others: `drift` of `Drift 2 tent`, and not `tent`.
        named = set(chain.from_iterable(names(passage.text) for passage in passages))
        self._names = named.difference(chain.from_iterable(plain(passage.text) for passage in passages))
        under = {(passage.heading, passage.source) for passage in passages if passage.heading}
        self._layouts = {heading for heading, n in Counter(heading for heading, _ in under).items() if n >= LAYOUT}
        self._other = _excluding(passages, held)

    def likeness(self, i: int, j: int) -> float:
        """The Jaccard index of the word triples of two passages; 0 for short ones."""
        one, other = (_WORD.findall(_said(self._passages[row])) for row in (i, j))
        if min(len(one), len(other)) < SHORTEST:
            return 0.0
        first, second = (set(zip(words, words[1:], words[2:], strict=False)) for words in (one, other))
        return len(first & second) / len(first | second)

    def difference(self, i: int, j: int) -> tuple[float, Contradiction] | None:
        """Where two passages are most about the same and differ, and how much about the same that is."""
        found = max(chain(self._said_otherwise(i, j), self._done_otherwise(i, j)), default=None)
        unspaced = unspaced_share(self._passages[i].text) > 0.5
        if found is None or found[0] < (SAME_MATTER_UNSPACED if unspaced else SAME_MATTER):
            return None
        share, one, other, what = found
        return share, Contradiction(self._passages[i], self._passages[j], one, other, what)

    def _said_otherwise(self, i: int, j: int) -> Iterator[_Found]:
        """Sentences with another amount, or a yes against a no."""
        for one, other in product(self._statements[i], self._statements[j]):
            contrast = _amounts_apart(one, other) or _yes_and_no(one, other)
            if contrast and not opposed(one.text, other.text):
                unit, what = contrast
                yield self._share(i, j, one.matter, other.matter, set(terms(unit))), one.text, other.text, what

    def _done_otherwise(self, i: int, j: int) -> Iterator[_Found]:
        """Sentences, or two in a row, with one word each of two that exclude each other (`refunded`, `replaced`).

        Neither passage says the other's word: else it knows of both.
        """
        for word in self._words[i] & self._other.keys() - self._words[j]:
            for against in self._other[word] & self._words[j] - self._words[i]:
                for one, other in product(
                    _stretches(self._statements[i], word), _stretches(self._statements[j], against)
                ):
                    share = self._share(i, j, _matter(one), _matter(other), {word, against})
                    yield share, _text(one), _text(other), (_wording(one, word), _wording(other, against))

    def _share(self, i: int, j: int, one: frozenset[str], other: frozenset[str], apart: Set[str]) -> float:
        """The share of their words' weight that two sentences have in common, those in which they differ left
        aside; 0 where it is little, or they are about different subjects."""
        # All that a hotel's rows say holds its name; that is no sign of one matter.
        apart = {*apart, *terms(self._passages[i].entity)}
        common = (one & other) - apart
        if len(common) < FEWEST or not self._same_subject(i, j, one, other):
            return 0.0
        return self._sum(common) / self._sum((one | other) - apart)

    def _sum(self, words: Iterable[str]) -> float:
        return sum(self._weight.get(word, 0.0) for word in words)

    def _same_subject(self, i: int, j: int, one: frozenset[str], other: frozenset[str]) -> bool:
        """Articles about different things may differ, unless these sentences themselves name the same thing."""
        # Ontario in one and Quebec in the other.
        if (one - other) & self._names and (other - one) & self._names:
            return False
        first, second = self._passages[i], self._passages[j]
        if first.entity or first.title == second.title or first.question or second.question:
            return True
        # Each says a word of its own title that the other does not: `damaged` parcels here, `missing` ones there.
        own, others = (set(terms(" ".join((p.title, *p.heading)))) for p in (first, second))
        if (one - other) & (own - others) and (other - one) & (others - own):
            return False
        layout = first.heading == second.heading and first.heading in self._layouts
        title, another = ({t for t in terms(p.title) if layout or t in self._names} for p in (first, second))
        # `Ember Duo manual` and `Ember Duo stove (ST-202)` are about one thing.
        if title == another or (title and another and not layout and (title <= another or another <= title)):
            return True
        return bool((title ^ another) & one & other)


def _statements(passage: Passage) -> Iterator[Statement]:
    asked = passage.question
    for start, end in sentences(passage.text):
        yield statement(passage.text[start:end], asked)
        asked = ""


def _said(passage: Passage) -> str:
    return f"{passage.question} {passage.text}".strip().casefold()


def _excluding(passages: Sequence[Passage], held: Mapping[str, int]) -> dict[str, set[str]]:
    """Words that the articles themselves present as alternatives, each with those that exclude it."""
    found: dict[str, set[str]] = defaultdict(set)
    for pair, n in Counter(chain.from_iterable(set(alternatives(p.text)) for p in passages)).items():
        if len(pair) == 2 and n >= max(OFTEN, RARELY * min(held.get(word, 0) for word in pair)):
            one, other = pair
            found[one].add(other)
            found[other].add(one)
    return found


def _stretches(said: Sequence[Statement], word: str) -> Iterator[Sequence[Statement]]:
    """Each sentence with `word`, alone and with its neighbour on either side."""
    for place, sentence in enumerate(said):
        if word in sentence.matter:
            yield said[place : place + 1]
            if place:
                yield said[place - 1 : place + 1]
            if place + 1 < len(said):
                yield said[place : place + 2]


def _matter(stretch: Sequence[Statement]) -> frozenset[str]:
    return frozenset().union(*(sentence.matter for sentence in stretch))


def _text(stretch: Sequence[Statement]) -> str:
    return " ".join(sentence.text for sentence in stretch)


def _wording(stretch: Sequence[Statement], word: str) -> str:
    """`word`, a stem, as it is written there."""
    if not word.isascii():
        return word
    return next((w for w in _text(stretch).split() if word in terms(w)), word).strip(".,;:!?()")


def _amounts_apart(one: Statement, other: Statement) -> tuple[str, tuple[str, str]] | None:
    """A unit of which two sentences give different amounts, and both in their wording."""
    for unit in dict.fromkeys(amount.unit for amount in one.amounts):
        first = {amount.value: amount.wording for amount in one.amounts if amount.unit == unit}
        second = {amount.value: amount.wording for amount in other.amounts if amount.unit == unit}
        own, others = first.keys() - second.keys(), second.keys() - first.keys()
        if unit != CLOCK:
            own, others = own - other.numbers, others - one.numbers
        # A number that both say is agreed on, and what one adds to it is more detail; unless each has its own.
        if own and others and (len(first) == len(second) or (own == first.keys() and others == second.keys())):
            return unit, (first[min(own)], second[min(others)])
    return None


def _yes_and_no(one: Statement, other: Statement) -> tuple[str, tuple[str, str]] | None:
    """The clauses of two sentences of which one denies what the other claims; no unit."""
    for word in sorted(one.denied.keys() & other.claimed.keys()):
        return "", (one.denied[word], other.claimed[word])
    for word in sorted(one.claimed.keys() & other.denied.keys()):
        return "", (one.claimed[word], other.denied[word])
    return None
