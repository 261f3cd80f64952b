"""The staff: who may sign in to the console, in which role, and the sessions of their browsers.

Owns passwords (argon2id), the tokens of sessions (only their hash is kept) and when a session ends. Knows nothing about
cookies, pages or which role may see what.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from bot import FrontdeskError
from bot.storage.conversations import note
from bot.storage.database import Database, RecordUnavailable
from bot.storage.tables import SessionRow, StaffRow

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Role = Literal["lead", "reviewer", "agent"]
ROLES: tuple[Role, ...] = ("lead", "reviewer", "agent")
"""From the one who may do everything down: each may do what those behind it may."""

IDLE = timedelta(hours=4)
LONGEST_SESSION = timedelta(hours=12)
"""A working day; everybody signs in once a day."""
SEEN_EVERY = timedelta(minutes=1)
"""How exactly the last use of a session is known: a write for every page would be one too many."""

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
LONGEST_NAME = 60

_HASHING = threading.BoundedSemaphore(2)
"""Each check takes 64 MB for a tenth of a second; strangers may ask for as many as they like."""


@dataclass(frozen=True, slots=True)
class Person:
    """One of the staff. `name` is what they sign in with and what customers are shown."""

    id: str
    name: str
    role: Role
    temporary: bool
    """Whether the password was made by us and must be changed at the first sign-in."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. `csrf` must come with everything that changes something."""

    person: Person
    csrf: str
    key: str
    """What the record knows it by; opens nothing."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`token` is for the cookie; it is given out once, here."""

    session: Session
    token: str


def may(role: Role, needed: Role) -> bool:
    return ROLES.index(role) <= ROLES.index(needed)


def add_person(database: Database, name: str, role: Role, *, actor: str) -> tuple[Person, str]:
    """A new account, or the account of somebody removed given back, and its one-time password.

    Raises FrontdeskError for a name that cannot be one or that is taken.
    """
    name = _checked_name(name)
    password = one_time_password()
    hashed = _hashed(password)
    now = datetime.now(UTC)

    def add(connection: Connection) -> Person:
        known = connection.execute(select(StaffRow.id, StaffRow.disabled).where(_is_name(name))).one_or_none()
        if known is not None and not known.disabled:
            raise FrontdeskError(f"{name!r} has an account; choose another name, or give them a new password")
        person = Person(known.id if known is not None else secrets.token_urlsafe(9), name, role, True, now)
        values = {"name": name, "role": role, "password_hash": hashed, "temporary": True, "disabled": False}
        if known is not None:
            connection.execute(update(StaffRow).where(StaffRow.id == person.id).values(values))
        else:
            connection.execute(insert(StaffRow), {"id": person.id, "created_at": now, **values})
        note(connection, actor=actor, action="add person", subject=person.id, detail=role)
        return person

    return database.write(add), password


def all_people(database: Database) -> Sequence[Person]:
    """Everybody who may sign in, by name."""
    with database.read() as connection:
        rows = connection.execute(_people().where(~StaffRow.disabled).order_by(func.lower(StaffRow.name))).all()
    return [_person(row) for row in rows]


def find_person(database: Database, name: str) -> Person:
    """By name, in any case. Raises FrontdeskError."""
    with database.read() as connection:
        row = connection.execute(_people().where(_is_name(name), ~StaffRow.disabled)).one_or_none()
    if row is None:
        raise FrontdeskError(f"nobody here is called {name!r}; `frontdesk people list` names everybody")
    return _person(row)


def remove_person(database: Database, person: Person, *, actor: str) -> None:
    """Takes the account away and ends its sessions. What they wrote stays; whoever was in their hands goes back into
    the queue at the next look of the service (`Desk.look_after`). Raises FrontdeskError for the last lead."""

    def remove(connection: Connection) -> None:
        _keep_a_lead(connection, person)
        connection.execute(update(StaffRow).where(StaffRow.id == person.id).values(disabled=True))
        _end_sessions(connection, person.id)
        note(connection, actor=actor, action="remove person", subject=person.id)

    database.write(remove)


def change_role(database: Database, person: Person, role: Role, *, actor: str) -> None:
    """Gives another role and ends the sessions of the old one. Raises FrontdeskError for the last lead."""

    def change(connection: Connection) -> None:
        if role != "lead":
            _keep_a_lead(connection, person)
        connection.execute(update(StaffRow).where(StaffRow.id == person.id).values(role=role))
        _end_sessions(connection, person.id)
        note(connection, actor=actor, action="change role", subject=person.id, detail=role)

    database.write(change)


def new_password(database: Database, person: Person, *, actor: str) -> str:
    """A one-time password for somebody who lost theirs; their sessions end."""
    password = one_time_password()
    hashed = _hashed(password)

    def change(connection: Connection) -> None:
        connection.execute(
            update(StaffRow).where(StaffRow.id == person.id).values(password_hash=hashed, temporary=True)
        )
        _end_sessions(connection, person.id)
        note(connection, actor=actor, action="new password", subject=person.id)

    database.write(change)
    return password


