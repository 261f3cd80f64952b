"""From a question to its meaning: what the reader thinks, what the phrase book knows and what the text shows.

Owns the two protocols that the conversation needs from the rest of the house, and the thresholds' first use. Knows
nothing about the conversation's state (see dialogue) or about how a model works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.conversation.messages import Candidate, Entity, Sentiment, Thresholds, Understanding
from bot.conversation.phrases import PhraseBook
from retriever.passages import Hit, Query

UNAVAILABLE = "unavailable"
"""The version written down when a model or an index failed and the turn was answered without it."""

EXACT = 0.99
"""Confidence of a message that is word for word one of the company's own examples or titles."""

RUNNERS_UP = 4

SHORT_FOLLOW_UP = 14
"""Characters up to which a message may lean on the one before it."""

IN_CONTEXT = 0.9
"""What is left of a confidence that rests on the message before."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader made of one question: candidates best first, calibrated; `vectors` is the reader's own affair."""

    candidates: tuple[Candidate, ...]
    out_of_scope: float
    vectors: object = None
    sentiment: Sentiment = ""
    urgent: bool = False


class Reader(Protocol):
    """A model that reads questions. Called once a turn with every question of the message."""

    @property
    def version(self) -> str:
        """Names the exact model, for the record."""

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        """One reading a question, in order. May raise anything: the turn is then answered without it."""


class Searcher(Protocol):
    """The knowledge base. `reading` may be None when the reader failed: words alone must then do."""

    @property
    def version(self) -> str:
        """Names the exact index, for the record."""

    def mended(self, text: str) -> str:
        """`text` without slips of the keyboard, as far as the knowledge base knows what was meant."""

    def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
        """The `k` best passages, best first. May raise anything: the turn is then answered without it."""


def understand(
    query: Query,
    reading: Reading | None,
    phrases: PhraseBook,
    entities: tuple[Entity, ...],
    language: str,
    thresholds: Thresholds,
    model_version: str,
) -> Understanding:
    """One question's meaning. `intent` is set only when it may be acted on.

    The reader judges what its encoder can read; the phrase book judges the rest, and settles any message that is
    word for word an example. `reading` is None when the reader failed.
    """
    exact = phrases.exact(query.text)
    candidates: tuple[Candidate, ...] = ()
    out_of_scope = 0.0
    by_phrases = exact is not None or phrases.reads(query.text)
    if exact is not None:
        candidates, out_of_scope = ((Candidate(exact, EXACT),), 0.0) if exact else ((), 1.0)
    elif by_phrases:
        candidates, out_of_scope = _by_phrases(query, phrases)
    elif reading is not None:
        candidates, out_of_scope = reading.candidates, reading.out_of_scope
    best = candidates[0] if candidates else None
    needed = thresholds.phrase if by_phrases else thresholds.intent
    acted_on = best is not None and best.confidence >= needed and out_of_scope <= thresholds.out_of_scope
    return Understanding(
        intent=best.intent if best is not None and acted_on else None,
        confidence=best.confidence if best is not None else 0.0,
        runners_up=candidates[1:RUNNERS_UP] if acted_on else candidates[:RUNNERS_UP],
        out_of_scope=out_of_scope,
        entities=(*entities, *phrases.unknown_names(query.text)),
        language=language,
        model_version=model_version if reading is not None else UNAVAILABLE,
        sentiment=reading.sentiment if reading is not None else "",
        urgent=reading is not None and reading.urgent,
    )


def _by_phrases(query: Query, phrases: PhraseBook) -> tuple[tuple[Candidate, ...], float]:
    """A short message that resembles nothing is read again behind the customer's last one: "那到加拿大呢？"."""
    candidates, out_of_scope = phrases.match(query.text)
    before = next((line.text for line in reversed(query.history) if line.speaker == "customer"), "")
    if not before or len(query.text) > SHORT_FOLLOW_UP or (candidates and candidates[0].confidence >= 0.5):
        return candidates, out_of_scope
    together, _ = phrases.match(f"{before} {query.text}")
    return tuple(Candidate(one.intent, IN_CONTEXT * one.confidence) for one in together), out_of_scope
