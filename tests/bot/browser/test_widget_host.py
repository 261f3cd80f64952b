"""The widget on pages that are strict, hostile or strange: it works on them and leaves nothing behind on them."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.bot.browser.between import SHOP
from tests.bot.browser.conftest import Open
from tests.bot.browser.shops import PLAIN, tag
from tests.bot.browser.stands import Stand, ask, kept, open_panel, open_stand, passes, said, write
from tests.bot.channels.office import SlowSource, wait_until

VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  violations.push(event.violatedDirective + " " + event.blockedURI));
"""


def test_a_page_that_allows_only_our_origin_gets_the_whole_widget(open_widget: Open, stand: Stand) -> None:
    service = stand.service.url
    policy = (
        f"default-src 'none'; script-src {service}; connect-src {service}; style-src 'none'; img-src 'none'; "
        "font-src 'none'; frame-src 'none'; object-src 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    stand.shop.put("/strict", PLAIN.replace("TAG", tag(service)), {"Content-Security-Policy": policy})
    page = open_widget("/strict", closed=True)  # whatever the policy refuses is an error on the console: see Watch
    page.evaluate(VIOLATIONS)
    open_panel(page)
    ask(page, "When does my refund arrive?")
    ask(page, "show me a table")
    page.get_by_role("button", name="Not helpful").last.click()
    page.get_by_role("button", name="Send feedback").click()
    page.get_by_role("button", name="Talk to a person").click()
    page.get_by_role("button", name="Attach a file").wait_for()
    page.get_by_role("button", name="More").click()
    with page.expect_download():
        page.get_by_role("menuitem", name="Download transcript").click()
    # the styles are in force, not only not refused
    assert page.locator(".panel").evaluate("node => getComputedStyle(node).position") == "fixed"
    assert (
        page.locator(".customer .text").first.evaluate("node => getComputedStyle(node).backgroundColor")
        == "rgb(20, 88, 76)"
    )
    assert page.evaluate("violations") == []


def test_the_policy_of_that_page_does_refuse_what_it_should(open_page: Open, stand: Stand) -> None:
    """The control: a page of the same policy on which something inline stands is seen to be refused."""
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'none'"}
    stand.shop.put("/refusing", "<!doctype html><title>x</title><style>p{color:red}</style><p>text", policy)
    page = open_page("/refusing", url=stand.shop.url, calm=False)
    assert page.locator("p").evaluate("node => getComputedStyle(node).color") == "rgb(0, 0, 0)"


HOSTILE = """
* { all: unset !important; }
div, section, button, form, textarea, p, span { display: none !important; color: red !important;
  font-size: 60px !important; position: static !important; opacity: 0.1 !important; }
frontdesk-chat { display: none !important; visibility: hidden !important; transform: rotate(40deg) !important;
  width: 1px !important; z-index: -1 !important; opacity: 0 !important; pointer-events: none !important;
  direction: rtl !important; clip-path: inset(50%) !important; }
html { font-size: 3px !important; }
body { transform: scale(0.5) !important; filter: blur(3px) !important; overflow: hidden !important; }
.over { position: fixed !important; inset: 0 !important; z-index: 2147483647 !important; display: block !important;
  background: #fff !important; }
"""
POLLUTION = """
for (const name of ["dangerouslySetInnerHTML", "innerHTML", "outerHTML", "href", "src", "srcdoc", "onclick", "onerror",
  "style", "class", "children", "key", "ref", "is", "body", "method", "headers", "signal", "mode", "credentials",
  "passive", "capture", "turn", "file", "name", "text", "status", "sending", "site", "locale", "origin", "colour",
  "citations", "nonce", "slotAssignment", "delegatesFocus", "preventScroll", "steal", "ifAvailable",
  "integrity", "referrer", "window", "unsent", "once"]) {
  Object.prototype[name] =
    name === "dangerouslySetInnerHTML" ? {__html: "<img src=x onerror='window.ran = 1'>"} : "window.ran=1";
}
Array.prototype.last = function () { return this[this.length - 1]; };
String.prototype.extra = 1;
window.ran = 0;
"""


def test_a_page_of_hostile_styles_and_polluted_prototypes_is_no_obstacle(open_widget: Open, stand: Stand) -> None:
    html = PLAIN.replace("</head>", f"<style>{HOSTILE}</style></head>").replace(
        '<html lang="en">', '<html lang="en" dir="rtl">'
    )
    stand.shop.put("/pollution.js", POLLUTION, {"Content-Type": "text/javascript"})
    html = html.replace("TAG", f'<script src="/pollution.js"></script><div class="over"></div>{tag(stand.service.url)}')
    stand.shop.put("/hostile", html)
    page = open_widget("/hostile")
    ask(page, "When does my refund arrive?")
    box = page.locator(".panel").bounding_box()
    view = page.viewport_size
    assert box is not None
    assert view is not None
    assert box["width"] == 400
    assert box["x"] + box["width"] <= view["width"]
    assert box["y"] >= 0
    # asked without arguments: on such a page not even the test's own are safe
    style = "getComputedStyle(document.querySelector('frontdesk-chat').shadowRoot.querySelector('.bot .text p'))"
    assert page.evaluate(f"{style}.fontSize") == "15px"
    assert page.evaluate(f"{style}.direction") == "ltr"
    page.get_by_role("button", name="Talk to a person").click()
    stand.site.agent_says(stand.conversation, "Here I am.")
    page.locator(".agent", has_text="Here I am.").wait_for()
    page.get_by_role("button", name="Close chat").first.click()
    page.locator(".panel").wait_for(state="detached")
    assert page.evaluate("window.ran") == 0
    strange = "img, script, iframe, object, style, link"
    inside = f"document.querySelector('frontdesk-chat').shadowRoot.querySelectorAll('{strange}').length"
    assert page.evaluate(inside) == 0


STYLES = """
() => [...document.querySelectorAll("html, head, body, body *")].map((node) => {
  const style = getComputedStyle(node);
  return [node.tagName, ...[...style].map((name) => `${name}: ${style.getPropertyValue(name)}`)].join("; ");
})
"""
GLOBALS = "Object.getOwnPropertyNames(window).filter((name) => !/^\\d+$/.test(name)).sort()"


def test_the_widget_changes_nothing_on_the_page_and_takes_itself_back(
    open_widget: Open, open_page: Open, stand: Stand
) -> None:
    stand.shop.put("/without", PLAIN.replace("TAG", ""))
    without = open_page("/without", url=stand.shop.url)
    expected, names = without.evaluate(STYLES), without.evaluate(GLOBALS)
    page = open_widget()
    ask(page, "refund?")
    assert [style for style in page.evaluate(STYLES) if not style.startswith("SCRIPT")] == expected
    assert set(page.evaluate(GLOBALS)) - set(names) == {"Frontdesk"}
    assert (
        page.evaluate("document.body.children.length + document.head.children.length")
        == without.evaluate("document.body.children.length + document.head.children.length") + 1
    ), "the tag itself, and nothing beside it"
    page.evaluate("Frontdesk('destroy')")
    assert page.evaluate("document.documentElement.children.length") == 2
    assert page.evaluate("typeof Frontdesk") == "undefined"
    assert page.evaluate("document.body.inert") is False


def test_calls_made_before_it_is_there_are_kept_in_order_and_a_second_tag_is_harmless(
    open_page: Open, stand: Stand
) -> None:
    script = """
    window.heard = [];
    window.Frontdesk = window.Frontdesk || function () { (Frontdesk.q = Frontdesk.q || []).push(arguments); };
    for (const name of ["ready", "open", "close", "message", "unread", "status", "error"])
      Frontdesk("on", name, (detail) => heard.push([name, detail]));
    Frontdesk("on", "open", () => { throw new Error("the page's own fault"); });
    Frontdesk("theme", {colour: "#b5533c", title: "Camp desk", position: "left"});
    Frontdesk("locale", "de");
    Frontdesk("send", "When does my refund arrive?");
    """
    stand.shop.put("/early.js", script, {"Content-Type": "text/javascript"})
    twice = f'<script src="/early.js"></script>{tag(stand.service.url)}{tag(stand.service.url)}'
    stand.shop.put("/early", PLAIN.replace("TAG", twice))
    page = open_page("/early", url=stand.shop.url, calm=False)  # the page's own fault is reported as one
    page.locator(".bot[data-turn]").wait_for()
    assert page.locator("frontdesk-chat").count() == 1
    assert page.get_by_role("heading", name="Camp desk").is_visible()
    assert page.get_by_role("button", name="Mit einem Menschen sprechen").is_visible()
    box = page.locator(".launcher").bounding_box()
    assert box is not None
    assert box["x"] < 100
    assert page.locator(".launcher").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(181, 83, 60)"
    heard = page.evaluate("heard.filter(([name]) => name !== 'ready').map(([name, detail]) => [name, detail?.from])")
    assert heard == [["open", None], ["message", "customer"], ["message", "bot"]]
    page.evaluate("Frontdesk('off', 'close'); Frontdesk('toggle'); Frontdesk('nonsense'); Frontdesk('identify', 3)")
    page.locator(".panel").wait_for(state="detached")
    assert page.evaluate("heard.filter(([name]) => name === 'error').length") == 2
    assert page.evaluate("heard.filter(([name]) => name === 'ready').length") == 1


def test_the_app_is_fetched_only_when_somebody_comes_near(open_widget: Open, stand: Stand) -> None:
    fetched: list[str] = []
    page = open_widget(closed=True)
    page.on("request", lambda request: fetched.append(request.url))
    names = "performance.getEntriesByType('resource').map((each) => each.name.split('/').pop().split('?')[0])"
    assert sorted(set(page.evaluate(names)) - {"favicon.ico"}) == ["shop", "widget.js"]
    shift = (
        "new Promise((done) => { new PerformanceObserver((list) => done(list.getEntries().length))"
        ".observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(0), 300); })"
    )
    assert page.evaluate(shift) == 0
    page.locator(".launcher").hover()
    wait_until(
        lambda: page.evaluate("document.querySelector('frontdesk-chat').shadowRoot.querySelector('.root') !== null")
    )
    assert page.locator(".panel").count() == 0
    assert [url for url in fetched if "/conversations" in url] == [], "nothing is opened before something is said"
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length") == 0


def test_it_works_where_storage_is_forbidden(open_widget: Open, stand: Stand) -> None:
    page = open_widget(closed=True)
    page.context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        "  Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError'); }});"
    )
    page.reload()
    open_panel(page)
    ask(page, "first")
    ask(page, "second")
    assert page.locator(".bot .text").all_inner_texts() == ["first", "second"]
    assert stand.asked() == ["first", "second"], "one conversation, as long as the page lasts"


