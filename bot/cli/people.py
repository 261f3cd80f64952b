"""Commands on the staff: the first account, everybody's, and taking one away."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from bot import FrontdeskError
from bot.cli.output import ConfigOption, JsonFlag, emit, note
from bot.settings import load_settings

if TYPE_CHECKING:
    from bot.storage.database import Database
    from bot.storage.people import Person

people = typer.Typer(help="Who may sign in to the console.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What they sign in with, and what customers see.")]


def register(commands: typer.Typer) -> None:
    people.command()(add)
    people.command(name="list")(list_people)
    people.command()(password)
    people.command()(remove)
    commands.add_typer(people, name="people")


def add(
    name: Name,
    role: Annotated[str, typer.Option(help="lead, reviewer or agent.")] = "agent",
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Make an account and print its one-time password. Example: frontdesk people add Anna --role lead"""
    from bot.storage.people import ROLES, add_person

    known = next((one for one in ROLES if one == role), None)
    if known is None:
        raise FrontdeskError(f"--role {role}: not known; use one of: {', '.join(ROLES)}")
    with _record(config) as database:
        person, one_time = add_person(database, name, known, actor="command line")
    _show(json, person, one_time, f"{person.name} is {'an' if person.role == 'agent' else 'a'} {person.role}")


def password(name: Name, json: JsonFlag = False, config: ConfigOption = None) -> None:
    """A new one-time password for who forgot theirs; their sessions end. Example: frontdesk people password Anna"""
    from bot.storage.people import find_person, new_password

    with _record(config) as database:
        person = find_person(database, name)
        one_time = new_password(database, person, actor="command line")
    _show(json, person, one_time, f"{person.name} can no longer sign in with the password they had")


def _show(json: bool, person: Person, password: str, done: str) -> None:
    if not (json or sys.stdout.isatty()):
        note("the password is printed this once; mind where this output goes")
    lines = [done, f"one-time password: {password}", "they sign in at /console and choose their own"]
    emit(json, {"name": person.name, "role": person.role, "password": password}, lines)


def list_people(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Everybody who may sign in. Example: frontdesk people list"""
    from bot.storage.people import all_people

    with _record(config) as database:
        found = all_people(database)
    value = [{"name": p.name, "role": p.role, "signed_in": not p.temporary, "since": f"{p.created_at}"} for p in found]
    width = max((len(person.name) for person in found), default=0)
    lines = [
        f"{person.name:{width}}  {person.role}{'  (has not signed in yet)' if person.temporary else ''}"
        for person in found
    ]
    emit(
        json,
        {"people": value},
        lines or ["nobody yet; `frontdesk people add NAME --role lead` makes the first account"],
    )


def remove(name: Name, json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Take an account away; what they wrote stays. Example: frontdesk people remove Anna"""
    from bot.storage.people import find_person, remove_person

    with _record(config) as database:
        person = find_person(database, name)
        remove_person(database, person, actor="command line")
    emit(json, {"removed": person.name}, [f"{person.name} can no longer sign in"])


@contextmanager
def _record(config: str | None) -> Iterator[Database]:
    from bot.storage.database import Database

    home = load_settings(config).home_folder
    home.folder.mkdir(parents=True, exist_ok=True)
    with Database(home.database) as database:
        yield database
