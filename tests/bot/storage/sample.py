"""Turns to store: a plain one, and every one that the types allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from hypothesis import strategies as st
from sqlalchemy import insert

from bot.conversation.messages import (
    Approved,
    AskFor,
    Candidate,
    Channel,
    Citation,
    Clarify,
    Entity,
    Grounded,
    HandOver,
    HandOverReason,
    Message,
    NotKnown,
    Part,
    Reply,
    SmallTalk,
    Status,
    Thresholds,
    Turn,
    Understanding,
    Versions,
)
from bot.storage.conversations import start_conversation
from bot.storage.database import Database
from bot.storage.handover import Agent
from bot.storage.tables import StaffRow
from retriever.passages import Hit, Passage, Why


def fresh_record(folder: Path) -> Database:
    """The record of a folder, made by the migrations if there is none."""
    return Database(folder / "frontdesk.sqlite3")


@cache
def _empty_record() -> bytes:
    with TemporaryDirectory() as name:
        fresh_record(Path(name)).close()
        return (Path(name) / "frontdesk.sqlite3").read_bytes()


def open_record(folder: Path) -> Database:
    """As `fresh_record`, from a copy of an empty record: migrating anew for every test would take most of the time."""
    if not (folder / "frontdesk.sqlite3").exists():
        (folder / "frontdesk.sqlite3").write_bytes(_empty_record())
    return fresh_record(folder)


def open_conversation(database: Database) -> str:
    return start_conversation(database, channel="web").id


ANNA = Agent("anna", "Anna")
BEN = Agent("ben", "Ben")


def hire(database: Database, *agents: Agent) -> None:
    """Puts agents on the staff, without the cost of a password."""
    for agent in agents or (ANNA, BEN):
        row = {"id": agent.id, "name": agent.name, "role": "agent", "password_hash": "", "temporary": False}
        row |= {"disabled": False, "created_at": datetime.now(UTC)}
        database.write(lambda connection, row=row: connection.execute(insert(StaffRow), row))


def message(conversation: str, name: str, text: str = "Where is my parcel?") -> Message:
    return Message(name, conversation, "customer-1", "web", text, datetime(2026, 11, 22, 9, 30, tzinfo=UTC))


def turn_for(asked: Message, *, status: Status = "grounded", text: str = "It is on its way.") -> Turn:
    """A turn of usual size: five passages found, one quoted."""
    passage = Passage("p1", "shipping/track.md", "Track a parcel", ("Track", "By mail"), "Your parcel. " * 30, 0, 390)
    hits = tuple(Hit(passage, 0.71, 0.83, Why(0.64, 0.5, 0.25)) for _ in range(5))
    understanding = Understanding(
        "track_order",
        0.91,
        (Candidate("cancel_order", 0.04),),
        0.02,
        (Entity("order_number", "A-1001", 0, 6, 1.0, "pattern"),),
        "en",
        "model-1",
    )
    return Turn(
        id=f"turn-{asked.conversation}-{asked.id}",
        message=asked,
        parts=(Part(asked.text, understanding, hits, Grounded(hits[:1])),),
        reply=Reply(text, (Citation("Track a parcel", "/a#1", "Your parcel.", "p1"),), ("Cancel it",), status),
        versions=Versions("model-1", "index-1", "playbook-1"),
        thresholds=Thresholds(),
        milliseconds=(("understand", 4.125), ("search", 0.5)),
    )


# -- everything the types allow --------------------------------------------------------------------------------------

# Half a surrogate pair is not text: messages that hold one are refused, which another test shows.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
pairs = st.lists(st.tuples(words, words), max_size=2).map(tuple)
moments = st.datetimes(
    timezones=st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))) | st.just(UTC)
)
passages = st.builds(
    Passage,
    id=words,
    source=words,
    title=words,
    heading=st.lists(words, max_size=3).map(tuple),
    text=words,
    start=st.integers(0, 2**62),
    end=st.integers(0, 2**62),
    language=words,
    url=words,
    question=words,
    entity=words,
    domain=words,
    audience=words,
)
hits = st.builds(Hit, passages, numbers, numbers, st.builds(Why, numbers, numbers, numbers))
decisions = st.one_of(
    st.builds(Approved, words, pairs),
    st.builds(Grounded, st.lists(hits, max_size=2).map(tuple)),
    st.builds(SmallTalk, words),
    st.builds(AskFor, words, words, pairs, words),
    st.builds(Clarify, st.lists(words, max_size=3).map(tuple)),
    st.builds(HandOver, st.sampled_from(get_args(HandOverReason))),
    st.builds(NotKnown),
)
understandings = st.builds(
    Understanding,
    intent=st.none() | words,
    confidence=numbers,
    runners_up=st.lists(st.builds(Candidate, words, numbers), max_size=2).map(tuple),
    out_of_scope=numbers,
    entities=st.lists(st.builds(Entity, words, words, st.integers(), st.integers(), numbers, words), max_size=2).map(
        tuple
    ),
    language=words,
    model_version=words,
)
parts = st.builds(Part, words, understandings, st.lists(hits, max_size=2).map(tuple), decisions)
replies = st.builds(
    Reply,
    words,
    st.lists(st.builds(Citation, words, words, words, words), max_size=2).map(tuple),
    st.lists(words, max_size=2).map(tuple),
    st.sampled_from(get_args(Status)),
)
any_turn = st.builds(
    Turn,
    id=st.uuids().map(str),
    message=st.builds(
        Message, st.uuids().map(str), st.just(""), words, st.sampled_from(get_args(Channel)), words, moments
    ),
    parts=st.lists(parts, max_size=2).map(tuple),
    reply=replies,
    versions=st.builds(Versions, words, words, words),
    thresholds=st.builds(Thresholds, numbers, numbers, numbers, numbers),
    milliseconds=st.lists(st.tuples(words, numbers), max_size=3).map(tuple),
)
"""Any turn, but for the conversation it belongs to."""
