"""Which sentences of the found passages answer: chosen, never written.

Owns the choice and its form: original order, lists and tables whole, gaps shown, nothing left without what it leans
on. Knows nothing about decisions or citations' addresses.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bot.conversation.words import Span, chinese_share, content_words, sentences
from retriever.passages import Hit, Passage

SentenceScorer = Callable[[str, Sequence[str]], Sequence[float]]
"""`(question, sentences) -> how well each answers`, about 0 to 1, such as the cosine of an encoder's vectors."""

MOST_SENTENCES = 3
SHORT = 320
"""A passage or paragraph of so many characters is quoted whole."""
MOST_OF_LIST = 700
"""A list or table of so many characters is quoted whole; of a longer one, its opening and the best items."""
WORTH_ADDING = 0.6
"""Share of the best sentence's score from which another sentence is quoted too."""
SECOND_SOURCE = 0.5
"""Share of the question's words, missing so far, that a second passage must bring to be quoted as well."""

LEAST_ROWS = 3
"""A table of fewer rows is never quoted in part."""
STARTS_ALIKE = 5
"""Letters from which a word that begins another one names the same row: "weigh" and "weight"."""

WORDS_DECIDE = 0.2
"""Between passages whose chances are closer than this, the one with more of the question's words is quoted."""

CONTEXT = 0.5
"""What the words of the question before may weigh at most, against those of the question itself."""

