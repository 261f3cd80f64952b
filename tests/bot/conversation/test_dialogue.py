"""The rules of the dialogue, one by one, and what becomes of the pieces of a message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.conversation.dialogue import ORDER_OF_ANSWERING, Matter, decide, decide_all, settle
from bot.conversation.entities import EntityKind, find_entities
from bot.conversation.messages import (
    Approved,
    AskFor,
    Candidate,
    Clarify,
    Decision,
    Entity,
    Grounded,
    HandOver,
    NotKnown,
    Part,
    SmallTalk,
    Thresholds,
    Understanding,
)
from bot.conversation.playbook import Intent, Playbook, Slot, Wording
from bot.conversation.signals import find_signals
from bot.conversation.state import ANYTHING_ELSE, NEVER_MIND, NO_TEXT, State
from retriever.passages import Hit
from tests.bot.conversation.fakes import NOW, hit, playbook

BOOK = playbook()
ASKED = AskFor("order_status", "order_number")
GOOD = hit("Bulbs are E14.", 0.8, source="care/bulbs.md")


def matter(
    text: str,
    intent: str | None = None,
    *,
    confidence: float = 0.9,
    runners_up: tuple[tuple[str, float], ...] = (),
    out_of_scope: float = 0.0,
    hits: tuple[Hit, ...] = (),
    state: State | None = None,
    degraded: bool = False,
    language: str = "en",
) -> Matter:
    entities = (*find_entities(text, NOW, BOOK.patterns()), *find_signals(text))
    candidates = tuple(Candidate(name, chance) for name, chance in runners_up)
    meaning = Understanding(intent, confidence if intent else 0.3, candidates, out_of_scope, entities, language, "v")
    return Matter(text, meaning, hits, state or State(), BOOK, Thresholds(), NOW, degraded)


def test_a_confident_intent_is_approved() -> None:
    assert decide(matter("cancel it", "cancel_order")) == Approved("cancel_order")


def test_a_passage_without_a_sentence_on_the_question_is_not_quoted_where_that_is_asked_for() -> None:
    plain, other = (
        hit("Bulbs are E14.", 0.6, source="care/bulbs.md"),
        hit("Our shop is by the sea.", 0.6, source="us.md"),
    )

    def told(question: str, sentence: float, *hits: Hit) -> Decision:
        asked = matter(question, hits=hits)
        return decide(replace(asked, thresholds=replace(asked.thresholds, sentence=sentence)))

    assert told("which bulbs?", 0.0, plain, other) == Grounded((plain, other)), "the control"
    assert told("which bulbs?", 0.5, plain, other) == Grounded((plain,))
    assert told("which bulbs?", 0.5, other) == NotKnown()
    sure = hit("Our shop is by the sea.", 0.8, source="us.md")
    assert told("which bulbs?", 0.5, sure) == Grounded((sure,)), "nearly certain without a shared word"
    assert told("and what about bulbs?", 0.5, other) == Grounded((other,)), "half of what is asked was said before"


def test_an_intent_that_the_playbook_no_longer_has_is_not_acted_on() -> None:
    assert decide(matter("fly me", "flights")) == NotKnown()


def test_slots_are_asked_for_in_order_and_filled_from_the_message() -> None:
    assert decide(matter("charged twice", "duplicate_charge")) == AskFor("duplicate_charge", "order_number")
    one = decide(matter("NL-123456 charged twice", "duplicate_charge"))
    assert one == AskFor("duplicate_charge", "amount", (("order_number", "NL-123456"),))
    both = decide(matter("NL-123456 charged $20 twice", "duplicate_charge"))
    assert both == Approved("duplicate_charge", (("order_number", "NL-123456"), ("amount", "20 USD")))


def test_an_order_number_is_remembered_but_an_amount_is_not() -> None:
    state = State(told=(("order_number", "NL-111111"), ("order_number", "NL-222222"), ("amount", "20 USD")))
    assert decide(matter("charged twice", "duplicate_charge", state=state)) == AskFor(
        "duplicate_charge", "amount", (("order_number", "NL-222222"),)
    )


@pytest.mark.parametrize(
    ("text", "intent", "expected"),
    [
        ("NL-123456", None, Approved("order_status", (("order_number", "NL-123456"),))),
        ("it is nl 123 456", None, Approved("order_status", (("order_number", "NL-123456"),))),
        ("NL-123456", "cancel_order", Approved("order_status", (("order_number", "NL-123456"),))),
        ("no idea", None, AskFor("order_status", "order_number", problem="no order_number in the message")),
        ("ok", None, ASKED),
        ("no", None, SmallTalk(NEVER_MIND)),
        ("never mind", None, SmallTalk(NEVER_MIND)),
        ("cancel", None, SmallTalk(NEVER_MIND)),
        ("cancel my order", "cancel_order", Approved("cancel_order")),
        ("hello", "greeting", SmallTalk("greeting")),
        ("an agent please", None, HandOver("asked")),
    ],
)
def test_what_may_answer_a_question_for_a_slot(text: str, intent: str | None, expected: Decision) -> None:
    assert decide(matter(text, intent, state=State(pending=ASKED))) == expected


def test_cancel_it_takes_nothing_back_where_cancelling_is_what_was_asked_about() -> None:
    """ "All right, I have stopped that" would sound as if the order was cancelled."""
    offered = State(offered=("order_status", "cancel_order"))
    for text in ("cancel it please", "cancel", "取消吧"):
        assert decide(matter(text, state=offered)) == Approved("cancel_order"), text
    asked = AskFor("cancel_order", "order_number")
    assert decide(matter("cancel it", "cancel_order", state=State(interrupted=asked))) == Approved("cancel_order")
    book = replace(BOOK, intents=tuple(replace(one, slots=("order_number",)) for one in BOOK.intents))
    again = decide(replace(matter("cancel it", state=State(pending=asked)), playbook=book))
    assert isinstance(again, AskFor) and again.intent == "cancel_order"
    assert decide(matter("never mind", state=State(pending=asked))) == SmallTalk(NEVER_MIND)
    assert decide(matter("cancel it", state=State(offered=("order_status", "return_lamp")))) == SmallTalk(NEVER_MIND)


def test_a_question_of_the_customers_own_goes_first() -> None:
    state = State(pending=ASKED)
    assert decide(matter("which bulb?", hits=(GOOD,), state=state)) == Grounded((GOOD,))
    # A reader that reads the conversation still hears the intent whose slot is pending.
    assert decide(matter("which bulb?", "order_status", hits=(GOOD,), state=state)) == Grounded((GOOD,))
    own = hit("Track it.", 0.9, source="shipping/track.md")
    assert decide(matter("but where is it?", "order_status", hits=(own,), state=state)) == ASKED


def test_a_value_in_a_question_about_something_else_does_not_answer_ours() -> None:
    state = State(pending=ASKED)
    for text in ("How can I cancel NL-123456?", "I want to cancel order NL-123456", "please cancel NL-123456"):
        assert decide(matter(text, "cancel_order", state=state)) == Approved("cancel_order"), text
    told = Approved("order_status", (("order_number", "NL-123456"),))
    for text, intent in (
        ("NL-123456, it is one of three", "cancel_order"),
        ("can you find NL-123456?", "order_status"),
        ("hello, is NL-123456 enough?", "greeting"),
    ):
        assert decide(matter(text, intent, state=state)) == told, text


def two_of_a_kind() -> Playbook:
    """A company that asks for two e-mail addresses, and whose order and invoice numbers look alike but for a letter."""

    def slot(name: str, kind: EntityKind, pattern: str = "") -> Slot:
        return Slot(name, kind, pattern, Wording((("en", f"{name}?"),)), Wording((("en", f"no {name}"),)))

    def intent(name: str, *slots: str) -> Intent:
        return replace(BOOK.intents[0], name=name, slots=slots)

    slots = (
        slot("old_email", "email"),
        slot("new_email", "email"),
        slot("order", "order_number", r"NL-\d{6}"),
        slot("invoice", "order_number", r"IN-\d{6}"),
    )
    return replace(
        BOOK, slots=slots, intents=(intent("change_email", "old_email", "new_email"), intent("pay", "invoice"))
    )


def asked_of_two(text: str, intent: str | None = None, state: State | None = None) -> Decision:
    book = two_of_a_kind()
    one = matter(text, intent, state=state)
    entities = (*find_entities(text, NOW, book.patterns()), *find_signals(text))
    return decide(replace(one, playbook=book, meaning=replace(one.meaning, entities=entities)))


def test_two_slots_of_one_kind_are_told_one_by_one() -> None:
    old, new = ("old_email", "a@x.example"), ("new_email", "b@x.example")
    assert asked_of_two("change a@x.example to b@x.example", "change_email") == Approved("change_email", (old, new))
    asked = AskFor("change_email", "new_email", (old,))
    assert asked_of_two("change my a@x.example", "change_email") == asked
    assert asked_of_two("b@x.example", state=State(pending=asked)) == Approved("change_email", (old, new))
    assert asked_of_two("not a@x.example but b@x.example", state=State(pending=asked)) == Approved(
        "change_email", (old, new)
    )


def test_a_slot_does_not_take_a_value_of_another_slots_format() -> None:
    asked = AskFor("pay", "invoice")
    assert asked_of_two("how do I pay for NL-123456?", "pay") == asked
    assert asked_of_two("how do I pay IN-123456?", "pay") == Approved("pay", (("invoice", "IN-123456"),))
    refused = asked_of_two("NL-123456", state=State(pending=asked))
    assert isinstance(refused, AskFor) and refused.problem
    told = Approved("pay", (("invoice", "IN-123456"),))
    assert asked_of_two("NL-123456, so IN-123456", state=State(pending=asked)) == told
    assert asked_of_two("it was NL-123456", state=State(interrupted=asked)) != told
    earlier = State(told=(("invoice", "IN-123456"), ("order_number", "NL-123456")))
    assert asked_of_two("how do I pay?", "pay", earlier) == told


def test_the_order_spoken_of_last_is_meant() -> None:
    earlier = State(told=(("order_number", "NL-111111"), ("order_number", "NL-222222")))
    assert decide(matter("where is it?", "order_status", state=earlier)) == Approved(
        "order_status", (("order_number", "NL-222222"),)
    )


def test_a_second_refused_value_brings_a_person() -> None:
    assert decide(matter("no idea", state=State(pending=ASKED, refused_values=1))) == HandOver("not_known_twice")
    for none in ("I don't have it", "没有"):
        told = decide(matter(none, state=State(pending=ASKED)))
        assert isinstance(told, AskFor) and told.problem, "where it is found is said"
        assert decide(matter(none, state=State(pending=ASKED, refused_values=1))) == HandOver("not_known_twice")
    assert decide(matter("不用了", state=State(pending=ASKED))) == SmallTalk(NEVER_MIND)


def test_a_slot_left_open_is_filled_later() -> None:
    state = State(interrupted=ASKED, answered=("shipping_cost",))
    answered = Approved("order_status", (("order_number", "NL-123456"),))
    assert decide(matter("ok it is NL-123456", state=state)) == answered
    assert decide(matter("ok it is NL-123456", "shipping_cost", state=state)) == answered
    assert decide(matter("can I return NL-123456?", "return_lamp", state=state)) == Approved("return_lamp")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("1", "order_status"), ("option 1 please", "order_status"), ("my order", "order_status"),
        ("2.", "cancel_order"), ("the second one", "cancel_order"), ("last", "cancel_order"),
        ("第二个", "cancel_order"),
        ("Can I cancel my order?", "cancel_order"), ("可以取消订单吗", "cancel_order"), ("3", ""), ("order", ""),
        ("one more thing", ""),
    ],
)  # fmt: skip
def test_how_an_option_is_chosen(text: str, chosen: str) -> None:
    decision = decide(matter(text, state=State(offered=("order_status", "cancel_order"))))
    assert getattr(decision, "intent", "") == chosen


def test_none_of_the_options_is_not_known_and_yes_offers_them_once_more() -> None:
    state = State(offered=("order_status", "cancel_order"))
    assert decide(matter("none of these", state=state)) == NotKnown()
    assert decide(matter("no", state=state)) == NotKnown()
    assert decide(matter("yes", state=state)) == Clarify(state.offered)
    assert decide(matter("yes", state=replace(state, offered_again=True))) == NotKnown()


def test_close_intents_are_offered_but_not_the_same_twice() -> None:
    close = (("order_status", 0.4), ("cancel_order", 0.3), ("greeting", 0.3), ("gone", 0.3), ("return_lamp", 0.1))
    assert decide(matter("my order", runners_up=close)) == Clarify(("order_status", "cancel_order"))
    same = State(offered=("order_status", "cancel_order"))
    assert decide(matter("hm hm hm", runners_up=close, state=same)) == NotKnown()
    assert decide(matter("my order", runners_up=close, out_of_scope=0.8)) == NotKnown()
    assert decide(matter("my order", runners_up=(("order_status", 0.35),))) == NotKnown()
    assert decide(matter("my order", runners_up=(("order_status", 0.28), ("cancel_order", 0.27)))) == NotKnown()


def test_a_good_passage_is_quoted_and_a_weak_one_is_not() -> None:
    assert decide(matter("which bulb?", hits=(GOOD,))) == Grounded((GOOD,))
    assert decide(matter("which bulb?", hits=(hit("x", 0.49),))) == NotKnown()
    assert decide(matter("which bulb?", hits=(GOOD, hit("y", 0.2), hit("z", 0.7)))) == Grounded((GOOD, hit("z", 0.7)))


def test_documents_about_as_likely_are_quoted_together_when_one_alone_would_not_do() -> None:
    first, second, same = hit("x", 0.3, source="a.md"), hit("y", 0.25, source="b.md"), hit("z", 0.28, source="a.md")
    assert decide(matter("which bulb?", hits=(first, same))) == NotKnown(), (
        "two passages of one document are one chance"
    )
    assert decide(matter("which bulb?", hits=(first, second))) == Grounded((first, second))


def test_an_intent_far_ahead_answers_when_no_passage_is_as_likely() -> None:
    ahead = (("order_status", 0.5), ("cancel_order", 0.2))
    assert decide(matter("my order", runners_up=ahead)) == AskFor("order_status", "order_number")
    assert decide(matter("my order", runners_up=ahead, hits=(hit("x", 0.51),))) == Grounded((hit("x", 0.51),))
    assert decide(matter("my order", runners_up=ahead, out_of_scope=0.99)) == NotKnown()
    assert decide(matter("my order", runners_up=(("order_status", 0.5), ("cancel_order", 0.3)))) == Clarify(
        ("order_status", "cancel_order")
    )


def test_what_is_second_to_an_intent_that_cannot_be_acted_on_does_not_answer_for_it() -> None:
    ahead = (("order_status", 0.45), ("cancel_order", 0.05))
    assert decide(matter("my order", "left_the_playbook", confidence=0.5, runners_up=ahead)) == NotKnown()


def test_articles_know_more_than_intents_unless_the_question_is_foreign_beyond_doubt() -> None:
    weak = hit("Bulbs.", 0.6)
    assert decide(matter("which bulb?", hits=(weak,), out_of_scope=0.8)) == Grounded((weak,))
    assert decide(matter("which bulb?", hits=(weak,), out_of_scope=0.99)) == NotKnown()


def test_passages_found_by_words_alone_have_a_threshold_of_their_own() -> None:
    weak = hit("灯泡。", 0.4)
    assert decide(matter("灯泡怎么换", hits=(weak,), language="zh")) == Grounded((weak,))
    assert decide(matter("bulb how", hits=(weak,))) == NotKnown()


def test_passages_in_the_customers_language_go_first() -> None:
    chinese = Hit(replace(GOOD.passage, id="zh", language="zh"), 0.5, 0.6, GOOD.why)
    assert decide(matter("灯泡怎么换", hits=(GOOD, chinese), language="zh")) == Grounded((chinese,))
    assert decide(matter("灯泡怎么换", hits=(GOOD,), language="zh")) == Grounded((GOOD,))


def test_another_article_goes_before_an_approved_answer_in_doubt() -> None:
    """Sure of the intent, only a nearly certain passage; in doubt, any that may be quoted."""
    likely, certain = hit("Bulbs.", 0.6), hit("Bulbs.", 0.8)
    assert decide(matter("a bulb?", "return_lamp", confidence=0.99, hits=(likely,))) == Approved("return_lamp")
    assert decide(matter("a bulb?", "return_lamp", confidence=0.99, hits=(certain,))) == Grounded((certain,))
    assert decide(matter("a bulb?", "return_lamp", confidence=0.8, hits=(likely,))) == Grounded((likely,))
    assert decide(matter("a bulb?", "return_lamp", confidence=0.99, out_of_scope=0.3, hits=(likely,))) == Grounded(
        (likely,)
    )
    assert decide(matter("a bulb?", "return_lamp", confidence=0.8, hits=(hit("x", 0.4),))) == Approved("return_lamp")


def test_the_intents_own_article_speaks_for_its_approved_answer() -> None:
    own, weak = (
        hit("Return.", 0.5, source="returns/how-to-return.md"),
        hit("Return.", 0.2, source="returns/how-to-return.md"),
    )
    translated = hit("退货。", 0.95, source="zh/returns/how-to-return.md")
    assert decide(matter("return?", "return_lamp", confidence=0.8, hits=(GOOD, own))) == Approved("return_lamp")
    assert decide(matter("return?", "return_lamp", confidence=0.8, hits=(GOOD, weak))) == Grounded((GOOD,))
    assert decide(matter("return?", "return_lamp", confidence=0.8, hits=(translated,))) == Approved("return_lamp")
    for source in ("b2b-returns/how-to-return.md", "old/returns/how-to-return.md"):
        other = hit("Return.", 0.9, source=source)
        assert decide(matter("return?", "return_lamp", confidence=0.8, hits=(other,))) == Grounded((other,)), source


def test_before_a_question_for_a_slot_only_a_nearly_certain_passage() -> None:
    likely, certain = hit("x", 0.7), hit("x", 0.8)
    assert decide(matter("where is it?", "order_status", hits=(likely,))) == ASKED
    assert decide(matter("where is it?", "order_status", hits=(certain,))) == Grounded((certain,))


def test_a_follow_up_is_not_met_with_the_answer_just_given() -> None:
    own = hit("Return abroad.", 0.9, source="returns/how-to-return.md")
    just = State(answered=("return_lamp",))
    assert decide(matter("and from Sweden?", "return_lamp", hits=(own,), state=just)) == Grounded((own,))
    assert decide(matter("and from Sweden?", "return_lamp", hits=(own,))) == Approved("return_lamp")
    assert decide(matter("and from Sweden?", "return_lamp", state=just)) == Approved("return_lamp")


@pytest.mark.parametrize(
    ("text", "intent", "state", "expected"),
    [
        ("talk to a human", "cancel_order", State(), HandOver("asked")),
        ("hmm", "talk_to_person", State(), HandOver("asked")),
        ("talk to a human", "cancel_order", State(away=True), HandOver("hours")),
        ("hmm", "talk_to_person", State(away=True), HandOver("hours")),
        ("it gave me a shock", "injury", State(away=True), HandOver("policy")),
        ("it gave me a shock", "injury", State(), HandOver("policy")),
        ("yes", None, State(misses=1), HandOver("asked")),
        ("yes", None, State(), SmallTalk(ANYTHING_ELSE)),
        ("no thanks", None, State(misses=1), SmallTalk(ANYTHING_ELSE)),
        ("this is unacceptable", None, State(), HandOver("angry")),
        ("unacceptable, cancel it", "cancel_order", State(), Approved("cancel_order")),
        ("unacceptable, cancel it", "cancel_order", State(was_angry=True), HandOver("angry")),
        ("what?", None, State(misses=1), HandOver("not_known_twice")),
        ("hello", "greeting", State(misses=1), SmallTalk("greeting")),
        ("where is my order", "order_status", State(waiting="asked"), HandOver("asked")),
        ("talk to a human", None, State(waiting="policy"), HandOver("policy")),
        ("never mind", None, State(waiting="asked"), SmallTalk(NEVER_MIND)),
        ("", None, State(), SmallTalk(NO_TEXT)),
        ("?!", None, State(misses=1), SmallTalk(NO_TEXT)),
        ("🪔", None, State(), SmallTalk(NO_TEXT)),
    ],
)
def test_people_first(text: str, intent: str | None, state: State, expected: Decision) -> None:
    assert decide(matter(text, intent, state=state)) == expected


def test_what_cannot_wait_is_answered_or_brought_to_a_person() -> None:
    """An answer helps at once; without one nobody is asked to put it another way, or to choose among options."""

    def urgent(asked: Matter) -> Decision:
        return decide(replace(asked, meaning=replace(asked.meaning, urgent=True)))

    options = matter("hm", runners_up=(("cancel_order", 0.5), ("order_status", 0.4)))
    assert isinstance(decide(options), Clarify) and decide(matter("the lamp smokes")) == NotKnown()
    assert urgent(options) == urgent(matter("the lamp smokes")) == HandOver("urgent")
    assert urgent(matter("cancel it", "cancel_order")) == Approved("cancel_order")
    assert urgent(matter("which bulb?", hits=(GOOD,))) == Grounded((GOOD,))


def test_what_fails_on_our_side_is_said_so() -> None:
    assert decide(matter("which bulb?", degraded=True)) == HandOver("error")
    assert decide(matter("cancel it", "cancel_order", degraded=True)) == Approved("cancel_order")
    assert decide(matter("which bulb?", hits=(GOOD,), degraded=True)) == Grounded((GOOD,))
    assert decide(matter("which bulb?", degraded=True, state=State(pending=ASKED))) == HandOver("error")


def test_a_bare_order_number_is_asked_about() -> None:
    assert decide(matter("NL-123456", hits=(GOOD,))) == Clarify(("order_status", "duplicate_charge"))
    assert decide(matter("$20")) == AskFor("duplicate_charge", "order_number")
    assert decide(matter("jo@mail.example")) == NotKnown()


def part(decision: Decision, text: str = "What is the weather like?") -> Part:
    return Part(text, matter(text).meaning, (), decision)


@pytest.mark.parametrize(
    ("whole", "pieces", "kept"),
    [
        (Approved("a"), (Approved("a"), Approved("b")), (0, 1)),
        (Approved("a"), (Approved("a"), Approved("a")), ()),
        (Approved("a"), (AskFor("a", "s"), Approved("a")), ()),
        (Approved("a", (("s", "1"),)), (AskFor("a", "s"), Approved("b", (("s", "1"),))), ()),
        (Approved("a"), (SmallTalk("hi"), Approved("a")), ()),
        (Approved("a"), (NotKnown(), Clarify(("a", "b"))), ()),
        (NotKnown(), (Approved("a"), NotKnown()), (0, 1)),
        (NotKnown(), (NotKnown(), NotKnown()), ()),
        (SmallTalk("hi"), (SmallTalk("hi"), SmallTalk("bye")), ()),
        (Approved("a"), (Approved("a"), HandOver("asked")), (1,)),
        (Approved("a"), (HandOver("policy"), Approved("a")), (0,)),
        (Grounded((GOOD,)), (Grounded((GOOD,)), Grounded((GOOD,))), ()),
        (Grounded((GOOD,)), (Grounded((GOOD,)), Grounded((hit("x", name="other"),))), (0, 1)),
    ],
)
def test_which_pieces_are_kept(whole: Decision, pieces: tuple[Decision, ...], kept: tuple[int, ...]) -> None:
    parts = tuple(part(decision) for decision in pieces)
    assert settle(part(whole), parts) == (tuple(parts[place] for place in kept) or (part(whole),))


def test_an_open_piece_is_named_only_when_it_is_a_full_question() -> None:
    met = part(Approved("a"))
    for text, named in (
        ("What is the weather like?", 1),
        ("and how hot?", 0),
        ("can you check that please?", 0),
        ("fine", 0),
    ):
        missed = part(HandOver("not_known_twice"), text)
        assert settle(part(Approved("a")), (met, missed))[1:] == (part(NotKnown(), text),) * named


def test_a_piece_that_tells_the_value_frees_the_next() -> None:
    state = State(pending=ASKED)
    both = decide_all(
        [
            matter("NL-123456. what is this?", state=state),
            matter("NL-123456.", state=state),
            matter("how do I return the lamp?", "return_lamp", state=state),
        ]
    )
    assert [one.decision for one in both] == [
        Approved("order_status", (("order_number", "NL-123456"),)),
        Approved("return_lamp"),
    ]


def test_both_questions_that_waited_for_a_value_are_answered_with_it() -> None:
    twice = AskFor("duplicate_charge", "order_number")
    state = State(pending=ASKED, asked_beside=(twice,))
    told = (("order_number", "NL-123456"),)
    (first, second) = decide_all([matter("NL-123456", state=state)])
    assert (first.decision, second.decision) == (
        Approved("order_status", told),
        AskFor("duplicate_charge", "amount", told),
    )
    (loose, second) = decide_all([matter("nl 123 456", state=state)])
    assert (loose.decision, second.decision) == (first.decision, AskFor("duplicate_charge", "amount", told))
    (refused, second) = decide_all([matter("no idea", state=state)])
    assert isinstance(refused.decision, AskFor) and second.decision == twice, "not forgotten over a bad value"
    for text, intent in (("never mind", None), ("cancel my order", "cancel_order"), ("an agent please", None)):
        assert len(decide_all([matter(text, intent, state=state)])) == 1, text


def test_a_person_follows_an_answer_that_says_so() -> None:
    (answer, hand_over) = decide_all([matter("NL-123456 charged $20 twice", "duplicate_charge")])
    assert isinstance(answer.decision, Approved)
    assert hand_over.decision == HandOver("policy")


def test_the_order_of_answering_is_the_promised_one() -> None:
    """Changing it changes what customers are told: people, small talk, approved, quoted, options."""
    names = [rule.__name__ for rule in ORDER_OF_ANSWERING]
    assert names.index("_person") < names.index("_small_talk") < names.index("_approves")
    assert names.index("_approves") < names.index("_quotes") < names.index("_offers") == len(names) - 1


def test_a_name_nobody_knows_makes_a_question_more_foreign() -> None:
    """ "My Steam card" is likely somebody else's, unless an article speaks of Steam or the model is very sure."""

    def asked(out_of_scope: float, hits: tuple[Hit, ...] = ()) -> Decision:
        one = matter("cancel my Steam order", "cancel_order", out_of_scope=out_of_scope, hits=hits)
        named = (*one.meaning.entities, Entity("unknown_name", "Steam", 10, 15, 1.0, "a name"))
        return decide(replace(one, meaning=replace(one.meaning, entities=named)))

    assert asked(0.3) == NotKnown()
    assert asked(0.3, (hit("Steam the lamp shade.", 0.2),)) == Approved("cancel_order")
    assert asked(0.3, (hit("Use steamed water.", 0.2),)) == NotKnown()
    assert asked(0.05) == Approved("cancel_order")
