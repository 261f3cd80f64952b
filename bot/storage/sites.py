"""The websites that show the widget: who may embed it, how it looks there, when people are in.

Owns what a site may be, and its secret, with which the company's own server vouches for its customers. The site
"default" always exists: the chat page on our own origin. Knows nothing about requests.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from bot import FrontdeskError
from bot.storage.conversations import note
from bot.storage.database import Database
from bot.storage.encoding import from_json, to_json
from bot.storage.tables import SiteRow

T = TypeVar("T")

DEFAULT = "default"
PreChat = Literal["name", "email"]
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_DAYS_AND_TIMES = re.compile(r"(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? (?P<times>.+)")
_TIMES = re.compile(r"(?P<opens>\d\d:\d\d)-(?P<closes>\d\d:\d\d)")
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_IPV6 = re.compile(r"[0-9a-f:.]{2,45}")
_AMBIGUOUS = set("ß\u1e9eς\u200c\u200d")
_PORTS = {"http": 80, "https": 443}
_LONGEST = 200
_MOST = 50


class UnknownSite(FrontdeskError, LookupError):
    """There is no site with this id."""


@dataclass(frozen=True, slots=True)
class Theme:
    """How the widget looks on a site. `text` stands at its head, `greeting` above the first message."""

    colour: str = "#1f5fbf"
    text: str = ""
    greeting: str = ""
    position: Literal["right", "left"] = "right"
    mode: Literal["auto", "light", "dark"] = "auto"


@dataclass(frozen=True, slots=True)
class Hours:
    """People are in on `day` (0 is Monday) from `opens` until `closes`, "HH:MM" by the site's own clock; "24:00" is
    midnight. What goes past midnight is two of these."""

    day: int
    opens: str
    closes: str


@dataclass(frozen=True, slots=True)
class Site:
    """`origins` are the pages that may embed the widget, as a browser names them (`https://shop.example`); our own
    may always. `link_hosts` are hosts that an answer may link to. Without `hours` people are always in."""

    id: str
    name: str
    origins: tuple[str, ...] = ()
    link_hosts: tuple[str, ...] = ()
    theme: Theme = Theme()
    hours: tuple[Hours, ...] = ()
    time_zone: str = "UTC"
    pre_chat: tuple[PreChat, ...] = ()
    identity_required: bool = False


def create_site(database: Database, name: str, *, origins: Sequence[str] = (), actor: str) -> tuple[Site, str]:
    """A new site, and the secret that its server signs identities with: shown here, and only replaced afterwards.

    Raises FrontdeskError listing what is wrong with the name or an origin.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "site"
    site = checked(Site(f"{slug}-{secrets.token_hex(3)}", name.strip(), tuple(origins)))
    secret = _new_secret()

    def create(connection: Connection) -> tuple[Site, str]:
        _save(connection, site, secret)
        note(connection, actor=actor, action="site", subject=site.id, detail="created")
        return site, secret

    return database.write(create)


def find_site(database: Database, site: str) -> Site | None:
    """The site of that id, None if there is none; "" is the default site, which always exists."""
    with database.read() as connection:
        row = connection.execute(select(SiteRow.__table__).where(SiteRow.id == (site or DEFAULT))).one_or_none()
    if row is not None:
        return _site(row)
    return Site(DEFAULT, "") if site in ("", DEFAULT) else None


def all_sites(database: Database) -> list[Site]:
    """Every site, the default one first, then in the order made."""
    with database.read() as connection:
        rows = connection.execute(select(SiteRow.__table__).order_by(SiteRow.created_at, SiteRow.id)).all()
    sites = [_site(row) for row in rows]
    default = next((site for site in sites if site.id == DEFAULT), Site(DEFAULT, ""))
    return [default, *(site for site in sites if site.id != DEFAULT)]


def change_site(database: Database, site: Site, *, actor: str) -> None:
    """Stores a site as it is now. Raises UnknownSite, or FrontdeskError listing what is wrong with it."""
    wanted = checked(site)

    def change(connection: Connection) -> None:
        _save(connection, wanted, _secret(connection, site.id))
        note(connection, actor=actor, action="site", subject=site.id, detail="changed")

    database.write(change)


