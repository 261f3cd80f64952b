"""Hostile text in the inbox, as message, sender, answer, title, reply, note and file name: shown, and never run."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from bot.conversation.messages import Message, readable
from bot.storage.canned import all_canned, drop_canned, keep_canned
from bot.storage.conversations import start_conversation
from bot.storage.tables import FileRow
from tests.bot.browser.conftest import Open
from tests.bot.browser.console import at_console
from tests.bot.browser.test_injection import SAMPLE, TRAP, Hostile, batches, payloads
from tests.bot.channels.office import Office, open_office, serving
from tests.bot.storage.sample import ANNA, hire

__all__ = ["payloads"]  # the fixture of the chat page's test: the same sample, and all of it in the campaign

PER_PAGE = 50
OURS = (
    "main, div, section, header, aside, article, nav, details, summary, form, input, textarea, label, h1, h2, h3, p,"
    " span, button, a, ul, li, dl, dt, dd, time, b, small, kbd, code"
)
PROVOKE = """
() => {
  const names = [...Object.keys(HTMLElement.prototype), ...Object.keys(window)];
  const events = names.filter((name) => /^on[a-z]+$/.test(name));
  const ours = "form, button, summary, .top, .composer, .bar, .tabs, .items, label, input, textarea";
  for (const node of document.querySelectorAll("main *")) {
    if (node.closest(ours)) continue;
    for (const name of new Set([...events, ...node.getAttributeNames()])) {
      if (name.startsWith("on")) node.dispatchEvent(new Event(name.slice(2)));
    }
    if (/^(javascript|data|vbscript):/i.test(node.href || "")) node.click();
  }
  return window.__ran || 0;
}
"""


def test_attacks_in_the_inbox_are_shown_as_text(open_page: Open, payloads: Sequence[str], tmp_path: Path) -> None:
    assert len(payloads) >= SAMPLE
    with open_office(tmp_path, Hostile()) as office, serving(office.application) as service:  # type: ignore[arg-type]
        hire(office.database)
        page = at_console(open_page, office, "lead", url=service.url)
        page.add_init_script(TRAP)
        for batch in batches(payloads, PER_PAGE):
            conversation = told(office, batch)
            page.goto(f"{service.url}/console/inbox/{conversation}?view=open")
            page.locator("#draft-text").wait_for(state="attached")
            assert page.evaluate(PROVOKE) == 0
            for kind in ("customer", "bot", "agent", "note"):
                shown = page.locator(f"#story .said.{kind} .text").all_text_contents()
                assert shown == [readable(text) for text in batch], kind
            assert page.locator(".file .name").all_text_contents() == list(batch)
            # a refresh goes the way of htmx, which puts HTML into the page
            office.desk.leave_note(conversation, ANNA, uuid.uuid4().hex, readable(batch[0]))
            page.locator("#story .said.note").nth(len(batch)).wait_for()
            assert page.evaluate(PROVOKE) == 0
            assert page.evaluate(f"document.querySelectorAll('main *:not({OURS})').length") == 0
            links = page.evaluate("[...document.links].map((link) => link.href)")
            assert all(link.startswith((service.url, "https://")) for link in links)
            page.goto(f"{service.url}/console/replies")
            assert page.evaluate(PROVOKE) == 0
            assert page.evaluate(f"document.querySelectorAll('main *:not({OURS})').length") == 0
            for one in all_canned(office.database):  # or every page shows those of all before it
                drop_canned(office.database, one.id)
        page.close()


def told(office: Office, batch: Sequence[str]) -> str:
    """A conversation in which every attack stands in every place that the inbox shows."""
    sender = batch[0]
    conversation = start_conversation(office.database, channel="web", sender=sender, site=batch[-1][:64]).id
    for number, text in enumerate(batch):
        office.desk.answer(Message(f"m{number}", conversation, sender, "web", text, datetime.now(UTC)))
        if readable(text):
            keep_canned(office.database, readable(text)[:80], text)
    office.desk.take(conversation, ANNA)
    for text in batch:
        office.desk.reply(conversation, ANNA, uuid.uuid4().hex, text)
        office.desk.leave_note(conversation, ANNA, uuid.uuid4().hex, text)
    # As they came, which the door would not let in: the inbox must stand even so.
    row = {"conversation_id": conversation, "after": 1, "bytes": 1_024, "type": "image/png"}
    rows = [
        row | {"id": f"{number:03}-{uuid.uuid4().hex}", "name": name, "created_at": datetime.now(UTC)}
        for number, name in enumerate(batch)
    ]
    office.database.write(lambda connection: connection.execute(insert(FileRow), rows))
    return conversation
