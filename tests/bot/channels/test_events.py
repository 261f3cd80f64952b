"""Event streams over real connections: what is said arrives as it is said, once, whatever is cut."""

from __future__ import annotations

import asyncio
import hmac
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.channels.web import events
from bot.channels.web.door import Door
from bot.server import Service, create_application
from bot.storage.conversations import find_conversation
from bot.storage.sites import create_site
from bot.storage.turns import history
from tests.bot.channels.office import (
    API,
    PATIENCE,
    PLENTY,
    STOREFRONT,
    Heard,
    Office,
    Scripted,
    SlowSource,
    Visitor,
    hear,
    listening,
    open_office,
    serving,
    visitor,
    wait_until,
)
from tests.bot.storage.sample import ANNA, hire


@pytest.fixture(scope="module")
def slow() -> SlowSource:
    return SlowSource()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, slow: SlowSource) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("slow"), slow) as office:
        yield office


@pytest.fixture(scope="module")
def service(office: Office) -> Iterator[Service]:
    with serving(office.application) as service:
        yield service


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENCE, trust_env=False) as http:
        yield http


def door(office: Office) -> Door:
    found = office.application.state.door
    assert isinstance(found, Door)
    return found


def send(who: Visitor, text: str = "hello", message_id: str = "m1") -> None:
    answer = who.http.post(who.at("/messages"), json={"id": message_id, "text": text}, headers=who.headers)
    assert answer.status_code == 202, answer.text


def text_of(heard: Sequence[Heard]) -> str:
    return "".join(str(event.data["text"]) for event in heard if event.name == "token")


def test_text_arrives_while_the_rest_is_not_yet_written(http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)
    with listening(who) as heard:
        send(who)
        for chunk in ("First ", "second ", "third."):
            slow.say(who, chunk)
            event = next(heard)
            assert (event.name, event.data) == ("token", {"message_id": "m1", "text": chunk})
        slow.finish(who)
        turn = next(heard)
    assert (turn.name, turn.data["text"]) == ("turn", "First second third.")


def test_a_streamed_response_is_the_same_events(http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)
    slow.say(who, "One ")
    with (
        listening(who) as all_of_it,
        http.stream(
            "POST",
            who.at("/messages"),
            json={"id": "m1", "text": "hello"},
            headers=who.headers | {"Accept": "text/event-stream"},
        ) as response,
    ):
        own = hear(response.iter_lines())
        first = next(own)
        slow.say(who, "two.")
        slow.finish(who)
        answer = [first, *own]
        followed = list(islice(all_of_it, 3))
    assert [event.name for event in answer] == ["token", "token", "turn"]
    assert answer == followed


CHUNKS = ("Wir ", "prüfen", " das\n", "在五个", "工作日", "内。", " data: x\n", "\n", "id: 7\r\n", "😀", "!", " .")


@pytest.mark.slow
@pytest.mark.parametrize("cut", range(len(CHUNKS) + 1))
def test_a_stream_cut_anywhere_resumes_with_nothing_lost_or_doubled(
    http: httpx.Client, slow: SlowSource, cut: int
) -> None:
    who = visitor(http)
    heard = follow_with_cuts(who, slow, CHUNKS, [cut])
    assert text_of(heard) == "".join(CHUNKS)
    assert heard[-1].data["text"] == "".join(CHUNKS)
    numbers = [event.id or 0 for event in heard]
    assert numbers == sorted(set(numbers))


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=10),
    cuts=st.lists(st.integers(0, 10), max_size=4),
)
def test_any_text_survives_any_cuts(http: httpx.Client, slow: SlowSource, chunks: list[str], cuts: list[int]) -> None:
    heard = follow_with_cuts(visitor(http), slow, chunks, cuts)
    assert text_of(heard) == "".join(chunks) == heard[-1].data["text"]


@pytest.mark.campaign
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1),
    cuts=st.lists(st.integers(0, 30)),
)
def test_five_hundred_texts_survive_their_cuts(
    http: httpx.Client, slow: SlowSource, chunks: list[str], cuts: list[int]
) -> None:
    heard = follow_with_cuts(visitor(http), slow, chunks, cuts)
    assert text_of(heard) == "".join(chunks) == heard[-1].data["text"]