def new_identity_secret(database: Database, site: str, *, actor: str) -> str:
    """A new secret in the place of the old one, which proves nothing from now on. Raises UnknownSite."""
    secret = _new_secret()
    found = find_site(database, site)
    if found is None:
        raise UnknownSite(f"there is no site {site!r}; `frontdesk sites list` names them")

    def replace_it(connection: Connection) -> str:
        _save(connection, found, secret)
        note(connection, actor=actor, action="site", subject=found.id, detail="new secret")
        return secret

    return database.write(replace_it)


def identity_secret(database: Database, site: str) -> str:
    """The secret to check identities with; empty for a site that has none yet. Never shown to anybody."""
    with database.read() as connection:
        return connection.scalar(select(SiteRow.identity_secret).where(SiteRow.id == (site or DEFAULT))) or ""


def is_open(site: Site, now: datetime) -> bool:
    """Whether people are in at `now`, which has a zone."""
    if not site.hours:
        return True
    there = now.astimezone(ZoneInfo(site.time_zone))
    clock = there.strftime("%H:%M")
    return any(one.day == there.weekday() and one.opens <= clock < one.closes for one in site.hours)


def hours_text(site: Site) -> str | None:
    """The hours in one line, days with the same ones together: "Mon-Fri 09:00-17:00 (Europe/Berlin)"."""
    return f"{'; '.join(hours_lines(site.hours))} ({site.time_zone})" if site.hours else None


def hours_lines(hours: Sequence[Hours]) -> list[str]:
    """Hours as people write them, neighbouring days with the same ones together: "Mon-Fri 09:00-12:00, 13:00-17:00"."""
    by_day = [
        ", ".join(f"{one.opens}-{one.closes}" for one in sorted(hours, key=lambda h: h.opens) if one.day == day)
        for day in range(7)
    ]
    lines, day = [], 0
    while day < 7:
        last = day
        while last < 6 and by_day[last + 1] == by_day[day]:
            last += 1
        if by_day[day]:
            lines.append(f"{DAYS[day] if last == day else f'{DAYS[day]}-{DAYS[last]}'} {by_day[day]}")
        day = last + 1
    return lines


def hours_of(line: str) -> tuple[Hours, ...]:
    """What one line of `hours_lines` says. Raises FrontdeskError for any other; times are judged with their site."""
    days = [day.lower() for day in DAYS]
    found = _DAYS_AND_TIMES.fullmatch(" ".join(line.lower().split()))
    first = found["first"] if found else ""
    last = (found["last"] or first) if found else ""
    times = [_TIMES.fullmatch(part.strip()) for part in found["times"].split(",")] if found else []
    if first not in days or last not in days or None in times:
        raise FrontdeskError(f'hours: {line!r} is not understood; write "Mon-Fri 09:00-17:00" or "Sat 10:00-14:00"')
    span = range(days.index(first), days.index(last) + 1)
    if not span:
        raise FrontdeskError(f"hours: {line!r}: the week begins on Monday; write what goes past Sunday as two")
    return tuple(Hours(day, one["opens"], one["closes"]) for day in span for one in times if one)


def next_opening(site: Site, now: datetime) -> datetime | None:
    """When people are in again; None while they are, and for a site whose hours hold no time at all."""
    if is_open(site, now):
        return None
    zone = ZoneInfo(site.time_zone)
    there = now.astimezone(zone)
    for ahead in range(8):
        day = (there + timedelta(days=ahead)).date()
        openings = sorted(one.opens for one in site.hours if one.day == day.weekday() and one.opens < one.closes)
        for opens in openings:
            moment = datetime.combine(day, datetime.strptime(opens, "%H:%M").time(), zone)
            if moment > there:
                return moment.astimezone(UTC)
    return None


def origin_of(text: str) -> str | None:
    """An origin as browsers write it: scheme, host in its ASCII form, port unless it is the usual one.

    None for what is no origin of a web page: `null`, a path or user name behind or before it, another scheme.
    """
    if not text.isprintable():  # the parser below drops line ends
        return None
    try:
        parts = urlsplit(text.strip().rstrip("/"))
        port = parts.port
    except ValueError:
        return None
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    if scheme not in _PORTS or parts.path or parts.query or parts.fragment or "@" in parts.netloc or "#" in text:
        return None
    if parts.netloc.startswith("["):
        return f"{scheme}://[{host}]{_port(scheme, port)}" if _IPV6.fullmatch(host) else None
    ascii_host = host_of(host)
    return f"{scheme}://{ascii_host}{_port(scheme, port)}" if ascii_host else None


