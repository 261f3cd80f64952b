"""The desk where messages become stored turns: load history -> respond -> store -> publish.

Owns order (one answer at a time in a conversation, first come first served), once-only (the same message id gets
the same turn, however often and however early it is sent again), and the bound on work in hand. A turn leaves here
only after its commit. What agents do goes the same way, in its place behind the customer's last message. Holds the live
assistant, which can be swapped while it works. Decides nothing about what is said and knows no model: see `readers`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection

from bot import FrontdeskError
from bot.conversation.messages import HandOverReason, Message, Turn, pseudonym, readable
from bot.events import Bell, Deliver, Event, EventLog, TurnEvent, last_text, stored_events, turn_event
from bot.fallback import failure, silence
from bot.lanes import Answer, Lane, Overloaded
from bot.responder import Responder, respond
from bot.retry import Retry
from bot.storage import handover
from bot.storage.conversations import UnknownConversation, find_conversation, forget
from bot.storage.database import Database
from bot.storage.faults import RecordUnavailable
from bot.storage.handover import Agent
from bot.storage.happenings import BLOCK, TURN, AgentMessage, Happening, StatusChange, told
from bot.storage.outbox import Kind
from bot.storage.sites import Site
from bot.storage.turns import (
    Entry,
    Stored,
    accept_message,
    check_message,
    entries,
    last_place,
    last_sequence,
    look_up,
    overtaken,
    owed,
    past,
    place_message,
    store_turn,
)

T = TypeVar("T", bound=Happening | None)
Told = Callable[[Turn, float, float], None]

_log = logging.getLogger(__name__)
_ORDERS = 1024


class Desk:
    """Answers messages and keeps them. Safe from any thread. `close` finishes what is in hand; it does not close
    the database. `told` gets every turn made here once it is stored, and the seconds that storing and all of it took.
    `patience` is how long a customer whom an agent has taken may wait for a word (see `look_after`); `site_of` gives
    a site with its hours, under the id that conversations have of it.
    """

    def __init__(
        self,
        database: Database,
        assistant: Responder,
        *,
        most_in_hand: int = 256,
        most_in_one_conversation: int = 8,
        workers: int = 16,
        notify: Sequence[Kind] = (),
        patience: timedelta = timedelta(minutes=10),
        told: Told | None = None,
        site_of: Callable[[str], Site | None] = lambda site: None,
    ) -> None:
        self.events = EventLog()
        self.bell = Bell()
        self._notify = tuple(notify)
        self._patience = patience
        self.answered: Callable[[str, float], None] = lambda conversation, milliseconds: None
        """Called behind each answer with its conversation and the milliseconds of work in it; must return at once."""
        self._database = database
        self._assistant = assistant
        self.most_in_hand = most_in_hand
        self._most_in_one_conversation = most_in_one_conversation
        self._most_at_once = workers
        self._told = told
        self._site_of = site_of
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="desk")
        self._lock = threading.Lock()
        self._orders = [threading.Lock() for _ in range(_ORDERS)]
        self._in_hand: dict[tuple[str, str], Answer] = {}
        self._lanes: dict[str, Lane] = {}
        self._retry = Retry(self.resume)
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
            return (lambda: None), answer.stored
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
                self._retry.later()

    def resume(self) -> int:
        """Takes up every message that was accepted and never answered; how many there were. Call after start."""
        found = owed(self._database)
        for entry in found:
            try:
                self._take_in(entry.message)
            except Overloaded:
                self._retry.later()
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
        place = after // BLOCK

        def stored() -> Sequence[Event]:
            # What happened is read first: it may come behind a turn that is stored meanwhile, never before one.
            happened = told(self._database, conversation, place)
            return stored_events(entries(self._database, conversation, after=place - 1), happened)

        return self.events.attach(conversation, after, deliver, stored)

    # -- people: each step is durable and told when the call returns; all raise UnknownConversation -------------------

    def ask_for_person(self, conversation: str, reason: HandOverReason) -> None:
        """Puts the conversation into the queue, if no person has or awaits it."""
        self._take_step(
            conversation, lambda c, after: handover.ask(c, conversation, reason, after=after, notify=self._notify)
        )

    def end(self, conversation: str) -> None:
        """The customer says that the matter is settled."""
        self._take_step(conversation, lambda c, after: handover.resolve(c, conversation, None, after=after))

    def take(self, conversation: str, agent: Agent, *, instead_of: str = "") -> None:
        """From now on the agent answers and the bot is silent. Raises Taken."""
        self._take_step(
            conversation, lambda c, after: handover.take(c, conversation, agent, after=after, instead_of=instead_of)
        )

    def give_back(self, conversation: str, agent: Agent) -> None:
        """From now on the bot answers again. Raises Taken."""
        self._take_step(conversation, lambda c, after: handover.give_back(c, conversation, agent, after=after))

    def resolve(self, conversation: str, agent: Agent) -> None:
        """Raises Taken."""
        self._take_step(conversation, lambda c, after: handover.resolve(c, conversation, agent, after=after))

    def look_after(self, now: datetime) -> int:
        """Puts back into the queue whom an agent left: the account was removed, or there was no word for `patience`.
        How many these were. Call often."""
        with self._database.read() as connection:
            found = handover.left(connection, now, self._patience)
        return sum(self._put_back(conversation, now) for conversation in found)

    def reply(self, conversation: str, agent: Agent, name: str, text: str) -> AgentMessage:
        """What the agent says, once under the id `name`. Raises NotTaken, Taken, or FrontdeskError for the text."""
        text = readable(text)
        return self._take_step(
            conversation, lambda c, after: handover.reply(c, conversation, agent, name, text, after=after)
        )

    def leave_note(self, conversation: str, agent: Agent, name: str, text: str) -> AgentMessage:
        """What colleagues should know. Raises FrontdeskError for the text."""
        text = readable(text)
        return self._take_step(
            conversation, lambda c, after: handover.leave_note(c, conversation, agent, name, text, after=after)
        )

    def draft(self, message: Message, history: tuple[Turn, ...]) -> Turn:
        """What the bot would say to `message` if it had the conversation. Nothing is stored or told."""
        before = (*history[:-1], replace(history[-1], returned=True)) if history else ()
        turn = next((one for one in self._assistant.respond(message, before) if isinstance(one, Turn)), None)
        assert turn is not None, "an assistant ends with its turn"
        return turn

    # -- care of a conversation, of the service ---------------------------------------------------------------------

    def forget(self, conversation: str, *, actor: str) -> bool:
        """Deletes the conversation and its events; an answer in the making is not stored. False if there is none."""
        gone = forget(self._database, conversation, actor=actor)
        self.events.forget(conversation)
        self.bell.ring(conversation)
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
        self._retry.close()
        with self._lock:
            self._closed = True
            answers = list(self._in_hand.values())
        until = time.monotonic() + seconds
        finished = all([answer.wait(until - time.monotonic()) for answer in answers])
        self._workers.shutdown(wait=finished, cancel_futures=not finished)

    # -- the work ---------------------------------------------------------------------------------------------------

    def _take_in(self, message: Message) -> Answer:
        """The answer to `message`: in hand, stored, or begun now."""
        message = replace(message, text=readable(message.text))
        check_message(message)
        key = (message.conversation, message.id)
        with self._lock:
            if key in self._in_hand:
                return self._in_hand[key]
        last, entry = look_up(self._database, message.conversation, message.id)
        if entry is not None and entry.turn is not None:
            return Answer.of(entry)
        late = entry is not None and overtaken(self._database, entry)
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
                lane = self._lanes[message.conversation] = Lane(last)
            # Whoever hears of events by rising ids has heard of later ones: from its old place it would be passed over.
            late = late or (entry is not None and self._is_told_of_more(entry.sequence, lane, message.conversation))
            sequence = entry.sequence if entry is not None and not late else lane.last + 1
            lane.last = max(lane.last, sequence)
            answer = self._in_hand[key] = Answer(message, sequence, promised=entry is not None)
            answer.since = self.events.last(message.conversation)
            lane.answers.append(answer)
            if not waiting:
                self._workers.submit(self._work, lane)
        return answer

    def _is_told_of_more(self, place: int, lane: Lane, conversation: str) -> bool:
        """Whether something behind the turn at `place` was told here, or waits before it."""
        before = lane.answers[-1].sequence if lane.answers else 0
        return before > place or self.events.last(conversation) > place * BLOCK + TURN

    def _work(self, lane: Lane) -> None:
        """Answers the first message of a lane, then sends the lane to the end of the queue."""
        answer = lane.answers[0]
        outcome: Turn | FrontdeskError
        with self._order(answer.message.conversation):
            pass  # a step that is being taken is told before the first word of this answer
        try:
            outcome = self._respond(answer)
        except FrontdeskError as error:
            outcome = error
        with self._order(answer.message.conversation):
            if isinstance(outcome, Turn):
                if answer.silent and self._is_the_bots(answer.message.conversation):
                    # Whoever had it let go of it meanwhile, and will not answer this message.
                    self._workers.submit(self._work, lane)
                    return
                outcome = self._store(answer, outcome)
            with self._lock:
                lane.answers.popleft()
                del self._in_hand[answer.message.conversation, answer.message.id]
                if lane.answers:
                    self._workers.submit(self._work, lane)
                else:
                    del self._lanes[answer.message.conversation]
        if isinstance(outcome, Turn):
            answer.finish(outcome)
            self.answered(answer.message.conversation, sum(ms for _, ms in outcome.milliseconds))
        else:
            self._report(answer, outcome)
        self.bell.ring(answer.message.conversation)

    def _is_the_bots(self, conversation: str) -> bool:
        """Whether no person has the conversation, nor is awaited in it."""
        try:
            return find_conversation(self._database, conversation).status in ("open", "resolved")
        except FrontdeskError:  # forgotten, say: storing the turn will tell
            return False

    def _store(self, answer: Answer, turn: Turn) -> Turn | FrontdeskError:
        """Stores and publishes the turn with what happened behind its message; what is durable now, or the problem."""
        message = answer.message
        made = time.perf_counter()
        try:
            try:
                stored = store_turn(self._database, turn, answer.sequence, self._notify)
            except (RecordUnavailable, UnknownConversation):
                raise
            except Exception:
                _log.exception("a turn of conversation %s cannot be stored", pseudonym(message.conversation))
                stored = store_turn(self._database, failure(message), answer.sequence, self._notify)
            if self._told is not None and stored.fresh:
                now = time.perf_counter()
                self._told(stored.turn, now - made, now - answer.began)
            entry = Entry(stored.sequence, message, stored.turn, None)
            answer.stored = turn_event(entry)  # before it is published: who listens has either this or the event
            self.events.turn(entry)
            for happening in self._behind(answer, stored):
                self.events.happened(message.conversation, happening)
            return stored.turn
        except FrontdeskError as error:
            return error
        except Exception as error:
            _log.exception("a message of conversation %s", pseudonym(message.conversation))
            return FrontdeskError(f"the answer failed ({type(error).__name__}): see the log of the service")

    def _behind(self, answer: Answer, stored: Stored) -> Sequence[Happening]:
        """Steps taken while the answer was made waited for it; only behind a message that was durable can there be
        any but the turn's own."""
        if not answer.promised:
            return () if stored.change is None else (stored.change,)
        found = told(self._database, answer.message.conversation, stored.sequence)
        return [one for one in found if one.after == stored.sequence]

    def _take_step(self, conversation: str, step: Callable[[Connection, int], T]) -> T:
        """Takes a step of an agent's or a customer's behind the last message that came, and tells of it in order."""
        with self._order(conversation):
            with self._lock:
                lane = self._lanes.get(conversation)
                answer = lane.answers[-1] if lane is not None else None

            def act(connection: Connection) -> T:
                if answer is None:
                    return step(connection, last_place(connection, conversation))
                return step(connection, place_message(connection, answer.message, answer.sequence)[0])

            happened = self._database.write(act)
            if answer is None and happened is not None:
                with self._lock:  # its message may have come while the step was stored
                    answer = lane.at(happened.after) if (lane := self._lanes.get(conversation)) is not None else None
            if answer is not None:
                answer.promised = True  # it is in the record now; its turn tells of the step
            elif happened is not None and happened.event is not None:
                self.events.happened(conversation, happened)
        self.bell.ring(conversation)
        return happened

    def _put_back(self, conversation: str, now: datetime) -> bool:
        def leave(connection: Connection, after: int) -> StatusChange | None:
            return handover.leave(connection, conversation, now, self._patience, after=after, notify=self._notify)

        try:
            return self._take_step(conversation, leave) is not None
        except FrontdeskError as problem:  # the others need not wait for it
            _log.warning("conversation %s stays with its agent: %s", pseudonym(conversation), problem)
            return False

    def _order(self, conversation: str) -> threading.Lock:
        """Held while something of the conversation is stored and told, so that it is told in the order it is stored."""
        return self._orders[hash(conversation) % _ORDERS]

    def _respond(self, answer: Answer) -> Turn:
        """The assistant's turn, its text passed on as it comes; an honest failure if it gives none."""
        message, answer.silent = answer.message, False
        try:
            before = past(self._database, message.conversation)
            answer.silent = before.status == "person"
            if answer.silent:
                return silence(message, before)
            site = self._site_of(before.site)
            for item in respond(self._assistant, message, before, site, datetime.now(UTC)):
                if not isinstance(item, Turn):
                    answer.add(item)
                    self.events.token(message.conversation, answer.sequence, message.id, item, again=answer.again)
                elif (item.message.conversation, item.message.id) == (message.conversation, message.id):
                    return item
                else:
                    raise AssertionError("the assistant answered another message")
            raise AssertionError("the assistant gave no turn")
        except RecordUnavailable:
            raise
        except Exception:
            _log.exception("the assistant failed on a message of conversation %s", pseudonym(message.conversation))
            return failure(message)

    def _report(self, answer: Answer, problem: FrontdeskError) -> None:
        self.events.error(answer.message.conversation, answer.sequence, answer.message.id, str(problem))
        answer.fail(problem)  # before the look at the promise: whoever makes it now sees that it failed (`accept`)
        if answer.promised and isinstance(problem, RecordUnavailable):
            self._retry.later()
