"""The tables of the record, typed. Constraint names are explicit, so that a migration can name what it changes.

Owns the shape on disk (with `migrations/`, which a test holds equal to this file). Knows nothing about
connections, threads or the values of a conversation: `encoding` turns those into the JSON columns here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

APPEND_ONLY = {
    "turns": ("UPDATE",),
    # Forgetting a customer deletes turns; the audit of that act is never touched.
    "audit": ("UPDATE", "DELETE"),
}
"""Tables whose rows a trigger protects, with the statements it refuses. SQLite's metadata cannot carry triggers."""


def append_only_triggers() -> dict[str, str]:
    """Name and SQL of every trigger that keeps `APPEND_ONLY`; the first migration creates exactly these."""
    return {
        f"tr_{table}_no_{verb.lower()}": (
            f"CREATE TRIGGER tr_{table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        for table, verbs in APPEND_ONLY.items()
        for verb in verbs
    }


class Moment(TypeDecorator[datetime]):
    """A moment in UTC with microseconds. A naive datetime is refused: its meaning would depend on the machine."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"datetime {value!r} has no timezone: use datetime.now(UTC)")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text(), datetime: Moment()}  # noqa: RUF012 (SQLAlchemy reads this very attribute)


class SiteRow(Table):
    """A website that may show the widget. The JSON columns are written and read by `encoding`."""

    __tablename__ = "sites"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    origins: Mapped[str]
    link_hosts: Mapped[str]
    theme: Mapped[str]
    hours: Mapped[str]
    time_zone: Mapped[str]
    pre_chat: Mapped[str]
    identity_required: Mapped[bool]
    identity_secret: Mapped[str]
    """The key that the company's own server signs identities with, as it is: no hash can check a signature."""
    created_at: Mapped[datetime]


class VisitorRow(Table):
    """Somebody who talks to us from a site: anonymous, or known there by `user_id`, which the site's server proved."""

    __tablename__ = "visitors"
    __table_args__ = (Index(None, "user_id", "site"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str | None]
    user_id: Mapped[str | None]
    name: Mapped[str]
    email: Mapped[str]
    created_at: Mapped[datetime]


class ConversationRow(Table):
    __tablename__ = "conversations"
    __table_args__ = (
        CheckConstraint("status IN ('open', 'waiting', 'person', 'resolved')", name="status"),
        Index(None, "status"),
        Index(None, "visitor"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str]
    sender: Mapped[str]
    site: Mapped[str | None]
    """Null is the default site: our own origin."""
    visitor: Mapped[str] = mapped_column(ForeignKey("visitors.id"))
    status: Mapped[str]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    """When the customer is known to have seen everything that was said until then."""


class TokenRow(Table):
    """A bearer token of a visitor for one conversation, and for nothing else."""

    __tablename__ = "tokens"
    __table_args__ = (Index(None, "conversation_id"),)

    hash: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the token, in hex; the token itself is never stored."""
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    visitor: Mapped[str]
    """Whom it was given to: it opens nothing once the conversation is somebody else's."""
    life: Mapped[int]
    """Seconds that it lives on from each use."""
    expires_at: Mapped[datetime]


class FileRow(Table):
    """A file that a customer sent to a person; the content lies beside the record under this id."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "conversation_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    after: Mapped[int]
    """Place of the message that it comes behind."""
    name: Mapped[str]
    bytes: Mapped[int]
    type: Mapped[str]
    created_at: Mapped[datetime]


class MessageRow(Table):
    """What a customer said. A row without a turn is owed an answer."""

    __tablename__ = "messages"
    __table_args__ = (UniqueConstraint("conversation_id", "sequence"),)

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    """The client's own id: the same id again is the same message."""
    sequence: Mapped[int]
    """Place in the conversation, rising from 1; event ids derive from it."""
    sender: Mapped[str]
    channel: Mapped[str]
    text: Mapped[str]
    received_at: Mapped[str]
    """ISO 8601 with the offset it came with, so that the message reads back exactly as received."""


class TurnRow(Table):
    """A message answered, append-only. JSON columns are written and read by `encoding`, `format` says how."""

    __tablename__ = "turns"
    __table_args__ = (
        ForeignKeyConstraint(
            ["conversation_id", "message_id"], ["messages.conversation_id", "messages.id"], ondelete="CASCADE"
        ),
        UniqueConstraint("conversation_id", "message_id"),
        Index(None, "stored_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[str]
    message_id: Mapped[str]
    status: Mapped[str]
    reply: Mapped[str]
    citations: Mapped[str]
    suggestions: Mapped[str]
    parts: Mapped[str]
    model_version: Mapped[str]
    index_version: Mapped[str]
    playbook_version: Mapped[str]
    thresholds: Mapped[str]
    milliseconds: Mapped[str]
    format: Mapped[int]
    stored_at: Mapped[datetime]


class FeedbackRow(Table):
    """What the customer thought of a turn: a signal, never a label."""

    __tablename__ = "feedback"
    __table_args__ = (
        UniqueConstraint("turn_id", "sender"),
        CheckConstraint("verdict IN ('up', 'down')", name="verdict"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    sender: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str]
    comment: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RatingRow(Table):
    """What the customer thought of the whole conversation."""

    __tablename__ = "ratings"
    __table_args__ = (CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),)

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    stars: Mapped[int]
    comment: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ClickRow(Table):
    __tablename__ = "clicks"
    __table_args__ = (
        UniqueConstraint("turn_id", "kind", "target"),
        CheckConstraint("kind IN ('suggestion', 'citation')", name="kind"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    kind: Mapped[str]
    target: Mapped[str]
    created_at: Mapped[datetime]


class LabelRow(Table):
    """What a reviewer decided about one part of a turn: the right intent, or the passage that answers."""

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("turn_id", "part", "reviewer"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    part: Mapped[int]
    """Which question of the message, counted from 0."""
    intent: Mapped[str | None]
    """The right intent; null is out of scope or, with a passage, answered by that passage."""
    passage_id: Mapped[str | None]
    reviewer: Mapped[str]
    created_at: Mapped[datetime]


class JobRow(Table):
    """Scheduled work. One worker holds the lease and renews it; a lease that ran out may be taken by another."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="state"),
        Index(None, "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    due_at: Mapped[datetime]
    worker: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    attempts: Mapped[int]
    problem: Mapped[str]
    created_at: Mapped[datetime]


class StaffRow(Table):
    """Who works here. Nobody is deleted: what they wrote keeps its author."""

    __tablename__ = "staff"
    __table_args__ = (UniqueConstraint("name"), CheckConstraint("role IN ('lead', 'reviewer', 'agent')", name="role"))

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    """argon2id, with its parameters and salt."""
    temporary: Mapped[bool]
    """Whether the password was made by us: it must be changed at the first sign-in."""
    disabled: Mapped[bool]
    created_at: Mapped[datetime]


class SessionRow(Table):
    """A signed-in browser of the staff."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "staff_id"),)

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the cookie's token, in hex; the token itself is never stored."""
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.id", ondelete="CASCADE"))
    csrf: Mapped[str]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class AgentMessageRow(Table):
    """What an agent wrote: a reply to the customer, or a note for colleagues."""

    __tablename__ = "agent_messages"
    __table_args__ = (CheckConstraint("kind IN ('reply', 'note')", name="kind"), Index(None, "conversation_id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    """The page's own id: a form that is sent twice is one message."""
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    after: Mapped[int]
    """Place of the customer's message that it comes behind; 0 before the first."""
    event: Mapped[int | None]
    """The id of its event; null for a note, which no customer hears of."""
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.id"))
    name: Mapped[str]
    """As shown to the customer when it was written."""
    kind: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime]


class StatusChangeRow(Table):
    """When a conversation changed its status, so that a client that was away hears of it."""

    __tablename__ = "status_changes"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    event: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    name: Mapped[str]
    """Of the agent who did it, as shown to the customer; empty where nobody of the staff did."""
    at: Mapped[datetime]


class HandoverRow(Table):
    """One time that a person was wanted, from the asking to the end of it."""

    __tablename__ = "handovers"
    __table_args__ = (
        CheckConstraint("outcome IN ('returned', 'resolved', 'withdrawn')", name="outcome"),
        Index(None, "conversation_id"),
        Index(None, "ended_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    reason: Mapped[str]
    """Empty when nobody asked and an agent stepped in."""
    asked_at: Mapped[datetime]
    taken_by: Mapped[str | None] = mapped_column(ForeignKey("staff.id"))
    taken_name: Mapped[str]
    taken_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    """Null while it lasts, and where the agent left it: the next one says so by its reason."""


class CannedRow(Table):
    """A reply that agents use often."""

    __tablename__ = "canned"
    __table_args__ = (UniqueConstraint("title"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime]


class OutboxRow(Table):
    """A notification that is owed, written together with what it tells of."""

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("kind IN ('email', 'webhook')", name="kind"),
        CheckConstraint("state IN ('waiting', 'sent', 'dead')", name="state"),
        Index(None, "state", "due_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Goes with the notification: it may come twice, and this tells."""
    kind: Mapped[str]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    payload: Mapped[str]
    """JSON. Holds no text of a customer."""
    state: Mapped[str]
    attempts: Mapped[int]
    due_at: Mapped[datetime]
    problem: Mapped[str]
    created_at: Mapped[datetime]


class AuditRow(Table):
    """Who did what to what, append-only by trigger. Holds no text of a customer."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]
