"""Whatever is sent, the answer is a problem with its cure: never a 500, never a traceback, never our sender's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from bot.conversation.messages import readable
from tests.bot.channels.office import API, Office, Visitor, visitor

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def who(client: TestClient) -> Visitor:
    return visitor(client)


def check(answer: object, status: int, *words: str) -> None:
    """It is problem+json of the right status, with a cure, and repeats nothing private."""
    status_code, headers, text = answer.status_code, answer.headers, answer.text  # type: ignore[attr-defined]
    assert status_code == status, text
    assert headers["content-type"] == "application/problem+json"
    body = json.loads(text)
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert len(body["detail"]) > 15
    for word in words:
        assert word in body["detail"], body


BAD_BODIES = {
    "not json": (b"hello", 400, "JSON"),
    "half a json": (b'{"id": "a", "te', 400, "JSON"),
    "nothing": (b"", 422, "missing"),
    "not utf-8": (b'{"id": "a", "text": "\xff\xfe"}', 400, "UTF-8"),
    "a list": (b"[]", 422, ""),
    "a number": (b"17", 422, ""),
    "null": (b"null", 422, ""),
    "nan": (b'{"id": "a", "text": NaN}', 422, "text"),
    "deep": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, ""),
    "a huge number": (b'{"id": ' + b"9" * 5_000 + b"}", 400, ""),
    "no text": (b'{"id": "a"}', 422, "text: is missing"),
    "empty text": (b'{"id": "a", "text": ""}', 422, "text: is empty"),
    "unreadable text": (b'{"id": "a", "text": "\\u202e\\ufeff\\u0007"}', 422, "text: is empty"),
    "blank text": (b'{"id": "a", "text": " \\n\\t\\u3000"}', 422, "text: is empty"),
    "text is a number": (b'{"id": "a", "text": 5}', 422, "text"),
    "null character": (b'{"id": "a", "text": "a\\u0000b"}', 422, "null character"),
    "lone surrogate": (b'{"id": "a", "text": "a\\ud800b"}', 422, "surrogate"),
    "surrogate in the id": (b'{"id": "\\udfff", "text": "b"}', 422, "surrogate"),
    "surrogate as a field": (b'{"id": "a", "text": "b", "\\ud800": 1}', 422, ""),
    "no id": (b'{"text": "b"}', 422, "id: is missing"),
    "id with a space": (b'{"id": "a b", "text": "b"}', 422, "id"),
    "id with a line end": (b'{"id": "a\\n", "text": "b"}', 422, "id"),
    "long id": (b'{"id": "' + b"a" * 65 + b'", "text": "b"}', 422, "id"),
    "unknown field": (b'{"id": "a", "text": "b", "<script>": 1}', 422, "does not know"),
    "too long": (json.dumps({"id": "a", "text": "x" * 4_001}).encode(), 422, "4,001 characters"),
    "too long in escapes": (json.dumps({"id": "a", "text": "字" * 4_001}).encode(), 422, "4,001 characters"),
    "65 kB": (json.dumps({"id": "a", "text": "x" * 65_536}).encode(), 413, "4,000"),
    "10 MB": (b'{"text": "' + b"x" * 10_000_000 + b'"}', 413, "4,000"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused_with_the_cure(client: TestClient, who: Visitor, name: str) -> None:
    content, status, words = BAD_BODIES[name]
    for tail in ("/messages", "/messages?wait=true"):
        check(client.post(who.at(tail), content=content, headers=who.headers | JSON), status, words)


@pytest.mark.parametrize("text", ["x" * 4_000, "字" * 4_000, "😀" * 4_000, "a\u200db", "\\ud83d\\ude00"])
def test_the_longest_and_strangest_good_text_is_answered(client: TestClient, who: Visitor, text: str) -> None:
    assert who.ask(text)["text"] == text


def test_a_body_that_hides_its_length_is_counted(client: TestClient, who: Visitor) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"id": "a", "text": "'
        yield from [b"x" * 8_000] * 50
        yield b'"}'

    check(client.post(who.at("/messages"), content=pieces(), headers=who.headers | JSON), 413, "4,000")


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30])
def test_a_length_that_is_no_length_is_refused(client: TestClient, who: Visitor, length: str) -> None:
    headers = who.headers | JSON | {"Content-Length": length}
    check(client.post(who.at("/messages"), content=b"{}", headers=headers), 413)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp", "text/json"],
)
def test_a_body_that_does_not_say_it_is_json_is_refused(client: TestClient, who: Visitor, kind: str) -> None:
    headers = who.headers | ({"Content-Type": kind} if kind else {})
    body = b'{"id": "a", "text": "b"}'
    check(client.post(who.at("/messages"), content=body, headers=headers), 415, "application/json")
    check(client.post(f"{API}/conversations", content=body, headers=headers), 415, "application/json")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_may_say_so_in_any_spelling(client: TestClient, who: Visitor, kind: str) -> None:
    headers = who.headers | {"Content-Type": kind}
    assert client.post(who.at("/messages"), content=b'{"id": "a", "text": "b"}', headers=headers).status_code == 202


@pytest.mark.parametrize("number", ["-1", "1.5", "abc", "9" * 40, "１２", "1 OR 1"])
def test_a_last_event_id_that_is_no_number_is_refused(client: TestClient, who: Visitor, number: str) -> None:
    answer = client.get(who.at("/events"), headers=who.headers | {"Last-Event-ID": number.encode()})  # type: ignore[dict-item]
    check(answer, 400, "Last-Event-ID")


@pytest.mark.parametrize(("identity", "status"), [("a.b.c", 401), ("a.b", 422), ("", 422), (7, 422)])
def test_an_identity_that_proves_nothing_is_refused_and_not_ignored(
    client: TestClient, identity: object, status: int
) -> None:
    check(client.post(f"{API}/conversations", json={"identity": identity}), status)


def test_an_unknown_page_and_a_wrong_method_are_problems_too(client: TestClient) -> None:
    check(client.get("/nothing/here"), 404, "/openapi.json")
    check(client.get("/consoles"), 404)
    check(client.put(f"{API}/conversations", json={}), 405, "method")
    check(client.get("/articles/none.md"), 404, "article")
    check(client.get("/assets/v1/../../bodies.py"), 404)
    check(client.get("/assets/v1/chat.html"), 404)


def test_a_fault_of_ours_says_its_incident_number_and_nothing_else(office: Office, client: TestClient) -> None:
    def broken(source: str) -> None:
        raise RuntimeError("secret of a customer")

    kept = office.shelf.document
    office.shelf.document = broken  # type: ignore[method-assign,assignment]
    try:
        with capture_logs() as lines:
            answer = client.get("/articles/a.md")
    finally:
        office.shelf.document = kept  # type: ignore[method-assign]
    check(answer, 500, "incident")
    fault = next(line for line in lines if line["event"] == "fault")
    assert fault["incident"] in answer.json()["detail"]
    assert fault["kind"] == "RuntimeError"
    assert str(fault["frames"][-1]).startswith("test_problems.py:")
    assert "secret of a customer" not in str(lines) + answer.text


@pytest.mark.slow
def test_naughty_strings_are_said_back_or_refused_and_never_break_anything(
    client: TestClient, shared_datasets: Path
) -> None:
    strings: list[str] = json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8"))
    assert len(strings) > 500
    for number, text in enumerate(strings[::6]):
        message = {"id": f"n{number}", "text": text}
        answer = client.post(f"{API}/conversations", json={"message": message})
        refused = not readable(text) or "\x00" in text
        assert answer.status_code == (422 if refused else 201), (text, answer.text)
        if not refused and answer.json()["turn"]["status"] == "approved":
            assert answer.json()["turn"]["text"] == readable(text)
    who = visitor(client)
    for number, text in enumerate(strings[1::10]):
        attempts = [
            client.post(who.at("/rating"), json={"stars": 3, "comment": text}, headers=who.headers),
            client.post(f"{API}/conversations", json={"site": text}),
            client.post(who.at("/messages"), json={"id": text, "text": f"x{number}"}, headers=who.headers),
        ]
        assert all(answer.status_code < 500 for answer in attempts), text
