"""A conversation from open to resolved or forgotten, and who may speak in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy.exc import IntegrityError

from bot.storage.conversations import (
    UnknownConversation,
    count,
    find_conversation,
    forget,
    opened_conversation,
    rate,
    start_conversation,
)
from bot.storage.database import Database
from bot.storage.feedback import give_feedback, record_click
from bot.storage.turns import accept_message, history, store_turn
from tests.bot.storage.sample import message, open_record, turn_for


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def table(database: Database, name: str) -> list[tuple[object, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]


def test_ids_and_tokens_cannot_be_guessed_and_only_the_hash_is_kept(database: Database) -> None:
    started = [start_conversation(database, channel="web") for _ in range(200)]
    assert len({each.id for each in started}) == len({each.token for each in started}) == 200
    assert {len(each.id) for each in started} == {22} and {len(each.token) for each in started} == {43}
    database.close()
    on_disk = b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    assert not any(each.token.encode() in on_disk for each in started)
    assert all(each.id.encode() in on_disk for each in started)  # the search above would have found them


def test_a_token_opens_its_own_conversation_and_no_other(database: Database) -> None:
    mine, other = (start_conversation(database, channel="web") for _ in range(2))
    for each in (mine, other):
        found = opened_conversation(database, each.token)
        assert found is not None and found == find_conversation(database, each.id)
    for token in ("", mine.id, mine.visitor, mine.token[:-1], mine.token + "\ud800", mine.token + mine.token):
        assert opened_conversation(database, token) is None


def test_a_conversation_reads_back(database: Database) -> None:
    named = start_conversation(database, channel="slack", sender="U1", site="shop").id
    found = find_conversation(database, named)
    assert (found.id, found.channel, found.sender, found.site, found.status) == (named, "slack", "U1", "shop", "open")
    nameless = start_conversation(database, channel="web").id
    assert find_conversation(database, nameless).sender == nameless
    assert found.created_at.tzinfo is not None


def test_stars_are_given_once_and_may_change(database: Database) -> None:
    conversation = start_conversation(database, channel="web").id
    rate(database, conversation, stars=2, comment="slow")
    rate(database, conversation, stars=4)
    assert [row[:3] for row in table(database, "ratings")] == [(conversation, 4, "")]
    with pytest.raises(IntegrityError, match="ck_ratings_stars"):
        rate(database, conversation, stars=6)


def test_an_unknown_conversation_is_named(database: Database) -> None:
    for act in (
        lambda: find_conversation(database, "nowhere"),
        lambda: rate(database, "nowhere", stars=5),
    ):
        with pytest.raises(UnknownConversation, match="no conversation 'nowhere'"):
            act()  # type: ignore[no-untyped-call]
    assert not forget(database, "nowhere", actor="a")
    assert table(database, "audit") == table(database, "ratings") == []


def test_a_forgotten_conversation_leaves_no_word_on_the_disk(database: Database) -> None:
    """Looked for in the bytes of the file, also after the WAL was folded in."""
    kept, gone = (start_conversation(database, channel="web").id for _ in range(2))
    for conversation, secret in ((kept, "walnut" * 3), (gone, "hazelnut" * 3)):
        turn = turn_for(message(conversation, "1", secret), text=secret)
        store_turn(database, turn)
        give_feedback(database, turn.id, sender="s", verdict="down", comment=secret)
        record_click(database, turn.id, "citation", secret)
        rate(database, conversation, stars=1, comment=secret)
    assert forget(database, gone, actor="customer")
    assert history(database, gone) == () and len(history(database, kept)) == 1
    for name in ("messages", "turns", "feedback", "clicks", "ratings"):
        assert len(table(database, name)) == 1, name
    assert [row[2:] for row in table(database, "audit")] == [("customer", "forget", gone, "")]
    database.close()
    whole = sqlite.connect(str(database.path))
    whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole.close()
    on_disk = database.path.read_bytes()
    assert b"walnut" * 3 in on_disk
    assert b"hazelnut" * 3 not in on_disk


def test_the_record_is_counted(database: Database) -> None:
    conversations = [start_conversation(database, channel="web").id for _ in range(3)]
    up = turn_for(message(conversations[0], "1"))
    down = turn_for(message(conversations[1], "1"), status="handed_over")
    for turn, verdict in ((up, "up"), (down, "down")):
        store_turn(database, turn)
        give_feedback(database, turn.id, sender="s", verdict=verdict)  # type: ignore[arg-type]
    accept_message(database, message(conversations[2], "1"))
    counts = count(database)
    assert counts.conversations == {"open": 2, "waiting": 1}
    assert counts.turns == {"grounded": 1, "handed_over": 1}
    assert (counts.unanswered, counts.thumbs_up, counts.thumbs_down) == (1, 1, 1)
