"""A small real office for the tests of the channels: real desk, real record, an assistant and articles by script."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import httpx
from fastapi import FastAPI
from starlette.testclient import TestClient

from bot.channels.web.limits import Allowance
from bot.channels.web.pages import Storefront
from bot.conversation.messages import (
    Approved,
    Citation,
    HandOverReason,
    Message,
    Part,
    Reply,
    Status,
    Thresholds,
    Turn,
    Understanding,
    Versions,
)
from bot.server import Service, create_application, listen
from bot.serving import Desk
from bot.storage.database import Database
from retriever.passages import Document, Passage, Section

API = "/api/v1"
PATIENCE = 30.0
"""Seconds after which something that should have happened has not."""


def turn_to(
    message: Message,
    text: str,
    *,
    status: Status = "approved",
    citations: tuple[Citation, ...] = (),
    suggestions: tuple[str, ...] = (),
) -> Turn:
    understanding = Understanding("refund_time", 0.91234, (), 0.02, (), "en", "model-1")
    return Turn(
        id=uuid.uuid4().hex,
        message=message,
        parts=(Part(message.text, understanding, (), Approved("refund_time")),),
        reply=Reply(text, citations, suggestions, status),
        versions=Versions("model-1", "index-1", "playbook-1"),
        thresholds=Thresholds(),
        milliseconds=(("understand", 1.25), ("answer", 0.5)),
    )


class Scripted:
    """Answers at once, by a few rules; says the text itself back when no rule fits. `fail` raises."""

    def respond(
        self, message: Message, history: tuple[Turn, ...], *, waiting: HandOverReason | None = None
    ) -> Iterator[str | Turn]:
        if waiting is not None:
            yield "A colleague is on the way."
            yield turn_to(message, "A colleague is on the way.", status="waiting")
            return
        text = message.text.lower()
        if "refund" in text or "退款" in text:
            said = ["We inspect it within 5 business days. [1]\n\n", "Credit cards take 3 to 7 business days. [2]"]
            if "退款" in text:
                said = ["我们会在5个工作日内检查。[1]\n\n", "信用卡需要3至7个工作日。[2]"]
            place = "/articles/returns/refunds.md#p-"
            cited = (
                Citation("Refunds", f"{place}inspect", "we inspect it within 5 business days", "inspect"),
                Citation("Refunds", f"{place}money", "Credit cards take 3 to 7 business days", "money"),
            )
            asked = ("我要怎么退货？",) if "退款" in text else ("How do I return something?", "Is a label free?")
            yield from said
            yield turn_to(message, "".join(said), status="grounded", citations=cited, suggestions=asked)
        elif "order" in text and "my order" not in text:
            options = ("Where is my order?", "Can I cancel my order?")
            said = ["Did you mean:", *(f"\n{n}. {title}" for n, title in enumerate(options, 1))]
            yield from said
            yield turn_to(message, "".join(said), status="clarified", suggestions=options)
        elif "table" in text:
            said = ["Times:\nPaid with | Days\nCard | 3-7\n", "\n1. Look.\n2. Ask. [1]\n- Or write. [9]\n\nDone | so."]
            yield from said
            cited = (Citation("Refunds", "/articles/returns/refunds.md", "", ""),)
            yield turn_to(message, "".join(said), status="grounded", citations=cited)
        elif "person" in text:
            yield "I have asked a colleague."
            yield turn_to(message, "I have asked a colleague.", status="handed_over")
        elif "fail" in text:
            raise ValueError(f"a model fault that quotes {message.text}")
        else:
            yield message.text or "Nothing"
            yield turn_to(message, message.text or "Nothing", suggestions=(message.text,) if message.text else ())


class SlowSource:
    """Chunks on command, for each conversation: `say` passes some on, `finish` ends the answer with all of them."""

    def __init__(self) -> None:
        self._chunks: defaultdict[str, queue.Queue[str | None]] = defaultdict(queue.Queue)

    def say(self, who: Visitor, *chunks: str) -> None:
        for chunk in chunks:
            self._chunks[who.conversation].put(chunk)

    def finish(self, who: Visitor) -> None:
        self._chunks[who.conversation].put(None)

    def respond(
        self, message: Message, history: tuple[Turn, ...], *, waiting: HandOverReason | None = None
    ) -> Iterator[str | Turn]:
        said: list[str] = []
        while (chunk := self._chunks[message.conversation].get(timeout=PATIENCE)) is not None:
            said.append(chunk)
            yield chunk
        yield turn_to(message, "".join(said), status="approved" if waiting is None else "waiting")


def laid_out(source: str, title: str, *parts: tuple[str, str], audience: str = "public") -> Document:
    """A document as the readers lay it out: its title, then `(heading, body)`; no heading, no line for it."""
    text, sections = title, []
    for heading, body in parts:
        text += f"\n\n{heading}" if heading else ""
        sections.append(Section((heading,) if heading else (), len(text) + 2, len(text) + 2 + len(body)))
        text += f"\n\n{body}"
    return Document(source, title, text, tuple(sections), audience=audience)


class Shelf:
    """Articles by hand; the passages of each are named and found by their text."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._passages: dict[str, tuple[Passage, ...]] = {}
        refunds = laid_out(
            "returns/refunds.md",
            "Refunds",
            ("", "When your return arrives we inspect it within 5 business days."),
            ("How the money comes back", "Credit cards take 3 to 7 business days, PayPal takes 1 to 2."),
            (
                "Before you ask",
                "Paid with | Longest time\nCard | 7 days\nPayPal | 2 days\n\n- Look at the date.\n- Ask us.",
            ),
        )
        self.put(refunds, inspect="When your return arrives", money="Credit cards take", before="Paid with")

    def put(self, document: Document, **beginnings: str) -> None:
        starts = sorted((document.text.index(first), name) for name, first in beginnings.items())
        self._documents[document.source] = document
        self._passages[document.source] = tuple(
            Passage(name, document.source, document.title, (), "", start, self._end(document, start))
            for start, name in starts
        )

    def _end(self, document: Document, start: int) -> int:
        return next(section.end for section in document.sections if section.start <= start < section.end)

    def document(self, source: str) -> Document | None:
        return self._documents.get(source)

    def passages_of(self, source: str) -> Sequence[Passage]:
        return self._passages.get(source, ())


