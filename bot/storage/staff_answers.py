"""Questions that an agent answered, each with the reply: what the bot may learn from its colleagues.

Owns which message a reply answers: the customer's last ones before it. Knows nothing about training or masking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from bot.conversation.messages import Turn
from bot.storage.database import Database
from bot.storage.happenings import AgentMessage, written
from bot.storage.tables import AgentMessageRow
from bot.storage.turns import Entry, entries, reason_of

HISTORY_LINES = 8


@dataclass(frozen=True, slots=True)
class StaffAnswer:
    """`history` holds `(speaker, text)` before the question, oldest first."""

    conversation: str
    question: str
    reply: str
    history: tuple[tuple[str, str], ...]


def staff_answers(database: Database) -> Iterator[StaffAnswer]:
    """Conversation by conversation. Several messages before one reply are one question; several replies to one
    question are one answer."""
    with database.read() as connection:
        conversations = connection.scalars(
            select(AgentMessageRow.conversation_id)
            .where(AgentMessageRow.kind == "reply")
            .distinct()
            .order_by(AgentMessageRow.conversation_id)
        ).all()
    for conversation in conversations:
        with database.read() as connection:
            replies = [one for one in written(connection, conversation) if one.kind == "reply"]
        yield from _pairs(conversation, entries(database, conversation), replies)


def _pairs(conversation: str, said: tuple[Entry, ...], replies: list[AgentMessage]) -> Iterator[StaffAnswer]:
    history: list[tuple[str, str]] = []
    asked: list[str] = []
    about = ""
    for entry in said:
        text, turn = entry.message.text, entry.turn
        if text.strip():
            asked.append(text)
        behind = [one.text for one in replies if one.after == entry.sequence]
        if behind and asked:
            # Who only asked for a person asked it about the question before.
            wanted = [about, *asked] if about and _only_wants_person(turn) and len(asked) == 1 else asked
            # Not cut here: a number that is cut in half is no number to whoever masks it.
            yield StaffAnswer(conversation, "\n".join(wanted), "\n\n".join(behind), tuple(history[-HISTORY_LINES:]))
        if behind or (turn is not None and turn.reply.status not in ("waiting", "handed_over")):
            about = asked[-1] if asked else about
            history += [("customer", text) for text in asked]
            history += [("agent", text) for text in behind]
            if turn is not None and not behind:
                history.append(("bot", turn.reply.text))
            asked = []


def _only_wants_person(turn: Turn | None) -> bool:
    return turn is not None and turn.reply.status == "handed_over" and reason_of(turn) == "asked"
