"""Too much of anything gets a 429 with the time to come back, early and cheaply; the others are served meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from bot.channels.web import limits
from bot.channels.web.limits import Allowance, Limits
from bot.channels.web.problems import Problem
from bot.server import create_application
from bot.settings import Limits as LimitSettings
from bot.storage.turns import history
from tests.bot.channels.office import API, PLENTY, STOREFRONT, Office, Scripted, open_office, visitor


class Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(act: object) -> int:
    """The seconds to wait, 0 if it was let through."""
    assert callable(act)
    try:
        act()
    except Problem as problem:
        assert problem.status == 429
        return int(problem.headers["Retry-After"])
    return 0


def test_the_settings_and_the_allowance_are_the_same_numbers() -> None:
    assert Allowance(**LimitSettings().model_dump()) == Allowance()
    assert set(LimitSettings.model_fields) == {field.name for field in fields(Allowance)}


def test_a_bucket_holds_a_minute_and_fills_again_in_one() -> None:
    clock = Clock()
    counted = Limits(replace(PLENTY, requests_per_address=60), clock)
    assert [refused(lambda: counted.request("a")) for _ in range(61)] == [0] * 60 + [1]
    assert refused(lambda: counted.request("b")) == 0, "another address is not concerned"
    clock.now += 10
    assert [refused(lambda: counted.request("a")) for _ in range(11)] == [0] * 10 + [1]
    clock.now += 3600
    assert [refused(lambda: counted.request("a")) for _ in range(61)] == [0] * 60 + [1]


def test_who_comes_back_when_told_is_let_in() -> None:
    clock = Clock()
    counted = Limits(replace(PLENTY, conversations_per_address=2), clock)
    assert [refused(lambda: counted.opening("a")) for _ in range(3)] == [0, 0, 30]
    clock.now += 30
    assert refused(lambda: counted.opening("a")) == 0


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("messages_per_conversation", ("a2", "v2", "c2", "s2")),
        ("messages_per_visitor", ("a", "v2", "c", "s")),
        ("messages_per_address", ("a2", "v", "c", "s")),
        ("messages_per_site", ("a", "v", "c", "s2")),
    ],
)
def test_messages_are_counted_by_each_of_the_four(name: str, other: tuple[str, str, str, str]) -> None:
    counted = Limits(replace(PLENTY, **{name: 3}), Clock())
    assert [refused(lambda: counted.message("a", "v", "c", "s")) for _ in range(4)] == [0, 0, 0, 20]
    assert refused(lambda: counted.message(*other)) == 0


@pytest.mark.parametrize("whose", ["conversation", "visitor", "address", "site"])
def test_work_is_counted_by_each_of_the_four_and_paid_off_by_time(whose: str) -> None:
    clock = Clock()
    counted = Limits(replace(PLENTY, **{f"work_per_{whose}": 6_000.0}), clock)

    def ask() -> int:
        return refused(lambda: counted.message("a", "v", "c", "s"))

    assert ask() == 0
    counted.worked("c", 5_000)
    assert ask() == 0, "some is left"
    counted.worked("c", 2_000)
    assert ask() == 11, "a thousand milliseconds of debt, a hundred a second"
    clock.now += 11
    assert ask() == 0
    counted.worked("c", 10**9)
    assert ask() <= 61, "one slow answer of ours shuts nobody out for longer than a minute"
    counted.worked("never heard of", 10**9)


@pytest.mark.parametrize("whose", ["visitor", "address", "site"])
def test_files_are_counted_by_each_of_the_three(whose: str) -> None:
    counted = Limits(replace(PLENTY, **{f"files_per_{whose}": 3}), Clock())
    same = {"address": "a", "visitor": "v", "site": "s"}

    def send(number: int, **given: str) -> int:
        return refused(lambda: counted.file(**{key: f"{value}{number}" for key, value in same.items()} | given))

    assert [send(number, **{whose: same[whose]}) for number in range(4)] == [0, 0, 0, 20]
    assert send(9) == 0, "others are not concerned"


@pytest.mark.parametrize("whose", ["address", "site"])
def test_asking_for_a_person_is_counted_by_address_and_site(whose: str) -> None:
    counted = Limits(replace(PLENTY, **{f"handovers_per_{whose}": 2}), Clock())
    asked = [{"address": f"a{n}", "site": f"s{n}"} | {whose: "same"} for n in range(3)]
    assert [refused(lambda who=who: counted.handover(**who)) for who in asked] == [0, 0, 30]  # type: ignore[misc]
    assert refused(lambda: counted.handover("b", "t")) == 0


def test_a_refused_message_takes_nothing_from_the_others() -> None:
    counted = Limits(replace(PLENTY, messages_per_conversation=1, messages_per_site=5), Clock())
    assert refused(lambda: counted.message("a", "v", "c", "s")) == 0
    for _ in range(10):
        assert refused(lambda: counted.message("a", "v", "c", "s")) > 0
    assert [refused(lambda n=n: counted.message("a", "v", f"c{n}", "s")) for n in range(5)] == [0, 0, 0, 0, 12]  # type: ignore[misc]


def test_the_buckets_are_bounded_and_the_busy_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BUCKETS", 100)
    counted = Limits(replace(PLENTY, requests_per_address=5), Clock())
    for number in range(1_000):
        counted.request(f"passer-by {number}")
        refused(lambda: counted.request("flooder"))
    assert counted.buckets == 100
    assert refused(lambda: counted.request("flooder")) > 0


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("ab")), max_size=200), st.integers(1, 60))
def test_no_order_of_requests_gets_more_than_is_allowed(steps: list[tuple[float, str]], allowed: int) -> None:
    """Against the definition: in no stretch of time more than one bucket and what flowed in meanwhile."""
    clock = Clock()
    counted = Limits(replace(PLENTY, requests_per_address=allowed), clock)
    let_in: dict[str, list[float]] = {"a": [], "b": []}
    for wait, who in steps:
        clock.now += wait
        if refused(lambda who=who: counted.request(who)) == 0:  # type: ignore[misc]
            let_in[who].append(clock.now)
    for times in let_in.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= allowed + (times[last] - times[first]) * allowed / 60 + 1e-6


# -- at the door ------------------------------------------------------------------------------------------------------


@contextmanager
def limited(office: Office, trusted: tuple[str, ...] = (), **numbers: float) -> Iterator[TestClient]:
    allowance = replace(PLENTY, **numbers)  # type: ignore[arg-type]
    application = create_application(
        office.desk, office.database, office.shelf, STOREFRONT, allowance=allowance, trusted_proxies=trusted
    )
    with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as http:
        yield http


@pytest.fixture
def own_office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path, Scripted()) as office:
        yield office


@pytest.mark.slow
def test_a_thousand_conversations_from_one_address_are_refused_before_anything_is_read(own_office: Office) -> None:
    with limited(own_office, conversations_per_address=30) as http:
        let_in = [http.post(f"{API}/conversations", json={}) for _ in range(30)]
        flood = [http.post(f"{API}/conversations", content=b"no json at all") for _ in range(970)]
        others = visitor(http.__class__(http.app, base_url="http://localhost", client=("203.0.113.9", 1)))
    assert {answer.status_code for answer in let_in} == {201}
    refused = [answer for answer in flood if answer.status_code == 429]
    assert len(refused) > 900, "a few trickle in as the minute passes"
    assert {answer.status_code for answer in flood} <= {429, 415}, "refused before anybody looks at the body"
    assert refused[0].json()["title"] == "Too many requests"
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused[0].headers["retry-after"]) <= 3
    assert others.conversation
    with own_office.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM conversations").scalar() == 31


def test_behind_a_trusted_proxy_each_client_has_limits_of_its_own(own_office: Office) -> None:
    def opened(http: TestClient, forwarded: str) -> int:
        return http.post(f"{API}/conversations", headers={"X-Forwarded-For": forwarded}).status_code

    with limited(own_office, conversations_per_address=2) as http:
        # Without a trusted proxy a thousand invented addresses are one.
        assert [opened(http, f"198.51.100.{number}") for number in range(4)] == [201, 201, 429, 429]
    with limited(own_office, ("127.0.0.1",), conversations_per_address=2) as plain:
        proxied = TestClient(plain.app, base_url="http://localhost", client=("127.0.0.1", 5000))
        assert [opened(proxied, f"6.6.6.{n}, 198.51.100.1") for n in range(3)] == [201, 201, 429]
        assert opened(proxied, "198.51.100.2") == 201


def test_too_many_messages_get_a_time_to_come_back_and_are_not_stored(own_office: Office) -> None:
    with limited(own_office, messages_per_conversation=2) as http:
        who = visitor(http)
        bodies = [{"id": f"m{number}", "text": "hello"} for number in range(3)]
        answers = [http.post(who.at("/messages?wait=true"), json=body, headers=who.headers) for body in bodies]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "30"
        assert len(history(own_office.database, who.conversation)) == 2
        assert http.get(who.at(), headers=who.headers).status_code == 200, "reading goes on"
        assert visitor(http).ask("hello")["text"] == "hello", "another conversation goes on"


def test_work_is_counted_once_the_answer_is_there(own_office: Office) -> None:
    with limited(own_office, work_per_visitor=1.0) as http:  # the scripted answer took 1.75 milliseconds
        who = visitor(http)
        who.ask("hello")
        answer = http.post(who.at("/messages"), json={"id": "m2", "text": "hello"}, headers=who.headers)
        assert answer.status_code == 429
        headers = who.headers
        again = http.post(f"{API}/conversations", json={}, headers=headers).json()
        second = http.post(
            f"{API}/conversations/{again['conversation_id']}/messages",
            json={"id": "m1", "text": "hello"},
            headers={"Authorization": f"Bearer {again['token']}"},
        )
        assert second.status_code == 429, "a new conversation is the same visitor"
        visitor(http).ask("hello")


def test_health_and_pages_are_not_counted(own_office: Office) -> None:
    with limited(own_office, requests_per_address=1) as http:
        assert [http.get(f"{API}/sites/default").status_code for _ in range(2)] == [200, 429]
        assert http.get("/health/ready").status_code == 200
        assert http.get("/").status_code == 200


def test_a_proxy_that_nobody_named_is_told_of_once(own_office: Office) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.1"}
    for peer, trusted, told in (("10.0.0.1", (), 1), ("10.0.0.1", ("10.0.0.0/8",), 0), ("8.8.8.8", (), 0)):
        with limited(own_office, trusted) as plain, capture_logs() as lines:
            http = TestClient(plain.app, base_url="http://localhost", client=(peer, 5000))
            for _ in range(3):
                http.get("/health/live", headers=forwarded)
        assert [line["event"] for line in lines].count("untrusted_proxy") == told


def test_too_many_who_ask_for_a_person_get_a_time_to_come_back_and_notify_nobody(own_office: Office) -> None:
    with limited(own_office, handovers_per_address=2) as http:
        people = [visitor(http) for _ in range(3)]
        answers = [http.post(who.at("/handover"), headers=who.headers) for who in people]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert http.get(people[2].at(), headers=people[2].headers).json()["status"] == "open"