def token_of(stand: Stand, subject: str) -> str:
    """As the shop's own service signs it."""
    import jwt

    ends = datetime.now(UTC) + timedelta(hours=1)
    return jwt.encode({"sub": subject, "aud": SHOP, "exp": ends}, stand.site.secret, algorithm="HS256")


def test_what_is_said_while_the_record_is_read_does_not_vanish(open_widget: Open, stand: Stand) -> None:
    page = open_widget(closed=True)
    stand.site.late = True
    try:
        page.evaluate("token => Frontdesk('identify', token)", token_of(stand, "cleo"))
        open_panel(page)
        wait_until(lambda: stand.site.on_its_way == 1)
        ask(page, "quick")
    finally:
        stand.site.late = False
    wait_until(lambda: stand.site.on_its_way == 0)
    ask(page, "and again")
    assert said(page) == ["quick", "quick", "and again", "and again"]


def test_a_customer_is_not_shown_what_another_one_said(open_widget: Open, stand: Stand) -> None:
    page = open_widget(closed=True)
    ada, bob = token_of(stand, "ada"), token_of(stand, "bob")
    page.evaluate("token => Frontdesk('identify', token)", ada)
    open_panel(page)
    ask(page, "the matter of Ada")
    assert {key: stand.site.opened[-1][key] for key in ("identity", "resume")} == {"identity": ada, "resume": True}
    page.evaluate("token => Frontdesk('identify', token)", ada)
    assert said(page) == ["the matter of Ada", "the matter of Ada"], "the same customer again"
    page.evaluate("token => Frontdesk('identify', token)", bob)
    wait_until(lambda: said(page) == [])
    ask(page, "the matter of Bob")
    assert stand.site.opened[-1]["identity"] == bob
    assert said(page) == ["the matter of Bob", "the matter of Bob"]
    assert kept(page)["who"] == "bob"
    page.evaluate("Frontdesk('logout')")
    page.locator(".panel").wait_for(state="detached")
    assert "token" not in kept(page)
    open_panel(page)
    page.get_by_text("Hello! How can we help?").wait_for()
    proof = hmac.new(stand.site.secret.encode(), b"7", "sha256").hexdigest()
    page.evaluate("proof => Frontdesk('identify', {user_id: 7, identity_hash: proof})", proof)
    ask(page, "the older form")
    assert (stand.site.opened[-1]["user_id"], stand.site.opened[-1]["identity_hash"]) == ("7", proof)


