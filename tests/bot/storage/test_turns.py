"""A message is stored once, its turn once, and everything reads back as it was."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bot import FrontdeskError
from bot.conversation.messages import Turn
from bot.storage.conversations import UnknownConversation, find_conversation
from bot.storage.database import Database
from bot.storage.feedback import Click, give_feedback, record_click
from bot.storage.handover import reply, resolve, take
from bot.storage.trace import trace
from bot.storage.turns import (
    REMEMBERED,
    UnknownTurn,
    accept_message,
    all_turns,
    conversation_of,
    entries,
    find_entry,
    history,
    last_sequence,
    look_up,
    owed,
    past,
    placed_turn,
    store_turn,
)
from tests.bot.storage.sample import ANNA, any_turn, hire, message, open_conversation, open_record, turn_for


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


@pytest.fixture
def conversation(database: Database) -> str:
    return open_conversation(database)


@given(any_turn)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_turn_reads_back_exactly(database: Database, turn: Turn) -> None:
    asked = dataclasses.replace(turn.message, conversation=open_conversation(database))
    stored = dataclasses.replace(turn, id=f"turn-{asked.conversation}", message=asked)
    store_turn(database, stored)
    (back,) = history(database, asked.conversation)
    assert back == stored
    assert back.message.received_at.utcoffset() == asked.received_at.utcoffset()


def test_history_is_in_the_order_of_the_messages(database: Database, conversation: str) -> None:
    turns = [turn_for(message(conversation, str(number))) for number in range(12)]
    for turn in turns:
        store_turn(database, turn)
    assert list(history(database, conversation)) == turns
    assert [entry.sequence for entry in entries(database, conversation)] == list(range(1, 13))
    assert [entry.turn for entry in entries(database, conversation, after=10)] == turns[10:]


def test_nobody_sees_another_conversation(database: Database, conversation: str) -> None:
    other = open_conversation(database)
    store_turn(database, turn_for(message(conversation, "1")))
    store_turn(database, turn_for(message(other, "1", "mine")))
    assert [turn.message.text for turn in history(database, other)] == ["mine"]
    assert history(database, "unknown") == ()


def test_a_repeated_message_id_is_stored_once(database: Database, conversation: str) -> None:
    first = store_turn(database, turn_for(message(conversation, "1")))
    again = dataclasses.replace(turn_for(message(conversation, "1", "another text")), id="another-turn")
    second = store_turn(database, again)
    assert (first.fresh, second.fresh) == (True, False)
    assert second.turn == first.turn and second.sequence == first.sequence == 1
    assert history(database, conversation) == (first.turn,)


def test_fifty_that_store_the_same_message_at_once_get_one_turn(database: Database, conversation: str) -> None:
    results = []

    def store(number: int) -> None:
        turn = dataclasses.replace(turn_for(message(conversation, "1")), id=f"turn-{number}")
        results.append(store_turn(database, turn))

    threads = [threading.Thread(target=store, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.fresh for result in results) == 1
    assert {result.turn for result in results} == set(history(database, conversation))


def test_an_accepted_message_is_owed_an_answer_until_it_has_one(database: Database, conversation: str) -> None:
    asked = message(conversation, "1")
    assert accept_message(database, asked) == accept_message(database, asked) == 1
    (entry,) = owed(database)
    assert (entry.message, entry.turn, entry.sequence) == (asked, None, 1)
    assert history(database, conversation) == ()
    assert [each.turn for each in entries(database, conversation)] == [None]
    store_turn(database, turn_for(asked))
    assert owed(database) == ()


def test_a_reserved_place_is_kept_and_a_taken_one_is_not_doubled(database: Database, conversation: str) -> None:
    assert accept_message(database, message(conversation, "b"), 2) == 2
    assert store_turn(database, turn_for(message(conversation, "a")), 1).sequence == 1
    assert store_turn(database, turn_for(message(conversation, "c")), 2).sequence == 3
    assert [entry.message.id for entry in entries(database, conversation)] == ["a", "b", "c"]
    assert last_sequence(database, conversation) == 3


def test_looking_up_tells_the_place_and_the_message(database: Database, conversation: str) -> None:
    assert look_up(database, conversation, "1") == (0, None)
    stored = store_turn(database, turn_for(message(conversation, "1")))
    last, entry = look_up(database, conversation, "1")
    assert last == 1 and entry == find_entry(database, conversation, "1") == placed_turn(database, stored.turn.id)
    assert find_entry(database, conversation, "2") is None


def test_a_hand_over_leaves_the_conversation_waiting(database: Database, conversation: str) -> None:
    assert store_turn(database, turn_for(message(conversation, "1"))).change is None
    handed = store_turn(database, turn_for(message(conversation, "2"), status="handed_over"))
    assert handed.change is not None and handed.change.status == "waiting"
    assert find_conversation(database, conversation).status == "waiting"
    assert store_turn(database, turn_for(message(conversation, "3"), status="handed_over")).change is None


def test_a_message_opens_a_resolved_conversation_again(database: Database, conversation: str) -> None:
    database.write(lambda connection: resolve(connection, conversation, None, after=0))
    change = store_turn(database, turn_for(message(conversation, "1"))).change
    assert change is not None and (change.status, change.event) == ("open", 19_001)


def test_an_answer_that_comes_after_the_end_leaves_it_an_end(database: Database, conversation: str) -> None:
    accept_message(database, message(conversation, "1"))
    database.write(lambda connection: resolve(connection, conversation, None, after=1))
    assert store_turn(database, turn_for(message(conversation, "1"))).change is None
    assert find_conversation(database, conversation).status == "resolved"
    again = store_turn(database, turn_for(message(conversation, "2"))).change
    assert again is not None and (again.status, again.after) == ("open", 2)


def test_what_is_unknown_is_named(database: Database, conversation: str) -> None:
    asked = message("nowhere", "1")
    for act in (
        lambda: store_turn(database, turn_for(asked)),
        lambda: accept_message(database, asked),
        lambda: last_sequence(database, "nowhere"),
        lambda: look_up(database, "nowhere", "1"),
    ):
        with pytest.raises(UnknownConversation, match="no conversation 'nowhere'"):
            act()  # type: ignore[no-untyped-call]
    for act in (
        lambda: trace(database, "t"),
        lambda: conversation_of(database, "t"),
        lambda: give_feedback(database, "t", sender="s", verdict="up"),
        lambda: record_click(database, "t", "citation", "x"),
    ):
        with pytest.raises(UnknownTurn, match="no turn 't'"):
            act()  # type: ignore[no-untyped-call]
    assert owed(database) == ()


def test_a_message_that_is_not_text_is_refused(database: Database, conversation: str) -> None:
    for asked, told in (
        (message(conversation, "1", "half \ud800 pair"), "text .* not valid Unicode at character 5: send UTF-8"),
        (message(conversation, "\ud800"), "id .* not valid Unicode"),
        (dataclasses.replace(message(conversation, "1"), received_at=datetime(2026, 1, 1)), "no timezone"),
    ):
        with pytest.raises(FrontdeskError, match=told):
            accept_message(database, asked)
        with pytest.raises(FrontdeskError, match=told):
            store_turn(database, turn_for(asked))
    assert entries(database, conversation) == ()


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE turns; --", "\x00 in the middle \x00", "客服" * 500, "🙈", "", "%s ? :x"]
)
def test_any_text_is_only_text(database: Database, conversation: str, text: str) -> None:
    turn = turn_for(message(conversation, "1", text), text=text)
    store_turn(database, turn)
    assert history(database, conversation) == (turn,)


def test_a_trace_holds_everything_about_a_turn(database: Database, conversation: str) -> None:
    turns = [turn_for(message(conversation, str(number))) for number in range(3)]
    for turn in turns:
        store_turn(database, turn)
    asked = turns[1].id
    give_feedback(database, asked, sender="customer-1", verdict="up", comment="good")
    give_feedback(database, asked, sender="customer-1", verdict="down", reason="wrong")
    give_feedback(database, asked, sender="agent-2", verdict="up")
    for _ in range(2):
        record_click(database, asked, "citation", "/a#1")
    record_click(database, asked, "suggestion", "Cancel it")
    found = trace(database, asked)
    assert (found.turn, found.sequence, found.before) == (turns[1], 2, (turns[0],))
    assert found.conversation == find_conversation(database, conversation)
    assert [(each.sender, each.verdict, each.reason, each.comment) for each in found.feedback] == [
        ("customer-1", "down", "wrong", ""),
        ("agent-2", "up", "", ""),
    ]
    assert found.feedback[0].updated_at >= found.feedback[0].created_at
    assert found.clicks == (Click("citation", "/a#1"), Click("suggestion", "Cancel it"))
    assert found.labels == ()
    assert datetime.now(UTC) - found.stored_at < timedelta(minutes=1)
    assert conversation_of(database, asked) == conversation


def test_the_next_message_finds_the_latest_turns_however_long_a_conversation_is(
    database: Database, conversation: str
) -> None:
    """4,000 turns took two seconds to read, with each message anew: one stranger could have kept a core busy."""
    hire(database)
    turns = [turn_for(message(conversation, str(number))) for number in range(REMEMBERED + 3)]
    for turn in turns:
        store_turn(database, turn)
    database.write(lambda connection: take(connection, conversation, ANNA, after=len(turns)))
    for name, after in (("r-1", 2), ("r-2", len(turns) - 1)):
        database.write(
            lambda connection, name=name, after=after: reply(connection, conversation, ANNA, name, name, after=after)  # type: ignore[misc]
        )
    found = past(database, conversation)
    assert [turn.message.id for turn in found.turns] == [turn.message.id for turn in turns[3:]]
    assert [line.text for turn in found.turns for line in turn.behind] == ["r-2"]
    assert found.turns[-2].behind and history(database, conversation) == tuple(turns)


def test_all_turns_come_once_each_and_since_a_moment(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.storage.turns._PAGE", 7)
    expected = []
    for _ in range(4):
        conversation = open_conversation(database)
        for number in range(6):
            turn = turn_for(message(conversation, str(number)))
            store_turn(database, turn)
            expected.append(turn)
    assert list(all_turns(database)) == expected
    middle = trace(database, expected[10].id).stored_at
    assert list(all_turns(database, since=middle)) == expected[10:]
    assert list(all_turns(database, since=datetime.now(UTC))) == []
