"""Accounts, passwords and sessions of the staff."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from bot import FrontdeskError
from bot.storage.database import Database
from bot.storage.handover import Agent
from bot.storage.people import (
    IDLE,
    LONGEST_SESSION,
    add_person,
    all_people,
    change_role,
    check_password,
    choose_password,
    find_person,
    find_session,
    may,
    new_password,
    one_time_password,
    remove_person,
    sign_in,
    sign_out,
)
from tests.bot.storage.faulty_disk import FULL, faulty_disk
from tests.bot.storage.sample import hire, open_record


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def everything(database: Database) -> str:
    """The whole record as text, to look for what must not be in it."""
    with database.read() as connection:
        tables = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        return "\n".join(str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in tables)


@pytest.mark.slow
def test_a_one_time_password_opens_once_chosen_ones_after(database: Database) -> None:
    person, password = add_person(database, " Anna  B. ", "lead", actor="test")
    assert (person.name, person.role, person.temporary) == ("Anna B.", "lead", True)
    assert check_password(database, "anna b.", password) == person
    assert check_password(database, "Anna B.", password + "x") is None
    assert check_password(database, "Nobody", password) is None
    before = sign_in(database, person)
    signed = choose_password(database, person, "three plain words")
    now = datetime.now(UTC)
    assert find_session(database, before.token, now) is None, "a chosen password ends what was open"
    assert find_session(database, signed.token, now) == signed.session
    assert not signed.session.person.temporary
    assert check_password(database, "Anna B.", password) is None
    found = check_password(database, "Anna B.", "three plain words")
    assert found is not None and not found.temporary


def test_the_record_keeps_hashes_only(database: Database) -> None:
    person, password = add_person(database, "Anna", "agent", actor="test")
    signed = sign_in(database, person)
    kept = everything(database)
    assert "$argon2id$" in kept
    assert password not in kept and signed.token not in kept


def test_a_session_ends_idle_late_replaced_or_signed_out(database: Database) -> None:
    person, _ = add_person(database, "Anna", "agent", actor="test")
    signed = sign_in(database, person)
    now = datetime.now(UTC)
    minute = timedelta(minutes=1)
    assert find_session(database, signed.token, now + IDLE - minute, used=False) is not None
    assert find_session(database, signed.token, now + IDLE + minute) is None, "idle"
    moment = now
    while moment < now + LONGEST_SESSION - minute:
        assert find_session(database, signed.token, moment) is not None, "used all day"
        moment += IDLE - 2 * minute
    assert find_session(database, signed.token, now + LONGEST_SESSION + minute) is None, "a day is over"
    rotated = sign_in(database, person, before=signed.token)
    assert find_session(database, signed.token, now) is None
    assert rotated.token != signed.token and rotated.session.csrf != signed.session.csrf
    sign_out(database, rotated.token)
    assert find_session(database, rotated.token, now) is None
    assert find_session(database, "made up \ud800", now) is None


def test_looking_without_use_does_not_keep_a_session_alive(database: Database) -> None:
    signed = sign_in(database, add_person(database, "Anna", "agent", actor="test")[0])
    now = datetime.now(UTC)
    assert find_session(database, signed.token, now + IDLE / 2, used=False) is not None
    assert find_session(database, signed.token, now + IDLE * 1.2) is None


def test_a_full_disk_locks_nobody_out(tmp_path: Path) -> None:
    """What is recorded can still be read, and the staff are those who should."""
    with faulty_disk() as disk, open_record(tmp_path) as database:
        signed = sign_in(database, add_person(database, "Anna", "agent", actor="test")[0])
        disk.fault = {"write": FULL}
        assert find_session(database, signed.token, datetime.now(UTC) + timedelta(minutes=5)) == signed.session


@pytest.mark.slow
def test_who_is_removed_or_changed_is_out_at_once(database: Database) -> None:
    hire(database, Agent("lea", "Lea"))
    for change in (
        lambda person: remove_person(database, person, actor="test"),
        lambda person: change_role(database, person, "reviewer", actor="test"),
        lambda person: new_password(database, person, actor="test"),
    ):
        person, password = add_person(database, "Anna", "agent", actor="test")
        signed = sign_in(database, person)
        change(person)
        assert find_session(database, signed.token, datetime.now(UTC)) is None
        remove_person(database, person, actor="test")
        assert check_password(database, "Anna", password) is None
    again, _ = add_person(database, "anna", "agent", actor="test")
    assert again.id == person.id, "who comes back is who they were"
    assert [one.name for one in all_people(database)] == ["anna", "Lea"]


def test_the_last_lead_stays(database: Database) -> None:
    lead, _ = add_person(database, "Lea", "lead", actor="test")
    for act in (
        lambda: remove_person(database, lead, actor="x"),
        lambda: change_role(database, lead, "agent", actor="x"),
    ):
        with pytest.raises(FrontdeskError, match="only lead"):
            act()  # type: ignore[no-untyped-call]
    add_person(database, "Max", "lead", actor="test")
    remove_person(database, lead, actor="test")
    with pytest.raises(FrontdeskError, match="nobody here is called 'Lea'"):
        find_person(database, "Lea")


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "<b>Anna", "Anna\x00", "a/b", "a@b.c", "An\u202ena"])
def test_what_cannot_be_a_name_is_refused(database: Database, name: str) -> None:
    with pytest.raises(FrontdeskError, match="cannot be a name"):
        add_person(database, name, "agent", actor="test")


def test_a_name_is_given_once(database: Database) -> None:
    add_person(database, "Anna", "agent", actor="test")
    with pytest.raises(FrontdeskError, match="has an account"):
        add_person(database, "ANNA", "agent", actor="test")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Émile", "Анна Б.", "ØYSTEIN", "李雷"])
def test_a_name_in_any_script_opens_in_any_case_and_is_given_once(database: Database, name: str) -> None:
    person, password = add_person(database, name, "agent", actor="test")
    for written in (name, name.upper(), name.lower()):
        assert check_password(database, written, password) == person
        assert find_person(database, written) == person
        with pytest.raises(FrontdeskError, match="has an account"):
            add_person(database, written, "agent", actor="test")


@pytest.mark.slow
@pytest.mark.parametrize("password", ["", "short", "anna the best"[:9], "x" * 201, "Anna Bergström"])
def test_a_bad_password_is_refused(database: Database, password: str) -> None:
    person, _ = add_person(database, "Anna Bergström", "agent", actor="test")
    with pytest.raises(FrontdeskError, match="10 to 200 characters"):
        choose_password(database, person, password)


def test_the_password_that_was_given_is_not_chosen_again(database: Database) -> None:
    """Whoever made the account has read it."""
    person, given = add_person(database, "Anna", "agent", actor="test")
    with pytest.raises(FrontdeskError, match="another"):
        choose_password(database, person, given)
    found = check_password(database, "Anna", given)
    assert found is not None and found.temporary


def test_roles_are_a_ladder() -> None:
    allowed = {
        (role, needed)
        for role in ("lead", "reviewer", "agent")
        for needed in ("lead", "reviewer", "agent")
        if may(role, needed)
    }  # type: ignore[arg-type]
    assert allowed == {
        ("lead", "lead"), ("lead", "reviewer"), ("lead", "agent"),
        ("reviewer", "reviewer"), ("reviewer", "agent"), ("agent", "agent"),
    }  # fmt: skip


def test_one_time_passwords_differ() -> None:
    assert len({one_time_password() for _ in range(500)}) == 500
