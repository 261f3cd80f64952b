"""The words of each decision, in both languages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.conversation.answers import Answer, NextTopic, Writer, article_link
from bot.conversation.entities import find_entities
from bot.conversation.messages import (
    Approved,
    AskFor,
    Citation,
    Clarify,
    Decision,
    Grounded,
    HandOver,
    NotKnown,
    Part,
    SmallTalk,
    Understanding,
)
from bot.conversation.signals import find_signals
from bot.conversation.state import NEVER_MIND, State
from retriever.passages import Hit, Line
from tests.bot.conversation.fakes import NOW, hit, playbook

WRITER = Writer(playbook())


def part(
    decision: Decision,
    *,
    text: str = "What now?",
    hits: tuple[Hit, ...] = (),
    language: str = "en",
    intent: str | None = None,
) -> Part:
    entities = (*find_entities(text, NOW), *find_signals(text))
    return Part(text, Understanding(intent, 0.9, (), 0.0, entities, language, "v"), hits, decision)


def say(*decisions: Decision, language: str = "en", state: State | None = None) -> Answer:
    return WRITER.answer([part(decision, language=language) for decision in decisions], state or State())


def test_an_approved_answer_is_word_for_word_with_its_slots() -> None:
    answer = say(Approved("order_status", (("order_number", "NL-123456"),)))
    assert answer.chunks == ("Order NL-123456: follow it at tidewater.example/track with your e-mail address.",)
    assert answer.status == "approved"
    assert answer.citations == (Citation("Where is my order?", "/articles/shipping/track.md", "", ""),)
    assert answer.suggestions == ("Can I cancel my order?",)


def test_a_value_that_looks_like_a_placeholder_is_only_a_value() -> None:
    answer = say(Approved("duplicate_charge", (("order_number", "{amount}"), ("amount", "{order_number}"))))
    assert answer.chunks[0].startswith("We check the second charge of {order_number} on order {amount}.")


def test_an_approved_answer_cites_the_passage_and_the_language_that_search_found() -> None:
    found = hit("Track.", source="shipping/track.md", name="p9")
    chinese = hit("物流。", source="zh/shipping/track.md", name="p8")
    decision = Approved("order_status", (("order_number", "NL-123456"),))
    cited = WRITER.answer([part(decision, hits=(hit("x"), found, chinese))], State()).citations
    assert [one.url for one in cited] == ["/articles/shipping/track.md#p-p9"]
    cited = WRITER.answer([part(decision, hits=(found, chinese), language="zh")], State()).citations
    assert [one.url for one in cited] == ["/articles/zh/shipping/track.md#p-p8"]


def test_a_citation_opens_the_place_or_the_companys_own_page() -> None:
    assert article_link("care/my lamps & co.md", "ab12") == "/articles/care/my%20lamps%20%26%20co.md#p-ab12"
    assert article_link("answers.csv#q3") == "/articles/answers.csv%23q3"
    found = hit("Bulbs are E14.", source="care.md", name="p1")
    object.__setattr__(found.passage, "url", "https://tidewater.example/care")
    (citation,) = WRITER.answer([part(Grounded((found,)))], State()).citations
    assert citation == Citation("A", "https://tidewater.example/care", "Bulbs are E14.", "p1")


def test_two_sources_are_numbered() -> None:
    one = hit("Parcels to Sweden cost 99 kr.", 0.9, name="one")
    two = hit("Returns are free within thirty days.", 0.8, name="two")
    asked = part(Grounded((one, two)), text="cost of parcels, and free returns within how many days?")
    answer = WRITER.answer([asked], State())
    assert answer.chunks == ("Parcels to Sweden cost 99 kr. [1]\n\nReturns are free within thirty days. [2]",)
    assert [citation.passage for citation in answer.citations] == ["one", "two"]


def test_sources_are_numbered_as_they_are_listed_whatever_part_cites_them() -> None:
    """A reader opens source 2 where the text says [2]; each part once counted its own from 1."""
    one, two = (
        hit("Parcels to Sweden cost 99 kr.", 0.9, name="one"),
        hit("Returns are free for a month.", 0.8, name="two"),
    )
    asked = part(Grounded((one, two)), text="cost of parcels, and free returns for how many days?")
    other = hit("Returns are free for a month.", 0.9, name="two")
    again = part(
        Grounded((other, hit("Bulbs are E14.", 0.8, name="three", source="b.md"))), text="free returns? bulbs?"
    )
    answer = WRITER.answer([part(Approved("return_lamp")), asked, again], State())
    assert [citation.passage for citation in answer.citations] == ["", "one", "two", "three"]
    assert "cost 99 kr. [2]\n\nReturns are free for a month. [3]" in answer.chunks[1]
    assert "Returns are free for a month. [3]\n\nBulbs are E14. [4]" in answer.chunks[2]


def test_what_two_questions_need_is_asked_for_once() -> None:
    answer = say(AskFor("order_status", "order_number"), AskFor("duplicate_charge", "order_number"))
    assert answer.chunks == ("What is your order number? It looks like NL-123456.",)
    assert len(say(AskFor("order_status", "order_number"), AskFor("duplicate_charge", "amount")).chunks) == 2


def test_a_follow_up_is_quoted_with_the_question_before_in_mind() -> None:
    text = "Lamps are red. " * 20 + "The cable is long. " + "Shades are white. " * 20
    state = State(lines=(Line("customer", "tell me about the cable"), Line("bot", "yes?")))
    answer = WRITER.answer([part(Grounded((hit(text),)), text="and how is it?")], state)
    assert "The cable is long." in answer.chunks[0]


@pytest.mark.parametrize(
    ("decision", "language", "text"),
    [
        (SmallTalk("greeting"), "en", "Hello! What can I do for you?"),
        (SmallTalk(NEVER_MIND), "en", "All right, I have stopped that. What else can I help you with?"),
        (SmallTalk(NEVER_MIND), "zh", "好的，已取消。还有什么可以帮您？"),
        (AskFor("order_status", "order_number"), "en", "What is your order number? It looks like NL-123456."),
        (AskFor("order_status", "order_number", problem="x"), "zh", "这不是我们的订单号，格式应为 NL-123456。"),
        (
            Clarify(("order_status", "cancel_order")),
            "en",
            "Did you mean:\n1. Where is my order?\n2. Can I cancel my order?",
        ),
        (NotKnown(), "en", "I did not find that in our help articles. Shall I ask a colleague to join?"),
        (NotKnown(), "zh", "我在帮助文章里没有找到答案。需要转接人工客服吗？"),
        (NotKnown(), "fr", "I did not find that in our help articles. Shall I ask a colleague to join?"),
        (HandOver("asked"), "en", "I have asked a colleague to join. They will answer here."),
        (HandOver("angry"), "en", "I am sorry. I have asked a colleague to take care of this now."),
        (HandOver("error"), "zh", "我们这边出了点问题，已经通知同事查看您的问题。"),
    ],
)
def test_the_words_of_a_decision(decision: Decision, language: str, text: str) -> None:
    assert say(decision, language=language).chunks == (text,)


def test_an_intent_that_hands_over_says_so_in_its_own_words() -> None:
    answer = WRITER.answer([part(HandOver("policy"), intent="injury")], State())
    assert answer.chunks[0].startswith("If anybody needs help now, call 113.")


def test_while_waiting_the_truth_is_told_again() -> None:
    answer = say(HandOver("asked"), state=State(waiting="asked"))
    assert (answer.status, answer.suggestions) == ("waiting", ())
    assert answer.chunks[0].startswith("A colleague has been asked to join")


def test_whoever_waits_out_of_hours_is_told_so() -> None:
    book = playbook()
    away = replace(book.texts[0], reasons=(*book.texts[0].reasons, ("hours", "We are back at nine.")))
    writer = Writer(replace(book, texts=(away, book.texts[1])))
    state = State(waiting="hours", away=True)
    told = writer.answer([part(HandOver("hours"))], state)
    assert (told.chunks, told.status) == (("We are back at nine.",), "waiting")
    assert say(HandOver("hours"), state=state).chunks[0].startswith("A colleague has been asked")
    open_again = writer.answer([part(HandOver("hours"))], replace(state, away=False))
    assert open_again.chunks[0].startswith("A colleague has been asked"), "they asked at night, and it is morning"


@pytest.mark.parametrize(
    ("decision", "intent", "text"),
    [
        (HandOver("hours"), "talk_to_person", "We are back at nine."),
        (HandOver("angry"), "order_status", "We are back at nine."),
        (HandOver("not_known_twice"), None, "We are back at nine."),
        (HandOver("policy"), "injury", "If anybody needs help now, call 113."),
    ],
)
def test_nobody_is_said_to_come_who_is_not_in(decision: HandOver, intent: str | None, text: str) -> None:
    """What a company says of the matter itself is said at any hour."""
    book = playbook()
    texts = replace(book.texts[0], reasons=(*book.texts[0].reasons, ("hours", "We are back at nine.")))
    writer = Writer(replace(book, texts=(texts, book.texts[1])))
    told = writer.answer([part(decision, intent=intent)], State(away=True))
    assert "".join(told.chunks).startswith(text) and "".join(told.chunks).endswith("We are back at nine.")
    assert told.status == "handed_over"
    assert "back at nine" not in "".join(writer.answer([part(replace(decision, reason="asked"))], State()).chunks)


def test_an_answer_that_ends_in_a_hand_over_is_not_followed_by_another() -> None:
    answer = say(Approved("duplicate_charge", (("order_number", "NL-1"), ("amount", "20 USD"))), HandOver("policy"))
    assert answer.chunks == ("We check the second charge of 20 USD on order NL-1. A colleague takes over from here.",)
    assert answer.status == "handed_over"


def test_parts_are_chunks_and_the_status_is_the_most_telling() -> None:
    answer = say(Approved("return_lamp"), Approved("shipping_cost"), NotKnown())
    assert (
        answer.chunks[1] == "\n\nTo your other question: Shipping within Norway costs 49 kr, and nothing from 500 kr."
    )
    assert answer.chunks[2] == "\n\nAbout “What now?”: I did not find that in our help articles."
    assert answer.status == "approved"
    assert answer.reply().text == "".join(answer.chunks)
    assert say(Clarify(("order_status", "cancel_order")), NotKnown()).status == "clarified"
    assert say(Approved("return_lamp"), AskFor("order_status", "order_number")).status == "asked"


def test_a_long_open_question_is_named_shortly() -> None:
    parts = [part(Approved("return_lamp")), part(NotKnown(), text="Why " + "very " * 50 + "red?")]
    assert len(WRITER.answer(parts, State()).chunks[1]) < 180


def test_an_angry_customer_is_offered_a_person_beside_the_answer() -> None:
    answer = WRITER.answer([part(Approved("return_lamp"), text="this is ridiculous")], State())
    assert answer.suggestions == ("Talk to a person",)


def test_suggestions_leave_out_what_was_just_answered_and_are_few() -> None:
    answer = say(Approved("cancel_order"), Approved("order_status", (("order_number", "NL-1"),)))
    assert answer.suggestions == ("Talk to a person",)
    assert len(say(Clarify(("order_status", "cancel_order", "return_lamp", "injury"))).suggestions) == 3


def test_an_intent_or_slot_that_left_the_playbook_is_admitted() -> None:
    """A turn in progress may name what a newer playbook no longer has."""
    assert say(Approved("gone")).chunks == ("I did not find that in our help articles.",)
    assert say(AskFor("order_status", "gone")).chunks == ("I did not find that in our help articles.",)


def test_what_others_asked_next_comes_before_what_the_playbook_offers() -> None:
    learnt = {
        "intent:order_status": (NextTopic("return_lamp"), NextTopic("", "Care of lamps", "en")),
        "article:care.md": (NextTopic("", "灯具保养", "zh"), NextTopic("cancel_order")),
    }
    writer = Writer(playbook(), also_asked=lambda topic: learnt.get(topic, ()))
    status = Approved("order_status", (("order_number", "NL-123456"),))
    return_lamp = writer.playbook.intent("return_lamp")
    assert return_lamp is not None
    assert writer.answer([part(status)], State()).suggestions == (
        return_lamp.title.in_language("en"),
        "Care of lamps",
        "Can I cancel my order?",
    )
    quoted = Grounded((hit("Bulbs are E14.", source="care.md"),))
    assert writer.answer([part(quoted)], State()).suggestions == ("Can I cancel my order?",), "no Chinese title here"
    assert writer.answer([part(quoted, language="zh")], State()).suggestions[0] == "灯具保养"


def test_nothing_is_suggested_that_was_asked_here_already_or_that_the_playbook_lost() -> None:
    nexts = (NextTopic("cancel_order"), NextTopic("gone_since"), NextTopic("talk_to_person"), NextTopic("order_status"))
    writer = Writer(playbook(), also_asked=lambda topic: nexts)
    quoted = Grounded((hit("Bulbs are E14.", source="care.md"),))
    asked = State(lines=(Line("customer", "can i cancel my ORDER?"), Line("bot", "Yes.")))
    assert writer.answer([part(quoted)], asked).suggestions == ("Where is my order?",)
    assert writer.answer([part(HandOver("asked"))], State()).suggestions == ()
