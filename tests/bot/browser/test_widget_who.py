"""Customers who share a browser: what one of them said is never the next one's, whoever is named when."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import jwt
import pytest

from bot.storage.conversations import find_conversation
from bot.storage.visitors import conversations_of, find_visitor
from tests.bot.browser.between import SHOP
from tests.bot.browser.conftest import Open
from tests.bot.browser.stands import Stand, ask, kept, more, open_panel, said, write
from tests.bot.channels.office import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def token(stand: Stand, subject: str) -> str:
    ends = datetime.now(UTC) + timedelta(hours=1)
    return jwt.encode({"sub": subject, "aud": SHOP, "exp": ends}, stand.site.secret, algorithm="HS256")


def identify(page: Page, stand: Stand, subject: str) -> None:
    page.evaluate("token => Frontdesk('identify', token)", token(stand, subject))


def whose(stand: Stand, conversation: str) -> str | None:
    visitor = find_visitor(stand.office.database, find_conversation(stand.office.database, conversation).visitor)
    # Between the two looks the conversation may have become another visitor's, and this one nobody's.
    return None if visitor is None else visitor.user_id


def reopened(page: Page) -> None:
    page.reload()
    page.locator(".launcher").wait_for()
    if page.evaluate("sessionStorage.getItem('frontdesk.shop')"):
        page.locator(".panel").wait_for()  # what was open opens by itself
    else:
        open_panel(page)


def nothing_of_ada(page: Page) -> None:
    """Neither on the screen nor among the earlier conversations, now or after a reload."""
    for again in (False, True):
        if again:
            reopened(page)
        page.get_by_text("Hello! How can we help?").wait_for()
        assert said(page) == []
        more(page, "Earlier conversations")
        page.get_by_text("There are no earlier conversations.").wait_for()
        page.get_by_role("button", name="Back", exact=True).click()


Next = Callable[["Page", Stand], None]


def bob(page: Page, stand: Stand) -> None:
    identify(page, stand, f"bob {uuid.uuid4()}")


def nobody(page: Page, stand: Stand) -> None:
    page.evaluate("Frontdesk('logout')")
    page.locator(".panel").wait_for(state="detached")
    open_panel(page)


@pytest.mark.parametrize("comes", [bob, nobody])
@pytest.mark.parametrize("reload", [False, True])
def test_what_was_said_before_ada_was_named_is_hers_and_nobody_elses(
    open_widget: Open, stand: Stand, comes: Next, reload: bool
) -> None:
    page = open_widget()
    ask(page, "the matter of Ada")
    conversation = stand.conversation
    assert whose(stand, conversation) is None
    ada = f"ada {uuid.uuid4()}"
    identify(page, stand, ada)
    wait_until(lambda: whose(stand, conversation) == ada)
    wait_until(lambda: said(page) == ["the matter of Ada", "the matter of Ada"])
    assert (kept(page)["id"], kept(page)["who"]) == (conversation, ada)
    ask(page, "still the matter of Ada")
    assert stand.asked() == ["the matter of Ada", "still the matter of Ada"]
    if reload:
        reopened(page)
        page.locator(".bot[data-turn]").nth(1).wait_for()
    comes(page, stand)
    wait_until(lambda: said(page) == [])
    nothing_of_ada(page)
    ask(page, "another matter")
    assert stand.conversation != conversation
    assert [turn.message.text for turn in stand.turns(conversation)] == [
        "the matter of Ada",
        "still the matter of Ada",
    ]


def test_a_customer_who_is_named_again_on_every_page_is_told_of_once(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "hello")
    identify(page, stand, "carl")
    wait_until(lambda: kept(page).get("vouched"))
    before = len(stand.site.opened)
    identify(page, stand, "carl")
    reopened(page)
    identify(page, stand, "carl")
    page.locator(".bot[data-turn]").wait_for()
    ask(page, "and again")
    assert len(stand.site.opened) == before


def test_ada_is_told_of_also_while_the_panel_is_closed_and_the_app_is_not_loaded(
    open_widget: Open, stand: Stand
) -> None:
    page = open_widget()
    ask(page, "from before")
    conversation = stand.conversation
    page.get_by_role("button", name="Close chat").first.click()
    page.mouse.move(5, 5)  # near the button the app would be fetched anyway
    page.goto(f"{stand.shop.url}/other")
    page.locator(".launcher").wait_for()
    identify(page, stand, "dora")
    wait_until(lambda: whose(stand, conversation) == "dora")
    page.goto(stand.shop.url)
    page.locator(".launcher").wait_for()
    identify(page, stand, "emil")
    open_panel(page)
    nothing_of_ada(page)
    assert whose(stand, conversation) == "dora"


def test_a_log_out_before_the_app_is_there_counts(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "private")
    page.get_by_role("button", name="Close chat").first.click()
    page.mouse.move(5, 5)  # near the button the app would be fetched anyway
    page.goto(f"{stand.shop.url}/other")
    page.locator(".launcher").wait_for()
    page.evaluate("Frontdesk('logout'); location.href = '/'")
    page.wait_for_url(f"{stand.shop.url}/")
    page.locator(".launcher").wait_for()
    assert kept(page) == {}
    open_panel(page)
    nothing_of_ada(page)


def test_ada_is_hers_also_where_the_service_was_away_when_she_was_named(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "the matter of Ada")
    conversation = stand.conversation
    page.context.set_offline(True)
    identify(page, stand, "fay")
    wait_until(lambda: kept(page)["who"] == "fay")
    identify(page, stand, "gus")
    page.context.set_offline(False)
    ask(page, "the matter of Gus")
    assert said(page) == ["the matter of Gus", "the matter of Gus"]
    assert whose(stand, stand.conversation) == "gus"
    assert whose(stand, conversation) in (None, "fay"), "hers, or nobody's: never the next one's"
    visitor = find_conversation(stand.office.database, stand.conversation).visitor
    assert [one.id for one in conversations_of(stand.office.database, visitor)] == [stand.conversation]


def test_an_answer_that_comes_too_late_does_not_open_adas_conversation_to_the_next(
    open_widget: Open, stand: Stand
) -> None:
    """Her conversation is being opened, and her message on its way, when somebody else is named."""
    page = open_widget()
    held: list[Route] = []
    page.route("**/api/v1/conversations", lambda route: held.append(route), times=1)
    identify(page, stand, "hal")
    write(page, "a secret of Hal")
    wait_until(lambda: page.evaluate("1") and held)
    identify(page, stand, "ida")
    held[0].continue_()
    wait_until(lambda: kept(page).get("vouched") and kept(page)["who"] == "ida")
    ask(page, "the matter of Ida")
    assert said(page) == ["the matter of Ida", "the matter of Ida"]
    assert whose(stand, kept(page)["id"]) == "ida"
    assert [turn.message.text for turn in stand.turns(kept(page)["id"])] == ["the matter of Ida"]


def test_a_log_out_in_one_tab_ends_it_in_all(open_widget: Open, stand: Stand) -> None:
    first = open_widget()
    ask(first, "the matter of Jo")
    identify(first, stand, "jo")
    wait_until(lambda: kept(first).get("vouched"))
    second = first.context.new_page()
    second.goto(f"{stand.shop.url}/other")
    open_panel(second)
    identify(second, stand, "jo")
    second.locator(".bot[data-turn]").wait_for()
    first.evaluate("Frontdesk('logout')")
    wait_until(lambda: said(second) == [])
    write(second, "who am I?")
    second.locator(".bot[data-turn]").wait_for()
    assert whose(stand, stand.conversation) is None
    identify(first, stand, "kim")
    wait_until(lambda: kept(first)["who"] == "kim")
    # a page that was asleep heard nothing of it and is shown again
    second.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    wait_until(lambda: said(second) == ["who am I?", "who am I?"])


def test_who_is_not_vouched_for_reads_so_and_the_page_gets_the_reason(open_widget: Open, stand: Stand) -> None:
    """An identity that has run out: customers read their own language, the words of the service go to the page."""
    page = open_widget(locale="de-DE", calm=False)
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    page.evaluate("window.heard = []; Frontdesk('on', 'error', (problem) => heard.push(problem.message))")
    ended = datetime.now(UTC) - timedelta(hours=1)
    stale = jwt.encode({"sub": "lea", "aud": SHOP, "exp": ended}, stand.site.secret, algorithm="HS256")
    page.evaluate("token => Frontdesk('identify', token)", stale)
    write(page, "Hallo")
    page.locator(".customer .failed", has_text="Bitte melden Sie sich auf dieser Website an").wait_for()
    page.get_by_role("button", name="Mit einem Menschen sprechen").click()
    page.locator(".state", has_text="Bitte melden Sie sich auf dieser Website an").wait_for()
    assert "expired" not in page.locator(".panel").inner_text()
    assert "exp" in page.evaluate("heard.join()")
    assert any(text.startswith("Frontdesk:") for text in warnings)
    identify(page, stand, "lea")
    page.get_by_role("button", name="Noch einmal").click()
    page.locator(".bot[data-turn]").wait_for()
    assert stand.asked() == ["Hallo"]


def test_a_site_for_signed_in_customers_says_so_instead_of_failing(open_widget: Open, stand: Stand) -> None:
    stand.site.change(identity_required=True)
    try:
        page = open_widget(locale="fr-FR")
        page.get_by_text("Connectez-vous sur ce site").wait_for()
        assert page.get_by_role("button", name="Parler à une personne").count() == 0
        assert page.locator(".field").count() == 0
        identify(page, stand, "mia")
        page.get_by_role("button", name="Parler à une personne").click()
        page.locator(".standing.waiting").wait_for()
    finally:
        stand.site.change(identity_required=False)
