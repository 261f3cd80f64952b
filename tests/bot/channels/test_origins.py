"""Which pages may use the API: those of the site's list, exactly; what a browser is told about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from bot.channels.web.origins import FRESH_SECONDS
from bot.storage.sites import Site, change_site, create_site
from tests.bot.channels.office import API, Office, Scripted, Visitor, open_office

SHOP = "https://shop.example"
BLOG = "https://blog.example:8443"
PUNY = "https://xn--bcher-kva.example"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("origins"), Scripted()) as office:
        yield office


@pytest.fixture(scope="module")
def http(office: Office) -> Iterator[TestClient]:
    with office.client() as http:
        yield http


def known(office: Office, name: str, *origins: str) -> Site:
    """A site of which the service has heard, as it does by itself within a second."""
    site, _ = create_site(office.database, name, origins=origins, actor="test")
    office.application.state.door.sites.refresh()
    return site


@pytest.fixture(scope="module")
def shop(office: Office) -> Site:
    return known(office, "Shop", SHOP, "https://bücher.example")


@pytest.fixture(scope="module")
def blog(office: Office) -> Site:
    return known(office, "Blog", BLOG)


def opened(http: TestClient, site: Site, origin: str | None = None) -> Visitor:
    headers = {} if origin is None else {"Origin": origin}
    answer = http.post(f"{API}/conversations", json={"site": site.id}, headers=headers)
    assert answer.status_code == 201, answer.text
    return Visitor(http, answer.json()["conversation_id"], answer.json()["token"])


@pytest.mark.parametrize("origin", [SHOP, PUNY])
def test_a_page_of_the_site_can_do_everything_and_read_the_answer(http: TestClient, shop: Site, origin: str) -> None:
    who = opened(http, shop, origin)
    headers = who.headers | {"Origin": origin}
    answers = [
        http.get(f"{API}/sites/{shop.id}", headers={"Origin": origin}),
        http.post(who.at("/messages?wait=true"), json={"id": "1", "text": "hello"}, headers=headers),
        http.get(who.at(), headers=headers),
        http.get(f"{API}/conversations", headers=headers),
        http.get(who.at() + "x", headers=headers),  # a problem must be readable too
        http.post(who.at("/messages"), content=b"x", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 415]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
        assert "Retry-After" in answer.headers["access-control-expose-headers"]


def test_a_browser_that_asks_first_is_told_what_it_may_send(http: TestClient, shop: Site) -> None:
    who = opened(http, shop)
    for place in (f"{API}/conversations", who.at("/messages"), who.at(), f"{API}/conversations/unknown"):
        answer = http.options(
            place,
            headers={
                "Origin": SHOP,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )
        assert (answer.status_code, answer.content) == (204, b"")
        told = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
        assert told.pop("access-control-expose-headers")
        assert told == {
            "access-control-allow-origin": SHOP,
            "access-control-allow-methods": "GET, POST, DELETE",
            "access-control-allow-headers": "Authorization, Content-Type, Last-Event-ID",
            "access-control-max-age": "600",
        }


NEARLY = (
    "null", "*", "", "http://shop.example", "https://shop.example:444", "https://shop.example:443", "https://www.shop.example",
    "https://shop.example.evil.example", "https://evilshop.example", "https://shop.example/", "https://SHOP.example",
    "https://shop.example ", "https://shop.example@evil.example", "https://shop.example#.evil.example", "HTTPS://shop.example",
    "https://b\xfccher.example", "https://blog.example", "https://shop.example, https://shop.example", "file://", "https://shop",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("origin", NEARLY)
def test_what_is_nearly_the_origin_is_not_it(http: TestClient, shop: Site, blog: Site, origin: str) -> None:
    who = opened(http, shop)
    raw = {"Origin": origin.encode("latin-1"), "Authorization": who.headers["Authorization"].encode()}
    first = raw | {"Access-Control-Request-Method": b"POST"}
    answers = [
        http.post(f"{API}/conversations", json={"site": shop.id}, headers=raw),  # type: ignore[arg-type]
        http.get(who.at(), headers=raw),  # type: ignore[arg-type]
        http.get(f"{API}/sites/{shop.id}", headers=raw),  # type: ignore[arg-type]
        http.options(f"{API}/conversations", headers=first),  # type: ignore[arg-type]
        http.delete(who.at(), headers=raw),  # type: ignore[arg-type]
    ]
    for answer in answers:
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert http.get(who.at(), headers=who.headers).status_code == 200


def test_two_origins_at_once_are_none(http: TestClient, shop: Site) -> None:
    headers = [("Origin", SHOP), ("Origin", SHOP)]
    assert http.post(f"{API}/conversations", json={"site": shop.id}, headers=headers).status_code == 403


def test_a_page_of_one_site_cannot_use_another_not_even_with_its_token(
    http: TestClient, shop: Site, blog: Site
) -> None:
    who = opened(http, shop)
    turn = who.ask("refund?")["id"]
    headers = who.headers | {"Origin": BLOG}
    answers = [
        http.post(f"{API}/conversations", json={"site": shop.id}, headers={"Origin": BLOG}),
        http.post(f"{API}/conversations", json={}, headers={"Origin": BLOG}),  # our own chat page is for us alone
        http.get(f"{API}/sites/{shop.id}", headers={"Origin": BLOG}),
        http.get(who.at(), headers=headers),
        http.post(who.at("/messages"), json={"id": "1", "text": "x"}, headers=headers),
        http.get(f"{API}/conversations", headers=headers),
        http.post(who.at("/token"), headers=headers),
        http.post(f"{API}/turns/{turn}/feedback", json={"verdict": "up"}, headers=headers),
    ]
    for answer in answers:
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert http.get(f"{API}/sites/{blog.id}", headers={"Origin": BLOG}).status_code == 200


def test_what_no_page_sends_works_with_a_token_and_our_own_pages_with_every_site(http: TestClient, shop: Site) -> None:
    for origin in (None, "http://localhost"):
        who = opened(http, shop, origin)
        headers = who.headers | ({} if origin is None else {"Origin": origin})
        answer = http.get(who.at(), headers=headers)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert "Origin" in answer.headers["vary"]


@pytest.mark.slow
def test_nothing_but_the_api_is_opened_to_other_origins(http: TestClient, shop: Site) -> None:
    for path in ("/", "/articles/returns/refunds.md", "/health/ready", "/openapi.json", "/console/login"):
        answer = http.get(path, headers={"Origin": SHOP})
        assert "access-control-allow-origin" not in answer.headers, path
        asked = http.options(path, headers={"Origin": SHOP, "Access-Control-Request-Method": "POST"})
        assert asked.status_code in (404, 405) and "access-control-allow-origin" not in asked.headers, path
        assert http.post(path, headers={"Origin": SHOP}).status_code == 403, path


def test_an_origin_that_was_taken_off_the_list_is_refused_from_then_on(office: Office, http: TestClient) -> None:
    site = known(office, "Short", "https://short.example")
    who = opened(http, site, "https://short.example")
    change_site(office.database, replace(site, origins=()), actor="test")
    office.application.state.door.sites.refresh()  # as it does by itself within a second
    answer = http.get(who.at(), headers=who.headers | {"Origin": "https://short.example"})
    assert answer.status_code == 403
    assert http.get(who.at(), headers=who.headers).status_code == 200


def test_a_site_says_what_the_widget_shows(office: Office, http: TestClient) -> None:
    made, _ = create_site(office.database, "Larkmoor", origins=[SHOP], actor="test")
    body = http.get(f"{API}/sites/{made.id}").json()
    assert body == {
        "site": made.id, "name": "Larkmoor", "title": "Larkmoor", "greeting": "", "colour": "#1f5fbf",
        "position": "right", "mode": "auto", "link_hosts": [], "open": True, "hours_text": None, "opens_at": None,
        "pre_chat": [], "identity_required": False,
        "suggestions": {
            "en": ["When does my refund arrive?", "Where is my order?"],
            "zh": ["我的退款什么时候到账？", "我的订单到哪里了？"],
        },
        "files": {
            "types": ["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain"],
            "max_bytes": 10_485_760,
        },
    }  # fmt: skip
    default = http.get(f"{API}/sites/default").json()
    assert (default["site"], default["name"]) == ("default", "Larkmoor Outfitters")
    for unknown in ("nowhere", "%00", "a" * 500):
        assert http.get(f"{API}/sites/{unknown}").status_code == 404


def test_invented_origins_cost_a_read_a_second_at_most(office: Office, http: TestClient, shop: Site) -> None:
    reads: list[str] = []

    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        reads.extend([statement] if "FROM sites" in statement else [])

    event.listen(office.database._readers, "before_cursor_execute", count)
    began = time.monotonic()
    for number in range(50):
        answer = http.get(f"{API}/sites/{shop.id}", headers={"Origin": f"https://{number}.example"})
        assert answer.status_code == 403
    assert len(reads) <= 1 + (time.monotonic() - began) / FRESH_SECONDS
    event.remove(office.database._readers, "before_cursor_execute", count)


def test_a_fault_and_a_full_house_can_be_read_by_the_page(tmp_path: Path) -> None:
    """What goes wrong must not look to a customer's page like a service that is gone."""

    def breaks() -> None:
        raise ValueError("a fault of ours")

    with open_office(tmp_path, Scripted()) as office:
        office.application.add_api_route(f"{API}/breaks", breaks)
        shop = known(office, "Shop", SHOP)
        overload = office.application.state.overload
        with TestClient(overload, base_url="http://localhost", raise_server_exceptions=False) as http:
            broken = http.get(f"{API}/breaks", headers={"Origin": SHOP})
            overload.most_inside = 0
            full = http.get(f"{API}/sites/{shop.id}", headers={"Origin": SHOP})
        for answer, status in ((broken, 500), (full, 503)):
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, SHOP), answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert full.headers["retry-after"] == "1"
