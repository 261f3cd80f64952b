"""Messages and turns in the record: accept, store once, read back exactly.

Owns which row belongs to which value. A message is stored once under (conversation, its own id), and its turn
once under the same; whoever stores it again gets what is there. Knows nothing about how a turn came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from bot import FrontdeskError
from bot.conversation.messages import (
    Channel,
    Citation,
    HandOver,
    HandOverReason,
    Message,
    Part,
    Reply,
    SmallTalk,
    Status,
    Thresholds,
    Turn,
    Versions,
)
from bot.conversation.state import NEVER_MIND
from bot.storage.conversations import ConversationStatus, UnknownConversation
from bot.storage.database import Database
from bot.storage.encoding import FORMAT, check_format, from_json, to_json
from bot.storage.handover import HandOverRecord, ask, current, reopen, withdraw
from bot.storage.happenings import StatusChange, changes, written
from bot.storage.outbox import Kind
from bot.storage.tables import ConversationRow, MessageRow, TurnRow
from retriever.passages import Line

T = TypeVar("T")
Found = Row[*tuple[Any, ...]]

REMEMBERED = 100
"""Turns that the next message of a conversation finds; of 4,000 the reading alone took two seconds, each time."""

_PAGE = 500

# Statements are built once: building one anew costs five times what running it does.
_SAID: Select[*tuple[Any, ...]] = select(
    MessageRow.conversation_id,
    MessageRow.id.label("message_id"),
    MessageRow.sequence,
    MessageRow.sender,
    MessageRow.channel,
    MessageRow.text,
    MessageRow.received_at,
    TurnRow.id.label("turn_id"),
    TurnRow.status,
    TurnRow.reply,
    TurnRow.citations,
    TurnRow.suggestions,
    TurnRow.parts,
    TurnRow.model_version,
    TurnRow.index_version,
    TurnRow.playbook_version,
    TurnRow.thresholds,
    TurnRow.milliseconds,
    TurnRow.format,
    TurnRow.stored_at,
).outerjoin(TurnRow, (TurnRow.conversation_id == MessageRow.conversation_id) & (TurnRow.message_id == MessageRow.id))
"""Messages with their turns, if any: the columns that `_entry` reads."""
_ANSWERED = _SAID.where(TurnRow.id.is_not(None))
_OF_CONVERSATION = MessageRow.conversation_id == bindparam("conversation")
_FROM_PLACE = _SAID.where(_OF_CONVERSATION, MessageRow.sequence > bindparam("after")).order_by(MessageRow.sequence)
_HISTORY = _ANSWERED.where(_OF_CONVERSATION).order_by(MessageRow.sequence)
_LATEST = _ANSWERED.where(_OF_CONVERSATION).order_by(MessageRow.sequence.desc()).limit(REMEMBERED)
_BY_MESSAGE = _SAID.where(_OF_CONVERSATION, MessageRow.id == bindparam("message"))
_BY_TURN = _ANSWERED.where(TurnRow.id == bindparam("turn"))
_OWED = _SAID.where(TurnRow.id.is_(None)).order_by(MessageRow.conversation_id, MessageRow.sequence)
_OVERTAKEN = _ANSWERED.where(_OF_CONVERSATION, MessageRow.sequence > bindparam("place")).exists().select()
_HAS_TURN = (
    select(TurnRow.id)
    .where(TurnRow.conversation_id == bindparam("conversation"), TurnRow.message_id == bindparam("message"))
    .exists()
    .select()
)
_STATUS = select(ConversationRow.status, ConversationRow.site).where(ConversationRow.id == bindparam("conversation"))
_CONVERSATION_OF = select(TurnRow.conversation_id).where(TurnRow.id == bindparam("turn"))
_IN_CONVERSATION = MessageRow.conversation_id == ConversationRow.id
_STANDING = select(
    ConversationRow.status,
    select(func.max(MessageRow.sequence)).where(_IN_CONVERSATION).scalar_subquery().label("last"),
    select(MessageRow.sequence)
    .where(_IN_CONVERSATION, MessageRow.id == bindparam("message"))
    .scalar_subquery()
    .label("place"),
    select(MessageRow.id)
    .where(_IN_CONVERSATION, MessageRow.sequence == bindparam("sequence"))
    .scalar_subquery()
    .label("occupant"),
).where(ConversationRow.id == bindparam("conversation"))
_ADD_MESSAGE = insert(MessageRow)
_MOVE_MESSAGE = (
    update(MessageRow)
    .where(_OF_CONVERSATION, MessageRow.id == bindparam("message"))
    .values(sequence=bindparam("place"))
)
_ADD_TURN = insert_or(TurnRow).on_conflict_do_nothing(index_elements=["conversation_id", "message_id"])


class UnknownTurn(FrontdeskError, LookupError):
    """There is no turn with this id."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in its place, `sequence` rising from 1, with its turn or None while it is owed an answer."""

    sequence: int
    message: Message
    turn: Turn | None
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is durable now. `fresh` is False if the message already had this turn; `change` of the status, if any."""

    turn: Turn
    sequence: int
    fresh: bool
    change: StatusChange | None


@dataclass(frozen=True, slots=True)
class Past:
    """A conversation as its next message finds it: at most `REMEMBERED` turns, the status, the hand-over it is in, if
    any, and the site it is held at, empty for the default one."""

    turns: tuple[Turn, ...]
    status: ConversationStatus
    handover: HandOverRecord | None
    site: str


def accept_message(database: Database, message: Message, sequence: int | None = None) -> int:
    """Makes a message durable before it is answered; returns its place. Raises UnknownConversation."""
    check_message(message)

    return database.write(lambda connection: place_message(connection, message, sequence)[0])


def store_turn(database: Database, turn: Turn, sequence: int | None = None, notify: Sequence[Kind] = ()) -> Stored:
    """Stores a turn and its message durably, once. A hand-over leaves the conversation waiting for a person, and owes
    the notifications `notify`. A turn that was made while a person took the conversation is stored without its words.

    `sequence` is the place reserved for the message; without one, or if it is taken, the next free place.
    """
    check_message(turn.message)
    row = _row_of(turn)  # encoded here, so that the one writer only writes
    conversation = turn.message.conversation

    def store(connection: Connection) -> Stored:
        place, status = place_message(connection, turn.message, sequence)
        kept = silenced(turn) if status == "person" else turn
        if not connection.execute(_ADD_TURN, row if kept is turn else _row_of(kept)).rowcount:
            entry = _by_message(connection, conversation, turn.message.id)
            assert entry is not None and entry.turn is not None
            return Stored(entry.turn, place, False, None)
        change = None
        # The bot may have gone on promising a person who was called off meanwhile: the promise is kept.
        if kept.reply.status in ("handed_over", "waiting") and status in ("open", "resolved"):
            change = ask(connection, conversation, reason_of(kept) or "asked", after=place, notify=notify)
        elif status == "resolved" and not _ended_behind(connection, conversation, place):
            change = reopen(connection, conversation, after=place)
        elif status == "waiting" and _never_mind(kept):
            change = withdraw(connection, conversation, said_at=kept.message.received_at, after=place)
        return Stored(kept, place, True, change)

    return database.write(store)


def _ended_behind(connection: Connection, conversation: str, place: int) -> bool:
    """Whether the customer said the matter was settled after the message at `place`. An agent who did need not have
    seen it."""
    return any(one.status == "resolved" and not one.name for one in changes(connection, conversation, place))


def look_up(database: Database, conversation: str, message_id: str) -> tuple[int, Entry | None]:
    """The place of the last message (0: none yet), and the message with this id, None if it never arrived.

    Raises UnknownConversation.
    """
    with database.read() as connection:
        standing = _standing(connection, conversation, message_id)
        known = standing.place is not None
        return standing.last, _by_message(connection, conversation, message_id) if known else None


def find_entry(database: Database, conversation: str, message_id: str) -> Entry | None:
    """The message with this id and its turn, or None if it never arrived."""
    with database.read() as connection:
        return _by_message(connection, conversation, message_id)


def overtaken(database: Database, entry: Entry) -> bool:
    """Whether a message that came later was answered already."""
    with database.read() as connection:
        found = {"conversation": entry.message.conversation, "place": entry.sequence}
        return bool(connection.scalar(_OVERTAKEN, found))


def last_sequence(database: Database, conversation: str) -> int:
    """The place of the last message, 0 if nothing was said. Raises UnknownConversation."""
    with database.read() as connection:
        return last_place(connection, conversation)


def last_place(connection: Connection, conversation: str) -> int:
    """As `last_sequence`, in the caller's transaction."""
    return _standing(connection, conversation).last


