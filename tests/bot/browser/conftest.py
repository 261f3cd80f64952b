"""Debian's Chromium, headless, with everything that goes wrong on a page turned into a failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from bot.server import Service
from tests.bot.browser.stands import Stand, open_panel, open_stand
from tests.bot.channels.office import PATIENCE, Office, Scripted, open_office, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/bot/browser" in item.nodeid:
            item.add_marker("browser")
            item.add_marker("slow")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is missing; install it: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office"), Scripted()) as office:
        yield office


@pytest.fixture(scope="package")
def service(office: Office) -> Iterator[Service]:
    with serving(office.application) as service:
        yield service


@pytest.fixture(scope="package")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A service and a shop for all tests that only talk; every browser profile is a visitor of its own."""
    with open_stand(tmp_path_factory.mktemp("stand"), Scripted()) as stand:
        yield stand


class Watch:
    """Everything a page must not do, noted as it happens."""

    def __init__(self, context: BrowserContext) -> None:
        self.faults: list[str] = []
        self.dialogs: list[str] = []
        self.foreign: list[str] = []
        context.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        context.on("weberror", lambda error: self.faults.append(str(error.error)))
        context.on("console", lambda message: self._console(message.type, message.text))
        context.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") or "Content Security Policy" in text:
            self.faults.append(f"{kind}: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "about:")):
            self.foreign.append(url)


Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[Open]:
    """Opens the chat page, or another address, in a fresh profile. At the end nothing may have gone wrong on it."""
    contexts: list[tuple[BrowserContext, Watch, bool]] = []

    def open_page(
        path: str = "/", *, url: str = "", calm: bool = True, ready: str = "body[data-ready]", **profile: object
    ) -> Page:
        context = browser.new_context(**{"locale": "en-US", "reduced_motion": "reduce", **profile})  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append((context, Watch(context), calm))
        page = context.new_page()
        page.goto((url or service.url) + path)
        if path == "/" and ready:
            page.wait_for_selector(ready)
        return page

    yield open_page
    for context, watch, calm in contexts:
        context.close()
        assert watch.dialogs == []
        assert watch.foreign == []
        assert watch.faults == [] or not calm


@pytest.fixture
def open_widget(open_page: Open, stand: Stand) -> Open:
    """Opens a page of the shop with the widget; and the panel, unless `closed`."""

    def open_widget(path: str = "/", *, url: str = "", closed: bool = False, **profile: object) -> Page:
        page = open_page(path, url=url or stand.shop.url, ready="", **profile)
        page.locator(".launcher").wait_for()
        if not closed:
            open_panel(page)
        return page

    return open_widget
