"""The values of a turn: Message -> Understanding -> [Hit] -> Decision -> Reply -> Turn.

Owns their shape. Knows nothing about models, storage or channels. All are frozen; what is computed from a
conversation is computed from its turns, never stored beside them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from retriever.passages import Hit, Line

Channel = Literal["web", "slack", "terminal", "api"]
Status = Literal["approved", "grounded", "small_talk", "asked", "clarified", "not_known", "handed_over", "waiting"]
Sentiment = Literal["negative", "neutral", "positive", ""]
"""Empty where no model reads it."""
HandOverReason = Literal["asked", "not_known_twice", "angry", "policy", "error", "hours", "urgent", "left"]

LONGEST_TEXT = 4000
"""Characters of a message that are read; the middle of a longer one is left out."""

_UNREADABLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def readable(text: str) -> str:
    """`text` as it can be read and stored: no control or direction characters, no lone surrogates, trimmed."""
    return _UNREADABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def pseudonym(identity: str) -> str:
    """An id as the log may show it: the same id looks the same, and nobody can open anything with it."""
    return hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Message:
    """What a customer sent. `id` is the client's own: the same id again is the same message."""

    id: str
    conversation: str
    sender: str
    channel: Channel
    text: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Entity:
    """A typed span of the message, e.g. an order number; `value` is normalised, `why` names the rule that found it."""

    kind: str
    value: str
    start: int
    end: int
    score: float
    why: str


@dataclass(frozen=True, slots=True)
class Candidate:
    intent: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Understanding:
    """What one question of a message means. `confidence` is calibrated; `intent` is None below its threshold."""

    intent: str | None
    confidence: float
    runners_up: tuple[Candidate, ...]
    out_of_scope: float
    entities: tuple[Entity, ...]
    language: str
    model_version: str
    sentiment: Sentiment = ""
    urgent: bool = False
    """A person should look at it now."""


@dataclass(frozen=True, slots=True)
class Approved:
    """Say the approved answer of `intent`, word for word, its slots filled."""

    intent: str
    slots: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grounded:
    """Quote the sentences of these hits that answer."""

    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class SmallTalk:
    intent: str


@dataclass(frozen=True, slots=True)
class AskFor:
    """Ask for a slot; `problem` is why the last value was not accepted, empty at the first try."""

    intent: str
    slot: str
    filled: tuple[tuple[str, str], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Clarify:
    """Offer two or three intents to choose from."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HandOver:
    reason: HandOverReason


@dataclass(frozen=True, slots=True)
class NotKnown:
    pass


Decision = Approved | Grounded | SmallTalk | AskFor | Clarify | HandOver | NotKnown


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a sentence comes from. `url` opens the article at the right place."""

    title: str
    url: str
    quote: str
    passage: str


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    citations: tuple[Citation, ...]
    suggestions: tuple[str, ...]
    status: Status


@dataclass(frozen=True, slots=True)
class Part:
    """One question of a message and what was made of it; a message with two questions has two parts."""

    question: str
    understanding: Understanding
    hits: tuple[Hit, ...]
    decision: Decision


@dataclass(frozen=True, slots=True)
class Versions:
    """Exactly what produced a reply, so that it can be explained later."""

    model: str
    index: str
    playbook: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Chosen on validation data by the dial `max_error_rate`; see finetune.calibrate."""

    intent: float = 0.6
    """An intent below this calibrated confidence is not acted on."""
    clarify: float = 0.25
    """Runners-up above this are worth offering as options."""
    out_of_scope: float = 0.5
    """A question whose out-of-scope score is above this is nobody's business here."""
    passage: float = 0.5
    """Passages below this chance of answering are not quoted."""
    foreign: float = 0.9
    """Nor are any when the out-of-scope score is above this; articles know more than intents do."""
    phrase: float = 0.55
    """`intent` for the languages that the encoder cannot read: the phrase book's confidence needed to act."""
    sentence: float = 0.0
    """The share of the question's words that a sentence must hold, title and heading counted, for its passage to be
    quoted, unless that is nearly certain to answer; 0 asks for none."""
    passage_by_words: float = 0.3
    """`passage` for those languages, where a passage is found by its words alone."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message answered, with everything needed to explain the answer."""

    id: str
    message: Message
    parts: tuple[Part, ...]
    reply: Reply
    versions: Versions
    thresholds: Thresholds
    milliseconds: tuple[tuple[str, float], ...] = field(default=())
    behind: tuple[Line, ...] = ()
    """What an agent said after it and before the next message; known when the history is read, not when it is made."""
    returned: bool = False
    """Whether the bot has the conversation again, should this turn have handed it over; known like `behind`."""

    @property
    def lines(self) -> tuple[Line, ...]:
        """The turn as lines of conversation, for the history of the next one."""
        said = (Line("bot", self.reply.text),) if self.reply.text else ()
        return Line("customer", self.message.text), *said, *self.behind
