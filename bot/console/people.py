"""The people of the console: a lead adds them, gives them a role or a new password, and removes them.

Owns the routes under /console/people. A one-time password is shown once, on the page that answers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Response

from bot import FrontdeskError
from bot.channels.web.door import Door, TheDoor
from bot.console.access import Refused, Who
from bot.console.pages import go, page
from bot.storage.people import (
    ROLES,
    Person,
    Role,
    Session,
    add_person,
    all_people,
    change_role,
    new_password,
    remove_person,
)

Field = Annotated[str, Form(max_length=500)]

router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/people")
def people(door: TheDoor, who: Who) -> Response:
    return _page(door, who)


@router.post("/people")
def add(door: TheDoor, who: Who, name: Field = "", role: Field = "agent") -> Response:
    try:
        person, password = add_person(door.database, name, _role(role), actor=who.person.id)
    except FrontdeskError as error:
        return _page(door, who, problem=str(error), name=name, status=422)
    return _page(door, who, welcome=person.name, password=password)


@router.post("/people/{person_id}/role")
def role(door: TheDoor, who: Who, person_id: str, role: Field = "") -> Response:
    person = _found(door, person_id)
    return _changed(door, who, lambda: change_role(door.database, person, _role(role), actor=who.person.id))


@router.post("/people/{person_id}/remove")
def remove(door: TheDoor, who: Who, person_id: str) -> Response:
    person = _found(door, person_id)
    answer = _changed(door, who, lambda: remove_person(door.database, person, actor=who.person.id))
    door.desk.look_after(datetime.now(UTC))  # whoever was in their hands waits in the queue again
    return answer


@router.post("/people/{person_id}/password")
def password(door: TheDoor, who: Who, person_id: str) -> Response:
    person = _found(door, person_id)
    made = new_password(door.database, person, actor=who.person.id)
    return _page(door, who, welcome=person.name, password=made)


def _changed(door: Door, who: Session, act: Callable[[], None]) -> Response:
    try:
        act()
    except FrontdeskError as error:
        return _page(door, who, problem=str(error), status=422)
    return go("/console/people")


def _page(
    door: Door,
    who: Session,
    *,
    problem: str = "",
    name: str = "",
    welcome: str = "",
    password: str = "",
    status: int = 200,
) -> Response:
    shown = {
        "people": all_people(door.database),
        "roles": ROLES,
        "problem": problem,
        "name": name,
        "welcome": welcome,
        "password": password,
    }
    return page("people.html", who, shown, status=status)


def _found(door: Door, person_id: str) -> Person:
    person = next((one for one in all_people(door.database) if one.id == person_id), None)
    if person is None:
        raise Refused(404, "Not found", "Nobody here has this account any more.")
    return person


def _role(name: str) -> Role:
    role = next((role for role in ROLES if role == name), None)
    if role is None:
        raise Refused(422, "No such role", f"The roles are {', '.join(ROLES)}.")
    return role
