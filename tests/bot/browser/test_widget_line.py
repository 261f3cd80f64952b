"""The widget on bad lines: slow, broken, held back by a proxy, and a service that stops in the middle of a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.server import create_application
from bot.storage.turns import history
from tests.bot.browser.between import Between, Site
from tests.bot.browser.conftest import Open
from tests.bot.browser.shops import PLAIN, open_shop, tag
from tests.bot.browser.stands import Stand, ask, open_panel, open_stand, passes, said, write
from tests.bot.channels.office import PLENTY, STOREFRONT, Office, SlowSource, Visitor, open_office, serving, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Route

SLOW_3G = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}


@contextmanager
def running(office: Office, site: Site, port: int = 0) -> Iterator[int]:
    """The service of an office, anew; its port."""
    application = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY)
    application.add_middleware(Between, site=site)
    with serving(application, drain_seconds=0.05, port=port) as service:
        yield int(service.url.rpartition(":")[2])


def test_a_restart_at_any_point_of_an_answer_loses_no_word(open_widget: Open, tmp_path: Path) -> None:
    """The service stops after each number of chunks in turn; some come while it is away, some after it is back."""
    chunks = ["The **parcel**", " left", " us. [se", "e](https://larkmoor.example/a) it", "\n\n- one", "\n- two 😀"]
    whole = "".join(chunks)
    slow = SlowSource()
    with open_office(tmp_path, slow) as office, open_shop() as shop:
        site = Site.of(office, shop.url)
        with running(office, site) as port:
            shop.put("/", PLAIN.replace("TAG", tag(f"http://127.0.0.1:{port}")))
            page = open_widget(url=shop.url, calm=False)
        who: Visitor | None = None
        for cut in range(len(chunks) + 1):
            with running(office, site, port):
                write(page, f"question {cut}")
                wait_until(lambda: site.tokens)
                who = who or Visitor(None, *next(iter(site.tokens.items())))  # type: ignore[arg-type]
                slow.say(who, *chunks[:cut])
                wait_until(lambda cut=cut: page.locator(".customer").count() == cut + 1)
                wait_until(lambda: page.locator(".customer.now").count() == 0)
                if cut:
                    page.locator(".writing .text").wait_for()
            slow.say(who, *chunks[cut : cut + 1])
            with running(office, site, port):
                slow.say(who, *chunks[cut + 1 :])
                slow.finish(who)
                page.locator(".bot[data-turn]").nth(cut).wait_for()
                assert page.locator(".writing").count() == 0
        assert who is not None
        assert [turn.reply.text for turn in history(office.database, who.conversation)] == [whole] * (len(chunks) + 1)
        shown = page.locator(".bot .text").evaluate_all("nodes => nodes.map((node) => node.textContent)")
        assert shown == ["The parcel left us. see (opens in a new tab) itonetwo 😀"] * (len(chunks) + 1)
        assert page.locator(".customer .text").all_inner_texts() == [
            f"question {cut}" for cut in range(len(chunks) + 1)
        ]
        page.close()


def test_what_is_written_offline_is_sent_once_when_the_line_is_back(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "hello")
    page.context.set_offline(True)
    write(page, "first")
    write(page, "second")
    page.get_by_text("Will be sent when you are connected again").first.wait_for()
    page.get_by_text("No connection. Trying again…").wait_for()
    page.context.set_offline(False)
    page.locator(".bot[data-turn]").nth(2).wait_for()
    page.locator(".strip").wait_for(state="detached")
    assert stand.asked() == ["hello", "first", "second"]
    assert page.locator(".customer .text").all_inner_texts() == ["hello", "first", "second"]


def test_what_a_page_could_not_send_the_next_one_sends(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "hello")
    page.route("**/messages", lambda route: route.abort())
    write(page, "do not lose me")
    page.locator(".customer.queued").wait_for()
    page.unroute("**/messages")
    page.goto(f"{stand.shop.url}/other")
    page.locator(".bot[data-turn]").nth(1).wait_for()
    assert stand.asked() == ["hello", "do not lose me"]


def test_a_message_that_got_there_although_the_answer_was_lost_counts_once(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "hello")
    lost: list[str] = []

    def lose(route: object) -> None:
        answer = route.fetch()  # type: ignore[attr-defined]
        lost.append(str(answer.status))
        route.abort()  # type: ignore[attr-defined]

    page.route("**/messages", lose, times=2)
    write(page, "once")
    page.locator(".bot[data-turn]").nth(1).wait_for()
    wait_until(lambda: page.locator(".customer.now, .customer.queued").count() == 0)
    assert lost[0] == "202"
    assert stand.asked() == ["hello", "once"]
    assert said(page) == ["hello", "hello", "once", "once"]


def test_a_line_that_swallows_a_message_does_not_hold_it_for_minutes(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "hello")
    page.clock.install()
    swallowed: list[Route] = []
    page.route("**/messages", lambda route: swallowed.append(route), times=1)
    write(page, "once")
    wait_until(lambda: page.evaluate("1") and swallowed)
    page.clock.run_for(30_000)
    passes(page, lambda: page.locator(".bot[data-turn]").count() == 2)
    assert stand.asked() == ["hello", "once"]
    assert said(page) == ["hello", "hello", "once", "once"]


def test_a_conversation_forgotten_by_the_service_begins_anew(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "hello")
    first = stand.conversation
    stand.office.desk.forget(first, actor="test")
    write(page, "again")
    page.locator(".customer", has_text="again").wait_for()
    wait_until(lambda: stand.conversation != first)
    page.locator(".bot[data-turn]", has_text="again").wait_for()
    assert stand.asked() == ["again"]


@pytest.mark.parametrize("held_back", ["all", "later"])
def test_a_proxy_that_holds_the_stream_back_is_noticed(open_widget: Open, tmp_path: Path, held_back: str) -> None:
    slow = SlowSource()
    with open_stand(tmp_path, slow) as stand:
        stand.site.held_back = held_back
        page = open_widget(url=stand.shop.url, calm=False)
        write(page, "hello")
        slow.say(stand.visitor, "an answer")
        slow.finish(stand.visitor)
        page.locator(".bot[data-turn]").wait_for()
        assert said(page) == ["hello", "an answer"]
        page.get_by_role("button", name="Talk to a person").click()
        page.locator(".standing", has_text="Waiting for a person").wait_for()
        stand.site.agent_says(stand.conversation, "Also without a stream.")
        page.locator(".agent", has_text="Also without a stream.").wait_for()
        assert page.locator(".strip").count() == 0, "polling is nothing that a customer must know of"
        page.close()


def test_a_slow_line_gets_the_button_the_panel_and_an_answer(open_page: Open, stand: Stand) -> None:
    page = open_page("/other", url=stand.shop.url, ready="", calm=False)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", SLOW_3G)
    page.reload()
    page.locator(".launcher").click()
    page.locator(".panel").wait_for()
    ask(page, "When does my refund arrive?")
    assert page.locator(".sources a").count() == 2


def test_a_service_that_is_away_leaves_a_button_and_a_word(open_page: Open, stand: Stand) -> None:
    page = open_page("/other", url=stand.shop.url, ready="", calm=False)
    page.route("**/api/v1/**", lambda route: route.abort())
    page.reload()
    page.locator(".launcher").wait_for()
    open_panel(page)
    page.get_by_text("Chat cannot be reached at the moment.").wait_for()
    page.unroute("**/api/v1/**")
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("Chat cannot be reached at the moment.").wait_for(state="detached")
    ask(page, "hello")


def test_a_service_that_was_away_when_the_page_came_is_asked_until_it_is_back(open_widget: Open, stand: Stand) -> None:
    page = open_widget(calm=False)
    ask(page, "hello")
    page.route("**/api/v1/**", lambda route: route.abort())
    page.goto(f"{stand.shop.url}/other")
    page.get_by_text("No connection. Trying again…").wait_for()
    page.unroute("**/api/v1/**")
    page.locator(".bot[data-turn]").wait_for()
    page.locator(".strip").wait_for(state="detached")
    ask(page, "again")
    assert said(page) == ["hello", "hello", "again", "again"]


def test_what_is_written_before_the_record_could_be_read_stands_behind_it(open_widget: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_stand(tmp_path, slow) as stand:
        page = open_widget(url=stand.shop.url, calm=False)
        write(page, "hello")
        slow.say(stand.visitor, "an answer")
        slow.finish(stand.visitor)
        page.locator(".bot[data-turn]").wait_for()
        page.route("**/api/v1/**", lambda route: route.abort())
        page.goto(f"{stand.shop.url}/other")
        page.get_by_text("No connection. Trying again…").wait_for()
        write(page, "and now?")
        page.locator(".customer.queued").wait_for()
        page.unroute("**/api/v1/**")
        wait_until(lambda: said(page) == ["hello", "an answer", "and now?"])
        slow.say(stand.visitor, "another one")
        slow.finish(stand.visitor)
        page.locator(".bot[data-turn]").nth(1).wait_for()
        assert said(page) == ["hello", "an answer", "and now?", "another one"]
        page.close()


def test_an_app_that_did_not_load_is_fetched_again(open_page: Open, stand: Stand) -> None:
    page = open_page("/other", url=stand.shop.url, ready="", calm=False)
    page.route("**/app.js*", lambda route: route.abort())
    page.reload()
    page.locator(".launcher").click()
    wait_until(lambda: page.locator(".launcher").get_attribute("aria-busy") == "false")
    page.unroute("**/app.js*")
    page.locator(".launcher").click()
    page.locator(".panel").wait_for()
    page.locator(".launcher").click()
    page.locator(".panel").wait_for(state="detached")
