"""Staff for the tests of the console: hired without a form, signed in without a password."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from httpx import Response
from sqlalchemy import insert
from starlette.testclient import TestClient

from bot.console.access import COOKIE, TOKEN_HEADER
from bot.storage.handover import Agent
from bot.storage.people import Person, Role, _hashed, find_person, sign_in
from bot.storage.tables import StaffRow
from tests.bot.channels.office import Office

PASSWORD = "three plain words"


@cache
def password_hash() -> str:
    """Made once: it is slow on purpose."""
    return _hashed(PASSWORD)


def employ(office: Office, role: Role, *, name: str = "", temporary: bool = False) -> Person:
    name = name or f"{role} {secrets.token_hex(3)}"
    row = {"id": secrets.token_urlsafe(9), "name": name, "role": role, "password_hash": password_hash()}
    row |= {"temporary": temporary, "disabled": False, "created_at": datetime.now(UTC)}  # type: ignore[dict-item]
    office.database.write(lambda connection: connection.execute(insert(StaffRow), row))
    return find_person(office.database, name)


@dataclass(frozen=True, slots=True)
class Member:
    """One of the staff at a browser."""

    http: TestClient
    person: Person
    csrf: str
    token: str

    @property
    def agent(self) -> Agent:
        return Agent(self.person.id, self.person.name, lead=self.person.role == "lead")

    def get(self, path: str, **headers: str) -> Response:
        return self.http.get(f"/console{path}", headers=headers, follow_redirects=False)

    def post(self, path: str, csrf: str | None = None, **fields: str) -> Response:
        data = {"csrf": self.csrf if csrf is None else csrf, **fields}
        return self.http.post(f"/console{path}", data=data, follow_redirects=False)

    def part(self, path: str, **fields: str) -> Response:
        """As htmx sends a form: the token in a header, a part of the page wanted back."""
        headers = {"HX-Request": "true", TOKEN_HEADER: self.csrf}
        return self.http.post(f"/console{path}", data=fields, headers=headers, follow_redirects=False)


def at_work(office: Office, role: Role, *, name: str = "", temporary: bool = False) -> Member:
    person = employ(office, role, name=name, temporary=temporary)
    signed = sign_in(office.database, person)
    http = office.client()
    http.cookies.set(COOKIE, signed.token, path="/console")
    return Member(http, person, signed.session.csrf, signed.token)
