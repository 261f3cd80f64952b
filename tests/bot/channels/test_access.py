"""Nobody sees another's things: every route of the live table, by every kind of caller, on every kind of object.

A route without a rule turns this red, and so does a rule without a route. To add a kind of caller, add it to
`PRINCIPALS` with the headers it sends (to `WITHOUT_TOKEN` if no bearer token is among them), and say in `MAY` what a
rule lets it do. Whatever a rule does not let somebody do, they must not be able to tell from the thing not existing at
all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal

import jwt
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from bot.channels.web.access import OpenedConversation
from bot.channels.web.problems import Problem
from bot.console.access import COOKIE, TOKEN_HEADER
from bot.server import create_application
from bot.storage.conversations import find_conversation
from bot.storage.people import Role
from bot.storage.sites import create_site
from bot.storage.turns import history
from tests.bot.channels.office import API, PLENTY, STOREFRONT, Office, Visitor, visitor
from tests.bot.console.staff import Member, at_work

Rule = Literal["anyone", "visitor", "conversation", "sibling", "turn", "file"]
"""anyone: public. visitor: whoever holds a living token, about themselves. conversation, turn, file: whoever holds a
token of the conversation that it is or belongs to. sibling: also with a token of another one of the same visitor."""

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
    ("GET", f"{API}/sites/{{site}}"): "anyone",
    ("POST", f"{API}/conversations"): "anyone",
    ("GET", f"{API}/conversations"): "visitor",
    ("POST", f"{CONVERSATION}/token"): "sibling",
    ("POST", f"{CONVERSATION}/messages"): "conversation",
    ("GET", CONVERSATION): "conversation",
    ("GET", f"{CONVERSATION}/events"): "conversation",
    ("POST", f"{CONVERSATION}/files"): "conversation",
    ("POST", f"{CONVERSATION}/handover"): "conversation",
    ("POST", f"{CONVERSATION}/rating"): "conversation",
    ("POST", f"{CONVERSATION}/end"): "conversation",
    ("DELETE", CONVERSATION): "conversation",
    ("POST", f"{TURN}/feedback"): "turn",
    ("POST", f"{TURN}/click"): "turn",
    ("GET", f"{API}/files/{{file_id}}"): "file",
}
"""The access rule of every route. The public ones are few, and each was decided."""

BODIES: dict[str, dict[str, object]] = {
    "/messages": {"id": "m-foreign", "text": "hello"},
    "/rating": {"stars": 3},
    "/feedback": {"verdict": "up"},
    "/click": {"suggestion": "Is a label free?"},
}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@dataclass(frozen=True, slots=True)
class Things:
    """What somebody owns, with a canary in what they said and sent."""

    who: Visitor
    turn: str
    file: str
    canary: str


@dataclass(frozen=True, slots=True)
class World:
    """A company with two sites and its visitors, each with things of their own."""

    office: Office
    http: TestClient
    things: Mapping[str, Things]
    forgotten: Things

    def headers(self, principal: str) -> dict[str, str]:
        return PRINCIPALS[principal](self)


def holder(name: str) -> Callable[[World], dict[str, str]]:
    return lambda world: world.things[name].who.headers


@cache
def member(office: Office, role: Role) -> Member:
    return at_work(office, role)


def session_token(office: Office, role: Role) -> str:
    return member(office, role).token


def session(office: Office, role: Role) -> dict[str, str]:
    """What the browser of a signed-in member of staff would send, were its cookie not for /console alone."""
    return {"Cookie": f"{COOKIE}={member(office, role).token}", TOKEN_HEADER: member(office, role).csrf}


PRINCIPALS: dict[str, Callable[[World], dict[str, str]]] = {
    "anonymous": lambda world: {},
    "a made-up token": lambda world: {"Authorization": f"Bearer {secrets.token_urlsafe(32)}"},
    "a forgotten token": lambda world: world.forgotten.who.headers,
    "visitor A": holder("visitor A"),
    "visitor B": holder("visitor B"),
    "identified A": holder("identified A"),
    "other site": holder("other site"),
    "agent": lambda world: session(world.office, "agent"),
    "reviewer": lambda world: session(world.office, "reviewer"),
    "lead": lambda world: session(world.office, "lead"),
    "an agent's session as a bearer": lambda world: {"Authorization": f"Bearer {session_token(world.office, 'agent')}"},
}
"""Everybody who may call, with the headers they send."""

WITHOUT_TOKEN = {"anonymous", "agent", "reviewer", "lead"}
"""Those who show no bearer token, whatever else they show: they are told so, and nothing more."""

OWNERS = ("visitor A", "visitor B", "identified A", "other site")

MAY: dict[Rule, Callable[[str, str], bool]] = {
    "conversation": lambda principal, owner: principal == owner,
    "sibling": lambda principal, owner: principal == owner,
    "turn": lambda principal, owner: principal == owner,
    "file": lambda principal, owner: principal == owner,
}
"""Whether somebody may use a route on a thing of that owner."""

STRANGE = {
    "unknown": secrets.token_urlsafe(16),
    "malformed": "x'%20OR%201=1--",
    "encoded": "%00%ff",
    "empty": "%20",
    "long": "a" * 300,
}
"""Ids of nothing."""


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
    """The console has a table of its own, held against the live routes in tests/bot/console/test_access.py."""
    return {route for route in live_routes(application) if not route[1].startswith("/console")} - set(RULES)


def test_every_live_route_has_a_rule_and_every_rule_a_route(office: Office) -> None:
    assert undecided(office.application) == set()
    assert set(RULES) - live_routes(office.application) == set()
    assert len(RULES) >= 21
    assert {rule for rule in RULES.values() if rule not in ("anyone", "visitor")} == set(MAY)


def test_a_new_route_without_a_rule_turns_the_walk_red() -> None:
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    application.get("/api/v1/everything")(lambda: "all conversations")
    application.mount("/files", lambda scope, receive, send: None)  # type: ignore[arg-type,return-value]
    assert undecided(application) == {("GET", "/api/v1/everything"), ("?", "/files")}


def case(office: Office, client: TestClient, **opening: object) -> Things:
    """Somebody new with a turn and a file, waiting for a person."""
    canary = secrets.token_hex(16)
    opened = client.post(f"{API}/conversations", json=opening)
    assert opened.status_code == 201, opened.text
    who = Visitor(client, opened.json()["conversation_id"], opened.json()["token"])
    turn = str(who.ask(f"refund? {canary}")["id"])
    office.desk.ask_for_person(who.conversation, "asked")
    sent = client.post(who.at("/files"), files={"file": (f"{canary}.png", PNG)}, headers=who.headers)
    assert sent.status_code == 201, sent.text
    return Things(who, turn, sent.json()["id"], canary)


@pytest.fixture(scope="module")
def world(office: Office, client: TestClient) -> World:
    shop, secret = create_site(office.database, "Shop", actor="test")
    other, _ = create_site(office.database, "Other", actor="test")
    now = datetime.now(UTC).timestamp()
    identity = jwt.encode({"sub": "anna", "aud": shop.id, "exp": now + 600}, secret, "HS256")
    forgotten = case(office, client, site=shop.id)
    assert client.delete(forgotten.who.at(), headers=forgotten.who.headers).status_code == 204
    return World(
        office,
        client,
        {
            "visitor A": case(office, client, site=shop.id),
            "visitor B": case(office, client, site=shop.id),
            "identified A": case(office, client, site=shop.id, identity=identity),
            "other site": case(office, client, site=other.id),
        },
        forgotten,
    )


def address(path: str, thing: Things | str) -> str:
    for name, own in (
        ("{conversation_id}", thing.who.conversation if isinstance(thing, Things) else thing),
        ("{turn_id}", thing.turn if isinstance(thing, Things) else thing),
        ("{file_id}", thing.file if isinstance(thing, Things) else thing),
    ):
        path = path.replace(name, own)
    return path


def call(client: TestClient, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body; a stream that opens at all is a leak whatever it holds, so it is not read."""
    if path.endswith("/files"):
        answer = client.request(method, path, headers=headers, files={"file": ("a.png", PNG)})
    else:
        body = next((body for tail, body in BODIES.items() if path.endswith(tail)), {})
        answer = client.request(method, path, headers=headers, json=body if method == "POST" else None)
    return answer.status_code, answer.content


