"""The desk where messages become stored turns: load history -> respond -> store -> publish.

Owns order (one answer at a time in a conversation, first come first served), once-only (the same message id gets
the same turn, however often and however early it is sent again), and the bound on work in hand. A turn leaves here
only after its commit. Holds the live assistant, which can be swapped while it works. Decides nothing about what is
said and knows no model: see `readers`.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from bot import FrontdeskError
from bot.conversation.messages import (
    HandOver,
    Message,
    Part,
    Reply,
    Thresholds,
    Turn,
    Understanding,
    Versions,
    pseudonym,
    readable,
)
from bot.conversation.understanding import UNAVAILABLE
from bot.events import BLOCK, Deliver, Event, EventLog, TurnEvent, follow, last_text, turn_event
from bot.storage.conversations import ConversationStatus, UnknownConversation, forget, set_status
from bot.storage.database import Database
from bot.storage.faults import RecordUnavailable
from bot.storage.turns import (
    Entry,
    Stored,
    accept_message,
    check_message,
    entries,
    history,
    last_sequence,
    look_up,
    owed,
    store_turn,
)

Told = Callable[[Turn, float, float], None]

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 5.0
FAILURE_TEXT = "Sorry, something went wrong on our side. I have asked a person to look at your question."


class Responder(Protocol):
    """What the desk needs of an assistant: that of `bot.conversation`, or a slow source in a test."""

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        """Text as it is ready, and last the turn for `message`."""


class Overloaded(FrontdeskError):
    """Refused, nothing was done; try again in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many messages are waiting for an answer: try again in {retry_after:.0f} seconds")
        self.retry_after = retry_after


