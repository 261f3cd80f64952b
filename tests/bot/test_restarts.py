"""Restarts and swaps under load: no request fails, and no stream loses or repeats a word.

The test holds the listening socket, as systemd does for a unit with a socket: who comes between two processes waits for
the next one. Twenty restarts in the campaign, two in the sample.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from bot.conversation.messages import Message, Turn
from bot.home import Home
from bot.server import listen
from finetune.registry import Registry
from finetune.train import Fitted
from tests.bot.channels.office import PLENTY, STOREFRONT, Heard, Visitor, hear, visitor
from tests.bot.company import Company, exported, until
from tests.bot.storage.sample import turn_for
from tests.bot.test_kill import NOTHING, NoArticles
from tests.finetune.saving import live

RESTARTS = 20 if os.environ.get("FRONTDESK_CAMPAIGN") else 2
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
"""
"""Hands a socket on as the third file, to the process that it becomes."""
ASKERS = 4
LISTENERS = 3
LONG = 30.0


class Spelling:
    """Answers word by word, and says whose turn it was shown last."""

    def respond(self, asked: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        last = history[-1].message.id if history else NOTHING
        words = [f"{word} " for word in f"{last} before {asked.id} and so on to the end of it".split()]
        yield from words
        yield turn_for(asked, text="".join(words))


def serve(folder: Path) -> None:
    """Serves on the socket it was given until SIGTERM; prints a line once it does."""
    from bot.server import Service, create_application, inherited
    from bot.serving import Desk
    from bot.storage.database import Database

    listener = inherited()
    assert listener is not None
    with Database(folder / "frontdesk.sqlite3") as database:
        desk = Desk(database, Spelling())
        desk.resume()
        application = create_application(desk, database, NoArticles(), STOREFRONT, allowance=PLENTY)
        service = Service(application, listener, drain_seconds=1.0)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        service.run()
        desk.close()


@contextmanager
def process(folder: Path, held: socket.socket) -> Iterator[subprocess.Popen[str]]:
    """A service of this module on a socket that is held for it. Whoever is not told to stop is killed in the end."""
    command = [sys.executable, "-c", AS_SYSTEMD, str(held.fileno()), "tests.bot.test_restarts", str(folder)]
    with (
        (folder / "server.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, pass_fds=[held.fileno()]) as server,
    ):
        try:
            assert server.stdout is not None
            said = server.stdout.readline().strip()
            assert said, (folder / "server.log").read_text()[-2000:]
            yield server
        finally:
            server.kill()


@dataclass
class Asker:
    """A customer who says one thing after the other; `failed` is what the drain should have prevented."""

    who: Visitor
    keeps_line: bool
    answered: int = 0
    versions: set[tuple[str, str]] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def ask(self, url: str, over: Callable[[], bool], right: Callable[[Asker, str], str | None]) -> None:
        """Until `over`. `right` is the text that the message with this id must get, None for any."""
        with ExitStack() as lines:
            http = lines.enter_context(self._line(url))
            while not over():
                name = f"m-{self.answered:05d}"
                if not self.keeps_line:
                    http = lines.enter_context(self._line(url))
                try:
                    body = {"id": name, "text": "hello"}
                    path = self.who.at("/messages")
                    got = http.post(path, params={"wait": "true"}, json=body, headers=self.who.headers)
                except httpx.TransportError as error:
                    self.failed.append(f"{name}: {error!r}")
                    continue
                wanted = right(self, name)
                if got.status_code != 200 or (wanted is not None and got.json()["text"] != wanted):
                    self.failed.append(f"{name}: {got.status_code} {got.text[:200]}")
                    continue
                turn = got.json()
                self.versions.add((turn["model_version"], turn["index_version"]))
                self.answered += 1

    def _line(self, url: str) -> httpx.Client:
        return httpx.Client(base_url=url, trust_env=False, timeout=LONG)


@dataclass
class Listener:
    """A page that follows its conversation across every restart, by Last-Event-ID."""

    who: Visitor
    heard: list[Heard] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    came_back: int = 0

    def listen(self, url: str, over: Callable[[], bool]) -> None:
        while not over():
            headers = self.who.headers | {"Last-Event-ID": str(self.heard[-1].id if self.heard else 0)}
            try:
                with (
                    httpx.Client(base_url=url, trust_env=False, timeout=LONG) as http,
                    http.stream("GET", self.who.at("/events"), headers=headers) as s,
                ):
                    if s.status_code != 200:
                        self.cut.append(f"{s.status_code}")
                        continue
                    self.came_back += 1
                    for event in hear(s.iter_lines()):
                        self.heard.append(event)
                        if over():
                            return
            except httpx.TransportError as error:
                self.cut.append(repr(error))

    def judge(self, asker: Asker) -> None:
        """Ids rise, every turn came once and in order, and what was read word by word is what was stored."""
        numbers = [event.id or 0 for event in self.heard]
        assert numbers == sorted(set(numbers)), "an event came twice or out of order"
        turns = [event for event in self.heard if event.name == "turn"]
        texts = [str(turn.data["text"]) for turn in turns]
        assert texts == [spelt(asker, f"m-{n:05d}", n) for n in range(len(texts))], "a turn is missing"
        assert len(texts) >= asker.answered - 1
        words: dict[str, str] = {}
        for event in self.heard:
            if event.name == "token":
                name = str(event.data["message_id"])
                before = "" if event.data.get("restart") else words.get(name, "")
                words[name] = before + str(event.data["text"])
        for name, said in words.items():
            place = int(name.removeprefix("m-"))
            assert place >= len(texts) or said == texts[place] or texts[place].startswith(said), (said, texts[place])


def spelt(asker: Asker, name: str, place: int | None = None) -> str:
    place = asker.answered if place is None else place
    return f"{f'm-{place - 1:05d}' if place else NOTHING} before {name} and so on to the end of it "


@contextmanager
def talking(url: str, askers: list[Asker], listeners: list[Listener], exact: bool) -> Iterator[None]:
    """While this lasts everybody talks and listens; afterwards nobody does."""
    done, deaf = threading.Event(), threading.Event()
    right = spelt if exact else (lambda asker, name: None)
    threads = [threading.Thread(target=each.ask, args=(url, done.is_set, right)) for each in askers]
    pages = [threading.Thread(target=each.listen, args=(url, deaf.is_set), daemon=True) for each in listeners]
    for thread in (*threads, *pages):
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(LONG)
        deaf.set()
    with httpx.Client(base_url=url, trust_env=False, timeout=LONG) as http:
        for each in listeners:  # one more event, so that a page which waits for the next one notices that it is over
            Visitor(http, each.who.conversation, each.who.token).ask("bye", "bye")
    for page in pages:
        page.join(LONG)
        assert not page.is_alive()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_restarts_under_load_lose_no_request_and_no_word(tmp_path: Path) -> None:
    with ExitStack() as stack:
        held = stack.enter_context(listen("127.0.0.1", 0))
        server = stack.enter_context(process(tmp_path, held))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with httpx.Client(base_url=url, trust_env=False, timeout=LONG) as http:
            askers = [Asker(visitor(http), keeps_line=bool(n % 2)) for n in range(ASKERS)]
        listeners = [Listener(asker.who) for asker in askers[:LISTENERS]]
        with talking(url, askers, listeners, exact=True):
            for _ in range(RESTARTS):
                before = [asker.answered for asker in askers]
                until(lambda: all(a.answered > n + 3 for a, n in zip(askers, before, strict=True)))  # noqa: B023
                server.send_signal(signal.SIGTERM)
                assert server.wait(LONG) == 0
                server = stack.enter_context(process(tmp_path, held))
            before = [asker.answered for asker in askers]
            until(lambda: all(a.answered > n + 3 for a, n in zip(askers, before, strict=True)))
        assert [asker.failed for asker in askers] == [[] for _ in askers]
        assert [listener.cut for listener in listeners] == [[] for _ in listeners]
        for listener, asker in zip(listeners, askers, strict=False):
            assert listener.came_back > RESTARTS
            listener.heard = [event for event in listener.heard if event.data.get("message_id") != "bye"]
            listener.heard = [e for e in listener.heard if e.name != "turn" or "bye" not in str(e.data["text"])]
            listener.judge(asker)
        sys.stdout.write(
            f"{RESTARTS} restarts, {sum(a.answered for a in askers)} answers, 0 failed or refused, "
            f"{sum(listener.came_back for listener in listeners)} streams taken up again, 0 cut\n"
        )


def test_the_judge_of_streams_notices_what_is_missing_twice_or_changed(tmp_path: Path) -> None:
    """The planted faults for the test above."""
    asker = Asker(Visitor(httpx.Client(), "c", "t"), True, answered=3)

    def heard() -> list[Heard]:
        events = []
        for n in range(3):
            text = spelt(asker, f"m-{n:05d}", n)
            first, rest = text.split(" ", 1)
            for chunk, piece in enumerate((first + " ", rest)):
                data: dict[str, object] = {"message_id": f"m-{n:05d}", "text": piece}
                events.append(Heard("token", (n + 1) * 10_000 + chunk + 1, data))
            events.append(Heard("turn", (n + 1) * 10_000 + 9_000, {"text": text}))
        return events

    Listener(asker.who, heard()).judge(asker)
    for damage in (
        lambda events: events.pop(5),
        lambda events: events.insert(3, events[2]),
        lambda events: events[1].data.update(text="other words"),
        lambda events: events[8].data.update(text="nothing before m-00002 and so on to the end of it "),
        lambda events: events.reverse(),
    ):
        events = heard()
        damage(events)
        with pytest.raises(AssertionError):
            Listener(asker.who, events).judge(asker)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_new_model_and_a_new_index_are_swapped_in_under_load(company: Company, halved: Fitted) -> None:
    """The real command, watched by customers who never stop: both versions answer, and nobody notices the change."""
    with company.serving() as http:
        askers = [Asker(visitor(http), keeps_line=bool(n % 2)) for n in range(ASKERS)]
        url = str(http.base_url)
        with talking(url, askers, [], exact=False):
            until(lambda: all(asker.answered > 1 for asker in askers))
            (company.folder / "articles" / "returns.md").write_text("# Returns\n\nReturns are free for 30 days.\n")
            company.run("ingest")
            until(lambda: all(len({index for _, index in asker.versions}) > 1 for asker in askers))
            model = exported(halved.lora.model)
            version = live(Registry(Home(company.home).models), model, halved.rows.held_out)
            until(lambda: all(version in {model for model, _ in asker.versions} for asker in askers))
        assert [asker.failed for asker in askers] == [[] for _ in askers]
        assert all(len(asker.versions) >= 3 for asker in askers)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