def choose_password(database: Database, person: Person, password: str) -> SignedIn:
    """Their own password. All their sessions end and a new one begins. Raises FrontdeskError for a bad password."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD or password.casefold() == person.name.casefold():
        raise FrontdeskError(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters and is not your name; "
            "three or four words are easy to remember"
        )
    with database.read() as connection:
        before = connection.scalar(select(StaffRow.password_hash).where(StaffRow.id == person.id))
    if before and _fits(before, password):
        raise FrontdeskError("that is the password you have; choose another, which nobody else has read")
    hashed = _hashed(password)

    def change(connection: Connection) -> SignedIn:
        connection.execute(
            update(StaffRow).where(StaffRow.id == person.id).values(password_hash=hashed, temporary=False)
        )
        _end_sessions(connection, person.id)
        note(connection, actor=person.id, action="choose password", subject=person.id)
        return _begin_session(connection, _find(connection, person.id))

    return database.write(change)


def check_password(database: Database, name: str, password: str) -> Person | None:
    """Who this is, or None. A name that nobody has takes as long as a wrong password."""
    with database.read() as connection:
        row = connection.execute(
            _people().add_columns(StaffRow.password_hash).where(_is_name(name[:LONGEST_NAME]), ~StaffRow.disabled)
        ).one_or_none()
    fits = _fits(row.password_hash if row is not None else _nobody(), password[:LONGEST_PASSWORD])
    return _person(row) if row is not None and fits else None


def sign_in(database: Database, person: Person, *, before: str = "") -> SignedIn:
    """A new session; that of the token `before`, which the browser came with, ends."""

    def begin(connection: Connection) -> SignedIn:
        connection.execute(delete(SessionRow).where(SessionRow.token_hash == _key(before)))
        connection.execute(delete(SessionRow).where(SessionRow.expires_at < datetime.now(UTC)))
        note(connection, actor=person.id, action="sign in", subject=person.id)
        return _begin_session(connection, person)

    return database.write(begin)


def sign_out(database: Database, token: str) -> None:
    database.write(lambda c: c.execute(delete(SessionRow).where(SessionRow.token_hash == _key(token))))


def find_session(database: Database, token: str, now: datetime, *, used: bool = True) -> Session | None:
    """The session of a cookie, if it is still good at `now`. `used` counts as activity."""
    key = _key(token)
    with database.read() as connection:
        row = connection.execute(
            _people()
            .add_columns(SessionRow.csrf, SessionRow.seen_at, SessionRow.expires_at)
            .join(SessionRow, SessionRow.staff_id == StaffRow.id)
            .where(SessionRow.token_hash == key, ~StaffRow.disabled)
        ).one_or_none()
    if row is None or now >= row.expires_at or now >= row.seen_at + IDLE:
        return None
    if used and now >= row.seen_at + SEEN_EVERY:
        seen = update(SessionRow).where(SessionRow.token_hash == key).values(seen_at=now)
        with suppress(RecordUnavailable):  # at worst the session ends early
            database.write(lambda connection: connection.execute(seen))
    return Session(_person(row), row.csrf, key)


def one_time_password() -> str:
    """Eighty random bits in four groups that can be read out on the telephone."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


def _people() -> Select[*tuple[Any, ...]]:
    return select(StaffRow.id, StaffRow.name, StaffRow.role, StaffRow.temporary, StaffRow.created_at)


def _person(row: Row[*tuple[Any, ...]]) -> Person:
    return Person(row.id, row.name, cast(Role, row.role), row.temporary, row.created_at)


def _find(connection: Connection, person: str) -> Person:
    return _person(connection.execute(_people().where(StaffRow.id == person)).one())


def _is_name(name: str) -> ColumnElement[bool]:
    return func.lower(StaffRow.name) == name.strip().lower()


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or any(c in name for c in '<>"&@/\\'):
        raise FrontdeskError(
            f"{name[:80]!r} cannot be a name: 1 to {LONGEST_NAME} letters, as customers are to see it, say 'Anna B.'"
        )
    return name


def _keep_a_lead(connection: Connection, person: Person) -> None:
    others = connection.scalar(
        select(func.count()).where(StaffRow.role == "lead", ~StaffRow.disabled, StaffRow.id != person.id)
    )
    if person.role == "lead" and not others:
        raise FrontdeskError(f"{person.name} is the only lead; make somebody else lead first")


def _begin_session(connection: Connection, person: Person) -> SignedIn:
    now = datetime.now(UTC)
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
    row = {
        "token_hash": _key(token),
        "staff_id": person.id,
        "csrf": csrf,
        "created_at": now,
        "seen_at": now,
        "expires_at": now + LONGEST_SESSION,
    }
    connection.execute(insert(SessionRow), row)
    return SignedIn(Session(person, csrf, _key(token)), token)


def _end_sessions(connection: Connection, person: str) -> None:
    connection.execute(delete(SessionRow).where(SessionRow.staff_id == person))


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher, Type

    return PasswordHasher(type=Type.ID)


def _hashed(password: str) -> str:
    with _HASHING:
        return _hasher().hash(password)


def _fits(hashed: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        with _HASHING:
            return _hasher().verify(hashed, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


@cache
def _nobody() -> str:
    """The hash of a password that nobody has."""
    return _hashed(secrets.token_urlsafe(32))
