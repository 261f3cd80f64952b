"""What every request passes before and after the routes: host, origin, security headers, the request log.

Owns plain ASGI middleware; none of it reads a body. Knows nothing about conversations.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Collection

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.channels.web.logbook import numbered, write
from bot.channels.web.origins import KnownSites, allow, answer_preflight, mark_foreign, wrong_origin
from bot.channels.web.problems import Problem, fault, too_large
from bot.conversation.messages import pseudonym
from bot.meters import METHODS

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
HOST = re.compile(r"(?:\[(?P<number>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")
CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
API = "/api/"
"""What pages of other origins may use, if a site lists them. Everything else is for our own pages."""


class Guard:
    """Refuses foreign hosts and origins, answers for what failed inside, and puts the security headers on everything
    that leaves.

    `sites` says which other origins may use the API; a route checks that it is one of the site in hand. `hosts` are
    names the service may be reached by besides localhost and addresses given as numbers. A name is what a rebinding
    attack needs, so a number is always fine.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], draining: Callable[[], bool], sites: KnownSites) -> None:
        self.app = app
        self.sites = sites
        self.hosts = {"localhost", *(h.lower() for h in hosts)}
        self.draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def guarded_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                is_page = headers.get("content-type", "").startswith("text/html")
                headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else DATA_POLICY)
                headers.setdefault("Cache-Control", "no-store")
                if scope["path"].startswith(API):
                    headers.add_vary_header("Origin")
                    if origin := scope.get("state", {}).get("foreign_origin"):
                        allow(headers, origin)
                if self.draining():
                    headers["Connection"] = "close"
            await send(message)

        try:
            problem = await self._refusal(scope)
            if problem is None and _asks_first(scope):
                await _go_ahead()(scope, receive, guarded_send)
            else:
                await (problem.response() if problem else self.app)(scope, receive, guarded_send)
        except Exception as error:
            if begun:  # the answer is half out: the connection must end for the client to see that
                raise
            # Answered here, since the server cuts a connection behind which it finds an exception, and with it the next
            # request of a client that had already sent it; and so that pages of other origins can read it.
            await fault(error).response()(scope, receive, guarded_send)

    async def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(host):
            return Problem(
                421,
                "Wrong host",
                "This service does not answer to that name; add it to `allowed_hosts` in frontdesk.toml.",
            )
        origins = headers.getlist("origin")
        if not origins or (len(origins) == 1 and self._same_site(origins[0], host)):
            return None
        if scope["path"].startswith(API):
            if not self.sites.fresh:  # an invented origin costs no read
                await run_in_threadpool(self.sites.refresh)
            if len(origins) == 1 and self.sites.allow_somewhere(origins[0]):
                mark_foreign(scope, origins[0])
                return None
            return wrong_origin()
        if scope["method"] in CHANGING:
            return Problem(403, "Foreign origin", "Pages of other sites may not write here.")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _same_site(self, origin: str, host: str) -> bool:
        scheme, separator, place = origin.partition("://")
        if not separator or scheme not in ("http", "https"):
            return False
        # Behind a proxy that ends TLS we see another port than the browser does, so a configured name is enough.
        return place.lower() == host.lower() or _name(place) in self.hosts - {"localhost"}


def _name(host: str) -> str:
    """The host without its port: 'Example.org:8080' is 'example.org', '[::1]:80' is '::1'; empty for what is none."""
    match = HOST.fullmatch(host)
    return (match["number"] or match["name"]).lower() if match else ""


def _asks_first(scope: Scope) -> bool:
    """A browser that asks whether the page of an allowed origin may send a request of this kind."""
    foreign = scope.get("state", {}).get("foreign_origin")
    return bool(scope["method"] == "OPTIONS" and foreign and "access-control-request-method" in Headers(scope=scope))


def _go_ahead() -> Response:
    response = Response(status_code=204)
    answer_preflight(response.headers)
    return response


UPLOAD = re.compile(r"/api/v1/conversations/[^/]+/files")
SLOWEST_BYTES_PER_SECOND = 64 * 1024
SECONDS_FOR_ANY_BODY = 20.0


class BodyLimit:
    """Refuses a body that is larger than `bytes_allowed`, or `upload_allowed` where files are sent, by what it says of
    itself and by what comes; and one that comes so slowly that it only holds the connection."""

    def __init__(self, app: ASGIApp, bytes_allowed: int, upload_allowed: int) -> None:
        self.app = app
        self.bytes_allowed = bytes_allowed
        self.upload_allowed = upload_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["method"] == "POST" and UPLOAD.fullmatch(scope["path"])
        allowed = self.upload_allowed if is_upload else self.bytes_allowed
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or len(declared) > 12 or int(declared) > allowed:
            await too_large().response()(scope, receive, send)
            return
        until = asyncio.get_running_loop().time() + SECONDS_FOR_ANY_BODY + allowed / SLOWEST_BYTES_PER_SECOND
        came, whole = 0, False

        async def counting_receive() -> Message:
            nonlocal came, whole
            if whole:
                return await receive()  # nothing comes any more but the end of the connection
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            came += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if came > allowed:
                raise HTTPException(413)
            return message

        await self.app(scope, counting_receive, send)


SUBJECTS = ("conversation_id", "turn_id", "file_id")


class RequestLog:
    """One line a request: the route and never the address, ids hashed, no text of anybody. Its number, made here, goes
    back to the client and into every other line that the request causes, so that a complaint can be followed.

    `told` gets method, template of the route, status and the seconds until the answer began.
    """

    def __init__(self, app: ASGIApp, told: Callable[[str, str, int, float], None] | None = None) -> None:
        self.app = app
        self.told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status, waited = 0, 0.0
        number = secrets.token_hex(6)

        async def noting_send(message: Message) -> None:
            nonlocal status, waited
            if message["type"] == "http.response.start":
                status, waited = message["status"], time.perf_counter() - started
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", number.encode())]
            await send(message)

        try:
            with numbered(number):
                await self.app(scope, receive, noting_send)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "?"
            if self.told is not None:
                self.told(method, route, status, waited)
            if not scope["path"].startswith("/health/"):
                parameters = scope.get("path_params", {})
                subject = next((str(parameters[name]) for name in SUBJECTS if parameters.get(name)), "")
                write(
                    "request",
                    request=number,
                    method=method,
                    route=route,
                    subject=pseudonym(subject) if subject else None,
                    status=status,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                )
