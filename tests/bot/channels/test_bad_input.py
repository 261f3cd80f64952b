"""What clients get wrong, or do on purpose: a clear error or the idempotent answer, never a 500, and nothing lost.

Bodies that are no JSON, too large or of broken Unicode are in test_problems, floods in test_limits, origins in
test_origins, wrong clocks in test_identity.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from bot.server import Service
from bot.storage.turns import history
from tests.bot.channels.office import (
    API,
    PATIENCE,
    Office,
    Scripted,
    Visitor,
    open_office,
    serving,
    visitor,
    wait_until,
)
from tests.bot.storage.sample import ANNA, hire


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path, Scripted()) as office:
        yield office


@pytest.fixture
def http(office: Office) -> Iterator[TestClient]:
    with office.client() as http:
        yield http


def test_a_message_to_an_ended_conversation_opens_it_again(office: Office, http: TestClient) -> None:
    who = visitor(http)
    who.ask("hello", "m1")
    assert http.post(who.at("/end"), headers=who.headers).json() == {"status": "resolved"}
    assert who.ask("one more thing", "m2")["text"] == "one more thing"
    body = http.get(who.at(), headers=who.headers).json()
    assert body["status"] == "open"
    assert [message["id"] for message in body["messages"] if message["from"] == "customer"] == ["m1", "m2"]


def test_a_message_posted_twice_is_one_also_after_the_end(office: Office, http: TestClient) -> None:
    who = visitor(http)
    first = who.ask("hello", "m1")
    http.post(who.at("/end"), headers=who.headers)
    assert who.ask("hello", "m1") == first
    assert http.get(who.at(), headers=who.headers).json()["status"] == "resolved", "it was said before the end"
    assert len(history(office.database, who.conversation)) == 1


def test_a_token_replayed_after_it_was_forgotten_opens_nothing(office: Office, http: TestClient) -> None:
    who = visitor(http)
    who.ask("my secret is 4711")
    assert http.delete(who.at(), headers=who.headers).status_code == 204
    unknown = Visitor(http, "x" * 22, who.token)
    for method, tail in (("GET", ""), ("POST", "/token"), ("POST", "/end"), ("DELETE", "")):
        answers = [http.request(method, each.at(tail), headers=who.headers) for each in (who, unknown)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
    # It proves nothing when another conversation is opened either: somebody new begins.
    opened = http.post(f"{API}/conversations", json={"resume": True}, headers=who.headers)
    assert opened.status_code == 201
    listed = http.get(f"{API}/conversations", headers={"Authorization": f"Bearer {opened.json()['token']}"}).json()
    assert len(listed["conversations"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Bearer " + "ä" * 20, "Bearer a b c d e f g h i j k", "\xff"])
def test_a_header_that_holds_no_token_is_told(http: TestClient, header: str) -> None:
    answer = http.get(f"{API}/conversations", headers={"Authorization": header.encode("latin-1")})  # type: ignore[dict-item]
    assert (answer.status_code, answer.json()["title"]) == (401, "No token")


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        {"site": "../etc"}, {"site": "nowhere"}, {"site": "a" * 65}, {"site": None}, {"resume": "maybe"}, {"resume": 2},
        {"pre_chat": []}, {"pre_chat": {"name": 1}}, {"user_id": "", "identity_hash": "0" * 64},
        {"user_id": "a\x00", "identity_hash": "0" * 64}, {"identity_hash": "zz"}, {"identity": "a.b.c" * 2_000},
        {"channel": "slack"}, {"token": "x"},
    ],
)  # fmt: skip
def test_an_opening_that_fits_nothing_is_refused_with_the_cure(http: TestClient, body: dict[str, object]) -> None:
    answer = http.post(f"{API}/conversations", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) > 15


def test_the_conversation_list_takes_no_lone_surrogates_or_null_bytes(http: TestClient) -> None:
    who = visitor(http)
    headers = {"Content-Type": "application/json"} | who.headers
    for raw in (
        b'{"pre_chat": {"name": "a\\ud800"}}',
        b'{"pre_chat": {"email": "a\\u0000@b"}}',
        b'{"site": "\\udfff"}',
    ):
        assert http.post(f"{API}/conversations", content=raw, headers=headers).status_code == 422


# -- clients that drip ------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(office: Office) -> Iterator[Service]:
    """The service, with a fraction of its patience for heads."""
    with serving(office.application) as service:
        service.head_seconds = 1.0
        yield service


def dripping(service: Service, *sent: bytes) -> socket.socket:
    url = httpx.URL(service.url)
    drip = socket.create_connection((url.host, url.port or 0), timeout=PATIENCE)
    for each in sent:
        drip.sendall(each)
    return drip


def closed(drip: socket.socket) -> bytes:
    """What came until the other side closed."""
    heard = b""
    while data := drip.recv(65536):
        heard += data
    return heard


@pytest.mark.slow
def test_a_client_that_drips_its_head_is_let_go_and_the_others_are_served(impatient: Service) -> None:
    drips = [dripping(impatient, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") for _ in range(20)]
    with httpx.Client(base_url=impatient.url, trust_env=False, timeout=PATIENCE) as http:
        assert visitor(http).ask("hello")["text"] == "hello"
    for drip in drips:
        with drip:
            assert closed(drip) == b""


@pytest.mark.slow
def test_a_client_that_drips_its_body_is_told_and_let_go(impatient: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.channels.web.guards.SECONDS_FOR_ANY_BODY", 0.2)
    monkeypatch.setattr("bot.channels.web.guards.SLOWEST_BYTES_PER_SECOND", 10**9)
    head = (
        b"POST /api/v1/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 50\r\n\r\n"
    )
    with dripping(impatient, head, b'{"site": ') as drip:
        heard = closed(drip)
    assert b" 408 " in heard.partition(b"\r\n")[0]
    assert json.loads(heard.rpartition(b"\r\n\r\n")[2])["detail"].startswith("The body did not arrive in time")


@pytest.mark.slow
def test_a_client_that_asks_again_and_again_is_not_taken_for_silent(impatient: Service) -> None:
    with httpx.Client(base_url=impatient.url, trust_env=False, timeout=PATIENCE) as http:
        who = visitor(http)
        until = time.monotonic() + 4 * impatient.head_seconds
        while time.monotonic() < until:
            assert http.get(who.at(), headers=who.headers).status_code == 200


@pytest.mark.slow
def test_a_connection_that_waits_for_its_next_request_is_left_to_its_own_timer(impatient: Service) -> None:
    with httpx.Client(base_url=impatient.url, trust_env=False, timeout=PATIENCE) as http:

        def port() -> object:
            return http.get("/health/live").extensions["network_stream"].get_extra_info("client_addr")

        first = port()
        with dripping(impatient, b"GET /") as silent:
            assert closed(silent) == b"", "the sweep went by"
        assert port() == first


@pytest.mark.slow
def test_a_stream_may_be_silent_for_as_long_as_it_likes(office: Office, impatient: Service) -> None:
    door = office.application.state.door
    with httpx.Client(base_url=impatient.url, trust_env=False, timeout=PATIENCE) as http:
        who = visitor(http)
        with http.stream("GET", who.at("/events"), headers=who.headers) as response:
            lines = response.iter_lines()
            assert next(lines).startswith(": open")
            wait_until(lambda: door.streams.followers == 1)
            silent = dripping(impatient, b"GET /")
            assert closed(silent) == b"", "the sweep went by"
            silent.close()
            hire(office.database, ANNA)
            office.desk.take(who.conversation, ANNA)
            assert any('"person"' in line for line in lines if line.startswith("data:"))
