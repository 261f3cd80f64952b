"""Conversations in the record: start one, rate it, forget it, count them.

Owns who may read it. Knows nothing about what is said in it, see `turns`, nor how its status changes, see `handover`.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from bot import FrontdeskError
from bot.conversation.messages import Channel
from bot.storage.database import Database, RecordUnavailable
from bot.storage.tables import AuditRow, ConversationRow, FeedbackRow, MessageRow, RatingRow, TurnRow, VisitorRow
from bot.storage.tokens import ANONYMOUS_LIFE, give_token, opened_by

ConversationStatus = Literal["open", "waiting", "person", "resolved"]
"""open: the bot answers; waiting: a person was promised; person: one has taken over; resolved: done."""


class UnknownConversation(FrontdeskError, LookupError):
    """There is no conversation with this id."""


# Built once: every request asks for these, and building a statement costs five times what running it does.
_BY_ID = select(
    ConversationRow.channel,
    ConversationRow.sender,
    ConversationRow.site,
    ConversationRow.visitor,
    ConversationRow.status,
    ConversationRow.created_at,
    ConversationRow.seen_at,
).where(ConversationRow.id == bindparam("conversation"))
_ADD = insert(ConversationRow)
_ADD_VISITOR = insert(VisitorRow)
_SEEN = update(ConversationRow).where(ConversationRow.id == bindparam("conversation")).values(seen_at=bindparam("at"))


@dataclass(frozen=True, slots=True)
class StartedConversation:
    """`token` is shown once, here; the record keeps only its hash."""

    id: str
    token: str
    visitor: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    channel: Channel
    sender: str
    site: str
    """Empty for the default site."""
    visitor: str
    status: ConversationStatus
    created_at: datetime
    seen_at: datetime


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
    """A new conversation of a new visitor, with an id and a token that nobody can guess (128 and 256 random bits).

    Without a sender its customer is known by the id of the conversation alone.
    """

    def start(connection: Connection) -> StartedConversation:
        visitor = add_visitor(connection, site)
        return add_conversation(connection, visitor, ANONYMOUS_LIFE, channel=channel, sender=sender, site=site)

    return database.write(start)


def add_visitor(connection: Connection, site: str, *, user_id: str | None = None) -> str:
    """The id of a new visitor, in the caller's transaction."""
    visitor = secrets.token_urlsafe(16)
    connection.execute(
        _ADD_VISITOR,
        {
            "id": visitor,
            "site": site or None,
            "user_id": user_id,
            "name": "",
            "email": "",
            "created_at": datetime.now(UTC),
        },
    )
    return visitor


def add_conversation(
    connection: Connection, visitor: str, life: timedelta, *, channel: Channel, sender: str = "", site: str = ""
) -> StartedConversation:
    """A new conversation of that visitor with a token of that life, in the caller's transaction."""
    conversation, now = secrets.token_urlsafe(16), datetime.now(UTC)
    connection.execute(
        _ADD,
        {
            "id": conversation,
            "channel": channel,
            "sender": sender or conversation,
            "site": site or None,
            "visitor": visitor,
            "status": "open",
            "created_at": now,
            "seen_at": now,
        },
    )
    token = give_token(connection, conversation, visitor, life)
    return StartedConversation(conversation, token.text, visitor, token.expires_at)


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
        row.visitor,
        cast(ConversationStatus, row.status),
        row.created_at,
        row.seen_at,
    )


def opened_conversation(database: Database, token: str) -> Conversation | None:
    """The conversation that a bearer token opens, None if it opens none. One read, for every request makes it."""
    opened = opened_by(database, token)
    if opened is None:
        return None
    return Conversation(
        opened.conversation,
        cast(Channel, opened.channel),
        opened.sender,
        opened.site or "",
        opened.visitor,
        cast(ConversationStatus, opened.status),
        opened.created_at,
        opened.seen_at,
    )


def note_seen(database: Database, conversation: str, at: datetime) -> None:
    """The customer has seen what was said until `at`. Nobody waits for it; at worst something stays unread."""
    with suppress(RecordUnavailable):
        database.submit(lambda connection: connection.execute(_SEEN, {"conversation": conversation, "at": at}))


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
    """Deletes a conversation with all that belongs to it, its visitor too if it was the last one; False if there is
    none. The audit keeps only its id."""
    of_conversation = select(ConversationRow.visitor).where(ConversationRow.id == conversation)

    def remove(connection: Connection) -> bool:
        visitor = connection.scalar(of_conversation)
        if visitor is None:
            return False
        connection.execute(delete(ConversationRow).where(ConversationRow.id == conversation))
        drop_idle_visitor(connection, visitor)
        note(connection, actor=actor, action="forget", subject=conversation)
        return True

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


def drop_idle_visitor(connection: Connection, visitor: str) -> None:
    """Deletes what is known of a visitor who has no conversation left."""
    others = select(ConversationRow.id).where(ConversationRow.visitor == visitor)
    connection.execute(delete(VisitorRow).where(VisitorRow.id == visitor, ~others.exists()))
