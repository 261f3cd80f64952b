"""Placeholders: the same value the same number, nothing left, nothing masked twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.masking import Masked, MaskingReport, mask, mask_texts
from finetune.personal import find_personal
from tests.finetune.test_personal import messages

CARD = "4111 1111 1111 1111"


def test_a_value_keeps_its_number_through_a_conversation() -> None:
    texts = (
        "I'm Ann Berg, ann@example.com, or call +47 22 85 50 50",
        "Hi Ann, is it ANN@example.com or ann.b@example.com?",
        "the first. and my other phone is +47 22 85 50 51",
        "Thanks Ann! Regards, Tom Alder",
    )
    masked, counts = mask_texts(texts)
    assert masked == (
        "I'm [name-1], [email-1], or call [phone-1]",
        "Hi [name-1], is it [email-1] or [email-2]?",
        "the first. and my other phone is [phone-2]",
        "Thanks [name-1]! Regards, [name-2]",
    )
    assert counts == {"name": 4, "email": 3, "phone": 2}


def test_a_name_introduced_late_is_masked_where_it_stood_before() -> None:
    masked, _ = mask_texts(("Priya told me to write", "who is that?", "my name is Priya"))
    assert masked == ("[name-1] told me to write", "who is that?", "my name is [name-1]")


def test_the_parties_that_an_export_names_are_masked() -> None:
    masked, counts = mask_texts(("ann berg here", "Hello Ann, Tom speaking"), ("Ann Berg", "Tom Alder"))
    assert masked == ("[name-1] here", "Hello [name-1], [name-2] speaking")
    assert counts == {"name": 3}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("Ann", "Ann Berg", "Ann Lee", "Berg", "Ann"), (1, 1, 2, 1, 1)),
        (("Ann Berg", "Ann Lee", "Ann", "Ann Lee"), (1, 2, 3, 2)),
        (("Mr. Berg", "Al Berg", "Tom Berg", "Berg"), (1, 1, 2, 1)),
        (("王先生", "王小明", "王小红"), (1, 1, 2)),
    ],
)
def test_two_people_who_share_a_name_have_two_numbers(said: tuple[str, ...], expected: tuple[int, ...]) -> None:
    masked, _ = mask_texts(said, said)
    assert masked == tuple(f"[name-{number}]" for number in expected)


def test_conversations_know_nothing_of_each_other() -> None:
    assert mask("b@example.com")[0] == mask("a@example.com")[0] == "[email-1]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail me at ann.b+c@mail.example.co.uk now", "mail me at [email-1] now"),
        (f"card {CARD} please", "card [card-1] please"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [iban-1]."),
        ("call +47 22 85 50 50 or (415) 555-2671", "call [phone-1] or [phone-2]"),
        ("call 020 7946 0958", "call [phone-1]"),
        ("ann\u200b@example.com", "[email-1]"),
        ("41\u200b11 1111 1111\u00ad 1111 is my card", "[card-1] is my card"),
        ("order 4111111111111112 and 12345678, 2026-11-22, 10:30", None),
        ("version 1.2.3, SKU DE12ABCD, 3 for 2", None),
        ("was [email-4], is ann@example.com", "was [email-4], is [email-5]"),
        ("[email-99999999999999999999] ann@example.com", "[email-99999999999999999999] [email-1]"),
    ],
)
def test_personal_values_are_masked_and_the_rest_stays(text: str, expected: str | None) -> None:
    masked, _ = mask(text)
    assert masked == (expected or text)
    assert mask(masked) == (masked, {})


def test_masking_the_marked_messages_twice_changes_nothing() -> None:
    rows = messages("seen") + messages("unseen")
    for text, _ in rows:
        once, counts = mask(text)
        assert mask(once) == (once, {}), text
        assert sum(counts.values()) == len(re.findall(r"\[[a-z-]+-\d+\]", once))


SAID = """ann@example.com +47 22 85 50 50 4111111111111111 Ann Berg my name is Regards, 我叫 王小明 先生
12 Elm Street passport X1234567 born 1/2/1990 203.0.113.9 DE89370400440532013000 [email-1] [name-2] at dot order # (
) [ ] - 0 1 . ,"""
PIECES = (*SAID.split(), "\n")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map(" ".join), max_size=4))
def test_whatever_is_said_nothing_personal_is_left_and_masking_again_changes_nothing(texts: list[str]) -> None:
    masked, counts = mask_texts(texts)
    assert all(not find_personal(text) for text in masked)
    assert mask_texts(masked) == (masked, {})
    assert len(masked) == len(texts) and sum(counts.values()) >= 0


def test_the_report_counts_values_and_conversations_and_holds_no_value() -> None:
    report = MaskingReport()
    for texts in (("a@example.com b@example.com",), ("a@example.com", f"card {CARD}"), ("nothing",)):
        report.add(mask_texts(texts)[1])
    assert report.kinds() == (Masked("card", 1, 1), Masked("email", 3, 2))


def test_fixtures_hold_what_they_say() -> None:
    assert (Path(__file__).parent / "fixtures" / "personal_seen.txt").read_text("utf-8").count("«") > 80