class Desk:
    """Answers messages and keeps them. Safe from any thread. `close` finishes what is in hand; it does not close
    the database. `told` gets every turn made here once it is stored, and the seconds that storing and all of it took.
    """

    def __init__(
        self,
        database: Database,
        assistant: Responder,
        *,
        most_in_hand: int = 256,
        most_in_one_conversation: int = 8,
        workers: int = 16,
        told: Told | None = None,
    ) -> None:
        self.events = EventLog()
        self._database = database
        self._assistant = assistant
        self.most_in_hand = most_in_hand
        self._most_in_one_conversation = most_in_one_conversation
        self._most_at_once = workers
        self._told = told
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="desk")
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[str, str], _Answer] = {}
        self._lanes: dict[str, _Lane] = {}
        self._retry: threading.Timer | None = None
        self._closed = False

    # -- messages in ------------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> Iterator[str | Turn]:
        """Text as it is written and, once it is durable, the turn. Work begins at once and does not depend on
        anybody reading; a message that was answered before yields its stored turn alone.

        Raises Overloaded, UnknownConversation, or FrontdeskError for a message that cannot be stored. The iterator
        raises RecordUnavailable if the turn could not be made durable; sending the message again is then safe.
        """
        return self._take_in(message).follow()

    def answer(self, message: Message) -> Turn:
        """The stored turn for `message`; raises what `receive` does."""
        for item in self.receive(message):
            if isinstance(item, Turn):
                return item
        raise AssertionError("an answer ends with its turn or raises")

    def listen(self, message: Message, deliver: Deliver) -> tuple[Callable[[], None], TurnEvent | None]:
        """As `receive`, for who hears events: `deliver` gets what happens in the conversation from the first word of
        this answer on (see `EventLog.attach`), until the call that comes back. With it the turn, if it is stored
        already: then it need not be waited for."""
        answer = self._take_in(message)
        if answer.stored is not None:
            return _nothing, answer.stored
        leave = self.events.attach(message.conversation, answer.since, deliver, tuple)
        # Stored before we attached: the event is gone by, and nothing else will come.
        return leave, answer.stored

    def accept(self, message: Message) -> None:
        """Returns once `message` is durable; it is answered in the background, if need be after a restart
        (`resume`). Raises what `receive` does, and RecordUnavailable if it could not be made durable."""
        answer = self._take_in(message)
        if not answer.promised:
            accept_message(self._database, answer.message, answer.sequence)
            answer.promised = True
            if answer.failed:  # before the promise was made, so nobody took it up again
                self._resume_later()

    def resume(self) -> int:
        """Takes up every message that was accepted and never answered; how many there were. Call after start."""
        found = owed(self._database)
        for entry in found:
            try:
                self._take_in(entry.message)
            except Overloaded:
                self._resume_later()
                break
        return len(found)

    # -- events out -------------------------------------------------------------------------------------------------

    def attach(self, conversation: str, after: int | None, deliver: Deliver) -> Callable[[], None]:
        """Calls `deliver` with every event behind id `after`, or from now on; see `EventLog.attach`.

        Raises UnknownConversation, but for None, which reads nothing from the record.
        """
        if after is None:
            return self.events.attach(conversation, self.events.last(conversation), deliver, tuple)
        last = last_sequence(self._database, conversation)
        # A number beyond what can have happened, made up or of a record that was restored, must not hide what comes.
        after = max(0, min(after, max(self.events.last(conversation), last_text(last + 1))))
        place = max(0, after // BLOCK - 1)
        return self.events.attach(
            conversation, after, deliver, lambda: entries(self._database, conversation, after=place)
        )

    def subscribe(self, conversation: str, after: int = 0, *, patience: float = 15.0) -> Iterator[Event | None]:
        """The same as an iterator for a thread of its own; None after `patience` seconds in which nothing happened."""
        return follow(lambda deliver: self.attach(conversation, after, deliver), patience)

    # -- care of a conversation, of the service ---------------------------------------------------------------------

    def set_status(self, conversation: str, status: ConversationStatus, *, actor: str) -> None:
        """Stores and publishes a change of status. Raises UnknownConversation."""
        set_status(self._database, conversation, status, actor=actor)
        self.events.status(conversation, last_sequence(self._database, conversation), status)

    def forget(self, conversation: str, *, actor: str) -> bool:
        """Deletes the conversation and its events; an answer in the making is not stored. False if there is none."""
        gone = forget(self._database, conversation, actor=actor)
        self.events.forget(conversation)
        return gone

    def swap(self, assistant: Responder) -> None:
        """Answers begun from now on are the new assistant's; those begun are finished by the old one."""
        self._assistant = assistant

    @property
    def in_hand(self) -> int:
        """How many messages are being answered or wait for it."""
        return len(self._in_hand)

    @property
    def waiting(self) -> int:
        """How many of them wait for their answer to begin."""
        return max(0, len(self._in_hand) - min(len(self._lanes), self._most_at_once))

    def close(self, *, seconds: float = 30.0) -> None:
        """Refuses new messages and finishes those in hand, for at most `seconds`. Safe to call twice."""
        with self._lock:
            self._closed = True
            if self._retry is not None:
                self._retry.cancel()
            answers = list(self._in_hand.values())
        until = time.monotonic() + seconds
        finished = all([answer.wait(until - time.monotonic()) for answer in answers])
        self._workers.shutdown(wait=finished, cancel_futures=not finished)

    # -- the work ---------------------------------------------------------------------------------------------------

    def _take_in(self, message: Message) -> _Answer:
        """The answer to `message`: in hand, stored, or begun now."""
        message = replace(message, text=readable(message.text))
        check_message(message)
        key = (message.conversation, message.id)
        with self._lock:
            if key in self._in_hand:
                return self._in_hand[key]
        last, entry = look_up(self._database, message.conversation, message.id)
        if entry is not None and entry.turn is not None:
            return _Answer.of(entry)
        with self._lock:
            if key in self._in_hand:
                return self._in_hand[key]
            if self._closed:
                raise RecordUnavailable("the service is stopping: try again in a moment")
            lane = self._lanes.get(message.conversation)
            waiting = len(lane.answers) if lane is not None else 0
            if len(self._in_hand) >= self.most_in_hand or waiting >= self._most_in_one_conversation:
                raise Overloaded(retry_after=1.0)
            if lane is None:
                lane = self._lanes[message.conversation] = _Lane(last)
            sequence = entry.sequence if entry is not None else lane.last + 1
            lane.last = max(lane.last, sequence)
            answer = self._in_hand[key] = _Answer(message, sequence, promised=entry is not None)
            answer.since = self.events.last(message.conversation)
            lane.answers.append(answer)
            if not waiting:
                self._workers.submit(self._work, lane)
        return answer

    def _work(self, lane: _Lane) -> None:
        """Answers the first message of a lane, then sends the lane to the end of the queue."""
        answer = lane.answers[0]
        problem: FrontdeskError | None = None
        stored: Stored | None = None
        try:
            stored = self._answer(answer)
        except FrontdeskError as error:
            problem = error
        except Exception as error:
            _log.exception("a message of conversation %s", pseudonym(answer.message.conversation))
            problem = FrontdeskError(f"the answer failed ({type(error).__name__}): see the log of the service")
        with self._lock:
            lane.answers.popleft()
            del self._in_hand[answer.message.conversation, answer.message.id]
            if lane.answers:
                self._workers.submit(self._work, lane)
            else:
                del self._lanes[answer.message.conversation]
        if stored is not None:
            answer.finish(stored.turn)
        elif problem is not None:
            self._report(answer, problem)
            answer.fail(problem)

    def _answer(self, answer: _Answer) -> Stored:
        """Load history -> respond -> store -> publish."""
        message = answer.message
        turn = self._respond(answer)
        made = time.perf_counter()
        try:
            stored = store_turn(self._database, turn, answer.sequence)
        except (RecordUnavailable, UnknownConversation):
            raise
        except Exception:
            _log.exception("a turn of conversation %s cannot be stored", pseudonym(message.conversation))
            stored = store_turn(self._database, _failure(message), answer.sequence)
        if self._told is not None and stored.fresh:
            now = time.perf_counter()
            self._told(stored.turn, now - made, now - answer.began)
        entry = Entry(stored.sequence, message, stored.turn, None)
        answer.stored = turn_event(entry)  # before it is published: who listens has either this or the event
        self.events.turn(entry)
        if stored.status is not None:
            self.events.status(message.conversation, stored.sequence, stored.status)
        return stored

    def _respond(self, answer: _Answer) -> Turn:
        """The assistant's turn, its text passed on as it comes; an honest failure if it gives none."""
        message = answer.message
        assistant = self._assistant
        try:
            for item in assistant.respond(message, history(self._database, message.conversation)):
                if not isinstance(item, Turn):
                    answer.add(item)
                    self.events.token(message.conversation, answer.sequence, message.id, item)
                elif (item.message.conversation, item.message.id) == (message.conversation, message.id):
                    return item
                else:
                    raise AssertionError("the assistant answered another message")
            raise AssertionError("the assistant gave no turn")
        except RecordUnavailable:
            raise
        except Exception:
            _log.exception("the assistant failed on a message of conversation %s", pseudonym(message.conversation))
            return _failure(message)

    def _report(self, answer: _Answer, problem: FrontdeskError) -> None:
        message = answer.message
        self.events.error(message.conversation, answer.sequence, message.id, str(problem))
        if answer.promised and isinstance(problem, RecordUnavailable):
            self._resume_later()

    def _resume_later(self) -> None:
        """An accepted message is owed an answer also when nobody sends it again."""
        with self._lock:
            if self._closed or (self._retry is not None and self._retry.is_alive()):
                return
            self._retry = threading.Timer(_RETRY_SECONDS, self._resume_again)
            self._retry.daemon = True
            self._retry.start()

    def _resume_again(self) -> None:
        try:
            self._retry = None
            self.resume()
        except FrontdeskError:
            self._resume_later()


@dataclass(slots=True, eq=False)
class _Lane:
    """The messages of one conversation that wait for an answer; the first is being answered."""

    last: int
    """The highest place given to a message."""
    answers: deque[_Answer] = field(default_factory=deque)


class _Answer:
    """An answer in the making. Any number of readers follow it, each from its beginning."""

    def __init__(self, message: Message, sequence: int, *, promised: bool) -> None:
        self.message = message
        self.sequence = sequence
        self.promised = promised
        """Whether the message is durable: then it is owed an answer, whatever happens."""
        self.began = time.perf_counter()
        self.since = 0
        """The last event of the conversation before this answer began."""
        self.stored: TurnEvent | None = None
        self._changed = threading.Condition()
        self._chunks: list[str] = []
        self._outcome: Turn | FrontdeskError | None = None

    @classmethod
    def of(cls, entry: Entry) -> _Answer:
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


def _nothing() -> None:
    """Ends what was never begun."""


def _failure(message: Message) -> Turn:
    """What is true when nothing else can be said: it failed, and a person will look."""
    understanding = Understanding(None, 0.0, (), 0.0, (), "en", UNAVAILABLE)
    return Turn(
        id=uuid.uuid4().hex,
        message=message,
        parts=(Part(message.text, understanding, (), HandOver("error")),),
        reply=Reply(FAILURE_TEXT, (), (), "handed_over"),
        versions=Versions(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE),
        thresholds=Thresholds(),
    )
