"""The inbox over HTTP: lists, a conversation with its story, two agents at once, and everything escaped."""

from __future__ import annotations

import asyncio
import html
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from bot.console.inbox import CHECK_SECONDS
from bot.console.inbox import _changes as changes_of
from bot.console.story import reply_of, safe_address, story_of
from bot.conversation.messages import (
    Approved,
    Citation,
    Clarify,
    Entity,
    HandOver,
    Message,
    NotKnown,
    Part,
    Understanding,
)
from bot.storage.canned import keep_canned
from bot.storage.conversations import start_conversation
from bot.storage.inbox import listed
from bot.storage.people import remove_person
from bot.storage.staff_answers import staff_answers
from bot.storage.turns import accept_message, store_turn
from bot.storage.visitors import Identity, open_conversation
from tests.bot.channels.office import PATIENCE, Office, Visitor, turn_to, visitor
from tests.bot.channels.test_uploads import PNG
from tests.bot.console.staff import Member, at_work


@pytest.fixture(scope="module")
def anna(office: Office) -> Member:
    return at_work(office, "agent", name="Anna")


@pytest.fixture(scope="module")
def ben(office: Office) -> Member:
    return at_work(office, "agent", name="Ben")


def waiting(office: Office, *texts: str) -> Visitor:
    customer = visitor(office.client())
    for text in texts:
        customer.ask(text)
    customer.http.post(customer.at("/handover"), headers=customer.headers)
    return customer


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def test_the_queue_is_longest_waiting_first_with_reason_and_badges(office: Office, anna: Member) -> None:
    first, second = waiting(office, "refund please"), waiting(office, "the second one")
    meaning = Understanding("refund_time", 0.9, (), 0.1, (), "zh", "model-1", "negative", True)
    urgent = start_conversation(office.database, channel="web").id
    asked = Message("1", urgent, urgent, "web", "着火了", datetime.now(UTC))
    turn = replace(
        turn_to(asked, "A person comes.", status="handed_over"),
        parts=(Part("着火了", meaning, (), HandOver("policy")),),
    )
    store_turn(office.database, turn)
    ours = (first.conversation, second.conversation, urgent)
    lines = [line for line in listed(office.database, "queue", "") if line.conversation in ours]
    assert [line.conversation for line in lines] == [first.conversation, second.conversation, urgent]
    assert (lines[2].reason, lines[2].language, lines[2].sentiment, lines[2].urgent) == (
        "policy",
        "zh",
        "negative",
        True,
    )
    page = anna.get("/inbox").text
    assert page.index(first.conversation) < page.index(second.conversation) < page.index(urgent)
    entry = text_of(page[page.index(urgent) :])
    assert (
        "Needs a person" in entry and "Urgent" in entry and "Unhappy" in entry and "ZH" in entry and "着火了" in entry
    )


def test_lists_hold_what_they_say(office: Office, anna: Member, ben: Member) -> None:
    mine, other, bots = waiting(office, "mine"), waiting(office, "other"), visitor(office.client())
    bots.ask("hello bot")
    office.desk.take(mine.conversation, anna.agent)
    office.desk.take(other.conversation, ben.agent)
    office.desk.resolve(other.conversation, ben.agent)

    def ids(view: str, member: Member) -> set[str]:
        return {line.conversation for line in listed(office.database, view, member.person.id)}  # type: ignore[arg-type]

    assert mine.conversation in ids("mine", anna) and ids("mine", ben) == set()
    assert {mine.conversation, bots.conversation} <= ids("open", anna)
    assert not ids("queue", anna) & {mine.conversation, other.conversation, bots.conversation}
    assert other.conversation not in ids("open", anna)


def test_an_agent_takes_answers_notes_returns_and_resolves(office: Office, anna: Member) -> None:
    customer = waiting(office, "refund please", "person please")
    place = f"/inbox/{customer.conversation}"
    assert "Take the conversation" in anna.get(place).text
    assert anna.post(f"{place}/take").headers["location"] == f"/console{place}?view=queue"
    assert 'data-mine="yes"' in anna.get(place).text
    part = anna.part(f"{place}/reply", text=" Hello\u200b there ", id="reply-000001")
    again = anna.part(f"{place}/reply", text="Hello there", id="reply-000001")
    assert part.status_code == again.status_code == 200
    anna.part(f"{place}/note", text="Be kind", id="note-0000001")
    said = customer.http.get(customer.at(), headers=customer.headers).json()["messages"]
    assert [(m["text"], m["name"]) for m in said if m["from"] == "agent"] == [("Hello there", "Anna")]
    assert "Be kind" in anna.get(place).text
    assert customer.ask("thank you")["text"] == ""
    anna.part(f"{place}/return")
    assert customer.ask("refund please")["status"] == "grounded"
    anna.part(f"{place}/resolve")
    assert customer.http.get(customer.at(), headers=customer.headers).json()["status"] == "resolved"


