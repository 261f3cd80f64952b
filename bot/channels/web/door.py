"""What the web door works with while it is open: the desk, the record, the articles, and the open streams.

Owns whether the door is closing. Made once by the application and handed to every route that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

from fastapi import Depends, Request

from bot.channels.web.events import Streams
from bot.serving import Desk
from bot.storage.database import Database
from retriever.passages import Document, Passage


class Articles(Protocol):
    """The knowledge that citations lead to, as the service holds it now."""

    def document(self, source: str) -> Document | None: ...

    def passages_of(self, source: str) -> Sequence[Passage]: ...


class Door:
    """`shortcomings` says why answers are poorer than they should be just now, a sentence each."""

    def __init__(
        self, desk: Desk, database: Database, articles: Articles, shortcomings: Callable[[], Sequence[str]]
    ) -> None:
        self.desk = desk
        self.database = database
        self.articles = articles
        self.shortcomings = shortcomings
        self.streams = Streams(desk)
        self.draining = False

    def close(self) -> None:
        """Say that no more customers are wanted; those who are being answered stay until they are."""
        self.draining = True
        self.streams.close()


async def _door(request: Request) -> Door:  # async, or it would be given a thread for nothing
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


TheDoor = Annotated[Door, Depends(_door)]
