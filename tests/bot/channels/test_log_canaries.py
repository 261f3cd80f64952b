"""Five hundred planted secrets go through every door of a real service, its error paths too: none is in what it writes.

The service is a process of its own, so that all counts that it prints: its log, a library's warning, a traceback.
`python -m tests.bot.channels.test_log_canaries FOLDER [leak]` is that service; with `leak` it has one line too many.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import secrets
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from bot.conversation.messages import Message, Turn
from tests.bot.channels.office import API, PATIENCE, Scripted, Visitor, open_office, visitor, wait_until

CANARIES = 500
TRUSTED_LINE = "asked: %s"


class Stumbling(Scripted):
    """Fails in ways that quote the customer: in itself, in a thread, in a finaliser. `leaks` logs the text too."""

    def __init__(self, leaks: bool) -> None:
        self._leaks = leaks

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        if self._leaks:
            logging.getLogger("bot.conversation.assistant").warning(TRUSTED_LINE, message.text)
        if "thread" in message.text:
            thread = threading.Thread(target=_fail, args=(message.text,))
            thread.start()
            thread.join()
        if "finaliser" in message.text:
            Dying(message.text)
        if "library" in message.text:
            logging.getLogger("somelibrary").warning("cannot read %s", message.text)
            logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %s", message.text)
        yield from super().respond(message, history)


class Dying:
    def __init__(self, text: str) -> None:
        self.text = text

    def __del__(self) -> None:
        _fail(self.text)


def _fail(text: str) -> None:
    raise ValueError(f"cannot read {text}")


def serve(folder: Path, leaks: bool) -> None:
    from bot.channels.web.logbook import keep_last_words
    from bot.server import serve as run

    keep_last_words()
    with open_office(folder, Stumbling(leaks)) as office:

        @office.application.get("/broken/{name}")
        def broken(name: str, q: str = "") -> None:
            raise RuntimeError(f"a fault of ours that quotes {name} and {q}")

        run(office.application, "127.0.0.1", 0, on_listening=lambda url: print(url, flush=True))


@contextmanager
def service(folder: Path, *leak: str) -> Iterator[tuple[str, Path]]:
    """Address of the service, and the file of everything it writes. Ended in order, so that all of it is written."""
    written = folder / "written.log"
    command = [sys.executable, "-m", "tests.bot.channels.test_log_canaries", str(folder), *leak]
    with (
        written.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), written
            process.terminate()
            rest = process.stdout.read()
            assert process.wait(PATIENCE) == 0, written.read_text()[-2000:]
            assert rest == "", "nothing belongs on standard output"
        finally:
            process.kill()


class Planter:
    """Makes canaries that no program has by itself, and remembers them."""

    def __init__(self) -> None:
        self.planted: list[str] = []
        self._chance = random.Random(5)

    def word(self) -> str:
        self.planted.append("".join(self._chance.choices("bcdfghjkmnpqrtvwxz", k=12)))
        return self.planted[-1]

    def email(self) -> str:
        return f"{self.word()}.{self.word()}@example.org"

    def file(self) -> str:
        return f"{self.word()}.pdf"

    def found_in(self, text: str) -> list[str]:
        """Those that can be read in it: as they are, percent-encoded, in base64 or reversed by JSON's escapes."""
        plain = urllib.parse.unquote(text).lower()
        return [
            canary
            for canary in self.planted
            if canary.lower() in plain or base64.b64encode(canary.encode()).decode().rstrip("=")[:12].lower() in plain
        ]