_PARTICLES = frozenset({"down", "off", "over"})
_COLONS = (":", "：")
_NEEDS_CONTEXT = re.compile(
    r"(?:it|they|this|these|that|those|he|she|its|their|both|then|otherwise|however|in that case|if so|after that"
    r"|instead|once that|also)\b|它|他们|她们|这[些个样类种时]?|那[些个样类种时]?|否则|此时|届时|同时|另外",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quote:
    """What is quoted from one passage.

    `text` is `passage.text` at `spans`, gaps shown as an ellipsis. `heading` says what it is about when the quote does
    not stand alone, else it is empty.
    """

    passage: Passage
    text: str
    spans: tuple[Span, ...]
    heading: str = ""


@dataclass(frozen=True, slots=True)
class _Block:
    """A paragraph, or a list or table with the line that opens it; sentences `first` to `last` of the passage."""

    first: int
    last: int
    listed: bool

    @property
    def all(self) -> set[int]:
        return set(range(self.first, self.last + 1))


def choose_quotes(
    question: str, context: str, hits: Sequence[Hit], scorer: SentenceScorer | None = None
) -> tuple[Quote, ...]:
    """Quotes from the best passage, and from a second one if it is of another document or adds to the first.

    `context` is what the customer asked before, for questions that lean on it; empty when there is nothing.
    Scores are shared question words weighted by rarity among the sentences, plus the sentence's place and, if given,
    the scorer's opinion. Never empty for non-empty hits.
    """
    weights = _weights(question, context, hits)
    hits = sorted(hits, key=lambda hit: -hit.answers - WORDS_DECIDE * _share(_under_heading(hit.passage), weights))
    first = _quote(question, hits[0].passage, weights, scorer)
    covered = set(content_words(f"{first.text} {first.passage.title} {' '.join(first.passage.heading)}"))
    missing = {word: weight for word, weight in weights.items() if word not in covered}
    for hit in hits[1:]:
        if hit.passage.source != first.passage.source:
            return (first, _quote(question, hit.passage, weights, scorer))
        added = sum(missing.get(word, 0.0) for word in set(content_words(hit.passage.text)))
        if missing and added >= SECOND_SOURCE * sum(weights.values()) and hit.passage.text != first.passage.text:
            return (first, _quote(question, hit.passage, weights, scorer))
    return (first,)


def best_sentence(question: str, passage: Passage, hits: Sequence[Hit]) -> float:
    """The largest share of the question's word weight, 0 to 1, that one sentence of `passage` holds, read under its
    title and headings. Words that none of the `hits` holds weigh as much as the rarest."""
    known = _weights(question, "", hits)
    rarest = max(known.values(), default=1.0)
    weights = {word: known.get(word, rarest) for word in content_words(question)}
    above = f"{passage.title} {' '.join(passage.heading)} {passage.question}"
    pieces = [passage.text[span.start : span.end] for span in sentences(passage.text)]
    return max((_share(f"{above} {piece}", weights) for piece in pieces), default=_share(above, weights))


def _weights(question: str, context: str, hits: Sequence[Hit]) -> dict[str, float]:
    """Inverse sentence frequency of the question's words that occur at all.

    All words of the context together count at most half as much as the question's own.
    """
    texts = [hit.passage.text for hit in hits]
    units = [set(content_words(text[span.start : span.end])) for text in texts for span in sentences(text)]
    seen = Counter(word for unit in units for word in unit)
    above = Counter(word for hit in hits for word in set(content_words(" ".join(hit.passage.heading))))
    seen |= Counter({word: count for word, count in above.items() if word not in seen})
    rarity = {word: math.log(1 + len(units) / (1 + count)) for word, count in seen.items()}
    asked = {word: rarity[word] for word in content_words(question) if word in rarity}
    before = {word: rarity[word] for word in content_words(context) if word in rarity and word not in asked}
    scale = min(1.0, CONTEXT * sum(asked.values()) / sum(before.values())) if asked and before else 1.0
    return asked | {word: scale * weight for word, weight in before.items()}


def _quote(question: str, passage: Passage, weights: dict[str, float], scorer: SentenceScorer | None) -> Quote:
    text = passage.text
    spans = sentences(text)
    if not spans:
        return Quote(passage, text.strip() or passage.title, ())
    if len(text) <= SHORT or (passage.question and len(text) <= MOST_OF_LIST):
        chosen = set(range(len(spans)))
    else:
        chosen = _chosen(text, spans, _scores(question, text, spans, weights, scorer))
    if not passage.question:
        chosen = _with_rows(text, spans, chosen, (content_words(question), list(weights)))
    first = spans[min(chosen)]
    leans = bool(_NEEDS_CONTEXT.match(text[first.start :]))
    if leans and min(chosen) > 0:
        chosen.add(min(chosen) - 1)
    heading = ""
    if min(chosen) == 0 and (leans or (first.item and not passage.question)):
        parts = (passage.title, *passage.heading[-1:])
        heading = " – ".join(dict.fromkeys(part for part in parts if part))
    return Quote(passage, _joined(text, spans, chosen), tuple(spans[i] for i in sorted(chosen)), heading)


def _under_heading(passage: Passage) -> str:
    """The passage with its title and headings: they often say what is asked, and the text does not repeat them."""
    return f"{passage.title} {' '.join(passage.heading)}\n{passage.text}"


def _with_rows(
    text: str, spans: tuple[Span, ...], chosen: set[int], asked: tuple[Sequence[str], Sequence[str]]
) -> set[int]:
    """`chosen` with no more of each table than the rows that are asked for, and its header.

    A row is asked for when a word of its first cell, one that few rows have there, is `asked`: in the question, or,
    when no row is, in what was asked before too. A table of which no row is asked for stays whole.
    """
    for block in _blocks(text, spans):
        lines = [text[spans[i].start : spans[i].end] for i in range(block.first, block.last + 1)]
        rows = [i for i, line in zip(range(block.first, block.last + 1), lines, strict=True) if " | " in line]
        if not rows or not chosen.issuperset(rows):
            continue
        # A first row without a figure, or without a first cell, says what the columns are.
        top = lines[rows[0] - block.first]
        header = {rows[0]} if top.startswith("|") or not any(c.isdigit() for c in top) else set()
        keys = {i: set(content_words(text[spans[i].start : spans[i].end].split(" | ")[0])) for i in rows[len(header) :]}
        if len(keys) < LEAST_ROWS:
            continue
        count = Counter(word for words in keys.values() for word in words)
        rare = {i: {word for word in keys[i] if count[word] <= max(1, len(keys) // LEAST_ROWS)} for i in keys}
        found = next((found for words in asked if (found := {i for i in keys if _names(words, rare[i])})), None)
        if found is not None:
            chosen = chosen - set(rows) | found | header
    return chosen


def _names(words: Sequence[str], keys: set[str]) -> bool:
    """Whether any of `words` is one of `keys`, or how it begins. A figure alone, and a particle, name nothing."""
    return any(
        word in keys or (len(word) >= STARTS_ALIKE and any(key.startswith(word) for key in keys))
        for word in words
        if word not in _PARTICLES and not word.isdigit()
    )


def _scores(
    question: str, text: str, spans: tuple[Span, ...], weights: dict[str, float], scorer: SentenceScorer | None
) -> list[float]:
    pieces = [text[span.start : span.end] for span in spans]
    scores = [_share(piece, weights) for piece in pieces]
    if scorer is not None:
        scores = [0.4 * words + 0.6 * meaning for words, meaning in zip(scores, scorer(question, pieces), strict=True)]
    # Articles state first what matters most; without any shared word the beginning is the answer.
    return [score + 0.15 * (1 - place / len(scores)) for place, score in enumerate(scores)]


def _share(text: str, weights: dict[str, float]) -> float:
    """The share of the question's word weight that `text` has."""
    total = sum(weights.values())
    return sum(weights.get(word, 0.0) for word in set(content_words(text))) / total if total else 0.0


def _chosen(text: str, spans: tuple[Span, ...], scores: list[float]) -> set[int]:
    """The block of the best sentence, whole while it is short, and other sentences that are nearly as good."""
    best = max(range(len(scores)), key=lambda i: scores[i])
    block = next(block for block in _blocks(text, spans) if block.first <= best <= block.last)
    size = spans[block.last].end - spans[block.first].start
    if size <= (MOST_OF_LIST if block.listed else SHORT):
        chosen = block.all
    else:
        chosen = {block.first, best} if block.listed else {best}
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if len(chosen) < MOST_SENTENCES and scores[i] >= WORTH_ADDING * scores[best] and not spans[i].item:
            chosen.add(i)
    return chosen


def _blocks(text: str, spans: tuple[Span, ...]) -> list[_Block]:
    blocks: list[_Block] = []
    for i, span in enumerate(spans):
        last = blocks[-1] if blocks else None
        between = text[spans[i - 1].end : span.start] if i else ""
        opens = last is not None and text[: spans[i - 1].end].endswith(_COLONS)
        if last is not None and span.item and (last.listed or opens):
            # A list takes the line that opens it, and only that line, out of the paragraph before.
            if not last.listed and last.first < i - 1:
                blocks[-1] = _Block(last.first, i - 2, False)
                blocks.append(_Block(i - 1, i, True))
            else:
                blocks[-1] = _Block(last.first, i, True)
        elif last is not None and not span.item and not last.listed and "\n\n" not in between:
            blocks[-1] = _Block(last.first, i, False)
        else:
            blocks.append(_Block(i, i, span.item))
    return blocks


def _joined(text: str, spans: tuple[Span, ...], chosen: set[int]) -> str:
    """The chosen sentences as they stand, neighbours with what is between them, gaps as an ellipsis."""
    gap = "……" if chinese_share(text) > 0.5 else " … "
    order = sorted(chosen)
    said = text[spans[order[0]].start : spans[order[0]].end]
    for before, i in pairwise(order):
        if i == before + 1:
            said += text[spans[before].end : spans[i].start]
        else:
            said += "\n…\n" if spans[i].item or spans[before].item else gap
        said += text[spans[i].start : spans[i].end]
    return said.strip()