@pytest.mark.slow
def test_of_two_agents_who_take_at_once_one_wins_and_the_other_is_told(office: Office) -> None:
    members = [at_work(office, "agent", name=f"Agent {letter}") for letter in "ABCDEF"]
    for _ in range(4):
        customer = waiting(office, "person please")
        place = f"/inbox/{customer.conversation}"
        with ThreadPoolExecutor(len(members)) as pool:
            pages = list(pool.map(lambda member, place=place: member.part(f"{place}/take").text, members))
        names = [member.person.name for member in members]
        winners = [name for name, page in zip(names, pages, strict=True) if 'data-mine="yes"' in page]
        assert len(winners) == 1
        for name, page in zip(names, pages, strict=True):
            assert name in winners or f"{winners[0]} has this conversation now." in page
        loser = next(member for member in members if member.person.name not in winners)
        refused = loser.part(f"{place}/reply", text="me too", id=uuid.uuid4().hex)
        assert f"{winners[0]} has this conversation now." in refused.text


def test_a_colleague_takes_over_on_purpose(office: Office, anna: Member, ben: Member) -> None:
    customer = waiting(office, "person please")
    place = f"/inbox/{customer.conversation}"
    anna.part(f"{place}/take")
    page = ben.get(place).text
    assert "Take over from Anna" in page
    assert 'data-mine="yes"' in ben.part(f"{place}/take", instead_of=anna.person.id).text
    assert "Ben has this conversation now." in anna.part(f"{place}/resolve").text


def test_whom_a_removed_agent_had_waits_in_the_queue_again(office: Office) -> None:
    lead, gone = at_work(office, "lead"), at_work(office, "agent")
    customer = waiting(office, "refund please")
    gone.part(f"/inbox/{customer.conversation}/take")
    assert customer.http.get(customer.at(), headers=customer.headers).json()["status"] == "person"
    assert lead.post(f"/people/{gone.person.id}/remove").status_code == 303
    assert customer.http.get(customer.at(), headers=customer.headers).json()["status"] == "waiting"
    page = lead.get("/inbox").text
    assert "Left by an agent" in text_of(page[page.index(customer.conversation) :])
    assert customer.ask("hello?")["text"], "the bot holds the line again"
    assert 'data-mine="yes"' in lead.part(f"/inbox/{customer.conversation}/take").text


def test_a_line_says_first_whether_anything_happened_since_the_page_was_made(office: Office, anna: Member) -> None:
    def since(page: str) -> str:
        (mark,) = re.findall('data-mark="([^"]+)"', page)

        async def listen() -> bytes:
            return await anext(changes_of(office.application.state.door, anna.token, mark))

        (said,) = re.findall("event: listening\r\ndata: (.+)\r\n\r\n", asyncio.run(listen()).decode())
        return said

    page = anna.get("/inbox").text
    assert since(page) == "nothing"
    waiting(office, "refund please")
    assert since(page) == "news"
    page = anna.get("/inbox").text
    assert since(page) == "nothing"
    assert since(page.replace('data-mark="', 'data-mark="before-a-restart.')) == "news"


def test_who_was_removed_hears_nothing_more_however_busy_the_desk_is(office: Office) -> None:
    member = at_work(office, "agent")
    door = office.application.state.door
    seconds = 0.0

    async def listen() -> list[bytes]:
        nonlocal seconds
        stream = changes_of(door, member.token, "", lambda: seconds)
        heard = [await anext(stream)]
        for number in range(100):
            if number == 10:
                remove_person(office.database, member.person, actor="test")
            seconds += CHECK_SECONDS / 10
            # never a quiet moment
            office.desk.bell.ring(f"conversation-{number}")
            try:
                heard.append(await asyncio.wait_for(anext(stream), PATIENCE))
            except StopAsyncIteration:
                return heard
        raise AssertionError("it never ended")

    heard = asyncio.run(listen())
    assert 10 < len(heard) <= 22, "to the next look by the clock"


