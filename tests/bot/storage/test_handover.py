"""The hand-over against a small model of its own: whoever asks, takes, writes and ends, in any order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection, text, update

from bot import FrontdeskError
from bot.conversation.messages import HandOver, Message, Part, Reply, SmallTalk, Turn
from bot.conversation.state import NEVER_MIND, state_of
from bot.events import Event, StatusEvent, TurnEvent
from bot.serving import Desk
from bot.storage.conversations import UnknownConversation, find_conversation
from bot.storage.database import Database
from bot.storage.files import Files
from bot.storage.handover import Agent, NotTaken, Taken, ask, current
from bot.storage.happenings import TURN, told
from bot.storage.inbox import listed
from bot.storage.outbox import due
from bot.storage.tables import StaffRow
from bot.storage.turns import history, past, store_turn
from tests.bot.storage.sample import ANNA, BEN, hire, message, open_conversation, open_record, turn_for

T = TypeVar("T")

LEA = Agent("lea", "Lea", lead=True)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        hire(database, ANNA, BEN, LEA)
        yield database


@pytest.fixture
def conversation(database: Database) -> str:
    return open_conversation(database)


class Bot:
    """Does what the message says: hands over, takes it back, or answers. Holds the line while somebody waits."""

    def __init__(self) -> None:
        self.spoke: list[str] = []

    def respond(
        self, message: Message, history: tuple[Turn, ...], *, waiting: str | None = None
    ) -> Iterator[str | Turn]:
        self.spoke.append(message.text)
        turn = turn_for(message)
        part = turn.parts[0]
        if message.text == "never mind" and waiting:
            yield self._made(turn, part, SmallTalk(NEVER_MIND), "Fine, I am here.", "small_talk")
        elif waiting:
            yield self._made(turn, part, HandOver(waiting), "A colleague comes.", "waiting")  # type: ignore[arg-type]
        elif message.text == "person":
            yield self._made(turn, part, HandOver("asked"), "I ask a colleague.", "handed_over")
        else:
            yield turn

    def _made(self, turn: Turn, part: Part, decision: object, said: str, status: str) -> Turn:
        return replace(
            turn,
            parts=(replace(part, decision=decision),),
            reply=Reply(said, (), (), status),  # type: ignore[arg-type]
        )


AGENTS = st.sampled_from([ANNA, BEN, LEA])


def disable(database: Database, agent: Agent, disabled: bool) -> None:
    change = update(StaffRow).where(StaffRow.id == agent.id).values(disabled=disabled)
    database.write(lambda connection: connection.execute(change))


PATIENCE = timedelta(minutes=10)


class HandOvers(RuleBasedStateMachine):
    """The model is a few words: the status, who has it, how many hand-overs there were, how many ended, and whether
    the customer awaits an agent's word."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.database = open_record(Path(self.folder.name))
        hire(self.database, ANNA, BEN, LEA)
        self.bot = Bot()
        self.desk = Desk(self.database, self.bot, notify=("email",), patience=PATIENCE)  # type: ignore[arg-type]
        self.id = open_conversation(self.database)
        self.heard: list[Event] = []
        self.desk.attach(self.id, 0, self.heard.append)
        self.status, self.holder = "open", ""
        self.begun = self.asked = self.number = 0
        self.awaits = False

    def teardown(self) -> None:
        self.desk.close()
        self.database.close()
        self.folder.cleanup()

    def asks(self) -> None:
        if self.status in ("open", "resolved"):
            self.status, self.awaits = "waiting", True
            self.begun += 1
            self.asked += 1

    @rule()
    def button(self) -> None:
        self.desk.ask_for_person(self.id, "asked")
        self.asks()

    @rule(said=st.sampled_from(["hello", "person", "never mind"]))
    def customer(self, said: str) -> None:
        self.number += 1
        before = len(self.bot.spoke)
        asked = replace(message(self.id, f"m{self.number}", said), received_at=datetime.now(UTC))
        turn = self.desk.answer(asked)
        if self.status == "person":
            assert (turn.reply.text, turn.reply.status, len(self.bot.spoke)) == ("", "waiting", before)
            self.awaits = True
            return
        assert turn.reply.text, "nobody is met with silence"
        if self.status == "waiting":
            assert turn.reply.status == ("small_talk" if said == "never mind" else "waiting")
            self.status = "open" if said == "never mind" else "waiting"
        elif said == "person":
            self.asks()
        else:
            self.status = "open"

    @rule(agent=AGENTS)
    def takes(self, agent: Agent) -> None:
        if self.status == "person" and self.holder != agent.id:
            with pytest.raises(Taken):
                self.desk.take(self.id, agent)
            return
        self.desk.take(self.id, agent)
        if self.status in ("open", "resolved"):
            self.begun += 1
            self.awaits = False
        self.status, self.holder = "person", agent.id

    @rule(agent=AGENTS)
    def takes_over(self, agent: Agent) -> None:
        if self.status == "person":
            self.desk.take(self.id, agent, instead_of=self.holder)
            self.holder = agent.id

    @rule(agent=AGENTS)
    def gives_back(self, agent: Agent) -> None:
        self.ends(agent, lambda: self.desk.give_back(self.id, agent), "open", ("waiting", "person"))

    @rule(agent=AGENTS)
    def resolves(self, agent: Agent) -> None:
        self.ends(agent, lambda: self.desk.resolve(self.id, agent), "resolved", ("open", "waiting", "person"))

    def ends(self, agent: Agent, act: Callable[[], None], to: str, when: tuple[str, ...]) -> None:
        if self.status == "person" and self.holder != agent.id and not agent.lead:
            with pytest.raises(Taken):
                act()
            return
        act()
        if self.status in when:
            self.status, self.holder = to, ""

    @rule()
    def customer_ends(self) -> None:
        self.desk.end(self.id)
        self.status, self.holder = "resolved", ""

    @rule(agent=AGENTS)
    def writes(self, agent: Agent) -> None:
        self.number += 1
        name = f"reply-{self.number}"
        if self.status != "person":
            with pytest.raises(NotTaken):
                self.desk.reply(self.id, agent, name, "hello")
        elif self.holder != agent.id:
            with pytest.raises(Taken):
                self.desk.reply(self.id, agent, name, "hello")
        else:
            once, twice = (self.desk.reply(self.id, agent, name, "hello") for _ in range(2))
            assert once == twice
            self.awaits = False

    @rule()
    def nobody_answers_for_long(self) -> None:
        assert self.desk.look_after(datetime.now(UTC) + PATIENCE / 2) == 0, "not before its time"
        found = self.desk.look_after(datetime.now(UTC) + PATIENCE * 1.1)
        assert found == (self.status == "person" and self.awaits)
        if found:
            self.waits_again()

    @rule(agent=AGENTS)
    def is_removed_and_hired_again(self, agent: Agent) -> None:
        disable(self.database, agent, True)
        found = self.desk.look_after(datetime.now(UTC))
        assert found == (self.status == "person" and self.holder == agent.id)
        if found:
            self.waits_again()
        disable(self.database, agent, False)

    def waits_again(self) -> None:
        self.status, self.holder, self.awaits = "waiting", "", True
        self.begun += 1
        self.asked += 1

    @invariant()
    def the_record_agrees(self) -> None:
        assert find_conversation(self.database, self.id).status == self.status
        with self.database.read() as connection:
            held = current(connection, self.id)
            begun = connection.scalar(text("SELECT count(*) FROM handovers"))
            ended = connection.scalar(text("SELECT count(*) FROM handovers WHERE ended_at IS NOT NULL"))
        waits = self.status in ("waiting", "person")
        assert (held is not None) == waits and begun == self.begun == (ended or 0) + waits
        assert (held.taken_by if held else None) == (self.holder if self.status == "person" else None)

    @invariant()
    def everything_was_told_in_order(self) -> None:
        stored = [one.event for one in told(self.database, self.id)]
        assert [event.id for event in self.heard if event.id % 10_000 > TURN] == stored
        assert [event.id for event in self.heard] == sorted({event.id for event in self.heard})
        last = [event.status for event in self.heard if isinstance(event, StatusEvent)][-1:]
        assert last in ([self.status], [])

    @invariant()
    def one_notification_is_owed_for_each_asking(self) -> None:
        assert len(due(self.database, datetime.now(UTC) + timedelta(days=1))) == min(20, self.asked)