def entries(database: Database, conversation: str, *, after: int = 0) -> tuple[Entry, ...]:
    """The conversation in order, answered or not, from the place behind `after`. Empty if there is none."""
    with database.read() as connection:
        rows = connection.execute(_FROM_PLACE, {"conversation": conversation, "after": after}).all()
    return tuple(_entry(row) for row in rows)


def history(database: Database, conversation: str) -> tuple[Turn, ...]:
    """The turns of a conversation, oldest first, each equal to what was stored."""
    with database.read() as connection:
        rows = connection.execute(_HISTORY, {"conversation": conversation}).all()
    return tuple(_turn(row) for row in rows)


def past(database: Database, conversation: str) -> Past:
    """The conversation as its next message finds it: the latest turns, with what agents said behind each."""
    with database.read() as connection:
        rows = connection.execute(_LATEST, {"conversation": conversation}).all()[::-1]
        found = connection.execute(_STATUS, {"conversation": conversation}).one_or_none()
        status, site = ("open", "") if found is None else (found.status, found.site or "")
        handover = current(connection, conversation)
        since = rows[0].sequence if rows else 0
        replies = [one for one in written(connection, conversation, since) if one.kind == "reply"]
    turns = [_turn(row) for row in rows]
    for number, row in enumerate(rows if replies else ()):
        until = rows[number + 1].sequence if number + 1 < len(rows) else None
        behind = [one.text for one in replies if row.sequence <= one.after and (until is None or one.after < until)]
        turns[number] = replace(turns[number], behind=tuple(Line("agent", text) for text in behind))
    if turns and status in ("open", "resolved") and reason_of(turns[-1]) is not None:
        turns[-1] = replace(turns[-1], returned=True)
    return Past(tuple(turns), cast(ConversationStatus, status), handover, site)