def listening(stand: Stand) -> int:
    return stand.office.application.state.door.streams.followers  # type: ignore[no-any-return]


def test_two_tabs_stay_in_step_over_one_connection(open_widget: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_stand(tmp_path, slow) as stand:
        first = open_widget(url=stand.shop.url)
        write(first, "hello")
        who = stand.visitor
        slow.say(who, "It is ")
        first.locator(".writing", has_text="It is").wait_for()
        second = first.context.new_page()
        second.goto(f"{stand.shop.url}/other")
        open_panel(second)
        second.locator(".writing", has_text="It is").wait_for()
        slow.say(who, "on its way.")
        for page in (first, second):
            page.locator(".writing", has_text="It is on its way.").wait_for()
        assert listening(stand) == 1
        slow.finish(who)
        for page in (first, second):
            page.locator(".bot[data-turn]").wait_for()
        write(second, "thanks")
        first.locator(".customer", has_text="thanks").wait_for()
        slow.say(who, "You are welcome.")
        slow.finish(who)
        for page in (first, second):
            page.locator(".bot[data-turn]").nth(1).wait_for()
            assert said(page) == ["hello", "It is on its way.", "thanks", "You are welcome."]
        first.close()  # the other one takes the connection over
        write(second, "and now?")
        slow.say(who, "Still here.")
        slow.finish(who)
        second.locator(".bot[data-turn]").nth(2).wait_for()
        assert listening(stand) == 1
        second.close()


def test_a_tab_that_is_hidden_for_long_listens_only_for_a_person(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    page.clock.install()
    ask(page, "hello")

    def becomes(visibility: str) -> None:
        page.evaluate(
            "value => { Object.defineProperty(document, 'visibilityState', {value, configurable: true});"
            " document.dispatchEvent(new Event('visibilitychange')) }",
            visibility,
        )

    wait_until(lambda: page.evaluate("1") and stand.listeners == 1)
    becomes("hidden")
    page.clock.run_for(61_000)
    wait_until(lambda: page.evaluate("1") and stand.listeners == 0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(61_000)
    assert asked == [], "it does not ask again either"
    becomes("visible")
    wait_until(lambda: page.evaluate("1") and stand.listeners == 1)
    # the stream may tell it before the request is answered, which a minute on the page's clock would then give up
    with page.expect_response("**/handover") as answer:
        page.get_by_role("button", name="Talk to a person").click()
    assert answer.value.finished() is None
    page.locator(".standing", has_text="Waiting for a person").wait_for()
    becomes("hidden")
    page.clock.run_for(61_000)
    stand.site.agent_says(stand.conversation, "Are you there?")
    passes(page, lambda: page.locator(".agent", has_text="Are you there?").count() == 1)


def test_many_tabs_leave_the_browser_its_connections(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "hello")
    tabs = [page]
    for _ in range(7):
        tab = page.context.new_page()
        tab.goto(f"{stand.shop.url}/other")
        tabs.append(tab)
        open_panel(tab)
        tab.locator(".bot[data-turn]").first.wait_for()
    ask(tabs[-1], "still quick")
    tabs[0].locator(".bot[data-turn]").nth(1).wait_for()


@pytest.mark.parametrize(
    "swap", ["document.body.replaceWith(document.body.cloneNode(true))", "history.pushState({}, '', '/other')"]
)
def test_a_page_that_swaps_its_body_or_its_address_keeps_the_widget(open_widget: Open, swap: str) -> None:
    page = open_widget()
    ask(page, "hello")
    page.evaluate(swap)
    ask(page, "still there")
    page.get_by_role("button", name="Close chat").first.click()
    open_panel(page)
    assert page.locator(".bot[data-turn]").count() == 2


def test_the_demo_shop_has_the_widget_and_asks_nothing_of_anybody_else(open_page: Open, stand: Stand) -> None:
    folder = Path(__file__).parents[3] / "data" / "shop"
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        if path.suffix == ".html":
            assert text.count("http://127.0.0.1:8080/widget.js") == 1
            text = text.replace("http://127.0.0.1:8080", stand.service.url)
        stand.shop.put(f"/shop/{path.name}", text, {"Content-Type": kinds[path.suffix]})
    page = open_page("/shop/index.html", url=stand.shop.url)
    page.get_by_role("button", name="Ask us anything").click()
    page.locator(".panel").wait_for()
    ask(page, "When does my refund arrive?")
