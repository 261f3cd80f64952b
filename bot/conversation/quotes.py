"""Which sentences of the found passages answer: chosen, never written.

Owns the choice and its form: original order, lists and table rows whole, gaps shown, no pronoun left without its noun.
Knows nothing about decisions or citations' addresses.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.conversation.words import Span, chinese_share, content_words, sentences
from retriever.passages import Hit, Passage

SentenceScorer = Callable[[str, Sequence[str]], Sequence[float]]
"""`(question, sentences) -> how well each answers`, about 0 to 1, such as the cosine of an encoder's vectors."""

MOST_SENTENCES = 3
SHORT = 320
"""A passage of so many characters is quoted whole."""
MOST_OF_LIST = 700
WORTH_ADDING = 0.6
"""Share of the best sentence's score from which another sentence is quoted too."""
SECOND_SOURCE = 0.5
"""Share of the question's words, missing so far, that a second passage must bring to be quoted as well."""

_CONTEXT_WEIGHT = 0.35
_NEEDS_CONTEXT = re.compile(
    r"(?:it|they|this|these|that|those|he|she|its|their|both|then|otherwise|however|in that case|if so|after that"
    r"|instead|once that|also)\b|它|他们|她们|这[些个样类种时]?|那[些个样类种时]?|否则|此时|届时|同时|另外",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quote:
    """What is quoted from one passage. `text` is `passage.text` at `spans`, gaps shown as an ellipsis; `heading` is
    put before it when the first sentence does not stand alone, else empty."""

    passage: Passage
    text: str
    spans: tuple[Span, ...]
    heading: str = ""


def choose_quotes(
    question: str, context: str, hits: Sequence[Hit], scorer: SentenceScorer | None = None
) -> tuple[Quote, ...]:
    """Quotes from the best passage, and from a second one when it adds what the first does not say.

    `context` is what the customer asked before, for questions that lean on it; empty when there is nothing.
    Scores are shared question words weighted by rarity among the sentences, plus the sentence's place and, if given,
    the scorer's opinion. Never empty for non-empty hits.
    """
    weights = _weights(question, context, hits)
    first = _quote(question, hits[0], weights, scorer)
    covered = set(content_words(f"{first.text} {first.passage.title} {' '.join(first.passage.heading)}"))
    missing = {word: weight for word, weight in weights.items() if word not in covered}
    for hit in hits[1:]:
        added = sum(missing.get(word, 0.0) for word in set(content_words(hit.passage.text)))
        if missing and added >= SECOND_SOURCE * sum(weights.values()) and hit.passage.text != first.passage.text:
            return (first, _quote(question, hit, weights, scorer))
    return (first,)


def _weights(question: str, context: str, hits: Sequence[Hit]) -> dict[str, float]:
    """Inverse sentence frequency of the question's words; words of the context count less."""
    units = [
        set(content_words(hit.passage.text[span.start : span.end]))
        for hit in hits
        for span in sentences(hit.passage.text)
    ]
    seen = Counter(word for unit in units for word in unit)
    rarity = {word: math.log(1 + len(units) / (1 + seen[word])) for word in content_words(f"{question} {context}")}
    asked = set(content_words(question))
    return {word: weight if word in asked else _CONTEXT_WEIGHT * weight for word, weight in rarity.items()}


def _quote(question: str, hit: Hit, weights: dict[str, float], scorer: SentenceScorer | None) -> Quote:
    passage = hit.passage
    text = passage.text
    spans = sentences(text)
    if not spans:
        return Quote(passage, text.strip() or passage.title, ())
    whole = len(text) <= SHORT and len(spans) <= MOST_SENTENCES + 1
    chosen = set(range(len(spans))) if whole else _chosen(question, text, spans, weights, scorer)
    heading = ""
    first = min(chosen)
    if _NEEDS_CONTEXT.match(text[spans[first].start :]):
        if first > 0:
            chosen.add(first - 1)
        else:
            heading = passage.heading[-1] if passage.heading else passage.title
    return Quote(passage, _joined(text, spans, chosen), tuple(spans[i] for i in sorted(chosen)), heading)


def _chosen(
    question: str, text: str, spans: tuple[Span, ...], weights: dict[str, float], scorer: SentenceScorer | None
) -> set[int]:
    pieces = [text[span.start : span.end] for span in spans]
    scores = [_words_score(piece, weights) for piece in pieces]
    if scorer is not None:
        scores = [0.4 * words + 0.6 * meaning for words, meaning in zip(scores, scorer(question, pieces), strict=True)]
    # Articles state first what matters most; without any shared word the beginning is the answer.
    scores = [score + 0.15 * (1 - place / len(scores)) for place, score in enumerate(scores)]
    best = max(range(len(scores)), key=lambda i: scores[i])
    near = {best - 1, best + 1}
    order = sorted(range(len(scores)), key=lambda i: -scores[i] - (0.1 if i in near else 0.0))
    chosen: set[int] = set()
    for i in order:
        group = _with_its_list(text, spans, i)
        if i in chosen or (chosen and scores[i] < WORTH_ADDING * scores[best]):
            continue
        if not chosen or len(chosen | group) <= MOST_SENTENCES:
            chosen |= group
    return chosen


def _words_score(piece: str, weights: dict[str, float]) -> float:
    total = sum(weights.values())
    return sum(weights.get(word, 0.0) for word in set(content_words(piece))) / total if total else 0.0


def _with_its_list(text: str, spans: tuple[Span, ...], i: int) -> set[int]:
    """The sentence alone; for an item or the line that opens a list, the list with that line while it is short."""
    opens = text[spans[i].start : spans[i].end].endswith((":", "："))
    if not spans[i].item and not (opens and i + 1 < len(spans)):
        return {i}
    first = i + 1 if opens and not spans[i].item else i
    while first > 0 and spans[first - 1].item:
        first -= 1
    last = first
    while last + 1 < len(spans) and (spans[last + 1].item or not spans[first].item) and last - first < 8:
        last += 1
    lead_in = (
        {first - 1}
        if first > 0 and text[spans[first - 1].start : spans[first - 1].end].endswith((":", "："))
        else set()
    )
    if spans[last].end - spans[first].start > MOST_OF_LIST:
        return lead_in | {i}
    return lead_in | set(range(first, last + 1))


def _joined(text: str, spans: tuple[Span, ...], chosen: set[int]) -> str:
    """The chosen sentences as they stand, neighbours with what is between them, gaps as an ellipsis."""
    said = ""
    previous: int | None = None
    for i in sorted(chosen):
        if previous is None:
            between = ""
        elif i == previous + 1:
            between = text[spans[previous].end : spans[i].start]
        else:
            between = "……" if chinese_share(text) > 0.5 else " … "
        said += between + text[spans[i].start : spans[i].end]
        previous = i
    return said.strip()
