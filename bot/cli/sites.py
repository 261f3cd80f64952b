"""`frontdesk sites`: the websites that show the widget, made and changed without the console.

Owns how a site is written on a command line and shown on a terminal. What a site may be is decided in the record.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from bot import FrontdeskError
from bot.cli.output import ConfigOption, JsonFlag, emit, plain
from bot.settings import load_settings

if TYPE_CHECKING:
    from bot.storage.database import Database
    from bot.storage.sites import PreChat, Site

Origins = Annotated[
    list[str] | None, typer.Option("--origin", help="A page's origin, https://shop.example; may be given often.")
]
LinkHosts = Annotated[
    list[str] | None, typer.Option("--link-host", help="A host that answers may link to; may be given often.")
]
HoursOption = Annotated[
    list[str] | None, typer.Option("--hours", help='When people are in: "Mon-Fri 09:00-17:00"; may be given often.')
]
TimeZone = Annotated[str | None, typer.Option(help="Where the hours are meant: Europe/Berlin, say.")]
AskFor = Annotated[
    list[str] | None, typer.Option("--ask", help="Asked before the first message: name, email; may be given often.")
]
Signed = Annotated[
    bool | None, typer.Option("--identity-required/--anonymous", help="Whether customers must be signed in.")
]

sites = typer.Typer(help="The websites that show the widget.", no_args_is_help=True, rich_markup_mode=None)


def register(commands: typer.Typer) -> None:
    commands.add_typer(sites, name="sites")


@sites.command()
def add(
    name: Annotated[str, typer.Argument(help="What you call the site.")],
    origin: Origins = None,
    link_host: LinkHosts = None,
    hours: HoursOption = None,
    time_zone: TimeZone = None,
    ask: AskFor = None,
    identity_required: Signed = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """A new site. Example: frontdesk sites add "Larkmoor shop" --origin https://www.larkmoor.example"""
    from bot.storage.sites import Site, change_site, checked, create_site

    wanted = _with(Site("new", name), origin, link_host, hours, time_zone, ask, identity_required)
    checked(wanted)  # before anything is stored
    with _record(config) as database:
        made, secret = create_site(database, name, origins=wanted.origins, actor=_actor())
        site = replace(wanted, id=made.id, name=made.name, origins=made.origins)
        change_site(database, site, actor=_actor())
    lines = [
        *_lines(checked(site)),
        f"secret    {secret}",
        "",
        "The secret is shown this once. Your own server signs the identities of signed-in customers with it; it must",
        "never be in a page.",
    ]
    emit(json, {**_value(site), "secret": secret}, lines)


@sites.command("list")
def list_sites(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Every site and who may embed it. Example: frontdesk sites list"""
    from bot.storage.sites import all_sites

    with _record(config) as database:
        found = all_sites(database)
    emit(json, {"sites": [_value(site) for site in found]}, [_line(site) for site in found])


@sites.command()
def show(
    site: Annotated[str, typer.Argument(help="Id of the site, as `list` shows it.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Everything about a site but its secret. Example: frontdesk sites show default"""
    with _record(config) as database:
        found = _find(database, site)
    emit(json, _value(found), _lines(found))


@sites.command()
def change(
    site: Annotated[str, typer.Argument(help="Id of the site.")],
    name: Annotated[str | None, typer.Option(help="What you call the site.")] = None,
    origin: Origins = None,
    link_host: LinkHosts = None,
    hours: HoursOption = None,
    time_zone: TimeZone = None,
    ask: AskFor = None,
    identity_required: Signed = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Change what is given; a list is replaced whole, and an empty "" empties it.
    Example: frontdesk sites change default --hours "Mon-Fri 09:00-17:00" --time-zone Europe/Berlin"""
    from bot.storage.sites import change_site

    with _record(config) as database:
        found = _find(database, site)
        named = replace(found, name=name) if name is not None else found
        wanted = _with(named, origin, link_host, hours, time_zone, ask, identity_required)
        change_site(database, wanted, actor=_actor())
        changed = _find(database, site)
    emit(json, _value(changed), _lines(changed))


@sites.command()
def secret(
    site: Annotated[str, typer.Argument(help="Id of the site.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """A new secret for signing identities; the one before it ends. Example: frontdesk sites secret default"""
    from bot.storage.sites import new_identity_secret

    with _record(config) as database:
        made = new_identity_secret(database, site, actor=_actor())
    emit(json, {"site": site, "secret": made}, [made])


@contextmanager
def _record(config: str | None) -> Iterator[Database]:
    from bot.storage.database import Database

    home = load_settings(config).home_folder
    home.folder.mkdir(parents=True, exist_ok=True)
    with Database(home.database) as database:
        yield database


def _find(database: Database, site: str) -> Site:
    from bot.storage.sites import UnknownSite, find_site

    found = find_site(database, site)
    if found is None:
        raise UnknownSite(f"there is no site {site!r}; `frontdesk sites list` names them")
    return found


def _with(
    site: Site,
    origins: Sequence[str] | None,
    link_hosts: Sequence[str] | None,
    hours: Sequence[str] | None,
    time_zone: str | None,
    ask: Sequence[str] | None,
    identity_required: bool | None,
) -> Site:
    """The site with what was given on the command line."""
    from bot.storage.sites import hours_of

    return replace(
        site,
        origins=site.origins if origins is None else tuple(filter(None, origins)),
        link_hosts=site.link_hosts if link_hosts is None else tuple(filter(None, link_hosts)),
        hours=site.hours if hours is None else tuple(one for text in filter(None, hours) for one in hours_of(text)),
        time_zone=site.time_zone if time_zone is None else time_zone,
        pre_chat=site.pre_chat if ask is None else tuple(_asked(text) for text in filter(None, ask)),
        identity_required=site.identity_required if identity_required is None else identity_required,
    )


def _asked(text: str) -> PreChat:
    from bot.storage.sites import PreChat

    for known in get_args(PreChat):
        if text == known:
            return cast(PreChat, known)
    raise FrontdeskError(f"--ask {text!r}: only name and email can be asked for")


def _actor() -> str:
    """Who sits at the terminal, for the audit."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def _value(site: Site) -> dict[str, object]:
    found = plain(site)
    assert isinstance(found, dict)
    return found


def _line(site: Site) -> str:
    return f"{site.id}  {site.name or '(our own chat page)'}  {', '.join(site.origins) or 'our own origin only'}"


def _lines(site: Site) -> list[str]:
    from bot.storage.sites import hours_text

    return [
        f"site      {site.id}",
        f"name      {site.name or '(our own chat page)'}",
        f"origins   {', '.join(site.origins) or 'our own only'}",
        f"links to  {', '.join(site.link_hosts) or 'our own articles only'}",
        f"hours     {hours_text(site) or 'always open'}",
        f"asks for  {', '.join(site.pre_chat) or 'nothing'}",
        f"customers {'signed in only' if site.identity_required else 'anonymous or signed in'}",
    ]
