"""What a channel may ask of the desk, and the values that come back.

Owns the seam between channels and the service behind them: every channel speaks to this protocol and to nothing
else, so a channel is tested with a small real fake. Knows no web library, no SQL and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from bot.conversation.messages import Channel, Message, Turn
from retriever.passages import Document, Passage

ConversationStatus = Literal["open", "waiting", "with_person", "ended"]
"""`waiting`: a person was asked for and none has come yet."""

EventKind = Literal["token", "turn", "status", "agent_message", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a conversation. `id` rises within the conversation, over restarts too.

    `message` is the id of the customer's message that caused it, empty when none did. `text` is the chunk of a token,
    the words of an agent, the new status or what went wrong; `turn` is there for a turn and nothing else.
    """

    id: int
    kind: EventKind
    message: str
    text: str = ""
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a conversation as its customer sees it. A bot's line carries the turn that it is the reply of."""

    id: str
    speaker: Literal["customer", "bot", "agent"]
    text: str
    at: datetime
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation as its customer sees it. `last_event` is where a stream of what follows should begin."""

    status: ConversationStatus
    utterances: tuple[Utterance, ...]
    last_event: int


@dataclass(frozen=True, slots=True)
class Health:
    """`ready` is whether questions can be answered at all; `problems` says why answers are poorer than they should be."""

    ready: bool
    problems: tuple[str, ...] = ()


class Desk(Protocol):
    """The service as a channel sees it. Calls may block and are safe from any thread; unknown ids raise LookupError."""

    def open(self, channel: Channel, token_hash: str) -> str:
        """Id of a new conversation, stored with the hash of the token that opens it."""

    def token_hash(self, conversation: str) -> str | None:
        """What `open` stored; None when there is no such conversation, or it was forgotten."""

    def conversation_of(self, turn: str) -> str | None:
        """The conversation a turn belongs to; None when there is no such turn."""

    def accept(self, message: Message) -> None:
        """Store the message for good; whoever was told so gets an answer, even after a crash. Same id: no effect."""

    def receive(self, message: Message) -> Iterator[str | Turn]:
        """Accept and answer: chunks of text, then the stored turn. Same id again: the stored turn alone."""

    def subscribe(self, conversation: str, after: int, deliver: Callable[[Event], None]) -> Callable[[], None]:
        """Deliver every event with an id above `after`, from any thread, in order, until the returned call is made."""

    def transcript(self, conversation: str) -> Transcript: ...

    def feedback(self, turn: str, verdict: Literal["up", "down"], reason: str, comment: str) -> None: ...

    def click(self, turn: str, kind: Literal["suggestion", "citation"], what: str) -> None: ...

    def hand_over(self, conversation: str) -> None:
        """The customer asked for a person outside of a message."""

    def rate(self, conversation: str, stars: int, comment: str) -> None: ...

    def end(self, conversation: str) -> None: ...

    def forget(self, conversation: str) -> None:
        """Remove the conversation and everything said in it."""

    def health(self) -> Health: ...


class Articles(Protocol):
    """The knowledge a citation leads to, as the service holds it now."""

    def document(self, source: str) -> Document | None: ...

    def passages_of(self, source: str) -> tuple[Passage, ...]: ...
