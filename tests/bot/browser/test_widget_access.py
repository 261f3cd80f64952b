"""The widget for everybody: keyboard, screen reader, zoom, small screens, any brand colour; and pictures for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.bot.browser.conftest import Open
from tests.bot.browser.stands import Stand, ask, more, open_panel
from tests.bot.channels.office import wait_until
from tests.conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = ROOT / "bot/channels/web/widget/node_modules/axe-core/axe.min.js"
PICTURES = ROOT / ".artifacts" / "widget"
PHONE = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
DESK = {"viewport": {"width": 1200, "height": 800}}
ROOTED = "document.querySelector('frontdesk-chat').shadowRoot"


def axe(page: Page) -> list[str]:
    """What axe-core finds on the whole page, the widget's shadow included."""
    if not AXE.exists():
        pytest.fail("axe-core is missing; fetch it: make widget-parts")
    if not page.evaluate("typeof window.axe !== 'undefined'"):
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 10, "axe must have looked"
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["phone", "desk"])
def test_axe_finds_nothing_in_any_state(open_widget: Open, stand: Stand, scheme: str, screen: str) -> None:
    page = open_widget(closed=True, color_scheme=scheme, **(PHONE if screen == "phone" else DESK))
    name = f"{screen}-{scheme}"

    def clean(state: str) -> None:
        picture(page, f"{name}-{state}")
        assert axe(page) == [], state

    clean("1-closed")
    stand.site.close()
    stand.site.change(pre_chat=("name", "email"))
    try:
        page.reload()
        open_panel(page)
        page.get_by_role("button", name="Start chat").click()
        page.get_by_text("Please enter your name.").wait_for()
        clean("2-form")
    finally:
        stand.site.change(pre_chat=(), hours=())
    page.reload()
    page.locator(".launcher").wait_for()
    if page.locator(".panel").count() == 0:
        open_panel(page)
    page.locator(".card").first.wait_for()
    clean("3-open")
    ask(page, "show me a table")
    ask(page, "When does my refund arrive?")
    clean("4-conversation")
    page.get_by_role("button", name="Not helpful").last.click()
    page.get_by_role("button", name="Talk to a person").click()
    page.locator(".standing", has_text="Waiting for a person").wait_for()
    stand.site.takes(stand.conversation)
    stand.site.agent_says(stand.conversation, "Hello, this is Ada.")
    page.locator(".agent", has_text="Hello, this is Ada.").wait_for()
    clean("5-person")
    page.get_by_role("button", name="More").click()
    clean("6-menu")
    page.keyboard.press("Escape")
    more(page, "End conversation")
    page.get_by_role("radio", name="4 of 5 stars").check()
    clean("7-rating")
    more(page, "Earlier conversations")
    page.locator(".earlier").wait_for()
    clean("8-earlier")


def test_axe_does_see_into_the_widget(open_widget: Open) -> None:
    """The control: a fault planted in the shadow is found."""
    page = open_widget()
    page.evaluate(f"{ROOTED}.querySelector('.field').removeAttribute('aria-label')")
    page.evaluate(f"{ROOTED}.querySelector('.field').removeAttribute('placeholder')")
    assert any(each.startswith("label") for each in axe(page))


def focused(page: Page) -> str:
    script = (
        f"(() => {{ const node = {ROOTED}.activeElement; return node ? node.ariaLabel || node.textContent : ''; }})()"
    )
    return str(page.evaluate(script))


