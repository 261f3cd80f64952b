"""What is refused at the door when there is too much to do: at once, before anything of it is read.

Owns how many requests may be inside. Stands outside the application, because a refusal that costs as much as an answer
takes the place of one; it says when to come back, and the message keeps its id, so nothing is lost by sending it again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from bot.channels.web.logbook import write
from bot.channels.web.problems import MEDIA_TYPE, busy
from bot.serving import Desk

MOST_INSIDE = 512
"""Requests under way at once, without streams: those are bounded by themselves."""
RETRY_AFTER = 1.0
SAID_EVERY = 1.0
"""Seconds between two lines about it; one for each would be more work than the refusal."""


class Overload:
    """Refuses messages while the desk has its hands full, and anything while `most_inside` requests are inside.

    `told` gets what was refused; `may_read` says whether pages of an origin that is not ours may read the refusal.
    Belongs to the event loop's thread.
    """

    def __init__(
        self,
        app: ASGIApp,
        desk: Desk,
        draining: Callable[[], bool],
        told: Callable[[str], None] | None = None,
        may_read: Callable[[str], bool] | None = None,
        most_inside: int = MOST_INSIDE,
    ) -> None:
        self.app = app
        self.desk = desk
        self.draining = draining
        self.told = told
        self.may_read = may_read
        self.most_inside = most_inside
        self._inside = 0
        self._messages = 0
        self._refused = 0
        self._said_at = 0.0
        problem = busy(RETRY_AFTER)
        self._body = json.dumps(problem.body.model_dump()).encode()
        self._headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(self._body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path.endswith("/events") or path.startswith(("/health/", "/metrics")):
            await self.app(scope, receive, send)
            return
        message = scope["method"] == "POST" and path.endswith("/messages")
        if self._is_full(message):
            await self._refuse(scope, send, "message" if message else "request")
            return
        self._inside += 1
        self._messages += message
        try:
            await self.app(scope, receive, send)
        finally:
            self._inside -= 1
            self._messages -= message

    def _is_full(self, message: bool) -> bool:
        # Messages on their way to the desk count as well: they will be there before the next look.
        return self._inside >= self.most_inside or (
            message and max(self._messages, self.desk.in_hand) >= self.desk.most_in_hand
        )

    async def _refuse(self, scope: Scope, send: Send, what: str) -> None:
        headers = [*self._headers, *self._for_foreign_pages(scope)]
        if self.draining():
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})
        if self.told is not None:
            self.told(what)
        self._refused += 1
        now = time.monotonic()
        if now - self._said_at >= SAID_EVERY:
            write("refused", requests=self._refused, in_hand=self.desk.in_hand, inside=self._inside)
            self._refused, self._said_at = 0, now

    def _for_foreign_pages(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Without these a page of a foreign origin could not tell a refusal from a service that is gone."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        if not origin or self.may_read is None or not self.may_read(origin.decode("latin-1")):
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"Retry-After"),
            (b"vary", b"Origin"),
        ]
