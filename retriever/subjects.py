"""What a conversation is about: which entity, document or domain its lines name, and how lately.

Owns finding names in running text. Knows no list of names but those of the passages, and nothing about ranking: it
says how well a passage fits, search says how much that counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retriever.keyword_index import terms
from retriever.marks import Column, Marks

MENTIONED: Final = 0.6
"""A line names a subject when it holds this share of the name's weight: `Ember 1` names `Ember 1 stove (ST-101)`."""
OLDER: Final = 0.6
"""What a subject still counts once a later line has named another one. Lines that name nothing do not age it."""
NEUTRAL: Final = 0.5
"""The fit of what has no name, and of everything while nothing is named: it neither helps nor hurts."""
TERMS: Final = 400
"""How much of a line is searched for names."""
SPELLED: Final = 6
"""Names' words of at least this many characters are also found one edit away."""

COMMON: Final = 1_000
"""Forms of names with a word from which it is common: by it alone hardly any of them is named."""
PROPER: Final = 3
"""Letters that a word of a proper name must have to name it alone: `Duo`."""

_PROPER = re.compile(r"(?:[A-Z][\w-]*|[+-]?\d[\w.-]*)(?:\s+(?:[A-Z][\w-]*|[+-]?\d[\w.-]*))+")
_BRACKETS = re.compile(r"[(（【\[](.*?)[)）】\]]")
_Named = dict[int, float]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is named, by number: entities, titles and domains, each with its fit above 0 and up to 1."""

    entities: _Named
    titles: _Named
    domains: _Named


class Subjects:
    """The names of a knowledge base. Built once for a version; read-only, so threads may share it."""

    def __init__(self, marks: Marks) -> None:
        # A passage's subject is the entity it is filed under; without one, the title of its document.
        # A question-and-answer pair without an entity has no subject: its title is its question.
        self._entities, self._entity = _of(marks.entity)
        self._titles, self._title = _of(marks.title)
        self._domains, self._domain = _of(marks.domain)

    def read(self, newest_first: Sequence[Sequence[str]]) -> Subject:
        """The subjects that the lines of a conversation name, each given as its terms."""
        lines = [line[:TERMS] for line in newest_first]
        return Subject(*(names.named(lines) for names in (self._entities, self._titles, self._domains)))

    def changed(self, newest_first: Sequence[Sequence[str]]) -> bool:
        """Whether the last message names an entity or a product that no line before it names."""
        last, *before = [line[:TERMS] for line in newest_first]
        return any(names.fresh(last, before) for names in (self._entities, self._titles))

    def rows(self, subject: Subject, most: int = 3) -> list[NDArray[np.int64]]:
        """The rows of each of the `most` best fitting entities and titles: candidates whatever their wording."""
        found = [(fit, i, self._entity) for i, fit in subject.entities.items()]
        found += [(fit, i, self._title) for i, fit in subject.titles.items()]
        found.sort(key=lambda item: -item[0])
        return [np.flatnonzero(numbers == i) for _, i, numbers in found[:most]]

    def fit(self, subject: Subject, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
        """`(entity, title, domain)` fit of each row, 0 to 1."""
        return (
            _fit(subject.entities, self._entity[rows]),
            _fit(subject.titles, self._title[rows]),
            _fit(subject.domains, self._domain[rows]),
        )


def _of(marked: Column) -> tuple[_Names, NDArray[np.int64]]:
    """The names of a column, and the number of each row's; -1 without a name."""
    names = _Names(name for name in marked.names if name)
    return names, names.numbers(marked.names)[marked.numbers]


