"""Nobody sees another's conversation: every route of the live table, by every kind of caller."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.bot.channels.office import API, Office, Visitor, visitor

Rule = Literal["anyone", "conversation", "turn"]

CONVERSATION = API + "/conversations/{conversation_id}"
TURN = API + "/turns/{turn_id}"

RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/"): "anyone",
    ("GET", "/articles/{source:path}"): "anyone",
    ("GET", "/assets/{version}/{name}"): "anyone",
    ("GET", "/widget.js"): "anyone",
    ("GET", "/widget/{version}/{name}"): "anyone",
    ("GET", "/health/live"): "anyone",
    ("GET", "/health/ready"): "anyone",
    ("GET", "/openapi.json"): "anyone",
    ("POST", f"{API}/conversations"): "anyone",
    ("POST", f"{CONVERSATION}/messages"): "conversation",
    ("GET", CONVERSATION): "conversation",
    ("GET", f"{CONVERSATION}/events"): "conversation",
    ("POST", f"{CONVERSATION}/handover"): "conversation",
    ("POST", f"{CONVERSATION}/rating"): "conversation",
    ("POST", f"{CONVERSATION}/end"): "conversation",
    ("DELETE", CONVERSATION): "conversation",
    ("POST", f"{TURN}/feedback"): "turn",
    ("POST", f"{TURN}/click"): "turn",
}
"""The access rule of every route. The public ones are few, and each was decided."""

BODIES: dict[str, dict[str, object]] = {
    "/messages": {"id": "m-foreign", "text": "hello"},
    "/rating": {"stars": 3},
    "/feedback": {"verdict": "up"},
    "/click": {"suggestion": "Is a label free?"},
}


def live_routes(application: FastAPI) -> set[tuple[str, str]]:
    """Every method and path the application answers, read off the application and not off a list."""

    def walk(routes: list[object]) -> Iterator[tuple[str, str]]:
        for route in routes:
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            methods = getattr(route, "methods", None)
            if methods:
                yield from ((method, getattr(route, "path", "")) for method in methods if method != "HEAD")
            elif inner is not None and hasattr(inner, "routes"):
                yield from walk(list(inner.routes))
            else:
                yield "?", str(getattr(route, "path", route))

    return set(walk(list(application.routes)))


def undecided(application: FastAPI) -> set[tuple[str, str]]:
    return live_routes(application) - set(RULES)


def test_every_live_route_has_a_rule_and_every_rule_a_route(office: Office) -> None:
    assert undecided(office.application) == set()
    assert set(RULES) - live_routes(office.application) == set()
    assert len(RULES) >= 16


def test_a_new_route_without_a_rule_turns_the_walk_red() -> None:
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    application.get("/api/v1/everything")(lambda: "all conversations")
    application.mount("/files", lambda scope, receive, send: None)  # type: ignore[arg-type,return-value]
    assert undecided(application) == {("GET", "/api/v1/everything"), ("?", "/files")}


@dataclass(frozen=True, slots=True)
class Case:
    """Somebody's things, with a canary in what they said."""

    who: Visitor
    turn: str
    canary: str


def case(client: TestClient) -> Case:
    canary = secrets.token_hex(16)
    who = visitor(client)
    return Case(who, str(who.ask(f"refund? {canary}")["id"]), canary)


@pytest.fixture(scope="module")
def victim(client: TestClient) -> Case:
    return case(client)


@pytest.fixture(scope="module")
def forgotten(client: TestClient) -> Case:
    gone = case(client)
    assert client.delete(gone.who.at(), headers=gone.who.headers).status_code == 204
    return gone


OBJECTS = ("victim", "forgotten", "unknown", "malformed", "encoded", "empty")
UNKNOWN = {
    "unknown": secrets.token_urlsafe(16),
    "malformed": "x'%20OR%201=1--",
    "encoded": "%00%ff",
    "empty": "%20",
}


def address(path: str, thing: str, victim: Case, forgotten: Case) -> str:
    owned = {"victim": victim, "forgotten": forgotten}.get(thing)
    conversation = owned.who.conversation if owned else UNKNOWN[thing]
    turn = owned.turn if owned else UNKNOWN[thing]
    return path.replace("{conversation_id}", conversation).replace("{turn_id}", turn)


def call(client: TestClient, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body; a stream that opens at all is a leak whatever it holds, so it is not read."""
    body = next((body for tail, body in BODIES.items() if path.endswith(tail)), {})
    answer = client.request(method, path, headers=headers, json=body if method == "POST" else None)
    return answer.status_code, answer.content


PRIVATE = sorted(key for key, rule in RULES.items() if rule != "anyone")


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_foreign_unknown_and_malformed_ids_get_the_same_answer(
    client: TestClient, victim: Case, forgotten: Case, method: str, path: str
) -> None:
    stranger = visitor(client)
    tokens = [stranger.token, forgotten.who.token, victim.turn, secrets.token_urlsafe(32)]
    answers = {
        call(client, method, address(path, thing, victim, forgotten), {"Authorization": f"Bearer {token}"})
        for thing in OBJECTS
        for token in tokens
    }
    assert len(answers) == 1, "two ids can be told apart"
    ((status, body),) = answers
    assert status == 404
    assert victim.canary.encode() not in body


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_nobody_is_let_in_without_a_bearer_token(
    client: TestClient, victim: Case, forgotten: Case, method: str, path: str
) -> None:
    token = victim.who.token
    disguises: list[dict[str, str]] = [
        {},
        {"Authorization": token},
        {"Authorization": f"Basic {token}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {token} "},
        {"Authorization": f"Bearer  {token}"},
        {"Authorization": f"Bearer {token},{token}"},
        {"Authorization": "Bearer " + "a" * 5000},
        {"x-api-key": token},
        {"Cookie": f"token={token}; Authorization=Bearer%20{token}"},
        {"Proxy-Authorization": f"Bearer {token}"},
    ]
    for thing in OBJECTS:
        place = address(path, thing, victim, forgotten)
        answers = {call(client, method, f"{place}?token={token}&authorization={token}", each) for each in disguises}
        assert {status for status, _ in answers} == {401}
        assert len(answers) == 1


def test_the_owner_is_let_in_everywhere(client: TestClient) -> None:
    for method, path in PRIVATE:
        if path.endswith("/events"):
            continue  # a stream that never ends: tests of events read it over a real connection
        own = case(client)
        status, body = call(client, method, address(path, "victim", own, own), own.who.headers)
        assert status in (200, 202, 204), (method, path, body)


def test_a_stranger_changes_nothing(client: TestClient) -> None:
    own = case(client)
    before = client.get(own.who.at(), headers=own.who.headers).content
    stranger = visitor(client)
    for method, path in PRIVATE:
        call(client, method, address(path, "victim", own, own), stranger.headers)
    assert client.get(own.who.at(), headers=own.who.headers).content == before


def test_a_token_opens_only_its_own_conversation(client: TestClient) -> None:
    several = [case(client) for _ in range(4)]
    seen = [
        [other.canary in client.get(other.who.at(), headers=one.who.headers).text for other in several]
        for one in several
    ]
    assert seen == [[one is other for other in several] for one in several]
