"""Hostile text wherever text can stand in the widget, in a real browser: shown, and never run, loaded or leaked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert

from bot.conversation.messages import Citation, Message, Turn, readable
from bot.storage.handover import Agent
from bot.storage.tables import FileRow
from tests.bot.browser.between import SHOP
from tests.bot.browser.conftest import Open
from tests.bot.browser.stands import Stand, open_panel, open_stand
from tests.bot.browser.test_injection import SAMPLE, TRAP, batches, payloads, to_type
from tests.bot.channels.office import turn_to, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["payloads"]  # the fixture of the chat page's test: the same sample, and all of it in the campaign

ROOTED = "document.querySelector('frontdesk-chat').shadowRoot"
PROVOKE = f"""
() => {{
  // any handler that an attack brought would be an attribute, which counts at once; these run what is bound otherwise
  const events = ["load", "error", "focus", "mouseover", "pointerover", "animationstart", "toggle", "begin", "wheel"];
  for (const node of {ROOTED}.querySelectorAll(".log *, .earlier *, .welcome *, h2, .upload")) {{
    for (const name of node.getAttributeNames()) if (name.startsWith("on")) window.__ran = (window.__ran || 0) + 1;
    for (const name of events) node.dispatchEvent(new Event(name));
    if (/^(javascript|data|vbscript):/i.test(node.href || "")) node.click();
  }}
  return window.__ran || 0;
}}
"""
OURS = (
    "section, header, footer, div, h2, bdi, h3, p, span, button, svg, path, circle, a, ul, ol, li, i, textarea, form, "
    "input, time, code, pre, strong, em, table, thead, tbody, tr, th, td, label, fieldset, legend"
)
FOREIGN = f"[...{ROOTED}.querySelectorAll('.panel *:not({OURS})')].map((node) => node.outerHTML)"
LINKS = (
    f"[...{ROOTED}.querySelectorAll('.log a')]"
    ".map((link) => [link.closest('.sources') ? 'source' : link.className, link.href])"
)


class Hostile:
    """Says the attack back in every place that a turn has, in pieces of one to seven characters; also set out."""

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        attack = message.text
        said = f"{attack}\n\n- {attack}\n\n{attack} | {attack}\n{attack} | {attack}\n\n"
        said += f"[{attack}]({attack}) **{attack}** [1]"
        size = 1 + len(attack) % 7
        pieces = [said[start : start + size] for start in range(0, min(len(said), 400), size)]
        yield from pieces
        yield said[len(pieces) * size :] or "."
        addresses = (attack, f"javascript:{attack}", f"//evil.example/{attack}", f"https://evil.example/{attack}")
        citations = tuple(Citation(attack, address, attack, attack) for address in addresses)
        yield turn_to(message, said, status="grounded", citations=citations, suggestions=(attack,))


def test_attacks_in_a_conversation_are_shown_as_text(
    open_widget: Open, payloads: Sequence[str], tmp_path: Path
) -> None:
    """Whole: as visitor message, bot text, title, suggestion, agent's words and name, and file name."""
    assert len(payloads) >= SAMPLE
    with open_stand(tmp_path, Hostile()) as stand:  # type: ignore[arg-type]
        page = open_widget(url=stand.shop.url)
        page.add_init_script(TRAP)
        for batch in batches(payloads):
            conversation = begin(page, stand)
            for text in batch:
                stand.office.desk.answer(
                    Message(uuid.uuid4().hex, conversation, conversation, "web", text, datetime.now(UTC))
                )
            say_all(stand, conversation, batch)
            page.reload()
            page.locator(".launcher").wait_for()
            open_panel(page)
            page.locator(".agent").nth(len(batch) - 1).wait_for()
            assert page.evaluate(PROVOKE) == 0
            shown = page.evaluate(
                f"[...{ROOTED}.querySelectorAll('.customer > .text')].map((node) => node.textContent)"
            )
            assert shown == [readable(text) for text in batch]
            names = page.evaluate(f"[...{ROOTED}.querySelectorAll('.file .title')].map((node) => node.textContent)")
            assert names == list(batch)
            assert page.evaluate(FOREIGN) == []
            for place, link in page.evaluate(LINKS):
                ours = link.startswith(stand.service.url)
                assert (
                    ours
                    or (link.startswith("https://") and place != "")
                    or link.startswith(("https://larkmoor.example", "mailto:"))
                )
        page.close()


def say_all(stand: Stand, conversation: str, batch: Sequence[str]) -> None:
    """Agents with these names say these texts, and files with these names lie there, as no door would let them in."""
    before = ""
    for text in batch:
        agent = Agent(uuid.uuid5(uuid.NAMESPACE_OID, text).hex, text)  # some texts come twice, and names are unique
        stand.site.takes(conversation, agent, instead_of=before)
        before = agent.id
        stand.office.desk.reply(conversation, agent, uuid.uuid4().hex, text)
    row = {"conversation_id": conversation, "after": len(batch), "bytes": 3, "type": "image/png"}
    rows = [
        row | {"id": f"{number:03}-{uuid.uuid4().hex}", "name": name, "created_at": datetime.now(UTC)}
        for number, name in enumerate(batch)
    ]
    stand.office.database.write(lambda connection: connection.execute(insert(FileRow), rows))


def begin(page: Page, stand: Stand) -> str:
    """A conversation of this browser."""
    from bot.storage.conversations import start_conversation

    started = start_conversation(stand.office.database, channel="web", site=SHOP)
    stand.site.tokens[started.id] = started.token
    record = json.dumps({"id": started.id, "token": started.token, "status": "open"})
    page.evaluate("record => { localStorage.setItem('frontdesk.shop', record); sessionStorage.clear(); }", record)
    return started.id


def test_attacks_are_text_while_they_are_written(open_widget: Open, payloads: Sequence[str], tmp_path: Path) -> None:
    """Typed by the customer, and streamed back a few characters at a time."""
    with open_stand(tmp_path, Hostile()) as stand:  # type: ignore[arg-type]
        page = open_widget(url=stand.shop.url)
        page.add_init_script(TRAP)
        for batch in batches(to_type(payloads)):
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
            page.reload()
            open_panel(page)
            for number, text in enumerate(batch):
                page.locator(".field").fill(text)
                page.locator(".field").press("Enter")
                page.locator(".bot[data-turn]").nth(number).wait_for()
            assert page.evaluate(PROVOKE) == 0
            assert page.evaluate(FOREIGN) == []
            wait_until(lambda batch=batch: len(stand.asked()) == len(batch))
        page.close()


def test_attacks_in_what_the_site_says_of_itself_are_text(
    open_widget: Open, payloads: Sequence[str], stand: Stand
) -> None:
    """Title, greeting, hours and starters come from the console, which other staff write."""
    page = open_widget(closed=True)
    page.add_init_script(TRAP)
    try:
        for text in payloads[:: max(1, len(payloads) // 12)]:
            stand.site.says |= {"title": text, "greeting": text, "open": False, "hours_text": text}
            stand.site.says |= {
                "suggestions": {"en": [text]},
                "colour": text,
                "link_hosts": [text],
                "mode": text,
            }
            page.evaluate("sessionStorage.clear()")
            page.reload()
            open_panel(page)
            page.locator(".starters .card").wait_for()
            assert page.evaluate(PROVOKE) == 0
            assert page.evaluate(FOREIGN) == []
            assert page.locator(".starters .card").text_content() == text
    finally:
        stand.site.says.clear()