def _fit(named: _Named, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    if not named:
        return np.full(len(numbers), NEUTRAL, np.float32)
    return np.array([NEUTRAL if i < 0 else named.get(int(i), 0.0) for i in numbers], np.float32)


class _Names:
    """Distinct names, found in text by their weightiest words. A name may have several forms."""

    def __init__(self, names: Iterable[str]) -> None:
        self._number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        forms = [(i, _words(form)) for name, i in self._number.items() for form in _forms(name)]
        forms = [(i, words) for i, words in forms if words]
        held = Counter(word for _, word in {(i, word) for i, words in forms for word in words})
        total = len(self._number)
        self._weight = {word: math.log(1 + (total - n + 0.5) / (n + 0.5)) for word, n in held.items()}
        self._name_of = np.array([i for i, _ in forms], np.int64)
        self._whole = np.array([sum(self._weight[word] for word in words) for _, words in forms], np.float64)
        # The forms with each word, one word behind the other: a word that many names share is added up at once.
        places: dict[str, list[int]] = defaultdict(list)
        for form, (_, words) in enumerate(forms):
            for word in words:
                places[word].append(form)
        self._forms = np.array(list(chain.from_iterable(places.values())), np.int32)
        ends = np.cumsum([len(found) for found in places.values()]).tolist()
        self._span = {word: (end - len(found), end) for (word, found), end in zip(places.items(), ends, strict=True)}
        # Of each common word the forms that such words alone can name: of `Acme router 17 manual` not without the 17.
        common = {word: some for word in self._span if len(some := self._holding(word)) >= COMMON}
        shared = np.zeros(len(forms), np.float64)
        for word, some in common.items():
            shared[some] += self._weight[word]
        self._common = {word: some[shared[some] >= MENTIONED * self._whole[some]] for word, some in common.items()}
        # Words of the proper names that names begin with: `Ember` and `Duo` of `Ember Duo stove (ST-202)`.
        self._proper = {
            word
            for name in self._number
            if (proper := _PROPER.match(_BRACKETS.sub(" ", name)))
            for word in terms(proper.group())
            if len(word) >= PROPER and word.isalpha()
        }
        self._spelling: dict[str, str] = {}
        # Conversations repeat their words, and a line stays in the window for many turns.
        self._respelled = lru_cache(maxsize=20_000)(self._respell)
        for word in self._weight:
            if len(word) >= SPELLED and word.isalpha():
                self._spelling.update((cut, word) for cut in _deletions(word))

    def numbers(self, names: Iterable[str]) -> NDArray[np.int64]:
        return np.array([self._number.get(name, -1) for name in names], np.int64)

    def named(self, newest_first: Sequence[Sequence[str]]) -> _Named:
        """Names to fit: 1 for those the newest naming line holds whole, `OLDER` times less for each that is older."""
        found: _Named = {}
        level = 1.0
        if not self._weight:
            return found
        for line in newest_first:
            here = self._in_line(line)
            fresh = here.keys() - found.keys()
            for name, share in here.items():
                found[name] = max(found.get(name, 0.0), level * share * share)
            if fresh:
                level *= OLDER
        return found

    def fresh(self, line: Sequence[str], before: Sequence[Sequence[str]]) -> bool:
        """Whether `line` holds a word of a proper name that no line `before` holds."""
        held = {word for other in before for word in map(self._first_spelling, other)}
        return any(word in self._proper and word not in held for word in map(self._first_spelling, line))

    def _first_spelling(self, word: str) -> str:
        return self._respelled(word)[0]

    def _in_line(self, line: Sequence[str]) -> _Named:
        # Pairs of words also count as one, and one as two: "guest house" names "guesthouse" and the other way round.
        words = {*chain.from_iterable(map(self._respelled, line)), *(a + b for a, b in pairwise(line))}
        known = [word for word in words if word in self._span]
        if not known:
            return {}
        found = [self._common.get(word, self._holding(word)) for word in known]
        weights = np.repeat([self._weight[word] for word in known], [len(forms) for forms in found])
        forms, place = np.unique(np.concatenate(found), return_inverse=True)
        weight: NDArray[np.float64] = np.bincount(place, weights, len(forms)).astype(np.float64)
        for word in self._common.keys() & known:
            # The others are met by a word that is rare, and hold this one as well.
            rest = np.isin(forms, self._holding(word), assume_unique=True) & ~np.isin(forms, self._common[word])
            weight[rest] += self._weight[word]
        share = weight / self._whole[forms]
        shares: _Named = {}
        for name, value in zip(self._name_of[forms].tolist(), share.tolist(), strict=True):
            if value >= MENTIONED:
                shares[name] = max(shares.get(name, 0.0), value)
        return shares

    def _holding(self, word: str) -> NDArray[np.int32]:
        """The forms with a word."""
        return self._forms[slice(*self._span[word])]

    def _respell(self, word: str) -> tuple[str, ...]:
        """`word` as the names spell it: in two words, or one edit away."""
        if word in self._weight or len(word) < SPELLED or not word.isalpha():
            return (word,)
        for cut in range(3, len(word) - 2):
            if word[:cut] in self._weight and word[cut:] in self._weight:
                return word[:cut], word[cut:]
        return (next((self._spelling[cut] for cut in _deletions(word) if cut in self._spelling), word),)


@lru_cache(maxsize=100_000)
def _words(form: str) -> frozenset[str]:
    # The next version names nearly the same, and a service loads it within its one process.
    return frozenset(terms(form))


def _deletions(word: str) -> Iterable[str]:
    """`word` and every string one deletion away: two words within one edit share one of these."""
    return [word, *(word[:i] + word[i + 1 :] for i in range(len(word)))]


def _forms(name: str) -> Iterable[str]:
    """How people shorten a name: without its brackets, by the code in them, by what stands before a colon, by the
    proper name it begins with (`Ember 1` of `Ember 1 stove (ST-101)`).
    """
    bare = _BRACKETS.sub(" ", name)
    yield bare
    for code in _BRACKETS.findall(name):
        yield code
        if any(c.isdigit() for c in code):
            yield "".join(c for c in code if c.isalnum())
    head = re.split(r"[:：]", bare)[0]
    if head != bare:
        yield head
    if (proper := _PROPER.match(bare)) and proper.group() != bare.strip():
        yield proper.group()