def follow_with_cuts(who: Visitor, slow: SlowSource, chunks: Sequence[str], cuts: Sequence[int]) -> list[Heard]:
    """Everything heard of one answer by a client whose connection is cut once it has heard so many chunks.

    Each time one chunk more is said than the client hears: it is lost with the connection.
    """
    heard: list[Heard] = []
    said = 0
    send(who)
    for cut in [*sorted({cut for cut in cuts if cut < len(chunks)}), len(chunks)]:
        slow.say(who, *chunks[said : cut + 1])
        said = max(said, cut + 1)
        with listening(who, heard[-1].id if heard else None) as stream:
            heard += islice(stream, cut - len(heard))
    slow.finish(who)
    with listening(who, heard[-1].id if heard else None) as stream:
        heard.append(next(stream))
    assert heard[-1].name == "turn"
    return heard


def test_a_client_that_comes_late_gets_the_turn_and_not_its_pieces(http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)
    slow.say(who, "a", "b")
    slow.finish(who)
    who.ask("hello", "m1")
    for after in (None, 0):
        with listening(who, after) as heard:
            event = next(heard)
        assert (event.name, event.data["text"]) == ("turn", "ab")


def test_what_was_heard_is_not_sent_again(http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)
    slow.finish(who)
    who.ask("first", "m1")
    with listening(who) as heard:
        last = next(heard).id
    assert http.get(who.at(), headers=who.headers).json()["last_event_id"] == last
    with listening(who, last) as heard:
        slow.say(who, "second")
        send(who, message_id="m2")
        assert next(heard).data == {"message_id": "m2", "text": "second"}
        slow.finish(who)
        assert next(heard).name == "turn"


def test_a_page_that_loads_during_an_answer_reads_it_from_its_first_word(http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)
    slow.say(who, "early ")
    send(who)
    with listening(who) as heard:
        next(heard)
    loaded = http.get(who.at(), headers=who.headers).json()
    assert [m["from"] for m in loaded["messages"]] == ["customer"]
    slow.say(who, "late")
    with listening(who, loaded["last_event_id"]) as heard:
        assert text_of(list(islice(heard, 2))) == "early late"
    slow.finish(who)


def test_answers_come_in_the_order_of_their_questions(http: httpx.Client, slow: SlowSource, office: Office) -> None:
    who = visitor(http)
    for number in range(4):
        send(who, message_id=f"m{number}")
    with listening(who) as heard:
        for number in range(4):
            slow.say(who, f"answer {number}")
            slow.finish(who)
        # A slow listener gets the turn alone, without the pieces of its text.
        turns = list(islice((event for event in heard if event.name == "turn"), 4))
    assert [turn.data["text"] for turn in turns] == [f"answer {number}" for number in range(4)]
    assert [turn.message.id for turn in history(office.database, who.conversation)] == [f"m{n}" for n in range(4)]


def test_a_status_is_heard(http: httpx.Client) -> None:
    who = visitor(http)
    with listening(who) as heard:
        http.post(who.at("/handover"), headers=who.headers)
        event = next(heard)
    assert (event.name, event.data) == ("status", {"status": "waiting"})


def test_a_client_that_leaves_frees_its_place_and_its_answer_is_still_stored(
    http: httpx.Client, slow: SlowSource, office: Office
) -> None:
    who = visitor(http)
    streams = door(office).streams
    before = streams.followers
    with listening(who) as heard:
        slow.say(who, "half ")
        send(who)
        next(heard)
        wait_until(lambda: streams.followers == before + 1)
    wait_until(lambda: streams.followers == before)
    slow.say(who, "an answer")
    slow.finish(who)
    wait_until(lambda: history(office.database, who.conversation))
    assert history(office.database, who.conversation)[0].reply.text == "half an answer"


def test_a_client_that_leaves_its_own_answer_finds_it_later(http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)
    slow.say(who, "half ")
    headers = who.headers | {"Accept": "text/event-stream"}
    body = {"id": "m1", "text": "hello"}
    with http.stream("POST", who.at("/messages"), json=body, headers=headers) as response:
        next(hear(response.iter_lines()))
    slow.say(who, "an answer")
    slow.finish(who)
    assert who.ask("hello", "m1")["text"] == "half an answer"


