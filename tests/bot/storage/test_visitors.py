"""Whose a conversation is: tokens that end, conversations of one visitor, and becoming known by both proofs only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.storage.conversations import (
    Conversation,
    find_conversation,
    forget,
    note_seen,
    opened_conversation,
    start_conversation,
)
from bot.storage.database import Database
from bot.storage.handover import reply, resolve, take
from bot.storage.tokens import ANONYMOUS_LIFE, KNOWN_LIFE, MOST_PER_CONVERSATION, hash_of
from bot.storage.turns import store_turn
from bot.storage.visitors import (
    Identity,
    conversations_of,
    find_visitor,
    open_conversation,
    renewed_token,
)
from tests.bot.storage.sample import ANNA as AGENT
from tests.bot.storage.sample import hire, message, open_record, turn_for

ANNA, BEN = Identity("anna", "Anna", "anna@example.com"), Identity("ben")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def opened(database: Database, token: str) -> Conversation:
    found = opened_conversation(database, token)
    assert found is not None
    return found


def expire_in(database: Database, token: str, left: timedelta) -> None:
    until = (datetime.now(UTC) + left).replace(tzinfo=None).isoformat(" ")
    database.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE tokens SET expires_at = ? WHERE hash = ?", (until, hash_of(token))
        )
    )


def expires_at(database: Database, token: str) -> datetime:
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT expires_at FROM tokens WHERE hash = ?", (hash_of(token),)).scalar()
    return datetime.fromisoformat(str(found)).replace(tzinfo=UTC)


def settled(database: Database) -> None:
    """What was handed to the writer before is stored now."""
    database.write(lambda connection: None)


@pytest.mark.parametrize(("identity", "life"), [(None, ANONYMOUS_LIFE), (ANNA, KNOWN_LIFE)])
def test_a_token_lives_on_from_its_last_use_and_then_ends(
    database: Database, identity: Identity | None, life: timedelta
) -> None:
    started, _ = open_conversation(database, identity=identity)
    assert abs(started.expires_at - datetime.now(UTC) - life) < timedelta(minutes=1)
    before = expires_at(database, started.token)
    opened(database, started.token)
    settled(database)
    assert expires_at(database, started.token) == before, "a use right after another one costs no write"
    expire_in(database, started.token, life / 2)
    opened(database, started.token)
    settled(database)
    assert expires_at(database, started.token) > datetime.now(UTC) + life * 0.99
    expire_in(database, started.token, -timedelta(seconds=1))
    assert opened_conversation(database, started.token) is None
    settled(database)
    assert opened_conversation(database, started.token) is None, "a use after the end revives nothing"


def test_a_token_opens_while_too_many_writes_wait(database: Database) -> None:
    """Reading one's conversation needs no write; that its token lives on can be noted at the next use."""
    started, _ = open_conversation(database)
    expire_in(database, started.token, ANONYMOUS_LIFE / 2)
    database.close()
    begun, over = threading.Event(), threading.Event()
    with Database(database.path, most_waiting=1) as busy:
        busy.submit(lambda connection: (begun.set(), over.wait()))
        begun.wait()
        busy.submit(lambda connection: None)
        try:
            assert opened(busy, started.token).id == started.id
        finally:
            over.set()


def test_an_earlier_token_makes_the_next_conversation_the_same_visitors(database: Database) -> None:
    first, _ = open_conversation(database)
    second, resumed = open_conversation(database, earlier=opened(database, first.token))
    stranger, _ = open_conversation(database)
    assert not resumed and second.visitor == first.visitor != stranger.visitor
    assert {one.id for one in conversations_of(database, first.visitor)} == {first.id, second.id}
    assert [one.id for one in conversations_of(database, stranger.visitor)] == [stranger.id]


def test_an_earlier_token_of_another_site_proves_nothing_here(database: Database) -> None:
    first, _ = open_conversation(database, site="shop")
    there = opened(database, first.token)
    for identity in (None, ANNA):
        second, _ = open_conversation(database, site="blog", identity=identity, earlier=there)
        assert second.visitor != first.visitor
    assert find_conversation(database, first.id).visitor == first.visitor


