"""What a customer does on the chat page, in a real browser."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from bot.server import Service, create_application
from bot.storage.conversations import find_conversation
from bot.storage.feedback import clicks_on, feedback_on
from bot.storage.handover import Agent
from bot.storage.turns import history
from tests.bot.browser.between import Between, Site
from tests.bot.browser.conftest import Open
from tests.bot.browser.stands import passes
from tests.bot.browser.test_widget_access import axe
from tests.bot.channels.office import (
    PATIENCE,
    PLENTY,
    STOREFRONT,
    Office,
    Scripted,
    SlowSource,
    Visitor,
    open_office,
    serving,
    wait_until,
)
from tests.bot.storage.sample import hire

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def ask(page: Page, text: str) -> None:
    """Type it, send it, and wait for the whole answer."""
    before = page.locator(".said.bot[data-turn]").count()
    page.fill("#text", text)
    page.press("#text", "Enter")
    page.locator(".said.bot[data-turn]").nth(before).wait_for()


def last_turn(page: Page) -> str:
    return page.locator(".said.bot[data-turn]").last.get_attribute("data-turn") or ""


def kept(page: Page) -> dict[str, str] | None:
    found: dict[str, str] | None = page.evaluate("JSON.parse(localStorage.getItem('frontdesk.conversation'))")
    return found


def test_a_question_is_answered_with_sources_that_open_at_the_right_place(open_page: Open) -> None:
    page = open_page()
    ask(page, "When does my refund arrive?")
    answer = page.locator(".said.bot").last
    assert answer.locator(".text p").all_inner_texts() == [
        "We inspect it within 5 business days.1",
        "Credit cards take 3 to 7 business days.2",
    ]
    sources = answer.locator(".sources a")
    assert sources.all_inner_texts() == ["1\nRefunds\n(opens in a new tab)", "2\nRefunds\n(opens in a new tab)"]
    with page.expect_popup() as popup:
        sources.nth(1).click()
    article = popup.value
    article.wait_for_load_state()
    assert article.url.endswith("/articles/returns/refunds.md#p-money")
    marked = article.locator(".passage:has(> .anchor:target)")
    assert marked.inner_text().strip() == "Credit cards take 3 to 7 business days, PayPal takes 1 to 2."
    box, height = marked.bounding_box(), article.evaluate("innerHeight")
    assert box is not None
    assert 0 <= box["y"] < height
    plain = article.evaluate("getComputedStyle(document.querySelector('article')).backgroundColor")
    assert marked.evaluate("node => getComputedStyle(node).backgroundColor") != plain


def test_lists_and_tables_of_an_answer_are_set_out(open_page: Open) -> None:
    page = open_page()
    ask(page, "show me a table")
    shown = page.locator(".said.bot .text")
    assert shown.evaluate("node => [...node.children].map((child) => child.tagName)") == ["P", "TABLE", "OL", "UL", "P"]
    assert shown.locator("th").all_inner_texts() == ["Paid with", "Days"]
    assert shown.locator("td").all_inner_texts() == ["Card", "3-7"]
    assert shown.locator("li").all_inner_texts() == ["Look.", "Ask.1", "Or write. [9]"], "a mark without a source stays"


def test_a_mark_in_the_text_opens_its_source_and_both_are_counted(open_page: Open, office: Office) -> None:
    page = open_page()
    ask(page, "refund?")
    with page.expect_popup() as popup:
        page.locator(".ref").first.click()
    popup.value.wait_for_load_state()
    assert popup.value.url.endswith("#p-inspect")
    wait_until(lambda: clicks_on(office.database, last_turn(page)))
    assert [c.target for c in clicks_on(office.database, last_turn(page))] == ["/articles/returns/refunds.md#p-inspect"]


def test_thumbs_up_is_kept(open_page: Open, office: Office) -> None:
    page = open_page()
    ask(page, "refund?")
    up = page.get_by_role("button", name="Helpful", exact=True)
    up.click()
    page.get_by_text("Thank you for telling us.").wait_for()
    assert up.get_attribute("aria-pressed") == "true"
    assert [given.verdict for given in feedback_on(office.database, last_turn(page))] == ["up"]


def test_thumbs_down_asks_why_and_keeps_the_reason(open_page: Open, office: Office) -> None:
    page = open_page()
    ask(page, "refund?")
    page.get_by_role("button", name="Not helpful").click()
    page.get_by_role("button", name="Out of date").click()
    page.get_by_label("Anything to add? (optional)").fill("It is ten days now")
    page.get_by_role("button", name="Send feedback").click()
    page.get_by_text("Thank you for telling us.").wait_for()
    assert page.locator(".reasons").count() == 0
    (given,) = feedback_on(office.database, last_turn(page))
    assert (given.verdict, given.reason, given.comment) == ("down", "outdated", "It is ten days now")


def test_a_suggestion_is_asked_by_a_click(open_page: Open, office: Office) -> None:
    page = open_page()
    ask(page, "refund?")
    first = last_turn(page)
    page.get_by_role("button", name="Is a label free?").click()
    page.locator(".said.bot[data-turn]").nth(1).wait_for()
    assert page.locator(".said.customer .text").all_inner_texts() == ["refund?", "Is a label free?"]
    assert page.locator(".next").count() == 1, "only the last answer offers anything"
    wait_until(lambda: clicks_on(office.database, first))
    assert [(c.kind, c.target) for c in clicks_on(office.database, first)] == [("suggestion", "Is a label free?")]


def test_options_are_buttons_and_stay_readable_once_one_was_taken(open_page: Open) -> None:
    page = open_page()
    ask(page, "something with an order")
    clarified = page.locator(".said.bot").first
    assert clarified.locator(".text").inner_text() == "Did you mean:"
    clarified.get_by_role("button", name="Can I cancel my order?").click()
    page.locator(".said.bot[data-turn]").nth(1).wait_for()
    assert clarified.locator(".text").inner_text() == "Did you mean:\n1. Where is my order?\n2. Can I cancel my order?"


def test_the_page_begins_with_questions_to_click(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="When does my refund arrive?").click()
    page.locator(".said.bot[data-status=grounded]").wait_for()
    assert page.locator("#welcome").is_hidden()


def test_a_reload_keeps_the_history(open_page: Open) -> None:
    page = open_page()
    ask(page, "refund?")
    ask(page, "and then?")
    before = page.locator(".said .text").all_inner_texts()
    page.reload()
    page.locator(".said.bot[data-turn]").nth(1).wait_for()
    assert page.locator(".said .text").all_inner_texts() == before
    assert page.locator(".sources a").count() == 2
    ask(page, "still here")
    assert page.locator(".said.bot[data-turn]").count() == 3


def test_the_page_works_where_storage_is_forbidden(open_page: Open) -> None:
    page = open_page()
    page.context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        "  Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError'); }});"
    )
    page.reload()
    page.wait_for_selector("body[data-ready]")
    ask(page, "first")
    ask(page, "second")
    assert page.locator(".said.bot .text").all_inner_texts() == ["first", "second"]


def test_a_chinese_browser_gets_a_chinese_page(open_page: Open) -> None:
    page = open_page(locale="zh-TW")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.get_by_role("heading", level=2).inner_text() == "您好！有什么可以帮您？"
    assert page.get_by_role("button", name="转人工客服").is_visible()
    page.get_by_role("button", name="我的退款什么时候到账？").click()
    text = page.locator(".said.bot[data-turn] .text")
    text.wait_for()
    assert text.inner_text().startswith("我们会在5个工作日内检查。")
    assert text.get_attribute("lang") == "zh"
    words = page.evaluate("document.body.innerText")
    english = re.findall(r"[A-Za-z]{3,}", words.replace("Larkmoor Outfitters", "").replace("Refunds", ""))
    assert english == [], "the furniture of the page is Chinese throughout"


def test_other_languages_get_the_english_page(open_page: Open) -> None:
    page = open_page(locale="fr-FR")
    assert page.get_by_role("heading", level=2).inner_text() == "Hello! How can we help?"


def test_talking_to_a_person_is_one_click_away(open_page: Open, office: Office) -> None:
    page = open_page()
    page.get_by_role("button", name="Talk to a person").click()
    page.get_by_text("A person has been asked to join.").first.wait_for()
    conversation = kept(page)
    assert conversation is not None
    assert find_conversation(office.database, conversation["id"]).status == "waiting"
    page.reload()
    page.get_by_text("A person has been asked to join.").first.wait_for()


def test_an_ended_conversation_can_be_rated(open_page: Open, office: Office) -> None:
    page = open_page()
    ask(page, "hello")
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="End conversation").click()
    page.get_by_role("button", name="4 stars out of 5").click()
    page.get_by_text("Thank you for your rating.").wait_for()
    with office.database.read() as connection:
        conversation = (kept(page) or {})["id"]
        stars = connection.exec_driver_sql("SELECT stars FROM ratings WHERE conversation_id = ?", (conversation,))
        assert stars.scalar_one() == 4


def test_a_conversation_can_be_deleted_after_a_second_thought(open_page: Open, office: Office) -> None:
    page = open_page()
    ask(page, "my secret")
    conversation = (kept(page) or {})["id"]
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Delete this conversation").click()
    page.get_by_role("button", name="Keep").click()
    assert len(history(office.database, conversation)) == 1
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Delete this conversation").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("The conversation was deleted.").wait_for()
    assert history(office.database, conversation) == ()
    assert kept(page) is None
    assert page.locator(".said").count() == 0


def test_a_new_conversation_starts_afresh(open_page: Open) -> None:
    page = open_page()
    ask(page, "hello")
    first = kept(page)
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="New conversation").click()
    assert page.locator("#welcome").is_visible()
    ask(page, "again")
    assert kept(page) != first
    assert page.locator(".said.bot").count() == 1


def test_text_appears_as_it_is_written_and_is_spoken_once(open_page: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_office(tmp_path, slow) as office, serving(office.application) as service:
        page = open_page(url=service.url)
        page.evaluate(
            "window.spoken = []; new MutationObserver(() => spoken.push(speech.textContent))"
            ".observe(speech, {childList: true, characterData: true, subtree: true})"
        )
        page.fill("#text", "hello")
        page.press("#text", "Enter")
        page.locator(".typing").wait_for()
        assert page.get_attribute("#log", "aria-busy") == "true"
        who = as_visitor(page)
        shown = page.locator(".said.bot .text")
        for part, whole in (("Let me see. ", "Let me see. "), ("It is here.", "Let me see. It is here.")):
            slow.say(who, part)
            page.wait_for_function("whole => log.querySelector('.bot .text')?.textContent === whole", arg=whole)
        assert page.locator(".typing").count() == 0
        slow.finish(who)
        page.locator(".said.bot[data-turn]").wait_for()
        assert shown.inner_text() == "Let me see. It is here."
        assert page.get_attribute("#log", "aria-busy") == "false"
        assert page.evaluate("spoken") == ["Assistant: Let me see. It is here."]
        page.close()


def as_visitor(page: Page) -> Visitor:
    wait_until(lambda: kept(page) is not None)
    conversation = kept(page)
    assert conversation is not None
    return Visitor(None, conversation["id"], conversation["token"])  # type: ignore[arg-type]


def test_a_reload_during_an_answer_shows_it_from_its_first_word(open_page: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_office(tmp_path, slow) as office, serving(office.application) as service:
        page = open_page(url=service.url)
        page.fill("#text", "hello")
        page.press("#text", "Enter")
        who = as_visitor(page)
        slow.say(who, "early ")
        page.get_by_text("early").wait_for()
        page.reload()
        page.get_by_text("early").wait_for()
        slow.say(who, "late")
        slow.finish(who)
        page.locator(".said.bot[data-turn]").wait_for()
        assert page.locator(".said .text").all_inner_texts() == ["hello", "early late"]
        page.close()


def test_a_restart_of_the_service_in_mid_answer_loses_nothing(open_page: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_office(tmp_path, slow) as office:
        with serving(office.application, drain_seconds=0.1) as service:
            port = int(service.url.rpartition(":")[2])
            page = open_page(url=service.url, calm=False)  # a lost connection is an error on the console
            page.fill("#text", "hello")
            page.press("#text", "Enter")
            who = as_visitor(page)
            slow.say(who, "half ")
            page.get_by_text("half").wait_for()
        page.get_by_text("Connection lost. Trying again…").wait_for()
        slow.say(who, "an answer")
        slow.finish(who)
        wait_until(lambda: history(office.database, who.conversation))
        again = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY)
        with serving(again, port=port):
            page.locator(".said.bot[data-turn]").wait_for()
            assert page.locator(".said .text").all_inner_texts() == ["hello", "half an answer"]
            page.locator("#strip").wait_for(state="hidden")
            page.close()


def test_a_message_that_cannot_be_sent_says_so_and_can_be_sent_again(open_page: Open) -> None:
    page = open_page(calm=False)
    page.clock.install()
    page.route("**/messages", lambda route: route.abort())
    page.fill("#text", "hello")
    page.press("#text", "Enter")
    page.locator(".customer.unsent").wait_for()
    failed = page.get_by_text("This message could not be sent.")
    while not failed.is_visible():
        page.clock.run_for(1_000)
    page.unroute("**/messages")
    page.get_by_role("button", name="Try again").click()
    page.locator(".said.bot[data-turn]").wait_for()
    assert page.locator(".said .text").all_inner_texts() == ["hello", "hello"]
    assert page.locator(".failed").count() == 0


def test_the_answer_behind_a_message_that_could_not_be_sent_stands_under_its_own_question(open_page: Open) -> None:
    page = open_page(calm=False)
    page.clock.install()
    page.route("**/messages", lambda route: route.abort())
    page.fill("#text", "lost")
    page.press("#text", "Enter")
    failed = page.get_by_text("This message could not be sent.")
    passes(page, failed.is_visible)
    page.unroute("**/messages")
    ask(page, "refund?")
    assert page.locator(".customer:has-text('refund?') + .bot").get_attribute("data-status") == "grounded"
    assert page.locator(".typing").count() == 0
    page.get_by_role("button", name="Try again").click()
    page.locator(".customer:has-text('lost') + .bot[data-turn]", has_text="lost").wait_for()
    assert page.locator(".said.bot[data-turn]").count() == 2


def test_what_is_written_in_a_hurry_is_one_conversation_in_its_order(open_page: Open, office: Office) -> None:
    page = open_page()
    opened: list[Route] = []
    page.route("**/api/v1/conversations", lambda route: opened.append(route))
    for text in ("first", "second"):
        page.fill("#text", text)
        page.press("#text", "Enter")
    wait_until(lambda: page.locator(".customer").count() == 2 and opened)
    opened[0].continue_()
    page.locator(".said.bot[data-turn]").nth(1).wait_for()
    assert len(opened) == 1
    assert page.locator(".said .text").all_inner_texts() == ["first", "first", "second", "second"]
    turns = history(office.database, as_visitor(page).conversation)
    assert [turn.message.text for turn in turns] == ["first", "second"]


def test_a_conversation_forgotten_by_the_service_begins_anew(open_page: Open, office: Office) -> None:
    page = open_page(calm=False)  # the browser reports the 404 on the console
    ask(page, "hello")
    office.desk.forget((kept(page) or {})["id"], actor="test")
    page.fill("#text", "again")
    page.press("#text", "Enter")
    page.locator(".said.bot[data-turn]").nth(1).wait_for()
    assert page.locator(".said.bot .text").all_inner_texts() == ["hello", "again"]


FOCUSED = """
(() => {
  const at = document.activeElement;
  // the field shows its focus on the box around it; past the last element it is the browser's turn
  if (at === document.body || at.id === "text") return {};
  const style = getComputedStyle(at);
  return {[at.ariaLabel || at.innerText.trim()]: `${style.outlineStyle} ${style.outlineWidth}`};
})()
"""


def test_everything_can_be_done_from_the_keyboard(open_page: Open) -> None:
    page = open_page()
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("line one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line two")
    page.keyboard.press("Enter")
    page.locator(".said.bot[data-turn]").wait_for()
    assert page.locator(".customer .text").inner_text() == "line one\nline two"
    page.keyboard.type("refund?")
    page.keyboard.press("Enter")
    page.locator(".said.bot[data-status=grounded]").wait_for()
    reached: dict[str, str] = {}
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.update(page.evaluate(FOCUSED))
    assert {ring for ring in reached.values()} == {"solid 3px"}
    for name in ("Talk to a person", "More", "Helpful", "Not helpful", "Is a label free?"):
        assert name in reached
    page.get_by_role("button", name="More").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("button", name="New conversation").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("button", name="New conversation").is_hidden()
    assert page.evaluate("document.activeElement.id") == "menu-button"


def test_enter_that_ends_a_composition_does_not_send(open_page: Open) -> None:
    page = open_page(locale="zh-CN")
    page.fill("#text", "退款")
    page.evaluate(
        "text.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, cancelable: true}))"
    )
    assert page.locator(".said").count() == 0
    assert page.input_value("#text") == "退款"


def test_a_text_that_is_too_long_is_counted_and_not_sent(open_page: Open) -> None:
    page = open_page()
    page.fill("#text", "x" * 3_700)
    assert page.locator("#count").inner_text() == "300 characters left"
    page.fill("#text", "😀" * 4_001)
    assert page.locator("#count").inner_text() == "1 characters too many"
    assert page.locator("#send").is_disabled()
    page.press("#text", "Enter")
    assert page.locator(".said").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_sticks_out_on_a_narrow_screen(open_page: Open, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 640}, has_touch=True, is_mobile=True)
    ask(page, "refund? " + "averyveryverylongword" * 12)
    page.get_by_role("button", name="Not helpful").click()
    for element in ("html", "#scroll", ".top", "footer"):
        over = page.eval_on_selector(element, "node => node.scrollWidth - node.clientWidth")
        assert over <= 0, element
    for name in ("Talk to a person", "More", "Send"):
        box = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert min(box["width"], box["height"]) >= 24
    assert page.eval_on_selector("#text", "node => parseFloat(getComputedStyle(node).fontSize)") >= 16


CONTRAST = """
() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest(".unseen, :disabled, noscript")) continue;
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.className || node.tagName, node.textContent.slice(0, 30)]);
  }
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/articles/returns/refunds.md#p-money"])
def test_every_text_has_enough_contrast(open_page: Open, scheme: str, path: str) -> None:
    page = open_page(path, color_scheme=scheme)
    if path == "/":
        ask(page, "refund?")
        page.get_by_role("button", name="Not helpful").click()
        page.get_by_role("button", name="Talk to a person").click()
        page.get_by_text("A person has been asked to join.").first.wait_for()
    found = page.evaluate(CONTRAST)
    assert len(found) > (15 if path == "/" else 5)
    assert [each for each in found if each[0] < 4.5] == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1200)])