def test_the_summary_is_what_was_said_and_the_draft_what_would_be(office: Office, anna: Member) -> None:
    customer = waiting(office, "When does my refund arrive?", "and my order", "person please")
    page = anna.get(f"/inbox/{customer.conversation}").text
    assert "When does my refund arrive?" in text_of(page) and "approved answer: refund time · 91 %" in text_of(page)
    story = story_of(office.database, customer.conversation)
    assert story.subject == "Refunds"
    office.desk.take(customer.conversation, anna.agent)
    customer.ask("is the refund on its way?")
    before = len(story_of(office.database, customer.conversation).lines)
    draft = anna.get(f"/inbox/{customer.conversation}/draft").text
    assert "We inspect it within 5 business days." in text_of(draft) and "/articles/returns/refunds.md" in draft
    assert len(story_of(office.database, customer.conversation).lines) == before, "a draft is not said"


def test_a_question_that_the_bot_fails_on_has_no_draft_and_the_page_says_so(office: Office, anna: Member) -> None:
    """The usual case of a conversation that waits because of an error of ours."""
    customer = waiting(office, "please fail")
    draft = anna.get(f"/inbox/{customer.conversation}/draft")
    assert draft.status_code == 200
    assert "The bot fails on this" in draft.text and "please fail" in draft.text
    assert "data-insert" not in draft.text


def test_a_draft_goes_into_the_reply_without_the_numbers_of_sources_that_a_reply_does_not_have(
    office: Office, anna: Member
) -> None:
    customer = waiting(office, "When does my refund arrive?")
    draft = anna.get(f"/inbox/{customer.conversation}/draft").text
    shown, _, button = draft.partition("data-insert=")
    assert "5 business days. [1]" in text_of(shown)
    given = button.partition('"')[2].partition('"')[0]
    assert given == "We inspect it within 5 business days.\n\nCredit cards take 3 to 7 business days."


def test_who_answers_sees_who_the_customer_says_they_are_and_who_they_are_known_to_be(
    office: Office, anna: Member
) -> None:
    asked = office.client().post(
        "/api/v1/conversations", json={"pre_chat": {"name": "Kari <b>N</b>", "email": "kari@shop.test"}}
    )
    page = text_of(anna.get(f"/inbox/{asked.json()['conversation_id']}").text)
    assert "Kari <b>N</b>" in page and "kari@shop.test" in page and "not signed in" in page
    known, _ = open_conversation(office.database, identity=Identity("customer-4711", "Ola N", "ola@shop.test"))
    page = text_of(anna.get(f"/inbox/{known.id}/story").text)
    assert "customer-4711" in page and "Ola N" in page and "ola@shop.test" in page and "not signed in" not in page
    nobody = text_of(anna.get(f"/inbox/{visitor(office.client()).conversation}").text)
    assert "Name" not in nobody and "not signed in" not in nobody


def test_a_line_says_why_in_words() -> None:
    asked = Message("1", "c", "c", "web", "hello", datetime.now(UTC))

    def why(*decisions: object, status: str = "grounded") -> str:
        meaning = Understanding(None, 0.4, (), 0.1, (Entity("email", "a@b.c", 0, 5, 1, ""),), "en", "m")
        parts = tuple(Part("q", meaning, (), decision) for decision in decisions)  # type: ignore[arg-type]
        return reply_of(replace(turn_to(asked, "x"), parts=parts)).why

    assert why(NotKnown()) == "did not know"
    assert why(Clarify(("a", "b"))) == "offered 2 options"
    assert why(Approved("refund_time"), HandOver("policy")) == "approved answer: refund time; hand-over: policy"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("/articles/a.md#p-1", True),
        ("https://example.com/a", True),
        ("http://example.com/a", False),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("javascript:alert(1)", False),
        ("https:evil", False),
        ("data:text/html,x", False),
        ("", False),
        ("https://[", False),
    ],
)
def test_only_safe_addresses_are_links(url: str, safe: bool) -> None:
    assert bool(safe_address(url)) == safe


NASTY = "\"><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}' onmouseover=alert(3) x='"


# fmt: off
OURS = {
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "img", "span", "nav", "details",
    "summary", "div", "p", "br", "small", "form", "input", "button", "main", "h1", "h2", "h3", "section", "ul", "li",
    "time", "b", "label", "textarea", "article", "aside", "dl", "dt", "dd", "kbd", "i", "code",
}
# fmt: on