def reason_of(turn: Turn) -> HandOverReason | None:
    """Why the turn brings a person; None when it does not."""
    return next((part.decision.reason for part in turn.parts if isinstance(part.decision, HandOver)), None)


def silenced(turn: Turn) -> Turn:
    """The turn without a word: a person has the conversation, and one voice is enough."""
    return replace(turn, reply=Reply("", (), (), "waiting"))


def _never_mind(turn: Turn) -> bool:
    return any(isinstance(one.decision, SmallTalk) and one.decision.intent == NEVER_MIND for one in turn.parts)


def owed(database: Database) -> tuple[Entry, ...]:
    """Messages accepted and not answered, oldest first within each conversation: what a restart must answer."""
    with database.read() as connection:
        rows = connection.execute(_OWED).all()
    return tuple(_entry(row) for row in rows)


def all_turns(database: Database, *, since: datetime | None = None) -> Iterator[Turn]:
    """Every turn in the order stored, a page at a time: for export and training. Later turns may be missed."""
    position: tuple[datetime, str] | None = None
    while True:
        page = _ANSWERED.order_by(TurnRow.stored_at, TurnRow.id).limit(_PAGE)
        if since is not None:
            page = page.where(TurnRow.stored_at >= since)
        if position is not None:
            at, turn_id = position
            page = page.where((TurnRow.stored_at > at) | ((TurnRow.stored_at == at) & (TurnRow.id > turn_id)))
        with database.read() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            yield _turn(row)
        if len(rows) < _PAGE:
            return
        position = (rows[-1].stored_at, rows[-1].turn_id)


def placed_turn(database: Database, turn_id: str) -> Entry:
    """A turn by its id, in its place. Raises UnknownTurn."""
    with database.read() as connection:
        row = connection.execute(_BY_TURN, {"turn": turn_id}).one_or_none()
    if row is None:
        raise UnknownTurn(f"there is no turn {turn_id!r}: take the id from a reply")
    return _entry(row)


def conversation_of(database: Database, turn_id: str) -> str:
    """Which conversation a turn belongs to, so that a channel can check whose it is. Raises UnknownTurn."""
    with database.read() as connection:
        found = connection.scalar(_CONVERSATION_OF, {"turn": turn_id})
    if found is None:
        raise UnknownTurn(f"there is no turn {turn_id!r}")
    return found


# -- rows and values ------------------------------------------------------------------------------------------------


def _by_message(connection: Connection, conversation: str, message_id: str) -> Entry | None:
    row = connection.execute(_BY_MESSAGE, {"conversation": conversation, "message": message_id}).one_or_none()
    return None if row is None else _entry(row)


