"""What is asked next is counted by different visitors, told only above the floor, and never in a customer's words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.conversation.answers import NextTopic
from bot.conversation.messages import Approved, Decision, Grounded, NotKnown, Status
from bot.storage.conversations import opened_conversation
from bot.storage.database import Database
from bot.storage.feedback import record_click
from bot.storage.next_questions import FLOOR, NextQuestions, asked_next
from bot.storage.turns import store_turn
from bot.storage.visitors import open_conversation
from retriever.passages import Hit, Passage, Why
from tests.bot.storage.sample import message, open_record, turn_for

SINCE = datetime.now(UTC) - timedelta(days=1)
REFUND, RETURN, TRACK = Approved("refund_time"), Approved("start_return"), Approved("track_order")
LABEL = Grounded(
    (
        Hit(
            Passage("p", "returns/labels.md", "Return labels", (), "A label is free.", 0, 16, "en"),
            0.9,
            0.9,
            Why(0.9, 0.9, 0.0),
        ),
    )
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def talk(database: Database, *decisions: Decision, click: str = "", token: str = "") -> str:
    """A conversation that went like this, of a new visitor or of that of `token`; gives its token. With `click`, the
    last question is one that was clicked."""
    started, _ = open_conversation(database, earlier=opened_conversation(database, token) if token else None)
    before = ""
    for number, decision in enumerate(decisions):
        last = number == len(decisions) - 1
        if click and last:
            record_click(database, before, "suggestion", click)
        text = click if click and last else f"private words {number}"
        status: Status = {Approved: "approved", Grounded: "grounded"}.get(type(decision), "not_known")  # type: ignore[assignment]
        turn = turn_for(message(started.id, str(number), text), status=status)
        turn = replace(turn, parts=(replace(turn.parts[0], decision=decision),))
        before = store_turn(database, turn).turn.id
    return started.token


def test_what_enough_visitors_asked_next_is_told_most_frequent_first(database: Database) -> None:
    for _ in range(FLOOR):
        talk(database, REFUND, RETURN)
    for _ in range(FLOOR + 2):
        talk(database, REFUND, LABEL, TRACK)
    for _ in range(FLOOR - 1):
        talk(database, REFUND, TRACK)
    assert asked_next(database, SINCE) == {
        "intent:refund_time": [NextTopic("", "Return labels", "en"), NextTopic("start_return")],
        "article:returns/labels.md": [NextTopic("track_order")],
    }


def test_one_visitor_counts_once_however_often_they_ask(database: Database) -> None:
    token = ""
    for _ in range(FLOOR * 2):
        token = talk(database, REFUND, RETURN, token=token)
    assert asked_next(database, SINCE) == {}
    assert "intent:refund_time" in asked_next(database, SINCE, floor=1)


def test_a_question_that_was_clicked_counts_twice(database: Database) -> None:
    for _ in range(FLOOR):
        talk(database, REFUND, RETURN, click="How do I return something?")
    for _ in range(FLOOR + 1):
        talk(database, REFUND, TRACK)
    found = asked_next(database, SINCE)["intent:refund_time"]
    assert [one.intent for one in found] == ["start_return", "track_order"]


def test_nothing_but_answers_teaches(database: Database) -> None:
    for _ in range(FLOOR):
        talk(database, REFUND, NotKnown())
        talk(database, NotKnown(), REFUND)
        talk(database, REFUND, REFUND)
        talk(database, REFUND, NotKnown(), RETURN)  # not directly after it
    assert asked_next(database, SINCE) == {}


def test_old_conversations_are_left_out_and_no_customers_words_come_out(database: Database) -> None:
    for _ in range(FLOOR):
        talk(database, REFUND, RETURN)
    assert "private" not in str(asked_next(database, SINCE))
    assert asked_next(database, datetime.now(UTC) + timedelta(seconds=1)) == {}


def test_what_was_learnt_is_kept_until_the_next_counting(database: Database) -> None:
    learnt = NextQuestions(database)
    learnt.learn_if_due()
    for _ in range(FLOOR):
        talk(database, REFUND, RETURN)
    learnt.learn_if_due()
    assert learnt.after("intent:refund_time") == (), "an hour has not passed"
    again = NextQuestions(database)
    assert again.after("intent:refund_time") == ()
    again.learn_if_due()
    assert again.after("intent:refund_time") == [NextTopic("start_return")]
    assert again.after("intent:unheard_of") == ()
