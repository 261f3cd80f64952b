"""What happens in a conversation, as numbered events that every open page follows and a lost connection resumes.

Ids rise within a conversation and derive from the message's place n in it: n * 10,000 + chunk for the text as it
comes, n * 10,000 + 9,000 for the finished turn, what agents write and how the status changes above that. So whatever
is stored always has the same id, and a client that was cut off, or outlived a restart, gets from the record what it
missed. Bounded: the
text of a finished turn is forgotten here. Knows nothing about how answers are made or carried.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bot.conversation.messages import Turn
from bot.storage.conversations import ConversationStatus
from bot.storage.happenings import BLOCK, TURN, AgentMessage, Happening
from bot.storage.turns import Entry

_logger = logging.getLogger(__name__)
_TEXT = 8_900
"""Up to here text may come; the ids from here to the turn are kept for errors, which must not get lost."""
_KEPT_PER_CONVERSATION = 512
_KEPT_CONVERSATIONS = 2_048


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A piece of the reply to `message_id` that is being written; the turn that follows is what counts."""

    id: int
    message_id: str
    text: str
    restart: bool = False
    """The first of another attempt, because the one before died with its process or could not be stored: what came of
    that one no longer counts."""


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """An answer that is stored."""

    id: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """`name` is the agent's who did it, empty where nobody of the staff did."""

    id: int
    status: ConversationStatus
    name: str = ""


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """A reply of an agent that is stored."""

    id: int
    message: AgentMessage


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The answer to `message_id` could not be stored; sending the message again, with the same id, is safe."""

    id: int
    message_id: str
    problem: str


Event = TokenEvent | TurnEvent | StatusEvent | AgentEvent | ErrorEvent
Deliver = Callable[[Event], None]


def turn_event(entry: Entry) -> TurnEvent:
    """The event of a stored turn, with the id it had when it happened."""
    assert entry.turn is not None
    return TurnEvent(entry.sequence * BLOCK + TURN, entry.turn)


def happening_event(happening: Happening) -> StatusEvent | AgentEvent:
    """The event of a reply or a change of status, with the id it was given when it was stored."""
    if isinstance(happening, AgentMessage):
        assert happening.event is not None, "nobody but colleagues hears of a note"
        return AgentEvent(happening.event, happening)
    return StatusEvent(happening.event, happening.status, happening.name)


def stored_events(entries: Sequence[Entry], happenings: Sequence[Happening]) -> list[Event]:
    """The events of what is stored, in order. What happened behind a message is told behind its turn, not before."""
    owed = {entry.sequence for entry in entries if entry.turn is None}
    events: list[Event] = [turn_event(entry) for entry in entries if entry.turn is not None]
    events += [happening_event(one) for one in happenings if one.after not in owed]
    return sorted(events, key=lambda event: event.id)


def last_text(place: int) -> int:
    """The highest id that text of the message at `place` can have."""
    return place * BLOCK + _TEXT


class EventLog:
    """The events of all conversations in this process. Safe from any thread; no call waits for a listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    def token(self, conversation: str, sequence: int, message_id: str, text: str, *, again: bool = False) -> None:
        """A chunk of text. Beyond 8,900 chunks of one reply the rest comes with the turn alone. `again`: an attempt
        at this reply was made before, perhaps by another process, and somebody may have heard of it."""
        with self._lock:
            log = self._log(conversation)
            first = log.attempt is None or log.attempt.message_id != message_id
            if log.attempt is None or first:
                log.attempt = _Attempt(message_id, sequence, again or log.last > sequence * BLOCK)
            log.attempt.chunks.append(text)
            event = TokenEvent(sequence * BLOCK, message_id, text, restart=first and log.attempt.again)
            log.publish(event, most=last_text(sequence))

    def error(self, conversation: str, sequence: int, message_id: str, problem: str) -> None:
        with self._lock:
            log = self._log(conversation)
            log.attempt = None
            log.publish(ErrorEvent(sequence * BLOCK, message_id, problem), most=sequence * BLOCK + TURN - 1)

    def turn(self, entry: Entry) -> None:
        """A stored turn; its text so far is forgotten, since the turn holds all of it."""
        event = turn_event(entry)
        with self._lock:
            log = self._log(entry.message.conversation)
            kept = [each for each in log.events if not _is_text_of(each, entry.message.id)]
            log.events = deque(kept, maxlen=_KEPT_PER_CONVERSATION)
            log.attempt = None
            log.last = max(log.last, event.id)
            log.deliver(event)

    def happened(self, conversation: str, happening: Happening) -> None:
        """A reply of an agent or a change of status that is stored. Call in the order of their events."""
        event = happening_event(happening)
        with self._lock:
            log = self._log(conversation)
            log.last = max(log.last, event.id)
            log.events.append(event)
            log.deliver(event)

    def last(self, conversation: str) -> int:
        """The highest id given out here since the start, 0 if nothing happened."""
        with self._lock:
            log = self._logs.get(conversation)
            return log.last if log is not None else 0

    def attach(
        self, conversation: str, after: int, deliver: Deliver, stored: Callable[[], Sequence[Event]]
    ) -> Callable[[], None]:
        """Calls `deliver` with every event behind id `after`, in order and once: first those missed, then live.

        `stored` reads from the record the events that may have been missed. `deliver` is called under a
        lock, from any thread, and must return at once (`queue.put`, `loop.call_soon_threadsafe`); one that raises
        hears nothing more. Returns the call that ends it. Who comes while an attempt is made that is not the first gets
        its text so far as one chunk: the number of their last chunk does not tell which attempt that was of.
        """
        listener = _Listener(deliver, after)
        with self._lock:
            log = self._log(conversation)
            # A client that heard the text of an attempt which died with its process: ids go on behind what it heard.
            if log.attempt is not None and after > max(log.last, log.attempt.sequence * BLOCK):
                log.attempt.again = True
            log.last = max(log.last, after)
            log.listeners.append(listener)

        def detach() -> None:
            with self._lock:
                if listener in log.listeners:
                    log.listeners.remove(listener)

        try:
            # The record is read without the lock; what happens meanwhile waits in the listener.
            missed = stored()
            with self._lock:
                listener.go_live([*missed, *log.events], log.so_far())
        except BaseException:
            detach()
            raise
        return detach

    def forget(self, conversation: str) -> None:
        """Lets go of what was said. Listeners stay: whoever waits for an answer must hear that it will not come."""
        with self._lock:
            if conversation in self._logs:
                self._logs[conversation].events.clear()
                self._logs[conversation].attempt = None

    def _log(self, conversation: str) -> _Log:
        log = self._logs.setdefault(conversation, _Log())
        self._logs.move_to_end(conversation)
        while len(self._logs) > _KEPT_CONVERSATIONS:
            idle = next((name for name, each in self._logs.items() if not each.listeners and each is not log), None)
            if idle is None:
                break
            del self._logs[idle]
        return log


