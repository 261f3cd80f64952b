"""Whole journeys of agents and customers, in browsers of their own at the same time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from bot.console.access import COOKIE
from bot.console.story import story_of
from bot.server import Service
from bot.storage.canned import keep_canned
from bot.storage.handover import Agent
from bot.storage.outbox import due, mark_failed, owe
from bot.storage.people import add_person, sign_out
from bot.storage.sites import Hours, change_site, find_site
from bot.storage.visitors import open_conversation
from tests.bot.browser.conftest import Open
from tests.bot.browser.console import at_console
from tests.bot.browser.test_widget_access import axe
from tests.bot.channels.office import Office, wait_until
from tests.bot.console.staff import employ
from tests.bot.storage.sample import message
from tests.conftest import ROOT

SHOTS = ROOT / ".artifacts" / "inbox"


def conversation_of(page: Page) -> str:
    return str(page.evaluate("JSON.parse(localStorage.getItem('frontdesk.conversation')).id"))


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def write(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Control+Enter")


def test_a_customer_asks_for_a_person_and_the_bot_has_it_again_at_the_end(open_page: Open, office: Office) -> None:
    agent = at_console(open_page, office, "agent", "Anna B.")
    customer = open_page()
    say(customer, "When does my refund arrive?")
    customer.locator(".said.bot[data-status=grounded]").wait_for()
    customer.click("#person")
    expect(customer.locator("#state")).to_contain_text("A person has been asked to join")

    # the queue fills by itself
    line = agent.locator(f'.item[href*="{conversation_of(customer)}"]')
    expect(line).to_contain_text("Asked for a person")
    line.click()
    expect(agent.locator("#story .said.customer")).to_have_text(re.compile("When does my refund arrive"))
    expect(agent.locator("#summary")).to_contain_text("When does my refund arrive?")
    expect(agent.locator("#draft-text")).to_contain_text("We inspect it within 5 business days")
    expect(agent.locator("#write")).to_be_hidden()
    agent.click("#act-take")
    expect(customer.locator("#state")).to_have_text("Anna B. is with you now.")

    # both ways, live
    write(agent, "Good morning! I am looking for it.")
    expect(customer.locator(".said.agent")).to_contain_text("Good morning! I am looking for it.")
    expect(customer.locator(".said.agent .name")).to_have_text("Anna B.")
    agent.fill("#text", "half a sen")
    say(customer, "Thank you, where is my order?")
    expect(agent.locator("#story .said.customer").last).to_contain_text("where is my order?")
    expect(agent.locator("#text")).to_have_value("half a sen")
    expect(customer.locator(".typing")).to_have_count(0)
    expect(customer.locator(".said.bot")).to_have_count(1)

    # notes stay inside
    agent.click("#mode-note")
    write(agent, "Warehouse says Friday")
    expect(agent.locator(".said.note")).to_contain_text("Warehouse says Friday")
    expect(customer.locator("#log")).not_to_contain_text("Warehouse")

    # a customer who comes back finds the same
    customer.reload()
    expect(customer.locator(".said.agent")).to_contain_text("Good morning!")
    expect(customer.locator(".typing")).to_have_count(0)
    expect(customer.locator(".said.bot")).to_have_count(1)

    agent.click("#act-return")
    expect(agent.locator(".bar .dot.open")).to_be_visible()
    expect(customer.locator("#state")).to_be_hidden()
    say(customer, "refund again please")
    expect(customer.locator(".said.bot[data-status=grounded]")).to_have_count(2)
    expect(agent.locator("#story .said.bot").last).to_contain_text("We inspect it within 5 business days")


def waiting(office: Office, *texts: str, name: str = "", email: str = "") -> str:
    conversation = open_conversation(office.database, name=name, email=email)[0].id
    for number, text in enumerate(texts or ("refund please",)):
        office.desk.answer(message(conversation, f"m{number}", text))
    office.desk.ask_for_person(conversation, "asked")
    return conversation


def test_who_comes_second_is_told(open_page: Open, office: Office) -> None:
    conversation = waiting(office)
    first = at_console(open_page, office, "agent", "First Agent", f"/inbox/{conversation}")
    second = at_console(open_page, office, "agent", "Second Agent", f"/inbox/{conversation}", calm=False)
    # as if both had pressed at once: the second page has not heard of it yet
    second.evaluate("window.EventSource = null")
    second.route("**/story*", lambda route: route.abort())
    first.click("#act-take")
    expect(first.locator("#act-resolve")).to_be_visible()
    second.unroute("**/story*")
    second.evaluate(
        "id => htmx.ajax('POST', `/console/inbox/${id}/take`, {target: '#story', swap: 'innerHTML'})", conversation
    )
    expect(second.locator("#bar .problem")).to_have_text("First Agent has this conversation now.")
    expect(second.locator("#act-take")).to_have_text("Take over from First Agent")
    expect(second.locator("#write")).to_be_hidden()


def test_a_day_by_the_keyboard(open_page: Open, office: Office) -> None:
    waiting(office)
    keep_canned(office.database, "Refund on its way", "Your refund is on its way.")
    page = at_console(open_page, office, "agent")
    page.keyboard.press("Alt+ArrowDown")
    page.wait_for_selector("#pane")
    page.wait_for_selector("body[data-ready]")
    page.keyboard.press("Alt+t")
    expect(page.locator("#act-resolve")).to_be_visible()
    page.keyboard.press("Alt+r")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("By hand.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".said.agent")).to_have_text(re.compile("By hand"))
    page.keyboard.press("Alt+n")
    expect(page.locator("#send")).to_have_text("Save note")
    pressed = page.locator(".kinds button").evaluate_all("nodes => nodes.map((node) => node.ariaPressed)")
    assert pressed == ["false", "true"]
    page.keyboard.type("for us")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".said.note")).to_contain_text("for us")
    page.locator("#canned summary").focus()
    page.keyboard.press("Enter")
    page.fill("#canned-search", "refund on")
    page.locator("#canned li:visible button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_value("Your refund is on its way.")
    expect(page.locator("#send")).to_have_text("Send")


def test_what_could_not_be_sent_comes_back_and_goes_out_once(open_page: Open, office: Office) -> None:
    conversation = waiting(office)
    page = at_console(open_page, office, "agent", path=f"/inbox/{conversation}", calm=False)
    page.click("#act-take")
    page.locator("#write").wait_for()
    page.route("**/reply", lambda route: route.abort())
    write(page, "Are you there?")
    expect(page.locator("#bar .problem")).to_be_visible()
    expect(page.locator("#text")).to_have_value("Are you there?")
    page.unroute("**/reply")
    # stored, but the answer to it is lost on the way
    page.route("**/reply", lambda route: (route.fetch(), route.abort()))
    page.press("#text", "Control+Enter")
    expect(page.locator("#text")).to_have_value("Are you there?")
    page.unroute("**/reply")
    page.press("#text", "Control+Enter")
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#story .said.agent")).to_have_count(1)


def held(page: Page, pattern: str, act: Callable[[], None]) -> Route:
    """The request that `act` brings about, kept from the service until the test lets it go on."""
    routes: list[Route] = []
    page.route(pattern, lambda route: route.continue_() if routes else routes.append(route))
    with page.expect_request(pattern):
        act()
    while not routes:  # the event may come before its route
        page.evaluate("0")
    return routes[0]


def test_a_note_that_could_not_be_saved_does_not_come_back_into_a_reply(open_page: Open, office: Office) -> None:
    page = at_console(open_page, office, "agent", path=f"/inbox/{waiting(office)}", calm=False)
    page.click("#act-take")
    page.click("#mode-note")
    for written in ("", "Good morning!"):
        if written:
            page.fill("#text", "")
            page.click("#mode-note")
        note = held(page, "**/note", lambda: write(page, "He always wants more"))
        page.click("#mode-reply")
        page.fill("#text", written)
        note.abort()
        expect(page.locator("#text")).to_have_value("\n\n".join(filter(None, ("He always wants more", written))))
        expect(page.locator("#send")).to_have_text("Save note")
        assert str(page.get_attribute("#write", "action")).endswith("/note")


def test_a_half_written_note_stays_a_note_whatever_text_is_put_into_it(open_page: Open, office: Office) -> None:
    page = at_console(open_page, office, "agent", path=f"/inbox/{waiting(office)}")
    page.click("#act-take")
    page.click("#mode-note")
    page.fill("#text", "He always wants more")
    page.click("#draft [data-insert]")
    expect(page.locator("#text")).to_have_value(re.compile("^He always wants more\n\nWe inspect it"))
    expect(page.locator("#send")).to_have_text("Save note")
    page.fill("#text", "")
    page.click("#draft [data-insert]")
    expect(page.locator("#text")).to_have_value(re.compile("^We inspect it"))
    expect(page.locator("#send")).to_have_text("Send")


def test_what_was_sent_does_not_come_back_because_something_else_failed_meanwhile(
    open_page: Open, office: Office
) -> None:
    page = at_console(open_page, office, "agent", path=f"/inbox/{waiting(office)}", calm=False)
    page.click("#act-take")
    page.locator("#write").wait_for()
    reply = held(page, "**/reply", lambda: write(page, "On its way."))
    page.fill("#text", "the next one")
    page.route("**/inbox/list*", lambda route: route.fulfill(status=503), times=1)
    waiting(office)
    expect(page.locator("#bar .problem")).to_be_visible()
    reply.continue_()
    expect(page.locator("#story .said.agent")).to_contain_text("On its way.")
    page.evaluate("line")
    expect(page.locator("#text")).to_have_value("the next one")


def test_the_browser_asks_before_what_is_written_is_lost(open_page: Open, office: Office) -> None:
    first, second = waiting(office), waiting(office)
    page = at_console(open_page, office, "agent", path=f"/inbox/{first}")
    leaves = "dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    page.click("#act-take")
    page.locator("#write").wait_for()
    assert page.evaluate(leaves)
    page.fill("#text", "half a sentence")
    assert not page.evaluate(leaves)
    reply = held(page, "**/reply", lambda: write(page, "a whole one"))
    assert not page.evaluate(leaves), "on its way"
    # the next conversation by keyboard waits for it by itself
    page.locator(f'.item[href*="{second}"]').wait_for()
    page.keyboard.press("Alt+ArrowDown")
    reply.continue_()
    page.wait_for_url(lambda url: first not in url)
    assert [line.text for line in story_of(office.database, first).lines if line.kind == "agent"] == ["a whole one"]


@pytest.mark.parametrize("clipboard", ["undefined", "{writeText: () => Promise.reject(new Error('not allowed'))}"])
def test_where_nothing_can_be_copied_the_button_does_not_say_so(
    open_page: Open, office: Office, clipboard: str
) -> None:
    """Pages that came without https have no clipboard, and a browser may forbid it."""
    page = at_console(open_page, office, "lead", path="/install/default")
    page.evaluate(f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}}})")
    button = page.locator("[data-copy]")
    button.click()
    expect(button).to_have_text("Press Ctrl+C")
    assert page.evaluate("String(getSelection())") == page.locator("#snippet").inner_text()


def test_a_conversation_that_its_customer_had_deleted_leaves_the_screen(open_page: Open, office: Office) -> None:
    conversation = waiting(office, "my secret question")
    page = at_console(open_page, office, "agent", path=f"/inbox/{conversation}", calm=False)
    expect(page.locator("#story")).to_contain_text("my secret question")
    office.desk.forget(conversation, actor="customer")
    expect(page.locator("main")).to_contain_text("perhaps its customer had it deleted")
    assert "my secret question" not in page.content()


def test_what_happens_between_the_page_and_its_line_is_shown(open_page: Open, office: Office) -> None:
    conversation = waiting(office, "refund please")
    page = at_console(open_page, office, "agent", path="/replies")
    lines: list[Route] = []
    page.route("**/console/events?*", lambda route: lines.append(route))
    page.goto(page.url.replace("/replies", f"/inbox/{conversation}"))
    expect(page.locator("#story")).to_contain_text("refund please")
    wait_until(lambda: page.evaluate("1") and lines)
    office.desk.receive(message(conversation, "m-2", "my parcel is wet too"))
    another = waiting(office, "and I?")
    lines[0].continue_()
    expect(page.locator("#story")).to_contain_text("my parcel is wet too")
    expect(page.locator(f'.item[href*="{another}"]')).to_be_visible()


def test_what_was_there_before_is_not_read_out_again(open_page: Open, office: Office) -> None:
    conversation = waiting(office, "refund please")
    office.desk.take(conversation, at_desk(office))  # or the bot speaks last
    office.desk.receive(message(conversation, "m-2", "are you there?"))
    page = at_console(open_page, office, "agent", path="/replies")
    lines: list[Route] = []
    page.route("**/console/events?*", lambda route: lines.append(route))
    page.goto(page.url.replace("/replies", f"/inbox/{conversation}"))
    wait_until(lambda: page.evaluate("1") and lines)
    page.evaluate(
        "spoken = []; new MutationObserver(() => spoken.push(document.getElementById('speech').textContent))"
        ".observe(document.getElementById('speech'), {childList: true})"
    )
    waiting(office, "and I?")
    with page.expect_response("**/story*"):
        lines[0].continue_()
    office.desk.receive(message(conversation, "m-3", "my parcel is wet too"))
    wait_until(lambda: page.evaluate("spoken.length"))
    assert page.evaluate("spoken") == ["my parcel is wet too"]


def test_a_page_that_lost_its_line_says_so_and_catches_up(open_page: Open, office: Office) -> None:
    """A proxy that answers in the place of the service ends an event source for good."""
    page = at_console(open_page, office, "agent", path="/replies", calm=False)
    page.route("**/console/events?*", lambda route: route.fulfill(status=502))
    page.click("text=Inbox")
    page.wait_for_selector("body.inbox[data-ready]")
    expect(page.locator("#line")).to_contain_text("Not connected")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "not-connected.png")
    missed = waiting(office)
    expect(page.locator(f'.item[href*="{missed}"]')).to_have_count(0)
    page.unroute("**/console/events?*")
    expect(page.locator(f'.item[href*="{missed}"]')).to_be_visible()
    expect(page.locator("#line")).to_be_hidden()
    # the line is up, and only the list cannot be had
    page.route("**/inbox/list*", lambda route: route.fulfill(status=503), times=1)
    missed = waiting(office)
    expect(page.locator(f'.item[href*="{missed}"]')).to_be_visible()


def test_a_session_that_ended_leads_to_sign_in_and_what_was_written_is_not_lost(
    open_page: Open, office: Office
) -> None:
    conversation = waiting(office)
    idle = at_console(open_page, office, "agent", calm=False)
    writing = idle.context.new_page()
    writing.goto(idle.url.replace("/inbox", f"/inbox/{conversation}"))
    writing.click("#act-take")
    writing.fill("#text", "half a sentence")
    sending = idle.context.new_page()
    sending.goto(writing.url)
    sending.locator("#write").wait_for()
    (token,) = (each["value"] for each in idle.context.cookies() if each["name"] == COOKIE)
    sign_out(office.database, token)
    write(sending, "a whole one")
    expect(sending.locator("#line")).to_contain_text("You are signed out")
    expect(sending.locator("#text")).to_have_value("a whole one")
    idle.wait_for_url(re.compile(r"/console/login\?next=/console/inbox$"))
    expect(writing.locator("#line")).to_contain_text("You are signed out")
    expect(writing.locator("#text")).to_have_value("half a sentence")


def test_a_link_in_a_mail_opens_the_conversation_for_who_is_signed_in(open_page: Open, office: Office) -> None:
    """A mail is read on a page of another site, from which a browser sends no strict cookie."""
    conversation = waiting(office, "refund please")
    page = at_console(open_page, office, "agent")
    origin = page.evaluate("location.origin")
    # as the service sets it
    page.context.add_cookies([{**cookie, "sameSite": "Strict"} for cookie in page.context.cookies()])  # type: ignore[typeddict-item, list-item]
    link = f"{origin}/console/inbox/{conversation}?view=mine"
    page.goto(f"data:text/html,<a href='{link}'>A customer waits</a>")
    page.click("a")
    expect(page.locator("#story")).to_contain_text("refund please")
    assert page.url == link
    # who is not signed in is asked to, and comes to the same page then
    page.goto(f"data:text/html,<a href='{link}'>A customer waits</a>")
    page.context.clear_cookies()
    page.click("a")
    page.locator("[name=password]").wait_for()
    assert page.url == f"{origin}/console/login?next=/console/inbox/{conversation}"


def test_the_first_lead_signs_in_and_brings_a_colleague(open_page: Open, office: Office, service: Service) -> None:
    _, password = add_person(office.database, "Lead of the journey", "lead", actor="test")
    page = open_page("/console")
    page.fill("[name=name]", "lead of the journey")
    page.fill("[name=password]", password)
    page.keyboard.press("Enter")
    page.fill("[name=old]", password)
    page.fill("[name=new]", "three plain words")
    page.fill("[name=again]", "three plain words")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.inbox[data-ready]")
    page.click("text=People")
    page.fill("[name=name]", "Colleague of the journey")
    page.click("button:text-is('Add')")
    given = page.locator(".secret code").inner_text()
    expect(page.locator(".good")).to_contain_text("Colleague of the journey")
    page.click("text=People")
    expect(page.locator(".secret")).to_have_count(0)
    page.click(".who summary")
    page.click("text=Sign out")
    page.wait_for_url("**/console/login")
    page.fill("[name=name]", "Colleague of the journey")
    page.fill("[name=password]", given)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/password")


def test_the_look_of_a_site_is_seen_before_it_is_saved(open_page: Open, office: Office) -> None:
    page = at_console(open_page, office, "lead", path="/install")
    page.fill("[name=name]", "Our shop")
    page.fill("[name=origins]", "https://shop.example\nhttps://www.shop.example")
    page.click("button:text-is('Make it')")
    assert len(page.locator(".secret code").first.inner_text()) > 20
    snippet = page.locator("#snippet").inner_text()
    assert re.fullmatch(r'<script async src="http://127\.0\.0\.1:\d+/widget\.js" data-site="[\w-]+"></script>', snippet)
    page.fill("#colour", "#ffdd00")
    page.fill("[name=text]", "Ask <b>us</b>")
    page.select_option("[name=position]", "left")
    expect(page.locator("#p-head")).to_have_text("Ask <b>us</b>")
    expect(page.locator("#p-head")).to_have_css("background-color", "rgb(255, 221, 0)")
    expect(page.locator("#p-head")).to_have_css("color", "rgb(17, 17, 17)")
    page.fill("[name=time_zone]", "Europe/Berlin")
    page.fill("[name=hours]", "Mon-Fri 09:00-12:30, 13:30-17:00\nSat 10:00-14:00")
    page.click("button:text-is('Save')")
    expect(page.locator("text=Saved.")).to_be_visible()
    expect(page.locator("[name=hours]")).to_have_value("Mon-Fri 09:00-12:30, 13:30-17:00\nSat 10:00-14:00")
    expect(page.locator("[name=time_zone]")).to_have_value("Europe/Berlin")
    expect(page.locator(".secret code")).to_have_count(1)
    expect(page.locator("#colour")).to_have_value("#ffdd00")


PAGES = {
    "login": "login",
    "queue": "inbox",
    "open": "inbox?view=open",
    "replies": "replies",
    "sites": "install",
    "install": "install/default",
    "deliveries": "deliveries",
    "password": "password",
    "people": "people",
}


def everything_to_be_seen(office: Office, conversation: str) -> None:
    """A site with hours, a canned reply, a note, an agent's word, and a notification that cannot be delivered."""
    site = find_site(office.database, "")
    assert site is not None
    hours = tuple(Hours(day, "09:00", "17:30") for day in range(5))
    change_site(office.database, replace(site, hours=hours, time_zone="Europe/Berlin"), actor="test")
    keep_canned(office.database, "Refund on its way", "Your refund is on its way.")
    agent = at_desk(office)
    office.desk.take(conversation, agent)
    office.desk.reply(conversation, agent, uuid.uuid4().hex, "I am looking for it.")
    office.desk.leave_note(conversation, agent, uuid.uuid4().hex, "Warehouse says Friday")
    office.desk.give_back(conversation, agent)
    office.desk.ask_for_person(conversation, "urgent")
    office.database.write(lambda c: owe(c, conversation, ("email",), {"reason": "asked"}))
    now = datetime.now(UTC)
    while notices := due(office.database, now):
        for notice in notices:
            mark_failed(office.database, notice, "mail.shop.test:587: no route to the server", now)
        now += timedelta(days=1)