PRIVATE = sorted(key for key, rule in RULES.items() if rule in MAY)


def cells(rule: Rule, world: World) -> Iterator[tuple[str, Things | str]]:
    """Everybody with everything that the rule does not let them use."""
    for principal in PRINCIPALS:
        for owner in OWNERS:
            if not MAY[rule](principal, owner):
                yield principal, world.things[owner]
        yield principal, world.forgotten
        yield from ((principal, strange) for strange in STRANGE.values())


def check_cells(world: World, http: TestClient, method: str, path: str, rule: Rule) -> None:
    """Everybody tries everything that the rule does not let them use, and learns nothing from it."""
    seen: dict[tuple[int, bytes], list[str]] = {}
    tried = 0
    for principal, thing in cells(rule, world):
        answer = call(http, method, address(path, thing), world.headers(principal))
        seen.setdefault(answer, []).append(principal)
        tried += 1
    assert tried >= len(PRINCIPALS) * (len(STRANGE) + len(OWNERS) + 1) - len(OWNERS)
    # Who shows no token is told so, before anything is looked at; all others get one answer, byte for byte.
    assert sorted(status for status, _ in seen) == [401, 404], f"two things can be told apart: {seen}"
    for (status, body), principals in seen.items():
        assert set(principals) == (WITHOUT_TOKEN if status == 401 else set(PRINCIPALS) - WITHOUT_TOKEN)
        assert not any(thing.canary.encode() in body for thing in world.things.values())


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_foreign_forgotten_unknown_and_malformed_things_get_the_same_answer(
    world: World, method: str, path: str
) -> None:
    check_cells(world, world.http, method, path, RULES[method, path])