def test_axe_finds_nothing_in_any_state_of_the_page(open_page: Open, office: Office, scheme: str, width: int) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    assert axe(page) == [], "empty"
    ask(page, "show me a table")
    ask(page, "When does my refund arrive?")
    page.get_by_role("button", name="Not helpful").last.click()
    assert axe(page) == [], "answered"
    page.get_by_role("button", name="More").click()
    assert axe(page) == [], "menu"
    page.get_by_role("button", name="End conversation").click()
    page.locator(".rating").wait_for()
    assert axe(page) == [], "rating"
    page.click("#person")
    page.locator("body[data-status=waiting]").wait_for()
    conversation = (kept(page) or {})["id"]
    agent = Agent(f"axe-{scheme}", f"Ada {scheme}")
    hire(office.database, agent)
    office.desk.take(conversation, agent)
    office.desk.reply(conversation, agent, uuid.uuid4().hex, "Hello, this is Ada.")
    page.locator(".said.agent").wait_for()
    assert axe(page) == [], "person"


def test_the_page_speaks_to_a_screen_reader(open_page: Open) -> None:
    page = open_page()
    ask(page, "refund?")
    assert page.get_by_role("log", name="Conversation").get_attribute("aria-live") == "off"
    assert page.get_by_label("Your message").get_attribute("id") == "text"
    assert page.get_by_role("heading", level=1).inner_text() == "Larkmoor Outfitters"
    assert page.get_by_role("list", name="Sources").get_by_role("link").count() == 2
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, a')].filter((n) => !(n.ariaLabel || n.innerText.trim())).length"
    )
    assert nameless == 0
    pictures = page.evaluate("[...document.images].filter((image) => !image.hasAttribute('alt')).length")
    assert pictures == 0


