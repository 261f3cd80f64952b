"""A conversation as an agent reads it: every line in order, and a summary made of what was really said.

Owns which parts of the record an agent sees and in which words a decision is told. Nothing is written by a model and
nothing is marked up: templates escape all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never
from urllib.parse import urlsplit

from bot.conversation.messages import (
    Approved,
    AskFor,
    Citation,
    Clarify,
    Decision,
    Grounded,
    HandOver,
    NotKnown,
    SmallTalk,
    Turn,
)
from bot.storage.database import Database
from bot.storage.files import StoredFile
from bot.storage.happenings import AgentMessage, StatusChange, changes, written
from bot.storage.turns import Entry, entries

LONGEST_SUMMARY = 160
MOST_ASKED = 5
_MARK = re.compile(r" \[(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class Source:
    """`url` is empty where following it would not be safe."""

    title: str
    url: str
    quote: str


@dataclass(frozen=True, slots=True)
class Said:
    """One line: who said it, and of the bot's lines why."""

    kind: Literal["customer", "bot", "agent", "note", "status", "file"]
    text: str
    at: datetime
    id: str = ""
    name: str = ""
    why: str = ""
    confidence: float | None = None
    sources: tuple[Source, ...] = ()
    language: str = ""
    file: StoredFile | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and what the bot made of it."""

    asked: str
    said: str
    why: str
    confidence: float | None
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Story:
    subject: str
    """What the conversation is about, by the article that was found most often; else the first question."""
    exchanges: tuple[Exchange, ...]
    lines: tuple[Said, ...]
    last: Entry | None
    """The customer's last message."""
    told: dict[str, str]
    """What the customer told about themselves: order number, address."""


def story_of(database: Database, conversation: str, files: Sequence[StoredFile] = ()) -> Story:
    """Reads the conversation. Empty if nothing was said or there is none."""
    with database.read() as connection:
        wrote = written(connection, conversation)
        changed = changes(connection, conversation)
    said = entries(database, conversation)
    lines = [line for entry in said for line in _lines_of(entry)]
    lines += [(one.after, 3, _of_agent(one)) for one in wrote]
    lines += [(one.after, 3, _of_change(one)) for one in changed]
    lines += [(one.after, 3, _of_file(one)) for one in files]
    # Behind a message things stand in the order of time; the answer to it comes first.
    lines.sort(key=lambda line: (line[0], line[1], line[2].at))
    exchanges = tuple(exchange for entry in said if entry.turn is not None for exchange in _exchanges(entry.turn))
    return Story(
        subject=_subject(said),
        exchanges=exchanges[-MOST_ASKED:],
        lines=tuple(line for _, _, line in lines),
        last=said[-1] if said else None,
        told=_told(said),
    )


def why(decision: Decision) -> str:
    """A decision as an agent would say it."""
    match decision:
        case Approved(intent=intent):
            return f"approved answer: {_named(intent)}"
        case Grounded():
            return "quoted an article"
        case SmallTalk():
            return "small talk"
        case AskFor(slot=slot):
            return f"asked for {_named(slot)}"
        case Clarify(options=options):
            return f"offered {len(options)} options"
        case HandOver(reason=reason):
            return f"hand-over: {_named(reason)}"
        case NotKnown():
            return "did not know"
        case _:
            assert_never(decision)


def reply_of(turn: Turn) -> Said:
    """The bot's line of a turn, stored or a draft."""
    first = turn.parts[0] if turn.parts else None
    acted = first is not None and isinstance(first.decision, Approved | AskFor)
    best = max((hit.answers for part in turn.parts for hit in part.hits), default=None)
    return Said(
        "bot",
        turn.reply.text,
        turn.message.received_at,
        id=turn.id,
        why="; ".join(dict.fromkeys(why(part.decision) for part in turn.parts)),
        confidence=first.understanding.confidence if first is not None and acted else best,
        sources=sources(turn.reply.citations),
        language=first.understanding.language if first is not None else "",
    )


def unmarked(line: Said) -> str:
    """The text without the numbers of its sources, for an agent's reply, which shows none."""
    return _MARK.sub(lambda found: "" if 1 <= int(found[1]) <= len(line.sources) else found[0], line.text)


def sources(citations: Sequence[Citation]) -> tuple[Source, ...]:
    return tuple(Source(one.title, safe_address(one.url), one.quote) for one in citations)


def safe_address(url: str) -> str:
    """The address if following it is safe: our own pages and https pages; else nothing."""
    if not url.isprintable() or set("\\ ").intersection(url):
        return ""
    if url.startswith("/") and not url.startswith("//"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme == "https" and parts.hostname else ""


def _lines_of(entry: Entry) -> list[tuple[int, int, Said]]:
    message, turn = entry.message, entry.turn
    language = next((part.understanding.language for part in turn.parts), "") if turn is not None else ""
    lines = [(entry.sequence, 1, Said("customer", message.text, message.received_at, id=message.id, language=language))]
    if turn is not None and turn.reply.text:
        lines.append((entry.sequence, 2, reply_of(turn)))
    return lines


def _of_agent(one: AgentMessage) -> Said:
    return Said("note" if one.kind == "note" else "agent", one.text, one.at, id=one.id, name=one.name)


def _of_change(one: StatusChange) -> Said:
    said = {
        "open": f"{one.name} gave it back to the bot" if one.name else "The bot answers again",
        "waiting": "Waiting for a person",
        "person": f"{one.name} took it",
        "resolved": f"{one.name} resolved it" if one.name else "The customer ended it",
    }[one.status]
    return Said("status", said, one.at, id=f"status-{one.event}")


def _of_file(one: StoredFile) -> Said:
    return Said("file", one.name, one.created_at, id=one.id, file=one)


def _exchanges(turn: Turn) -> list[Exchange]:
    """The questions of a turn that were about something."""
    line = reply_of(turn)
    asked = [part for part in turn.parts if not isinstance(part.decision, SmallTalk | HandOver)]
    return [
        Exchange(_short(part.question), _short(turn.reply.text), why(part.decision), line.confidence, line.sources)
        for part in asked
    ]


def _subject(said: Sequence[Entry]) -> str:
    found: dict[str, int] = {}
    turns = [entry.turn for entry in said if entry.turn is not None]
    for turn in turns:
        for citation in turn.reply.citations[:1]:
            found[citation.title] = found.get(citation.title, 0) + 1
    if found:
        return max(found, key=lambda title: found[title])
    known = [one for turn in turns for one in _exchanges(turn)]
    first = known[0].asked if known else (said[0].message.text if said else "")
    return _short(first)


def _told(said: Sequence[Entry]) -> dict[str, str]:
    kinds = ("order_number", "email", "phone")
    return {
        entity.kind: entity.value
        for entry in said
        if entry.turn is not None
        for part in entry.turn.parts
        for entity in part.understanding.entities
        if entity.kind in kinds and entity.value
    }


def _named(name: str) -> str:
    return name.replace("_", " ")


def _short(text: str) -> str:
    """The beginning, to the end of a word."""
    line = " ".join(text.split())
    if len(line) <= LONGEST_SUMMARY:
        return line
    return line[:LONGEST_SUMMARY].rsplit(" ", 1)[0] + "…"
