"""The desk: in order, once only, durable before it is told, and going on whatever fails."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import pytest
from sqlalchemy import Connection

from bot import FrontdeskError
from bot.conversation.messages import HandOver, Message, Turn
from bot.events import BLOCK, ErrorEvent, Event, StatusEvent, TokenEvent, TurnEvent
from bot.lanes import Overloaded
from bot.responder import Responder
from bot.serving import Desk
from bot.storage.conversations import UnknownConversation, find_conversation, start_conversation
from bot.storage.database import Database
from bot.storage.faults import RecordUnavailable
from bot.storage.sites import Hours, create_site
from bot.storage.turns import accept_message, entries, history, owed, store_turn
from tests.bot.storage.faulty_disk import FULL, IOERR_FSYNC, faulty_disk
from tests.bot.storage.sample import ANNA, hire, message, open_conversation, open_record, turn_for

SOON = 30.0
"""Seconds after which a test gives up waiting for what should come at once."""


class Echo:
    """Says the message in words, and which turns it was shown."""

    def __init__(self, version: str = "model-1") -> None:
        self.version = version
        self.asked: list[str] = []

    def respond(self, asked: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        self.asked.append(asked.id)
        yield from asked.text.split()
        turn = turn_for(asked, text=f"{len(history)}: {asked.text}")
        versions = dataclasses.replace(turn.versions, model=self.version)
        yield dataclasses.replace(turn, versions=versions)


class OnCommand(Echo):
    """A slow source: begins a message, then waits until the test lets it go on."""

    def __init__(self, version: str = "model-1") -> None:
        super().__init__(version)
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.go_on = threading.Semaphore(0)

    def respond(self, asked: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        self.begun.put(asked.id)
        yield "wait"
        assert self.go_on.acquire(timeout=SOON)
        yield from super().respond(asked, history)


class Clock(Echo):
    """Says which day it was told, and whether nobody is in."""

    def respond(self, asked: Message, history: tuple[Turn, ...], *, away: bool = False) -> Iterator[str | Turn]:
        yield turn_for(asked, text=f"{asked.received_at:%d %b}, {'away' if away else 'in'}")


class Failing(Echo):
    """Fails in the way it is told."""

    def __init__(self, how: Callable[[Message], Iterator[str | Turn]]) -> None:
        super().__init__()
        self._how = how

    def respond(self, asked: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        yield from self._how(asked)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


@pytest.fixture
def open_desk(database: Database) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def open_one(assistant: Responder, **bounds: int) -> Desk:
        desks.append(Desk(database, assistant, **bounds))
        return desks[-1]

    yield open_one
    for desk in desks:
        desk.close(seconds=SOON)


def texts(database: Database, conversation: str) -> list[str]:
    return [turn.reply.text for turn in history(database, conversation)]


# -- a message becomes a stored turn ---------------------------------------------------------------------------------


def test_text_comes_first_and_the_turn_last_and_stored(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    items = []
    for item in desk.receive(message(conversation, "1", "two words")):
        items.append(item)
        # A turn that was handed out is in the record already.
        assert isinstance(item, str) or history(database, conversation) == (item,)
    assert items[:-1] == ["two", "words"] and items[-1] == history(database, conversation)[0]


def test_the_history_is_what_was_stored_before(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    for number in range(4):
        desk.answer(message(conversation, str(number), "hi"))
    assert texts(database, conversation) == ["0: hi", "1: hi", "2: hi", "3: hi"]


def test_a_repeated_message_gets_the_stored_turn_and_no_second_answer(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = Echo()
    desk, conversation = open_desk(assistant), open_conversation(database)
    first = desk.answer(message(conversation, "1", "hello"))
    assert list(desk.receive(message(conversation, "1", "changed"))) == [first]
    assert assistant.asked == ["1"]


def test_a_message_repeated_while_it_is_answered_joins_the_answer(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    first = desk.receive(message(conversation, "1", "a b"))
    assert next(first) == "wait"
    second = desk.receive(message(conversation, "1", "a b"))
    assert next(second) == "wait"  # it gets the text from the beginning
    assistant.go_on.release()
    assert list(first) == list(second)
    assert assistant.asked == ["1"] and len(history(database, conversation)) == 1


def test_a_message_is_answered_and_stored_when_nobody_reads_the_answer(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    reader = desk.receive(message(conversation, "1"))
    assert next(reader) == "wait"
    reader.close()  # type: ignore[attr-defined]
    assistant.go_on.release()
    desk.close(seconds=SOON)
    assert len(history(database, conversation)) == 1


def test_unreadable_characters_are_left_out_before_anything_else(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    turn = desk.answer(message(conversation, "1", "half \ud800 pair\x00"))
    assert turn.message.text == "half  pair" and history(database, conversation) == (turn,)


def test_what_cannot_be_answered_is_refused_at_once(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(Echo())
    with pytest.raises(UnknownConversation):
        desk.receive(message("nowhere", "1"))
    with pytest.raises(FrontdeskError, match="not valid Unicode"):
        desk.receive(message(open_conversation(database), "\ud800"))
    assert desk.in_hand == 0


# -- order and bounds ------------------------------------------------------------------------------------------------


def test_a_conversation_is_answered_one_at_a_time_in_order(database: Database, open_desk: Callable[..., Desk]) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    readers = [desk.receive(message(conversation, str(number), "hi")) for number in range(5)]
    for number in range(5):
        assert assistant.begun.get(timeout=SOON) == str(number)
        assert assistant.begun.empty()
        assistant.go_on.release()
    turns = [list(reader)[-1] for reader in readers]
    assert list(history(database, conversation)) == turns
    assert texts(database, conversation) == [f"{number}: hi" for number in range(5)]


def test_conversations_do_not_wait_for_each_other(database: Database, open_desk: Callable[..., Desk]) -> None:
    assistant = OnCommand()
    desk = open_desk(assistant)
    readers = [desk.receive(message(open_conversation(database), "1")) for _ in range(8)]
    assert {assistant.begun.get(timeout=SOON) for _ in readers} == {"1"}  # all have begun, none has ended
    assistant.go_on.release(8)
    assert all(isinstance(list(reader)[-1], Turn) for reader in readers)


def test_too_many_messages_are_refused_and_the_rest_answered(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk = open_desk(assistant, most_in_hand=5, most_in_one_conversation=3)
    chatty, other, third = (open_conversation(database) for _ in range(3))
    readers = [desk.receive(message(chatty, str(number))) for number in range(3)]
    with pytest.raises(Overloaded, match="try again in 1 seconds") as caught:
        desk.receive(message(chatty, "one too many"))
    assert caught.value.retry_after == 1.0
    readers += [desk.receive(message(other, str(number))) for number in range(2)]
    with pytest.raises(Overloaded):
        desk.receive(message(third, "1"))
    desk.receive(message(chatty, "0"))  # a repetition is no further load
    assert desk.in_hand == 5
    assistant.go_on.release(5)
    assert all(isinstance(list(reader)[-1], Turn) for reader in readers)
    assert history(database, third) == ()
    assistant.go_on.release()
    assert desk.answer(message(chatty, "one too many")).message.id == "one too many"


@pytest.mark.slow
def test_bursts_in_many_conversations_keep_order_and_answer_once(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    """60 conversations, 8 messages each sent twice from many threads: one turn each, in order of arrival."""
    desk = open_desk(Echo(), most_in_hand=1000)
    conversations = [open_conversation(database) for _ in range(60)]

    def burst(conversation: str) -> list[list[str | Turn]]:
        readers = [desk.receive(message(conversation, str(number), "hi")) for number in range(8) for _ in range(2)]
        return [list(reader) for reader in readers]

    with ThreadPoolExecutor(30) as threads:
        answers = dict(zip(conversations, threads.map(burst, conversations), strict=True))
    for conversation, given in answers.items():
        turns = history(database, conversation)
        assert [turn.message.id for turn in turns] == [str(number) for number in range(8)]
        assert [turn.reply.text for turn in turns] == [f"{number}: hi" for number in range(8)]
        assert [items[-1] for items in given] == [turn for turn in turns for _ in range(2)]


# -- a new version ---------------------------------------------------------------------------------------------------


def test_a_swap_lets_the_old_version_finish(database: Database, open_desk: Callable[..., Desk]) -> None:
    old = OnCommand("old")
    desk = open_desk(old)
    before = desk.receive(message(open_conversation(database), "1"))
    assert next(before) == "wait"
    desk.swap(Echo("new"))
    assert desk.answer(message(open_conversation(database), "1")).versions.model == "new"
    old.go_on.release()
    finished = list(before)[-1]
    assert isinstance(finished, Turn) and finished.versions.model == "old"


@pytest.mark.slow
def test_a_hundred_swaps_under_load_lose_nothing(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(Echo("0"), most_in_hand=1000)
    conversations = [open_conversation(database) for _ in range(20)]

    def talk(conversation: str) -> None:
        for number in range(15):
            desk.answer(message(conversation, str(number), "hi"))

    with ThreadPoolExecutor(20) as threads:
        talking = [threads.submit(talk, conversation) for conversation in conversations]
        for number in range(1, 101):
            desk.swap(Echo(str(number)))
        for each in talking:
            each.result()
    for conversation in conversations:
        versions = [int(turn.versions.model) for turn in history(database, conversation)]
        assert len(versions) == 15 and versions == sorted(versions)


# -- failures --------------------------------------------------------------------------------------------------------


def _raises(asked: Message) -> Iterator[str | Turn]:
    yield "I "
    raise RuntimeError("the model broke")


def _gives_nothing(asked: Message) -> Iterator[str | Turn]:
    yield "words only"


def _answers_another(asked: Message) -> Iterator[str | Turn]:
    yield turn_for(dataclasses.replace(asked, conversation="somebody else's"))


def _cannot_be_stored(asked: Message) -> Iterator[str | Turn]:
    yield dataclasses.replace(turn_for(asked), milliseconds=(("understand", float("nan")),))


@pytest.mark.parametrize("how", [_raises, _gives_nothing, _answers_another, _cannot_be_stored])
def test_a_failure_inside_is_told_honestly_and_stored(
    database: Database, open_desk: Callable[..., Desk], how: Callable[[Message], Iterator[str | Turn]]
) -> None:
    desk, conversation = open_desk(Failing(how)), open_conversation(database)
    turn = desk.answer(message(conversation, "1", "why?"))
    assert turn.reply.status == "handed_over" and "person" in turn.reply.text
    assert [part.decision for part in turn.parts] == [HandOver("error")]
    assert history(database, conversation) == (turn,)
    assert find_conversation(database, conversation).status == "waiting"
    desk.swap(Echo())
    assert desk.answer(message(conversation, "2", "again")).reply.text == "1: again"


def test_a_damaged_turn_in_the_history_is_told_honestly_too(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    desk.answer(message(conversation, "1", "hi"))

    def damage(connection: Connection) -> None:
        connection.exec_driver_sql("DROP TRIGGER tr_turns_no_update")
        connection.exec_driver_sql("UPDATE turns SET parts = 'rubbish'")

    database.write(damage)
    turn = desk.answer(message(conversation, "2", "again"))
    assert turn.reply.status == "handed_over" and [part.decision for part in turn.parts] == [HandOver("error")]
    assert desk.answer(message(conversation, "2", "again")) == turn


def test_a_turn_that_is_not_durable_is_not_given_out(tmp_path: Path) -> None:
    with faulty_disk() as disk, open_record(tmp_path) as database:
        conversation = open_conversation(database)
        desk = Desk(database, Echo())
        disk.fault = {"sync": IOERR_FSYNC}
        reader = desk.receive(message(conversation, "1", "hi"))
        given: list[str | Turn] = []
        with pytest.raises(RecordUnavailable, match="the disk failed"):
            given.extend(reader)
        with pytest.raises(RecordUnavailable):
            desk.accept(message(conversation, "2", "hi"))
        assert not any(isinstance(item, Turn) for item in given)
        desk.close(seconds=SOON)
    with open_record(tmp_path) as database:
        desk = Desk(database, Echo())
        assert desk.answer(message(conversation, "1", "hi")).reply.text == "0: hi"
        assert len(history(database, conversation)) == 1
        desk.close(seconds=SOON)


def test_a_closing_desk_finishes_what_it_has_and_refuses_more(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    readers = [desk.receive(message(conversation, str(number))) for number in range(3)]
    closing = threading.Thread(target=desk.close)
    closing.start()
    with pytest.raises(RecordUnavailable, match="stopping"):
        while True:  # until the closing thread has come as far
            desk.receive(message(open_conversation(database), "late"))
    assistant.go_on.release(50)
    closing.join(SOON)
    assert [isinstance(list(reader)[-1], Turn) for reader in readers] == [True] * 3


# -- accepted messages -----------------------------------------------------------------------------------------------


def test_an_accepted_message_is_durable_before_it_is_answered(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    for number in range(3):
        desk.accept(message(conversation, str(number)))
        desk.accept(message(conversation, str(number)))
    assert [entry.message.id for entry in owed(database)] == ["0", "1", "2"]
    assistant.go_on.release(3)
    desk.close(seconds=SOON)
    assert owed(database) == () and [turn.message.id for turn in history(database, conversation)] == ["0", "1", "2"]


def test_what_was_accepted_before_a_crash_is_answered_after_it(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    conversations = [open_conversation(database) for _ in range(3)]
    for conversation in conversations:
        for number in range(3):
            accept_message(database, message(conversation, str(number), "hi"))
    desk = open_desk(Echo())
    assert desk.resume() == 9
    desk.close(seconds=SOON)
    for conversation in conversations:
        assert texts(database, conversation) == ["0: hi", "1: hi", "2: hi"]


def test_more_is_owed_than_fits_at_once_and_still_answered(
    database: Database, open_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.retry.SECONDS", 0.01)
    conversation = open_conversation(database)
    for number in range(12):
        accept_message(database, message(conversation, str(number), "hi"))
    desk = open_desk(Echo(), most_in_one_conversation=4)
    events: SimpleQueue[Event] = SimpleQueue()
    desk.attach(conversation, 0, events.put)
    desk.resume()
    turns: list[str] = []
    while len(turns) < 12:
        event = events.get(timeout=SOON)
        if isinstance(event, TurnEvent):
            turns.append(event.turn.message.id)
    assert turns == [str(number) for number in range(12)]


def test_what_is_answered_behind_a_later_message_is_told_behind_it(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    """The first could not be stored when its time came; who hears of events by rising ids must still hear of it."""
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    accept_message(database, message(conversation, "1", "hi"))
    heard: SimpleQueue[Event] = SimpleQueue()
    desk.attach(conversation, 0, heard.put)
    assistant.go_on.release(2)
    second = desk.answer(message(conversation, "2", "hi"))
    assert desk.resume() == 1
    first = desk.answer(message(conversation, "1", "hi"))
    desk.close(seconds=SOON)
    live = [heard.get(timeout=SOON) for _ in range(heard.qsize())]
    assert [event.turn for event in live if isinstance(event, TurnEvent)] == [second, first]
    assert [event.id for event in live] == sorted({event.id for event in live})
    assert [entry.turn for entry in entries(database, conversation)] == [second, first]
    # Who was away, or comes with a new process, is told the same.
    turns = [event for event in live if isinstance(event, TurnEvent)]
    for cut in (0, turns[0].id):
        assert collected(open_desk(Echo()), conversation, cut) == [event for event in turns if event.id > cut]


def test_who_asks_again_for_an_answer_that_was_overtaken_gets_it(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    accept_message(database, message(conversation, "1", "hi"))
    assistant.go_on.release()
    desk.answer(message(conversation, "2", "hi"))
    heard: SimpleQueue[Event] = SimpleQueue()
    _, stored = desk.listen(message(conversation, "1", "hi"), heard.put)
    assert stored is None
    assistant.go_on.release()
    while not isinstance(event := heard.get(timeout=SOON), TurnEvent):
        pass
    assert event.turn.message.id == "1"


def test_what_happened_behind_a_message_that_is_answered_late_does_not_hide_its_turn(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    desk, conversation = open_desk(Failing(_turns_only)), open_conversation(database)
    accept_message(database, message(conversation, "1", "hi"))
    live: list[Event] = []
    desk.attach(conversation, 0, live.append)
    hire(database)
    desk.take(conversation, ANNA)
    desk.give_back(conversation, ANNA)
    assert desk.resume() == 1
    turn = desk.answer(message(conversation, "1", "hi"))
    assert [type(event) for event in live] == [StatusEvent, StatusEvent, TurnEvent]
    assert live[-1] == TurnEvent(2 * BLOCK + 9000, turn)


def _turns_only(asked: Message) -> Iterator[str | Turn]:
    yield turn_for(asked)


# -- events ----------------------------------------------------------------------------------------------------------


def collected(desk: Desk, conversation: str, after: int = 0) -> list[Event]:
    """What a client that comes now would get at once."""
    found: list[Event] = []
    desk.attach(conversation, after, found.append)()
    return found


def test_events_rise_and_end_with_the_stored_turn(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    live: list[Event] = []
    leave = desk.attach(conversation, 0, live.append)
    turns = [desk.answer(message(conversation, str(number), "a b")) for number in range(2)]
    leave()
    desk.answer(message(conversation, "unheard"))
    assert live == [
        TokenEvent(BLOCK + 1, "0", "a"),
        TokenEvent(BLOCK + 2, "0", "b"),
        TurnEvent(BLOCK + 9000, turns[0]),
        TokenEvent(2 * BLOCK + 1, "1", "a"),
        TokenEvent(2 * BLOCK + 2, "1", "b"),
        TurnEvent(2 * BLOCK + 9000, turns[1]),
    ]


def test_a_client_that_was_cut_off_anywhere_ends_with_the_same_turns(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    live: list[Event] = []
    desk.attach(conversation, 0, live.append)
    for number in range(3):
        desk.answer(message(conversation, str(number), "a b c"))
    hire(database)
    desk.take(conversation, ANNA)
    assert isinstance(live[-1], StatusEvent)
    everything = [event for event in live if not isinstance(event, TokenEvent)]
    for cut in (0, *(event.id for event in live)):
        missed = [event for event in everything if event.id > cut]
        assert collected(desk, conversation, cut) == missed
        # A new process knows what is stored.
        assert collected(open_desk(Echo()), conversation, cut) == missed


def test_a_client_that_comes_in_the_middle_gets_the_rest_of_the_text(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    reader = desk.receive(message(conversation, "1", "a"))
    assert next(reader) == "wait"
    late: list[Event] = []
    desk.attach(conversation, 0, late.append)
    assert late == [TokenEvent(BLOCK + 1, "1", "wait")]
    assistant.go_on.release()
    turn = list(reader)[-1]
    assert late[1:] == [TokenEvent(BLOCK + 2, "1", "a"), TurnEvent(BLOCK + 9000, turn)]  # type: ignore[arg-type]


def test_ids_go_on_behind_what_a_client_heard_before_a_restart(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    """The first attempt died after five chunks; the second must not give their numbers to other text, and says that it
    is another one."""
    desk, conversation = open_desk(Echo()), open_conversation(database)
    live: list[Event] = []
    desk.attach(conversation, BLOCK + 5, live.append)
    turn = desk.answer(message(conversation, "1", "a b"))
    assert live == [
        TokenEvent(BLOCK + 6, "1", "a", restart=True),
        TokenEvent(BLOCK + 7, "1", "b"),
        TurnEvent(BLOCK + 9000, turn),
    ]


def test_a_made_up_event_id_hides_nothing_that_comes(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    hire(database)
    heard: list[list[Event]] = [[], [], []]
    for number, events in zip((0, 10**18, -5), heard, strict=True):
        desk.attach(conversation, number, events.append)
    turns = []
    for number in range(3):
        turns.append(desk.answer(message(conversation, str(number))))
        desk.ask_for_person(conversation, "asked")
        desk.give_back(conversation, ANNA)
    for events in heard:
        assert [event.turn for event in events if isinstance(event, TurnEvent)] == turns
        assert sum(isinstance(event, StatusEvent) for event in events) == 6
        assert [event.id for event in events] == sorted({event.id for event in events})


def test_who_listens_from_now_on_hears_nothing_older(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    desk.answer(message(conversation, "1", "a"))
    live: list[Event] = []
    desk.attach(conversation, None, live.append)
    turn = desk.answer(message(conversation, "2", "b"))
    assert live == [TokenEvent(2 * BLOCK + 1, "2", "b"), TurnEvent(2 * BLOCK + 9000, turn)]


def test_a_hand_over_is_published(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Failing(_raises)), open_conversation(database)
    live: list[Event] = []
    desk.attach(conversation, 0, live.append)
    desk.answer(message(conversation, "1"))
    assert live[-1] == StatusEvent(BLOCK + 9001, "waiting")


def test_a_listener_that_fails_costs_nobody_an_answer(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)

    def fail(event: Event) -> None:
        raise RuntimeError("the loop is closed")

    desk.attach(conversation, 0, fail)
    heard: list[Event] = []
    desk.attach(conversation, 0, heard.append)
    assert desk.answer(message(conversation, "1", "a")).reply.text == "0: a"
    assert [type(event) for event in heard] == [TokenEvent, TurnEvent]


def test_a_very_long_reply_keeps_its_numbers_below_the_turn(database: Database, open_desk: Callable[..., Desk]) -> None:
    desk, conversation = open_desk(Failing(_very_long)), open_conversation(database)
    live: list[Event] = []
    desk.attach(conversation, 0, live.append)
    desk.answer(message(conversation, "1"))
    assert [event.id for event in live] == [*range(BLOCK + 1, BLOCK + 8901), BLOCK + 9000]


def _very_long(asked: Message) -> Iterator[str | Turn]:
    for _ in range(9500):
        yield "x"
    yield turn_for(asked)


def test_a_turn_that_could_not_be_stored_is_an_error_event(tmp_path: Path) -> None:
    with faulty_disk() as disk, open_record(tmp_path) as database:
        conversation = open_conversation(database)
        desk = Desk(database, Echo())
        live: list[Event] = []
        desk.attach(conversation, 0, live.append)
        disk.fault = {"sync": IOERR_FSYNC}
        with pytest.raises(RecordUnavailable):
            desk.answer(message(conversation, "1", "a"))
        desk.close(seconds=SOON)
    assert isinstance(live[-1], ErrorEvent) and live[-1].message_id == "1" and "disk" in live[-1].problem
    assert not any(isinstance(event, TurnEvent) for event in live)


def test_a_forgotten_conversation_is_gone_and_who_waits_is_told(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    live: list[Event] = []
    desk.attach(conversation, 0, live.append)
    reader = desk.receive(message(conversation, "1", "a"))
    assert next(reader) == "wait"
    assert desk.forget(conversation, actor="customer")
    assistant.go_on.release()
    with pytest.raises(UnknownConversation):
        list(reader)
    assert [type(event) for event in live] == [TokenEvent, TokenEvent, ErrorEvent]
    assert entries(database, conversation) == () and not desk.forget(conversation, actor="customer")


# -- who asks and listens in one -------------------------------------------------------------------------------------


def test_who_listens_to_an_answer_hears_it_from_its_first_word_to_its_turn(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    desk, conversation = open_desk(Echo()), open_conversation(database)
    earlier = desk.answer(message(conversation, "0", "not of interest"))
    heard: SimpleQueue[Event] = SimpleQueue()
    leave, stored = desk.listen(message(conversation, "1", "a b"), heard.put)
    # Whoever asks so quick an assistant may come after its turn, and is given that instead of the event.
    if stored is None:
        events = [heard.get(timeout=SOON) for _ in range(3)]
        stored = events[-1]  # type: ignore[assignment]
        assert [event.text for event in events[:2]] == ["a", "b"]  # type: ignore[union-attr]
    assert stored == TurnEvent(2 * BLOCK + 9000, history(database, conversation)[1])
    leave()
    again, repeated = desk.listen(message(conversation, "1", "a b"), heard.put)
    again()
    assert repeated == stored
    assert desk.listen(message(conversation, "0", "x"), heard.put)[1] == TurnEvent(BLOCK + 9000, earlier)


def test_who_joins_an_answer_hears_it_from_its_first_word_too(
    database: Database, open_desk: Callable[..., Desk]
) -> None:
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    heard: list[SimpleQueue[Event]] = [SimpleQueue(), SimpleQueue()]
    asked = message(conversation, "1", "a b")
    assert desk.listen(asked, heard[0].put)[1] is None
    assert isinstance(heard[0].get(timeout=SOON), TokenEvent)  # it has begun
    assert desk.listen(asked, heard[1].put)[1] is None
    assert isinstance(heard[1].get(timeout=SOON), TokenEvent)
    assistant.go_on.release()
    for queue in heard:
        rest = [queue.get(timeout=SOON) for _ in range(3)]
        assert [type(event) for event in rest] == [TokenEvent, TokenEvent, TurnEvent]
    assert assistant.asked == ["1"]


def test_an_attempt_that_failed_before_is_not_taken_for_this_one(tmp_path: Path) -> None:
    with faulty_disk() as disk, open_record(tmp_path) as database:
        conversation = open_conversation(database)
        desk = Desk(database, Echo())
        heard: SimpleQueue[Event] = SimpleQueue()
        disk.fault = {"write": FULL}
        asked = message(conversation, "1", "a")
        desk.listen(asked, heard.put)[0]()
        with pytest.raises(RecordUnavailable, match="the disk is full"):
            list(desk.receive(asked))
        while desk.in_hand:
            pass
        disk.fault = {}
        second: SimpleQueue[Event] = SimpleQueue()
        _, stored = desk.listen(asked, second.put)
        while stored is None:
            event = second.get(timeout=SOON)
            assert not isinstance(event, ErrorEvent), "that is the error of the first attempt"
            stored = event if isinstance(event, TurnEvent) else None
        assert stored.turn.reply.text == "0: a"
        desk.close(seconds=SOON)


def test_what_waits_is_told_from_what_is_being_answered(database: Database, open_desk: Callable[..., Desk]) -> None:
    assistant = OnCommand()
    desk = open_desk(assistant, workers=2)
    conversations = [open_conversation(database) for _ in range(3)]
    readers = [desk.receive(message(c, str(number))) for c in conversations for number in range(2)]
    for _ in range(2):
        assistant.begun.get(timeout=SOON)
    assert (desk.in_hand, desk.waiting) == (6, 4)
    assistant.go_on.release(6)
    assert all(isinstance(list(reader)[-1], Turn) for reader in readers)


def test_every_turn_is_told_once_with_the_time_it_took(database: Database) -> None:
    told: list[tuple[Turn, float, float]] = []
    desk = Desk(database, Echo(), told=lambda turn, store, whole: told.append((turn, store, whole)))
    conversation = open_conversation(database)
    turns = [desk.answer(message(conversation, str(number))) for number in range(3)]
    desk.answer(message(conversation, "1"))  # answered before: nothing was made
    desk.close(seconds=SOON)
    assert [each[0] for each in told] == turns
    assert all(0 < store < whole for _, store, whole in told)


# -- the module ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_importing_the_desk_loads_no_model_library() -> None:
    heavy = "{'torch', 'transformers', 'faiss', 'sklearn', 'tantivy', 'peft', 'alembic', 'fastapi'}"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, bot.serving, bot.readers; print({heavy} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "set()"


def test_stored_elsewhere_meanwhile_is_not_answered_again(database: Database, open_desk: Callable[..., Desk]) -> None:
    """Another process answered the same message between our look and our store: its turn is the turn."""
    assistant = OnCommand()
    desk, conversation = open_desk(assistant), open_conversation(database)
    reader = desk.receive(message(conversation, "1", "hi"))
    assert next(reader) == "wait"
    other = dataclasses.replace(turn_for(message(conversation, "1", "hi")), id="other-process")
    store_turn(database, other)
    assistant.go_on.release()
    assert list(reader)[-1] == other and history(database, conversation) == (other,)


def test_the_assistant_knows_the_day_and_the_hours_of_the_site(database: Database) -> None:
    """What is stored is when it came, as it was told."""
    made, _ = create_site(database, "Shop", actor="test")
    never = (Hours(0, "10:00", "10:00"),)
    shop = dataclasses.replace(made, hours=never, time_zone="Asia/Shanghai")
    desk = Desk(database, Clock(), site_of={shop.id: shop}.get)
    came, said = datetime(2026, 11, 30, 20, 0, tzinfo=UTC), []
    for site in (shop.id, ""):
        conversation = start_conversation(database, channel="web", site=site).id
        turn = desk.answer(dataclasses.replace(message(conversation, "m1"), received_at=came))
        said.append(turn.reply.text)
        assert turn.message.received_at.isoformat() == came.isoformat() and history(database, conversation) == (turn,)
    assert said == ["01 Dec, away", "30 Nov, in"]
    desk.close()
