"""Measures what the widget costs a page, side by side with deep-chat 2.4: bytes, and seconds on a slow line.

`python -m tests.bench.widget` drives Debian's Chromium over a line of 400 ms and 50 kB/s (WebPageTest's slow 3G) and
puts one table into docs/benchmarks.md, medians of five loads with an empty cache. Both come gzipped, each from an
origin that is not the page's. Needs the parts of the widget's build: `make widget-parts`.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bot.channels.web.widget_files import FOLDER, load_widget
from tests.bench.page import put
from tests.bot.browser.conftest import ARGUMENTS
from tests.bot.browser.shops import PLAIN, Shop, open_shop
from tests.bot.browser.stands import Stand, open_stand
from tests.bot.channels.office import Scripted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOADS = 5
SLOW_3G = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
PEER = FOLDER.parent / "node_modules" / "deep-chat" / "dist" / "deepChat.bundle.js"
PEER_PAGE = '<script type="module" src="URL"></script><deep-chat style="position:fixed;bottom:0;right:0"></deep-chat>'
PEER_FIELD = "document.querySelector('deep-chat')?.shadowRoot?.querySelector('[contenteditable=true], #text-input')"


def fresh(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1200, "height": 800}).new_page()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", SLOW_3G)
    return page


def ours(browser: Browser, stand: Stand) -> tuple[float, float]:
    """Seconds until the button can be clicked, and until one can write when it is clicked at once."""
    page = fresh(browser)
    began = time.perf_counter()
    page.goto(stand.url, wait_until="commit")
    page.locator(".launcher").wait_for()
    button = time.perf_counter() - began
    page.locator(".launcher").click()
    page.locator(".field").wait_for()
    field = time.perf_counter() - began
    page.context.close()
    return button, field


def peer(browser: Browser, url: str) -> float:
    """Seconds until one can write."""
    page = fresh(browser)
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(f"() => Boolean({PEER_FIELD})")
    taken = time.perf_counter() - began
    page.context.close()
    return taken


def peer_page(page: Shop, files: Shop) -> str:
    files.put(
        "/deepChat.bundle.js",
        "",
        {
            "Content-Type": "text/javascript",
            "Content-Encoding": "gzip",
            "Access-Control-Allow-Origin": "*",
            "Cache-Control": "no-store",
        },
    )
    files.pages["/deepChat.bundle.js"] = (gzip.compress(PEER.read_bytes(), 9), files.pages["/deepChat.bundle.js"][1])
    return page.put("/peer", PLAIN.replace("TAG", PEER_PAGE.replace("URL", f"{files.url}/deepChat.bundle.js")))


def main() -> None:
    from playwright.sync_api import sync_playwright

    files = load_widget()
    small = {name: len(gzip.compress(content, 9)) for name, content in files.modules.items()}
    loader, app = len(gzip.compress(files.loader, 9)), small["app.js"]
    words = [size for name, size in small.items() if name != "app.js"]
    theirs = len(gzip.compress(PEER.read_bytes(), 9))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_stand(Path(folder), Scripted()) as stand,
        open_shop() as other,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        url = peer_page(stand.shop, other)
        taken = [(*ours(browser, stand), peer(browser, url)) for _ in range(LOADS)]
        browser.close()
    button, field, rival = (statistics.median(column) for column in zip(*taken, strict=True))
    lines = [
        "| | frontdesk | deep-chat 2.4.2 |",
        "|---|---|---|",
        f"| bytes before somebody wants to chat, gzip | {loader:,} | {theirs:,} |",
        f"| bytes with the panel, gzip | {loader + app:,} | {theirs:,} |",
        f"| another language | {min(words):,} to {max(words):,} | - |",
        f"| all of it, seven languages included | {loader + app + sum(words):,} | {theirs:,} |",
        f"| slow 3G (400 ms, 50 kB/s): button to click, s | {button:.1f} | - |",
        f"| slow 3G: one can write (clicked at once), s | {field:.1f} | {rival:.1f} |",
    ]
    print("\n".join(lines))
    put("widget", "\n".join(lines))


if __name__ == "__main__":
    main()
