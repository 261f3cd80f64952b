"""What stands between a browser and the service: it notes which conversations are opened, and may hold streams back.

Everything else is the real application's: sites, foreign origins, tokens, files and what an agent does.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.storage.conversations import find_conversation
from bot.storage.database import Database
from bot.storage.handover import Agent
from bot.storage.people import all_people
from bot.storage.sites import Hours, Theme, change_site, create_site, find_site
from bot.storage.tables import SiteRow
from tests.bot.channels.office import Office
from tests.bot.storage.sample import hire

CONVERSATIONS = "/api/v1/conversations"
RECORD = re.compile(CONVERSATIONS + r"/[A-Za-z0-9_-]+")
RENEWED = re.compile(CONVERSATIONS + r"/([A-Za-z0-9_-]+)/token")
SHOP = "shop"
ADA = Agent("ada", "Ada")


@dataclass
class Site:
    """The shop's site as a test changes it, what was opened there, and the agent who answers."""

    office: Office
    secret: str
    says: dict[str, Any] = field(default_factory=dict)
    """Laid over what the site says of itself, unchecked."""
    opened: list[dict[str, Any]] = field(default_factory=list)
    """The bodies that conversations were opened with."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Conversation -> token, in the order they were opened."""
    held_back: str = ""
    """What a proxy holds back of event streams: "all", or with "later" all but the beginning."""
    late: bool = False
    """Whether a record that was read stays on its way."""
    on_its_way: int = 0
    """Records that are."""

    @property
    def database(self) -> Database:
        return self.office.database

    @classmethod
    def of(cls, office: Office, origin: str) -> Site:
        made, secret = create_site(office.database, "Larkmoor Outfitters", origins=(origin,), actor="test")
        office.database.write(lambda c: c.execute(update(SiteRow).where(SiteRow.id == made.id).values(id=SHOP)))
        site = cls(office, secret)
        site.change(link_hosts=("larkmoor.example",), theme=Theme(colour="#14584c"))
        return site

    def change(self, **fields: Any) -> None:
        """As a lead does on the page of the site; taken up at once, not within a second."""
        found = find_site(self.database, SHOP)
        assert found is not None
        change_site(self.database, replace(found, **fields), actor="test")
        self.office.application.state.door.sites.refresh()

    def close(self) -> datetime:
        """Nobody is in today; when they are again."""
        back = datetime.now(UTC) + timedelta(days=3)
        self.change(hours=(Hours(back.weekday(), "09:00", "17:00"),))
        return back.replace(hour=9, minute=0, second=0, microsecond=0)

    def takes(self, conversation: str, agent: Agent = ADA, instead_of: str = "") -> None:
        if agent.id not in {person.id for person in all_people(self.database)}:
            hire(self.database, agent)
        self.office.desk.take(conversation, agent, instead_of=instead_of)

    def agent_says(self, conversation: str, text: str) -> None:
        if find_conversation(self.database, conversation).status != "person":
            self.takes(conversation)
        self.office.desk.reply(conversation, ADA, uuid.uuid4().hex, text)


class Between:
    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app = app
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope.get("path", ""), scope.get("method", "")
        if scope["type"] != "http" or method == "OPTIONS":
            await self.app(scope, receive, send)
        elif path.endswith("/events"):
            await self._follow(scope, receive, send)
        elif method == "POST" and (path == CONVERSATIONS or RENEWED.fullmatch(path)):
            await self._open(scope, receive, send)
        elif method == "GET" and RECORD.fullmatch(path) and self.site.late:
            await self._dawdle(scope, receive, send)
        elif path.startswith("/api/v1/sites/") and self.site.says:
            await self._describe(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked: list[bytes] = []

        async def hearing() -> Message:
            message = await receive()
            asked.append(message.get("body", b""))
            return message

        start, body = await self._whole(scope, hearing)
        if start["status"] in (200, 201):
            given = json.loads(body)
            renewed = RENEWED.fullmatch(scope["path"])
            if renewed is None:
                self.site.opened.append(json.loads(b"".join(asked) or b"{}"))
            self.site.tokens[renewed[1] if renewed else given["conversation_id"]] = given["token"]
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _dawdle(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, body = await self._whole(scope, receive)
        self.site.on_its_way += 1
        while self.site.late:
            await asyncio.sleep(0.01)
        self.site.on_its_way -= 1
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _describe(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, body = await self._whole(scope, receive)
        if start["status"] == 200:
            body = json.dumps({**json.loads(body), **self.site.says}).encode()
            MutableHeaders(scope=start)["content-length"] = str(len(body))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _whole(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        start: Message = {}
        parts: list[bytes] = []

        async def collecting(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, collecting)
        return start, b"".join(parts)

    async def _follow(self, scope: Scope, receive: Receive, send: Send) -> None:
        gate = asyncio.Event()
        passed = 0

        async def noting(message: Message) -> None:
            nonlocal passed
            if self.site.held_back == "all" or (self.site.held_back == "later" and passed > 1):
                await gate.wait()
            passed += 1
            await send(message)

        async def freeing() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                gate.set()
            return message

        await self.app(scope, freeing, noting)
