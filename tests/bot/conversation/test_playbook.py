"""The playbook's checks: every problem at once, each with its key; and the wordings that fall back."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import FrontdeskError
from bot.conversation.playbook import load_playbook
from tests.bot.conversation.fakes import COMPANY

SOUND = (COMPANY / "playbook.toml").read_text("utf-8")
SAMPLE = Path(__file__).parents[3] / "data" / "playbook.toml"


def problems(folder: Path, text: str, articles: set[str] | None = None) -> list[str]:
    path = folder / "playbook.toml"
    path.write_text(text, "utf-8")
    try:
        load_playbook(path, articles)
    except FrontdeskError as error:
        return [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]
    return []


def test_a_sound_playbook_loads(tmp_path: Path) -> None:
    playbook = load_playbook(COMPANY / "playbook.toml")
    assert (playbook.company, playbook.languages, len(playbook.intents)) == ("Tidewater Lamps", ("en", "zh"), 9)
    status = playbook.intent("order_status")
    assert status is not None
    assert (status.kind, status.slots, status.article) == ("answer", ("order_number",), "shipping/track.md")
    assert ("zh", "查一下物流") in status.examples
    assert playbook.patterns() == (("order_number", r"NL-\d{6}"),)
    assert playbook.intent("no_such") is None is playbook.slot("no_such")
    assert problems(tmp_path, SOUND, {"shipping/track.md", "returns/how-to-return.md"}) == []


def test_the_sample_company_playbook_loads() -> None:
    playbook = load_playbook(SAMPLE)
    assert len(playbook.intents) >= 25
    assert {intent.kind for intent in playbook.intents} == {"answer", "small_talk", "hand_over"}


FAULTS = [
    ("languages = [", "langauges = [", "company.langauges: unknown key; known here are languages, name"),
    ('languages = ["en", "zh"]', "languages = []", "company.languages: is missing or empty"),
    ('languages = ["en", "zh"]', 'languages = ["en", "zh", "fr"]', "texts.fr.not_known: is missing or empty"),
    ('languages = ["en", "zh"]', 'languages = ["en", "zh", "English"]', "company.languages: 'English' is no"),
    ('clarify = "Did you mean:"', "", "texts.en.clarify: is missing or empty; write it"),
    ('clarify = "Did you mean:"', "clarify = 3", "texts.en.clarify: must be text in quotes, not 3"),
    ("handed_over_angry =", "handed_over_bored =", "texts.en.handed_over_bored: unknown key"),
    ('kind = "order_number"', 'kind = "ordernumber"', "slots.order_number.kind: 'ordernumber' is no kind of"),
    (r"'NL-\d{6}'", r"'NL-(\d{6}'", "slots.order_number.pattern: is no regular expression: "),
    ("[slots.amount]", "[slots.Amount]", "slots.Amount: a slot's name has only a-z, 0-9 and _"),
    ('ask.zh = "请告诉', 'ask.de = "请告诉', "slots.order_number.ask.de: unknown key; known here are en, zh"),
    ('name = "cancel_order"', 'name = "cancel order"', "intent[cancel order].name: 'cancel order' must have only"),
    ('name = "cancel_order"', 'name = "order_status"', "intent[order_status]: there are two intents of this name"),
    ('kind = "hand_over"', 'kind = "handover"', "intent[talk_to_person].kind: 'handover' must be one of"),
    ('then = "hand_over"', 'then = "goodbye"', "intent[duplicate_charge].then: 'goodbye' must be \"hand_over\""),
    ('title.zh = "怎么退货？"', "", "intent[return_lamp].title.zh: is missing or empty; write it"),
    ('answer.zh = "下单后', 'answer.no = "下单后', "intent[cancel_order].answer.zh: is missing or empty"),
    ('slots = ["order_number"]', 'slots = ["order_no"]', "intent[order_status].slots: there is no slot 'order_no'"),
    ('slots = ["order_number"]', "", "intent[order_status].answer.en: {order_number} is none of the intent's slots"),
    ('suggestions = ["cancel_order"]', 'suggestions = ["cancel"]', "intent[order_status].suggestions: there is no"),
    ('suggestions = ["cancel_order"]', 'suggestions = "cancel_order"', "intent[order_status].suggestions: must be a"),
    ('"return an item"', '"cancel my order"', "intent[return_lamp].examples: 'cancel my order' is also an"),
    ('examples.en = ["hello", "hi"]\nexamples.zh = ["你好", "在吗"]', "", "intent[greeting].examples: has no example"),
    ('"hello", "hi"', '"hello", "hello"', "intent[greeting].examples.en: 'hello' stands twice"),
    ("[slots.amount]", "[slot.amount]", "slot: unknown key; known here are company, intent, slots, texts"),
]  # fmt: skip


@pytest.mark.parametrize(("sound", "faulty", "problem"), FAULTS, ids=[fault[2][:50] for fault in FAULTS])
def test_a_fault_is_named_with_its_key(tmp_path: Path, sound: str, faulty: str, problem: str) -> None:
    assert sound in SOUND
    found = problems(tmp_path, SOUND.replace(sound, faulty, 1))
    assert any(line.startswith(problem) for line in found), found


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    faulty = SOUND
    for sound, fault, _ in (FAULTS[0], FAULTS[7], FAULTS[13]):
        faulty = faulty.replace(sound, fault, 1)
    found = problems(tmp_path, faulty)
    assert all(any(line.startswith(wanted) for line in found) for _, _, wanted in (FAULTS[0], FAULTS[7], FAULTS[13]))


def test_an_unknown_article_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, SOUND, {"returns/how-to-return.md"})
    assert found == [
        "intent[order_status].article: there is no article 'shipping/track.md'; correct the path or ingest it"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[company\nname = 3", "not valid TOML"),
        ("[company]\nname = \"\xe9\"".encode("latin-1"), "is not UTF-8"),
        (b"\x00\x01\x02", "not valid TOML"),
        (b"", "intent: there is no intent"),
        (b"intent = 3", "intent: there is no intent"),
        (b"[[intent]]\n[company]", "intent[1].name: is missing or empty"),
        (b"company = 1\nintent = [1]", "company: must be a table, not 1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_playbook_is_refused_in_words(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "playbook.toml"
    path.write_bytes(content)
    with pytest.raises(FrontdeskError) as caught:
        load_playbook(path)
    assert problem in str(caught.value)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(FrontdeskError, match=r"none\.toml: No such file or directory; name a playbook"):
        load_playbook(tmp_path / "none.toml")


def test_the_version_changes_with_any_byte(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text(SOUND, "utf-8")
    other.write_text(SOUND.replace("49 kr", "59 kr"), "utf-8")
    assert load_playbook(one).version == load_playbook(COMPANY / "playbook.toml").version
    assert load_playbook(one).version != load_playbook(other).version


def test_another_language_falls_back_to_the_company_first() -> None:
    playbook = load_playbook(COMPANY / "playbook.toml")
    status = playbook.intent("order_status")
    assert status is not None
    assert status.title.in_language("fr") == status.title.in_language("en") == "Where is my order?"
    assert playbook.texts_in("fr").language == "en"


def test_a_reason_without_words_of_its_own_has_the_common_ones() -> None:
    texts = load_playbook(COMPANY / "playbook.toml").texts_in("en")
    assert texts.for_reason("angry").startswith("I am sorry")
    assert texts.for_reason("policy") == texts.handed_over
    assert texts.for_reason("error") == texts.error


def test_optional_words_are_ours_until_replaced(tmp_path: Path) -> None:
    path = tmp_path / "playbook.toml"
    path.write_text(SOUND.replace('clarify = "Did', 'waiting = "Hold on."\nclarify = "Did'), "utf-8")
    assert load_playbook(path).texts_in("en").waiting == "Hold on."
    assert load_playbook(path).texts_in("zh").waiting.startswith("已经通知同事")