def test_the_same_user_of_two_sites_is_two_visitors(database: Database) -> None:
    shop, blog = (open_conversation(database, site=site, identity=ANNA)[0] for site in ("shop", "blog"))
    again, _ = open_conversation(database, site="shop", identity=ANNA)
    default, _ = open_conversation(database, identity=ANNA)
    default_again, _ = open_conversation(database, identity=ANNA)
    assert shop.visitor == again.visitor != blog.visitor
    assert default.visitor == default_again.visitor not in (shop.visitor, blog.visitor)


def test_both_proofs_together_make_an_anonymous_customer_a_known_one(database: Database) -> None:
    anonymous, _ = open_conversation(database)
    other, _ = open_conversation(database, earlier=opened(database, anonymous.token))
    known, resumed = open_conversation(database, identity=ANNA, earlier=opened(database, anonymous.token), resume=True)
    assert resumed and known.id == other.id, "the latest that is not resolved"
    assert {one.id for one in conversations_of(database, known.visitor)} == {anonymous.id, other.id}
    # Whoever shared that browser, or planted the token, must not watch the customer through it.
    assert opened_conversation(database, anonymous.token) is None
    assert opened_conversation(database, other.token) is None
    assert opened(database, known.token).id == other.id
    assert find_visitor(database, anonymous.visitor) is None
    found = find_visitor(database, known.visitor)
    assert found is not None and (found.user_id, found.name, found.email) == ("anna", "Anna", "anna@example.com")


def test_the_next_user_of_a_browser_sees_nothing_of_the_one_before(database: Database) -> None:
    annas, _ = open_conversation(database, identity=ANNA)
    bens, resumed = open_conversation(database, identity=BEN, earlier=opened(database, annas.token), resume=True)
    assert not resumed and bens.visitor != annas.visitor
    assert [one.id for one in conversations_of(database, bens.visitor)] == [bens.id]
    assert [one.id for one in conversations_of(database, annas.visitor)] == [annas.id]
    assert renewed_token(database, opened(database, bens.token), annas.id) is None


def test_an_identity_alone_takes_nothing_anonymous_and_a_token_alone_gives_no_identity(database: Database) -> None:
    anonymous, _ = open_conversation(database)
    known, resumed = open_conversation(database, identity=ANNA, resume=True)
    assert not resumed
    assert [one.id for one in conversations_of(database, known.visitor)] == [known.id]
    assert find_conversation(database, anonymous.id).visitor == anonymous.visitor


def test_resuming_gives_the_latest_that_is_not_resolved(database: Database) -> None:
    first, _ = open_conversation(database, identity=ANNA)
    second, _ = open_conversation(database, identity=ANNA)
    database.write(lambda connection: resolve(connection, second.id, None, after=0))
    again, resumed = open_conversation(database, identity=ANNA, resume=True)
    assert (again.id, resumed) == (first.id, True) and again.token != first.token
    assert opened(database, first.token).id == first.id, "another page of the same customer goes on"
    database.write(lambda connection: resolve(connection, first.id, None, after=0))
    third, resumed = open_conversation(database, identity=ANNA, resume=True)
    assert not resumed and third.id not in (first.id, second.id)


def test_only_own_conversations_get_a_fresh_token(database: Database) -> None:
    mine, _ = open_conversation(database)
    holder = opened(database, mine.token)
    also_mine, _ = open_conversation(database, earlier=holder)
    foreign, _ = open_conversation(database)
    token = renewed_token(database, holder, also_mine.id)
    assert token is not None and opened(database, token.text).id == also_mine.id
    for conversation in (foreign.id, "unknown", ""):
        assert renewed_token(database, holder, conversation) is None


