"""Putting the chat on a website: the sites, where each may be shown, how it looks, and the line to paste.

Owns the routes under /console/install. What a site is and which origins are exact is decided in `bot.storage.sites`;
the secret that signs customers in is shown once, on the page that answers.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from bot import FrontdeskError
from bot.channels.web.door import Door, TheDoor
from bot.console.access import Refused, Who
from bot.console.office import Office, TheOffice
from bot.console.pages import environment, go, page
from bot.storage.people import Session
from bot.storage.sites import Site, Theme, all_sites, change_site, create_site, find_site, new_identity_secret

Field = Annotated[str, Form(max_length=2_000)]

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+\.)*[a-z0-9-]+(?::[0-9]{1,5})?")
HOST = re.compile(r"(?:[a-z0-9-]+\.)*[a-z0-9-]+(?::[0-9]{1,5})?")
OURS = ("", "default")
"""The site that is always there: our own chat page."""
TEST_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/install")
def sites(door: TheDoor, who: Who) -> Response:
    return page("sites.html", who, {"sites": all_sites(door.database), "name": "", "origins": "", "problem": ""})


@router.post("/install")
def add(
    request: Request, office: TheOffice, door: TheDoor, who: Who, name: Field = "", origins: Field = ""
) -> Response:
    try:
        title = _title(name)
        site, secret = create_site(door.database, title, origins=_origins(origins), actor=who.person.id)
    except FrontdeskError as error:
        shown = {"sites": all_sites(door.database), "name": name, "origins": origins, "problem": _sentence(error)}
        return page("sites.html", who, shown, status=422)
    return _site(request, office, door, who, site, secret=secret)


@router.get("/install/{site_id}")
def site(request: Request, office: TheOffice, door: TheDoor, who: Who, site_id: str, saved: str = "") -> Response:
    return _site(request, office, door, who, _found(door, site_id), saved=saved == "1")


@router.post("/install/{site_id}")
def change(
    request: Request,
    office: TheOffice,
    door: TheDoor,
    who: Who,
    site_id: str,
    name: Field = "",
    origins: Field = "",
    link_hosts: Field = "",
    colour: Field = "",
    text: Field = "",
    greeting: Field = "",
    position: Field = "",
    mode: Field = "",
    ask_name: Field = "",
    ask_email: Field = "",
    identity_required: Field = "",
) -> Response:
    before = _found(door, site_id)
    try:
        asked: list[Literal["name", "email"]] = []
        asked += ["name"] if ask_name else []
        asked += ["email"] if ask_email else []
        changed = replace(
            before,
            name=_title(name),
            origins=_origins(origins) if site_id not in OURS else before.origins,
            link_hosts=_hosts(link_hosts),
            theme=_theme(colour, text, greeting, position, mode),
            pre_chat=tuple(asked),
            identity_required=bool(identity_required),
        )
        change_site(door.database, changed, actor=who.person.id)
    except FrontdeskError as error:
        return _site(request, office, door, who, before, problem=_sentence(error), status=422)
    return go(f"/console/install/{site_id}?saved=1")


@router.post("/install/{site_id}/secret")
def secret(request: Request, office: TheOffice, door: TheDoor, who: Who, site_id: str) -> Response:
    found = _found(door, site_id)
    made = new_identity_secret(door.database, found.id, actor=who.person.id)
    return _site(request, office, door, who, found, secret=made)


@router.get("/install/{site_id}/test")
def test(door: TheDoor, who: Who, site_id: str) -> Response:
    """An empty page of ours with the widget of this site on it."""
    found = _found(door, site_id)
    html = environment().get_template("try.html").render(session=who, site=found)
    return HTMLResponse(html, headers={"Content-Security-Policy": TEST_POLICY})


def _site(
    request: Request,
    office: Office,
    door: Door,
    who: Session,
    site: Site,
    *,
    secret: str = "",
    problem: str = "",
    saved: bool = False,
    status: int = 200,
) -> Response:
    host = (office.address or str(request.base_url)).rstrip("/")
    snippet = f'<script async src="{host}/widget.js" data-site="{site.id}"></script>'
    shown = {
        "site": site,
        "sites": all_sites(door.database),
        "is_ours": site.id in OURS,
        "snippet": snippet,
        "secret": secret,
        "problem": problem,
        "saved": saved,
    }
    return page("site.html", who, shown, status=status)


def _found(door: Door, site_id: str) -> Site:
    site = find_site(door.database, site_id) or (find_site(door.database, "") if site_id in OURS else None)
    if site is None:
        raise Refused(404, "Not found", "There is no such site.")
    return site


def _title(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 80:
        raise FrontdeskError("a site has a name of 1 to 80 characters")
    return name


def _origins(text: str) -> tuple[str, ...]:
    return _each(text, ORIGIN, "an origin is a scheme, a host and perhaps a port, e.g. https://www.example.com")


def _hosts(text: str) -> tuple[str, ...]:
    return _each(text, HOST, "a host is a name without https:// and without a path, e.g. www.example.com")


def _each(text: str, pattern: re.Pattern[str], meaning: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.lower().removesuffix("/") for part in text.replace(",", " ").split()))
    if strange := next((part for part in found if not pattern.fullmatch(part)), ""):
        raise FrontdeskError(f"{strange[:60]!r}: {meaning}")
    return found


def _theme(colour: str, text: str, greeting: str, position: str, mode: str) -> Theme:
    if not COLOUR.fullmatch(colour):
        raise FrontdeskError(f"{colour[:20]!r} is no colour: write six hexadecimal digits, e.g. #1f5fbf")
    if len(text) > 60 or len(greeting) > 200:
        raise FrontdeskError("a header has at most 60 characters, a greeting at most 200")
    return Theme(
        colour=colour.lower(),
        text=" ".join(text.split()),
        greeting=" ".join(greeting.split()),
        position="left" if position == "left" else "right",
        mode="light" if mode == "light" else "dark" if mode == "dark" else "auto",
    )


def _sentence(error: FrontdeskError) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