def at_desk(office: Office) -> Agent:
    person = employ(office, "agent")
    return Agent(person.id, person.name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("label", "width", "height"), [("desktop", 1440, 900), ("phone", 390, 844)])
def test_it_fits_on_a_screen(open_page: Open, office: Office, scheme: str, label: str, width: int, height: int) -> None:
    """The picture is kept for a person to look at; that nothing sticks out, and all that axe finds, is checked here."""
    texts = ("When does my refund arrive?", "x" * 300, "我的退款什么时候到账？")
    conversation = waiting(office, *texts, name="Zoë Okonkwo-Lindqvist", email="zoe." + "o" * 40 + "@example.com")
    everything_to_be_seen(office, conversation)
    page = at_console(
        open_page,
        office,
        "lead",
        path=f"/inbox/{conversation}",
        viewport={"width": width, "height": height},
        color_scheme=scheme,
    )
    page.locator("#draft-text").wait_for(state="attached")
    SHOTS.mkdir(parents=True, exist_ok=True)

    def clean(name: str) -> None:
        page.screenshot(path=Path(SHOTS) / f"{name}-{label}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        if page.locator("body.inbox").count():
            assert page.evaluate("document.documentElement.scrollHeight <= innerHeight"), name
        assert len(page.locator("main").inner_text()) > 40, f"{name} is empty"
        assert axe(page) == [], name

    clean("conversation")
    if label == "desktop":
        page.click("#act-take")
        page.click("#mode-note")
        page.click("#canned summary")
        clean("writing")
    for name, path in PAGES.items():
        page.goto(page.evaluate("location.origin") + f"/console/{path}")
        page.wait_for_selector("body[data-ready]")
        clean(name)
    page.fill("[name=name]", f"Colleague {label} {scheme}")
    page.click("button:text-is('Add')")
    page.locator(".secret").wait_for()
    page.locator(".more summary").first.click()
    clean("people-added")
    page.goto(page.evaluate("location.origin") + f"/console/inbox/{conversation}")
    page.wait_for_selector("body[data-ready]")
    if label == "phone":
        expect(page.locator("#list")).to_be_hidden()
        page.click("#about")
        expect(page.locator("#summary")).to_be_visible()
        page.get_by_role("heading", name="The customer", exact=True).scroll_into_view_if_needed()
        clean("details")
        page.click("#about")
        page.click(".back")
        expect(page.locator("#list")).to_be_visible()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input:not([type=hidden]), textarea, select')].filter((node) =>"
        " !node.labels?.length && !node.ariaLabel && !node.textContent.trim()).length"
    )
    assert unnamed == 0
