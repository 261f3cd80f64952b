"""Who talks to us from a site: anonymous visitors, customers the site vouched for, and the conversations of each.

Owns whose a new conversation is, and that an anonymous visitor becomes a known one only by both proofs: a token of
theirs and an identity. Knows nothing about how an identity is proven: see `bot.channels.web.identity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.orm import aliased

from bot.conversation.messages import Channel
from bot.storage.conversations import (
    Conversation,
    ConversationStatus,
    StartedConversation,
    add_conversation,
    add_visitor,
    drop_idle_visitor,
    note,
)
from bot.storage.database import Database
from bot.storage.tables import AgentMessageRow, ConversationRow, MessageRow, TokenRow, TurnRow, VisitorRow
from bot.storage.tokens import ANONYMOUS_LIFE, KNOWN_LIFE, Token, give_token, make_room

MOST_LISTED = 50
LONGEST_LAST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a customer is to the company, as its own server said it. `name` and `email` may be empty."""

    user_id: str
    name: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class Visitor:
    """`user_id` is None for somebody anonymous, whose name and email, if any, are only what they said of themselves."""

    id: str
    site: str
    user_id: str | None
    name: str
    email: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation in the list of its visitor; `last_text` is the beginning of what was said last."""

    id: str
    status: ConversationStatus
    started_at: datetime
    last_at: datetime
    last_text: str
    unread: int
    """What was said to the customer since they last looked."""


def open_conversation(
    database: Database,
    *,
    channel: Channel = "web",
    site: str = "",
    identity: Identity | None = None,
    earlier: Conversation | None = None,
    resume: bool = False,
    name: str = "",
    email: str = "",
) -> tuple[StartedConversation, bool]:
    """A new conversation at `site` and False; with `resume`, the latest of the same visitor that is not resolved and
    True, if there is one. Either comes with a fresh token.

    It belongs to whom `identity` names, else to the visitor of `earlier`, a conversation that the caller's token
    opens, else to somebody new. `earlier` at another site proves nothing here. With both, what an anonymous visitor
    said becomes the known customer's, and the tokens they had end; what belongs to another known customer never does.
    `name` and `email` are what the visitor says; an identity's own count for more.
    """

    def open_it(connection: Connection) -> tuple[StartedConversation, bool]:
        before = earlier.visitor if earlier is not None and earlier.site == site else None
        anonymous = before is None or _is_anonymous(connection, before)
        if identity is not None:
            visitor = _known(connection, site, identity.user_id)
            if before is not None and anonymous:
                _merge(connection, before, visitor)
            anonymous = False
        else:
            visitor = before or add_visitor(connection, site)
        _tell(connection, visitor, name, email, only_unknown=not anonymous)
        if identity is not None:
            _tell(connection, visitor, identity.name, identity.email)
        life = ANONYMOUS_LIFE if anonymous else KNOWN_LIFE
        if resume and (found := _latest_unresolved(connection, visitor)) is not None:
            make_room(connection, found)
            token = give_token(connection, found, visitor, life)
            return StartedConversation(found, token.text, visitor, token.expires_at), True
        return add_conversation(connection, visitor, life, channel=channel, site=site), False

    return database.write(open_it)


def renewed_token(database: Database, holder: Conversation, conversation: str) -> Token | None:
    """A fresh token for another conversation of the visitor of `holder`; None if it is none of theirs.

    `holder` is one that the caller's own token opens.
    """

    def renew(connection: Connection) -> Token | None:
        mine = connection.scalar(
            select(ConversationRow.id).where(
                ConversationRow.id == conversation, ConversationRow.visitor == holder.visitor
            )
        )
        if mine is None:
            return None
        make_room(connection, conversation)
        life = ANONYMOUS_LIFE if _is_anonymous(connection, holder.visitor) else KNOWN_LIFE
        return give_token(connection, conversation, holder.visitor, life)

    return database.write(renew)


def conversations_of(database: Database, visitor: str) -> tuple[Listed, ...]:
    """The conversations of a visitor, the newest first, at most 50."""
    with database.read() as connection:
        rows = connection.execute(_listed(), {"visitor": visitor}).all()
    return tuple(_as_listed(row) for row in rows)


def _as_listed(row: Row[*tuple[Any, ...]]) -> Listed:
    at = row.stored_at or (datetime.fromisoformat(row.received_at) if row.received_at else row.created_at)
    said = row.reply or row.text or ""
    if row.agent_at is not None and row.agent_at > at:
        at, said = row.agent_at, row.agent_said
    return Listed(
        row.id, cast(ConversationStatus, row.status), row.created_at, at, said[:LONGEST_LAST_TEXT], row.unread
    )


@cache
def _listed() -> Select[*tuple[Any, ...]]:
    """The statement of the list: built when somebody first asks for one, for it costs a start of the service."""
    said, answer = aliased(MessageRow), aliased(TurnRow)
    last = (
        select(func.max(said.sequence)).where(said.conversation_id == ConversationRow.id).correlate(ConversationRow)
    ).scalar_subquery()
    unread = (
        select(func.count())
        .where(
            answer.conversation_id == ConversationRow.id,
            answer.stored_at > ConversationRow.seen_at,
            answer.reply != "",  # a message that was for a person, to which the bot said nothing
        )
        .correlate(ConversationRow)
    ).scalar_subquery()
    replies = (
        select(AgentMessageRow)
        .where(AgentMessageRow.conversation_id == ConversationRow.id, AgentMessageRow.kind == "reply")
        .correlate(ConversationRow)
    )
    latest = replies.order_by(AgentMessageRow.created_at.desc()).limit(1)
    written = replies.where(AgentMessageRow.created_at > ConversationRow.seen_at).with_only_columns(func.count())
    in_message = (TurnRow.conversation_id == MessageRow.conversation_id) & (TurnRow.message_id == MessageRow.id)
    return (
        select(
            ConversationRow.id,
            ConversationRow.status,
            ConversationRow.created_at,
            MessageRow.text,
            MessageRow.received_at,
            TurnRow.reply,
            TurnRow.stored_at,
            (unread + written.scalar_subquery()).label("unread"),
            latest.with_only_columns(AgentMessageRow.text).scalar_subquery().label("agent_said"),
            latest.with_only_columns(AgentMessageRow.created_at).scalar_subquery().label("agent_at"),
        )
        .select_from(ConversationRow)
        .outerjoin(MessageRow, (MessageRow.conversation_id == ConversationRow.id) & (MessageRow.sequence == last))
        .outerjoin(TurnRow, in_message)
        .where(ConversationRow.visitor == bindparam("visitor"))
        .order_by(ConversationRow.created_at.desc(), ConversationRow.id)
        .limit(MOST_LISTED)
    )


def find_visitor(database: Database, visitor: str) -> Visitor | None:
    """What is known of a visitor, for the person who answers them."""
    with database.read() as connection:
        row = connection.execute(select(VisitorRow.__table__).where(VisitorRow.id == visitor)).one_or_none()
    return None if row is None else Visitor(row.id, row.site or "", row.user_id, row.name, row.email, row.created_at)


def _known(connection: Connection, site: str, user_id: str) -> str:
    found: str | None = connection.scalar(
        select(VisitorRow.id).where(VisitorRow.user_id == user_id, VisitorRow.site.is_not_distinct_from(site or None))
    )
    return found or add_visitor(connection, site, user_id=user_id)


def _is_anonymous(connection: Connection, visitor: str) -> bool:
    return connection.scalar(select(VisitorRow.user_id).where(VisitorRow.id == visitor)) is None


def _merge(connection: Connection, anonymous: str, known: str) -> None:
    """What was said anonymously becomes the known customer's. Whoever else held a token of it (on a shared computer,
    say) must not see the customer through it, so those end."""
    connection.execute(delete(TokenRow).where(TokenRow.visitor == anonymous))
    connection.execute(update(ConversationRow).where(ConversationRow.visitor == anonymous).values(visitor=known))
    drop_idle_visitor(connection, anonymous)
    note(connection, actor="customer", action="merge", subject=known, detail=anonymous)


def _tell(connection: Connection, visitor: str, name: str, email: str, *, only_unknown: bool = False) -> None:
    """`only_unknown`: what is known already was proven, and stays."""
    for column, value in ((VisitorRow.name, name), (VisitorRow.email, email)):
        if value:
            known = update(VisitorRow).where(VisitorRow.id == visitor).values({column: value})
            connection.execute(known.where(column == "") if only_unknown else known)


def _latest_unresolved(connection: Connection, visitor: str) -> str | None:
    found: str | None = connection.scalar(
        select(ConversationRow.id)
        .where(ConversationRow.visitor == visitor, ConversationRow.status != "resolved")
        .order_by(ConversationRow.created_at.desc())
        .limit(1)
    )
    return found
