"""Files to a person: when they are taken, what comes back and how, and that nothing is served as a page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from bot.server import LARGEST_UPLOAD, create_application
from bot.storage.files import LARGEST_FILE
from tests.bot.channels.office import API, PLENTY, STOREFRONT, Office, Scripted, Visitor, open_office, visitor
from tests.bot.storage.sample import ANNA, hire

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def office(folder: Path) -> Iterator[Office]:
    with open_office(folder, Scripted()) as office:
        hire(office.database, ANNA)
        yield office


@pytest.fixture(scope="module")
def http(office: Office) -> Iterator[TestClient]:
    with office.client() as http:
        yield http


@pytest.fixture
def who(office: Office, http: TestClient) -> Visitor:
    """Somebody whom a person talks to."""
    found = visitor(http)
    office.desk.take(found.conversation, ANNA)
    return found


def send(who: Visitor, content: bytes = PNG, name: str = "photo.png", kind: str = "image/png") -> dict[str, object]:
    answer = who.http.post(who.at("/files"), files={"file": (name, content, kind)}, headers=who.headers)
    assert answer.status_code == 201, answer.text
    stored: dict[str, object] = answer.json()
    return stored


def test_a_file_comes_back_byte_for_byte_as_an_attachment(http: TestClient, who: Visitor) -> None:
    who.ask("look at this")
    stored = send(who, name="Foto Größe 字.png")
    assert stored == {"id": stored["id"], "name": "Foto Größe 字.png", "bytes": len(PNG), "type": "image/png"}
    answer = http.get(f"{API}/files/{stored['id']}", headers=who.headers)
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Foto Gr__e _.png\"; filename*=UTF-8''Foto%20Gr%C3%B6%C3%9Fe%20%E5%AD%97.png"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_an_upload_that_the_customer_breaks_off_is_no_fault_of_ours(office: Office, who: Visitor) -> None:
    said: list[Message] = []
    half = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + PNG
    steps: list[Message] = [{"type": "http.request", "body": half, "more_body": True}, {"type": "http.disconnect"}]
    came = iter(steps)

    async def receive() -> Message:
        return next(came)

    async def send_on(message: Message) -> None:
        said.append(message)

    headers = {"host": "localhost", "content-type": "multipart/form-data; boundary=cut", **who.headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": who.at("/files"),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(office.application(scope, receive, send_on))
    assert said[0]["status"] == 400


def test_the_history_shows_a_file_where_it_was_sent(http: TestClient, who: Visitor) -> None:
    first = send(who, name="first.png")
    who.ask("hello", "m1")
    second = send(who, name="second.png")
    messages = http.get(who.at(), headers=who.headers).json()["messages"]
    assert [(m["from"], m.get("file")) for m in messages] == [
        ("customer", first),
        ("customer", None),
        ("bot", None),
        ("customer", second),
    ]
    assert messages[0]["id"] == first["id"] and messages[0]["text"] == ""


def test_what_a_file_calls_itself_decides_nothing(http: TestClient, who: Visitor) -> None:
    page = b"<html><script>alert(document.domain)</script></html>"
    stored = send(who, page, "page.html", "text/html")
    assert (stored["name"], stored["type"]) == ("page.html.txt", "text/plain")
    answer = http.get(f"{API}/files/{stored['id']}", headers=who.headers)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-disposition"].startswith("attachment;")
    for content, name, kind in ((b"MZ\x90\0", "a.png", "image/png"), (b"", "a.png", "image/png")):
        refused = http.post(who.at("/files"), files={"file": (name, content, kind)}, headers=who.headers)
        assert (refused.status_code, refused.json()["title"]) == (415, "File not taken")


@pytest.mark.parametrize(
    "name", ['a"; filename="b.exe', "a\r\nX-Evil: 1.png", "../../x.png", "<svg onload=alert(1)>.png", "\u202egnp.exe"]
)
def test_a_name_breaks_no_header(http: TestClient, who: Visitor, name: str) -> None:
    stored = send(who, name=name)
    answer = http.get(f"{API}/files/{stored['id']}", headers=who.headers)
    said = answer.headers["content-disposition"]
    assert said.count('"') == 2 and said.isascii() and "x-evil" not in answer.headers
    assert str(stored["name"]).endswith(".png") and "/" not in str(stored["name"])


@pytest.mark.parametrize("status", ["open", "resolved"])
def test_files_are_taken_only_while_a_person_is_awaited_or_there(
    office: Office, http: TestClient, who: Visitor, status: str
) -> None:
    step = {"open": office.desk.give_back, "resolved": office.desk.resolve}[status]
    step(who.conversation, ANNA)
    answer = http.post(who.at("/files"), files={"file": ("a.png", PNG)}, headers=who.headers)
    assert (answer.status_code, answer.json()["title"]) == (409, "No person yet")


def test_too_large_a_file_is_refused_also_when_it_hides_its_length(http: TestClient, who: Visitor) -> None:
    big = PNG + b"\0" * LARGEST_FILE
    answer = http.post(who.at("/files"), files={"file": ("a.png", big)}, headers=who.headers)
    assert answer.status_code in (413, 415)

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + PNG
        yield from [b"\0" * 2**20] * (LARGEST_UPLOAD // 2**20 + 2)
        yield b"\r\n--x--\r\n"

    headers = who.headers | {"Content-Type": "multipart/form-data; boundary=x"}
    assert http.post(who.at("/files"), content=pieces(), headers=headers).status_code == 413
    assert http.get(who.at(), headers=who.headers).json()["messages"] == []


FORM = "multipart/form-data; boundary=x"


def part(disposition: str) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\ntext\r\n".encode()


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"file=x", "application/x-www-form-urlencoded", 415),
        (b"garbage", FORM, 400),
        (b"garbage", "multipart/form-data", 400),
        (part('name="file"') + b"--x--\r\n", FORM, 422),
        (part('name="other"; filename="a"') + b"--x--\r\n", FORM, 422),
        (b"--x\r\nno header\r\n\r\ntext\r\n--x--\r\n", FORM, 400),
        (part('name="file"; filename="a"') * 3 + b"--x--\r\n", FORM, 400),
        (part('name="f"') * 10 + b"--x--\r\n", FORM, 400),
        (b"", FORM, 422),
    ],
)
def test_a_form_that_is_none_is_refused_with_the_cure(
    http: TestClient, who: Visitor, content: bytes, kind: str, status: int
) -> None:
    answer = http.post(who.at("/files"), content=content, headers=who.headers | {"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "JSON" not in answer.json()["detail"]


def test_nobody_sends_a_byte_into_a_foreign_conversation(http: TestClient, who: Visitor, folder: Path) -> None:
    before = sorted((folder / "files").iterdir())
    stranger = visitor(http)
    for headers in ({}, stranger.headers):
        answer = http.post(who.at("/files"), files={"file": ("a.png", PNG)}, headers=headers)
        assert answer.status_code in (401, 404)
    assert sorted((folder / "files").iterdir()) == before


def test_forgetting_the_conversation_deletes_its_files(http: TestClient, who: Visitor, folder: Path) -> None:
    stored = send(who)
    assert (folder / "files" / str(stored["id"])).exists()
    assert http.delete(who.at(), headers=who.headers).status_code == 204
    assert not (folder / "files" / str(stored["id"])).exists()
    assert http.get(f"{API}/files/{stored['id']}", headers=who.headers).status_code == 404


def test_a_file_whose_content_is_gone_is_not_found(http: TestClient, who: Visitor, folder: Path) -> None:
    stored = send(who)
    (folder / "files" / str(stored["id"])).unlink()
    assert http.get(f"{API}/files/{stored['id']}", headers=who.headers).status_code == 404


def test_a_visitor_sends_so_many_files_a_minute(office: Office, who: Visitor) -> None:
    application = create_application(
        office.desk, office.database, office.shelf, STOREFRONT, allowance=replace(PLENTY, files_per_visitor=2)
    )
    with TestClient(application, base_url="http://localhost") as http:
        files = {"file": ("a.png", PNG)}
        answers = [http.post(who.at("/files"), files=files, headers=who.headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
