"""The phrase book against retraining without a phrase, and on the sample company's own questions."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bot.conversation.phrases import MOST_PHRASES, OUT_OF_SCOPE, Phrase, PhraseBook, phrase_book
from bot.conversation.playbook import load_playbook
from tests.bot.conversation.fakes import playbook

DATA = Path(__file__).parents[3] / "data"
PHRASES = (
    Phrase("退款什么时候到账", "refund"),
    Phrase("退款要多久", "refund"),
    Phrase("钱什么时候退回来", "refund"),
    Phrase("运费多少钱", "shipping"),
    Phrase("邮费怎么算", "shipping"),
    Phrase("包邮吗", "shipping"),
    Phrase("今天天气怎么样", OUT_OF_SCOPE),
    Phrase("讲个笑话", OUT_OF_SCOPE),
)


def test_the_same_words_are_the_same_phrase() -> None:
    book = PhraseBook([Phrase("Where's my Order?", "order_status"), Phrase("退款要多久？", "refund")])
    assert book.exact("  where's my order!!") == "order_status"
    assert book.exact("退款要多久") == "refund"
    assert book.exact("where is my order") is None
    assert book.exact("") is None is book.exact("?!")


def test_a_phrase_with_two_intents_settles_nothing() -> None:
    book = PhraseBook([Phrase("help", "a"), Phrase("Help!", "b"), Phrase("no", OUT_OF_SCOPE)])
    assert book.exact("help") is None
    assert book.exact("No.") == OUT_OF_SCOPE


def test_the_button_that_offers_a_person_is_understood_in_the_companys_words() -> None:
    book = playbook()
    english, chinese = book.texts
    own = replace(
        book, texts=(replace(english, talk_to_person="To the crew!"), replace(chinese, talk_to_person="谢谢"))
    )
    assert phrase_book(own).exact("to the crew") == "talk_to_person"
    assert phrase_book(own).exact("谢谢") == "thanks", "what is said of an intent goes before"


def test_which_texts_the_book_reads() -> None:
    assert PhraseBook.reads("我的 order 到哪了")
    assert not PhraseBook.reads("where is 中山路 10 in your list of shops")
    assert not PhraseBook.reads("123")


def test_intents_are_ranked_and_strangers_are_told() -> None:
    book = PhraseBook(PHRASES)
    candidates, out_of_scope = book.match("退款多久能到账呢")
    assert candidates[0].intent == "refund" and candidates[0].confidence > 0.5 > out_of_scope
    assert sum(candidate.confidence for candidate in candidates[:2]) <= 1
    candidates, out_of_scope = book.match("明天天气怎么样")
    assert out_of_scope > max(candidate.confidence for candidate in candidates)


def test_what_is_mostly_new_is_not_understood() -> None:
    book = PhraseBook(PHRASES)
    candidates, _ = book.match("退伍军人优惠政策申请材料清单")
    assert all(candidate.confidence < 0.3 for candidate in candidates)
    assert book.match("龘靐齉") == ((), 0.0)


@pytest.mark.parametrize("phrases", [(), (Phrase("hello", "greeting"),), (Phrase("退款", "refund"),)])
def test_an_empty_book_knows_nothing_and_does_not_fall_over(phrases: tuple[Phrase, ...]) -> None:
    book = PhraseBook(phrases)
    candidates, out_of_scope = book.match("退款什么时候到账")
    assert out_of_scope == 0.0
    assert len(candidates) <= 1


def test_leaving_a_phrase_out_is_as_if_it_had_never_been_there() -> None:
    """The closed form behind the calibration, against ridge regression done again without each phrase."""
    random = np.random.default_rng(0)
    table, wanted, ridge = random.normal(size=(12, 5)), random.normal(size=(12, 3)), 1.0
    inverse = np.linalg.inv(table @ table.T + ridge * np.eye(12))
    closed = wanted - (inverse @ wanted) / np.diag(inverse)[:, None]
    for row in range(12):
        others = np.delete(table, row, axis=0)
        weights = np.linalg.solve(others.T @ others + ridge * np.eye(5), others.T @ np.delete(wanted, row, axis=0))
        assert closed[row] == pytest.approx(table[row] @ weights)


def test_the_curve_rises_with_score_and_lead() -> None:
    book = phrase_book(playbook())
    chances = [[book._chance(score, lead) for lead in (0.0, 0.2, 0.5)] for score in (0.1, 0.5, 0.9)]
    assert all(a < b for row in chances for a, b in pairwise(row))
    assert all(a < b for column in zip(*chances, strict=True) for a, b in pairwise(column))


def test_too_many_phrases_are_thinned_evenly() -> None:
    book = PhraseBook(Phrase(f"退款{n}", f"intent_{n % 3}") for n in range(MOST_PHRASES + 500))
    assert book._weights.shape[1] == 3
    assert book.exact("退款2499") == "intent_0"


def test_chinese_of_the_sample_company() -> None:
    """On validation questions that nobody trained on: most intents are found, and no stranger is taken for one."""
    rows = [json.loads(line) for line in (DATA / "messages.jsonl").read_text("utf-8").splitlines()]
    book = phrase_book(load_playbook(DATA / "playbook.toml"), [Phrase(r["text"], r["intent"] or "") for r in rows])
    asked = [json.loads(line) for line in (DATA / "validation.jsonl").read_text("utf-8").splitlines()]
    chinese = [row for row in asked if row["language"] == "zh"]
    matched = [(row, *book.match(row["text"])) for row in chinese]
    known = [(row, candidates[0]) for row, candidates, _ in matched if row["intent"]]
    found = [best for row, best in known if best.intent == row["intent"] and best.confidence >= 0.55]
    assert len(known) >= 10 and len(found) >= 0.7 * len(known)
    strangers = [candidates[0].confidence for row, candidates, _ in matched if not row["answerable"]]
    assert len(strangers) >= 8 and max(strangers) < 0.55


def test_a_name_is_known_from_examples_and_answers_but_not_from_what_is_out_of_scope() -> None:
    book = PhraseBook(
        [Phrase("does my Trail Club card work", "membership"), Phrase("cancel my Netflix plan", OUT_OF_SCOPE)],
        [Phrase("Enter the code at the Larkmoor page.", "gift_card")],
    )
    assert book.unknown_names("is my Trail Club card from the Larkmoor shop?") == ()
    (entity,) = book.unknown_names("and my Netflix card?")
    assert (entity.kind, entity.value, entity.start, entity.end) == ("unknown_name", "Netflix", 7, 14)
