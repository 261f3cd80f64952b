"""Who judges a question: the reader, the phrase book, or neither; and when the judgement may be acted on."""

from __future__ import annotations

import pytest

from bot.conversation.messages import Candidate, Thresholds, Understanding
from bot.conversation.phrases import OUT_OF_SCOPE, Phrase, PhraseBook, phrase_book
from bot.conversation.understanding import EXACT, UNAVAILABLE, Reading, understand
from retriever.passages import Line, Query
from tests.bot.conversation.fakes import playbook

BOOK = phrase_book(playbook(), [Phrase("who are you", OUT_OF_SCOPE)])
SURE = Reading((Candidate("cancel_order", 0.8), Candidate("order_status", 0.1)), 0.1)
UNSURE = Reading((Candidate("cancel_order", 0.5), Candidate("order_status", 0.4)), 0.1)


def meaning(
    text: str, reading: Reading | None = None, *, history: tuple[Line, ...] = (), book: PhraseBook = BOOK
) -> Understanding:
    return understand(Query(text, history), reading, book, (), "en", Thresholds(), "v1")


def test_a_confident_reading_is_acted_on_and_the_others_are_runners_up() -> None:
    found = meaning("stop the order", SURE)
    assert (found.intent, found.confidence, found.model_version) == ("cancel_order", 0.8, "v1")
    assert found.runners_up == (Candidate("order_status", 0.1),)


def test_an_unsure_one_is_not_acted_on_and_all_are_runners_up() -> None:
    found = meaning("stop the order", UNSURE)
    assert (found.intent, found.confidence, found.runners_up) == (None, 0.5, UNSURE.candidates)


def test_what_is_out_of_scope_is_not_acted_on_however_confident() -> None:
    assert meaning("stop the music", Reading(SURE.candidates, 0.7)).intent is None


def test_an_example_word_for_word_settles_it_without_a_model() -> None:
    found = meaning("Cancel my order!", Reading((Candidate("order_status", 0.9),), 0.9))
    assert (found.intent, found.confidence, found.out_of_scope) == ("cancel_order", EXACT, 0.0)
    found = meaning("cancel my order", None)
    assert (found.intent, found.model_version) == ("cancel_order", UNAVAILABLE)


def test_a_phrase_known_to_be_foreign_settles_it_too() -> None:
    found = meaning("Who are you?", SURE)
    assert (found.intent, found.out_of_scope) == (None, 1.0)


def test_without_a_reading_nothing_is_guessed() -> None:
    assert meaning("stop the order", None) == Understanding(None, 0.0, (), 0.0, (), "en", UNAVAILABLE)


def test_chinese_is_judged_by_the_phrase_book_whatever_the_reader_says() -> None:
    assert meaning("我想把灯退了，流程是什么", SURE).intent == "return_lamp"
    assert meaning("今天天气怎么样", SURE).intent is None


@pytest.mark.parametrize("history", [(), (Line("bot", "运费怎么算"),)])
def test_a_short_chinese_message_alone_says_little(history: tuple[Line, ...]) -> None:
    assert meaning("那到瑞典呢", history=history).intent is None


def test_a_short_chinese_message_leans_on_the_customers_one_before() -> None:
    found = meaning("那到瑞典呢", history=(Line("customer", "运费怎么算"), Line("bot", "…")))
    assert found.intent == "shipping_cost"
    assert found.confidence < EXACT
