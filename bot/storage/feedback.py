"""What customers did with a turn: thumbs, with a reason, and clicks. Signals for the review, never labels.

Owns that a customer has one opinion of a turn, the last one. Knows nothing about whose turn it may be: channels do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from bot.storage.database import Database
from bot.storage.tables import ClickRow, FeedbackRow, TurnRow
from bot.storage.turns import UnknownTurn

Verdict = Literal["up", "down"]
ClickKind = Literal["suggestion", "citation"]


@dataclass(frozen=True, slots=True)
class Feedback:
    sender: str
    verdict: Verdict
    reason: str
    comment: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Click:
    kind: ClickKind
    target: str


def give_feedback(
    database: Database, turn_id: str, *, sender: str, verdict: Verdict, reason: str = "", comment: str = ""
) -> None:
    """Stores what `sender` thinks of a turn; a change of mind replaces it. Raises UnknownTurn."""
    now = datetime.now(UTC)
    changed = {"verdict": verdict, "reason": reason, "comment": comment, "updated_at": now}

    def give(connection: Connection) -> None:
        _require_turn(connection, turn_id)
        connection.execute(
            insert(FeedbackRow)
            .values(turn_id=turn_id, sender=sender, created_at=now, **changed)
            .on_conflict_do_update(index_elements=["turn_id", "sender"], set_=changed)
        )

    database.write(give)


def record_click(database: Database, turn_id: str, kind: ClickKind, target: str) -> None:
    """Stores that a suggestion or citation was used, once each. Raises UnknownTurn."""

    def record(connection: Connection) -> None:
        _require_turn(connection, turn_id)
        connection.execute(
            insert(ClickRow)
            .values(turn_id=turn_id, kind=kind, target=target, created_at=datetime.now(UTC))
            .on_conflict_do_nothing()
        )

    database.write(record)


def feedback_on(database: Database, turn_id: str) -> tuple[Feedback, ...]:
    with database.read() as connection:
        rows = connection.execute(select(FeedbackRow).where(FeedbackRow.turn_id == turn_id).order_by(FeedbackRow.id))
        return tuple(
            Feedback(row.sender, cast(Verdict, row.verdict), row.reason, row.comment, row.created_at, row.updated_at)
            for row in rows
        )


def clicks_on(database: Database, turn_id: str) -> tuple[Click, ...]:
    with database.read() as connection:
        rows = connection.execute(select(ClickRow).where(ClickRow.turn_id == turn_id).order_by(ClickRow.id))
        return tuple(Click(cast(ClickKind, row.kind), row.target) for row in rows)


def _require_turn(connection: Connection, turn_id: str) -> None:
    if connection.scalar(select(TurnRow.id).where(TurnRow.id == turn_id)) is None:
        raise UnknownTurn(f"there is no turn {turn_id!r}")