def host_of(text: str) -> str | None:
    """A host name in the ASCII form that browsers compare (punycode); None for what is none, wildcards too.

    Letters that browsers and the older standard of Python's codec turn into different names are to be given as `xn--`.
    """
    if set(text) & _AMBIGUOUS or not text.isprintable():
        return None
    try:
        host = text.strip().lower().encode("idna").decode("ascii").rstrip(".")
    except UnicodeError:
        return None
    return host if _HOST.fullmatch(host) else None


def checked(site: Site) -> Site:
    """The site with its origins and hosts as browsers write them. Raises FrontdeskError listing every problem."""
    problems: list[str] = []
    if not (site.name or site.id == DEFAULT) or len(site.name) > _LONGEST:
        problems.append(f"name: {site.name!r} must have 1 to {_LONGEST} characters")
    origins = _all_good(site.origins, origin_of, "origin", "https://shop.example, no path and no wildcard", problems)
    hosts = _all_good(site.link_hosts, host_of, "link host", "help.example.com", problems)
    if not _COLOUR.fullmatch(site.theme.colour):
        problems.append(f"colour: {site.theme.colour!r} must look like #1f5fbf")
    problems += [
        f"{name}: has {len(text)} characters, at most {_LONGEST * 2} fit"
        for name, text in (("text", site.theme.text), ("greeting", site.theme.greeting))
        if len(text) > _LONGEST * 2
    ]
    for one in site.hours:
        good = _CLOCK.fullmatch(one.opens) and _CLOCK.fullmatch(one.closes) and one.opens < one.closes
        if one.day not in range(7) or not good:
            problems.append(
                f"hours: day {one.day} from {one.opens!r} until {one.closes!r}; days are 0 (Monday) to 6, "
                'times "09:00", and closing comes after opening'
            )
    try:
        ZoneInfo(site.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(f"time zone: {site.time_zone!r} is none; write one such as Europe/Berlin")
    if problems:
        raise FrontdeskError("\n".join(problems))
    return Site(
        site.id, site.name, origins, hosts, site.theme, site.hours, site.time_zone, site.pre_chat,
        site.identity_required,
    )  # fmt: skip


def _all_good(given: Sequence[str], normal: Any, what: str, example: str, problems: list[str]) -> tuple[str, ...]:
    if len(given) > _MOST:
        problems.append(f"{what}s: {len(given)} are too many, at most {_MOST} fit")
    found = []
    for text in given:
        one = normal(text)
        if one is None:
            problems.append(f"{what}: {text!r} is none; write one such as {example}")
        elif one not in found:
            found.append(one)
    return tuple(found)


def _port(scheme: str, port: int | None) -> str:
    return "" if port is None or port == _PORTS[scheme] else f":{port}"


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _secret(connection: Connection, site: str) -> str:
    """The secret of a site that exists. Raises UnknownSite."""
    found: str | None = connection.scalar(select(SiteRow.identity_secret).where(SiteRow.id == site))
    if found is None and site != DEFAULT:
        raise UnknownSite(f"there is no site {site!r}; `frontdesk sites list` names them")
    return found or ""


def _save(connection: Connection, site: Site, secret: str) -> None:
    row = {
        "name": site.name,
        "origins": to_json(tuple[str, ...], site.origins),
        "link_hosts": to_json(tuple[str, ...], site.link_hosts),
        "theme": to_json(Theme, site.theme),
        "hours": to_json(tuple[Hours, ...], site.hours),
        "time_zone": site.time_zone,
        "pre_chat": to_json(tuple[PreChat, ...], site.pre_chat),
        "identity_required": site.identity_required,
        "identity_secret": secret,
    }
    connection.execute(
        insert(SiteRow)
        .values(id=site.id, created_at=datetime.now(UTC), **row)
        .on_conflict_do_update(index_elements=["id"], set_=row)
    )


def _site(row: Row[*tuple[Any, ...]]) -> Site:
    return Site(
        id=row.id,
        name=row.name,
        origins=_value(tuple[str, ...], row.origins),
        link_hosts=_value(tuple[str, ...], row.link_hosts),
        theme=_value(Theme, row.theme),
        hours=_value(tuple[Hours, ...], row.hours),
        time_zone=row.time_zone,
        pre_chat=_value(tuple[PreChat, ...], row.pre_chat),
        identity_required=bool(row.identity_required),
    )


def _value(annotation: type[T], text: str) -> T:
    return from_json(annotation, text)
