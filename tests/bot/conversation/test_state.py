"""What a conversation has come to, from hand-made turns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from bot.conversation.messages import (
    Approved,
    AskFor,
    Clarify,
    Decision,
    Entity,
    Grounded,
    HandOver,
    NotKnown,
    Part,
    Reply,
    SmallTalk,
    Thresholds,
    Turn,
    Understanding,
    Versions,
)
from bot.conversation.state import NEVER_MIND, State, state_of
from retriever.passages import Line
from tests.bot.conversation.fakes import NOW, hit, message

ASKED = AskFor("order_status", "order_number")
REFUSED = AskFor("order_status", "order_number", problem="no order_number in the message")
ANSWERED = Approved("order_status", (("order_number", "NL-1"),))


def turn(*decisions: Decision, text: str = "hello", entities: tuple[Entity, ...] = (), language: str = "en") -> Turn:
    meaning = Understanding(None, 0.0, (), 0.0, entities, language, "v")
    parts = tuple(Part(text, meaning, (), decision) for decision in decisions)
    reply = Reply("said", (), (), "approved")
    return Turn("t", message(text), parts, reply, Versions("v", "v", "v"), Thresholds())


def after(*turns: Turn) -> State:
    return state_of(turns)


def test_nothing_has_happened_yet() -> None:
    assert state_of(()) == State()


def test_the_lines_are_the_conversation_without_empty_ones() -> None:
    state = after(turn(NotKnown(), text=""), turn(NotKnown(), text="and now?"))
    assert state.lines == (Line("bot", "said"), Line("customer", "and now?"), Line("bot", "said"))


def test_turns_without_parts_are_lines_and_nothing_else() -> None:
    """An old conversation that another system kept has words but no decisions."""
    state = after(turn(), turn())
    assert (state.pending, state.offered, state.misses, state.language, state.waiting) == (None, (), 0, "", None)
    assert len(state.lines) == 4


def test_a_slot_is_pending_only_right_after_it_was_asked_for() -> None:
    assert after(turn(ASKED)).pending == ASKED
    assert after(turn(ASKED), turn(SmallTalk("thanks"))).pending is None


def test_what_else_was_asked_for_in_the_same_reply_is_kept() -> None:
    other = AskFor("duplicate_charge", "order_number")
    state = after(turn(ASKED, other))
    assert (state.pending, state.asked_beside) == (ASKED, (other,))
    assert after(turn(ASKED, other), turn(SmallTalk("thanks"))).asked_beside == ()


def test_what_the_bot_had_open_is_closed_once_a_person_spoke() -> None:
    def spoken(one: Turn) -> Turn:
        return replace(one, behind=(Line("agent", "I found it, it comes tomorrow."),))

    for open_turn in (turn(ASKED), turn(Clarify(("a", "b"))), turn(NotKnown())):
        assert after(open_turn) != replace(after(open_turn), pending=None, offered=(), misses=0)
        for later in ((), (turn(SmallTalk("thanks")),)):
            state = after(spoken(open_turn), *later)
            assert (state.pending, state.interrupted, state.offered, state.misses) == (None, None, (), 0)


def test_a_slot_left_open_can_be_taken_up_again() -> None:
    assert after(turn(ASKED), turn(SmallTalk("thanks"))).interrupted == ASKED
    assert after(turn(ASKED)).interrupted is None
    assert after(turn(ASKED), turn(ANSWERED), turn(SmallTalk("thanks"))).interrupted is None
    assert after(turn(ASKED), turn(SmallTalk(NEVER_MIND)), turn(NotKnown())).interrupted is None
    assert after(turn(ASKED), turn(HandOver("asked")), turn(SmallTalk("hello"))).interrupted is None
    assert after(turn(ASKED), *[turn(SmallTalk("hello"))] * 4).interrupted is None


def test_refused_values_are_counted_in_a_row() -> None:
    assert after(turn(ASKED)).refused_values == 0
    assert after(turn(ASKED), turn(REFUSED)).refused_values == 1
    assert after(turn(REFUSED), turn(ANSWERED), turn(ASKED)).refused_values == 0
    other = AskFor("duplicate_charge", "amount", problem="x")
    assert after(turn(other), turn(REFUSED)).refused_values == 1


def test_misses_are_counted_in_a_row_and_options_do_not_break_it() -> None:
    assert after(turn(NotKnown())).misses == 1
    assert after(turn(NotKnown()), turn(NotKnown())).misses == 2
    assert after(turn(NotKnown()), turn(Clarify(("a", "b")))).misses == 1
    assert after(turn(NotKnown()), turn(ANSWERED)).misses == 0
    assert after(turn(ANSWERED, NotKnown())).misses == 0
    assert after(turn(NotKnown()), turn(), turn(NotKnown())).misses == 1


def test_options_stand_until_the_next_reply() -> None:
    assert after(turn(Clarify(("a", "b")))).offered == ("a", "b")
    assert after(turn(Clarify(("a", "b"))), turn(NotKnown())).offered == ()
    assert not after(turn(Clarify(("a", "b")))).offered_again
    assert after(turn(Clarify(("a", "b"))), turn(Clarify(("a", "b")))).offered_again


def test_a_hand_over_waits_until_a_person_gives_the_conversation_back() -> None:
    asked = turn(HandOver("asked"))
    assert after(asked).waiting == "asked"
    assert after(asked, asked).waiting == "asked"
    assert after(asked, turn(SmallTalk(NEVER_MIND))).waiting is None
    assert after(turn(ANSWERED, HandOver("policy"))).waiting == "policy"
    assert state_of((asked,), returned_at=NOW).waiting is None
    assert state_of((asked,), returned_at=NOW - timedelta(seconds=1)).waiting == "asked"


def test_a_failure_of_ours_does_not_silence_the_bot() -> None:
    assert after(turn(HandOver("error"))).waiting is None


def test_what_was_answered_quoted_and_told() -> None:
    grounded = Grounded((hit("text", source="a.md"), hit("text", source="b.md")))
    state = after(turn(ANSWERED), turn(Approved("shipping_cost"), grounded))
    assert (state.answered, state.quoted) == (("shipping_cost",), ("a.md", "b.md"))
    assert state.told == (("order_number", "NL-1"),)


def test_what_was_told_stands_in_the_order_of_telling() -> None:
    number = Entity("order_number", "NL-2", 0, 4, 1.0, "company format")
    angry = Entity("angry", "strong", 0, 1, 1.0, "insult")
    state = after(turn(ANSWERED), turn(NotKnown(), entities=(number, angry)), turn(SmallTalk("thanks")))
    assert state.told == (("order_number", "NL-1"), ("order_number", "NL-2"))


def test_the_last_language_and_anger_are_remembered() -> None:
    angry = Entity("angry", "strong", 0, 1, 1.0, "insult")
    state = after(turn(NotKnown(), language="en"), turn(NotKnown(), language="zh", entities=(angry,)))
    assert (state.language, state.was_angry) == ("zh", True)
    assert not after(turn(NotKnown(), entities=(angry,)), turn(NotKnown())).was_angry