def test_a_conversation_has_room_for_so_many_tokens(database: Database) -> None:
    first, _ = open_conversation(database)
    holder = opened(database, first.token)
    tokens = [renewed_token(database, holder, first.id) for _ in range(MOST_PER_CONVERSATION + 3)]
    living = [token for token in tokens if token and opened_conversation(database, token.text)]
    assert living == tokens[-MOST_PER_CONVERSATION:]
    assert opened_conversation(database, first.token) is None, "the oldest made room"


def test_forgetting_the_last_conversation_forgets_the_visitor_and_ends_the_tokens(database: Database) -> None:
    first, _ = open_conversation(database, identity=ANNA)
    second, _ = open_conversation(database, identity=ANNA)
    forget(database, first.id, actor="customer")
    assert opened_conversation(database, first.token) is None
    assert find_visitor(database, first.visitor) is not None
    forget(database, second.id, actor="customer")
    assert find_visitor(database, first.visitor) is None
    database.close()
    on_disk = b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    assert b"anna@example.com" not in on_disk


def test_the_list_says_what_was_said_last_and_what_is_unread(database: Database) -> None:
    started, _ = open_conversation(database)
    (empty,) = conversations_of(database, started.visitor)
    assert (empty.status, empty.last_text, empty.unread, empty.last_at) == ("open", "", 0, empty.started_at)
    for number in range(3):
        store_turn(database, turn_for(message(started.id, str(number)), text=f"answer {number}" + "x" * 500))
    (listed,) = conversations_of(database, started.visitor)
    assert listed.last_text.startswith("answer 2x") and len(listed.last_text) == 200
    assert listed.unread == 3
    note_seen(database, started.id, datetime.now(UTC))
    settled(database)
    store_turn(database, turn_for(message(started.id, "3"), text="answer 3"))
    (listed,) = conversations_of(database, started.visitor)
    assert (listed.last_text, listed.unread) == ("answer 3", 1)


def test_silence_while_a_person_has_the_conversation_is_nothing_unread(database: Database) -> None:
    started, _ = open_conversation(database)
    hire(database)
    database.write(lambda connection: take(connection, started.id, AGENT, after=0))
    for number in range(3):
        store_turn(database, turn_for(message(started.id, str(number), "are you there?")))
    (listed,) = conversations_of(database, started.visitor)
    assert (listed.last_text, listed.unread) == ("are you there?", 0)
    database.write(lambda connection: reply(connection, started.id, AGENT, "r-1", "I am.", after=3))
    (listed,) = conversations_of(database, started.visitor)
    assert (listed.last_text, listed.unread) == ("I am.", 1)


def test_what_a_known_customer_says_of_themselves_does_not_replace_what_was_proven(database: Database) -> None:
    """Whoever answers takes the name and the address of a known customer for proven ones."""
    known, _ = open_conversation(database, identity=ANNA)
    earlier = opened(database, known.token)
    again, _ = open_conversation(database, earlier=earlier, name="The Director", email="director@example.com")
    assert again.visitor == known.visitor
    found = find_visitor(database, known.visitor)
    assert found is not None and (found.name, found.email) == ("Anna", "anna@example.com")
    bens, _ = open_conversation(database, identity=BEN)
    open_conversation(database, earlier=opened(database, bens.token), name="Ben", email="ben@example.com")
    found = find_visitor(database, bens.visitor)
    assert found is not None and (found.name, found.email) == ("Ben", "ben@example.com"), "nothing else is known"


def test_what_a_visitor_says_of_themselves_is_kept_and_a_proven_name_counts_more(database: Database) -> None:
    anonymous, _ = open_conversation(database, name="Somebody", email="x@example.com")
    found = find_visitor(database, anonymous.visitor)
    assert found is not None and (found.user_id, found.name, found.email) == (None, "Somebody", "x@example.com")
    known, _ = open_conversation(database, identity=ANNA, name="Queen Anna")
    found = find_visitor(database, known.visitor)
    assert found is not None and found.name == "Anna"


def test_what_the_terminal_starts_has_a_visitor_too(database: Database) -> None:
    started = start_conversation(database, channel="terminal")
    found = find_visitor(database, started.visitor)
    assert found is not None and found.user_id is None
