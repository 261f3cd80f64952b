"""Conversations in the record: start one, rate it, forget it, count them.

Owns who may read it. Knows nothing about what is said in it, see `turns`, nor how its status changes, see `handover`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from sqlalchemy import Connection, bindparam, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or

from bot import FrontdeskError
from bot.conversation.messages import Channel
from bot.storage.database import Database
from bot.storage.tables import AuditRow, ConversationRow, FeedbackRow, MessageRow, RatingRow, TurnRow

ConversationStatus = Literal["open", "waiting", "person", "resolved"]
"""open: the bot answers; waiting: a person was promised; person: one has taken over; resolved: done."""


class UnknownConversation(FrontdeskError, LookupError):
    """There is no conversation with this id."""


# Built once: every request asks for these, and building a statement costs five times what running it does.
_BY_ID = select(
    ConversationRow.channel,
    ConversationRow.sender,
    ConversationRow.site,
    ConversationRow.status,
    ConversationRow.created_at,
).where(ConversationRow.id == bindparam("conversation"))
_TOKEN_HASH = select(ConversationRow.token_hash).where(ConversationRow.id == bindparam("conversation"))


@dataclass(frozen=True, slots=True)
class StartedConversation:
    """`token` is shown once, here; the record keeps only its hash."""

    id: str
    token: str


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    channel: Channel
    sender: str
    site: str
    status: ConversationStatus
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """The record in numbers, for `frontdesk status`."""

    conversations: dict[str, int]
    """By status."""
    turns: dict[str, int]
    """By the status of the reply."""
    unanswered: int
    """Messages accepted and not answered yet."""
    thumbs_up: int
    thumbs_down: int


def start_conversation(
    database: Database, *, channel: Channel, sender: str = "", site: str = ""
) -> StartedConversation:
    """A new conversation with an id and a token that nobody can guess (128 and 256 random bits).

    Without a sender its customer is known by the id of the conversation alone.
    """
    started = StartedConversation(secrets.token_urlsafe(16), secrets.token_urlsafe(32))
    row = {
        "id": started.id,
        "token_hash": _hash(started.token),
        "channel": channel,
        "sender": sender or started.id,
        "site": site or None,
        "status": "open",
        "created_at": datetime.now(UTC),
    }

    def start(connection: Connection) -> StartedConversation:
        connection.execute(insert(ConversationRow), row)
        return started

    return database.write(start)


def find_conversation(database: Database, conversation: str) -> Conversation:
    """Raises UnknownConversation."""
    with database.read() as connection:
        row = connection.execute(_BY_ID, {"conversation": conversation}).one_or_none()
    if row is None:
        raise UnknownConversation(f"there is no conversation {conversation!r}")
    return Conversation(
        conversation,
        cast(Channel, row.channel),
        row.sender,
        row.site or "",
        cast(ConversationStatus, row.status),
        row.created_at,
    )


def token_opens(database: Database, conversation: str, token: str) -> bool:
    """Whether `token` is the one given out for this conversation; False also if there is no such conversation."""
    with database.read() as connection:
        stored = connection.scalar(_TOKEN_HASH, {"conversation": conversation})
    return hmac.compare_digest(stored or "", _hash(token))


def rate(database: Database, conversation: str, *, stars: int, comment: str = "") -> None:
    """Stores what the customer thinks of the whole conversation, 1 to 5 stars; the last word counts.

    Raises UnknownConversation.
    """
    now = datetime.now(UTC)
    changed = {"stars": stars, "comment": comment, "updated_at": now}

    def give(connection: Connection) -> None:
        require_conversation(connection, conversation)
        connection.execute(
            insert_or(RatingRow)
            .values(conversation_id=conversation, created_at=now, **changed)
            .on_conflict_do_update(index_elements=["conversation_id"], set_=changed)
        )

    database.write(give)


def forget(database: Database, conversation: str, *, actor: str) -> bool:
    """Deletes a conversation with all that belongs to it; False if there is none. The audit keeps only its id."""

    def remove(connection: Connection) -> bool:
        gone = connection.execute(delete(ConversationRow).where(ConversationRow.id == conversation))
        if gone.rowcount:
            note(connection, actor=actor, action="forget", subject=conversation)
        return bool(gone.rowcount)

    return database.write(remove)


def count(database: Database) -> Counts:
    with database.snapshot() as connection:
        conversations = connection.execute(
            select(ConversationRow.status, func.count()).group_by(ConversationRow.status)
        ).all()
        turns = connection.execute(select(TurnRow.status, func.count()).group_by(TurnRow.status)).all()
        messages = connection.scalar(select(func.count()).select_from(MessageRow)) or 0
        feedback = connection.execute(select(FeedbackRow.verdict, func.count()).group_by(FeedbackRow.verdict)).all()
    verdicts = {row[0]: row[1] for row in feedback}
    by_reply = {row[0]: row[1] for row in turns}
    return Counts(
        conversations={row[0]: row[1] for row in conversations},
        turns=by_reply,
        unanswered=messages - sum(by_reply.values()),
        thumbs_up=verdicts.get("up", 0),
        thumbs_down=verdicts.get("down", 0),
    )


def note(connection: Connection, *, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Adds a line to the audit in the caller's transaction. `detail` must not quote a customer."""
    connection.execute(
        insert(AuditRow),
        {"at": datetime.now(UTC), "actor": actor, "action": action, "subject": subject, "detail": detail},
    )


def require_conversation(connection: Connection, conversation: str) -> ConversationStatus:
    """The status of a conversation. Raises UnknownConversation."""
    status = connection.scalar(select(ConversationRow.status).where(ConversationRow.id == conversation))
    if status is None:
        raise UnknownConversation(f"there is no conversation {conversation!r}")
    return cast(ConversationStatus, status)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
