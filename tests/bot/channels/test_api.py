"""The HTTP contract: names, status codes and what each address does."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from bot.storage.conversations import find_conversation
from bot.storage.feedback import clicks_on, feedback_on
from bot.storage.turns import history
from tests.bot.channels.office import API, Office, SlowSource, hear, open_office, visitor

TURN_KEYS = {
    "id", "status", "text", "citations", "suggestions", "intent", "confidence", "model_version", "index_version", "ms",
}  # fmt: skip


def test_a_conversation_opens_with_an_id_and_a_token_that_nobody_can_guess(client: TestClient) -> None:
    opened = [client.post(f"{API}/conversations").json() for _ in range(20)]
    assert all(set(each) == {"conversation_id", "token", "expires_at", "status"} for each in opened)
    assert len({each["conversation_id"] for each in opened} | {each["token"] for each in opened}) == 40
    assert all(len(each["conversation_id"]) >= 22 and len(each["token"]) >= 43 for each in opened)  # 128, 256 bits


def test_the_record_keeps_no_token(office: Office, client: TestClient) -> None:
    who = visitor(client)
    with office.database.read() as connection:
        everything = str(connection.exec_driver_sql("SELECT * FROM conversations").all())
    assert who.conversation in everything
    assert who.token not in everything


def test_first_message_comes_back_answered_in_the_same_round_trip(office: Office, client: TestClient) -> None:
    message = {"id": str(uuid.uuid4()), "text": "refund?"}
    answer = client.post(f"{API}/conversations", json={"channel": "terminal", "message": message})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"conversation_id", "token", "expires_at", "status", "turn"}
    assert body["turn"]["status"] == "grounded"
    assert find_conversation(office.database, body["conversation_id"]).channel == "terminal"
    (stored,) = history(office.database, body["conversation_id"])
    assert (stored.id, stored.message.id, stored.message.text) == (body["turn"]["id"], message["id"], "refund?")


def test_a_turn_has_exactly_the_fields_of_the_contract(client: TestClient) -> None:
    turn = visitor(client).ask("refund?")
    assert set(turn) == TURN_KEYS
    assert turn["citations"] == [
        {
            "title": "Refunds",
            "url": f"/articles/returns/refunds.md#p-{place}",
            "quote": quote,
        }
        for place, quote in (
            ("inspect", "we inspect it within 5 business days"),
            ("money", "Credit cards take 3 to 7 business days"),
        )
    ]
    assert turn["suggestions"] == ["How do I return something?", "Is a label free?"]
    assert (turn["intent"], turn["confidence"], turn["ms"]) == ("refund_time", 0.9123, 1.75)
    assert (turn["model_version"], turn["index_version"]) == ("model-1", "index-1")


def test_a_message_is_accepted_with_its_own_id_and_answered_afterwards(office: Office, client: TestClient) -> None:
    who = visitor(client)
    accepted = client.post(who.at("/messages"), json={"id": "my-id-1", "text": "hello"}, headers=who.headers)
    assert (accepted.status_code, accepted.json()) == (202, {"message_id": "my-id-1"})
    turn = who.ask("hello", "my-id-1")
    assert [stored.id for stored in history(office.database, who.conversation)] == [turn["id"]]


@pytest.mark.parametrize("again", ["wait", "accept", "stream"])
def test_the_same_id_again_is_the_same_message(office: Office, client: TestClient, again: str) -> None:
    who = visitor(client)
    first = who.ask("hello", "same")
    headers = who.headers | ({"Accept": "text/event-stream"} if again == "stream" else {})
    address = who.at("/messages") + ("?wait=true" if again == "wait" else "")
    answer = client.post(address, json={"id": "same", "text": "something else"}, headers=headers)
    if again == "stream":
        (heard,) = hear(iter(answer.text.splitlines()))
        assert (heard.name, heard.data) == ("turn", first)
    else:
        assert answer.json() == (first if again == "wait" else {"message_id": "same"})
    assert len(history(office.database, who.conversation)) == 1


def test_the_reply_streams_in_the_response_and_ends_with_its_turn(client: TestClient) -> None:
    who = visitor(client)
    response = client.post(
        who.at("/messages"),
        json={"id": "s1", "text": "refund?"},
        headers=who.headers | {"Accept": "text/event-stream"},
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-transform" in response.headers["cache-control"]
    *tokens, turn = hear(iter(response.text.splitlines()))
    assert [event.name for event in tokens] == ["token", "token"]
    assert {event.data["message_id"] for event in tokens} == {"s1"}
    assert turn.name == "turn"
    assert set(turn.data) == TURN_KEYS
    assert "".join(str(event.data["text"]) for event in tokens) == turn.data["text"]
    numbers = [event.id for event in (*tokens, turn)]
    assert numbers == sorted(set(numbers), key=lambda number: number or 0)


def test_a_conversation_reads_back_in_order(client: TestClient) -> None:
    who = visitor(client)
    turns = [who.ask("hello", "m1"), who.ask("refund?", "m2")]
    body = client.get(who.at(), headers=who.headers).json()
    assert set(body) == {"status", "messages", "last_event_id"}
    assert body["status"] == "open"
    assert [(m["id"], m["from"], m["text"]) for m in body["messages"]] == [
        ("m1", "customer", "hello"),
        (turns[0]["id"], "bot", "hello"),
        ("m2", "customer", "refund?"),
        (turns[1]["id"], "bot", turns[1]["text"]),
    ]
    assert [m.get("turn") for m in body["messages"]] == [None, turns[0], None, turns[1]]
    assert all("turn" not in m for m in body["messages"] if m["from"] == "customer")
    assert all(m["at"].endswith(("Z", "+00:00")) for m in body["messages"])


def test_the_last_verdict_on_a_turn_counts(office: Office, client: TestClient) -> None:
    who = visitor(client)
    turn = str(who.ask("refund?")["id"])
    for body in ({"verdict": "up"}, {"verdict": "down", "reason": "outdated", "comment": "it is 10 days now"}):
        assert client.post(f"{API}/turns/{turn}/feedback", json=body, headers=who.headers).status_code == 204
    (kept,) = feedback_on(office.database, turn)
    assert (kept.verdict, kept.reason, kept.comment) == ("down", "outdated", "it is 10 days now")


def test_only_what_a_turn_offered_can_be_clicked(office: Office, client: TestClient) -> None:
    who = visitor(client)
    turn = who.ask("refund?")

    def click(**body: str) -> int:
        return client.post(f"{API}/turns/{turn['id']}/click", json=body, headers=who.headers).status_code

    assert click(suggestion="Is a label free?") == 204
    assert click(citation="/articles/returns/refunds.md#p-money") == 204
    assert click(suggestion="something else") == 422
    assert click(citation="https://evil.example/") == 422
    assert click() == 422
    assert click(suggestion="Is a label free?", citation="/articles/returns/refunds.md#p-money") == 422
    assert {(c.kind, c.target) for c in clicks_on(office.database, str(turn["id"]))} == {
        ("suggestion", "Is a label free?"),
        ("citation", "/articles/returns/refunds.md#p-money"),
    }


def test_asking_for_a_person_makes_the_conversation_wait_for_one(client: TestClient) -> None:
    who = visitor(client)
    for _ in range(2):
        assert client.post(who.at("/handover"), headers=who.headers).json() == {"status": "waiting"}
    assert client.get(who.at(), headers=who.headers).json()["status"] == "waiting"


def test_an_ended_conversation_opens_again_when_something_is_said(client: TestClient) -> None:
    who = visitor(client)
    assert client.post(who.at("/end"), json={}, headers=who.headers).json() == {"status": "resolved"}
    who.ask("one more thing")
    assert client.get(who.at(), headers=who.headers).json()["status"] == "open"


@pytest.mark.parametrize("stars", [1, 5])
def test_a_conversation_can_be_rated(office: Office, client: TestClient, stars: int) -> None:
    who = visitor(client)
    body = {"stars": stars, "comment": "fine"}
    assert client.post(who.at("/rating"), json=body, headers=who.headers).status_code == 204
    with office.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT stars, comment FROM ratings WHERE conversation_id = ?", (who.conversation,)
        ).all()
    assert [tuple(row) for row in rows] == [(stars, "fine")]


@pytest.mark.parametrize("stars", [0, 6, "5", 4.5, True, None])
def test_a_rating_is_one_to_five_stars(client: TestClient, stars: object) -> None:
    who = visitor(client)
    assert client.post(who.at("/rating"), json={"stars": stars}, headers=who.headers).status_code == 422


def test_a_forgotten_conversation_is_gone_with_everything_in_it(office: Office, client: TestClient) -> None:
    who = visitor(client)
    turn = who.ask("my secret is 4711")
    assert client.delete(who.at(), headers=who.headers).status_code == 204
    assert client.get(who.at(), headers=who.headers).status_code == 404
    assert client.delete(who.at(), headers=who.headers).status_code == 404
    body = {"verdict": "up"}
    assert client.post(f"{API}/turns/{turn['id']}/feedback", json=body, headers=who.headers).status_code == 404
    assert history(office.database, who.conversation) == ()


def test_a_fault_of_the_assistant_is_answered_honestly(client: TestClient) -> None:
    turn = visitor(client).ask("fail please")
    assert turn["status"] == "handed_over"
    assert turn["text"]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/health/live", 200, {"status": "live"}),
        ("/health/ready", 200, {"status": "ready", "degraded": False}),
    ],
)
def test_health(client: TestClient, path: str, status: int, body: dict[str, object]) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (status, body)


def test_openapi_names_every_address_of_the_contract(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    told = {(method, path) for path, methods in paths.items() for method in methods}
    conversation, turn = f"{API}/conversations/{{conversation_id}}", f"{API}/turns/{{turn_id}}"
    assert told >= {
        ("post", f"{API}/conversations"),
        ("post", f"{conversation}/messages"),
        ("get", conversation),
        ("get", f"{conversation}/events"),
        ("post", f"{turn}/feedback"),
        ("post", f"{turn}/click"),
        ("post", f"{conversation}/handover"),
        ("post", f"{conversation}/rating"),
        ("post", f"{conversation}/end"),
        ("delete", conversation),
        ("get", "/health/live"),
        ("get", "/health/ready"),
    }


def test_openapi_tells_what_a_problem_looks_like(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["components"]["schemas"]["ProblemBody"]["properties"]) == {"type", "title", "status", "detail"}
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            if path.startswith(API):
                assert set(told["responses"]) >= {"401", "404", "422", "429", "503"}, (method, path)
                content = told["responses"]["404"]["content"]
                assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}


def test_too_many_messages_are_refused_at_once_with_a_time_to_come_back(tmp_path: Path) -> None:
    slow = SlowSource()
    with open_office(tmp_path, slow, most_in_one_conversation=2) as office, office.client() as http:
        who = visitor(http)
        answers = [
            http.post(who.at("/messages"), json={"id": f"x{number}", "text": "hello"}, headers=who.headers)
            for number in range(3)
        ]
        for _ in range(2):
            slow.finish(who)
    assert [answer.status_code for answer in answers] == [202, 202, 503]
    assert answers[2].headers["retry-after"] == "1"
    assert "same id" in answers[2].json()["detail"]