def test_everything_can_be_done_without_a_mouse(open_widget: Open, stand: Stand) -> None:
    page = open_widget(closed=True)
    page.locator("#mine").focus()
    page.keyboard.press("Tab")
    assert focused(page) == "Open chat"
    page.keyboard.press("Enter")
    page.locator(".panel").wait_for()
    assert focused(page) == "Your message", "the field is ready to be written in"
    page.keyboard.type("refund?")
    page.keyboard.press("Enter")
    page.locator(".bot[data-turn]").wait_for()
    assert focused(page) == "Your message"
    seen = set()
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        seen.add(focused(page))
    assert {"Helpful", "Not helpful", "Talk to a person", "More", "Close chat", "Is a label free?"} <= seen
    page.get_by_role("button", name="More").focus()
    page.keyboard.press("Enter")
    wait_until(lambda: focused(page) == "New conversation")
    page.keyboard.press("ArrowUp")
    assert focused(page) == "Delete this conversation"
    page.keyboard.press("Escape")
    assert focused(page) == "More", "Escape closes the menu and nothing else"
    page.keyboard.press("Escape")
    page.locator(".panel").wait_for(state="detached")
    assert focused(page) == "Open chat", "the focus is back where it came from"


def test_a_full_screen_panel_is_modal_and_the_back_button_closes_it(open_widget: Open, stand: Stand) -> None:
    page = open_widget(closed=True, **PHONE)
    before = page.evaluate("history.length")
    open_panel(page)
    box = page.locator(".panel").bounding_box()
    assert box == {"x": 0, "y": 0, "width": 390, "height": 760}
    assert page.locator(".panel").get_attribute("aria-modal") == "true"
    assert page.evaluate("document.body.inert") is True
    assert page.evaluate("getComputedStyle(document.documentElement).overflow") == "hidden"
    assert page.locator(".launcher").is_hidden()
    for _ in range(25):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") in ("FRONTDESK-CHAT", "BODY"), (
            "nothing behind gets the focus"
        )
    page.go_back()
    page.locator(".panel").wait_for(state="detached")
    assert page.url.rstrip("/") == stand.shop.url
    assert page.evaluate("document.body.inert") is False
    assert page.evaluate("document.documentElement.style.overflow") == ""
    open_panel(page)
    page.get_by_role("button", name="Close chat").click()
    page.locator(".panel").wait_for(state="detached")
    page.wait_for_function("() => !history.state?.frontdesk")
    assert page.evaluate("history.length") <= before + 1, "no entries pile up behind the back button"


@pytest.mark.parametrize("width", [320, 640, 1200])
def test_every_target_can_be_hit_and_nothing_sticks_out(open_widget: Open, width: int) -> None:
    """320 px is a desk at 400 %, 640 px one at 200 %."""
    page = open_widget(viewport={"width": width, "height": 560})
    ask(page, "refund? " + "averyveryverylongword" * 12)
    page.get_by_role("button", name="Not helpful").last.click()
    small = page.evaluate(
        f"[...{ROOTED}.querySelectorAll('button, input, textarea, .sources a')].filter((node) => {{"
        "const box = node.getBoundingClientRect();"
        "return box.width && Math.min(box.width, box.height) < 24; }).map((node) => node.outerHTML.slice(0, 90))"
    )
    assert small == []
    out = page.evaluate(
        f"[...{ROOTED}.querySelectorAll('.panel, .top, .scroll, footer, .body, .customer')].filter((node) => {{"
        "const box = node.getBoundingClientRect();"
        "return node.scrollWidth > node.clientWidth + 1 || box.left < 0 || box.right > innerWidth + 0.5; })"
        ".map((node) => node.className)"
    )
    assert out == []
    assert page.locator(".field").evaluate("node => parseFloat(getComputedStyle(node).fontSize)") >= 16
    assert page.get_by_role("button", name="Talk to a person").is_visible()


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
  const root = document.querySelector("frontdesk-chat").shadowRoot;
  for (const node of root.querySelectorAll("*")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest(".unseen, :disabled")) continue;
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.className || node.tagName, node.textContent.slice(0, 30)]);
  }
  return found;
}
"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_text_has_enough_contrast_in_any_brand_colour(open_widget: Open, mode: str) -> None:
    page = open_widget()
    ask(page, "refund?")
    page.get_by_role("button", name="Not helpful").last.click()
    page.get_by_role("button", name="Out of date").click()
    for colour in ("#1f5fbf", "#ffd400", "#ff5a5f", "#000000", "#ffffff", "#00c2a8", "#808080", "#7a1fa2"):
        page.evaluate("theme => Frontdesk('theme', theme)", {"colour": colour, "mode": mode})
        page.wait_for_function(f"mode => {ROOTED}.querySelector('.root').dataset.scheme === mode", arg=mode)
        found = page.evaluate(CONTRAST)
        assert len(found) > 15
        assert [(colour, *each) for each in found if each[0] < 4.5] == []


