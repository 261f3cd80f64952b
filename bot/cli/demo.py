"""`frontdesk demo`: the sample company from nothing to a chat page and a shop with the widget, or ten questions that
prove it works.

Owns the order of the steps, the shop's page on an origin of its own, and the judging of the ten answers. Every step is
one of the other commands.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote
from urllib.request import Request, urlopen

import typer

from bot import FrontdeskError
from bot.cli import knowledge, learning
from bot.cli.output import note
from bot.golden import GoldenRow, read_golden
from bot.home import running_service
from bot.settings import Settings, load_settings

SAMPLE = Path("data/frontdesk.toml")
SHOP = "Larkmoor demo shop"
RIGHT_NEEDED = 9
SECONDS_TO_START = 120.0


def register(commands: typer.Typer) -> None:
    commands.command()(demo)


def demo(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the chat page.")] = 8080,
    check: Annotated[bool, typer.Option("--check", help="Ask ten questions over HTTP and end with 0 or 1.")] = False,
) -> None:
    """The sample company end to end: ingest, train, serve, open the page. Example: frontdesk demo --check"""
    if not SAMPLE.is_file():
        raise FrontdeskError(
            f"{SAMPLE}: not here; run the demo in the folder that holds Frontdesk's data/ and README.md"
        )
    config = str(SAMPLE)
    settings = load_settings(config)
    note("1/3 reading the sample company's articles")
    knowledge.ingest(None, config=config)
    note("2/3 learning from its labelled messages and old chats")
    learning.import_transcripts(SAMPLE.parent / "transcripts.jsonl", "jsonl", config=config)
    learning.train_unless_known(config)
    if check:
        note("3/3 asking ten questions over HTTP")
        with _service(settings, 0) as (_, url):
            raise typer.Exit(0 if _ask_ten(url) else 1)
    note("3/3 opening the service; things to try on the page:")
    for row in _questions():
        note(f"      {row.text}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # so that the service ends with us
    with suppress(KeyboardInterrupt), _service(settings, port) as (process, url), open_shop(settings, url) as shop:
        note(f"the chat page: {url}   the widget on a shop's page: {shop}   for agents: {url}/console")
        process.wait()


def _questions() -> tuple[GoldenRow, ...]:
    return read_golden(SAMPLE.parent / "demo.jsonl")


@contextmanager
def _service(settings: Settings, port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The real service in a process of its own, which has nothing of the training in memory; port 0 is any free one."""
    if running_service(settings.home) is not None:
        raise FrontdeskError(f"{settings.home}: a service runs there already; stop it, then try again")
    command = [sys.executable, "-m", "bot", "serve", "--port", str(port), "--config", str(SAMPLE)]
    process = subprocess.Popen(command, stdout=sys.stderr, env=os.environ)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while (found := running_service(settings.home)) is None or not _ready(found.url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise FrontdeskError("the service did not start; see its messages above")
            time.sleep(0.1)
        yield process, found.url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def open_shop(settings: Settings, service: str, folder: Path = SAMPLE.parent / "shop") -> Iterator[str]:
    """The shop's page on a free port, which is another origin than that of `service`, and a site that allows it."""
    from bot.storage.database import Database
    from bot.storage.sites import Theme, all_sites, change_site, create_site

    page = (folder / "index.html").read_text("utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Shop) as server:
        origin = f"http://127.0.0.1:{server.server_port}"
        with Database(settings.home_folder.database) as database:
            site = next((one for one in all_sites(database) if one.name == SHOP), None)
            if site is None:
                site, _ = create_site(database, SHOP, actor="demo")
                site = replace(site, theme=Theme(colour="#14584c", text="Larkmoor Outfitters"))
            change_site(database, replace(site, origins=(origin,)), actor="demo")
        # The page says where the service usually is, and `shop` for the id that a site gets when it is made.
        tag = f'src="{service}/widget.js" data-site="{site.id}"'
        page = page.replace('src="http://127.0.0.1:8080/widget.js" data-site="shop"', tag)
        server.RequestHandlerClass = partial(_Shop, directory=str(folder), page=page.encode())
        threading.Thread(target=server.serve_forever, name="shop", daemon=True).start()
        try:
            yield origin
        finally:
            server.shutdown()


class _Shop(SimpleHTTPRequestHandler):
    def __init__(self, *given: Any, page: bytes = b"", directory: str = "") -> None:
        self.page = page
        super().__init__(*given, directory=directory)

    def do_GET(self) -> None:
        if self.path not in ("/", "/index.html"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody asked."""


def _ready(url: str) -> bool:
    try:
        return bool(urlopen(f"{url}/health/ready", timeout=5).status == 200)
    except OSError:
        return False


def _ask_ten(url: str) -> bool:
    """Ask, print question, answer, citations and milliseconds, and say whether enough were right."""
    right = refused = 0
    rows = _questions()
    conversation: dict[str, object] = {}
    for number, row in enumerate(rows, 1):
        if not row.id.endswith("+"):
            conversation = _post(f"{url}/api/v1/conversations", {}, "")
        began = time.perf_counter()
        turn = _post(
            f"{url}/api/v1/conversations/{conversation['conversation_id']}/messages?wait=true",
            {"id": os.urandom(16).hex(), "text": row.text},
            str(conversation["token"]),
        )
        milliseconds = (time.perf_counter() - began) * 1000
        good = _is_right(row, turn)
        right += good
        refused += good and not row.answerable
        print(f"\n{number:2}. {row.text}{'   (follow-up)' if row.id.endswith('+') else ''}")
        print("    " + str(turn["text"]).replace("\n", "\n    "))
        print("".join(f"    [{title}] {url}\n" for title, url in _citations(turn)), end="")
        print(f"    {'right' if good else 'WRONG'}: {turn['status']}, intent {turn['intent']}, {milliseconds:.0f} ms")
    unanswerable = sum(not row.answerable for row in rows)
    print(f"\n{right} of {len(rows)} right, {refused} of {unanswerable} rightly refused; needed: {RIGHT_NEEDED}")
    return right >= RIGHT_NEEDED and refused == unanswerable


def _is_right(row: GoldenRow, turn: Mapping[str, object]) -> bool:
    if not row.answerable:
        return turn["status"] in ("not_known", "handed_over")
    cited = {unquote(url.partition("#")[0].removeprefix("/articles/")) for _, url in _citations(turn)}
    acted = turn["status"] in ("approved", "asked", "small_talk", "handed_over") and turn["intent"] in row.intents
    return acted or bool(cited & set(row.articles))


def _citations(turn: Mapping[str, object]) -> list[tuple[str, str]]:
    found = turn["citations"]
    return [(str(c["title"]), str(c["url"])) for c in found] if isinstance(found, list) else []


def _post(url: str, body: Mapping[str, str], token: str) -> dict[str, object]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=30) as response:
        answer: dict[str, object] = json.loads(response.read())
    return answer
