"""A service, and a shop on another origin with the widget on its pages; what a customer does with it, as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.conversation.messages import Turn
from bot.server import Service
from bot.storage.conversations import find_conversation
from bot.storage.turns import history
from tests.bot.browser.between import SHOP, Between, Site
from tests.bot.browser.shops import PLAIN, Shop, open_shop, tag
from tests.bot.channels.office import Office, Scripted, SlowSource, Visitor, open_office, serving, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page


@dataclass(frozen=True, slots=True)
class Stand:
    office: Office
    service: Service
    shop: Shop
    site: Site
    url: str
    """A plain page of the shop with the widget on it."""

    @property
    def conversation(self) -> str:
        """The conversation that was opened last."""
        return list(self.site.tokens)[-1]

    @property
    def visitor(self) -> Visitor:
        wait_until(lambda: self.site.tokens)
        return Visitor(None, self.conversation, self.site.tokens[self.conversation])  # type: ignore[arg-type]

    @property
    def listeners(self) -> int:
        """How many streams follow the conversations of its visitor."""
        visitor = find_conversation(self.office.database, self.conversation).visitor
        return int(self.office.application.state.door.streams.open_of(visitor))

    def turns(self, conversation: str) -> tuple[Turn, ...]:
        return history(self.office.database, conversation)

    def asked(self) -> list[str]:
        """What the record holds of the last conversation, in order."""
        return [turn.message.text for turn in self.turns(self.conversation)]


@contextmanager
def open_stand(folder: Path, assistant: Scripted | SlowSource, drain_seconds: float = 0.3) -> Iterator[Stand]:
    with open_office(folder, assistant) as office, open_shop() as shop:
        site = Site.of(office, shop.url)
        office.application.add_middleware(Between, site=site)
        with serving(office.application, drain_seconds) as service:
            url = shop.put("/", PLAIN.replace("TAG", tag(service.url)))
            shop.put("/other", PLAIN.replace("TAG", tag(service.url)).replace("A shop", "Another page"))
            yield Stand(office, service, shop, site, url)


def open_panel(page: Page) -> None:
    page.locator(".launcher").click()
    page.locator(".panel").wait_for()


def write(page: Page, text: str) -> None:
    page.locator(".field").fill(text)
    page.locator(".field").press("Enter")


def ask(page: Page, text: str) -> None:
    """Write it, send it, and wait for the whole answer."""
    before = page.locator(".bot[data-turn]").count()
    write(page, text)
    page.locator(".bot[data-turn]").nth(before).wait_for()


def passes(page: Page, happened: Callable[[], object]) -> None:
    """Time on the page's own clock, a second after the other, until it happened."""

    def a_second() -> object:
        page.clock.run_for(1_000)
        return happened()

    wait_until(a_second)


def said(page: Page) -> list[str]:
    """The texts of the conversation as they are shown."""
    return page.locator(".log .text").all_inner_texts()


def kept(page: Page, site: str = SHOP) -> dict[str, Any]:
    """What the widget remembers in this browser."""
    found: dict[str, Any] | None = page.evaluate(f"JSON.parse(localStorage.getItem('frontdesk.{site}'))")
    return found or {}


def more(page: Page, item: str) -> None:
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name=item).click()
