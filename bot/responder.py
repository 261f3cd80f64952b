"""What the desk asks of an assistant, and what it tells it of the hour: who waits, who is in, which day it is there.

Owns what a turn is made from besides the message. Knows nothing about how a turn is made, stored or told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypedDict
from zoneinfo import ZoneInfo

from bot.conversation.messages import HandOverReason, Message, Turn
from bot.storage.sites import Site, is_open
from bot.storage.turns import Past


class Responder(Protocol):
    """What the desk needs of an assistant: that of `bot.conversation`, or a slow source in a test."""

    def respond(
        self,
        message: Message,
        history: tuple[Turn, ...],
        *,
        waiting: HandOverReason | None = None,
        away: bool = False,
    ) -> Iterator[str | Turn]:
        """Text as it is ready, and last the turn for `message`. `waiting`: why a person was asked for, who is not
        there yet; `away`: no person is in at this hour. Each is given only then."""


class _Given(TypedDict, total=False):
    waiting: HandOverReason
    away: bool


def respond(
    assistant: Responder, message: Message, before: Past, site: Site | None, now: datetime
) -> Iterator[str | Turn]:
    """What `assistant` says to `message`. A failure of ours brings a person too, but must not silence the bot once it
    works again."""
    reason = before.handover.reason if before.handover is not None and before.status == "waiting" else None
    given: _Given = {} if reason is None or reason == "error" else {"waiting": reason}
    if site is not None and not is_open(site, now):
        given["away"] = True
    # "Tomorrow" is meant where the company is.
    there = message.received_at.astimezone(ZoneInfo(site.time_zone)) if site is not None else message.received_at
    for item in assistant.respond(replace(message, received_at=there), before.turns, **given):
        if isinstance(item, Turn):
            item = replace(item, message=replace(item.message, received_at=message.received_at))
        yield item
