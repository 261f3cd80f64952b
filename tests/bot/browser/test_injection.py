"""Hostile text, wherever text can stand on a page, in a real browser: it is shown and never runs, loads or leaks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error

from bot.conversation.messages import Citation, Message, Turn, readable
from bot.server import Service
from tests.bot.browser.conftest import Open, Watch
from tests.bot.channels.office import API, Office, laid_out, open_office, serving, turn_to, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SAMPLE = 300
PER_PAGE = 25


@pytest.fixture(scope="module", params=["sample", pytest.param("all", marks=pytest.mark.campaign)])
def payloads(shared_datasets: Path, request: pytest.FixtureRequest) -> list[str]:
    """A fixed sample, the same every time, spread evenly over both collections; all of them in the campaign."""
    naughty: list[str] = json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8"))
    scripts = (shared_datasets / "attacks" / "xss.txt").read_text("utf-8").splitlines()
    everything = [text for text in [*naughty, *scripts] if readable(text) and len(text) <= 4_000]
    assert len(everything) > 6_500
    return everything if request.param == "all" else everything[:: len(everything) // SAMPLE][:SAMPLE]


class Hostile:
    """An assistant that says the attack back in every place that a turn has, a few characters at a time."""

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        attack = message.text
        for start in range(0, len(attack), 5):
            yield attack[start : start + 5]
        citations = tuple(
            Citation(attack, address, attack, attack)
            for address in (
                attack,
                f"javascript:{attack}",
                f"//evil.example/{attack}",
                f"https://evil.example/{attack}",
            )
        )
        yield turn_to(message, attack, status="grounded", citations=citations, suggestions=(attack,))


TRAP = """
for (const name of ["alert", "confirm", "prompt", "print"]) {
  window[name] = () => { window.__ran = (window.__ran || 0) + 1; };
}
void 0;
"""
PROVOKE = """
() => {
  const names = [...Object.keys(HTMLElement.prototype), ...Object.keys(window)];
  const events = names.filter((name) => /^on[a-z]+$/.test(name));
  for (const node of document.querySelectorAll("body, body *")) {
    if (node.closest(".top, footer, .welcome, .verdict, .next, .sources, .ref")) continue;
    for (const name of new Set([...events, ...node.getAttributeNames()])) {
      if (name.startsWith("on")) node.dispatchEvent(new Event(name.slice(2)));
    }
    if (/^(javascript|data|vbscript):/i.test(node.href || "")) node.click();
  }
  return window.__ran || 0;
}
"""
OPEN = """
async (api) => {
  const opened = await (await fetch(`${api}/conversations`, {method: "POST"})).json();
  const known = {id: opened.conversation_id, token: opened.token};
  localStorage.setItem("frontdesk.conversation", JSON.stringify(known));
  return known.id;
}
"""
OURS = "main, div, section, h1, h2, p, span, button, svg, path, circle, img, a, ul, li, i, noscript"


def test_attacks_in_a_conversation_are_shown_as_text(open_page: Open, payloads: Sequence[str], tmp_path: Path) -> None:
    assert len(payloads) >= SAMPLE
    with open_office(tmp_path, Hostile()) as office, serving(office.application) as service:  # type: ignore[arg-type]
        page = open_page(url=service.url)
        page.add_init_script(TRAP)
        for batch in batches(payloads):
            conversation = page.evaluate(OPEN, API)
            for text in batch:
                office.desk.answer(
                    Message(uuid.uuid4().hex, conversation, conversation, "web", text, datetime.now(UTC))
                )
            page.reload()
            page.locator(".said.bot[data-turn]").nth(len(batch) - 1).wait_for()
            assert page.evaluate(PROVOKE) == 0
            shown = page.evaluate("[...document.querySelectorAll('.customer .text')].map((node) => node.textContent)")
            assert shown == [readable(text) for text in batch]
            assert page.evaluate(f"document.querySelectorAll('main *:not({OURS})').length") == 0
            links = page.evaluate("[...document.links].map((link) => link.href)")
            assert all(link.startswith((service.url, "https://")) for link in links)
        page.close()


def test_attacks_are_text_while_they_are_written(open_page: Open, payloads: Sequence[str], tmp_path: Path) -> None:
    with open_office(tmp_path, Hostile()) as office, serving(office.application) as service:  # type: ignore[arg-type]
        page = open_page(url=service.url)
        page.add_init_script(TRAP)
        for batch in batches(to_type(payloads)):
            page.evaluate("localStorage.clear()")
            page.reload()
            page.wait_for_selector("body[data-ready]")
            for number, text in enumerate(batch):
                page.fill("#text", text)
                page.press("#text", "Enter")
                page.locator(".said.bot[data-turn]").nth(number).wait_for()
            assert page.evaluate(PROVOKE) == 0
            assert page.evaluate(f"document.querySelectorAll('main *:not({OURS})').length") == 0
        page.close()


def test_attacks_in_an_article_are_shown_as_text(
    open_page: Open, office: Office, service: Service, payloads: Sequence[str]
) -> None:
    page = open_page("/?article")
    page.add_init_script(TRAP)
    for number, batch in enumerate(batches(payloads)):
        parts = [(readable(each), f"{each}\n\n- {each}\n\n{each} | {each}\n{each} | {each}") for each in batch]
        office.shelf.put(laid_out(f"attack{number}.md", batch[0], *parts))
        page.goto(f"{service.url}/articles/attack{number}.md")
        assert page.locator("article").inner_text().strip()
        assert page.evaluate(PROVOKE) == 0
        assert (
            page.evaluate("document.querySelectorAll('article :is(img, script, style, svg, iframe, object)').length")
            == 0
        )


def test_the_same_attacks_do_run_where_nothing_stops_them(browser: Browser, payloads: Sequence[str]) -> None:
    """The control: a sample that ran nowhere would prove nothing about our pages, the widget or the inbox."""
    ran = 0
    for batch in batches(payloads):
        context = browser.new_context()  # some attacks leave windows and pages that cannot go on for long
        watch = Watch(context)
        context.route("**/*", lambda route: route.abort())
        page = context.new_page()
        assert not run_raw(page, "harmless")
        run_raw(page, "<img src=https://evil.example/pixel>")
        wait_until(lambda page=page, watch=watch: page.evaluate("1") and "https://evil.example/pixel" in watch.foreign)
        ran += sum(run_raw(page, text) for text in batch)
        context.close()
    assert ran > max(len(payloads) // 3, 2_500 * (len(payloads) > SAMPLE))


def run_raw(page: Page, text: str) -> bool:
    """Whether the text runs when it is the page, which is what a careless program makes of it."""
    for _ in range(5):
        with suppress(Error):  # an attack before this one is still on its way elsewhere
            page.goto("about:blank")
            break
    page.evaluate(TRAP)
    page.evaluate("text => { document.open(); document.write(`<body>${text}`); document.close(); }", text)
    try:
        page.evaluate(PROVOKE)
        return bool(page.evaluate("new Promise((done) => setTimeout(() => done(window.__ran || 0), 20))"))
    except Error:  # it took the page elsewhere: that is running too
        return True


def to_type(payloads: Sequence[str]) -> Sequence[str]:
    """What is typed and streamed back, which takes its time: of the sample a part, in the campaign everything."""
    lines = [text for text in payloads if "\n" not in text]
    return lines if len(payloads) > SAMPLE else lines[::15]


def batches(payloads: Sequence[str], per_page: int = PER_PAGE) -> Iterator[Sequence[str]]:
    for start in range(0, len(payloads), per_page):
        yield payloads[start : start + per_page]
