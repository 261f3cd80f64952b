"""A service that is killed in the middle of an answer while a customer reads, in a process of its own.

What stands there is always the beginning of one attempt, and in the end the answer that is stored.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from bot.conversation.messages import Message, Turn
from bot.storage.turns import history
from tests.bot.browser.between import Site
from tests.bot.browser.conftest import Open
from tests.bot.browser.shops import PLAIN, open_shop, tag
from tests.bot.browser.stands import kept, write
from tests.bot.channels.office import PLENTY, STOREFRONT, SlowSource, open_office, turn_to, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

ATTEMPTS = (
    ("Let ", "me ", "see: ", "it ", "left ", "today."),
    ("Let ", "me ", "see: ", "it ", "left ", "today."),
    ("I ", "think ", "that it ", "left ", "on ", "Monday."),
)
"""What each attempt says, in turn: the same again after the first death, other words after the next."""

Attempt = tuple[int, int]
"""Chunks that it says before the page is back, and then while the page listens, until it is killed."""


class Ordered:
    """Says what it is told to, chunk by chunk; each answer ends where it is told to."""

    def __init__(self) -> None:
        self.orders: queue.Queue[str | None] = queue.Queue()
        self.waits = threading.Event()

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        said: list[str] = []
        while True:
            if self.orders.empty():
                self.waits.set()
            chunk = self.orders.get()
            self.waits.clear()
            if chunk is None:
                break
            said.append(chunk)
            yield chunk
        yield turn_to(message, "".join(said))


def serve(folder: Path, port: int, early: list[str]) -> None:
    """Serves until it is killed, by orders on stdin. Prints its port once `early` is said of what it owes."""
    from bot.server import Service, create_application, listen

    source = Ordered()
    with open_office(folder, source) as office:  # type: ignore[arg-type]
        for chunk in early:
            source.orders.put(chunk)
        if office.desk.resume():
            source.waits.wait(30)
        application = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY)
        listener = listen("127.0.0.1", port)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()

        def obey() -> None:
            for line in sys.stdin:
                source.orders.put(json.loads(line))

        threading.Thread(target=obey, daemon=True).start()
        Service(application, listener, drain_seconds=0.1).run()


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int

    def order(self, *chunks: str | None) -> None:
        assert self.process.stdin is not None
        for chunk in chunks:
            self.process.stdin.write(json.dumps(chunk) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(10) == -signal.SIGKILL


@contextmanager
def serving(folder: Path, port: int = 0, early: Sequence[str] = ()) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.bot.browser.test_widget_kill", str(folder), str(port), json.dumps(early)]
    with (
        (folder / "server.log").open("a") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            said = process.stdout.readline().strip()
            assert said, (folder / "server.log").read_text()[-2000:]
            yield Server(process, int(said))
        finally:
            process.kill()


WATCH = """
window.seen = [];
const root = document.querySelector("frontdesk-chat").shadowRoot;
new MutationObserver(() => {
  const text = root.querySelector(".writing .text")?.textContent;
  if (text && text !== seen.at(-1)) seen.push(text);
}).observe(root, {childList: true, characterData: true, subtree: true});
"""


def shows(page: Page, text: str) -> None:
    page.wait_for_function(
        "text => (document.querySelector('frontdesk-chat').shadowRoot.querySelector('.writing .text')"
        "?.textContent ?? '').trim() === text",
        arg=text.strip(),
    )


@dataclass
class Answers:
    """A page, and the service behind it, which is killed and comes back at the same address."""

    page: Page
    folder: Path
    server: Server
    stack: ExitStack
    number: int = 0

    def read_through(self, attempts: Sequence[Attempt]) -> None:
        """One question, answered in these attempts; all but the last are killed."""
        page, number = self.page, self.number
        self.number += 1
        page.evaluate("seen.length = 0")
        write(page, f"question {number}")
        page.locator(".customer").nth(number).wait_for()
        wait_until(lambda: page.locator(".customer.now").count() == 0)
        for place, (early, late) in enumerate(attempts):
            words = ATTEMPTS[place % len(ATTEMPTS)]
            if place:
                self.server.kill()
                self.server = self.stack.enter_context(serving(self.folder, self.server.port, words[:early]))
                page.evaluate("dispatchEvent(new Event('online'))")  # or it pauses for seconds between its attempts
            else:
                self.server.order(*words[:early])
            self.server.order(*words[early : early + late])
            if early + late:
                shows(page, "".join(words[: early + late]))
        self.server.order(*words[early + late :], None)
        page.locator(".bot[data-turn]").nth(number).wait_for()
        said = ["".join(ATTEMPTS[place % len(ATTEMPTS)]) for place in range(len(attempts))]
        for text in page.evaluate("seen"):
            assert any(whole.startswith(text.strip()) for whole in said), (attempts, text)
        assert page.locator(".bot .text").nth(number).text_content() == said[-1]
        assert page.locator(".writing").count() == 0


SAMPLE: list[list[Attempt]] = [
    [(0, 2), (0, 2)],
    [(0, 3), (1, 1)],
    [(0, 1), (3, 0)],
    [(0, 4), (0, 1), (2, 2)],
]
END = len(ATTEMPTS[0])
ALL: list[list[Attempt]] = [
    [(0, cut), (early, late)] for cut in range(END + 1) for early in range(END + 1) for late in (0, 1)
    if early + late <= END
] + [[(0, cut), (early, 1), (late, 1)] for cut in (1, 4) for early in (0, 2) for late in (0, 1, 5)]  # fmt: skip


@pytest.mark.parametrize("cases", [SAMPLE, pytest.param(ALL, marks=pytest.mark.campaign)], ids=["sample", "all"])
def test_a_kill_at_any_point_of_an_answer_repeats_no_word(
    open_widget: Open, tmp_path: Path, cases: list[list[Attempt]]
) -> None:
    with ExitStack() as stack:
        shop = stack.enter_context(open_shop())
        with open_office(tmp_path, SlowSource()) as office:
            Site.of(office, shop.url)
        server = stack.enter_context(serving(tmp_path))
        shop.put("/", PLAIN.replace("TAG", tag(f"http://127.0.0.1:{server.port}")))
        page = open_widget(url=shop.url, calm=False)
        page.evaluate(WATCH)
        answers = Answers(page, tmp_path, server, stack)
        for attempts in cases:
            answers.read_through(attempts)
        conversation = kept(page)["id"]
        page.close()
        answers.server.kill()
        with open_office(tmp_path, SlowSource()) as office:
            stored = [turn.reply.text for turn in history(office.database, conversation)]
        assert stored == ["".join(ATTEMPTS[(len(each) - 1) % len(ATTEMPTS)]) for each in cases]


def test_the_services_own_page_repeats_no_word_either_and_is_back_with_the_network(
    open_page: Open, tmp_path: Path
) -> None:
    with serving(tmp_path) as server:
        page = open_page(url=f"http://127.0.0.1:{server.port}", calm=False)
        page.fill("#text", "hello")
        page.press("#text", "Enter")
        server.order(*ATTEMPTS[0][:3])
        text = page.locator(".said.bot .text")
        expect(text).to_have_text("Let me see:")
        page.clock.install()
        page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # from here on no pause ends by itself
        server.kill()
        with serving(tmp_path, server.port, ATTEMPTS[0][:1]) as again:
            page.evaluate("dispatchEvent(new Event('online'))")
            again.order(ATTEMPTS[0][1])
            expect(text).to_have_text("Let me")
            again.order(*ATTEMPTS[0][2:], None)
            page.locator(".said.bot[data-turn]").wait_for()
            expect(text).to_have_text("".join(ATTEMPTS[0]))
            page.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