def test_connections_that_are_torn_down_leave_nothing_behind(
    http: httpx.Client, service: Service, office: Office
) -> None:
    who = visitor(http)
    streams = door(office).streams
    before = (streams.followers, threading.active_count())
    address = httpx.URL(service.url)
    for _ in range(30):
        raw = socket.create_connection((address.host, address.port or 0))
        headers = f"Host: {address.host}\r\nAuthorization: Bearer {who.token}\r\n"
        request = f"GET {who.at('/events')} HTTP/1.1\r\n{headers}\r\n"
        raw.sendall(request.encode())
        assert raw.recv(12) == b"HTTP/1.1 200"
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        raw.close()
    wait_until(lambda: streams.followers == before[0])
    assert threading.active_count() <= before[1] + 8, "a stream must not hold a thread"


def test_forgetting_a_conversation_ends_its_streams(http: httpx.Client) -> None:
    who = visitor(http)
    with listening(who) as heard:
        assert http.delete(who.at(), headers=who.headers).status_code == 204
        assert list(heard) == []


def test_when_an_anonymous_visitor_is_known_streams_of_their_old_token_end(http: httpx.Client, office: Office) -> None:
    """On a shared computer the page before must not hear what the customer is told from then on."""
    site, secret = create_site(office.database, "Shop", actor="test")
    proof = {"user_id": "anna", "identity_hash": hmac.new(secret.encode(), b"anna", "sha256").hexdigest()}
    opened = http.post(f"{API}/conversations", json={"site": site.id}).json()
    who, other = Visitor(http, opened["conversation_id"], opened["token"]), visitor(http)
    with listening(who) as heard, listening(other) as others:
        assert http.post(f"{API}/conversations", json={"site": site.id} | proof, headers=who.headers).status_code == 201
        assert list(heard) == []
        assert http.get(who.at("/events"), headers=who.headers).status_code == 404
        assert http.post(other.at("/handover"), headers=other.headers).status_code == 200
        assert next(iter(others)).name == "status", "nobody else is cut off"


def test_an_idle_stream_is_kept_alive(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.05)
    who = visitor(http)
    with http.stream("GET", who.at("/events"), headers=who.headers) as response:
        lines = response.iter_lines()
        pings = [line for line in islice(lines, 12) if line.startswith(": ping")]
    assert len(pings) >= 3


def test_a_reader_that_falls_behind_is_cut_so_that_it_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BACKLOG", 3)

    async def read() -> list[object]:
        def attach(deliver: events.Deliver) -> events.Leave:
            for number in range(10):
                deliver(events.StatusEvent(number, "open"))
            return lambda: None

        async with events._listening(attach) as queue:
            await asyncio.sleep(0)
            return [await queue.get() for _ in range(4)]

    *heard, end = asyncio.run(read())
    assert [event.id for event in heard if isinstance(event, events.StatusEvent)] == [0, 1, 2]
    assert end is None


@pytest.mark.slow
def test_a_burst_of_streams_opens_and_closes(http: httpx.Client, service: Service, office: Office) -> None:
    """Fifty at once on the two cores of a test machine; the campaign in tests/bench goes further."""

    async def burst(who: Visitor) -> int:
        async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE, trust_env=False) as client:

            async def one() -> bool:
                async with client.stream("GET", who.at("/events"), headers=who.headers) as response:
                    async for line in response.aiter_lines():
                        if line.startswith(": open"):
                            return True
                return False

            return sum(await asyncio.gather(*(one() for _ in range(50))))

    assert asyncio.run(burst(visitor(http))) == 50
    wait_until(lambda: door(office).streams.followers == 0)


def test_an_answer_that_cannot_be_stored_is_an_error_with_a_cure(tmp_path: Path) -> None:
    slow = SlowSource()
    with open_office(tmp_path, slow) as office, office.client() as http:
        who = visitor(http)
        slow.finish(who)
        office.desk.close()
        body = {"id": "m1", "text": "hello"}
        waited = http.post(who.at("/messages?wait=true"), json=body, headers=who.headers)
        streamed = http.post(who.at("/messages"), json=body, headers=who.headers | {"Accept": "text/event-stream"})
        (heard,) = hear(iter(streamed.text.splitlines()))
    assert waited.status_code == 503
    assert "same id" in waited.json()["detail"]
    assert (heard.name, heard.data) == ("error", waited.json())


