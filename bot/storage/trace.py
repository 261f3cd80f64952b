"""Everything the record knows about one turn, so that an answer can be explained later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from bot.conversation.messages import Turn
from bot.storage.conversations import Conversation, find_conversation
from bot.storage.database import Database
from bot.storage.feedback import Click, Feedback, clicks_on, feedback_on
from bot.storage.tables import LabelRow
from bot.storage.turns import entries, placed_turn


@dataclass(frozen=True, slots=True)
class Label:
    """A reviewer's decision on part `part` (from 0) of a turn."""

    part: int
    intent: str | None
    passage_id: str | None
    reviewer: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything the record knows about one turn, for `frontdesk explain`."""

    conversation: Conversation
    sequence: int
    before: tuple[Turn, ...]
    """The turns that were the history of this one, oldest first."""
    turn: Turn
    stored_at: datetime
    feedback: tuple[Feedback, ...]
    clicks: tuple[Click, ...]
    labels: tuple[Label, ...]


def trace(database: Database, turn_id: str) -> Trace:
    """Raises UnknownTurn."""
    found = placed_turn(database, turn_id)
    assert found.turn is not None and found.answered_at is not None
    conversation = found.message.conversation
    return Trace(
        conversation=find_conversation(database, conversation),
        sequence=found.sequence,
        before=tuple(
            entry.turn
            for entry in entries(database, conversation)
            if entry.turn is not None and entry.sequence < found.sequence
        ),
        turn=found.turn,
        stored_at=found.answered_at,
        feedback=feedback_on(database, turn_id),
        clicks=clicks_on(database, turn_id),
        labels=_labels_on(database, turn_id),
    )


def _labels_on(database: Database, turn_id: str) -> tuple[Label, ...]:
    with database.read() as connection:
        rows = connection.execute(select(LabelRow).where(LabelRow.turn_id == turn_id).order_by(LabelRow.id))
        return tuple(Label(row.part, row.intent, row.passage_id, row.reviewer, row.created_at) for row in rows)