def _entry(row: Found) -> Entry:
    if row.turn_id is None:
        return Entry(row.sequence, _message(row), None, None)
    return Entry(row.sequence, _message(row), _turn(row), row.stored_at)


def _message(row: Found) -> Message:
    return Message(
        id=row.message_id,
        conversation=row.conversation_id,
        sender=row.sender,
        channel=cast(Channel, row.channel),
        text=row.text,
        received_at=datetime.fromisoformat(row.received_at),
    )


def _turn(row: Found) -> Turn:
    check_format(row.format)
    return Turn(
        id=row.turn_id,
        message=_message(row),
        parts=_value(tuple[Part, ...], row.parts),
        reply=Reply(
            text=row.reply,
            citations=_value(tuple[Citation, ...], row.citations),
            suggestions=_value(tuple[str, ...], row.suggestions),
            status=cast(Status, row.status),
        ),
        versions=Versions(row.model_version, row.index_version, row.playbook_version),
        thresholds=_value(Thresholds, row.thresholds),
        milliseconds=_value(tuple[tuple[str, float], ...], row.milliseconds),
    )


@lru_cache(maxsize=2048)
def _value(annotation: type[T], text: str) -> T:
    # Every message of a conversation reads its whole history; the values are frozen, so they can be shared.
    return from_json(annotation, text)


def _row_of(turn: Turn) -> dict[str, object]:
    return {
        "id": turn.id,
        "conversation_id": turn.message.conversation,
        "message_id": turn.message.id,
        "status": turn.reply.status,
        "reply": turn.reply.text,
        "citations": to_json(tuple[Citation, ...], turn.reply.citations),
        "suggestions": to_json(tuple[str, ...], turn.reply.suggestions),
        "parts": to_json(tuple[Part, ...], turn.parts),
        "model_version": turn.versions.model,
        "index_version": turn.versions.index,
        "playbook_version": turn.versions.playbook,
        "thresholds": to_json(Thresholds, turn.thresholds),
        "milliseconds": to_json(tuple[tuple[str, float], ...], turn.milliseconds),
        "format": FORMAT,
        "stored_at": datetime.now(UTC),
    }


class _Standing(NamedTuple):
    """Where a conversation is: its status, the place of its last message, the place of the one asked for, and which
    message has the place asked for."""

    status: ConversationStatus
    last: int
    place: int | None
    occupant: str | None


def _standing(connection: Connection, conversation: str, message_id: str = "", sequence: int = 0) -> _Standing:
    row = connection.execute(
        _STANDING, {"conversation": conversation, "message": message_id, "sequence": sequence}
    ).one_or_none()
    if row is None:
        raise UnknownConversation(f"there is no conversation {conversation!r}")
    return _Standing(cast(ConversationStatus, row.status), row.last or 0, row.place, row.occupant)


def place_message(connection: Connection, message: Message, sequence: int | None) -> tuple[int, ConversationStatus]:
    """The place of a message, where it already is, else `sequence` if free, else the next; and the status.

    One that has no turn yet is moved to a `sequence` behind its place: what is answered late stands, and is told,
    behind what was answered before it.
    """
    conversation, asked = message.conversation, {"conversation": message.conversation, "message": message.id}
    standing = _standing(connection, conversation, message.id, sequence or 0)
    late = standing.place is not None and (sequence or 0) > standing.place
    if standing.place is not None and (not late or connection.scalar(_HAS_TURN, asked)):
        return standing.place, standing.status
    place = standing.last + 1 if sequence is None or standing.occupant is not None else sequence
    if late:
        connection.execute(_MOVE_MESSAGE, {**asked, "place": place})
        return place, standing.status
    connection.execute(
        _ADD_MESSAGE,
        {
            "conversation_id": conversation,
            "id": message.id,
            "sequence": place,
            "sender": message.sender,
            "channel": message.channel,
            "text": message.text,
            "received_at": message.received_at.isoformat(),
        },
    )
    return place, standing.status


def check_message(message: Message) -> None:
    """Raises FrontdeskError if a message cannot be stored: broken Unicode, or a time without a zone."""
    for name, text in (("id", message.id), ("text", message.text), ("sender", message.sender)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise FrontdeskError(
                f"the {name} of a message is not valid Unicode at character {error.start}: send UTF-8"
            ) from error
    if message.received_at.tzinfo is None:
        raise FrontdeskError("received_at of a message has no timezone: use datetime.now(UTC)")