def test_a_second_tab_shows_what_the_first_one_asked(open_page: Open) -> None:
    first = open_page()
    ask(first, "hello")
    second = first.context.new_page()
    second.goto(first.url)
    second.locator(".said.bot[data-turn]").wait_for()
    ask(first, "refund?")
    second.locator(".said.bot[data-status=grounded]").wait_for()
    assert second.locator(".customer .text").all_inner_texts() == ["hello", "refund?"]


def test_a_tab_that_hears_of_two_answers_at_once_says_each_word_once(open_page: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_office(tmp_path, slow) as office, serving(office.application) as service:
        first = open_page(url=service.url, calm=False)
        first.fill("#text", "hello")
        first.press("#text", "Enter")
        who = as_visitor(first)
        slow.finish(who)
        first.locator(".said.bot[data-turn]").wait_for()
        second = first.context.new_page()
        second.route("**/events", lambda route: route.abort())
        second.goto(first.url)
        second.locator(".said.bot[data-turn]").wait_for()
        for count in (1, 2):
            slow.say(who, "an answer")
            slow.finish(who)
            first.fill("#text", f"question {count}")
            first.press("#text", "Enter")
            first.locator(".said.bot[data-turn]").nth(count).wait_for()
        record = httpx.get(service.url + who.at(), headers=who.headers, timeout=PATIENCE).json()["messages"]
        turns = [f"event: turn\ndata: {json.dumps(line['turn'])}\n\n" for line in record if line["from"] == "bot"]
        second.unroute("**/events")
        second.route("**/events", lambda route: route.fulfill(body="".join(turns[1:])), times=1)
        second.locator(".said.bot[data-turn]").nth(2).wait_for()
        streams = office.application.state.door.streams
        while streams.followers != 2:
            second.evaluate("0")  # meanwhile Playwright lets go on what it had intercepted
        second.fill("#text", "the last")
        second.press("#text", "Enter")
        slow.say(who, "one ", "word")
        said = second.locator(".bot .text").last
        said.filter(has_text="word").wait_for()
        assert said.inner_text() == "one word"
        slow.finish(who)
        second.locator(".said.bot[data-turn]").nth(3).wait_for()
        first.close()
        second.close()


def test_a_stream_that_went_dead_unnoticed_is_opened_anew(open_page: Open, tmp_path: Path) -> None:
    with open_office(tmp_path, Scripted()) as office:
        site = Site(office, "", held_back="later")
        office.application.add_middleware(Between, site=site)
        with serving(office.application) as service:
            page = open_page(url=service.url, calm=False)
            page.clock.install()
            page.fill("#text", "hello")
            page.press("#text", "Enter")
            wait_until(
                lambda: page.evaluate("1") and kept(page) and history(office.database, as_visitor(page).conversation)
            )
            site.held_back = ""
            page.clock.run_for(40_000)
            passes(page, lambda: page.locator(".said.bot[data-turn]").count() == 1)
            assert page.locator(".said .text").all_inner_texts() == ["hello", "hello"]
            page.close()


def test_a_line_that_swallows_a_message_does_not_hold_it_for_minutes(open_page: Open) -> None:
    page = open_page(calm=False)
    ask(page, "hello")
    page.clock.install()
    swallowed: list[Route] = []
    page.route("**/messages", lambda route: swallowed.append(route), times=1)
    page.fill("#text", "once")
    page.press("#text", "Enter")
    wait_until(lambda: page.evaluate("1") and swallowed)
    page.clock.run_for(30_000)
    passes(page, lambda: page.locator(".said.bot[data-turn]").count() == 2)
    assert page.locator(".said .text").all_inner_texts() == ["hello", "hello", "once", "once"]


def test_where_there_is_no_place_for_a_stream_the_answer_comes_all_the_same(open_page: Open) -> None:
    page = open_page(calm=False)
    page.route("**/events", lambda route: route.fulfill(status=429, headers={"Retry-After": "60"}, json={}))
    ask(page, "hello")
    page.fill("#text", "and more")
    page.press("#text", "Enter")
    page.locator(".said.bot[data-turn]").nth(1).wait_for()
    assert page.locator(".said .text").all_inner_texts() == ["hello", "hello", "and more", "and more"]
    assert not page.get_by_text("Connection lost. Trying again…").is_visible()
    page.unroute("**/events")
    with page.expect_response(lambda response: response.url.endswith("/events") and response.ok):
        ask(page, "once more")


def test_what_is_read_of_a_conversation_that_was_left_meanwhile_is_not_shown(open_page: Open) -> None:
    page = open_page(calm=False)
    page.route("**/events", lambda route: route.fulfill(status=429, json={}))
    asked: list[Route] = []
    page.route(re.compile(r"/api/v1/conversations/[^/]+$"), lambda route: asked.append(route))
    page.fill("#text", "hello")
    page.press("#text", "Enter")
    wait_until(lambda: page.evaluate("1") and asked)
    page.click("#menu-button")
    page.click("#fresh")
    with page.expect_response(re.compile(r"/api/v1/conversations/[^/]+$")) as answer:
        asked[0].continue_()
    assert len(answer.value.json()["messages"]) > 0
    assert (
        page.evaluate("new Promise((done) => setTimeout(() => done(document.querySelectorAll('.said').length)))") == 0
    )


def test_what_could_not_be_read_when_the_page_came_is_read_when_the_line_is_back(open_page: Open) -> None:
    page = open_page(calm=False)
    ask(page, "hello")
    page.clock.install()
    page.route("**/api/v1/**", lambda route: route.abort())
    page.reload()
    lost = page.get_by_text("Connection lost. Trying again…")
    passes(page, lambda: lost.is_visible() and page.get_attribute("body", "data-ready"))
    page.unroute("**/api/v1/**")
    passes(page, lambda: page.locator(".said.bot[data-turn]").count() == 1)
    assert page.locator(".said .text").all_inner_texts() == ["hello", "hello"]


def test_without_javascript_the_page_says_what_it_needs(open_page: Open, service: Service) -> None:
    page = open_page("/?plain", java_script_enabled=False)
    assert "This page needs JavaScript." in page.content()