class Tags(HTMLParser):
    """What a browser makes of a page, read by the standard library."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_whatever_is_written_is_shown_as_text(office: Office, anna: Member) -> None:
    customer = waiting(office, NASTY)
    place = f"/inbox/{customer.conversation}"
    asked = Message("nasty", customer.conversation, NASTY, "web", NASTY, datetime.now(UTC))
    cited = tuple(Citation(NASTY, url, NASTY, NASTY) for url in (NASTY, f"javascript:{NASTY}", f"https://x/{NASTY}"))
    store_turn(office.database, turn_to(asked, NASTY, citations=cited, suggestions=(NASTY,)))
    anna.part(f"{place}/take")
    anna.part(f"{place}/reply", text=NASTY, id=uuid.uuid4().hex)
    anna.part(f"{place}/note", text=NASTY, id=uuid.uuid4().hex)
    keep_canned(office.database, NASTY[:80], NASTY)
    file = customer.http.post(customer.at("/files"), files={"file": (NASTY, PNG)}, headers=customer.headers).json()
    pages = [anna.get(place).text, anna.get(f"{place}/draft").text, anna.get(f"{place}/story").text]
    pages += [anna.get("/inbox/list?view=mine").text, anna.get("/replies").text]
    sent = anna.get(f"/files/{file['id']}")
    for page in pages:
        tags = Tags(page)
        assert tags.names <= OURS, tags.names - OURS
        assert not [name for name in tags.attributes if name.startswith("on") or name == "style"]
        assert all(address.startswith(("/", "#", "https://")) for address in tags.addresses)
        assert NASTY in tags.texts or any(NASTY in text for text in tags.texts)
    assert sent.headers["content-disposition"].startswith("attachment; ") and "<" not in str(sent.headers)
    assert (sent.headers["content-type"], sent.content) == ("image/png", PNG)
    assert "sandbox" in sent.headers["content-security-policy"] and sent.headers["x-content-type-options"] == "nosniff"
    assert anna.get("/files/" + "a" * 22).status_code == 404


@pytest.mark.parametrize("place", ["nowhere-at-all", "../people", "%00", "x" * 80])
def test_what_is_not_there_is_a_page_that_says_so(anna: Member, place: str) -> None:
    for answer in (anna.get(f"/inbox/{place}"), anna.part(f"/inbox/{place}/take")):
        assert answer.status_code in (403, 404)
        assert "Traceback" not in answer.text


def test_an_agents_answer_becomes_a_pair_to_learn_from(office: Office, anna: Member) -> None:
    customer = waiting(office, "refund please", "Can you deliver to a packing station?", "person please")
    place = f"/inbox/{customer.conversation}"
    anna.part(f"{place}/take")
    anna.part(f"{place}/reply", text="Yes, to every one of them.", id=uuid.uuid4().hex)
    anna.part(f"{place}/note", text="a note is no answer", id=uuid.uuid4().hex)
    customer.ask("And on Sundays?")
    anna.part(f"{place}/reply", text="Not on Sundays.", id=uuid.uuid4().hex)
    anna.part(f"{place}/reply", text="But on Saturdays.", id=uuid.uuid4().hex)
    first, second = (one for one in staff_answers(office.database) if one.conversation == customer.conversation)
    assert "packing station" in "\n".join([first.question, *(text for _, text in first.history)])
    assert first.reply == "Yes, to every one of them."
    assert (second.question, second.reply) == ("And on Sundays?", "Not on Sundays.\n\nBut on Saturdays.")
    assert ("agent", "Yes, to every one of them.") in second.history


def test_a_reply_to_a_message_that_the_bot_still_owes_an_answer_is_history_too(office: Office, anna: Member) -> None:
    conversation = start_conversation(office.database, channel="web").id
    for number, text in enumerate(("Do you deliver to Malta?", "And on Sundays?"), 1):
        asked = Message(f"owed-{number}", conversation, conversation, "web", text, datetime.now(UTC))
        accept_message(office.database, asked)
        if number == 1:
            office.desk.take(conversation, anna.agent)
        office.desk.reply(conversation, anna.agent, uuid.uuid4().hex, f"Answer {number}")
    first, second = (one for one in staff_answers(office.database) if one.conversation == conversation)
    assert (first.question, first.reply) == ("Do you deliver to Malta?", "Answer 1")
    assert (second.question, second.reply) == ("And on Sundays?", "Answer 2")
    assert second.history == (("customer", "Do you deliver to Malta?"), ("agent", "Answer 1"))


def test_files_are_not_there_where_the_service_takes_none(anna: Member) -> None:
    assert anna.get("/files/file-00000001").status_code == 404