STOREFRONT = Storefront(
    "Larkmoor Outfitters",
    {
        "en": ("When does my refund arrive?", "Where is my order?"),
        "zh": ("我的退款什么时候到账？", "我的订单到哪里了？"),
    },
)


PLENTY = Allowance(**{each.name: 10_000 if each.type == "int" else 1e9 for each in fields(Allowance)})  # type: ignore[arg-type]
"""For tests that are not about limits: one address is everybody here."""


@dataclass(frozen=True, slots=True)
class Office:
    desk: Desk
    database: Database
    shelf: Shelf
    application: FastAPI

    def client(self) -> TestClient:
        return TestClient(self.application, base_url="http://localhost", raise_server_exceptions=False)


@contextmanager
def open_office(folder: Path, assistant: Scripted | SlowSource, **limits: int) -> Iterator[Office]:
    with Database(folder / "record.sqlite3") as database:
        desk = Desk(database, assistant, **limits)
        shelf = Shelf()
        try:
            application = create_application(desk, database, shelf, STOREFRONT, allowance=PLENTY)
            yield Office(desk, database, shelf, application)
        finally:
            desk.close()


@contextmanager
def serving(application: FastAPI, drain_seconds: float = 1.0, port: int = 0) -> Iterator[Service]:
    """The application on a real socket, in a thread of this process."""
    service = Service(application, listen("127.0.0.1", port), drain_seconds)
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    wait_until(lambda: service.started)
    try:
        yield service
    finally:
        service.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the service did not stop"


def wait_until(happened: object) -> None:
    """Wait for a condition that another thread brings about."""
    assert callable(happened)
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a conversation of their own."""

    http: httpx.Client | TestClient
    conversation: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def at(self, tail: str = "") -> str:
        return f"{API}/conversations/{self.conversation}{tail}"

    def ask(self, text: str, message_id: str | None = None) -> dict[str, object]:
        """The turn that answers."""
        body = {"id": message_id or str(uuid.uuid4()), "text": text}
        answer = self.http.post(self.at("/messages"), params={"wait": "true"}, json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        turn: dict[str, object] = answer.json()
        return turn


def visitor(http: httpx.Client | TestClient) -> Visitor:
    opened = http.post(f"{API}/conversations", json={})
    assert opened.status_code == 201, opened.text
    return Visitor(http, opened.json()["conversation_id"], opened.json()["token"])


@dataclass(frozen=True, slots=True)
class Heard:
    """One server-sent event as it came."""

    name: str
    id: int | None
    data: dict[str, object]


def hear(lines: Iterator[str]) -> Iterator[Heard]:
    """Server-sent events of lines, parsed here and not by the code under test."""
    name, number, data = "message", None, ""
    for line in lines:
        if line == "":
            if data:
                yield Heard(name, number, json.loads(data))
            name, number, data = "message", None, ""
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("id: "):
            number = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            data += line.removeprefix("data: ")


@contextmanager
def listening(who: Visitor, after: int | None = None) -> Iterator[Iterator[Heard]]:
    """The events of a conversation over a real connection."""
    headers = who.headers | ({} if after is None else {"Last-Event-ID": str(after)})
    with who.http.stream("GET", who.at("/events"), headers=headers, timeout=PATIENCE) as response:
        assert response.status_code == 200, response.read()
        yield hear(response.iter_lines())