@pytest.mark.slow
def test_a_route_that_asks_for_any_token_or_tells_ids_apart_is_found(office: Office, world: World) -> None:
    """The planted faults: one that forgets whose it is, one that says "forbidden" where it should know nothing."""
    application = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY)

    @application.get(f"{CONVERSATION}/forgetful")
    def forgetful(conversation_id: str, caller: OpenedConversation) -> list[str]:
        return [turn.message.text for turn in history(office.database, conversation_id)]

    @application.get(f"{CONVERSATION}/telling")
    def telling(conversation_id: str, caller: OpenedConversation) -> None:
        find_conversation(office.database, conversation_id)
        raise Problem(403, "Forbidden", "That is somebody else's conversation.")

    with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as http:
        for name in ("forgetful", "telling"):
            with pytest.raises(AssertionError, match="two things can be told apart"):
                check_cells(world, http, "GET", f"{CONVERSATION}/{name}", "conversation")


def test_the_list_holds_a_visitors_own_conversations_and_nothing_else(world: World) -> None:
    for principal in PRINCIPALS:
        answer = world.http.get(f"{API}/conversations", headers=world.headers(principal))
        if principal in OWNERS:
            listed = [one["conversation_id"] for one in answer.json()["conversations"]]
            assert listed == [world.things[principal].who.conversation]
        else:
            assert answer.status_code == (401 if principal in WITHOUT_TOKEN else 404)


def test_what_is_public_tells_nobody_anything_of_anybody(world: World) -> None:
    private = [thing.canary for thing in world.things.values()]
    private += [thing.who.conversation for thing in world.things.values()]
    for (method, path), rule in RULES.items():
        if rule == "anyone" and method == "GET":
            place = path.replace("{source:path}", "returns/refunds.md").replace("{site}", "default")
            place = place.replace("{version}/{name}", "x/chat.js")
            for principal in PRINCIPALS:
                answer = world.http.get(place, headers=world.headers(principal))
                assert answer.status_code in (200, 404), place  # a file of the widget has another name each build
                assert not any(text in answer.text for text in private), place


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_nobody_is_let_in_without_a_bearer_token(world: World, method: str, path: str) -> None:
    victim = world.things["visitor A"]
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
    for thing in (victim, world.forgotten, *STRANGE.values()):
        place = address(path, thing)
        query = f"{place}?token={token}&authorization={token}"
        answers = {call(world.http, method, query, each) for each in disguises}
        assert {status for status, _ in answers} == {401}
        assert len(answers) == 1


def test_tokens_of_other_purposes_open_nothing(office: Office, world: World) -> None:
    """Whatever else is handed out or stored: ids, secrets of sites, hashes. (Staff sessions: see the console.)"""
    victim = world.things["identified A"]
    site, secret = create_site(office.database, "Shop", actor="test")
    with office.database.read() as connection:
        hashes = [str(row[0]) for row in connection.exec_driver_sql("SELECT hash FROM tokens").all()]
        visitors = [str(row[0]) for row in connection.exec_driver_sql("SELECT id FROM visitors").all()]
    others = [secret, victim.who.conversation, victim.turn, victim.file, *hashes[:5], *visitors[:5]]
    for other in others:
        headers = {"Authorization": f"Bearer {other}"}
        assert call(world.http, "GET", victim.who.at(), headers)[0] in (401, 404)
        assert call(world.http, "GET", f"{API}/conversations", headers)[0] in (401, 404)
    assert site.id


def test_the_owner_is_let_in_everywhere(office: Office, client: TestClient) -> None:
    for method, path in (*PRIVATE, ("GET", f"{API}/conversations")):
        if path.endswith("/events"):
            continue  # a stream that never ends: tests of events read it over a real connection
        own = case(office, client)
        status, body = call(client, method, address(path, own), own.who.headers)
        assert status in (200, 201, 202, 204), (method, path, body)


def test_a_stranger_changes_nothing(office: Office, client: TestClient) -> None:
    own = case(office, client)
    before = client.get(own.who.at(), headers=own.who.headers).content
    stranger = visitor(client)
    for method, path in PRIVATE:
        call(client, method, address(path, own), stranger.headers)
    assert client.get(own.who.at(), headers=own.who.headers).content == before


def test_a_token_opens_only_its_own_conversation(world: World) -> None:
    several = list(world.things.values())
    seen = [
        [other.canary in world.http.get(other.who.at(), headers=one.who.headers).text for other in several]
        for one in several
    ]
    assert seen == [[one is other for other in several] for one in several]


def test_another_conversation_of_the_same_visitor_needs_a_token_of_its_own(client: TestClient) -> None:
    first = visitor(client)
    opened = client.post(f"{API}/conversations", json={}, headers=first.headers).json()
    second = Visitor(client, opened["conversation_id"], opened["token"])
    assert client.get(second.at(), headers=first.headers).status_code == 404
    renewed = client.post(second.at("/token"), headers=first.headers)
    assert renewed.status_code == 200 and set(renewed.json()) == {"token", "expires_at"}
    again = Visitor(client, second.conversation, renewed.json()["token"])
    for who in (second, again):
        assert client.get(second.at(), headers=who.headers).status_code == 200
    listed = client.get(f"{API}/conversations", headers=first.headers).json()["conversations"]
    assert [one["conversation_id"] for one in listed] == [second.conversation, first.conversation]
