"""Too much to do: the rest is refused at once and cheaply, and what is inside is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.channels.web.overload import Overload
from tests.bot.channels.office import API, PATIENCE, Office, SlowSource, hear, open_office, serving, visitor, wait_until


@pytest.fixture
def slow() -> SlowSource:
    return SlowSource()


@pytest.fixture
def office(tmp_path: Path, slow: SlowSource) -> Iterator[Office]:
    with open_office(tmp_path, slow, most_in_hand=4) as office:
        yield office


@pytest.mark.slow
def test_what_is_inside_is_answered_and_the_rest_refused_with_a_time_to_come_back(
    office: Office, slow: SlowSource
) -> None:
    with (
        serving(office.application) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=PATIENCE) as http,
    ):
        people = [visitor(http) for _ in range(12)]
        answers = [
            http.post(who.at("/messages"), json={"id": "m-1", "text": "hello"}, headers=who.headers) for who in people
        ]
        assert [answer.status_code for answer in answers] == [202] * 4 + [503] * 8
        for answer in answers[4:]:
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == 503 and "same id" in answer.json()["detail"]
        # everything but messages goes on
        assert http.get("/health/ready").json() == {"status": "ready", "degraded": False}
        assert http.get(people[9].at(), headers=people[9].headers).status_code == 200
        for who in people[:4]:
            slow.say(who, "here you are")
            slow.finish(who)
        wait_until(lambda: office.desk.in_hand == 0)
        slow.finish(people[11])
        assert people[11].ask("hello", "m-1")["status"] == "approved"  # the same message, sent again


@pytest.mark.slow
def test_a_refused_message_was_not_begun_and_a_stream_stays_open(office: Office, slow: SlowSource) -> None:
    with (
        serving(office.application) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=PATIENCE) as http,
    ):
        people = [visitor(http) for _ in range(5)]
        with http.stream("GET", people[4].at("/events"), headers=people[4].headers) as stream:
            for who in people[:4]:
                http.post(who.at("/messages"), json={"id": "m-1", "text": "hello"}, headers=who.headers)
            refused = http.post(people[4].at("/messages"), json={"id": "m-1", "text": "hi"}, headers=people[4].headers)
            assert refused.status_code == 503
            for who in people:
                slow.finish(who)
            wait_until(lambda: office.desk.in_hand == 0)
            again = http.post(people[4].at("/messages"), json={"id": "m-1", "text": "hi"}, headers=people[4].headers)
            assert again.status_code == 202
            assert next(hear(stream.iter_lines())).name == "turn"
        body = http.get(people[4].at(), headers=people[4].headers).json()
        assert [message["from"] for message in body["messages"]] == ["customer", "bot"]


def test_requests_of_any_kind_are_bounded_but_not_the_questions_of_those_who_run_it(office: Office) -> None:
    """A request that never ends holds its place; with all places held the next one is refused."""
    refused: list[str] = []

    async def endless(scope: object, receive: object, send: object) -> None:
        await asyncio.Event().wait()

    async def ask(overload: Overload, path: str, method: str = "GET") -> dict[str, object]:
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "path": path, "method": method, "headers": []}
        await overload(scope, None, send)  # type: ignore[arg-type]
        return {"status": sent[0]["status"], "body": json.loads(bytes(sent[1]["body"]))}  # type: ignore[call-overload]

    async def crowd() -> None:
        overload = Overload(endless, office.desk, lambda: False, refused.append, most_inside=3)  # type: ignore[arg-type]
        inside = [asyncio.create_task(ask(overload, f"{API}/conversations/{n}")) for n in range(3)]
        open_to_all = [asyncio.create_task(ask(overload, path)) for path in ("/health/live", "/metrics", "/x/events")]
        await asyncio.sleep(0)
        assert (await ask(overload, f"{API}/conversations", "POST"))["status"] == 503
        assert not any(task.done() for task in (*inside, *open_to_all))
        inside[0].cancel()
        await asyncio.wait(inside[:1])
        after = asyncio.create_task(ask(overload, f"{API}/conversations", "POST"))
        await asyncio.sleep(0)
        assert not after.done(), "a place became free and was not given"
        for task in (*inside, *open_to_all, after):
            task.cancel()

    asyncio.run(crowd())
    assert refused == ["request"]


@pytest.mark.parametrize(
    ("origin", "told"),
    [(b"https://shop.example", True), (b"https://evil.example", False), (b"null", False), (b"", False)],
)
def test_a_refusal_can_be_read_by_the_pages_that_may_read_an_answer(office: Office, origin: bytes, told: bool) -> None:
    async def endless(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nothing may come in")

    async def ask() -> dict[bytes, bytes]:
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        may_read = {"https://shop.example"}.__contains__
        overload = Overload(endless, office.desk, lambda: True, may_read=may_read, most_inside=0)  # type: ignore[arg-type]
        headers = [(b"host", b"x"), *([(b"origin", origin)] if origin else [])]
        scope = {"type": "http", "path": "/x", "method": "GET", "headers": headers}
        await overload(scope, None, send)  # type: ignore[arg-type]
        return dict(sent[0]["headers"])  # type: ignore[call-overload]

    headers = asyncio.run(ask())
    assert headers.get(b"access-control-allow-origin") == (origin if told else None)
    assert (headers.get(b"vary") == b"Origin") is told
    assert headers[b"connection"] == b"close" and headers[b"retry-after"] == b"1"
