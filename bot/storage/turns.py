"""Messages and turns in the record: accept, store once, read back exactly.

Owns which row belongs to which value. A message is stored once under (conversation, its own id), and its turn
once under the same; whoever stores it again gets what is there. Knows nothing about how a turn came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from bot import FrontdeskError
from bot.conversation.messages import Channel, Citation, Message, Part, Reply, Status, Thresholds, Turn, Versions
from bot.storage.conversations import ConversationStatus, require_conversation
from bot.storage.database import Database
from bot.storage.encoding import FORMAT, check_format, from_json, to_json
from bot.storage.tables import ConversationRow, MessageRow, TurnRow

_PAGE = 500
Said = Select[*tuple[Any, ...]]
Found = Row[*tuple[Any, ...]]


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
    """What is durable now. `fresh` is False if the message already had this turn; `status` if it changed."""

    turn: Turn
    sequence: int
    fresh: bool
    status: ConversationStatus | None


def accept_message(database: Database, message: Message, sequence: int | None = None) -> int:
    """Makes a message durable before it is answered; returns its place. Raises UnknownConversation."""
    check_message(message)

    def accept(connection: Connection) -> int:
        require_conversation(connection, message.conversation)
        return _place(connection, message, sequence)

    return database.write(accept)


def store_turn(database: Database, turn: Turn, sequence: int | None = None) -> Stored:
    """Stores a turn and its message durably, once. A hand-over leaves the conversation waiting for a person.

    `sequence` is the place reserved for the message; without one, or if it is taken, the next free place.
    """
    check_message(turn.message)
    row = _row_of(turn)  # encoded here, so that the one writer only writes

    def store(connection: Connection) -> Stored:
        status = require_conversation(connection, turn.message.conversation)
        place = _place(connection, turn.message, sequence)
        if not connection.execute(
            insert_or(TurnRow).on_conflict_do_nothing(index_elements=["conversation_id", "message_id"]), row
        ).rowcount:
            entry = _entries(connection, _answered().where(MessageRow.sequence == place), turn.message.conversation)[0]
            assert entry.turn is not None
            return Stored(entry.turn, place, False, None)
        after = _status_after(status, turn.reply.status)
        if after != status:
            connection.execute(
                update(ConversationRow).where(ConversationRow.id == turn.message.conversation).values(status=after)
            )
        return Stored(turn, place, True, after if after != status else None)

    return database.write(store)


def look_up(database: Database, conversation: str, message_id: str) -> tuple[int, Entry | None]:
    """The place of the last message (0: none yet), and the message with this id, None if it never arrived.

    Raises UnknownConversation.
    """
    with database.read() as connection:
        require_conversation(connection, conversation)
        found = _entries(connection, _said().where(MessageRow.id == message_id), conversation)
        return _last(connection, conversation), found[0] if found else None


def find_entry(database: Database, conversation: str, message_id: str) -> Entry | None:
    """The message with this id and its turn, or None if it never arrived."""
    with database.read() as connection:
        found = _entries(connection, _said().where(MessageRow.id == message_id), conversation)
    return found[0] if found else None


def last_sequence(database: Database, conversation: str) -> int:
    """The place of the last message, 0 if nothing was said. Raises UnknownConversation."""
    with database.read() as connection:
        require_conversation(connection, conversation)
        return _last(connection, conversation)


def entries(database: Database, conversation: str, *, after: int = 0) -> tuple[Entry, ...]:
    """The conversation in order, answered or not, from the place behind `after`. Empty if there is none."""
    with database.read() as connection:
        return _entries(connection, _said().where(MessageRow.sequence > after), conversation)


def history(database: Database, conversation: str) -> tuple[Turn, ...]:
    """The turns of a conversation, oldest first, each equal to what was stored."""
    with database.read() as connection:
        found = _entries(connection, _answered(), conversation)
    return tuple(entry.turn for entry in found if entry.turn is not None)


def owed(database: Database) -> tuple[Entry, ...]:
    """Messages accepted and not answered, oldest first within each conversation: what a restart must answer."""
    with database.read() as connection:
        rows = connection.execute(
            _said().where(TurnRow.id.is_(None)).order_by(MessageRow.conversation_id, MessageRow.sequence)
        ).all()
    return tuple(_entry(row) for row in rows)


def all_turns(database: Database, *, since: datetime | None = None) -> Iterator[Turn]:
    """Every turn in the order stored, a page at a time: for export and training. Later turns may be missed."""
    position: tuple[datetime, str] | None = None
    while True:
        page = _answered().order_by(TurnRow.stored_at, TurnRow.id).limit(_PAGE)
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
        row = connection.execute(_answered().where(TurnRow.id == turn_id)).one_or_none()
    if row is None:
        raise UnknownTurn(f"there is no turn {turn_id!r}: take the id from a reply")
    return _entry(row)


def conversation_of(database: Database, turn_id: str) -> str:
    """Which conversation a turn belongs to, so that a channel can check whose it is. Raises UnknownTurn."""
    with database.read() as connection:
        found = connection.scalar(select(TurnRow.conversation_id).where(TurnRow.id == turn_id))
    if found is None:
        raise UnknownTurn(f"there is no turn {turn_id!r}")
    return found


# -- rows and values ------------------------------------------------------------------------------------------------


def _said() -> Said:
    """Messages with their turns, if any, in columns that `_entry` reads."""
    return select(
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
    ).outerjoin(
        TurnRow, (TurnRow.conversation_id == MessageRow.conversation_id) & (TurnRow.message_id == MessageRow.id)
    )


def _answered() -> Said:
    return _said().where(TurnRow.id.is_not(None))


def _entries(connection: Connection, said: Said, conversation: str) -> tuple[Entry, ...]:
    rows = connection.execute(said.where(MessageRow.conversation_id == conversation).order_by(MessageRow.sequence))
    return tuple(_entry(row) for row in rows)


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
        parts=_parts(row.parts),
        reply=Reply(
            text=row.reply,
            citations=from_json(tuple[Citation, ...], row.citations),
            suggestions=from_json(tuple[str, ...], row.suggestions),
            status=cast(Status, row.status),
        ),
        versions=Versions(row.model_version, row.index_version, row.playbook_version),
        thresholds=from_json(Thresholds, row.thresholds),
        milliseconds=from_json(tuple[tuple[str, float], ...], row.milliseconds),
    )


@lru_cache(maxsize=1024)
def _parts(text: str) -> tuple[Part, ...]:
    # Every message of a conversation reads its whole history; the values are frozen, so they can be shared.
    return from_json(tuple[Part, ...], text)


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


def _place(connection: Connection, message: Message, sequence: int | None) -> int:
    """The place of a message: where it already is, else `sequence` if free, else the next."""
    rows = connection.execute(
        select(MessageRow.id, MessageRow.sequence).where(
            MessageRow.conversation_id == message.conversation,
            (MessageRow.id == message.id) | (MessageRow.sequence == (sequence or 0)),
        )
    ).all()
    for row in rows:
        if row.id == message.id:
            return cast(int, row.sequence)
    place = _last(connection, message.conversation) + 1 if sequence is None or rows else sequence
    connection.execute(
        insert(MessageRow),
        {
            "conversation_id": message.conversation,
            "id": message.id,
            "sequence": place,
            "sender": message.sender,
            "channel": message.channel,
            "text": message.text,
            "received_at": message.received_at.isoformat(),
        },
    )
    return place


def _last(connection: Connection, conversation: str) -> int:
    return (
        connection.scalar(select(func.max(MessageRow.sequence)).where(MessageRow.conversation_id == conversation)) or 0
    )


def _status_after(status: ConversationStatus, reply: Status) -> ConversationStatus:
    if reply == "handed_over" and status in ("open", "resolved"):
        return "waiting"
    return "open" if status == "resolved" else status


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
