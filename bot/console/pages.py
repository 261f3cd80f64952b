"""How the console's pages are made: templates that escape everything, and the files they need.

Owns the environment of the templates, the content policy and the words for times. Knows nothing about what is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from bot.channels.web.pages import FOREVER, Asset
from bot.channels.web.problems import problem_of
from bot.console.access import Refused, SignInNeeded
from bot.storage.database import RecordUnavailable
from bot.storage.people import Session, may

if TYPE_CHECKING:
    from fastapi import FastAPI
    from jinja2 import Environment

FOLDER = Path(__file__).parent / "page"
ASSETS: Mapping[str, str] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default"
)
"""As the customers' pages have it, but forms go to ourselves, and htmx may put our own HTML into the page."""

REASONS: Mapping[str, str] = {
    "asked": "Asked for a person",
    "not_known_twice": "Not known twice",
    "angry": "Angry",
    "policy": "Needs a person",
    "error": "Our error",
    "hours": "Out of hours",
    "urgent": "Urgent",
    "left": "Left by an agent",
}
STATUSES: Mapping[str, str] = {"open": "Bot", "waiting": "Waiting", "person": "With an agent", "resolved": "Resolved"}


def page(template: str, session: Session | None, values: Mapping[str, object], *, status: int = 200) -> HTMLResponse:
    """A whole page or a part of one, for a signed-in person or nobody."""
    return HTMLResponse(
        environment().get_template(template).render({**values, "session": session}),
        status_code=status,
        # Under "no-referrer" a browser sends a form with "Origin: null", which could be anybody's.
        headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"},
    )


def go(address: str) -> Response:
    return RedirectResponse(address, status_code=303)


def is_part(request: Request) -> bool:
    """Whether htmx asks, which wants a part of the page."""
    return "hx-request" in request.headers


@cache
def assets() -> dict[str, Asset]:
    """The files of the console; their address carries a hash of all of them, so that browsers may keep them."""
    contents = {name: (FOLDER / name).read_bytes() for name in ASSETS}
    version = hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:12]
    return {name: Asset(content, ASSETS[name], version) for name, content in contents.items()}


@cache
def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "version": assets()["console.css"].version,
        "reasons": REASONS,
        "statuses": STATUSES,
        "may": may,
        "ago": ago,
    }
    made.filters |= {"clock": clock}
    return made


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, as one says it: 'now', '4 min', '2 h', '3 d'."""
    if moment is None:
        return ""
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"


def clock(moment: datetime) -> str:
    """For the `datetime` of a time element; the page shows it in the reader's own zone."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/assets/{version}/{name}")
def asset(version: str, name: str) -> Response:
    found = assets().get(name)
    if found is None:
        raise Refused(404, "Not found", "There is no such file.")
    keep = FOREVER if version == found.version else "no-cache"
    return Response(found.content, media_type=found.kind, headers={"Cache-Control": keep})


def answer_refusals(application: FastAPI) -> None:
    """Make what `admit` refuses a page that a person understands."""

    @application.exception_handler(SignInNeeded)
    def _sign_in(request: Request, error: SignInNeeded) -> Response:
        if is_part(request):
            return Response(status_code=401, headers={"HX-Redirect": error.address})
        if request.url.path == "/console/events":
            return Response(status_code=401)
        if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
            # Who follows a link of another site, in a mail say, comes without the session's strict cookie, though they
            # may be signed in. From a page of ours the browser sends it.
            query = request.url.query
            address = quote(request.url.path) + (f"?{query}" if query else "")
            return page("onward.html", None, {"address": address})
        return go(error.address)

    @application.exception_handler(Refused)
    def _refused(request: Request, error: Refused) -> Response:
        session: Any = getattr(request.state, "session", None)
        name = "refusal.html" if is_part(request) else "refused.html"
        return page(name, session, {"title": error.title, "detail": error.detail}, status=error.status)

    @application.exception_handler(RecordUnavailable)
    def _not_stored(request: Request, error: RecordUnavailable) -> Response:
        if not request.url.path.startswith("/console"):
            return problem_of(error).response()
        detail = "The record cannot be written just now, so nothing was changed. Try again; if it stays, tell the "
        return _refused(request, Refused(503, "Not stored", f"{detail}people who run this service."))
