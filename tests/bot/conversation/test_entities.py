"""One table a kind: the text, what must be found, and near misses where nothing must be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.entities import ACCEPTED, KINDS, EntityKind, find_entities, slot_value

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)  # a Sunday


def values(text: str, kind: EntityKind, **options: EntityKind) -> list[str]:
    return [entity.value for entity in find_entities(text, NOW, **options) if entity.kind == kind]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my order 4482913 is late", ["4482913"]),
        ("order no. AB-48291", ["AB-48291"]),
        ("order #48291 please", ["48291"]),
        ("#48291", ["48291"]),
        ("订单号123456到哪了", ["123456"]),
        ("訂單123456到哪了", ["123456"]),
        ("我的订单是：AB48291", ["AB48291"]),
        ("confirmation ab12345", ["AB12345"]),
        ("is the AB-48291 waterproof", []),  # a product code: nothing says order
        ("I ordered 2 lamps", []),
        ("order 66", []),
        ("my order of 48.291 kg", []),
        ("the model AB-48291 I bought in my order", []),
        ("call me about my order, phone 4482913", []),
        ("charge of $48291 on my order", []),
        ("order page https://x.example/48291", []),
        ("order for bob48291@x.example", []),
        ("50000", []),
    ],
)
def test_order_numbers(text: str, expected: list[str]) -> None:
    assert values(text, "order_number") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to Jo.Smith+lamp@Mail.Example.COM.", ["Jo.Smith+lamp@mail.example.com"]),
        ("邮箱是li_ming@x.cn，谢谢", ["li_ming@x.cn"]),
        ("a@b.co and c@d.org", ["a@b.co", "c@d.org"]),
        ("jo@localhost", []),
        ("jo @ mail.example", []),
        ("jo..smith@mail.example", []),
        ("@jo on insta", []),
        ("jo@mail.example-", []),
        ("5 lamps @ 20.00", []),
    ],
)
def test_email_addresses(text: str, expected: list[str]) -> None:
    assert values(text, "email") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bought on 2026-10-03", ["2026-10-03"]),
        ("2026/1/5", ["2026-01-05"]),
        ("delivered 12 March", ["2027-03-12"]),  # 110 days ahead, 255 days ago: the nearer one
        ("since March 12th, 2026", ["2026-03-12"]),
        ("on the 3rd of October", ["2026-10-03"]),
        ("Oct 3", ["2026-10-03"]),
        ("yesterday", ["2026-11-21"]),
        ("the day before yesterday", ["2026-11-20"]),
        ("it came today", ["2026-11-22"]),
        ("tomorrow please", ["2026-11-23"]),
        ("3 days ago", ["2026-11-19"]),
        ("two weeks ago", ["2026-11-08"]),
        ("twenty-two days ago", ["2026-10-31"]),
        ("thirty days ago", ["2026-10-23"]),
        ("fıve days ago", ["2026-11-17"]),  # a Turkish keyboard
        ("yeſterday", ["2026-11-21"]),
        ("last Friday", ["2026-11-20"]),
        ("last sunday", ["2026-11-15"]),
        ("next tue", ["2026-11-24"]),
        ("can I bring it in on saturday?", ["2026-11-28"]),
        ("on Saturday, please", ["2026-11-28"]),
        ("will it be delivered on Friday?", ["2026-11-27"]),
        ("it arrived on Saturday", ["2026-11-21"]),
        ("on Saturday it was still here", ["2026-11-21"]),
        ("I want to return what I bought on Saturday", ["2026-11-21"]),
        ("I ordered a tent, can I fetch it on Saturday?", ["2026-11-28"]),
        ("can I get it delivered on Friday?", ["2026-11-27"]),
        ("I have returned it on Friday", ["2026-11-20"]),
        ("I ordered it Friday", ["2026-11-20"]),
        ("周五买的", ["2026-11-20"]),
        ("周六能送达吗", ["2026-11-28"]),
        ("on 25/12/2026", ["2026-12-25"]),
        ("on 12/25/26", ["2026-12-25"]),
        ("on 5.5.2026", ["2026-05-05"]),
        ("3月12日下的单", ["2027-03-12"]),
        ("2026年3月12日", ["2026-03-12"]),
        ("昨天买的", ["2026-11-21"]),
        ("大前天", ["2026-11-19"]),
        ("三天前", ["2026-11-19"]),
        ("2周之前", ["2026-11-08"]),
        ("十五天前", ["2026-11-07"]),
        ("二十天前", ["2026-11-02"]),
        ("二十五天前", ["2026-10-28"]),
        ("上周五", ["2026-11-13"]),
        ("这周一", ["2026-11-16"]),
        ("下周日", ["2026-11-29"]),
        ("下下周五", ["2026-12-04"]),
        ("下個禮拜五", ["2026-11-27"]),
        ("後天", ["2026-11-24"]),
        ("on 03/04/2026", []),  # two readings
        ("两三天前", []),
        ("5-7 days ago", []),
        ("1.5 weeks ago", []),
        ("2026-02-30", []),
        ("31 June", []),
        ("version 2026.1", []),
        ("10/12 would recommend", []),
        ("may 20% be off?", []),
        ("march on", []),
        ("every friday", []),
        ("每周五送达", []),
        ("两周一次收到", []),
        ("Sun shade", []),
        ("24/7", []),
        ("192.168.10.12", []),
        ("12:30", []),
        ("第3月台", []),
    ],
)
def test_dates(text: str, expected: list[str]) -> None:
    assert values(text, "date") == expected


def test_29_february_is_read_in_the_nearest_leap_year() -> None:
    assert values("29 February", "date") == []  # none within a year of November 2026
    leap = datetime(2028, 1, 10, tzinfo=UTC)
    assert [entity.value for entity in find_entities("29 February", leap)] == ["2028-02-29"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("charged $49.99", ["49.99 USD"]),
        ("€ 20", ["20 EUR"]),
        ("1.200,50 €", ["1200.50 EUR"]),
        ("£1,200", ["1200 GBP"]),
        ("20 euros", ["20 EUR"]),
        ("20 dollarſ", ["20 USD"]),
        ("49.9 dollars", ["49.90 USD"]),
        ("¥199", ["199 CNY"]),
        ("扣了199元", ["199 CNY"]),
        ("一共100块钱", ["100 CNY"]),
        ("人民币 300", ["300 CNY"]),
        ("US$ 30", ["30 USD"]),
        ("C$86.40", ["86.40 CAD"]),
        ("$0", []),
        ("20%", []),
        ("20 pieces", []),
        ("a 5 lb bag", []),
        ("$", []),
        ("45 eurostar tickets", []),
        ("100块砖", ["100 CNY"]),  # known to be wrong: a measure word looks like the currency
    ],
)
def test_amounts(text: str, expected: list[str]) -> None:
    assert values(text, "amount") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call +1 (415) 555-0132", ["+14155550132"]),
        ("+47 22 33 44 55", ["+4722334455"]),
        ("我的手机13812345678", ["13812345678"]),
        ("138 1234 5678", ["13812345678"]),
        ("my number is 415-555-0132", ["4155550132"]),
        ("phone 0415555013", ["0415555013"]),
        ("0415555013", []),  # digits alone are anything
        ("order 13812345678", []),
        ("card 4111 1111 1111 1111", []),
        ("tracking 415-555-0132", []),
        ("2026-11-22", []),
        ("10.5.2026", []),
    ],
)
def test_phone_numbers(text: str, expected: list[str]) -> None:
    assert values(text, "phone") == expected


def test_being_asked_is_context() -> None:
    assert values("4482913", "order_number") == []
    assert values("4482913", "order_number", expected="order_number") == ["4482913"]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("Friday", "date", "2026-11-27"),
        ("星期六吧", "date", "2026-11-28"),
        ("129.50", "amount", "129.50"),
        ("1,200", "amount", "1200"),
        ("it was 2 lamps", "amount", ""),
        ("010-12345678", "phone", "01012345678"),
        ("(0755) 1234567", "phone", "07551234567"),
        ("030 1234567", "phone", "0301234567"),
    ],
)
def test_what_alone_is_nothing_answers_a_question_for_it(text: str, kind: EntityKind, expected: str) -> None:
    assert slot_value(text, kind, "", NOW) == expected
    assert not [entity for entity in find_entities(text, NOW) if entity.kind == kind]


def test_a_company_format_replaces_ours() -> None:
    """With a format of its own, the company's order AB-48291 is no longer one."""
    patterns = (("order_number", r"NL-\d{6}"),)
    found = find_entities("order AB-48291 or nl-204881, not NL-2048811 or XNL-204881", NOW, patterns)  # type: ignore[arg-type]
    assert [(entity.value, entity.why) for entity in found] == [("NL-204881", "company format, near 'order'")]


