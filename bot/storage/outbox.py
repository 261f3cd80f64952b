"""Notifications that are owed: written in the transaction of what they tell, so that none is lost and none is early.

Owns when each is due, how often it is tried, and when it is given up. At least once: each has an id that stays the
same, so that a receiver can tell a second delivery. Knows nothing about mail or the web: see `bot.delivery`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, cast, get_args

from sqlalchemy import Connection, bindparam, func, insert, select, update

from bot.storage.database import Database
from bot.storage.tables import OutboxRow

Kind = Literal["email", "webhook"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MOST_ATTEMPTS = 9
"""Eight pauses of 10 seconds, 30 seconds and so on add up to nine hours: a night without the mail server."""
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PROBLEM = 300

_DUE = (
    select(OutboxRow.id, OutboxRow.kind, OutboxRow.payload, OutboxRow.attempts)
    .where(
        OutboxRow.state == "waiting",
        OutboxRow.due_at <= bindparam("now"),
        OutboxRow.kind.in_(bindparam("kinds", expanding=True)),
    )
    .order_by(OutboxRow.due_at)
    .limit(20)
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification to deliver: `payload` is a JSON object that holds the `id` too."""

    id: str
    kind: Kind
    payload: str
    attempts: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A notification that was given up, or has failed so far (`given_up` False)."""

    id: str
    kind: Kind
    conversation: str
    problem: str
    attempts: int
    created_at: datetime
    given_up: bool


def owe(connection: Connection, conversation: str, kinds: Sequence[Kind], what: dict[str, str]) -> None:
    """Adds a notification of each kind in the caller's transaction. `what` must not quote a customer."""
    now = datetime.now(UTC)
    for kind in kinds:
        name = secrets.token_urlsafe(12)
        row = {
            "id": name,
            "kind": kind,
            "conversation_id": conversation,
            "payload": json.dumps({"id": name, **what}, ensure_ascii=False),
            "state": "waiting",
            "attempts": 0,
            "due_at": now,
            "problem": "",
            "created_at": now,
        }
        connection.execute(insert(OutboxRow), row)


def due(database: Database, now: datetime, kinds: Sequence[Kind] = KINDS) -> Sequence[Notice]:
    """What should be delivered now, oldest first, a few at a time."""
    with database.read() as connection:
        rows = connection.execute(_DUE, {"now": now, "kinds": kinds}).all()
    return [Notice(row.id, cast(Kind, row.kind), row.payload, row.attempts) for row in rows]


def mark_sent(database: Database, notice: Notice) -> None:
    _set(database, notice.id, state="sent", attempts=notice.attempts + 1, problem="")


def mark_failed(database: Database, notice: Notice, problem: str, now: datetime) -> None:
    """The next try is three times as far away as the last; after the last one it is a dead letter."""
    attempts = notice.attempts + 1
    _set(
        database,
        notice.id,
        state="dead" if attempts >= MOST_ATTEMPTS else "waiting",
        attempts=attempts,
        due_at=now + FIRST_PAUSE * 3 ** (attempts - 1),
        problem=problem[:LONGEST_PROBLEM],
    )


def try_again(database: Database, name: str) -> None:
    """A dead letter, or one that waits for its next try, is due now."""

    def again(connection: Connection) -> None:
        connection.execute(
            update(OutboxRow)
            .where(OutboxRow.id == name, OutboxRow.state != "sent")
            .values(state="waiting", attempts=0, due_at=datetime.now(UTC))
        )

    database.write(again)


def undelivered(database: Database, limit: int = 100) -> Sequence[DeadLetter]:
    """What was given up, and what failed at least once, newest first."""
    with database.read() as connection:
        rows = connection.execute(
            select(OutboxRow)
            .with_only_columns(
                OutboxRow.id,
                OutboxRow.kind,
                OutboxRow.conversation_id,
                OutboxRow.problem,
                OutboxRow.attempts,
                OutboxRow.created_at,
                OutboxRow.state,
            )
            .where(OutboxRow.state != "sent", OutboxRow.problem != "")
            .order_by(OutboxRow.created_at.desc())
            .limit(limit)
        ).all()
    return [
        DeadLetter(
            row.id,
            cast(Kind, row.kind),
            row.conversation_id,
            row.problem,
            row.attempts,
            row.created_at,
            row.state == "dead",
        )
        for row in rows
    ]


def count_dead(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).where(OutboxRow.state == "dead")) or 0


def _set(database: Database, name: str, **values: object) -> None:
    database.write(lambda connection: connection.execute(update(OutboxRow).where(OutboxRow.id == name).values(values)))
