"""Bearer tokens of visitors: given once, kept as a hash, each for one conversation of one visitor, and dying unused.

Owns how a token is made and what it opens. Tokens of other purposes (staff sessions, secrets of sites) live in tables
of their own and open nothing here.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from bot.storage.database import Database, RecordUnavailable
from bot.storage.tables import ConversationRow, TokenRow

ANONYMOUS_LIFE = timedelta(days=30)
"""From the last use: nothing else brings an anonymous customer back."""

KNOWN_LIFE = timedelta(hours=24)
"""A customer who signs in gets a new one with each identity, so an old one need not live long."""

MOST_PER_CONVERSATION = 16
"""Open pages and devices of one conversation; the token that dies first makes room for the next."""

# Built once: every request asks for these, and building a statement costs five times what running it does.
_OPENED = (
    select(TokenRow.conversation_id, TokenRow.life, TokenRow.expires_at)
    .join(ConversationRow, ConversationRow.id == TokenRow.conversation_id)
    .where(
        TokenRow.hash == bindparam("token"),
        # What was merged into a known customer is no longer open to who held it before.
        TokenRow.visitor == ConversationRow.visitor,
    )
    .add_columns(
        ConversationRow.channel,
        ConversationRow.sender,
        ConversationRow.site,
        ConversationRow.visitor,
        ConversationRow.status,
        ConversationRow.created_at,
        ConversationRow.seen_at,
    )
)
_EXTEND = update(TokenRow).where(TokenRow.hash == bindparam("token")).values(expires_at=bindparam("until"))
_ADD = insert(TokenRow)


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is shown once, here."""

    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """The conversation that a living token opens, as its row stands."""

    conversation: str
    channel: str
    sender: str
    site: str | None
    visitor: str
    status: str
    created_at: datetime
    seen_at: datetime


def give_token(connection: Connection, conversation: str, visitor: str, life: timedelta) -> Token:
    """A new token (256 random bits) in the caller's transaction. It is stored without making it durable by itself."""
    token = Token(secrets.token_urlsafe(32), datetime.now(UTC) + life)
    connection.execute(
        _ADD,
        {
            "hash": hash_of(token.text),
            "conversation_id": conversation,
            "visitor": visitor,
            "life": int(life.total_seconds()),
            "expires_at": token.expires_at,
        },
    )
    return token


def make_room(connection: Connection, conversation: str) -> None:
    """Before one more is given: the dead go, and of the living those that would die first."""
    kept = (
        select(TokenRow.hash)
        .where(TokenRow.conversation_id == conversation, TokenRow.expires_at > datetime.now(UTC))
        .order_by(TokenRow.expires_at.desc())
        .limit(MOST_PER_CONVERSATION - 1)
    )
    connection.execute(
        delete(TokenRow).where(TokenRow.conversation_id == conversation, TokenRow.hash.not_in(kept.scalar_subquery()))
    )


def opened_by(database: Database, token: str) -> Opened | None:
    """What `token` opens; None if it is none of ours, has expired, or was given to somebody else. Using it keeps it
    alive."""
    hashed = hash_of(token)
    with database.read() as connection:
        row = connection.execute(_OPENED, {"token": hashed}).one_or_none()
    now = datetime.now(UTC)
    if row is None or row.expires_at <= now:
        return None
    life = timedelta(seconds=row.life)
    if row.expires_at - now < life * 0.95:  # a write each day, or hour, and not with each request
        # Nobody waits for it: a use that is not noted costs nothing but a shorter life.
        with suppress(RecordUnavailable):
            database.submit(lambda connection: connection.execute(_EXTEND, {"token": hashed, "until": now + life}))
    return Opened(
        row.conversation_id,
        row.channel,
        row.sender,
        row.site,
        row.visitor,
        row.status,
        row.created_at,
        row.seen_at,
    )


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
