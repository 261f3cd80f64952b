"""Turns that no assistant makes: when it fails, and while a person has the conversation.

Owns what is true when nothing else can be said. Knows nothing about how turns are stored.
"""

from __future__ import annotations

import uuid

from bot.conversation.messages import HandOver, Message, Part, Reply, Thresholds, Turn, Understanding, Versions
from bot.conversation.phrases import PhraseBook
from bot.conversation.understanding import UNAVAILABLE
from bot.storage.turns import Past

FAILURE_TEXTS = {
    "en": "Sorry, something went wrong on our side. I have asked a person to look at your question.",
    "zh": "抱歉，我们这边出了点问题。我已经请同事查看您的问题。",
}


def silence(message: Message, before: Past) -> Turn:
    """The turn of a message that a person answers: no model reads it and the bot says nothing."""
    language = next((part.understanding.language for turn in before.turns[-1:] for part in turn.parts), "en")
    understanding = Understanding(None, 0.0, (), 0.0, (), language, UNAVAILABLE)
    reason = (before.handover.reason if before.handover is not None else None) or "asked"
    return Turn(
        id=uuid.uuid4().hex,
        message=message,
        parts=(Part(message.text, understanding, (), HandOver(reason)),),
        reply=Reply("", (), (), "waiting"),
        versions=Versions(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE),
        thresholds=Thresholds(),
    )


def failure(message: Message) -> Turn:
    """What is true when nothing else can be said: it failed, and a person will look."""
    language = "zh" if PhraseBook.reads(message.text) else "en"  # by its letters: whatever else tells may be broken
    understanding = Understanding(None, 0.0, (), 0.0, (), language, UNAVAILABLE)
    return Turn(
        id=uuid.uuid4().hex,
        message=message,
        parts=(Part(message.text, understanding, (), HandOver("error")),),
        reply=Reply(FAILURE_TEXTS[language], (), (), "handed_over"),
        versions=Versions(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE),
        thresholds=Thresholds(),
    )
