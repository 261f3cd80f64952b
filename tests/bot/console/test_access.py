"""Every route of the console against every kind of caller, from the live route table."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import Response
from sqlalchemy import select, update
from starlette.testclient import TestClient

from bot.console.access import COOKIE, RULES, TOKEN_HEADER
from bot.console.pages import answer_refusals
from bot.console.routes import console
from bot.storage.people import IDLE, SEEN_EVERY, sign_in
from bot.storage.tables import SessionRow
from tests.bot.channels.office import Office, Scripted, open_office, visitor
from tests.bot.channels.test_access import live_routes
from tests.bot.channels.test_articles import tags
from tests.bot.console.staff import PASSWORD, Member, at_work
from tests.bot.console.test_sign_in import enter
from tests.bot.storage.faulty_disk import FULL, faulty_disk

OPEN = {("GET", "/console/login"), ("POST", "/console/login"), ("GET", "/console/assets/{version}/{name}")}
LEADS_ONLY = ("/console/people", "/console/install", "/console/deliveries")
REVIEWERS = {("POST", "/console/replies"), ("POST", "/console/replies/{number}/remove")}


def routes(application: FastAPI) -> list[tuple[str, str]]:
    return sorted(route for route in live_routes(application) if route[1].startswith("/console"))


def needed(route: tuple[str, str]) -> str:
    """By hand, apart from the table under test."""
    if route in OPEN:
        return "anybody"
    if route[1].startswith(LEADS_ONLY):
        return "lead"
    return "reviewer" if route in REVIEWERS else "agent"


@pytest.fixture(scope="module")
def staff(office: Office) -> dict[str, Member]:
    return {role: at_work(office, role) for role in ("lead", "reviewer", "agent")}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def places(office: Office, staff: dict[str, Member]) -> dict[str, str]:
    """Something that exists for every parameter, but for what an allowed call would destroy."""
    customer = visitor(office.client())
    customer.ask("refund")
    return {
        "conversation_id": customer.conversation,
        "site_id": "default",
        "version": "x",
        "name": "console.css",
        "file_id": "no-such-file",
        "number": "99999",
        "notice_id": "no-such-notice",
        "person_id": "no-such-person",
    }


def call(member: Member | None, http: TestClient, route: tuple[str, str], places: dict[str, str]) -> tuple[int, str]:
    """Status and address of the answer."""
    method, path = route
    if path == "/console/events" and member is not None:  # never ends; tests/bot/browser/test_inbox.py hears it
        return 200, ""
    address = re.sub(r"\{(\w+)\}", lambda match: places[match[1]], path)
    headers = {TOKEN_HEADER: member.csrf} if member is not None else {}
    answer = http.request(method, address, headers=headers, follow_redirects=False)
    return answer.status_code, answer.headers.get("location", "")


def test_every_live_route_has_a_rule_and_every_rule_a_route(office: Office) -> None:
    live = {f"{method} {path}" for method, path in routes(office.application)}
    assert live == set(RULES)
    assert len(live) > 25


def test_a_new_route_without_a_rule_turns_the_walk_red_and_answers_nobody(office: Office) -> None:
    """The planted fault: somebody adds a page and forgets to say for whom."""
    before = list(console.routes)
    console.get("/console/planted")(lambda: "all conversations")
    try:
        application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        application.include_router(console)
        live = {f"{method} {path}" for method, path in routes(application)}
        assert live - set(RULES) == {"GET /console/planted"}
        application.state.door = office.application.state.door
        answer_refusals(application)
        lead = at_work(office, "lead")
        http = TestClient(application, base_url="http://localhost")
        http.cookies.set(COOKIE, lead.token, path="/console")
        answer = http.get("/console/planted")
        assert answer.status_code == 403 and "all conversations" not in answer.text
    finally:
        console.routes[:] = before


def test_anonymous_callers_reach_the_door_and_nothing_else(
    office: Office, anybody: TestClient, places: dict[str, str]
) -> None:
    for route in routes(office.application):
        status, address = call(None, anybody, route, places)
        if route in OPEN:
            assert status in (200, 403), route  # a sign-in without its form's token is refused
        elif route == ("GET", "/console/events"):
            assert status == 401
        else:
            assert status == 303 and address.startswith("/console/login"), route


@pytest.mark.slow
@pytest.mark.parametrize("role", ["agent", "reviewer", "lead"])
def test_roles_reach_what_is_theirs_and_no_more(
    office: Office, staff: dict[str, Member], places: dict[str, str], role: str
) -> None:
    ladder = ["anybody", "agent", "reviewer", "lead"]
    member = staff[role]
    for route in routes(office.application):
        if route in (("POST", "/console/logout"), ("POST", "/console/login")):
            continue  # the one would end the session; the other goes by its form's own token: test_sign_in.py
        status, _ = call(member, member.http, route, places)
        allowed = ladder.index(needed(route)) <= ladder.index(role)
        assert (status != 403) == allowed, (route, status)
        assert status < 500, (route, status)


@pytest.mark.parametrize("token", ["", "wrong", None])
def test_nothing_changes_without_the_sessions_own_token(
    office: Office, staff: dict[str, Member], places: dict[str, str], token: str | None
) -> None:
    lead, other = staff["lead"], staff["agent"]
    for method, path in routes(office.application):
        if method == "GET":
            continue
        address = re.sub(r"\{(\w+)\}", lambda match: places[match[1]], path)
        data = {"csrf": other.csrf if token is None else token} if token != "" else {}
        answer = lead.http.post(address, data=data, follow_redirects=False)
        assert answer.status_code == 403, path
        assert "out of date" in answer.text
    assert office.database.path.exists()


def test_a_foreign_page_cannot_send_a_form(staff: dict[str, Member]) -> None:
    lead = staff["lead"]
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        answer = lead.http.post("/console/replies", data={"csrf": lead.csrf}, headers={"Origin": origin})
        assert answer.status_code == 403


def test_an_expired_or_rotated_session_is_none(office: Office) -> None:
    member = at_work(office, "lead")
    assert member.get("/inbox").status_code == 200
    rotated = sign_in(office.database, member.person, before=member.token)
    assert member.get("/inbox").status_code == 303, "the old cookie opens nothing"
    member.http.cookies.set(COOKIE, rotated.token, path="/console")
    assert member.get("/inbox").status_code == 200
    assert member.post("/replies", title="A", text="B").status_code == 403, "nor does its token"
    old = rotated.session.key

    def age(**changed: object) -> None:
        office.database.write(
            lambda c: c.execute(update(SessionRow).where(SessionRow.token_hash == old).values(**changed))
        )

    age(seen_at=datetime.now(UTC) - IDLE - timedelta(minutes=1))
    assert member.get("/inbox").status_code == 303
    age(seen_at=datetime.now(UTC), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert member.get("/inbox").status_code == 303
    headers = member.get("/inbox/list", **{"HX-Request": "true"})
    assert (headers.status_code, headers.headers["hx-redirect"]) == (401, "/console/login?next=/console/inbox")


def test_who_comes_from_another_site_is_sent_on_by_a_page_of_ours_and_only_to_the_same_address(
    anybody: TestClient,
) -> None:
    """tests/bot/browser/test_inbox.py sees that a browser then sends the cookie it kept back."""

    def asked(address: str, site: str) -> Response:
        return anybody.get(address, headers={"Sec-Fetch-Site": site}, follow_redirects=False)

    for address in ("/console/inbox/abcdefgh?view=mine", "/console/inbox/%22%3E%3Cb%3E?view='%22%3E%3Cb%3E"):
        onward = asked(address, "cross-site")
        assert onward.status_code == 200 and "<b>" not in onward.text
        found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', onward.text)
        assert found is not None and html.unescape(found[1]) == address
        assert asked(address, "same-origin").headers["location"].startswith("/console/login?next=/console/inbox/")
    posted = anybody.post("/console/replies", headers={"Sec-Fetch-Site": "cross-site"}, follow_redirects=False)
    assert posted.status_code == 303


def test_a_page_that_renews_itself_keeps_no_session_alive(office: Office, places: dict[str, str]) -> None:
    """Who left hours ago is signed out, however much happens in the conversation on their screen."""
    member = at_work(office, "agent")
    place = f"/inbox/{places['conversation_id']}"
    before = datetime.now(UTC) - IDLE + timedelta(minutes=5)

    def seen() -> datetime:
        with office.database.read() as connection:
            return connection.execute(select(SessionRow.seen_at).where(SessionRow.csrf == member.csrf)).scalar_one()

    office.database.write(
        lambda c: c.execute(update(SessionRow).where(SessionRow.csrf == member.csrf).values(seen_at=before))
    )
    for path in ("/inbox/list", f"{place}/story", f"{place}/draft"):
        assert member.get(path, **{"HX-Request": "true"}).status_code == 200
        assert seen() == before, path
    assert member.get(place).status_code == 200
    assert seen() > before


@pytest.mark.slow
def test_while_the_disk_is_full_staff_read_on_and_are_told_what_was_not_stored(tmp_path: Path) -> None:
    with faulty_disk() as disk, open_office(tmp_path, Scripted()) as office:
        lead, customer = at_work(office, "lead"), visitor(office.client())
        customer.ask("refund please")
        long_ago = datetime.now(UTC) - SEEN_EVERY
        office.database.write(lambda c: c.execute(update(SessionRow).values(seen_at=long_ago)))
        disk.fault["write"] = FULL
        assert "refund please" in lead.get(f"/inbox/{customer.conversation}").text
        taken = lead.part(f"/inbox/{customer.conversation}/take")
        assert taken.status_code == 200 and "the disk is full" in taken.text
        for answer in (
            lead.post(f"/people/{lead.person.id}/password"),
            enter(office.client(), lead.person.name, PASSWORD),
        ):
            assert answer.status_code == 503 and answer.headers["content-type"].startswith("text/html")
            assert "nothing was changed" in answer.text and "same id" not in answer.text
        said = customer.http.post(customer.at("/messages"), json={"id": "m-2", "text": "hi"}, headers=customer.headers)
        assert said.status_code == 503 and "same id" in said.json()["detail"], "customers are told as before"
        disk.fault.clear()
        assert lead.part(f"/inbox/{customer.conversation}/take").status_code == 200


def test_a_temporary_password_opens_only_the_choice_of_another(office: Office, places: dict[str, str]) -> None:
    member = at_work(office, "lead", temporary=True)
    for route in routes(office.application):
        if route in OPEN or route[1] in ("/console/password", "/console/logout"):
            continue
        status, address = call(member, member.http, route, places)
        assert (status, address) == (303, "/console/password") or route[1] == "/console/events", route
    assert member.get("/password").status_code == 200


def test_a_customers_token_opens_nothing_of_the_console(office: Office, anybody: TestClient) -> None:
    customer = visitor(office.client())
    for cookie in (customer.token, customer.conversation):
        anybody.cookies.set(COOKIE, cookie, path="/console")
        answer = anybody.get("/console/inbox", headers=customer.headers, follow_redirects=False)
        assert answer.status_code == 303


@pytest.fixture
def pages(places: dict[str, str]) -> list[str]:
    return [
        "/inbox",
        f"/inbox/{places['conversation_id']}",
        "/replies",
        "/people",
        "/install",
        "/install/default",
        "/install/default/test",
        "/deliveries",
        "/password",
    ]


def foreign_code(page: str) -> list[str]:
    """Tags that carry code or a look of their own; what customers wrote, as text and in `data-`, may say anything."""

    def is_code(tag: str, attributes: dict[str, str | None]) -> bool:
        values = [value or "" for name, value in attributes.items() if not name.startswith("data-")]
        return (
            tag == "style"
            or (tag == "script" and "src" not in attributes)
            or any(name == "style" or name.startswith("on") for name in attributes)
            or any("javascript:" in value.lower() for value in values)
        )

    return [tag for tag, attributes in tags(page) if is_code(tag, attributes)]


def test_code_on_a_page_is_found() -> None:
    code = "<script>", "<a href=' JavaScript:x'>", "<p style='x'>", "<img src=x onerror=x>", "<style>"
    assert [foreign_code(f"<b>hello {tag}") for tag in code] == [["script"], ["a"], ["p"], ["img"], ["style"]]
    assert foreign_code("<meta http-equiv=refresh content='0; url=javascript:x'>") == ["meta"]
    assert (
        foreign_code("<script src='/x.js'></script><p data-insert=' onerror=x javascript:'>&lt;img onerror=x&gt;") == []
    )


def test_pages_forbid_foreign_code_and_are_not_kept(staff: dict[str, Member], pages: list[str]) -> None:
    for path in pages:
        answer = staff["lead"].get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200, path
        assert "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert foreign_code(answer.text) == [], path


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(anybody: TestClient) -> None:
    answer = anybody.get("/console/login")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/console"} <= set(cookie.split("; "))
    assert "secure" not in cookie
