"""Signing in and out of the console, and choosing a password.

Owns what a wrong password costs. Knows nothing about roles: see `access`.
"""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from bot import FrontdeskError
from bot.channels.web.door import TheDoor
from bot.console.access import COOKIE, Who, forget, form_token, remember
from bot.console.office import TheOffice
from bot.console.pages import go, page
from bot.storage.people import check_password, choose_password, sign_in, sign_out

Field = Annotated[str, Form(max_length=500)]


router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/login")
def ask(request: Request, next: str = "") -> Response:
    return _form(request, next)


@router.post("/login")
def enter(
    request: Request, office: TheOffice, door: TheDoor, name: Field = "", password: Field = "", next: Field = ""
) -> Response:
    address = str(request.state.address)  # the browser's, also behind proxies: see `channels.web.addresses`
    wait = office.throttle.begin(name, address)
    if wait > 0:
        said = f"Too many tries. Wait {_spoken(wait)}, then try again."
        response = _form(request, next, name, said, status=429)
        response.headers["Retry-After"] = str(math.ceil(wait))
        return response
    person = check_password(door.database, name, password)
    if person is None:
        return _form(request, next, name, "That name and password do not fit together.", status=401)
    office.throttle.succeeded(name, address)
    signed = sign_in(door.database, person, before=request.cookies.get(COOKIE, ""))
    response = go("/console/password" if person.temporary else _inside(next))
    remember(response, request, signed)
    return response


@router.post("/logout")
def leave(request: Request, door: TheDoor, who: Who) -> Response:
    sign_out(door.database, request.cookies.get(COOKIE, ""))
    response = go("/console/login")
    forget(response)
    return response


@router.get("/password")
def ask_for_password(who: Who) -> Response:
    return page("password.html", who, {"problem": ""})


@router.post("/password")
def change_password(
    request: Request, door: TheDoor, who: Who, old: Field = "", new: Field = "", again: Field = ""
) -> Response:
    if check_password(door.database, who.person.name, old) is None:
        return page("password.html", who, {"problem": "The present password is another one."}, status=422)
    if new != again:
        return page("password.html", who, {"problem": "The two new passwords differ."}, status=422)
    if new == old:
        return page("password.html", who, {"problem": "Choose another one than the present password."}, status=422)
    try:
        signed = choose_password(door.database, who.person, new)
    except FrontdeskError as error:
        return page("password.html", who, {"problem": f"{error}.".capitalize()}, status=422)
    response = go("/console/inbox")
    remember(response, request, signed)
    return response


def _form(request: Request, next: str, name: str = "", problem: str = "", status: int = 200) -> Response:
    response = Response()
    token = form_token(request, response)
    made = page(
        "login.html", None, {"token": token, "next": _inside(next), "name": name, "problem": problem}, status=status
    )
    made.headers.append("set-cookie", response.headers["set-cookie"])
    return made


def _inside(address: str) -> str:
    """Only to our own pages: what stands in a link may come from anybody."""
    plain = address.isascii() and address.isprintable() and not set("\\ ").intersection(address)
    return address if plain and address.startswith("/console/") and "//" not in address else "/console/inbox"


def _spoken(seconds: float) -> str:
    return f"{math.ceil(seconds)} seconds" if seconds < 90 else f"{math.ceil(seconds / 60)} minutes"