HandOvers.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestHandOvers = HandOvers.TestCase


@pytest.mark.campaign
class TestManyHandOvers(HandOvers.TestCase):
    settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_returned_conversation_is_the_bots_again(database: Database, conversation: str) -> None:
    desk = Desk(database, Bot())  # type: ignore[arg-type]
    desk.answer(message(conversation, "1", "person"))
    assert state_of(past(database, conversation).turns).waiting == "asked"
    desk.take(conversation, ANNA)
    desk.reply(conversation, ANNA, "reply-1", "I look into it.")
    desk.give_back(conversation, ANNA)
    turns = past(database, conversation).turns
    assert state_of(turns).waiting is None
    assert [tuple(line) for line in turns[-1].lines] == [
        ("customer", "person"),
        ("bot", "I ask a colleague."),
        ("agent", "I look into it."),
    ]
    assert history(database, conversation)[-1].lines == turns[-1].lines[:2], "what is stored stays as it was"
    assert desk.answer(message(conversation, "2", "hello")).reply.status == "grounded"
    desk.close()


def test_who_is_left_without_an_answer_waits_in_the_queue_again(database: Database, conversation: str) -> None:
    """The agent went home: colleagues and the customer hear of it, and the bot holds the line."""
    desk = Desk(database, Bot(), notify=("email",), patience=PATIENCE)  # type: ignore[arg-type]
    desk.answer(message(conversation, "1", "hello"))
    heard: list[Event] = []
    desk.take(conversation, ANNA)
    desk.attach(conversation, None, heard.append)
    now = datetime.now(UTC)
    assert desk.look_after(now + timedelta(days=1)) == 0, "nobody waits for anything"
    for number, at in enumerate((now, now + PATIENCE * 0.9)):
        desk.answer(replace(message(conversation, f"in-{number}", "are you there?"), received_at=at))
    assert desk.look_after(now + PATIENCE * 0.99) == 0
    assert desk.look_after(now + PATIENCE * 1.01) == 1, "the first message that nobody answered counts"
    assert desk.look_after(now + PATIENCE * 5) == 0, "once"
    with database.read() as connection:
        held = current(connection, conversation)
    assert held is not None
    assert (held.reason, held.taken_by, held.taken_name, held.asked_at) == ("left", None, "", now)
    told = [event for event in heard if isinstance(event, StatusEvent)]
    assert [(event.status, event.name) for event in told] == [("waiting", "")]
    (notice,) = due(database, datetime.now(UTC))
    assert json.loads(notice.payload)["reason"] == "left"
    assert desk.answer(message(conversation, "2", "hello?")).reply.text == "A colleague comes."
    desk.take(conversation, ANNA)
    desk.reply(conversation, ANNA, "reply-1", "I am back.")
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 2) == 0
    desk.close()


