"""The hand-over: bot -> waiting -> person -> bot or resolved, a transition at a time, each in its transaction.

Owns which step leads where and who may take it, the record of every hand-over with its reason, and that the
notifications are owed with the asking. Knows nothing about events in flight or pages: `bot.serving` orders the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from sqlalchemy import Connection, bindparam, func, insert, select, update

from bot import FrontdeskError
from bot.conversation.messages import HandOverReason
from bot.storage.conversations import ConversationStatus, note, require_conversation
from bot.storage.happenings import AgentMessage, StatusChange, change_status, write_down
from bot.storage.outbox import Kind, owe
from bot.storage.tables import AgentMessageRow, ConversationRow, FileRow, HandoverRow, MessageRow, StaffRow, TurnRow

Step = Literal["ask", "take", "give_back", "resolve", "reopen", "withdraw", "leave"]
Outcome = Literal["returned", "resolved", "withdrawn"]

MOVES: Mapping[tuple[ConversationStatus, Step], ConversationStatus] = {
    ("open", "ask"): "waiting",
    ("resolved", "ask"): "waiting",
    ("waiting", "withdraw"): "open",
    ("open", "take"): "person",
    ("waiting", "take"): "person",
    ("resolved", "take"): "person",
    ("person", "leave"): "waiting",
    ("waiting", "give_back"): "open",
    ("person", "give_back"): "open",
    ("open", "resolve"): "resolved",
    ("waiting", "resolve"): "resolved",
    ("person", "resolve"): "resolved",
    ("resolved", "reopen"): "open",
}
"""Every step that changes something. A step that is not here changes nothing."""

LONGEST_REPLY = 4_000


@dataclass(frozen=True, slots=True)
class Agent:
    """Who of the staff acts; `name` is what customers are shown. A lead may act on what a colleague has taken."""

    id: str
    name: str
    lead: bool = False


@dataclass(frozen=True, slots=True)
class HandOverRecord:
    """The hand-over that a conversation is in. `reason` is None when an agent stepped in unasked."""

    id: int
    reason: HandOverReason | None
    asked_at: datetime
    taken_by: str | None
    taken_name: str


class Taken(FrontdeskError):
    """A colleague has the conversation."""

    def __init__(self, by: str) -> None:
        super().__init__(f"{by} has this conversation: ask them, or take it over")
        self.by = by


class NotTaken(FrontdeskError):
    """The conversation must be taken first."""

    def __init__(self) -> None:
        super().__init__("take the conversation first: until then the bot speaks for you")


_OPEN = select(
    HandoverRow.id, HandoverRow.reason, HandoverRow.asked_at, HandoverRow.taken_by, HandoverRow.taken_name
).where(HandoverRow.conversation_id == bindparam("conversation"), HandoverRow.ended_at.is_(None))


_OF_THIS = AgentMessageRow.conversation_id == HandoverRow.conversation_id, AgentMessageRow.kind == "reply"
_REPLIED_AT = select(func.max(AgentMessageRow.created_at)).where(*_OF_THIS).scalar_subquery()
_TAKEN = (
    select(
        HandoverRow.conversation_id,
        HandoverRow.reason,
        HandoverRow.asked_at,
        HandoverRow.taken_by,
        HandoverRow.taken_at,
        StaffRow.disabled,
        _REPLIED_AT.label("replied_at"),
        # The first message since then that met with silence in this hand-over.
        select(MessageRow.received_at)
        .join(
            TurnRow,
            (TurnRow.conversation_id == MessageRow.conversation_id) & (TurnRow.message_id == MessageRow.id),
        )
        .where(
            MessageRow.conversation_id == HandoverRow.conversation_id,
            TurnRow.reply == "",
            TurnRow.stored_at >= HandoverRow.asked_at,
            MessageRow.sequence
            > func.coalesce(select(func.max(AgentMessageRow.after)).where(*_OF_THIS).scalar_subquery(), 0),
        )
        .order_by(MessageRow.sequence)
        .limit(1)
        .scalar_subquery()
        .label("unanswered_at"),
        select(func.min(FileRow.created_at))
        .where(
            FileRow.conversation_id == HandoverRow.conversation_id,
            FileRow.created_at >= HandoverRow.asked_at,
            FileRow.created_at > func.coalesce(_REPLIED_AT, HandoverRow.asked_at),
        )
        .scalar_subquery()
        .label("file_at"),
    )
    .join(StaffRow, StaffRow.id == HandoverRow.taken_by)
    .where(HandoverRow.ended_at.is_(None))
)


def current(connection: Connection, conversation: str) -> HandOverRecord | None:
    """The hand-over that is not over yet."""
    row = connection.execute(_OPEN, {"conversation": conversation}).one_or_none()
    if row is None:
        return None
    return HandOverRecord(
        row.id, cast(HandOverReason | None, row.reason or None), row.asked_at, row.taken_by, row.taken_name
    )


def ask(
    connection: Connection, conversation: str, reason: HandOverReason, *, after: int, notify: Sequence[Kind] = ()
) -> StatusChange | None:
    """Puts the conversation into the queue; None if it is there or with a person. The notifications go with it."""
    if MOVES.get((require_conversation(connection, conversation), "ask")) is None:
        return None
    return _queue(connection, conversation, reason, datetime.now(UTC), after, notify)


def left(
    connection: Connection, now: datetime, patience: timedelta, conversation: str | None = None
) -> Mapping[str, datetime]:
    """Conversations, or this one if it is, that nobody answers though an agent has them, each with since when its
    customer waits: the account was removed, or there was no word for `patience`."""
    found = {}
    rows = connection.execute(
        _TAKEN if conversation is None else _TAKEN.where(HandoverRow.conversation_id == conversation)
    ).all()
    for row in rows:
        asked = row.reason and (row.replied_at is None or row.replied_at < row.asked_at)
        said = datetime.fromisoformat(row.unanswered_at) if row.unanswered_at else None
        unanswered = min((at for at in (said, row.file_at) if at is not None), default=None)
        since = row.asked_at if asked else unanswered
        if row.disabled or (since is not None and now - max(since, row.taken_at) >= patience):
            found[row.conversation_id] = since or now
    return found


def leave(
    connection: Connection,
    conversation: str,
    now: datetime,
    patience: timedelta,
    *,
    after: int,
    notify: Sequence[Kind] = (),
) -> StatusChange | None:
    """Puts a conversation that is `left` back into the queue, as a hand-over of its own; None if it is not."""
    found = left(connection, now, patience, conversation)
    if conversation not in found or MOVES.get((require_conversation(connection, conversation), "leave")) is None:
        return None
    # Without an outcome: nobody ended it.
    _mark_open(connection, conversation, ended_at=datetime.now(UTC))
    note(connection, actor="service", action="leave", subject=conversation)
    return _queue(connection, conversation, "left", found[conversation], after, notify)


def withdraw(connection: Connection, conversation: str, *, said_at: datetime, after: int) -> StatusChange | None:
    """The customer no longer wants a person. What was said before the asking withdraws nothing."""
    asked = current(connection, conversation)
    if asked is None or asked.taken_by is not None or said_at < asked.asked_at:
        return None
    return _move(connection, conversation, "withdraw", "customer", after=after, outcome="withdrawn")


def reopen(connection: Connection, conversation: str, *, after: int) -> StatusChange | None:
    """A message to a conversation that was over."""
    return _move(connection, conversation, "reopen", "customer", after=after)


def take(
    connection: Connection, conversation: str, agent: Agent, *, after: int, instead_of: str = ""
) -> StatusChange | None:
    """The agent has it; None if they already had. Raises Taken if a colleague does who is not `instead_of`."""
    status = require_conversation(connection, conversation)
    held = current(connection, conversation)
    if status == "person" and held is not None and held.taken_by is not None:
        if held.taken_by == agent.id:
            return None
        if held.taken_by != instead_of:
            raise Taken(held.taken_name)
    now = datetime.now(UTC)
    if held is None:
        _begin(connection, conversation, None, now)
    _mark_open(connection, conversation, taken_by=agent.id, taken_name=agent.name, taken_at=now)
    note(connection, actor=agent.id, action="take", subject=conversation)
    return change_status(connection, conversation, "person", after=after, name=agent.name)


def give_back(connection: Connection, conversation: str, agent: Agent, *, after: int) -> StatusChange | None:
    """The bot has it again. Raises Taken if a colleague has it."""
    _mine(connection, conversation, agent)
    return _move(
        connection, conversation, "give_back", agent.id, after=after, outcome="returned", name=agent.name
    )  # fmt: skip


def resolve(connection: Connection, conversation: str, agent: Agent | None, *, after: int) -> StatusChange | None:
    """The matter is settled, as an agent says, or with None the customer. Raises Taken if a colleague has it."""
    if agent is not None:
        _mine(connection, conversation, agent)
    actor, name = (agent.id, agent.name) if agent is not None else ("customer", "")
    return _move(connection, conversation, "resolve", actor, after=after, outcome="resolved", name=name)


def reply(connection: Connection, conversation: str, agent: Agent, name: str, text: str, *, after: int) -> AgentMessage:
    """What the agent says to the customer, once under the id `name`. Raises NotTaken, Taken, or FrontdeskError."""
    held = current(connection, conversation)
    if require_conversation(connection, conversation) != "person" or held is None:
        raise NotTaken
    if held.taken_by != agent.id:
        raise Taken(held.taken_name)
    return _write(connection, conversation, agent, name, "reply", text, after)


def leave_note(
    connection: Connection, conversation: str, agent: Agent, name: str, text: str, *, after: int
) -> AgentMessage:
    """What colleagues should know and no customer sees."""
    require_conversation(connection, conversation)
    return _write(connection, conversation, agent, name, "note", text, after)


def _write(
    connection: Connection,
    conversation: str,
    agent: Agent,
    name: str,
    kind: Literal["reply", "note"],
    text: str,
    after: int,
) -> AgentMessage:
    if not text or len(text) > LONGEST_REPLY:
        raise FrontdeskError(f"a message has 1 to {LONGEST_REPLY:,} characters, this one {len(text):,}")
    message = AgentMessage(name, after, None, agent.id, agent.name, kind, text, datetime.now(UTC))
    return write_down(connection, conversation, message)


def _mine(connection: Connection, conversation: str, agent: Agent) -> None:
    held = current(connection, conversation)
    if held is not None and held.taken_by not in (None, agent.id) and not agent.lead:
        raise Taken(held.taken_name)


def _begin(connection: Connection, conversation: str, reason: HandOverReason | None, now: datetime) -> None:
    connection.execute(
        insert(HandoverRow),
        {"conversation_id": conversation, "reason": reason or "", "asked_at": now, "taken_name": ""},
    )


def _queue(
    connection: Connection,
    conversation: str,
    reason: HandOverReason,
    since: datetime,
    after: int,
    notify: Sequence[Kind],
) -> StatusChange:
    """Begins a hand-over that nobody has taken, and owes the notifications of it."""
    _begin(connection, conversation, reason, since)
    site = connection.scalar(select(ConversationRow.site).where(ConversationRow.id == conversation))
    what = {"event": "handover.asked", "conversation_id": conversation, "reason": reason, "site": site or ""}
    owe(connection, conversation, notify, what | {"asked_at": since.isoformat()})
    return change_status(connection, conversation, "waiting", after=after)


def _mark_open(connection: Connection, conversation: str, **values: object) -> None:
    """Changes the hand-over that a conversation is in, if it is in one."""
    connection.execute(
        update(HandoverRow)
        .where(HandoverRow.conversation_id == conversation, HandoverRow.ended_at.is_(None))
        .values(**values)
    )


def _move(
    connection: Connection,
    conversation: str,
    step: Step,
    actor: str,
    *,
    after: int,
    outcome: Outcome | None = None,
    name: str = "",
) -> StatusChange | None:
    status = MOVES.get((require_conversation(connection, conversation), step))
    if status is None:
        return None
    if outcome is not None:
        _mark_open(connection, conversation, ended_at=datetime.now(UTC), outcome=outcome)
    note(connection, actor=actor, action=step, subject=conversation)
    return change_status(connection, conversation, status, after=after, name=name)
