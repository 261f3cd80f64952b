"""Staff at a browser: a page of the console in a fresh profile, signed in by cookie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.console.access import COOKIE
from bot.storage.people import Role, sign_in
from tests.bot.channels.office import Office
from tests.bot.console.staff import employ

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.bot.browser.conftest import Open


def at_console(
    open_page: Open, office: Office, role: Role, name: str = "", path: str = "/inbox", **more: object
) -> Page:
    """The page `path` of the console, as a new member of the staff in this role sees it."""
    page = open_page("/console/login", **more)
    token = sign_in(office.database, employ(office, role, name=name)).token
    origin = page.evaluate("location.origin")
    page.context.add_cookies([{"name": COOKIE, "value": token, "url": f"{origin}/console/"}])
    page.goto(f"{origin}/console{path}")
    page.wait_for_selector("body[data-ready]")
    return page