def test_who_asked_and_was_taken_without_a_word_waits_again(database: Database, conversation: str) -> None:
    desk = Desk(database, Bot(), patience=PATIENCE)  # type: ignore[arg-type]
    desk.ask_for_person(conversation, "asked")
    desk.take(conversation, ANNA)
    taken = datetime.now(UTC)
    assert desk.look_after(taken + PATIENCE * 0.99) == 0
    assert desk.look_after(taken + PATIENCE * 1.01) == 1
    desk.close()


def test_what_was_left_open_in_an_earlier_hand_over_is_not_waited_for_in_this_one(
    database: Database, conversation: str
) -> None:
    desk = Desk(database, Bot(), patience=PATIENCE)  # type: ignore[arg-type]
    desk.take(conversation, ANNA)
    desk.answer(message(conversation, "1", "are you there?"))
    desk.give_back(conversation, ANNA)
    desk.take(conversation, BEN)
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 2) == 0
    desk.answer(message(conversation, "2", "and you?"))
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 2) == 1
    desk.close()


def test_a_file_waits_for_an_answer_as_a_message_does(database: Database, conversation: str, tmp_path: Path) -> None:
    desk = Desk(database, Bot(), patience=PATIENCE)  # type: ignore[arg-type]
    files = Files(database, tmp_path / "files")
    desk.take(conversation, ANNA)
    files.keep(conversation, "meter.png", PNG)
    desk.reply(conversation, ANNA, "reply-1", "Thank you, I see it.")
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 2) == 0, "it was answered"
    files.keep(conversation, "meter again.png", PNG)
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 0.9) == 0
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 1.1) == 1
    desk.take(conversation, BEN)
    desk.give_back(conversation, BEN)
    desk.take(conversation, BEN)
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 2) == 0, "it was sent to an earlier hand-over"
    desk.close()


