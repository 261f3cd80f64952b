"""What a customer does in the widget on a shop's page, in a real browser, from the first question to the rating."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.storage.conversations import find_conversation
from bot.storage.feedback import clicks_on, feedback_on
from bot.storage.files import LARGEST_FILE
from bot.storage.turns import history
from tests.bot.browser.between import ADA
from tests.bot.browser.conftest import Open
from tests.bot.browser.stands import Stand, ask, kept, more, open_panel, open_stand, said, write
from tests.bot.channels.office import SlowSource, wait_until
from tests.bot.storage.sample import BEN


def last_turn(page: object) -> str:
    return page.locator(".bot[data-turn]").last.get_attribute("data-turn") or ""  # type: ignore[attr-defined]


def test_a_question_is_answered_with_sources_that_open_at_the_right_place(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "When does my refund arrive?")
    answer = page.locator(".said.bot").last
    assert [text.replace("\u2060", "") for text in answer.locator(".text p").all_inner_texts()] == [
        "We inspect it within 5 business days.1",
        "Credit cards take 3 to 7 business days.2",
    ]
    sources = answer.locator(".sources a")
    assert sources.all_inner_texts() == ["1\nRefunds\n(opens in a new tab)", "2\nRefunds\n(opens in a new tab)"]
    with page.expect_popup() as popup:
        sources.nth(1).click()
    popup.value.wait_for_load_state()
    assert popup.value.url == f"{stand.service.url}/articles/returns/refunds.md#p-money"
    assert popup.value.evaluate("opener") is None
    wait_until(lambda: clicks_on(stand.office.database, last_turn(page)))
    assert [c.target for c in clicks_on(stand.office.database, last_turn(page))] == [
        "/articles/returns/refunds.md#p-money"
    ]


def test_lists_and_tables_of_an_answer_are_set_out(open_widget: Open) -> None:
    page = open_widget()
    ask(page, "show me a table")
    shown = page.locator(".bot .text")
    assert shown.evaluate("node => [...node.children].map((child) => child.tagName)") == ["P", "DIV", "OL", "UL", "P"]
    assert shown.locator("th").all_inner_texts() == ["Paid with", "Days"]
    assert shown.locator("td").all_inner_texts() == ["Card", "3-7"]
    items = [text.replace("\u2060", "") for text in shown.locator("li").all_inner_texts()]
    assert items == ["Look.", "Ask.1", "Or write. [9]"], "a mark without a source stays"


def test_thumbs_down_asks_why_and_keeps_the_reason(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "refund?")
    page.get_by_role("button", name="Not helpful").click()
    page.get_by_role("button", name="Out of date").click()
    page.get_by_label("Anything to add? (optional)").fill("It is ten days now")
    page.get_by_role("button", name="Send feedback").click()
    page.get_by_text("Thank you for telling us.").wait_for()
    (given,) = feedback_on(stand.office.database, last_turn(page))
    assert (given.verdict, given.reason, given.comment) == ("down", "outdated", "It is ten days now")
    page.get_by_role("button", name="Helpful", exact=True).click()
    wait_until(lambda: [g.verdict for g in feedback_on(stand.office.database, last_turn(page))] == ["up"])


def test_suggestions_and_starters_are_asked_by_a_click(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    page.get_by_role("button", name="When does my refund arrive?").click()
    page.locator(".bot[data-status=grounded]").wait_for()
    first = last_turn(page)
    page.get_by_role("button", name="Is a label free?").click()
    page.locator(".bot[data-turn]").nth(1).wait_for()
    assert page.locator(".customer .text").all_inner_texts() == ["When does my refund arrive?", "Is a label free?"]
    assert page.locator(".next").count() == 1, "only the last answer offers anything"
    wait_until(lambda: clicks_on(stand.office.database, first))
    assert [(c.kind, c.target) for c in clicks_on(stand.office.database, first)] == [("suggestion", "Is a label free?")]


def test_options_are_buttons_and_stay_readable_once_one_was_taken(open_widget: Open) -> None:
    page = open_widget()
    ask(page, "something with an order")
    clarified = page.locator(".said.bot").first
    assert clarified.locator(".text").inner_text() == "Did you mean:"
    clarified.get_by_role("button", name="Can I cancel my order?").click()
    page.locator(".bot[data-turn]").nth(1).wait_for()
    # inner_text() gives the numbers of a list to the eye alone
    assert clarified.locator(".text li").all_inner_texts() == ["Where is my order?", "Can I cancel my order?"]


def test_a_customer_leaves_comes_back_and_finds_everything(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "refund?")
    ask(page, "and then?")
    before = said(page)
    page.goto(f"{stand.shop.url}/other")
    page.locator(".panel").wait_for()  # what was open stays open on the next page
    page.locator(".bot[data-turn]").nth(1).wait_for()
    assert said(page) == before
    ask(page, "still here")
    assert stand.asked() == ["refund?", "and then?", "still here"]
    page.get_by_role("button", name="Close chat").first.click()
    page.reload()
    page.locator(".launcher").wait_for()
    assert page.locator(".panel").count() == 0
    open_panel(page)
    page.locator(".bot[data-turn]").nth(2).wait_for()
    assert page.context.cookies() == []


def test_a_person_is_asked_comes_and_leaves_and_everything_is_announced(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "hello")
    page.get_by_role("button", name="Talk to a person").click()
    page.get_by_text("A person has been asked to join.").first.wait_for()
    assert find_conversation(stand.office.database, stand.conversation).status == "waiting"
    stand.site.takes(stand.conversation)
    page.locator(".standing", has_text="You are talking to Ada").wait_for()
    stand.site.agent_says(stand.conversation, "Good morning! I am Ada.\nI see your order.")
    agent = page.locator(".said.agent")
    agent.wait_for()
    assert agent.locator(".name").inner_text() == "Ada"
    assert agent.locator(".text").inner_text() == "Good morning! I am Ada.\nI see your order."
    wait_until(lambda: "Good morning" in page.locator("[role=status].unseen").inner_text())
    stand.site.agent_says(stand.conversation, "It leaves today.")
    page.get_by_text("It leaves today.", exact=True).wait_for()
    page.reload()
    page.locator(".standing", has_text="You are talking to Ada").wait_for()
    assert page.locator(".agent .text").all_inner_texts() == [
        "Good morning! I am Ada.\nI see your order.",
        "It leaves today.",
    ]
    stand.site.takes(stand.conversation, BEN, instead_of=ADA.id)
    page.locator(".standing", has_text="You are talking to Ben").wait_for()
    page.reload()
    page.locator(".agent .text").nth(1).wait_for()
    page.locator(".standing", has_text="You are talking to Ben").wait_for()
    stand.office.desk.give_back(stand.conversation, BEN)
    page.locator(".standing", has_text="Automated assistant").wait_for()
    ask(page, "and the bot?")


def test_what_is_said_while_the_panel_is_closed_shows_as_unread(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "hello")
    page.get_by_role("button", name="Talk to a person").click()
    page.get_by_text("A person has been asked to join.").first.wait_for()
    page.keyboard.press("Escape")
    page.locator(".panel").wait_for(state="detached")
    stand.site.agent_says(stand.conversation, "Are you there?")
    page.locator(".badge", has_text="1").wait_for()
    assert page.locator(".launcher").get_attribute("aria-label") == "Open chat. Unread messages: 1"
    page.goto(f"{stand.shop.url}/other")
    page.locator(".badge", has_text="1").wait_for()
    open_panel(page)
    page.locator(".agent", has_text="Are you there?").wait_for()
    wait_until(lambda: page.locator(".badge").inner_text() == "")
    wait_until(lambda: kept(page)["unread"] == 0)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_what_is_unread_does_not_depend_on_the_customers_clock(open_widget: Open, stand: Stand, minutes: int) -> None:
    page = open_widget()
    page.context.clock.set_system_time(datetime.now(UTC) + timedelta(minutes=minutes))
    ask(page, "hello")
    page.get_by_role("button", name="Talk to a person").click()
    page.get_by_text("A person has been asked to join.").first.wait_for()
    page.keyboard.press("Escape")
    page.locator(".panel").wait_for(state="detached")
    page.goto("about:blank")
    page.goto(f"{stand.shop.url}/other")
    page.locator(".launcher[aria-haspopup]").wait_for()
    wait_until(lambda: page.evaluate("1") and stand.listeners)
    assert page.locator(".badge").inner_text() == "", "all of it was read"
    page.goto("about:blank")
    stand.site.agent_says(stand.conversation, "Are you there?")
    page.goto(f"{stand.shop.url}/")
    page.locator(".badge", has_text="1").wait_for()


def test_files_go_to_a_person_and_come_back(open_widget: Open, stand: Stand, tmp_path: Path) -> None:
    page = open_widget()
    ask(page, "hello")
    assert page.get_by_role("button", name="Attach a file").count() == 0, "only a person can look at files"
    page.get_by_role("button", name="Talk to a person").click()
    page.get_by_role("button", name="Attach a file").wait_for()
    photo = tmp_path / "broken strap.png"
    photo.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5_000))
    page.locator("input[type=file]").set_input_files(photo)
    page.get_by_role("button", name="Download broken strap.png").wait_for()
    files = stand.office.application.state.door.files
    (sent,) = files.of(stand.conversation)
    assert (sent.name, files.path(sent).read_bytes()) == ("broken strap.png", photo.read_bytes())
    for name, content, problem in (
        (
            "virus.exe",
            b"MZ",
            "virus.exe is of a kind that cannot be sent. Possible are: PNG, JPEG, GIF, WEBP, PDF, TXT.",
        ),
        ("huge.png", bytes(LARGEST_FILE + 1), "huge.png is too large. At most"),
    ):
        (tmp_path / name).write_bytes(content)
        page.locator("input[type=file]").set_input_files(tmp_path / name)
        page.get_by_text(problem).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download broken strap.png").click()
    assert download.value.suggested_filename == "broken strap.png"
    assert Path(download.value.path()).read_bytes() == photo.read_bytes()


def test_an_ended_conversation_is_rated_once(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "hello")
    more(page, "End conversation")
    page.get_by_role("radio", name="4 of 5 stars").check()
    page.get_by_label("Anything to add? (optional)").fill("Quick")
    page.get_by_role("button", name="Send rating").click()
    page.get_by_text("Thank you for your rating.").wait_for()
    with stand.office.database.read() as connection:
        row = connection.exec_driver_sql(
            "SELECT stars, comment FROM ratings WHERE conversation_id = ?", (stand.conversation,)
        )
        assert tuple(row.one()) == (4, "Quick")
    page.reload()
    page.get_by_text("This conversation has ended.").wait_for()
    assert page.locator(".rating").count() == 0
    ask(page, "one more thing")
    assert find_conversation(stand.office.database, stand.conversation).status == "open"


def test_a_conversation_is_deleted_after_a_second_thought(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "my secret")
    conversation = stand.conversation
    more(page, "Delete this conversation")
    page.get_by_role("button", name="Keep").click()
    assert len(history(stand.office.database, conversation)) == 1
    more(page, "Delete this conversation")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("The conversation was deleted.").first.wait_for()
    assert history(stand.office.database, conversation) == ()
    assert "token" not in kept(page)
    assert page.locator(".said").count() == 0


def test_earlier_conversations_are_listed_and_go_on(open_widget: Open, stand: Stand) -> None:
    page = open_widget()
    ask(page, "the first matter")
    first = stand.conversation
    more(page, "New conversation")
    page.get_by_text("Hello! How can we help?").wait_for()
    ask(page, "the second matter")
    assert stand.conversation != first
    whose = {find_conversation(stand.office.database, each).visitor for each in (first, stand.conversation)}
    assert len(whose) == 1, "the same visitor"
    more(page, "Earlier conversations")
    page.get_by_role("heading", name="Earlier conversations").wait_for()
    open_one = page.get_by_role("button", name="the second matter")
    open_one.wait_for()
    assert open_one.locator(".count-unread").count() == 0, (
        "it was just read here, whatever the server knows of that yet"
    )
    page.get_by_role("button", name="the first matter").click()
    wait_until(lambda: said(page) == ["the first matter", "the first matter"])
    ask(page, "going on")
    assert [turn.message.text for turn in history(stand.office.database, first)] == ["the first matter", "going on"]


def test_the_transcript_can_be_copied_and_kept(open_widget: Open) -> None:
    page = open_widget(permissions=["clipboard-read", "clipboard-write"])
    ask(page, "refund?")
    more(page, "Copy transcript")
    page.get_by_text("Transcript copied.").first.wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "You: refund?" in copied
    assert "Assistant: We inspect it within 5 business days. [1]" in copied
    assert "[2] Refunds" in copied
    page.get_by_role("button", name="More").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Download transcript").click()
    assert Path(download.value.path()).read_text("utf-8") == copied


def test_details_are_asked_once_and_sent_with_the_conversation(open_widget: Open, stand: Stand) -> None:
    stand.site.change(pre_chat=("name", "email"))
    try:
        page = open_widget()
        assert page.locator(".field").count() == 0
        assert page.get_by_label("E-mail address").get_attribute("autocomplete") == "email"
        page.get_by_role("button", name="Start chat").click()
        page.get_by_text("Please enter your name.").wait_for()
        page.get_by_text("Please enter an e-mail address, for example").wait_for()
        assert page.get_by_label("Name", exact=True).get_attribute("aria-invalid") == "true"
        page.get_by_label("Name", exact=True).fill("Ada Lovelace")
        page.get_by_label("E-mail address").fill("ada@example.com")
        page.get_by_role("button", name="Start chat").click()
        ask(page, "hello")
        assert stand.site.opened[-1]["pre_chat"] == {"name": "Ada Lovelace", "email": "ada@example.com"}
        more(page, "New conversation")
        page.locator(".field").wait_for()
        assert page.get_by_label("E-mail address").count() == 0, "nobody is asked twice"
    finally:
        stand.site.change(pre_chat=())


def test_closing_hours_are_told(open_widget: Open, stand: Stand) -> None:
    back = stand.site.close()
    try:
        told = re.compile(rf"Our team is back on {back:%A} at 9:00\sAM\.")
        page = open_widget(locale="en-US", timezone_id="UTC")
        page.locator(".hours", has_text=told).wait_for()
        page.get_by_role("button", name="Talk to a person").click()
        page.locator(".state", has_text=told).wait_for()
    finally:
        stand.site.change(hours=())


def opens_in(days: int, hour: int = 8) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(hour=hour, minute=0, second=0, microsecond=0)


def shut(opens_at: datetime | None) -> dict[str, object]:
    """What a site that is closed says of itself."""
    said = opens_at.isoformat().replace("+00:00", "Z") if opens_at else None
    return {"open": False, "hours_text": "Mon-Fri 09:00-17:00 (Europe/Berlin)", "opens_at": said}


WEEKDAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
    "zh": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
    "ja": "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日",
}


@pytest.mark.parametrize(
    ("locale", "zone", "sentence"),
    [
        ("en-US", "Asia/Tokyo", "Our team is back on {day} at 7:00 AM."),
        ("de-DE", "Europe/Berlin", "Unser Team ist am {day} um {time} wieder da."),
        ("fr-FR", "Asia/Tokyo", "Notre équipe sera de retour {day} à 7:00."),
        ("es-ES", "Asia/Tokyo", "Nuestro equipo vuelve el {day} a las 7:00."),
        ("zh-CN", "Asia/Tokyo", "人工客服将于{day} 7:00恢复服务。"),
        ("ja-JP", "Asia/Tokyo", "担当者は{day} 7:00に対応を再開します。"),
    ],
)
def test_when_people_are_back_is_told_in_the_customers_words_and_time(
    open_widget: Open, stand: Stand, locale: str, zone: str, sentence: str
) -> None:
    at = opens_in(2, hour=22)
    stand.site.says |= shut(at)
    try:
        here = at.astimezone(ZoneInfo(zone))
        day = WEEKDAYS[locale[:2]].split()[here.weekday()]
        told = sentence.format(day=day, time=f"{here.hour}:00")
        page = open_widget(locale=locale, timezone_id=zone)
        wait_until(lambda: " ".join(page.locator(".hours").inner_text().split()) == told)
        page.locator(".to-person").click()
        page.locator(".standing.waiting").wait_for()
        wait_until(lambda: " ".join(page.locator(".state").inner_text().split()).endswith(told))
        assert "Mon-Fri" not in page.locator(".panel").inner_text()
        wait_until(lambda: " ".join(page.locator("[role=status].unseen").inner_text().split()).endswith(told))
    finally:
        stand.site.says.clear()


@pytest.mark.parametrize("locale", ["pt-BR", "ar-EG"])
def test_an_opening_far_ahead_has_its_date(open_widget: Open, stand: Stand, locale: str) -> None:
    stand.site.says |= shut(opens_in(12))
    try:
        page = open_widget(locale=locale)
        page.locator(".hours").wait_for()
        told = page.locator(".hours").inner_text()
        assert "{" not in told
        assert "Mon-Fri" not in told
        number = f"{opens_in(12).day}"
        assert number in told or number.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")) in told
    finally:
        stand.site.says.clear()


def test_hours_of_a_page_that_was_open_for_long_are_asked_anew(open_widget: Open, stand: Stand) -> None:
    asked: list[str] = []
    page = open_widget()
    page.on("request", lambda request: "/sites/" in request.url and asked.append(request.url))
    assert page.locator(".hours").count() == 0
    ask(page, "hello")
    stand.site.says |= shut(opens_in(1))
    try:
        page.get_by_role("button", name="Talk to a person").click()
        page.locator(".state", has_text="A person has been asked to join.").wait_for()
        assert asked == [], "what is a moment old is believed"
        assert "is back" not in page.locator(".state").inner_text()
        more(page, "New conversation")
        page.clock.install()
        page.clock.fast_forward("10:00")
        page.get_by_role("button", name="Talk to a person").click()
        page.locator(".state", has_text="Our team is back on").wait_for()
        assert len(asked) == 1
        page.clock.fast_forward("36:00:00")
        page.get_by_role("button", name="Close chat").first.click()
        stand.site.says.clear()
        open_panel(page)
        wait_until(lambda: page.evaluate("1") and len(asked) == 2)
        wait_until(lambda: "is back" not in page.locator(".state").inner_text())
    finally:
        stand.site.says.clear()


def test_the_bot_is_seen_to_write_while_a_person_is_awaited(open_widget: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_stand(tmp_path, slow) as stand:
        page = open_widget(url=stand.shop.url)
        page.get_by_role("button", name="Talk to a person").click()
        page.locator(".standing.waiting").wait_for()
        who = stand.visitor
        write(page, "one more thing")
        page.locator(".typing").wait_for()
        slow.say(who, "While you ")
        page.locator(".writing", has_text="While you").wait_for()
        page.reload()
        page.locator(".writing", has_text="While you").wait_for()
        slow.say(who, "wait.")
        slow.finish(who)
        page.locator(".bot[data-turn]").wait_for()
        assert said(page) == ["one more thing", "While you wait."]
        assert page.locator(".writing").count() == 0
        stand.site.takes(stand.conversation)
        page.locator(".standing.person").wait_for()
        write(page, "to you, Ada")
        page.locator(".customer", has_text="to you, Ada").wait_for()
        wait_until(lambda: page.locator(".customer.now").count() == 0)
        wait_until(lambda: len(stand.turns(stand.conversation)) == 2)
        assert page.locator(".typing, .writing").count() == 0, "now a person answers"
        stand.office.desk.give_back(stand.conversation, ADA)
        page.locator(".standing.open").wait_for()
        page.reload()
        page.locator(".customer", has_text="to you, Ada").wait_for()
        assert page.locator(".typing, .writing").count() == 0, "nobody owes an answer to what was said to Ada"
        page.close()


def test_text_appears_as_it_is_written_and_is_spoken_once(open_widget: Open, tmp_path: Path) -> None:
    slow = SlowSource()
    with open_stand(tmp_path, slow) as stand:
        page = open_widget(url=stand.shop.url)
        page.evaluate(
            "window.spoken = []; const speech = document.querySelector('frontdesk-chat').shadowRoot"
            ".querySelector('[role=status].unseen');"
            "new MutationObserver(() => spoken.push(speech.textContent))"
            ".observe(speech, {childList: true, characterData: true, subtree: true})"
        )
        write(page, "hello")
        page.locator(".typing").wait_for()
        assert page.get_by_role("log").get_attribute("aria-busy") == "true"
        assert page.get_by_role("log").get_attribute("aria-live") == "off"
        who = stand.visitor
        shown = page.locator(".writing .text")
        for part, whole in (
            ("Let me **se", "Let me se"),
            ("e**. See [our ", "Let me see. See our"),
            ("page](https://larkmoor.example/x).", "Let me see. See our page (opens in a new tab)."),
        ):
            slow.say(who, part)
            wait_until(lambda whole=whole: (shown.text_content() or "").strip() == whole)
        assert page.locator(".typing").count() == 0
        slow.finish(who)
        page.locator(".bot[data-turn]").wait_for()
        assert page.locator(".bot .text strong").inner_text() == "see"
        assert page.locator(".bot .text a").get_attribute("href") == "https://larkmoor.example/x"
        assert page.get_by_role("log").get_attribute("aria-busy") == "false"
        wait_until(lambda: page.evaluate("spoken.length") == 1)
        assert page.evaluate("spoken") == ["Assistant: Let me see. See our page."]
        page.close()


def test_an_answer_that_could_not_be_made_says_so(open_widget: Open) -> None:
    page = open_widget()
    ask(page, "please fail")
    page.locator(".state", has_text="A person has been asked to join.").wait_for()


@pytest.mark.parametrize(
    ("locale", "greeting", "person", "direction"),
    [
        ("zh-TW", "您好！有什么可以帮您？", "转人工客服", "ltr"),
        ("es-MX", "¡Hola! ¿En qué podemos ayudarle?", "Hablar con una persona", "ltr"),
        ("fr-FR", "Bonjour ! Comment pouvons-nous vous aider ?", "Parler à une personne", "ltr"),
        ("de-AT", "Hallo! Wie können wir helfen?", "Mit einem Menschen sprechen", "ltr"),
        ("pt-BR", "Olá! Como podemos ajudar?", "Falar com uma pessoa", "ltr"),
        ("ja-JP", "こんにちは。ご用件をどうぞ。", "担当者と話す", "ltr"),
        ("ar-EG", "مرحبًا! كيف يمكننا مساعدتك؟", "التحدث إلى شخص", "rtl"),
        ("sv-SE", "Hello! How can we help?", "Talk to a person", "ltr"),
    ],
)
def test_the_widget_speaks_the_language_of_the_browser(
    open_widget: Open, locale: str, greeting: str, person: str, direction: str
) -> None:
    page = open_widget(locale=locale, viewport={"width": 360, "height": 700})
    page.get_by_text(greeting).wait_for()
    assert page.get_by_role("button", name=person).is_visible()
    assert (
        page.evaluate(
            "getComputedStyle(document.querySelector('frontdesk-chat').shadowRoot.querySelector('.root')).direction"
        )
        == direction
    )
    ask(page, "refund?")
    sticking = page.evaluate(
        "[...document.querySelector('frontdesk-chat').shadowRoot.querySelectorAll('.top, .scroll, footer, .body')]"
        ".filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className)"
    )
    assert sticking == []


def test_what_is_half_written_is_still_there_when_the_panel_opens_again(open_widget: Open) -> None:
    page = open_widget()
    field = page.locator(".field")
    field.fill("My parcel has")
    field.evaluate(
        "node => node.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Escape', isComposing: true, cancelable: true, bubbles: true, composed: true}))"
    )
    assert page.locator(".panel").count() == 1, "it ends the composition and nothing else"
    field.press("Escape")
    page.locator(".panel").wait_for(state="detached")
    open_panel(page)
    assert field.input_value() == "My parcel has"
    field.press("Enter")
    page.locator(".bot[data-turn]").wait_for()
    page.locator(".launcher").click()
    open_panel(page)
    assert field.input_value() == ""


def test_the_composer_counts_and_leaves_compositions_alone(open_widget: Open) -> None:
    page = open_widget()
    field = page.locator(".field")
    field.fill("退款")
    field.evaluate(
        "node => node.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', isComposing: true, cancelable: true, bubbles: true}))"
    )
    assert field.input_value() == "退款"
    field.fill("x" * 3_700)
    page.get_by_text("300 characters left").wait_for()
    field.fill("😀" * 4_001)
    page.get_by_text("1 characters too many").wait_for()
    assert page.get_by_role("button", name="Send").is_disabled()
    field.press("Enter")
    assert page.locator(".said").count() == 0
