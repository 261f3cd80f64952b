"""The JSON of the HTTP contract: what clients send and what they get back, field by field.

Owns the names that other programs rely on, and the translation of our values into them. Decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bot.conversation.messages import Status, Turn, readable
from bot.events import stored_events, turn_event
from bot.storage.conversations import ConversationStatus
from bot.storage.files import LARGEST_FILE, TYPES, StoredFile
from bot.storage.happenings import BLOCK, AgentMessage, Happening, StatusChange
from bot.storage.sites import PreChat, Site, hours_text, is_open, next_opening
from bot.storage.turns import Entry
from bot.storage.visitors import Listed

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


def _short_line(text: str) -> str:
    line = " ".join(readable(_sayable(text)).split())
    if len(line) > 200:
        raise ValueError(f"has {len(line)} characters, at most 200 fit; shorten it")
    return line


def _address(text: str) -> str:
    line = _short_line(text)
    if line and not re.fullmatch(r"[^@\s]+@[^@\s]+", line):
        raise ValueError("is no e-mail address; write one such as anna@example.com")
    return line


class PreChatForm(Body):
    """What the visitor says of themselves before the first message. Nobody has proven it."""

    name: Annotated[str, AfterValidator(_short_line)] = ""
    email: Annotated[str, AfterValidator(_address)] = ""


class NewConversation(Body):
    """A new conversation, or with `resume` the visitor's latest one that is not resolved.

    Whose it is: `identity` is a JSON Web Token of the site's own server (HS256; `sub`, `aud` the site's id, `exp`
    within 24 hours); `user_id` with `identity_hash`, its hex HMAC-SHA256, is the older form. Without either it belongs
    to the visitor of the bearer token that is sent along, or to somebody new. `message` asks the first question in the
    same round trip, and its turn comes back in the answer.
    """

    site: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    channel: Literal["web", "terminal", "api"] = "web"
    identity: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$", max_length=4096)] | None
    ) = None
    user_id: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_sayable)] | None = None
    identity_hash: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")] | None = None
    resume: bool = False
    pre_chat: PreChatForm | None = None
    message: NewMessage | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> NewConversation:
        if (self.user_id is None) != (self.identity_hash is None):
            raise ValueError("send `user_id` and `identity_hash` together")
        if self.identity is not None and self.user_id is not None:
            raise ValueError("send `identity`, or `user_id` with `identity_hash`, not both")
        return self


class Feedback(Body):
    verdict: Literal["up", "down"]
    reason: Note = ""
    comment: Note = ""


class Click(Body):
    """What of a turn was chosen: one of its suggestions, or the address of one of its citations."""

    suggestion: Note | None = None
    citation: Note | None = None


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


class TokenBody(BaseModel):
    """`token` opens one conversation and nothing else; it is shown this once. Each use moves `expires_at` on."""

    token: str
    expires_at: datetime


class Opened(BaseModel):
    """`token` opens this conversation and nothing else; it is shown this once. Each use moves `expires_at` on."""

    conversation_id: str
    token: str
    expires_at: datetime
    status: ConversationStatus
    turn: MaybeTurn = None


class FileBody(BaseModel):
    """A file of a conversation; GET /api/v1/files/{id} gives it."""

    id: str
    name: str
    bytes: int
    type: str

    @classmethod
    def of(cls, file: StoredFile) -> FileBody:
        return cls(id=file.id, name=file.name, bytes=file.bytes, type=file.type)


class MessageBody(BaseModel):
    id: str
    from_: Annotated[Literal["customer", "bot", "agent"], Field(serialization_alias="from")]
    text: str
    at: datetime
    turn: MaybeTurn = None
    name: Annotated[str | None, Field(exclude_if=lambda name: name is None)] = None
    """Of the agent, as they are shown to the customer."""
    file: Annotated[FileBody | None, Field(exclude_if=lambda file: file is None)] = None


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
    name: Annotated[str | None, Field(exclude_if=lambda name: name is None)] = None
    """Of the agent who has the conversation, while one has."""

    @classmethod
    def of(
        cls,
        status: ConversationStatus,
        entries: Sequence[Entry],
        happenings: Sequence[Happening],
        files: Sequence[StoredFile] = (),
    ) -> ConversationBody:
        owed = [entry.sequence * BLOCK for entry in entries if entry.turn is None]
        # An answer still under way is read from its first word, and what happened behind its message after it.
        last = min(owed, default=max((event.id for event in stored_events(entries, happenings)), default=0))
        lines = [line for entry in entries for line in _lines(entry)]
        lines += [(one.event, _agent_line(one)) for one in happenings if isinstance(one, AgentMessage) and one.event]
        heard = [line for line in lines if line[0] <= last or line[1].from_ == "customer"]
        heard += [(_place(file, lines), _file_line(file)) for file in files]
        messages = [line for _, line in sorted(heard, key=_number)]
        # The last change says who: a colleague who took over need not have spoken yet.
        name = next((one.name for one in reversed(happenings) if isinstance(one, StatusChange)), None)
        agent = name if status == "person" else None
        return cls(status=status, messages=messages, last_event_id=last, name=agent)


def _lines(entry: Entry) -> list[tuple[float, MessageBody]]:
    """What was said at one place, each with where its event stands."""
    message, turn = entry.message, entry.turn
    place = entry.sequence * BLOCK
    lines: list[tuple[float, MessageBody]]
    lines = [(place, MessageBody(id=message.id, from_="customer", text=message.text, at=message.received_at))]
    if turn is not None:
        at = entry.answered_at or message.received_at
        said = MessageBody(id=turn.id, from_="bot", text=turn.reply.text, at=at, turn=turn_body(turn))
        lines.append((turn_event(entry).id, said))
    return lines


def _number(line: tuple[float, MessageBody]) -> float:
    return line[0]


def _agent_line(message: AgentMessage) -> MessageBody:
    return MessageBody(id=message.id, from_="agent", text=message.text, at=message.at, name=message.name)


def _file_line(file: StoredFile) -> MessageBody:
    return MessageBody(id=file.id, from_="customer", text="", at=file.created_at, file=FileBody.of(file))


def _place(file: StoredFile, lines: Sequence[tuple[float, MessageBody]]) -> float:
    """Behind the message that the file came behind, and what was said there before it."""
    first, end = file.after * BLOCK, (file.after + 1) * BLOCK
    before = [number for number, line in lines if first <= number < end and line.at <= file.created_at]
    return max(before, default=first) + 0.5


class ListedBody(BaseModel):
    """`last_text` is the beginning of what was said last; `unread` counts what was said since the customer looked."""

    conversation_id: str
    status: ConversationStatus
    started_at: datetime
    last_at: datetime
    last_text: str
    unread: int


class ListBody(BaseModel):
    """The visitor's own conversations at this site, the newest first, at most 50."""

    conversations: list[ListedBody]

    @classmethod
    def of(cls, conversations: Sequence[Listed]) -> ListBody:
        return cls(
            conversations=[
                ListedBody(
                    conversation_id=one.id,
                    status=one.status,
                    started_at=one.started_at,
                    last_at=one.last_at,
                    last_text=one.last_text,
                    unread=one.unread,
                )
                for one in conversations
            ]
        )


