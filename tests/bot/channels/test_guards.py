"""Hosts, origins, headers and the request log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from bot.server import create_application
from tests.bot.channels.office import API, PLENTY, STOREFRONT, Office, visitor

OURS = ("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "help.example.com:443")
FOREIGN = (
    "evil.example", "localhost.evil.example", "evil-localhost", "help.example.com.evil.example", "nothelp.example.com",
    "localhost:8080@evil.example", "evil.example:80#localhost", "localhost:x", "", " ", "127.0.0.1.evil.example",
    "0x7f.1.evil", "hеlp.example.com", "help.example.com:", "[::1",
)  # fmt: skip


@pytest.fixture(scope="module")
def named(office: Office) -> TestClient:
    """The same office, also known as help.example.com."""
    application = create_application(
        office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY, hosts=["help.example.com"]
    )
    return TestClient(application, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize("host", OURS)
def test_the_service_answers_to_its_names_and_to_numbers(named: TestClient, host: str) -> None:
    assert named.get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_any_other_host_is_refused_with_the_cure(named: TestClient, host: str) -> None:
    for path in ("/", "/health/live", f"{API}/conversations/x"):
        answer = named.get(path, headers={"Host": host.encode()})  # type: ignore[dict-item]
        assert answer.status_code == 421
        assert "allowed_hosts" in answer.json()["detail"]


ORIGINS = (
    "null", "", "http://evil.example", "https://evil.example", "http://localhost.evil.example", "http://localhost:9999",
    "https://localhost:8080", "file://", "http://", "localhost", "http://127.0.0.1:8080", "http://localhost:80:80",
    "chrome-extension://abc", "http://sub.help.example.com", "http://help.example.com.evil.example", "javascript://x",
    "http://localhost@evil.example", "data:", "ws://localhost", "http://hеlp.example.com", "https://xn--hlp-8cd.example",
)  # fmt: skip
BODIES = (
    (b'{"id": "a", "text": "b"}', "application/json"),
    (b'{"id": "a", "text": "b"}', "text/plain"),
    (b"id=a&text=b", "application/x-www-form-urlencoded"),
    (b"", "application/json"),
)


@pytest.mark.slow
@pytest.mark.parametrize("origin", ORIGINS)
def test_pages_of_other_origins_can_write_nothing(named: TestClient, origin: str) -> None:
    who = visitor(named)
    headers = who.headers | {"Host": "localhost", "Origin": origin}
    for method, path in (
        ("POST", f"{API}/conversations"), ("POST", who.at("/messages")), ("POST", who.at("/handover")),
        ("POST", who.at("/end")), ("POST", who.at("/rating")), ("DELETE", who.at()),
    ):  # fmt: skip
        for body, kind in BODIES:
            raw = {name: value.encode() for name, value in (headers | {"Content-Type": kind}).items()}
            answer = named.request(method, path, content=body, headers=raw)  # type: ignore[arg-type]
            assert answer.status_code == 403, (method, path, kind)
            assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert named.get(who.at(), headers=who.headers).json()["messages"] == []


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("help.example.com", "https://help.example.com"),
        ("127.0.0.1:8080", "https://help.example.com"),  # behind a proxy that ends TLS
    ],
)
def test_our_own_pages_can_write(named: TestClient, host: str, origin: str) -> None:
    assert named.post(f"{API}/conversations", headers={"Host": host, "Origin": origin}).status_code == 201


def test_no_other_site_may_ask_first_either(named: TestClient) -> None:
    answer = named.options(
        f"{API}/conversations",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_what_is_private_is_never_cached(client: TestClient) -> None:
    who = visitor(client)
    answers = [client.get(who.at(), headers=who.headers), client.get(who.at()), client.get("/nothing")]
    assert [answer.status_code for answer in answers] == [200, 401, 404]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_log_holds_no_text_no_token_and_no_id(client: TestClient, shared_datasets: Path) -> None:
    strings = json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8"))[::25]
    planted = ["4111 1111 1111 1111", "anna@example.com", "line one\nline two", "\x1b[31mred\x1b[0m"]
    with capture_logs() as lines:
        who = visitor(client)
        for text in (*planted, *strings):
            client.post(who.at("/messages?wait=true"), json={"id": "x", "text": text}, headers=who.headers)
            client.get(f"/articles/{text!r}", headers={"User-Agent": "planted-agent"})
        client.get(who.at("?note=planted-query"), headers=who.headers)
    assert len(lines) > 40
    logged = json.dumps(lines)
    for secret in (*planted, who.token, who.conversation, "planted-query", "planted-agent", "example.com", "4111"):
        assert json.dumps(secret)[1:-1] not in logged
    assert {line["route"] for line in lines} == {
        f"{API}/conversations",
        f"{API}/conversations/{{conversation_id}}/messages",
        f"{API}/conversations/{{conversation_id}}",
        "/articles/{source:path}",
    }
    subjects = {line["subject"] for line in lines if line["subject"]}
    assert len(subjects) == 1, "one conversation can be followed through the log without naming it"


def test_health_checks_are_not_logged(client: TestClient) -> None:
    with capture_logs() as lines:
        client.get("/health/live")
        client.get("/health/ready")
    assert lines == []
    assert structlog.get_config()["processors"]
