"""What agents do reaches the customer's streams: in its place, once, whatever is cut and whoever is writing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from starlette.testclient import TestClient

from bot.conversation.messages import Message
from bot.events import AgentEvent, Event
from bot.server import create_application
from bot.serving import Desk
from bot.storage.database import Database
from bot.storage.handover import Agent
from bot.storage.turns import find_entry
from tests.bot.channels.office import (
    PATIENCE,
    STOREFRONT,
    Heard,
    Office,
    Scripted,
    Shelf,
    SlowSource,
    Visitor,
    listening,
    open_office,
    serving,
    visitor,
    wait_until,
)
from tests.bot.storage.sample import ANNA, BEN, hire


@pytest.fixture(scope="module")
def slow() -> SlowSource:
    return SlowSource()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, slow: SlowSource) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("agents"), slow) as office:
        hire(office.database)
        yield office


@pytest.fixture(scope="module")
def http(office: Office) -> Iterator[httpx.Client]:
    with (
        serving(office.application) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE, trust_env=False) as http,
    ):
        yield http


def send(who: Visitor, name: str) -> None:
    answer = who.http.post(who.at("/messages"), json={"id": name, "text": "hello"}, headers=who.headers)
    assert answer.status_code == 202, answer.text


def told(heard: Sequence[Heard]) -> list[tuple[str, object]]:
    """What a reader is left with: no pieces of text."""
    wanted = {"turn": "text", "status": "status", "agent_message": "text"}
    return [(event.name, event.data[wanted[event.name]]) for event in heard if event.name in wanted]


def test_an_agents_steps_and_words_are_heard_with_their_name(http: httpx.Client, office: Office) -> None:
    who = visitor(http)
    with listening(who) as heard:
        assert http.post(who.at("/handover"), headers=who.headers).status_code == 200
        office.desk.take(who.conversation, ANNA)
        office.desk.reply(who.conversation, ANNA, "words-of-anna-1", "Good morning!")
        office.desk.leave_note(who.conversation, ANNA, "note-of-anna-1", "nobody but us reads this")
        office.desk.give_back(who.conversation, ANNA)
        events = list(islice(heard, 4))
    assert [(event.name, event.data.get("status"), event.data.get("name")) for event in events] == [
        ("status", "waiting", None),
        ("status", "person", "Anna"),
        ("agent_message", None, "Anna"),
        ("status", "open", "Anna"),
    ]
    assert set(events[2].data) == {"id", "text", "name", "at"}
    said = http.get(who.at(), headers=who.headers).json()
    assert [(m["from"], m["text"], m["name"]) for m in said["messages"]] == [("agent", "Good morning!", "Anna")]
    assert said["last_event_id"] == events[-1].id
    assert "nobody but us" not in http.get(who.at(), headers=who.headers).text


def test_the_record_names_who_has_the_conversation_now(http: httpx.Client, office: Office) -> None:
    who = visitor(http)

    def name() -> object:
        return http.get(who.at(), headers=who.headers).json().get("name")

    assert name() is None
    office.desk.take(who.conversation, ANNA)
    office.desk.reply(who.conversation, ANNA, "words-before-ben", "Good morning!")
    assert name() == "Anna"
    office.desk.take(who.conversation, BEN, instead_of=ANNA.id)
    assert name() == "Ben", "though he has not said a word yet"
    office.desk.give_back(who.conversation, BEN)
    assert name() is None


class Eventful(Database):
    """Something happens right before one of its reads."""

    happens: Callable[[], object]
    before = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self.before -= 1
        if self.before == 0:
            self.happens()
        with super().read() as connection:
            yield connection


@pytest.mark.slow
@pytest.mark.parametrize("read", range(1, 7))
def test_what_an_agent_writes_while_the_record_is_read_is_in_it_or_comes_as_an_event(tmp_path: Path, read: int) -> None:
    with Eventful(tmp_path / "record.sqlite3") as database:
        hire(database)
        desk = Desk(database, Scripted())
        with TestClient(create_application(desk, database, Shelf(), STOREFRONT), base_url="http://localhost") as http:
            who = visitor(http)
            desk.take(who.conversation, ANNA)
            who.ask("hello")

            def happens() -> None:
                desk.reply(who.conversation, ANNA, "words-in-between", "Did you see this?")
                desk.answer(Message("m2", who.conversation, who.conversation, "web", "what?", datetime.now(UTC)))

            database.happens, database.before = happens, read
            opened = http.get(who.at(), headers=who.headers).json()
            assert database.before <= 0, "there are that many reads"
            shown = [line["text"] for line in opened["messages"] if line["from"] == "agent"]
            heard: list[Event] = []
            desk.attach(who.conversation, opened["last_event_id"], heard.append)
            shown += [event.message.text for event in heard if isinstance(event, AgentEvent)]
        desk.close()
    assert shown == ["Did you see this?"]


def test_while_a_person_has_it_no_route_lets_the_bot_speak(http: httpx.Client, office: Office) -> None:
    """The slow source would wait for a word to say; it is never asked."""
    who = visitor(http)
    office.desk.take(who.conversation, ANNA)
    body = {"id": "m1", "text": "hello"}
    waited = http.post(who.at("/messages?wait=true"), json=body, headers=who.headers).json()
    with http.stream(
        "POST", who.at("/messages"), json=body | {"id": "m2"}, headers=who.headers | {"Accept": "text/event-stream"}
    ) as response:
        streamed = response.read().decode()
    send(who, "m3")
    wait_until(lambda: (entry := find_entry(office.database, who.conversation, "m3")) is not None and entry.turn)
    opened = http.get(who.at(), headers=who.headers).json()
    assert (waited["status"], waited["text"], waited["suggestions"], waited["citations"]) == ("waiting", "", [], [])
    assert "event: turn" in streamed and "event: token" not in streamed
    assert [m["text"] for m in opened["messages"] if m["from"] == "bot"] == ["", "", ""]


def test_a_step_in_the_middle_of_an_answer_is_told_behind_it(
    http: httpx.Client, slow: SlowSource, office: Office
) -> None:
    """The customer presses the button and an agent writes while the bot is still speaking."""
    who = visitor(http)
    with listening(who) as heard:
        slow.say(who, "Let me ")
        send(who, "m1")
        next(heard)
        office.desk.ask_for_person(who.conversation, "asked")
        office.desk.take(who.conversation, ANNA)
        office.desk.reply(who.conversation, ANNA, "words-of-anna-2", "I am here.")
        assert http.get(who.at(), headers=who.headers).json()["status"] == "person"
        slow.say(who, "see.")
        slow.finish(who)
        events = list(islice((event for event in heard if event.name != "token"), 4))
    assert told(events) == [
        ("turn", ""),  # a person has it by now, and one voice is enough
        ("status", "waiting"),
        ("status", "person"),
        ("agent_message", "I am here."),
    ]
    assert [event.id for event in events] == [19_000, 19_001, 19_002, 19_003]


def test_who_comes_in_the_middle_hears_no_step_before_its_turn(
    http: httpx.Client, slow: SlowSource, office: Office
) -> None:
    """Ids rise: a step that is told too early would hide the turn it comes behind."""
    who = visitor(http)
    slow.say(who, "Let me ")
    send(who, "m1")
    wait_until(lambda: http.get(who.at(), headers=who.headers).json()["messages"])
    office.desk.take(who.conversation, ANNA)
    office.desk.reply(who.conversation, ANNA, "words-of-anna-3", "I am here.")
    opened = http.get(who.at(), headers=who.headers).json()
    assert ([m["from"] for m in opened["messages"]], opened["last_event_id"]) == (["customer"], 10_000)
    for after in (0, opened["last_event_id"]):
        with listening(who, after) as heard:
            first = next(heard)
            assert (first.name, first.data["text"]) == ("token", "Let me ")
    with listening(who, 0) as heard:
        slow.finish(who)
        events = list(islice((event for event in heard if event.name != "token"), 3))
    assert told(events) == [("turn", ""), ("status", "person"), ("agent_message", "I am here.")]


STEPS = st.lists(
    st.sampled_from(["message", "slow message", "ask", "take", "reply", "return", "resolve", "note"]),
    min_size=3,
    max_size=10,
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, cuts=st.lists(st.integers(0, 14), max_size=4))
def test_any_steps_survive_any_cuts(
    http: httpx.Client, slow: SlowSource, office: Office, steps: list[str], cuts: list[int]
) -> None:
    survives(visitor(http), slow, office.desk, steps, cuts)


@pytest.mark.campaign
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, cuts=st.lists(st.integers(0, 14), max_size=6))
def test_four_hundred_courses_survive_their_cuts(
    http: httpx.Client, slow: SlowSource, office: Office, steps: list[str], cuts: list[int]
) -> None:
    survives(visitor(http), slow, office.desk, steps, cuts)


def survives(who: Visitor, slow: SlowSource, desk: Desk, steps: Sequence[str], cuts: Sequence[int]) -> None:
    """A client that is cut off hears in the end exactly what one that never left the line heard."""
    whole: list[Heard] = []
    done = threading.Event()

    def listen() -> None:
        with listening(who, 0) as heard:
            done.set()
            for event in heard:
                whole.append(event)
                if event.data.get("text") == "the end":
                    return

    steady = threading.Thread(target=listen, daemon=True)
    steady.start()
    assert done.wait(PATIENCE)
    play(who, slow, desk, steps)
    steady.join(PATIENCE)
    assert not steady.is_alive()
    pieces: list[Heard] = []
    for cut in [*sorted(set(cuts)), None]:
        after = pieces[-1].id if pieces else 0
        with listening(who, after) as heard:
            for event in heard if cut is None else islice(heard, max(0, cut - len(pieces))):
                pieces.append(event)
                if event.data.get("text") == "the end":
                    break
        if pieces and pieces[-1].data.get("text") == "the end":
            break
    assert told(pieces) == told(whole)
    numbers = [event.id or 0 for event in pieces]
    assert numbers == sorted(set(numbers))
    opened = who.http.get(who.at(), headers=who.headers).json()
    assert opened["last_event_id"] == numbers[-1]
    lines = [(m["from"], m["text"]) for m in opened["messages"] if m["from"] != "customer"]
    shown = {"turn": "bot", "agent_message": "agent"}
    assert lines == [(shown[name], text) for name, text in told(whole) if name in shown]


def play(who: Visitor, slow: SlowSource, desk: Desk, steps: Sequence[str]) -> None:
    unfinished = 0
    for number, step in enumerate(steps):
        agent = (ANNA, BEN)[number % 2]
        try:
            if step == "message":
                slow.say(who, f"answer {number}")
                slow.finish(who)
            if step.endswith("message"):
                send(who, f"m{number}")
                unfinished += step == "slow message"
            else:
                act(desk, who.conversation, step, agent, f"{who.conversation}-{number}")
        except Exception as refused:
            assert type(refused).__name__ in ("Taken", "NotTaken"), refused
    for _ in range(unfinished):
        slow.finish(who)
    wait_until(lambda: all_answered(who))
    held = who.http.get(who.at(), headers=who.headers).json()["status"] == "person"
    for agent in (ANNA, BEN) if held else (ANNA,):
        try:
            desk.take(who.conversation, agent)
            desk.reply(who.conversation, agent, f"{who.conversation}-end", "the end")
            return
        except Exception as refused:
            assert type(refused).__name__ == "Taken", refused
    raise AssertionError("somebody has it")


def act(desk: Desk, conversation: str, step: str, agent: Agent, name: str) -> None:
    match step:
        case "ask":
            desk.ask_for_person(conversation, "asked")
        case "take":
            desk.take(conversation, agent)
        case "reply":
            desk.reply(conversation, agent, name, f"reply {name}")
        case "note":
            desk.leave_note(conversation, agent, name, "a note")
        case "return":
            desk.give_back(conversation, agent)
        case _:
            desk.resolve(conversation, agent)


def all_answered(who: Visitor) -> bool:
    lines = who.http.get(who.at(), headers=who.headers).json()["messages"]
    return sum(m["from"] == "customer" for m in lines) == sum(m["from"] == "bot" for m in lines)


@pytest.mark.slow
def test_steps_behind_a_message_that_was_owed_are_told_after_a_restart(tmp_path: Path) -> None:
    """The process ends while the bot is speaking and an agent has already written."""
    slow = SlowSource()
    with open_office(tmp_path, slow) as office, office.client() as http:
        hire(office.database)
        who = visitor(http)
        slow.say(who, "half a ")
        send(who, "m1")
        wait_until(lambda: office.desk.in_hand == 1)
        office.desk.take(who.conversation, ANNA)
        office.desk.reply(who.conversation, ANNA, "words-of-anna-9", "I am here.")
        office.desk.close(seconds=0)
        conversation = who.conversation
        slow.finish(who)
    with open_office(tmp_path, Scripted()) as office:
        heard: list[object] = []
        office.desk.attach(conversation, 0, lambda event: heard.append((event.id, type(event).__name__)))
        office.desk.resume()
        wait_until(lambda: len(heard) >= 3)
    assert heard == [(19_000, "TurnEvent"), (19_001, "StatusEvent"), (19_002, "AgentEvent")]
