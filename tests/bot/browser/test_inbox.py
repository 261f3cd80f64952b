"""Whole journeys of agents and customers, in browsers of their own at the same time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bot.server import Service
from bot.storage.canned import keep_canned
from bot.storage.conversations import start_conversation
from bot.storage.people import add_person
from tests.bot.browser.conftest import Open
from tests.bot.browser.console import at_console
from tests.bot.channels.office import Office
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


def waiting(office: Office, *texts: str) -> str:
    conversation = start_conversation(office.database, channel="web").id
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
    page.click("button:text-is('Save')")
    expect(page.locator("text=Saved.")).to_be_visible()
    expect(page.locator(".secret code")).to_have_count(1)
    expect(page.locator("#colour")).to_have_value("#ffdd00")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("label", "width", "height"), [("desktop", 1440, 900), ("phone", 390, 844)])
def test_it_fits_on_a_screen(open_page: Open, office: Office, scheme: str, label: str, width: int, height: int) -> None:
    """The picture is kept for a person to look at; that nothing sticks out is checked here."""
    conversation = waiting(office, "When does my refund arrive?", "x" * 300, "我的退款什么时候到账？")
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
    for name, path in (("conversation", ""), ("queue", "/console/inbox"), ("people", "/console/people"),
                       ("install", "/console/install/default")):  # fmt: skip
        if path:
            page.goto(page.evaluate("location.origin") + path)
            page.wait_for_selector("body[data-ready]")
        page.screenshot(path=Path(SHOTS) / f"{name}-{label}-{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert len(page.locator("main").inner_text()) > 40, f"{name} is empty"
    page.goto(page.evaluate("location.origin") + f"/console/inbox/{conversation}")
    page.wait_for_selector("body[data-ready]")
    if label == "phone":
        expect(page.locator("#list")).to_be_hidden()
        page.click("#about")
        expect(page.locator("#summary")).to_be_visible()
        page.click("#about")
        page.click(".back")
        expect(page.locator("#list")).to_be_visible()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input:not([type=hidden]), textarea, select')].filter((node) =>"
        " !node.labels?.length && !node.ariaLabel && !node.textContent.trim()).length"
    )
    assert unnamed == 0
