"""Words, content words and sentences with their places."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.words import chinese_share, content_words, folded, names_in, sentences, stem, tokens


def cut(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


def test_tokens_of_both_scripts() -> None:
    assert tokens("Don’t ship LM-42 到北京!") == ["don't", "ship", "lm", "42", "到北", "北京"]
    assert tokens("灯") == ["灯"]
    assert tokens("...") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("refunds", "refunded"), ("shipping", "shipped"), ("ship", "shipping"), ("policies", "policy"), ("18th", "18"),
     ("customer's", "customers"), ("charge", "charging"), ("planned", "plan"), ("returns", "return")],
)  # fmt: skip
def test_forms_of_a_word_meet(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other"), [("glass", "glas"), ("bus", "b"), ("ring", "r"), ("退", "货"), ("1st", "2nd")]
)
def test_different_words_stay_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_content_words_leave_grammar_out() -> None:
    assert content_words("Hi, can you please tell me what the refund is?") == ["refund"]
    assert content_words("请问我的退款") == ["的退", "退款"]
    assert content_words("what do I do?") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs $4.50. Really.", ["It costs $4.50.", "Really."]),
        ("Ask Dr. Berg, e.g. by mail. Yes.", ["Ask Dr. Berg, e.g. by mail.", "Yes."]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("灯坏了。怎么办？谢谢！", ["灯坏了。", "怎么办？", "谢谢！"]),
        ("灯坏了!怎么办?谢谢", ["灯坏了!", "怎么办?", "谢谢"]),
        ("see x.example/?a=b!c", ["see x.example/?a=b!c"]),
        ("a wrapped\nline goes on. Next\nLine", ["a wrapped\nline goes on.", "Next", "Line"]),
        ("You need:\n- a lamp. With a bulb.\n- a plug", ["You need:", "- a lamp. With a bulb.", "- a plug"]),
        ("1. Switch off. Wait.\n2. Pull", ["1. Switch off. Wait.", "2. Pull"]),
        ("Lamp | Price\nBasin | $4. Or less.", ["Lamp | Price", "Basin | $4. Or less."]),
        ("What?! ...", ["What?! ..."]),
        ("...", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_items_and_rows_are_marked() -> None:
    spans = sentences("Text.\n- item\n2) item\n| a | b\nc | d\nText - not an item")
    assert [span.item for span in spans] == [False, True, True, True, True, False]


@given(st.text(alphabet="aB. \n?!。-|1:", max_size=120))
def test_sentences_are_in_order_and_lose_no_word(text: str) -> None:
    end = 0
    for span in sentences(text):
        assert end <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        end = span.end
    said = "".join("".join(cut(text)).split())
    assert [c for c in said if c.isalnum()] == [c for c in text if c.isalnum()]


def test_chinese_share() -> None:
    assert chinese_share("退款 refund") == pytest.approx(2 / 8)
    assert chinese_share("123 !") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("check whether my Steam gift card was redeemed", ["Steam"]),
        ("How do I tell Service Canada about my address", ["Service", "Canada"]),
        ("My TD bank app won't let me in", ["TD"]),
        ("CAA members get a discount, don't they?", ["CAA"]),
        ("is it O'Neill or Patagonia", ["O'Neill", "Patagonia"]),
        ("我的Steam礼品卡", []),  # no spaces, no telling
        ("Spotify renewed my plan", []),  # begins the sentence, as any word may
        ("Yes. Really! Where: Here\nThere", []),
        ("it was sent to Thunder Bay", []),
        ("I live in Winnipeg, near Lake Head", []),
        ("came on Monday, the 3rd of March", []),
        ("NL-204881 and LM204881 and K.Osei@Example.org and https://X.example/Y", []),
        ("WHERE IS MY ORDER FROM BEST BUY", []),
        ("I think I've got it", []),
        ("", []),
    ],
)
def test_names(text: str, expected: list[str]) -> None:
    assert [name for name, _ in names_in(text)] == expected
    assert all(text[start:].startswith(name) for name, start in names_in(text))


@pytest.mark.parametrize("before", ['"' * 2000, "(" * 2000, ". " * 1000, "X-to " * 400])
def test_looking_for_names_takes_no_long(before: str) -> None:
    """What stands before each name is not read from the beginning again: that took ten seconds for one message."""
    start = time.process_time()
    assert len(names_in(f"{before} x " + "Abcd " * 390)) == 390
    assert time.process_time() - start < 0.5


def test_folding_keeps_every_place() -> None:
    text = "Ｏ’ｋ，—我要轉接客服ı"
    assert folded(text) == "O'k,-我要转接客服i"
    assert all(len(folded(chr(code))) == 1 for code in range(0xD800))