def test_a_colleague_who_takes_over_gets_the_whole_time(database: Database, conversation: str) -> None:
    desk = Desk(database, Bot(), patience=PATIENCE)  # type: ignore[arg-type]
    desk.take(conversation, ANNA)
    long_ago = datetime.now(UTC) - PATIENCE * 3
    desk.answer(replace(message(conversation, "1", "are you there?"), received_at=long_ago))
    desk.take(conversation, BEN, instead_of="anna")
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 0.9) == 0
    assert desk.look_after(datetime.now(UTC) + PATIENCE * 1.1) == 1
    desk.close()


def test_words_written_while_a_person_takes_over_are_not_said(database: Database, conversation: str) -> None:
    """The bot was in the middle of its answer when the status changed."""
    database.write(lambda c: c.execute(text("UPDATE conversations SET status = 'person'")))
    stored = store_turn(database, turn_for(message(conversation, "1")))
    assert (stored.turn.reply.text, stored.turn.reply.status) == ("", "waiting")
    assert history(database, conversation) == (stored.turn,)


class Interrupted(Database):
    """Does `then` once, right behind the next reading of a thread of the desk."""

    then: Callable[[], object] | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with super().read() as connection:
            yield connection
        if self.then is not None and threading.current_thread().name.startswith("desk"):
            then, self.then = self.then, None
            then()


@pytest.mark.parametrize("step", [Desk.give_back, Desk.resolve])
def test_a_message_that_the_agent_no_longer_saw_is_the_bots(
    database: Database, conversation: str, step: Callable[[Desk, str, Agent], None]
) -> None:
    """It came as the agent let go of the conversation: neither of them would have answered it."""
    database.close()
    with Interrupted(database.path) as record:
        desk = Desk(record, Bot())  # type: ignore[arg-type]
        heard: list[Event] = []
        desk.take(conversation, ANNA)
        desk.attach(conversation, None, heard.append)
        record.then = lambda: step(desk, conversation, ANNA)
        turn = desk.answer(message(conversation, "1", "one more thing"))
        assert (turn.reply.status, turn.reply.text) == ("grounded", "It is on its way.")
        assert history(record, conversation) == (turn,)
        assert find_conversation(record, conversation).status == "open"
        assert [type(event) for event in heard[:2]] == [TurnEvent, StatusEvent]
        desk.close()


class Overtaken(Database):
    """Does `then` once, right before the next write."""

    then: Callable[[], object] | None = None

    def write(self, unit: Callable[[Connection], T]) -> T:
        then, self.then = self.then, None
        if then is not None:
            then()
        return super().write(unit)


def test_a_step_behind_a_message_that_comes_at_the_same_moment_does_not_hide_its_turn(
    database: Database, conversation: str
) -> None:
    """The message was stored between the look at what is in hand and the storing of the step."""
    database.close()
    with Overtaken(database.path) as record:
        desk = Desk(record, Bot())  # type: ignore[arg-type]
        heard: list[Event] = []
        desk.attach(conversation, 0, heard.append)
        record.then = lambda: desk.accept(message(conversation, "1", "hello"))
        desk.ask_for_person(conversation, "asked")
        turn = desk.answer(message(conversation, "1", "hello"))
        assert [type(event) for event in heard] == [TurnEvent, StatusEvent]
        assert isinstance(heard[0], TurnEvent) and heard[0].turn == turn
        desk.close()


