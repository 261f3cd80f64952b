"""What is refused at the door when there is too much to do: at once, before anything of it is read.

Owns how many requests may be inside. A refusal costs a fraction of an answer, so that answers go on at the pace they
had; it says when to come back, and the message keeps its id, so nothing is lost by sending it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from bot.channels.web.problems import MEDIA_TYPE, busy
from bot.serving import Desk

MOST_INSIDE = 512
"""Requests under way at once, without streams: those are bounded by themselves."""
RETRY_AFTER = 1.0


class Overload:
    """Refuses messages while the desk has its hands full, and anything while `most_inside` requests are inside."""

    def __init__(
        self, app: ASGIApp, desk: Desk, told: Callable[[str], None] | None = None, most_inside: int = MOST_INSIDE
    ) -> None:
        self.app = app
        self.desk = desk
        self.told = told
        self.most_inside = most_inside
        self._inside = 0
        self._messages = 0
        problem = busy(RETRY_AFTER)
        self._body = json.dumps(problem.body.model_dump()).encode()
        self._headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(self._body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path.startswith(("/health/", "/metrics")) or path.endswith("/events"):
            await self.app(scope, receive, send)
            return
        message = path.endswith("/messages") and scope["method"] == "POST"
        # Those on their way to the desk count as well: they will be there before the next look.
        if self._inside >= self.most_inside or (
            message and max(self._messages, self.desk.in_hand) >= self.desk.most_in_hand
        ):
            if self.told is not None:
                self.told("message" if message else "request")
            await send({"type": "http.response.start", "status": 503, "headers": list(self._headers)})
            await send({"type": "http.response.body", "body": self._body})
            return
        self._inside += 1
        self._messages += message
        try:
            await self.app(scope, receive, send)
        finally:
            self._inside -= 1
            self._messages -= message