def go_through_every_door(url: str, plant: Planter) -> None:
    """Requests good and bad; every text in them is a canary."""
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http:
        while len(plant.planted) < CANARIES:
            who = visitor(http)
            plant.planted += [who.token, who.conversation]  # what opens a conversation, and what names it
            turn = say_what_hurts(who, plant)
            judge = {"verdict": "down", "reason": plant.word(), "comment": plant.email()}
            http.post(f"{API}/turns/{turn}/feedback", json=judge, headers=who.headers)
            http.post(f"{API}/turns/{turn}/click", json={"suggestion": plant.word()}, headers=who.headers)
            http.post(who.at("/rating"), json={"stars": 1, "comment": plant.word()}, headers=who.headers)
            http.get(who.at(), headers=who.headers, params={"q": plant.word(), plant.word(): "1"})
            http.get(f"{API}/conversations/{plant.word()}", headers={"Authorization": f"Bearer {plant.word() * 2}"})
            http.get(f"/articles/{plant.file()}")
            http.get(f"/broken/{plant.word()}", params={"q": plant.word()})
            http.get("/", headers={"User-Agent": plant.word(), "Referer": f"https://x/?{plant.word()}"})
            http.get("/", headers={"Host": f"{plant.word()}.example", "Cookie": plant.word()})
            http.post(who.at("/messages"), content=f'{{"id": "{plant.word()}", ', headers=who.headers)
            bad = {"id": "x", "text": plant.word() * 400, plant.word(): [plant.word()]}
            http.post(who.at("/messages"), json=bad, headers=who.headers)
            headers = who.headers | {"Content-Type": "multipart/form-data; boundary=b"}
            form = (
                f'--b\r\nContent-Disposition: form-data; name="file"; filename="{plant.file()}"\r\n\r\n{plant.word()}'
            )
            http.post(who.at("/files"), content=form, headers=headers)
            http.get(who.at("/events"), headers=who.headers | {"Last-Event-ID": plant.word()})
            with suppress(httpx.TransportError):  # refused before it was read: the answer may be lost with the line
                http.post(who.at("/messages"), content=b"x" * 70_000 + plant.word().encode(), headers=who.headers)
            http.request(plant.word().upper(), "/", headers={"X-Forwarded-For": plant.word()})
            http.delete(who.at(), headers=who.headers)
    address = httpx.URL(url)
    for request in (
        f"GET /{plant.word()} HTTP/9.9\r\n\r\n",
        f"{plant.word()}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{plant.word()}",
    ):
        with socket.create_connection((address.host, address.port or 0)) as line:
            line.sendall(request.encode())
            line.shutdown(socket.SHUT_WR)
            line.settimeout(PATIENCE)
            while line.recv(4096):
                pass


def say_what_hurts(who: Visitor, plant: Planter) -> str:
    """Messages that fail in every way there is; the id of the last turn."""
    turn = ""
    for trouble in ("fail", "thread", "finaliser", "library", "refund"):
        text = f"{trouble}: I am {plant.word().title()}, {plant.email()}, order {plant.word()}, see {plant.file()}"
        answer = who.http.post(
            who.at("/messages"),
            params={"wait": "true", "debug": plant.word()},
            json={"id": plant.word(), "text": text},
            headers=who.headers,
        )
        assert answer.status_code == 200
        turn = str(answer.json()["id"])
    return turn


@pytest.mark.slow
def test_nothing_that_a_customer_sent_is_in_anything_the_service_writes(tmp_path: Path) -> None:
    plant = Planter()
    with service(tmp_path) as (url, written):
        go_through_every_door(url, plant)
    text = written.read_text()
    assert len(plant.planted) >= CANARIES and plant.found_in(text) == []
    lines = [json.loads(line) for line in text.splitlines()]  # every line is one object, a traceback is none
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) > 50 and len({line["request"] for line in requests}) == len(requests)
    assert {line["event"] for line in lines} >= {"request", "library", "fault", "thread", "unraisable"}
    # the faults are told all the same: what kind, where, and of which request
    faults = [line for line in lines if line["event"] == "fault"]
    assert {line["kind"] for line in faults} == {"RuntimeError"} and all(line["frames"] for line in faults)
    assert {line["request"] for line in faults} <= {line["request"] for line in requests}


@pytest.mark.slow
def test_one_line_with_a_text_turns_the_test_red(tmp_path: Path) -> None:
    plant = Planter()
    with (
        service(tmp_path, "leak") as (url, written),
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http,
    ):
        visitor(http).ask(f"my name is {plant.word()}")
        wait_until(lambda: "asked" in written.read_text())
    assert plant.found_in(written.read_text()) == plant.planted


def test_the_judge_finds_canaries_in_disguise() -> None:
    plant = Planter()
    canary = plant.word()
    for disguise in (
        canary.upper(),
        "".join(f"%{ord(c):02x}" for c in canary),
        base64.b64encode(canary.encode()).decode(),
    ):
        assert plant.found_in(f"said {disguise}.") == [canary]
    assert plant.found_in(secrets.token_hex(200)) == []


def test_a_request_has_a_number_that_the_client_gets_and_cannot_choose() -> None:
    from starlette.testclient import TestClient

    from bot.channels.web.guards import RequestLog

    async def application(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    http = TestClient(RequestLog(application))
    numbers = [http.get("/", headers={"X-Request-Id": "mine"}).headers["x-request-id"] for _ in range(3)]
    assert len(set(numbers)) == 3 and "mine" not in numbers


if __name__ == "__main__":
    serve(Path(sys.argv[1]), "leak" in sys.argv[2:])
