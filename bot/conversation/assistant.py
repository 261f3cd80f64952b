"""The assistant: from a message and its conversation to a reply, in five steps.

Owns the order of the steps, their timing, and what happens when a model fails. Pure: no store, no channel, no clock
of the day; the same arguments give the same turn but for its milliseconds.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bot import FrontdeskError
from bot.conversation.answers import AlsoAsked, Answer, Link, Writer, article_link
from bot.conversation.dialogue import Matter, decide_all
from bot.conversation.entities import find_entities
from bot.conversation.language import language_of
from bot.conversation.messages import HandOverReason, Message, Part, Thresholds, Turn, Understanding, Versions, readable
from bot.conversation.phrases import PhraseBook
from bot.conversation.playbook import Playbook
from bot.conversation.questions import questions_of
from bot.conversation.quotes import SentenceScorer
from bot.conversation.signals import find_signals
from bot.conversation.state import State, state_of
from bot.conversation.understanding import UNAVAILABLE, Reader, Reading, Searcher, understand
from retriever.passages import Hit, Query

HITS = 8

_log = logging.getLogger(__name__)


class Assistant:
    """Answers messages. Holds only immutable parts, so that threads share it and a new version replaces it whole."""

    def __init__(
        self,
        reader: Reader,
        searcher: Searcher,
        playbook: Playbook,
        phrases: PhraseBook,
        thresholds: Thresholds,
        *,
        link: Link = article_link,
        scorer: SentenceScorer | None = None,
        also_asked: AlsoAsked = lambda topic: (),
    ) -> None:
        self._reader = reader
        self._searcher = searcher
        self._playbook = playbook
        self._phrases = phrases
        self._thresholds = thresholds
        self._writer = Writer(playbook, link, _forgiving(scorer), also_asked)

    def respond(
        self,
        message: Message,
        history: tuple[Turn, ...] = (),
        *,
        waiting: HandOverReason | None = None,
        away: bool = False,
        returned_at: datetime | None = None,
    ) -> Iterator[str | Turn]:
        """Yields the reply's text in chunks as they are ready, and last the turn, whose reply is those chunks joined.

        `history` is the conversation's turns, oldest first; `waiting` is why a person was asked for, outside of the
        turns too; `away`, that none is in at this hour; `returned_at` is when one last gave it back to the bot.

        A failing model or index never raises: the turn is answered without it or handed over, and recorded.
        """
        trace = _Trace()
        state = state_of(history, returned_at)
        state = replace(state, waiting=waiting or state.waiting, away=away)
        message = replace(message, text=readable(message.text))

        asked = self._understand(message, state, trace)
        hits = self._search(asked, trace)
        parts = self._decide(asked, hits, state, message.received_at, trace)
        answer = self._answer(parts, state, trace)
        yield from answer.chunks
        yield self._turn(message, parts, answer, trace)

    def _understand(self, message: Message, state: State, trace: _Trace) -> tuple[_Asked, ...]:
        """The message's questions with what the reader, the phrase book and the patterns make of them."""
        questions = questions_of(message.text, state.lines)
        language = language_of(message.text, state.language, self._playbook.languages)
        slot = self._playbook.slot(state.pending.slot) if state.pending else None
        asked = []
        for query, reading in zip(questions, self._read(questions, trace), strict=True):
            entities = find_entities(
                query.text, message.received_at, self._playbook.patterns(), slot.kind if slot else None
            )
            meaning = understand(
                query,
                reading,
                self._phrases,
                (*entities, *find_signals(query.text)),
                language,
                self._thresholds,
                self._reader.version,
            )
            asked.append(_Asked(query, reading, meaning))
        trace.lap("understand")
        return tuple(asked)

    def _read(self, questions: Sequence[Query], trace: _Trace) -> Sequence[Reading | None]:
        if not _has_words(questions[0]):
            return [Reading((), 0.0)]
        try:
            readings = self._reader.read(self._mended(questions))
            if len(readings) != len(questions):
                raise ValueError(f"{len(questions)} questions were read as {len(readings)}")
        except Exception as error:
            trace.failed("reader", error)
            return [None] * len(questions)
        return readings

    def _mended(self, questions: Sequence[Query]) -> Sequence[Query]:
        """The questions as they are read. What fails here fails again in the search, and is told there."""
        try:
            return [Query(self._searcher.mended(question.text), question.history) for question in questions]
        except Exception:
            return questions

    def _search(self, asked: Sequence[_Asked], trace: _Trace) -> Sequence[tuple[Hit, ...]]:
        """Hits for every question, best first."""
        try:
            hits = [
                self._searcher.search(one.query, one.reading, HITS) if _has_words(one.query) else () for one in asked
            ]
            trace.index = self._searcher.version
        except Exception as error:
            trace.failed("search", error)
            hits = [()] * len(asked)
        trace.lap("search")
        return hits

    def _decide(
        self, asked: Sequence[_Asked], hits: Sequence[tuple[Hit, ...]], state: State, now: datetime, trace: _Trace
    ) -> tuple[Part, ...]:
        matters = [
            Matter(one.query.text, one.meaning, found, state, self._playbook, self._thresholds, now, trace.degraded)
            for one, found in zip(asked, hits, strict=True)
        ]
        parts = decide_all(matters)
        trace.lap("decide")
        return parts

    def _answer(self, parts: tuple[Part, ...], state: State, trace: _Trace) -> Answer:
        answer = self._writer.answer(parts, state)
        trace.lap("answer")
        return answer

    def _turn(self, message: Message, parts: tuple[Part, ...], answer: Answer, trace: _Trace) -> Turn:
        versions = Versions(self._reader.version, trace.index, self._playbook.version)
        return Turn(turn_id(message), message, parts, answer.reply(), versions, self._thresholds, tuple(trace.laps))


def turn_id(message: Message) -> str:
    """The id of the turn that answers `message`: the same message has the same turn, however often it is sent."""
    return hashlib.sha256(f"{message.conversation}\0{message.id}".encode("utf-8", "replace")).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class _Asked:
    query: Query
    reading: Reading | None
    meaning: Understanding


class _Trace:
    """How one turn went: milliseconds of each step, the index that was searched, and whether a part broke."""

    def __init__(self) -> None:
        self.laps: list[tuple[str, float]] = []
        self.index = UNAVAILABLE
        self.degraded = False
        self._since = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.laps.append((step, round((now - self._since) * 1000, 3)))
        self._since = now

    def failed(self, part: str, error: Exception) -> None:
        """A part that the company does not have yet is no fault; anything else is ours, and the customer is told."""
        if isinstance(error, FrontdeskError):
            _log.warning("answering without the %s: %s", part, error)
        else:
            _log.error("the %s failed; answering without it", part, exc_info=error)
            self.degraded = True


def _has_words(query: Query) -> bool:
    return any(character.isalnum() for character in query.text)


def _forgiving(scorer: SentenceScorer | None) -> SentenceScorer | None:
    """A scorer whose failure leaves the choice of sentences to shared words."""
    if scorer is None:
        return None

    def score(question: str, pieces: Sequence[str]) -> Sequence[float]:
        try:
            return scorer(question, pieces)
        except Exception:
            _log.exception("the sentence scorer failed; choosing by words")
            return [0.0] * len(pieces)

    return score
