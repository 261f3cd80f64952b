"""Answers in the making, and the lane of each conversation that they wait in.

Owns how any number of readers follow one answer, and what is said when too many wait. Knows neither who answers nor
where turns are stored.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bot import FrontdeskError
from bot.conversation.messages import Message, Turn
from bot.events import TurnEvent, turn_event
from bot.storage.turns import Entry


class Overloaded(FrontdeskError):
    """Refused, nothing was done; try again in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many messages are waiting for an answer: try again in {retry_after:.0f} seconds")
        self.retry_after = retry_after


@dataclass(slots=True, eq=False)
class Lane:
    """The messages of one conversation that wait for an answer; the first is being answered."""

    last: int
    """The highest place given to a message."""
    answers: deque[Answer] = field(default_factory=deque)

    def at(self, place: int) -> Answer | None:
        """The answer to the message at `place`, if it is in hand."""
        return next((answer for answer in self.answers if answer.sequence == place), None)


class Answer:
    """An answer in the making. Any number of readers follow it, each from its beginning."""

    def __init__(self, message: Message, sequence: int, *, promised: bool) -> None:
        self.message = message
        self.sequence = sequence
        self.promised = promised
        """Whether the message is durable: then it is owed an answer, whatever happens."""
        self.again = promised
        """Whether it was accepted and not answered before, so that somebody may have heard a beginning."""
        self.silent = False
        """Whether a person had the conversation when the answer began: then it is theirs to give."""
        self.began = time.perf_counter()
        self.since = 0
        """The last event of the conversation before this answer began."""
        self.stored: TurnEvent | None = None
        self._changed = threading.Condition()
        self._chunks: list[str] = []
        self._outcome: Turn | FrontdeskError | None = None

    @classmethod
    def of(cls, entry: Entry) -> Answer:
        """One that was finished before."""
        answer = cls(entry.message, entry.sequence, promised=True)
        answer._outcome = entry.turn
        answer.stored = turn_event(entry)
        return answer

    def add(self, chunk: str) -> None:
        with self._changed:
            self._chunks.append(chunk)
            self._changed.notify_all()

    def finish(self, turn: Turn) -> None:
        with self._changed:
            self._outcome = turn
            self._changed.notify_all()

    def fail(self, problem: FrontdeskError) -> None:
        with self._changed:
            self._outcome = problem
            self._changed.notify_all()

    @property
    def failed(self) -> bool:
        return isinstance(self._outcome, FrontdeskError)

    def wait(self, seconds: float) -> bool:
        """Whether it was finished, well or badly, within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._outcome is not None, seconds)

    def follow(self) -> Iterator[str | Turn]:
        seen = 0
        outcome = None
        while outcome is None:
            with self._changed:
                while len(self._chunks) == seen and self._outcome is None:
                    self._changed.wait()
                new, outcome = self._chunks[seen:], self._outcome
            yield from new
            seen += len(new)
        if isinstance(outcome, FrontdeskError):
            raise outcome
        yield outcome
