"""The JSON of the HTTP contract: what clients send and what they get back, field by field.

Owns the names that other programs rely on, and the translation of our values into them. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bot.conversation.messages import Status, Turn, readable
from bot.events import stored_events, turn_event
from bot.storage.conversations import ConversationStatus
from bot.storage.happenings import BLOCK, AgentMessage, Happening
from bot.storage.turns import Entry

LONGEST_TEXT = 4_000


def _sayable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a null character; remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half of a surrogate pair; send well-formed Unicode")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"has {len(text):,} characters, at most {LONGEST_TEXT:,} fit; shorten it")
    return text


def _said(text: str) -> str:
    if not readable(_sayable(text)):
        raise ValueError("is empty; write something")
    return text


Text = Annotated[str, AfterValidator(_said)]
Note = Annotated[str, AfterValidator(_sayable)]
MessageId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="made by the client, a UUID say")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewMessage(Body):
    """A message of the customer. Sending the same `id` again is sending the same message again."""

    id: MessageId
    text: Text


class NewConversation(Body):
    """`message` asks the first question in the same round trip, and its turn comes back in the answer."""

    site: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    channel: Literal["web", "terminal", "api"] = "web"
    message: NewMessage | None = None


class Feedback(Body):
    verdict: Literal["up", "down"]
    reason: Note = ""
    comment: Note = ""


class Click(Body):
    """What of a turn was chosen: one of its suggestions, or the address of one of its citations."""

    suggestion: Note | None = None
    citation: Note | None = None


class Asking(Body):
    """Why a person is wanted: the customer asked, or asked while nobody is there."""

    reason: Literal["asked", "hours"] = "asked"


class Rating(Body):
    stars: Annotated[int, Field(ge=1, le=5, strict=True)]
    comment: Note = ""


class CitationBody(BaseModel):
    title: str
    url: str
    quote: str


class TurnBody(BaseModel):
    """A message answered. While a person has the conversation its `status` is waiting and its `text` empty: nothing is
    shown for it. `intent` and `confidence` are those of the first question in it; `ms` is all of its steps."""

    id: str
    status: Status
    text: str
    citations: list[CitationBody]
    suggestions: list[str]
    intent: str | None
    confidence: float
    model_version: str
    index_version: str
    ms: float


def turn_body(turn: Turn) -> TurnBody:
    understanding = turn.parts[0].understanding if turn.parts else None
    return TurnBody(
        id=turn.id,
        status=turn.reply.status,
        text=turn.reply.text,
        citations=[CitationBody(title=c.title, url=c.url, quote=c.quote) for c in turn.reply.citations],
        suggestions=list(turn.reply.suggestions),
        intent=understanding.intent if understanding else None,
        confidence=round(understanding.confidence, 4) if understanding else 0.0,
        model_version=turn.versions.model,
        index_version=turn.versions.index,
        ms=round(sum(ms for _, ms in turn.milliseconds), 2),
    )


MaybeTurn = Annotated[TurnBody | None, Field(exclude_if=lambda turn: turn is None)]
"""Left out where there is none, instead of null."""


class Accepted(BaseModel):
    message_id: str


class Opened(BaseModel):
    """`token` opens this conversation and nothing else; it is shown this once."""

    conversation_id: str
    token: str
    turn: MaybeTurn = None


class MessageBody(BaseModel):
    id: str
    from_: Annotated[Literal["customer", "bot", "agent"], Field(serialization_alias="from")]
    text: str
    at: datetime
    turn: MaybeTurn = None
    name: Annotated[str | None, Field(exclude_if=lambda name: name is None)] = None
    """Of the agent, as they are shown to the customer."""


class AgentMessageBody(BaseModel):
    id: str
    text: str
    name: str
    at: datetime


def agent_body(message: AgentMessage) -> AgentMessageBody:
    return AgentMessageBody(id=message.id, text=message.text, name=message.name, at=message.at)


class ConversationBody(BaseModel):
    """Everything said. Reading the events on from `last_event_id` gives what comes next, and nothing twice."""

    status: ConversationStatus
    messages: list[MessageBody]
    last_event_id: int

    @classmethod
    def of(
        cls, status: ConversationStatus, entries: Sequence[Entry], happenings: Sequence[Happening]
    ) -> ConversationBody:
        owed = [entry.sequence * BLOCK for entry in entries if entry.turn is None]
        # An answer still under way is read from its first word, and what happened behind its message after it.
        last = min(owed, default=max((event.id for event in stored_events(entries, happenings)), default=0))
        lines = [line for entry in entries for line in _lines(entry)]
        lines += [(one.event, _agent_line(one)) for one in happenings if isinstance(one, AgentMessage) and one.event]
        heard = sorted((line for line in lines if line[0] <= last or line[1].from_ == "customer"), key=_number)
        return cls(status=status, messages=[line for _, line in heard], last_event_id=last)


def _lines(entry: Entry) -> list[tuple[int, MessageBody]]:
    """What was said at one place, each with where its event stands."""
    message, turn = entry.message, entry.turn
    place = entry.sequence * BLOCK
    lines = [(place, MessageBody(id=message.id, from_="customer", text=message.text, at=message.received_at))]
    if turn is not None:
        at = entry.answered_at or message.received_at
        said = MessageBody(id=turn.id, from_="bot", text=turn.reply.text, at=at, turn=turn_body(turn))
        lines.append((turn_event(entry).id, said))
    return lines


def _number(line: tuple[int, MessageBody]) -> int:
    return line[0]


def _agent_line(message: AgentMessage) -> MessageBody:
    return MessageBody(id=message.id, from_="agent", text=message.text, at=message.at, name=message.name)


class StatusBody(BaseModel):
    status: ConversationStatus


class LiveBody(BaseModel):
    status: Literal["live"] = "live"


class ReadyBody(BaseModel):
    """`degraded` means that answers come, but poorer than they should be; `frontdesk doctor` says why."""

    status: Literal["ready", "not_ready", "draining"]
    degraded: bool