class Bell:
    """Rings for colleagues: something happened in a conversation, whatever it was. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str], None]] = []
        self._process = secrets.token_hex(4)  # what rang before a restart is not known after it
        self._rung = 0

    @property
    def mark(self) -> str:
        """Equal marks: nothing happened between them."""
        return f"{self._process}.{self._rung}"

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Calls `listener` with the conversation's id each time; it must return at once. Returns the call that ends
        it."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

        def leave() -> None:
            with self._lock:
                self._listeners = [one for one in self._listeners if one is not listener]

        return leave

    def ring(self, conversation: str) -> None:
        with self._lock:
            self._rung += 1
            listeners = self._listeners
        for listener in listeners:
            listener(conversation)


@dataclass(slots=True, eq=False)
class _Listener:
    deliver: Deliver
    after: int
    early: list[Event] | None = field(default_factory=list)
    """What happened before the missed events were delivered; None once live."""

    def hear(self, event: Event) -> None:
        if self.early is not None:
            self.early.append(event)
        elif event.id > self.after:
            self.after = event.id
            self.deliver(event)

    def go_live(self, missed: Sequence[Event], so_far: TokenEvent | None) -> None:
        early, self.early = self.early or [], None
        everything = {event.id: event for event in (*missed, *early)}
        if so_far is not None:
            everything = {n: event for n, event in everything.items() if not _is_text_of(event, so_far.message_id)}
            everything[so_far.id] = so_far
        # The text of a turn that is among them is not sent again: the turn replaces it.
        done = [event.turn.message.id for event in everything.values() if isinstance(event, TurnEvent)]
        for number in sorted(everything):
            event = everything[number]
            if not any(_is_text_of(event, message_id) for message_id in done):
                self.hear(event)


@dataclass(slots=True)
class _Attempt:
    """At the answer to a message, until that is stored or failed."""

    message_id: str
    sequence: int
    again: bool
    """Whether somebody may have heard of an earlier attempt."""
    chunks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Log:
    last: int = 0
    """The highest id given out, or heard of from a client that resumed."""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT_PER_CONVERSATION))
    """Without turns: those are in the record."""
    listeners: list[_Listener] = field(default_factory=list)
    attempt: _Attempt | None = None

    def publish(self, event: TokenEvent | ErrorEvent, most: int) -> None:
        """Gives the event the next id above its own and all others; drops it if that is over `most`."""
        number = max(self.last, event.id) + 1
        if number > most:
            return
        self.last = number
        numbered = replace(event, id=number)
        self.events.append(numbered)
        self.deliver(numbered)

    def so_far(self) -> TokenEvent | None:
        """The text of an attempt that is not the first, for one who comes in the middle of it."""
        if self.attempt is None or not self.attempt.again or self.last >= last_text(self.attempt.sequence):
            return None
        self.last += 1
        return TokenEvent(self.last, self.attempt.message_id, "".join(self.attempt.chunks), restart=True)

    def deliver(self, event: Event) -> None:
        for listener in tuple(self.listeners):
            try:
                listener.hear(event)
            except Exception:
                # A listener that is gone must not cost anybody an answer.
                _logger.exception("a listener failed and hears nothing more")
                self.listeners.remove(listener)


def _is_text_of(event: Event, message_id: str) -> bool:
    return isinstance(event, TokenEvent) and event.message_id == message_id
