"""What is owed stays owed until it is delivered, is tried less and less often, and is given up in the open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.storage.conversations import forget
from bot.storage.database import Database
from bot.storage.outbox import MOST_ATTEMPTS, count_dead, due, mark_failed, mark_sent, owe, try_again, undelivered
from tests.bot.storage.sample import open_conversation, open_record


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def owed(database: Database) -> str:
    conversation = open_conversation(database)
    database.write(lambda c: owe(c, conversation, ("email", "webhook"), {"reason": "asked"}))
    return conversation


def later(hours: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def seconds(moment: datetime, number: int) -> datetime:
    return moment + timedelta(seconds=number)


PAUSES = (10, 30, 90, 270, 810, 2_430, 7_290, 21_870)


def test_each_kind_is_owed_once_under_an_id_of_its_own(database: Database) -> None:
    owed(database)
    notices = due(database, later())
    assert [notice.kind for notice in notices] == ["email", "webhook"]
    assert len({notice.id for notice in notices}) == 2
    assert [json.loads(notice.payload) for notice in notices] == [
        {"id": notice.id, "reason": "asked"} for notice in notices
    ]
    mark_sent(database, notices[0])
    assert [notice.kind for notice in due(database, later())] == ["webhook"]
    assert undelivered(database) == [], "what waits for its first try is no problem yet"


def test_a_failure_is_tried_again_ever_later_and_given_up(database: Database) -> None:
    owed(database)
    now = later()
    waits: list[int] = []
    while notices := [one for one in due(database, now) if one.kind == "email"]:
        mark_failed(database, notices[0], "no route to the mail server", now)
        waits.append(next((s for s in PAUSES if any(one.kind == "email" for one in due(database, seconds(now, s)))), 0))
        assert not any(one.kind == "email" for one in due(database, seconds(now, waits[-1] - 1)))
        now = seconds(now, waits[-1])
    assert waits == [*PAUSES, 0]
    assert len(waits) == MOST_ATTEMPTS and sum(waits) > 9 * 3_600
    (letter,) = undelivered(database)
    assert (letter.kind, letter.given_up, letter.attempts) == ("email", True, MOST_ATTEMPTS)
    assert "mail server" in letter.problem and count_dead(database) == 1
    try_again(database, letter.id)
    assert count_dead(database) == 0
    assert letter.id in [one.id for one in due(database, later())]


def test_a_forgotten_conversation_owes_nothing(database: Database) -> None:
    forget(database, owed(database), actor="test")
    assert due(database, later(24)) == []
