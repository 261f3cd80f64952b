"""What the web door works with while it is open: the desk, the record, the articles, sites, limits and open streams.

Owns whether the door is closing. Made once by the application and handed to every route that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from bot.channels.web.events import Streams
from bot.channels.web.limits import Limits
from bot.channels.web.origins import KnownSites
from bot.serving import Desk
from bot.storage.database import Database
from bot.storage.files import Files
from retriever.passages import Document, Passage


class Articles(Protocol):
    """The knowledge that citations lead to, as the service holds it now."""

    def document(self, source: str) -> Document | None: ...

    def passages_of(self, source: str) -> Sequence[Passage]: ...


@dataclass(frozen=True, slots=True)
class Storefront:
    """What is said before anybody asked: the company's name, and questions to begin with by language."""

    company: str
    starters: Mapping[str, Sequence[str]]


class Door:
    """`shortcomings` says why answers are poorer than they should be just now, a sentence each."""

    def __init__(
        self,
        desk: Desk,
        database: Database,
        articles: Articles,
        storefront: Storefront,
        *,
        files: Files,
        limits: Limits,
        shortcomings: Callable[[], Sequence[str]],
    ) -> None:
        self.desk = desk
        self.database = database
        self.articles = articles
        self.storefront = storefront
        self.files = files
        self.limits = limits
        self.shortcomings = shortcomings
        self.sites = KnownSites(database)
        self.streams = Streams(desk, database, limits.allowance)
        self.draining = False
        desk.answered = limits.worked

    def forget(self, conversation: str, *, actor: str) -> bool:
        """Delete a conversation with everything that belongs to it, its files too; False if there is none.

        From a worker thread. The streams that follow it are closed by whoever calls, on the event loop.
        """
        files = self.files.of(conversation)
        gone = self.desk.forget(conversation, actor=actor)
        self.files.forget(files)
        return gone

    def close(self) -> None:
        """Say that no more customers are wanted; those who are being answered stay until they are."""
        self.draining = True
        self.streams.close()


async def _door(request: Request) -> Door:  # async, or it would be given a thread for nothing
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


TheDoor = Annotated[Door, Depends(_door)]