def test_a_format_with_its_own_flags_and_lookarounds_works() -> None:
    pattern = r"(?i)(?<![A-Za-z0-9])L[MS][ -]?\d{6}(?!\d)"
    for text in ("LM482913", "my order lm 482913?", "LM-482913在哪", "订单LM482913到哪了"):
        assert [entity.value for entity in find_entities(text, NOW, (("order_number", pattern),))] == ["LM482913"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NL-204881", "NL-204881"),
        ("it's nl 204 881", "NL-204881"),
        ("NL204881 I think", "NL-204881"),
        ("NL–204881", "NL-204881"),
        ("ＮＬ－２０４８８１", "NL-204881"),
        ("NL-20488", ""),
        ("204881", ""),
        ("I do not have it", ""),
        ("NL-204881 or NL-204882", "NL-204881"),
    ],
)
def test_a_slot_is_read_more_forgivingly(text: str, expected: str) -> None:
    assert slot_value(text, "order_number", r"NL-\d{6}", NOW) == expected


def test_spans_point_into_the_text_as_it_was_written() -> None:
    text = "写给 ａｂ@x.cn，订单１２３４５６"
    for entity in find_entities(text, NOW):
        assert entity.end - entity.start == len(text[entity.start : entity.end]) > 0
    assert [text[entity.start : entity.end] for entity in find_entities(text, NOW)] == ["ａｂ@x.cn", "１２３４５６"]


@given(st.text(alphabet="aZ09 .,-/@#+()$€¥元月日年前天上周五order一\n", max_size=80))
def test_entities_never_overlap_and_always_have_a_reason(text: str) -> None:
    end = 0
    for entity in find_entities(text, NOW):
        assert entity.kind in KINDS
        assert end <= entity.start < entity.end <= len(text)
        assert entity.value and entity.why and ACCEPTED <= entity.score <= 1
        end = entity.end
