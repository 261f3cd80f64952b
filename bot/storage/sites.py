"""Sites (STUB of helper `people` until `visitors` is merged: kept in memory, by the signatures of the contract)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from weakref import WeakKeyDictionary

from bot.storage.database import Database


@dataclass(frozen=True, slots=True)
class Hours:
    days: tuple[int, ...]
    opens: str
    closes: str


@dataclass(frozen=True, slots=True)
class Theme:
    colour: str = "#1f5fbf"
    text: str = ""
    greeting: str = ""
    position: Literal["right", "left"] = "right"
    mode: Literal["auto", "light", "dark"] = "auto"


@dataclass(frozen=True, slots=True)
class Site:
    id: str
    name: str
    origins: tuple[str, ...]
    link_hosts: tuple[str, ...]
    theme: Theme
    hours: tuple[Hours, ...] = ()
    time_zone: str = "UTC"
    pre_chat: tuple[Literal["name", "email"], ...] = ()
    identity_required: bool = False


_SITES: WeakKeyDictionary[Database, dict[str, Site]] = WeakKeyDictionary()


def _of(database: Database) -> dict[str, Site]:
    return _SITES.setdefault(database, {"default": Site("default", "This service", (), (), Theme())})


def create_site(database: Database, name: str, *, origins: tuple[str, ...] = (), actor: str) -> tuple[Site, str]:
    site = Site(secrets.token_urlsafe(8), name, origins, (), Theme())
    _of(database)[site.id] = site
    return site, secrets.token_urlsafe(32)


def find_site(database: Database, id: str) -> Site | None:
    return _of(database).get(id)


def all_sites(database: Database) -> list[Site]:
    return list(_of(database).values())


def change_site(database: Database, site: Site, *, actor: str) -> None:
    _of(database)[site.id] = site


def new_identity_secret(database: Database, id: str, *, actor: str) -> str:
    return secrets.token_urlsafe(32)


def is_open(site: Site, now: datetime) -> bool:
    return True