def test_less_motion_and_forced_colours_are_heeded(open_widget: Open) -> None:
    page = open_widget()  # the profile asks for less motion
    moving = f"{ROOTED}.getAnimations().length"
    assert page.evaluate(moving) == 0
    page.emulate_media(forced_colors="active")
    ask(page, "refund?")
    border = page.locator(".customer .text").evaluate("node => getComputedStyle(node).borderTopStyle")
    assert border == "solid", "where colours are the reader's own, bubbles have an edge"


def test_pictures_of_other_languages_and_places(open_widget: Open, stand: Stand) -> None:
    for locale in ("ar-EG", "zh-CN", "de-DE"):
        page = open_widget(locale=locale, **PHONE)
        ask(page, "退款" if locale == "zh-CN" else "refund?")
        picture(page, f"phone-{locale}")
    assert len(list(Path(PICTURES).glob("*.png"))) >= 3
    assert re.search(r"phone-ar", str(sorted(PICTURES.iterdir())))


def test_a_form_that_opens_stays_clear_of_the_button_for_new_messages(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    for text in ("refund?", "returns?", "warranty?", "delivery?"):
        ask(page, text)
    log, second = page.locator(".scroll"), page.locator(".said.bot").nth(1)
    second.get_by_role("button", name="Not helpful").evaluate(
        "(thumb) => { const log = thumb.closest('.scroll');"
        " log.scrollTop += thumb.getBoundingClientRect().bottom - log.getBoundingClientRect().bottom;"
        # A browser tells of scrolling with the next picture; on a busy machine the agent's message comes before it.
        " log.dispatchEvent(new Event('scroll')) }"
    )
    stand.site.agent_says(stand.conversation, "I had a look.")
    page.get_by_role("button", name="New messages").wait_for()
    second.get_by_role("button", name="Not helpful").evaluate("thumb => thumb.click()")
    send = page.get_by_role("button", name="Send feedback")
    send.wait_for()
    assert log.get_by_text("I had a look.").count() == 1
    page.get_by_role("button", name="New messages").wait_for()
    on_top = (
        "button => { const {x, y, width, height} = button.getBoundingClientRect();"
        " return button.contains(button.getRootNode().elementFromPoint(x + width / 2, y + height / 2)) }"
    )
    assert send.evaluate(on_top), "it can be pressed where it is seen"


def test_what_a_customer_does_is_seen_done_wherever_they_were_reading(open_widget: Open) -> None:
    page = open_widget(permissions=["clipboard-read", "clipboard-write"])
    for text in ("refund?", "returns?", "warranty?", "delivery?"):
        ask(page, text)
    deeds = {
        "Copy transcript": "Transcript copied.",
        "End conversation": "How did we do?",
        "Delete this conversation": "Keep",
    }
    for deed, told in deeds.items():
        page.locator(".scroll").evaluate("log => { log.scrollTop = 0; log.dispatchEvent(new Event('scroll')) }")
        more(page, deed)
        expect(page.locator(".scroll").get_by_text(told).first).to_be_in_viewport()
        assert page.get_by_role("button", name="New messages").count() == 0, "nobody wrote anything"
        if deed == "End conversation":
            page.get_by_role("radio", name="4 of 5 stars").check()
            expect(page.get_by_role("button", name="Send rating")).to_be_in_viewport(ratio=1)
