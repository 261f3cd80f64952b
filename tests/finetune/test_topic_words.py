"""Names are made of the words that tell a group from the others, in its own language, and are new."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from finetune.topic_words import WordVectors, class_tf_idf, names, unspaced, words

REFUND = ["where is my refund", "my refunds for the lamp?", "refund for a lamp please", "refund??", "a refund in Rome"]
PIN = ["I forgot my card PIN", "the pin of my card", "my card, its PIN is wrong", "a new pin for the card", "card pin"]


def test_weights_are_those_of_the_formula_by_hand() -> None:
    """Two groups of three and five words: A = 8 / 2 = 4."""
    first, second = class_tf_idf([Counter({"refund": 2, "lamp": 1}), Counter({"card": 4, "lamp": 1})])
    assert first["refund"] == pytest.approx(2 / 3 * math.log(1 + 4 / 2))
    assert first["lamp"] == pytest.approx(1 / 3 * math.log(1 + 4 / 2))
    assert second["card"] == pytest.approx(4 / 5 * math.log(1 + 4 / 4))
    assert second["lamp"] == pytest.approx(1 / 5 * math.log(1 + 4 / 2))


def test_no_group_or_an_empty_one_is_no_error() -> None:
    assert class_tf_idf([]) == [] and class_tf_idf([Counter()]) == [{}]
    assert names([["???", "!"], []], [], []) == ["topic", "topic_2"]


def test_names_are_the_telling_words_in_their_order() -> None:
    assert names([REFUND, PIN], ["where is it", "my lamp"], []) == ["refund_lamp", "card_pin"]


def test_a_name_that_is_taken_grows_and_then_counts() -> None:
    taken = {"refund_lamp"}
    (longer,) = names([REFUND], [], taken)
    assert longer not in taken and longer.startswith(("refund", "broken")) and "refund" in longer
    first, second, third = names([["refund"] * 3] * 3, [], [])
    assert len({first, second, third}) == 3 and (first, second) == ("refund", "refund_2")


def test_chinese_groups_get_chinese_names() -> None:
    (name,) = names([["我的订单什么时候发货", "订单还没有发货", "请问订单发货需要多久"]], ["你们店在哪里"], [])
    assert set(name.split("_")) == {"订单", "发货"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where are my REFUNDS?", ["refund"]),
        ("the companies' taxes and dishes", ["company", "tax", "dish"]),
        ("café crème", ["cafe", "creme"]),
        ("don't you've can't where's", []),
        ("mail [email] or [card 2], order 4711 on the 21st", ["mail", "order"]),
        ("top up my bill amount", ["top", "bill", "amount"]),
        ("我的订单什么时候发货", ["订单", "发货"]),
        ("", []),
    ],
)
def test_words_are_content_only(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("退款", True), ("ok 退款吗请问", True), ("refund 退", False), ("", False), ("123 ?", False), ("привет", False)],
)
def test_texts_without_blanks_are_told_from_others(text: str, expected: bool) -> None:
    assert unspaced(text) is expected


def test_vectors_of_words_put_like_texts_together() -> None:
    texts = ["退款什么时候到账", "退款多久到账", "门店几点开门", "门店周日开门吗"]
    vectors = WordVectors(texts, seed=0)[np.arange(4)]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    likeness = vectors @ vectors.T
    assert min(likeness[0, 1], likeness[2, 3]) > max(likeness[0, 2], likeness[0, 3], likeness[1, 2], likeness[1, 3])
    assert (WordVectors(texts, seed=0)[np.array([2])] == vectors[[2]]).all()
    assert WordVectors(["", "?"], seed=0)[np.arange(2)].shape[0] == 2
