"""`frontdesk demo`: the sample company from nothing to a chat page, or ten questions that prove it works.

Owns the order of the steps and the judging of the ten answers. Every step is one of the other commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote
from urllib.request import Request, urlopen

import typer

from bot import FrontdeskError
from bot.cli import knowledge, learning, service
from bot.cli.output import note
from bot.golden import GoldenRow, read_golden
from bot.home import running_service
from bot.settings import Settings, load_settings

SAMPLE = Path("data/frontdesk.toml")
RIGHT_NEEDED = 9
SECONDS_TO_START = 120.0


def register(commands: typer.Typer) -> None:
    commands.command()(demo)


def demo(
    port: Annotated[int, typer.Option(help="Port of the chat page.")] = 8080,
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
        with _service(settings) as url:
            raise typer.Exit(0 if _ask_ten(url) else 1)
    note("3/3 opening the service; things to try on the page:")
    for row in _questions():
        note(f"      {row.text}")
    service.run_service(settings, settings.host, port)


def _questions() -> tuple[GoldenRow, ...]:
    return read_golden(SAMPLE.parent / "demo.jsonl")


@contextmanager
def _service(settings: Settings) -> Iterator[str]:
    """The real service in a process of its own, on a free port."""
    if running_service(settings.home) is not None:
        raise FrontdeskError(f"{settings.home}: a service runs there already; stop it, then check again")
    command = [sys.executable, "-m", "bot", "serve", "--port", "0", "--config", str(SAMPLE)]
    process = subprocess.Popen(command, stdout=sys.stderr, env=os.environ)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while (found := running_service(settings.home)) is None or not _ready(found.url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise FrontdeskError("the service did not start; see its messages above")
            time.sleep(0.1)
        yield found.url
    finally:
        process.terminate()
        process.wait()


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
