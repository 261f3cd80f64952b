"""Where messages are cut, and where they must not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.messages import LONGEST_TEXT
from bot.conversation.questions import MOST_QUESTIONS, is_question, questions_of
from retriever.passages import Line


def pieces(text: str) -> list[str]:
    """The pieces of a cut message; nothing for one that stays whole."""
    return [query.text for query in questions_of(text, ())][1:]


@pytest.mark.parametrize(
    "text",
    [
        "Hi, I bought X last week. It broke. What do I do?",
        "How do I return it? I bought it last week.",
        "Hi, can you help me? My parcel is lost.",
        "my tent arrived broken!!! what now?? seriously?",
        "I lost my card and my phone what do i do",
        "Tell me what it is and how it works",
        "It costs $4.50, e.g. in your shop on Main St. in Oslo. Is that right?",
        "didn't give my email at the till, can I still get the 5% for that shop visit",
        "I have not received it, is it lost",
        "Where is NL-204881?",
        "thanks",
        "Where is it? Hello?",
        "你好，请问退款什么时候到账？",
        "我上周买的灯坏了，怎么办？",
        "收到的东西是坏的。盒子压扁了。能退吗？",
        "LM510022 / mila@example.org",
    ],
)
def test_one_question_stays_whole(text: str) -> None:
    assert pieces(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where is my order? And how do I cancel it?", ["Where is my order?", "And how do I cancel it?"]),
        ("What is the price and how long does it take?", ["What is the price", "and how long does it take?"]),
        ("do you ship to canada, and what does it cost", ["do you ship to canada", "and what does it cost"]),
        (
            "I bought a lamp. Can I return it? I also want a new one. Which bulb does it need?",
            ["I bought a lamp. Can I return it?", "I also want a new one.", "Which bulb does it need?"],
        ),
        (
            "I want to cancel my order. I also need an invoice.",
            ["I want to cancel my order.", "I also need an invoice."],
        ),
        ("I’d like a refund. I’d also like an invoice.", ["I’d like a refund.", "I’d also like an invoice."]),
        ("NL-204881. Also, what does shipping cost?", ["NL-204881.", "Also, what does shipping cost?"]),
        ("Where is my lamp?\nHow do I return it?", ["Where is my lamp?", "How do I return it?"]),
        ("退款多久到账？怎么开发票？", ["退款多久到账？", "怎么开发票？"]),
        ("退款多久到账?怎么开发票?", ["退款多久到账?", "怎么开发票?"]),
        ("這個防水嗎，還有送電池嗎", ["這個防水嗎", "還有送電池嗎"]),
        ("退款多久到账，另外怎么开发票？", ["退款多久到账", "另外怎么开发票？"]),
        ("这个防水吗，送电池吗", ["这个防水吗", "送电池吗"]),
    ],
)
def test_two_questions_are_cut(text: str, expected: list[str]) -> None:
    assert [piece for piece in pieces(text) if piece] == expected


def test_the_whole_message_comes_first_and_later_pieces_know_the_earlier() -> None:
    history = (Line("customer", "hello"), Line("bot", "hi"))
    whole, first, second = questions_of("Where is my lamp order? And how do I cancel the lamp?", history)
    assert whole.text.startswith("Where is my lamp order? And")
    assert whole.history == first.history == history
    assert second.history == (*history, Line("customer", "Where is my lamp order?"))


def test_at_most_so_many_questions() -> None:
    text = " ".join(f"What is the price of lamp number {n}?" for n in range(9))
    assert len(pieces(text)) == MOST_QUESTIONS
    assert pieces(text)[-1].endswith("number 8?")


def test_a_long_story_leaves_the_question_readable() -> None:
    """What leads up to a question is cut to what an encoder can hold; the question itself stays."""
    story = "It was a dark and stormy night in the north. " * 60
    (query,) = questions_of(f"{story} Can I return the lamp?", ())
    assert query.text.endswith("Can I return the lamp?")
    assert len(query.text) < 900


def test_of_an_endless_message_the_beginning_and_the_end_are_read() -> None:
    (query,) = questions_of("begin " + "x" * 20_000 + " end", ())
    assert query.text.startswith("begin")
    assert len(query.text) <= LONGEST_TEXT


def test_only_recent_lines_are_history() -> None:
    history = tuple(Line("customer", str(n)) for n in range(50))
    assert [line.text for line in questions_of("and now?", history)[0].history] == [str(n) for n in range(38, 50)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("how long", True), ("Is it ok", True), ("ok and where is it", True), ("the red one?", True), ("多久", True),
        ("可以退吗", True), ("可以退嗎", True), ("怎麼退", True),
        ("请问运费", True), ("NL-204881", False), ("it broke", False), ("did not arrive", False),
        ("didn't work", False), ("what’s the return policy", True),
        ("have not got it", False), ("have you got it", True), ("昨天买的", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_a_question(text: str, expected: bool) -> None:
    assert is_question(text) is expected


@given(st.text(alphabet="ab?.!,\n 吗，。and how1-@", max_size=200))
def test_cutting_loses_no_word(text: str) -> None:
    queries = questions_of(text, ())
    assert queries
    if len(queries) > 1:
        words = "".join(character for query in queries[1:] for character in query.text if character.isalnum())
        assert words == "".join(character for character in text if character.isalnum())
