"""Who of the staff may call which address of the console: one table, and what is not in it is refused.

Owns the cookie of a session and the token that every form carries. Knows nothing about what the pages show.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from bot.channels.web.door import TheDoor
from bot.storage.handover import Agent
from bot.storage.people import LONGEST_SESSION, Role, Session, SignedIn, find_session, may

COOKIE: Final = "frontdesk_staff"
FORM_COOKIE: Final = "frontdesk_form"
"""Holds the token of the sign-in form, which there is no session for yet."""
TOKEN_HEADER: Final = "x-csrf-token"

ANYBODY: Final = "anybody"

RULES: Final[Mapping[str, Role | str]] = {
    "GET /console/login": ANYBODY,
    "POST /console/login": ANYBODY,
    "GET /console/assets/{version}/{name}": ANYBODY,
    "POST /console/logout": "agent",
    "GET /console/password": "agent",
    "POST /console/password": "agent",
    "GET /console": "agent",
    "GET /console/inbox": "agent",
    "GET /console/inbox/list": "agent",
    "GET /console/inbox/{conversation_id}": "agent",
    "GET /console/inbox/{conversation_id}/story": "agent",
    "GET /console/inbox/{conversation_id}/draft": "agent",
    "POST /console/inbox/{conversation_id}/take": "agent",
    "POST /console/inbox/{conversation_id}/reply": "agent",
    "POST /console/inbox/{conversation_id}/note": "agent",
    "POST /console/inbox/{conversation_id}/return": "agent",
    "POST /console/inbox/{conversation_id}/resolve": "agent",
    "GET /console/events": "agent",
    "GET /console/files/{file_id}": "agent",
    "GET /console/replies": "agent",
    "POST /console/replies": "reviewer",
    "POST /console/replies/{number}/remove": "reviewer",
    "GET /console/people": "lead",
    "POST /console/people": "lead",
    "POST /console/people/{person_id}/role": "lead",
    "POST /console/people/{person_id}/password": "lead",
    "POST /console/people/{person_id}/remove": "lead",
    "GET /console/install": "lead",
    "POST /console/install": "lead",
    "GET /console/install/{site_id}": "lead",
    "POST /console/install/{site_id}": "lead",
    "POST /console/install/{site_id}/secret": "lead",
    "GET /console/install/{site_id}/test": "lead",
    "GET /console/deliveries": "lead",
    "POST /console/deliveries/{notice_id}/again": "lead",
}
"""The least role for every address. A route that is not here answers nobody."""

BY_ITSELF: Final = frozenset(
    {
        "GET /console/events",
        "GET /console/inbox/list",
        "GET /console/inbox/{conversation_id}/story",
        "GET /console/inbox/{conversation_id}/draft",
    }
)
"""What an open page asks for without anybody there."""

WITH_TEMPORARY_PASSWORD: Final = frozenset({"GET /console/password", "POST /console/password", "POST /console/logout"})


class SignInNeeded(Exception):
    """Sends the browser to the sign-in page, or to choose a password."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class Refused(Exception):
    """Ends a request of the console with a page that says why and what to do."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail


async def admit(request: Request, door: TheDoor) -> None:
    """Every route of the console depends on this. Raises SignInNeeded or Refused."""
    key = f"{request.method} {getattr(request.scope.get('route'), 'path', '')}"
    needed = RULES.get(key)
    if needed is None:
        raise Refused(403, "Not allowed", "Nobody may use this address.")
    token = request.cookies.get(COOKIE, "")
    used = key not in BY_ITSELF
    session = (
        await run_in_threadpool(find_session, door.database, token, datetime.now(UTC), used=used) if token else None
    )
    request.state.session = session
    if request.method not in ("GET", "HEAD"):
        await _check_token(request, session)
    if needed == ANYBODY:
        return
    if session is None:
        raise SignInNeeded(f"/console/login?next={quote(_page(request))}")
    if session.person.temporary and key not in WITH_TEMPORARY_PASSWORD:
        raise SignInNeeded("/console/password")
    if not may(session.person.role, needed):  # type: ignore[arg-type]
        raise Refused(403, "Not for your role", f"This needs the role {needed}; ask a lead of your company.")


def signed_in(request: Request) -> Session:
    """The session that `admit` found; only for routes that need one."""
    session = request.state.session
    assert isinstance(session, Session), "a route that anybody may call has no session"
    return session


Who = Annotated[Session, Depends(signed_in)]


def agent_of(session: Session) -> Agent:
    return Agent(session.person.id, session.person.name, lead=session.person.role == "lead")


def remember(response: Response, request: Request, signed: SignedIn) -> None:
    """Gives the browser its session."""
    _set_cookie(response, request, COOKIE, signed.token)


def forget(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")


def form_token(request: Request, response: Response) -> str:
    """A token for a form that is filled in before there is a session."""
    token = request.cookies.get(FORM_COOKIE, "")
    if len(token) < 20:
        token = secrets.token_urlsafe(24)
    _set_cookie(response, request, FORM_COOKIE, token)
    return token


def _set_cookie(response: Response, request: Request, name: str, value: str) -> None:
    # Behind a proxy that ends TLS only the browser knows that it came by https, and it says so in Origin.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(
        name,
        value,
        max_age=int(LONGEST_SESSION.total_seconds()),
        path="/console",
        httponly=True,
        secure=secure,
        samesite="strict",
    )


async def _check_token(request: Request, session: Session | None) -> None:
    """A form of another site has no way to know the token, whatever cookies the browser adds."""
    signing_in = request.url.path == "/console/login"
    expected = session.csrf if session is not None and not signing_in else request.cookies.get(FORM_COOKIE, "")
    given: object = request.headers.get(TOKEN_HEADER)
    if given is None:
        given = (await request.form()).get("csrf")
    fits = isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
    if not expected or not fits:
        if session is None and not signing_in:
            raise SignInNeeded("/console/login")
        raise Refused(403, "This page is out of date", "Load it again and repeat what you did.")


def _page(request: Request) -> str:
    """Where to go on after signing in: the page, not the part of it that was asked for."""
    return request.url.path if request.method == "GET" and "hx-request" not in request.headers else "/console/inbox"
