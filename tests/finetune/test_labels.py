"""Labels that say what they are about are examples of themselves; codes are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune.encoder import Encoder
from finetune.examples import OTHERWISE, OUT_OF_SCOPE, Example
from finetune.labels import label_examples, spoken, telling
from finetune.train import fit_versions
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


def test_training_reads_labels_that_tell_and_no_others(tiny: Encoder, examples: list[Example]) -> None:
    """The same rows under codes instead of words give another model, because nothing more is learnt from codes."""
    codes = {"refund": "i1", "lost_card": "i2", "cancel": "i3"}
    known = [e for e in examples if e.intent]

    def weights(rows: list[Example], few: int) -> np.ndarray:
        head = fit_versions(rows, tiny, replace(QUICK, few=few)).baseline.measured.head
        return head.weight[[head.labels.index(label) for label in sorted(head.labels, key=lambda n: codes.get(n, n))]]

    coded = [replace(e, intent=codes[e.intent or ""]) for e in known]
    few, many = (float(np.abs(weights(known, n) - weights(coded, n)).max()) for n in (1_000, 0))
    assert few > 10 * many, "of many rows labels are not read: what is left is the solver's last digits"
