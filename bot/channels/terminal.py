"""The chat in a terminal: lines in, streamed answers and numbered sources out.

Owns how a turn looks as plain text. Reading and writing come in as functions; what is said comes from the desk.
"""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from bot import FrontdeskError
from bot.conversation.messages import Message, Turn
from bot.serving import Desk
from bot.storage.conversations import start_conversation
from bot.storage.database import Database

PROMPT = "you> "
BOT = "bot> "
BEHIND = " " * len(BOT)
WITH_A_PERSON = "(a person has this conversation now)"
"""Behind a message that the bot is silent on."""


def terminal_message(text: str, conversation: str = "terminal") -> Message:
    """What was typed, as a message."""
    return Message(uuid.uuid4().hex, conversation, conversation, "terminal", text, datetime.now(UTC))


def chat(desk: Desk, database: Database, read: Callable[[str], str], write: Callable[[str], None]) -> None:
    """One conversation, until an empty line or the end of the input.

    `read` shows a prompt and gives one line, or raises EOFError; `write` shows text as it is, without a line end.
    A message that fails is reported, and the conversation goes on.
    """
    conversation = start_conversation(database, channel="terminal").id
    while True:
        try:
            text = read(PROMPT).strip()
        except EOFError:
            write("\n")
            return
        if not text:
            return
        try:
            _answer(desk, terminal_message(text, conversation), write)
        except FrontdeskError as error:
            write(f"\n{error}\n\n")


def _answer(desk: Desk, message: Message, write: Callable[[str], None]) -> None:
    write(BOT)
    streamed = ""
    for said in desk.receive(message):
        if isinstance(said, Turn):
            text = said.reply.text or WITH_A_PERSON
            # What is stored is what counts; the chunks only came early.
            rest = text.removeprefix(streamed) if text.startswith(streamed) else f"\n{BOT}{text}"
            write(_printable(rest) + "\n" + "".join(f"{line}\n" for line in sources(said)) + "\n")
        else:
            streamed += said
            write(_printable(said))


def sources(turn: Turn) -> list[str]:
    """The citations with the numbers that the text uses for them, then what may be asked next."""
    reply = turn.reply
    lines = [f"{BEHIND}[{number}] {c.title}  {c.url}" for number, c in enumerate(reply.citations, start=1)]
    if reply.status != "clarified":  # its text lists the suggestions already
        lines += [f"{BEHIND}- {suggestion}" for suggestion in reply.suggestions]
    return [_printable(line) for line in lines]


def _printable(text: str) -> str:
    """Without control characters: an article must not move the cursor or rename the window."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