@pytest.mark.parametrize("step", [Desk.give_back, Desk.resolve])
def test_a_person_who_was_promised_while_they_were_called_off_comes(
    database: Database, conversation: str, step: Callable[[Desk, str, Agent], None]
) -> None:
    class Slow(Bot):
        def respond(self, message: Message, history: tuple[Turn, ...], **more: object) -> Iterator[str | Turn]:
            step(desk, conversation, ANNA)
            yield from super().respond(message, history, **more)  # type: ignore[arg-type]

    desk = Desk(database, Slow(), notify=("email",))  # type: ignore[arg-type]
    desk.ask_for_person(conversation, "urgent")
    assert desk.answer(message(conversation, "1", "and how long?")).reply.text == "A colleague comes."
    assert find_conversation(database, conversation).status == "waiting"
    assert [json.loads(one.payload)["reason"] for one in due(database, datetime.now(UTC))] == ["urgent", "urgent"]
    desk.close()


def test_a_failure_of_ours_brings_a_person_and_does_not_silence_the_bot(database: Database, conversation: str) -> None:
    class Failing(Bot):
        def respond(self, message: Message, history: tuple[Turn, ...], **more: object) -> Iterator[str | Turn]:
            raise ValueError("broken")

    desk = Desk(database, Failing())  # type: ignore[arg-type]
    desk.answer(message(conversation, "1"))
    with database.read() as connection:
        held = current(connection, conversation)
    assert held is not None and held.reason == "error"
    desk.swap(Bot())  # type: ignore[arg-type]
    assert desk.answer(message(conversation, "2")).reply.status == "grounded"
    assert find_conversation(database, conversation).status == "waiting"
    desk.close()


def test_what_was_said_before_the_asking_withdraws_nothing(database: Database, conversation: str) -> None:
    """ "Never mind" was under way when the customer pressed the button."""
    turn = turn_for(message(conversation, "1", "never mind"))
    turn = replace(turn, parts=(replace(turn.parts[0], decision=SmallTalk(NEVER_MIND)),))
    database.write(lambda c: ask(c, conversation, "asked", after=0))
    assert store_turn(database, turn).change is None
    later = replace(turn, id="later", message=replace(turn.message, id="2", received_at=datetime.now(UTC)))
    change = store_turn(database, later).change
    assert change is not None and change.status == "open"


def test_nothing_is_owed_for_an_asking_that_was_not_stored(database: Database, conversation: str) -> None:
    def fails(connection: Connection) -> None:
        ask(connection, conversation, "asked", after=0, notify=("email", "webhook"))
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        database.write(fails)
    assert due(database, datetime.now(UTC)) == []
    assert find_conversation(database, conversation).status == "open"


def test_one_turn_that_cannot_be_read_hides_nobody_who_waits(database: Database, conversation: str) -> None:
    """It is damaged, say, or was stored by a newer program that was taken back."""
    desk = Desk(database, Bot())  # type: ignore[arg-type]
    other = open_conversation(database)
    for each in (conversation, other):
        desk.answer(message(each, "1", "person"))
    desk.close()

    def damage(connection: Connection) -> None:
        connection.execute(text("DROP TRIGGER tr_turns_no_update"))
        connection.execute(text("UPDATE turns SET parts = 'rubbish' WHERE conversation_id = :id"), {"id": other})

    database.write(damage)
    found = listed(database, "queue", ANNA.id)
    assert [(one.conversation, one.last_text) for one in found] == [(conversation, "person"), (other, "person")]
    assert [one.language for one in found] == ["en", ""]


@pytest.mark.parametrize("said", ["", "x" * 4_001, "\u200b"])
def test_a_reply_that_is_none_is_refused(database: Database, conversation: str, said: str) -> None:
    desk = Desk(database, Bot())  # type: ignore[arg-type]
    desk.take(conversation, ANNA)
    with pytest.raises(FrontdeskError, match="1 to 4,000 characters"):
        desk.reply(conversation, ANNA, "reply-1", said)
    desk.close()


def test_an_unknown_conversation_is_named(database: Database) -> None:
    desk = Desk(database, Bot())  # type: ignore[arg-type]
    for act in (
        lambda: desk.ask_for_person("nowhere", "asked"),
        lambda: desk.take("nowhere", ANNA),
        lambda: desk.end("nowhere"),
        lambda: desk.leave_note("nowhere", ANNA, "note-1", "hello"),
    ):
        with pytest.raises(UnknownConversation):
            act()  # type: ignore[no-untyped-call]
    desk.close()
