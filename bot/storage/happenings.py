"""What happens behind a customer's message besides its turn: an agent writes, the status changes.

Owns the numbers of these events, given in the transaction that stores what they tell, so that a client that was away
hears of it under the same number. Place n of a conversation has the ids from n * 10,000: text, at 9,000 the turn, and
what happens behind it above that. Knows nothing about who may do what: see `handover`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from sqlalchemy import Connection, bindparam, func, insert, select, union_all, update

from bot import FrontdeskError
from bot.storage.conversations import ConversationStatus
from bot.storage.database import Database
from bot.storage.tables import AgentMessageRow, ConversationRow, StatusChangeRow

BLOCK = 10_000
"""Ids between one message of a conversation and the next."""
TURN = 9_000
"""Where in a block the turn is."""


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """What an agent wrote behind the customer's message at place `after`; `event` is None for a note."""

    id: str
    after: int
    event: int | None
    staff: str
    name: str
    kind: Literal["reply", "note"]
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StatusChange:
    """`name` is the agent's who did it, empty where nobody of the staff did."""

    after: int
    event: int
    status: ConversationStatus
    name: str
    at: datetime


Happening = AgentMessage | StatusChange

_OF_CONVERSATION = AgentMessageRow.conversation_id == bindparam("conversation")
_WRITTEN = (
    select(
        AgentMessageRow.id,
        AgentMessageRow.after,
        AgentMessageRow.event,
        AgentMessageRow.staff_id,
        AgentMessageRow.name,
        AgentMessageRow.kind,
        AgentMessageRow.text,
        AgentMessageRow.created_at,
    )
    .where(_OF_CONVERSATION, AgentMessageRow.after >= bindparam("since"))
    .order_by(AgentMessageRow.after, AgentMessageRow.created_at)
)
_BY_ID = select(AgentMessageRow.conversation_id).where(AgentMessageRow.id == bindparam("id"))
_CHANGED = (
    select(StatusChangeRow.event, StatusChangeRow.status, StatusChangeRow.name, StatusChangeRow.at)
    .where(
        StatusChangeRow.conversation_id == bindparam("conversation"),
        StatusChangeRow.event >= bindparam("since") * BLOCK,
    )
    .order_by(StatusChangeRow.event)
)
_EVENTS = union_all(
    select(AgentMessageRow.event.label("event")).where(
        _OF_CONVERSATION, AgentMessageRow.event.between(bindparam("first"), bindparam("last"))
    ),
    select(StatusChangeRow.event.label("event")).where(
        StatusChangeRow.conversation_id == bindparam("conversation"),
        StatusChangeRow.event.between(bindparam("first"), bindparam("last")),
    ),
).subquery()
_LAST_EVENT = select(func.max(_EVENTS.c.event))


def change_status(
    connection: Connection, conversation: str, status: ConversationStatus, *, after: int, name: str = ""
) -> StatusChange:
    """Sets the status and records that it happened behind the message at place `after`."""
    change = StatusChange(after, _next_event(connection, conversation, after), status, name, datetime.now(UTC))
    connection.execute(update(ConversationRow).where(ConversationRow.id == conversation).values(status=status))
    connection.execute(
        insert(StatusChangeRow),
        {"conversation_id": conversation, "event": change.event, "status": status, "name": name, "at": change.at},
    )
    return change


def write_down(connection: Connection, conversation: str, message: AgentMessage) -> AgentMessage:
    """Stores what an agent wrote, numbered if it is a reply. The same id again is the same message: what is there."""
    owner = connection.scalar(_BY_ID, {"id": message.id})
    if owner is not None:
        if owner != conversation:
            raise FrontdeskError("this message was sent in another conversation; load the page again")
        return next(one for one in written(connection, conversation) if one.id == message.id)
    event = _next_event(connection, conversation, message.after) if message.kind == "reply" else None
    connection.execute(
        insert(AgentMessageRow),
        {
            "id": message.id,
            "conversation_id": conversation,
            "after": message.after,
            "event": event,
            "staff_id": message.staff,
            "name": message.name,
            "kind": message.kind,
            "text": message.text,
            "created_at": message.at,
        },
    )
    return AgentMessage(
        message.id, message.after, event, message.staff, message.name, message.kind, message.text, message.at
    )


def written(connection: Connection, conversation: str, since: int = 0) -> tuple[AgentMessage, ...]:
    """Replies and notes behind messages from place `since` on, in order."""
    rows = connection.execute(_WRITTEN, {"conversation": conversation, "since": since}).all()
    return tuple(
        AgentMessage(
            row.id,
            row.after,
            row.event,
            row.staff_id,
            row.name,
            cast(Literal["reply", "note"], row.kind),
            row.text,
            row.created_at,
        )
        for row in rows
    )


def changes(connection: Connection, conversation: str, since: int = 0) -> tuple[StatusChange, ...]:
    """Changes of status behind messages from place `since` on, in order."""
    rows = connection.execute(_CHANGED, {"conversation": conversation, "since": since}).all()
    return tuple(
        StatusChange(row.event // BLOCK, row.event, cast(ConversationStatus, row.status), row.name, row.at)
        for row in rows
    )


def told(database: Database, conversation: str, since: int = 0) -> Sequence[Happening]:
    """What customers hear of, in the order of its events: replies and changes of status, no notes."""
    with database.read() as connection:
        replies = [one for one in written(connection, conversation, since) if one.event is not None]
        return sorted((*replies, *changes(connection, conversation, since)), key=lambda one: one.event or 0)


def _next_event(connection: Connection, conversation: str, after: int) -> int:
    first, last = after * BLOCK + TURN + 1, (after + 1) * BLOCK - 1
    number = connection.scalar(_LAST_EVENT, {"conversation": conversation, "first": first, "last": last}) or first - 1
    if number == last:
        raise FrontdeskError(f"{last - first + 1} events behind one message of the customer: wait for the next one")
    return int(number) + 1
