"""Which reply answered which question."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.dialogues import Dialogue, Spoken
from finetune.examples import MAX_TEXT, Example
from finetune.pairing import answer_in, answers, examples_from, is_chatter

SHIPS = "Yes, we ship to Norway within five days."


def rows(*turns: tuple[str, str] | tuple[str, str, str]) -> list[Example]:
    return list(examples_from(Dialogue("c1", tuple(Spoken(*turn) for turn in turns))))


def test_replies_become_rows_with_their_history() -> None:
    first, second = rows(
        ("agent", "Welcome!"),
        ("customer", "hi"),
        ("customer", "where is my parcel?"),
        ("agent", "What is your e-mail?", "ask_email"),
        ("customer", "a@b.c, and do you ship to Norway?"),
        ("agent", SHIPS),
        ("customer", "great"),
    )
    assert (first.text, first.intent, first.answer) == ("where is my parcel?", "ask_email", "")
    assert first.history == (("agent", "Welcome!"),)
    assert (second.text, second.intent, second.answer) == ("a@b.c, and do you ship to Norway?", None, SHIPS)
    assert second.history[-1] == ("agent", "What is your e-mail?") and len(second.history) == 4
    assert {row.group for row in (first, second)} == {"conversation:c1"}


def test_greetings_are_dropped_where_there_is_more_and_kept_where_an_agent_labelled_them() -> None:
    (greeting,) = rows(("customer", "hi there!"), ("agent", "Hello, how can I help?", "greeting"))
    assert (greeting.text, greeting.intent, greeting.answer) == ("hi there!", "greeting", "")
    (chinese,) = rows(("customer", "你好，在吗"), ("customer", "几点关门？"), ("agent", "我们晚上九点关门。"))
    assert (chinese.text, chinese.answer) == ("几点关门？", "我们晚上九点关门。")
    assert rows(("customer", "谢谢！"), ("agent", "不客气，祝您生活愉快，欢迎再来我们店里看看。")) == []


def test_replies_in_a_row_count_as_one_and_chatter_in_them_is_left_out() -> None:
    (row,) = rows(
        ("customer", "do you ship to Norway?"),
        ("agent", "Hi! Thanks for your message. One moment please, let me check."),
        ("agent", "Yes, we do."),
        ("agent", "It takes five days. Is there anything else I can help with?", "shipping_time"),
        ("customer", "thanks"),
    )
    assert row.intent == "shipping_time" and row.answer == "Yes, we do.\nIt takes five days."


def test_what_is_answered_after_asking_back_answers_the_question_before() -> None:
    """The answer goes to the question; the order number that came between is no question of its own."""
    (row,) = rows(
        ("customer", "where is my parcel?"),
        ("agent", "Could you tell me your order number? It starts with LM, for example LM482913."),
        ("customer", "LM482007"),
        ("agent", "Let me check that for you."),
        ("customer", "ok"),
        ("agent", "It left Oslo this morning and comes on Thursday."),
    )
    assert (row.text, row.history) == ("where is my parcel?", ())
    assert row.answer == "It left Oslo this morning and comes on Thursday."


def test_after_thanks_and_after_the_next_question_nothing_answers_the_old_one() -> None:
    asked = (("customer", "where is my parcel?"), ("agent", "I don't know, sorry."))
    assert rows(*asked, ("customer", "thanks anyway"), ("agent", "It is a nice day in Oslo today.")) == []
    (row,) = rows(*asked, ("customer", "do you ship to Norway?"), ("agent", SHIPS))
    assert row.text == "do you ship to Norway?"


def test_what_a_bot_says_is_history_and_no_answer() -> None:
    (row,) = rows(
        ("customer", "do you ship to Norway?"),
        ("bot", "Our team replies within two hours on weekdays."),
        ("agent", SHIPS),
        ("customer", "and to Sweden as well?"),
        ("bot", "Our team replies within two hours on weekdays."),
    )
    assert row.answer == SHIPS


@pytest.mark.parametrize(
    ("question", "reply", "expected"),
    [
        ("do you ship to Norway?", SHIPS, True),
        ("how do I return a broken lamp", "Send it back within 30 days with the slip.", True),
        ("I want to return a lamp", "Send it back within 30 days with the slip.", True),
        ("你们周日开门吗？可以退货吗?", "我们周日不开门，请周一再来，退货需要小票。", True),
        ("几点关门", "晚上九点关门。", True),
        ("帮我取消订单", "六十分钟内可以在订单页面取消。", True),
        ("ok?", SHIPS, False),
        ("my lamp is broken and I am angry", "Send it back within 30 days with the slip.", True),
        ("my lamp is broken", "Send it back within 30 days with the slip.", False),
        ("thanks a lot, you were really kind", "Send it back within 30 days with the slip.", False),
        ("好的，谢谢您的帮助", "我们周日不开门，请周一再来，退货需要小票。", False),
        ("do you ship to Norway?", "Yes.", False),
        ("do you ship to Norway?", "Hello and welcome to our friendly shop chat.", False),
        ("do you ship to Norway?", "Which city in Norway do you mean?", False),
        ("你们发货到挪威吗？", "请问您在哪个城市呢？", False),
    ],
)
def test_only_replies_that_say_something_are_answers(question: str, reply: str, expected: bool) -> None:
    assert answers(question, reply) is expected


@pytest.mark.parametrize(
    "reply",
    [
        "I don't know, I'm afraid.",
        "Sorry, I do not know that.",
        "I'm not sure about the weight of that one.",
        "Hm, no idea to be honest with you.",
        "I can't find a reliable answer to that in our articles. You can put it another way.",
        "Let me check that for you, one moment please.",
        "I'll ask a colleague and come back to you.",
        "I will look into it and get back to you tomorrow.",
        "We'll forward this to our payments team right away.",
        "I'm bringing in a person who can read everything above.",
        "Please wait while I am checking this for you.",
        "Hold on a second while the page loads here.",
        "A colleague will get back to you within two days.",
        "Could you tell me your order number? It starts with LM and six digits.",
        "Please give me your order number and the e-mail address.",
        "Thank you for contacting us. How can I help you today?",
        "You're welcome! Have a nice day and see you soon.",
        "我不清楚这个问题的答案。",
        "不好意思，我也不太清楚呢，抱歉。",
        "我帮您查一下，请稍等。",
        "请稍等，我去问一下同事。",
        "正在为您转接人工客服，请稍候。",
        "请提供一下您的订单号，我来核实。",
        "您好，请问有什么可以帮您？",
        "不客气，祝您购物愉快！",
    ],
)
def test_not_knowing_checking_asking_back_and_chatter_are_no_answers(reply: str) -> None:
    assert answer_in(reply) == ""


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Hi [name-1]! Sure, you can return it within 30 days.", "Sure, you can return it within 30 days."),
        ("No. Fuel is shipped within Canada only.", "No. Fuel is shipped within Canada only."),
        ("Let me check. It weighs 230 grams with the bag. Shall I reserve one?", "It weighs 230 grams with the bag."),
        ("Hold the filter below the bag for a moment.", "Hold the filter below the bag for a moment."),
        ("The deposit is a hold on your credit card.", "The deposit is a hold on your credit card."),
        ("When I'm not sure I bring in a person.", "When I'm not sure I bring in a person."),
        ("Write to us and we'll look for the parcel.", "Write to us and we'll look for the parcel."),
        ("See larkmoor.example/track: enter the number.", "See larkmoor.example/track: enter the number."),
        ("您好！可以的，满99元包邮。还有其他问题吗？", "可以的，满99元包邮。"),
        ("我帮您查了一下，退款已经到账了。", "我帮您查了一下，退款已经到账了。"),
    ],
)
def test_what_answers_is_kept_word_for_word(reply: str, answer: str) -> None:
    assert answer_in(reply) == answer


@pytest.mark.parametrize(
    "text", ["hi", "Hello there!", "thanks a lot!!", "ok, bye", "你好", "您好，在吗？", "好的谢谢", "嗯嗯", "👍"]
)
def test_chatter_is_chatter(text: str) -> None:
    assert is_chatter(text)


@pytest.mark.parametrize("text", ["refund", "LM482913", "hi, where is it", "yes", "no", "你好漂亮的帐篷多少钱", "退款"])
def test_a_word_that_says_something_is_no_chatter(text: str) -> None:
    assert not is_chatter(text)


def test_origin_consent_and_topics_go_with_every_row() -> None:
    turns = (Spoken("customer", "do you ship to Norway?"), Spoken("agent", SHIPS))
    (row,) = examples_from(Dialogue("c", turns, ("shipping",), (), "slack", False))
    assert (row.origin, row.consent, row.topics) == ("slack", False, ("shipping",))


def test_long_turns_are_cut_to_what_training_reads_again() -> None:
    (row,) = rows(*[("customer", "where is it? " + "x" * 7000)] * 3, *[("agent", SHIPS + " " + "y" * 7000)] * 3)
    assert len(row.text) <= MAX_TEXT and len(row.answer) <= MAX_TEXT


WORDS = [
    "hi",
    "thanks",
    "where",
    "is",
    "it",
    "?",
    ".",
    "!",
    "I",
    "don't",
    "know",
    "let",
    "me",
    "check",
    "你好",
    "谢谢",
    "请稍等",
    "吗",
    "。",
    "order",
    "LM1",
    "\n",
    "[name-1]",
    "welcome",
    "to",
    "ok",
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("customer", "agent", "bot")),
            st.lists(st.sampled_from(WORDS) | st.text(max_size=3), min_size=1, max_size=12).map(" ".join),
            st.sampled_from(("", "", "label")),
        ),
        max_size=8,
    )
)
def test_answers_are_words_of_agents_and_questions_words_of_customers(turns: list[tuple[str, str, str]]) -> None:
    agents = "\n".join(text for speaker, text, _ in turns if speaker == "agent")
    customers = "\n".join(text for speaker, text, _ in turns if speaker == "customer")
    for row in rows(*turns):
        assert set(row.answer.split()) <= set(agents.split())
        assert set(row.text.split()) <= set(customers.split())
        assert row.intent is not None or row.answer


@pytest.mark.parametrize(
    "unit", ["!", "? ", ". ", "thanks ", "welcome to ", "let me check ", "let me pass ", "\n", "好的", "sorry "]
)
def test_no_reply_takes_long(unit: str) -> None:
    start = time.process_time()
    answer_in((unit * 8000)[:8000] + "x")
    is_chatter((unit * 8000)[:8000] + "x")
    assert time.process_time() - start < 5
