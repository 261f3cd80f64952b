"""Labels that say what they are about are examples of themselves; codes are not."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.encoder import Encoder
from finetune.examples import OTHERWISE, OUT_OF_SCOPE, Example
from finetune.labels import label_examples, spoken, telling
from finetune.train import _Told, _with_labels, silent
from tests.finetune.test_train import QUICK


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("card_arrival", "card arrival"),
        ("Refund_not_showing_up", "refund not showing up"),
        ("lostCard", "lost card"),
        ("billing/late-fee 🎉", "billing late fee"),
        ("退款", "退款"),
        ("🎉/🎉", ""),
    ],
)
def test_a_label_is_read_as_words(label: str, words: str) -> None:
    assert spoken(label) == words


def test_only_intents_are_examples_of_themselves() -> None:
    rows = [
        Example("x", intent) for intent in ("lost_card", "lost_card", OUT_OF_SCOPE, OTHERWISE + "prices", None, "🎉")
    ]
    assert [(e.text, e.intent, e.origin) for e in label_examples(rows)] == [("lost card", "lost_card", "label")]


def test_labels_tell_when_most_are_nearest_to_their_own_examples() -> None:
    rows = np.eye(4, dtype=np.float32)
    intents = ["a", "b", "c", "d"]
    assert telling(rows, intents, rows, intents)
    assert telling(rows[[0, 1, 3, 2]], intents, rows, intents), "two of four"
    assert not telling(rows[[0, 2, 3, 1]], intents, rows, intents), "one of four"
    assert not telling(rows[:1], intents[:1], rows, intents), "one label is always nearest to itself"


@pytest.mark.parametrize(("code", "few", "read"), [(False, True, True), (True, True, False), (False, False, False)])
def test_labels_that_tell_join_few_rows_and_no_others(tiny: Encoder, code: bool, few: bool, read: bool) -> None:
    intents = ("refund_money", "lost_card", "cancel_order", "late_parcel", "password_reset")
    rows = [
        Example(f"{spoken(intent)}{word}", f"i{number}" if code else intent)
        for number, intent in enumerate(intents)
        for word in ("", "?", " please")
    ]
    told = _Told(tiny, QUICK, few, silent, None, (), None)
    train, (last, window) = _with_labels(rows, told, lambda done, total: None)
    assert [e.origin for e in train[len(rows) :]] == (["label"] * 5 if read else [])
    assert len(last) == len(window) == len(train)
