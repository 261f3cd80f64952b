"""Conversations as agents look for them: the queue, their own, all that are open.

Owns the order of each list and what one line of it shows. Reads only; see `handover` for what changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import Row, Select, and_, func, select

from bot import FrontdeskError
from bot.conversation.messages import Channel, HandOverReason, Part, Sentiment
from bot.conversation.understanding import UNAVAILABLE
from bot.storage.conversations import ConversationStatus
from bot.storage.database import Database
from bot.storage.encoding import from_json
from bot.storage.tables import ConversationRow, HandoverRow, MessageRow, TurnRow

View = Literal["queue", "mine", "open"]
VIEWS: tuple[View, ...] = ("queue", "mine", "open")
MOST = 200
"""Lines of a list; who has more waiting needs more agents, not a longer page."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list. `language`, `sentiment` and `urgent` are those of the last message that was understood."""

    conversation: str
    status: ConversationStatus
    channel: Channel
    site: str
    reason: HandOverReason | None
    since: datetime
    """Since when a person is wanted, or when the conversation began."""
    taken_by: str
    taken_name: str
    last_text: str
    last_at: datetime | None
    language: str
    sentiment: Sentiment
    urgent: bool


_ANSWERS = and_(TurnRow.conversation_id == MessageRow.conversation_id, TurnRow.message_id == MessageRow.id)
_LISTED: Select[*tuple[Any, ...]] = (
    select(
        ConversationRow.id,
        ConversationRow.status,
        ConversationRow.channel,
        ConversationRow.site,
        ConversationRow.created_at,
        HandoverRow.reason,
        HandoverRow.asked_at,
        HandoverRow.taken_by,
        HandoverRow.taken_name,
        MessageRow.text,
        MessageRow.received_at,
        TurnRow.parts,
    )
    .outerjoin(HandoverRow, and_(HandoverRow.conversation_id == ConversationRow.id, HandoverRow.ended_at.is_(None)))
    .outerjoin(
        MessageRow,
        and_(
            MessageRow.conversation_id == ConversationRow.id,
            MessageRow.sequence
            == select(func.max(MessageRow.sequence))
            .where(MessageRow.conversation_id == ConversationRow.id)
            .correlate(ConversationRow)
            .scalar_subquery(),
        ),
    )
    .outerjoin(
        TurnRow, and_(TurnRow.conversation_id == MessageRow.conversation_id, TurnRow.message_id == MessageRow.id)
    )
    .limit(MOST)
)
_UNDERSTOOD = (
    select(TurnRow.parts)
    .join(MessageRow, _ANSWERS)
    .where(TurnRow.model_version != UNAVAILABLE)
    .order_by(MessageRow.sequence.desc())
    .limit(1)
)


def listed(database: Database, view: View, staff: str) -> Sequence[Listed]:
    """The queue, longest waiting first; what `staff` has taken, or all that is not resolved, latest message first."""
    with database.read() as connection:
        rows = connection.execute(_of_view(view, staff)).all()
        found = []
        for row in rows:
            parts = row.parts
            if row.taken_by:  # the last messages were for the agent, and no model read them
                parts = connection.scalar(_UNDERSTOOD.where(TurnRow.conversation_id == row.id)) or parts
            found.append(_listed(row, parts))
    return found


def count_waiting(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).where(ConversationRow.status == "waiting")) or 0


def count_taken(database: Database, staff: str) -> int:
    with database.read() as connection:
        found = select(func.count()).where(HandoverRow.taken_by == staff, HandoverRow.ended_at.is_(None))
        return connection.scalar(found) or 0


def _of_view(view: View, staff: str) -> Select[*tuple[Any, ...]]:
    latest = func.coalesce(MessageRow.received_at, "").desc()
    match view:
        case "queue":
            return _LISTED.where(ConversationRow.status == "waiting").order_by(HandoverRow.asked_at)
        case "mine":
            return _LISTED.where(HandoverRow.taken_by == staff).order_by(latest)
        case "open":
            return _LISTED.where(ConversationRow.status != "resolved").order_by(latest)


def _listed(row: Row[*tuple[Any, ...]], encoded: str | None) -> Listed:
    try:
        parts = from_json(tuple[Part, ...], encoded) if encoded else ()
    except FrontdeskError:  # it costs what this line says of the message, and not the whole list
        parts = ()
    meanings = [part.understanding for part in parts]
    return Listed(
        conversation=row.id,
        status=cast(ConversationStatus, row.status),
        channel=cast(Channel, row.channel),
        site=row.site or "",
        reason=cast(HandOverReason | None, row.reason or None),
        since=row.asked_at or row.created_at,
        taken_by=row.taken_by or "",
        taken_name=row.taken_name or "",
        last_text=row.text or "",
        last_at=datetime.fromisoformat(row.received_at) if row.received_at else None,
        language=next((one.language for one in meanings), ""),
        sentiment=next((one.sentiment for one in meanings if one.sentiment), ""),
        urgent=any(one.urgent for one in meanings) or row.reason == "urgent",
    )
