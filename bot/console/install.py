"""Putting the chat on a website: the sites, where each may be shown, how it looks, and the line to paste.

Owns the routes under /console/install and how a site is written in a form. What a site may be is decided in
`bot.storage.sites`, which names every problem; the secret that signs customers in is shown once, on the page that
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from bot import FrontdeskError
from bot.channels.web.door import Door, TheDoor
from bot.console.access import Refused, Who
from bot.console.office import Office, TheOffice
from bot.console.pages import environment, go, page
from bot.storage.people import Session
from bot.storage.sites import (
    PreChat,
    Site,
    Theme,
    all_sites,
    change_site,
    create_site,
    find_site,
    hours_lines,
    hours_of,
    new_identity_secret,
)

Field = Annotated[str, Form(max_length=2_000)]
Addresses = Annotated[str, Form(max_length=20_000)]
"""As many as a site may have, each as long as a host can be."""

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
    request: Request, office: TheOffice, door: TheDoor, who: Who, name: Field = "", origins: Addresses = ""
) -> Response:
    try:
        site, secret = create_site(door.database, _one_line(name), origins=_words(origins), actor=who.person.id)
    except FrontdeskError as error:
        shown = {"sites": all_sites(door.database), "name": name, "origins": origins, "problem": _sentence(error)}
        return page("sites.html", who, shown, status=422)
    door.sites.refresh()
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
    origins: Addresses = "",
    link_hosts: Addresses = "",
    colour: Field = "",
    text: Field = "",
    greeting: Field = "",
    position: Field = "",
    mode: Field = "",
    hours: Field = "",
    time_zone: Field = "",
    ask_name: Field = "",
    ask_email: Field = "",
    identity_required: Field = "",
) -> Response:
    before = _found(door, site_id)
    asked: list[PreChat] = []
    asked += ["name"] if ask_name else []
    asked += ["email"] if ask_email else []
    wanted = replace(
        before,
        name=_one_line(name),
        origins=_words(origins) if site_id not in OURS else before.origins,
        link_hosts=_words(link_hosts),
        theme=_theme(colour, text, greeting, position, mode),
        time_zone=time_zone.strip() or "UTC",
        pre_chat=tuple(asked),
        identity_required=bool(identity_required),
    )
    lines = [line for line in hours.splitlines() if line.strip()]
    try:
        open_at = tuple(one for line in lines for one in hours_of(line))
        change_site(door.database, replace(wanted, hours=open_at), actor=who.person.id)
    except FrontdeskError as error:
        return _site(request, office, door, who, wanted, hours=lines, problem=_sentence(error), status=422)
    door.sites.refresh()
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
    hours: Sequence[str] | None = None,
    secret: str = "",
    problem: str = "",
    saved: bool = False,
    status: int = 200,
) -> Response:
    host = (office.address or str(request.base_url)).rstrip("/")
    snippet = f'<script async src="{host}/widget.js" data-site="{site.id}"></script>'
    shown = {
        "site": site,
        "company": door.storefront.company,
        "sites": all_sites(door.database),
        "is_ours": site.id in OURS,
        "snippet": snippet,
        "secret": secret,
        "problem": problem,
        "saved": saved,
        "hours": hours_lines(site.hours) if hours is None else hours,
        "time_zones": _time_zones(),
    }
    return page("site.html", who, shown, status=status)


def _found(door: Door, site_id: str) -> Site:
    site = find_site(door.database, site_id) or (find_site(door.database, "") if site_id in OURS else None)
    if site is None:
        raise Refused(404, "Not found", "There is no such site.")
    return site


@cache
def _time_zones() -> tuple[str, ...]:
    """Read from hundreds of files, which do not change."""
    return tuple(sorted(available_timezones()))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _words(text: str) -> tuple[str, ...]:
    """What stands in a field that holds several, between commas, blanks or line ends."""
    return tuple(text.replace(",", " ").split())


def _theme(colour: str, text: str, greeting: str, position: str, mode: str) -> Theme:
    return Theme(
        colour=colour.lower(),
        text=_one_line(text),
        greeting=_one_line(greeting),
        position="left" if position == "left" else "right",
        mode="light" if mode == "light" else "dark" if mode == "dark" else "auto",
    )


def _sentence(error: FrontdeskError) -> str:
    """Every problem as a sentence of its own."""
    return " ".join(f"{line[:1].upper()}{line[1:]}." for line in str(error).splitlines())
