"""Signing in as a browser does it: the form's own token, wrong passwords, the first password, and out again."""

from __future__ import annotations

import re

import pytest
from httpx import Response
from starlette.testclient import TestClient

from bot.console.access import COOKIE
from bot.console.office import Office as Console
from bot.server import create_application
from bot.storage.people import add_person
from tests.bot.channels.office import PLENTY, STOREFRONT, Office
from tests.bot.console.staff import PASSWORD, at_work, employ


@pytest.fixture(autouse=True)
def fresh_count(office: Office) -> None:
    """Tries of one test do not count in the next."""
    office.application.state.office = Console()


def enter(http: TestClient, name: str, password: str, **more: str) -> Response:
    form = http.get("/console/login").text
    token = re.search(r'name="csrf" value="([^"]+)"', form)
    assert token
    data = {"csrf": token[1], "name": name, "password": password, **more}
    return http.post("/console/login", data=data, follow_redirects=False)


@pytest.mark.slow
def test_the_first_sign_in_leads_to_a_password_of_ones_own(office: Office, anybody: TestClient) -> None:
    _, password = add_person(office.database, "First Lead", "lead", actor="test")
    first = enter(anybody, "first lead", password)
    assert (first.status_code, first.headers["location"]) == (303, "/console/password")
    page = anybody.get("/console/password").text
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf
    before = anybody.cookies[COOKIE]

    def choose(old: str, new: str, again: str) -> Response:
        data = {"csrf": csrf[1], "old": old, "new": new, "again": again}
        return anybody.post("/console/password", data=data, follow_redirects=False)

    assert "another one" in choose("wrong", PASSWORD, PASSWORD).text
    assert "differ" in choose(password, PASSWORD, "other").text
    assert "10 to 200" in choose(password, "short", "short").text
    assert "Choose another" in choose(password, password, password).text
    done = choose(password, PASSWORD, PASSWORD)
    assert (done.status_code, done.headers["location"]) == (303, "/console/inbox")
    assert anybody.cookies[COOKIE] != before, "a chosen password begins a new session"
    assert anybody.get("/console/people").status_code == 200


def test_the_command_that_the_page_names_makes_an_account_that_can_bring_others(anybody: TestClient) -> None:
    """Without a role it makes an agent, who may do neither."""
    assert "<code>frontdesk people add NAME --role lead</code>" in anybody.get("/console/login").text


@pytest.mark.slow
def test_wrong_is_wrong_whoever_it_is_and_too_often_must_wait(office: Office, anybody: TestClient) -> None:
    person = employ(office, "agent")
    wrong = enter(anybody, person.name, "not it at all")
    unknown = enter(anybody, "Nobody At All", "not it at all")
    texts = [re.sub(r'value="[^"]*"', "", answer.text) for answer in (wrong, unknown)]
    assert wrong.status_code == unknown.status_code == 401 and texts[0] == texts[1]
    for _ in range(5):
        last = enter(anybody, person.name, "not it at all")
    assert last.status_code == 429 and int(last.headers["retry-after"]) >= 1
    right = enter(anybody, person.name, PASSWORD)
    assert right.status_code == 429, "nor is the right one tried meanwhile"


@pytest.mark.slow
def test_behind_a_proxy_an_attacker_locks_out_nobody_but_themselves(office: Office) -> None:
    """All come from the proxy's address; who they are stands in the header of the proxy that the company named."""
    application = create_application(
        office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY, trusted_proxies=("10.0.0.1",)
    )
    person = employ(office, "agent")

    def behind(address: str) -> TestClient:
        http = TestClient(application, base_url="http://localhost", client=("10.0.0.1", 1))
        http.headers["X-Forwarded-For"] = address
        return http

    attacker = behind("198.51.100.7")
    tries = [enter(attacker, f"nobody {number}", "not it at all").status_code for number in range(30)]
    assert tries[-1] == 429 and set(tries) == {401, 429}
    assert enter(behind("203.0.113.9"), person.name, PASSWORD).status_code == 303
    assert enter(attacker, person.name, PASSWORD).status_code == 429


def test_a_session_planted_before_is_not_the_one_after(office: Office, anybody: TestClient) -> None:
    """Session fixation: a cookie that an attacker knows opens nothing after the victim signed in."""
    attacker = at_work(office, "agent")
    anybody.cookies.set(COOKIE, attacker.token, path="/console")
    person = employ(office, "lead")
    answer = enter(anybody, person.name, PASSWORD)
    assert answer.status_code == 303
    assert attacker.get("/inbox").status_code == 303, "the planted session is over"


def test_a_sign_in_form_of_another_site_is_refused(office: Office, anybody: TestClient) -> None:
    person = employ(office, "agent")
    for csrf in ("", "made up"):
        data = {"csrf": csrf, "name": person.name, "password": PASSWORD}
        assert anybody.post("/console/login", data=data, follow_redirects=False).status_code == 403
        anybody.get("/console/login")
        assert anybody.post("/console/login", data=data, follow_redirects=False).status_code == 403


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/console/inbox/abcdefgh", "/console/inbox/abcdefgh"),
        ("https://evil.example/", "/console/inbox"),
        ("//evil.example/", "/console/inbox"),
        ("/console//evil.example", "/console/inbox"),
        ("/console/\\evil.example", "/console/inbox"),
        ("/", "/console/inbox"),
        ("", "/console/inbox"),
    ],
)
def test_a_link_leads_only_to_our_own_pages(office: Office, anybody: TestClient, asked: str, led: str) -> None:
    person = employ(office, "agent")
    answer = enter(anybody, person.name, PASSWORD, next=asked)
    assert answer.headers["location"] == led


def test_out_is_out(office: Office) -> None:
    member = at_work(office, "agent")
    assert member.post("/logout").headers["location"] == "/console/login"
    member.http.cookies.set(COOKIE, member.token, path="/console")
    assert member.get("/inbox").status_code == 303


def test_a_cookie_is_marked_secure_where_the_browser_came_by_https(office: Office, anybody: TestClient) -> None:
    person = employ(office, "agent")
    form = anybody.get("/console/login").text
    token = re.search(r'name="csrf" value="([^"]+)"', form)
    assert token
    data = {"csrf": token[1], "name": person.name, "password": PASSWORD}
    answer = anybody.post("/console/login", data=data, headers={"Origin": "https://localhost"}, follow_redirects=False)
    assert "secure" in answer.headers["set-cookie"].lower().split("; ")