def test_a_stream_that_the_client_closes_frees_its_place(office: Office, http: httpx.Client) -> None:
    who = visitor(http)
    streams = door(office).streams
    before = streams.followers
    url = http.base_url
    heads = f"GET {who.at('/events')} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {who.token}\r\n\r\n".encode()
    connections = [socket.create_connection((url.host, url.port or 0)) for _ in range(5)]
    for connection in connections:
        connection.sendall(heads)
        assert connection.recv(1024).startswith(b"HTTP/1.1 200")
    wait_until(lambda: streams.followers == before + 5)
    for connection in connections:
        connection.close()
    wait_until(lambda: streams.followers == before)  # measured: see docs/benchmarks.md
    assert streams.open_of(find_conversation(office.database, who.conversation).visitor) == 0


@pytest.mark.slow
def test_of_many_streams_that_are_opened_at_once_no_more_than_allowed_open(tmp_path: Path) -> None:
    with open_office(tmp_path, SlowSource()) as office:
        allowance = replace(PLENTY, streams_per_visitor=3)
        application = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=allowance)
        with serving(application) as service:

            async def crowd(who: Visitor) -> list[int]:
                async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE, trust_env=False) as http:
                    asked = [http.build_request("GET", who.at("/events"), headers=who.headers) for _ in range(30)]
                    opened = await asyncio.gather(*(http.send(one, stream=True) for one in asked))
                    for one in opened:
                        await one.aclose()
                    return sorted(one.status_code for one in opened)

            with httpx.Client(base_url=service.url, timeout=PATIENCE, trust_env=False) as http:
                assert asyncio.run(crowd(visitor(http))) == [200] * 3 + [429] * 27


@pytest.mark.slow
def test_open_streams_are_bounded_per_visitor_and_in_all(tmp_path: Path) -> None:
    with open_office(tmp_path, SlowSource()) as office:
        allowance = replace(PLENTY, streams_per_visitor=2, streams=3)
        application = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=allowance)
        with serving(application) as service, ExitStack() as stack:
            http = stack.enter_context(httpx.Client(base_url=service.url, timeout=PATIENCE, trust_env=False))
            greedy, other, third = (visitor(http) for _ in range(3))
            streams = application.state.door.streams

            def follow(who: Visitor) -> httpx.Response:
                before = streams.followers
                opened = stack.enter_context(http.stream("GET", who.at("/events"), headers=who.headers))
                if opened.status_code == 200:
                    wait_until(lambda: streams.followers == before + 1)
                else:
                    opened.read()
                return opened

            answers = [follow(greedy), follow(greedy), follow(greedy), follow(other), follow(third)]
            assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 503]
            assert answers[2].headers["retry-after"] == "5"
            answers[0].close()
            wait_until(lambda: streams.followers == 2)
            assert follow(third).status_code == 200, "a place that was freed is given away again"


def test_what_a_stream_delivered_is_no_longer_unread(office: Office, http: httpx.Client, slow: SlowSource) -> None:
    who = visitor(http)

    def unread() -> object:
        return http.get("/api/v1/conversations", headers=who.headers).json()["conversations"][0]["unread"]

    with listening(who) as heard:
        wait_until(lambda: door(office).streams.followers > 0)
        send(who)
        slow.say(who, "Here. ")
        slow.finish(who)
        assert [next(heard).name, next(heard).name] == ["token", "turn"]
    wait_until(lambda: unread() == 0)
    send(who, "more", "m2")  # and the page is closed meanwhile
    slow.say(who, "More. ")
    slow.finish(who)
    wait_until(lambda: unread() == 1)
    assert http.get(who.at(), headers=who.headers).status_code == 200
    wait_until(lambda: unread() == 0)


@pytest.mark.slow
def test_what_an_agent_wrote_meanwhile_is_unread_until_it_is_looked_at(tmp_path: Path) -> None:
    with open_office(tmp_path, Scripted()) as office, office.client() as http:
        who = visitor(http)
        who.ask("hello")
        hire(office.database, ANNA)
        office.desk.take(who.conversation, ANNA)
        assert http.get(who.at(), headers=who.headers).status_code == 200
        office.desk.leave_note(who.conversation, ANNA, "n1", "between us")
        office.desk.reply(who.conversation, ANNA, "r1", "I am Anna.")

        def listed() -> dict[str, object]:
            found: dict[str, object] = http.get("/api/v1/conversations", headers=who.headers).json()["conversations"][0]
            return found

        assert (listed()["unread"], listed()["last_text"]) == (1, "I am Anna.")
        assert http.get(who.at(), headers=who.headers).status_code == 200
        wait_until(lambda: listed()["unread"] == 0)
