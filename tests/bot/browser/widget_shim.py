"""Stands in for the parts of the HTTP contract that the widget needs and this tree does not have yet.

Sites, foreign origins, the list of conversations, files and what an agent says, as one ASGI layer around the real
application, which goes on doing everything else. To be deleted when `bot.storage.sites` and hand-over are there.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.serving import Desk
from bot.storage.conversations import start_conversation
from bot.storage.handover import Agent
from bot.storage.people import all_people
from bot.storage.turns import entries, last_sequence
from tests.bot.storage.sample import hire

ADA = Agent("ada", "Ada")

CONVERSATION = re.compile(r"/api/v1/conversations/([A-Za-z0-9_-]+)(/[a-z]+)?")
SITE: dict[str, Any] = {
    "site": "shop",
    "name": "Larkmoor Outfitters",
    "title": "Larkmoor Outfitters",
    "greeting": "",
    "colour": "#14584c",
    "position": "right",
    "mode": "auto",
    "suggestions": {
        "en": ["When does my refund arrive?", "Where is my order?"],
        "zh": ["我的退款什么时候到账？", "我的订单到哪里了？"],
    },
    "link_hosts": ["larkmoor.example"],
    "open": True,
    "hours_text": None,
    "pre_chat": [],
    "identity_required": False,
    "files": {"types": ["image/png", "image/jpeg", "application/pdf", "text/plain"], "max_bytes": 200_000},
}


@dataclass
class Site:
    """What a test sets, and what it reads afterwards."""

    desk: Desk
    origins: set[str] = field(default_factory=set)
    description: dict[str, Any] = field(default_factory=lambda: dict(SITE))
    opened: list[dict[str, Any]] = field(default_factory=list)
    """The bodies that conversations were opened with."""
    visitors: dict[str, str] = field(default_factory=dict)
    """Conversation -> visitor."""
    tokens: dict[str, str] = field(default_factory=dict)
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    streams: dict[str, list[tuple[asyncio.AbstractEventLoop, Send]]] = field(default_factory=dict)
    held_back: str = ""
    """What a proxy holds back of event streams: "all", or with "later" all but the beginning."""

    def agent_says(self, conversation: str, text: str, name: str = "Ada", file: dict[str, Any] | None = None) -> None:
        if name == ADA.name and file is None:
            self.takes(conversation, "person")
            self.desk.reply(conversation, ADA, uuid.uuid4().hex, text)
            return
        line = {"id": uuid.uuid4().hex, "from": "agent", "text": text, "name": name, "at": _now()}
        line |= {"file": file} if file else {}
        lines = self.lines.setdefault(conversation, [])
        lines.append(line)
        self._tell(conversation, "agent_message", line)

    def takes(self, conversation: str, status: str, name: str = "") -> None:
        if ADA.id not in {person.id for person in all_people(self.desk._database)}:
            hire(self.desk._database, ADA)
        {"person": self.desk.take, "open": self.desk.give_back}[status](conversation, ADA)

    def _tell(self, conversation: str, event: str, data: dict[str, Any]) -> None:
        number = (
            last_sequence(self.desk._database, conversation) * 10_000 + 9_100 + len(self.lines.get(conversation, ()))
        )
        body = f"id: {number}\r\nevent: {event}\r\ndata: {json.dumps(data)}\r\n\r\n".encode()
        for loop, send in self.streams.get(conversation, []):
            message = {"type": "http.response.body", "body": body, "more_body": True}
            asyncio.run_coroutine_threadsafe(_send(send, message), loop).result(5)


async def _send(send: Send, message: Message) -> None:
    await send(message)


class WidgetShim:
    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app = app
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin")
        allowed = origin in self.site.origins

        async def cors(message: Message) -> None:
            if message["type"] == "http.response.start" and allowed and origin:
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin
                headers["Vary"] = "Origin"
                headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        if scope["method"] == "OPTIONS" and allowed:
            preflight = {
                "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
                "Access-Control-Allow-Methods": "GET, POST, DELETE",
            }
            await Response(status_code=204, headers=preflight)(scope, receive, cors)
            return
        if allowed:
            scope = dict(scope, headers=[pair for pair in scope["headers"] if pair[0] != b"origin"])
        await self._answer(scope, receive, cors)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        request = Request(scope, receive)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        found = CONVERSATION.fullmatch(path)
        conversation, tail = (found[1], found[2] or "") if found else ("", "")
        if path.startswith("/api/v1/sites/"):
            await JSONResponse(self.site.description)(scope, receive, send)
        elif path == "/api/v1/conversations" and method == "POST":
            await (await self._open(request, token))(scope, receive, send)
        elif path == "/api/v1/conversations":
            await JSONResponse({"conversations": self._list(token)})(scope, receive, send)
        elif tail == "/token":
            fresh = self._fresh_token(conversation, token)
            await JSONResponse(fresh or {"detail": "no"}, status_code=200 if fresh else 404)(scope, receive, send)
        elif tail == "/files" and method == "POST":
            async with request.form() as form:
                upload: Any = form["file"]
                content = await upload.read()
            described = {
                "id": uuid.uuid4().hex, "name": upload.filename, "bytes": len(content), "type": upload.content_type,
            }  # fmt: skip
            self.site.files[described["id"]] = content
            line = {"id": described["id"], "from": "customer", "text": "", "at": _now(), "file": described}
            self.site.lines.setdefault(conversation, []).append(line)
            await JSONResponse(described, status_code=201)(scope, receive, send)
        elif path.startswith("/api/v1/files/"):
            content = self.site.files[path.rpartition("/")[2]]
            headers = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox"}
            await Response(content, media_type="application/octet-stream", headers=headers)(scope, receive, send)
        elif tail == "/events":
            await self._follow(conversation, scope, receive, send)
        elif conversation and not tail and method == "GET":
            await self._read(conversation, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _open(self, request: Request, token: str) -> Response:
        raw = await request.body()
        body = json.loads(raw or b"{}")
        self.site.opened.append(body)
        started = start_conversation(self.site.desk._database, channel="web", site=body.get("site", ""))
        visitor = self._visitor(token) or uuid.uuid4().hex
        self.site.visitors[started.id] = visitor
        self.site.tokens[started.id] = started.token
        opened = {"conversation_id": started.id, "token": started.token, "expires_at": _now(), "status": "open"}
        return JSONResponse(opened, status_code=201)

    def _visitor(self, token: str) -> str | None:
        mine = (each for each, known in self.site.tokens.items() if token and known == token)
        return self.site.visitors.get(next(mine, ""))

    def _list(self, token: str) -> list[dict[str, Any]]:
        visitor = self._visitor(token)
        return [
            {
                "conversation_id": each, "status": "open", "started_at": _now(), "last_at": _now(),
                "last_text": said[-1].message.text, "unread": 0,
            }
            for each, whose in self.site.visitors.items()
            if whose == visitor and (said := entries(self.site.desk._database, each))
        ]  # fmt: skip

    def _fresh_token(self, conversation: str, token: str) -> dict[str, str] | None:
        mine = self._visitor(token) is not None and self._visitor(token) == self.site.visitors.get(conversation)
        return {"token": self.site.tokens[conversation], "expires_at": _now()} if mine else None

    async def _follow(self, conversation: str, scope: Scope, receive: Receive, send: Send) -> None:
        gate = asyncio.Event()
        passed = 0
        entry = (asyncio.get_running_loop(), send)

        async def noting(message: Message) -> None:
            nonlocal passed
            if self.site.held_back == "all" or (self.site.held_back == "later" and passed > 1):
                await gate.wait()
            passed += 1
            await send(message)
            if message["type"] == "http.response.body" and entry not in self.site.streams.setdefault(conversation, []):
                self.site.streams[conversation].append(entry)

        async def freeing() -> Message:
            message = await receive()
            gate.set()
            return message

        try:
            await self.app(scope, freeing, noting)
        finally:
            if entry in self.site.streams.get(conversation, []):
                self.site.streams[conversation].remove(entry)

    async def _read(self, conversation: str, scope: Scope, receive: Receive, send: Send) -> None:
        parts: list[bytes] = []
        start: Message = {}

        async def collecting(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, collecting)
        body = b"".join(parts)
        if start["status"] == 200:
            said = json.loads(body)
            said["messages"] = sorted(
                said["messages"] + self.site.lines.get(conversation, []),
                key=lambda line: datetime.fromisoformat(line["at"]),
            )
            body = json.dumps(said).encode()
            MutableHeaders(scope=start)["content-length"] = str(len(body))
        await send(start)
        await send({"type": "http.response.body", "body": body})


def _now() -> str:
    return datetime.now(UTC).isoformat()