class UploadRules(BaseModel):
    types: list[str]
    max_bytes: int


class SiteBody(BaseModel):
    """What the widget shows on a site. `open` says whether people are in, `hours_text` when they are (null: always),
    `opens_at` when they are in again (null while they are)."""

    site: str
    name: str
    title: str
    greeting: str
    colour: str
    position: Literal["right", "left"]
    mode: Literal["auto", "light", "dark"]
    suggestions: dict[str, list[str]]
    link_hosts: list[str]
    open: bool
    hours_text: str | None
    opens_at: datetime | None
    pre_chat: list[PreChat]
    identity_required: bool
    files: UploadRules

    @classmethod
    def of(cls, site: Site, company: str, suggestions: Mapping[str, Sequence[str]], now: datetime) -> SiteBody:
        name = site.name or company
        return cls(
            site=site.id,
            name=name,
            title=site.theme.text or name,
            greeting=site.theme.greeting,
            colour=site.theme.colour,
            position=site.theme.position,
            mode=site.theme.mode,
            suggestions={language: list(texts) for language, texts in suggestions.items()},
            link_hosts=list(site.link_hosts),
            open=is_open(site, now),
            hours_text=hours_text(site),
            opens_at=next_opening(site, now),
            pre_chat=list(site.pre_chat),
            identity_required=site.identity_required,
            files=UploadRules(types=list(TYPES), max_bytes=LARGEST_FILE),
        )


class StatusBody(BaseModel):
    status: ConversationStatus


class LiveBody(BaseModel):
    status: Literal["live"] = "live"


class ReadyBody(BaseModel):
    """`degraded` means that answers come, but poorer than they should be; `frontdesk doctor` says why."""

    status: Literal["ready", "not_ready", "draining"]
    degraded: bool
