"""Which rows count for which score, and the keys by which two trainings know the same row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from finetune.calibrate import Doubles
from finetune.examples import OTHERWISE, OUT_OF_SCOPE, Example, FinetuneError
from finetune.metrics import calibration_error
from finetune.model import QuestionModel, Readings
from finetune.outcomes import Outcomes, dialled, read_outcomes, row_key, scores_of

INTENTS = ("cancel", "refund", "track")


class Reading(QuestionModel):
    """A version that says what it was told to."""

    def __init__(self, probabilities: Sequence[Sequence[float]] | Doubles, out_of_scope: Sequence[float]) -> None:
        self.said = np.array(probabilities, dtype=np.float64)
        self.outside = np.array(out_of_scope, dtype=np.float64)

    def read(self, batch: Sequence[object]) -> Readings:  # type: ignore[override]
        assert len(batch) == len(self.said)
        none = np.zeros((len(batch), 4), np.float32)
        return Readings(INTENTS, self.said, self.outside, none, none, none)


def outcomes(rows: Sequence[tuple[str | None, tuple[float, float, float], float]]) -> Outcomes:
    examples = [Example(f"row {n}", intent) for n, (intent, _, _) in enumerate(rows)]
    known = [row for row in rows if row[0] is not None]
    return read_outcomes(Reading([p for _, p, _ in known], [o for *_, o in known]), examples)


def test_scores_by_hand() -> None:
    """Two of three intents right; the row answered otherwise makes .3 and .6 of the confidence wrong, not accuracy."""
    found = scores_of(
        outcomes(
            [
                ("refund", (0.1, 0.9, 0.0), 0.1),
                ("cancel", (0.8, 0.1, 0.1), 0.6),
                ("track", (0.2, 0.7, 0.1), 0.2),
                (OTHERWISE + "articles/size.md", (0.3, 0.2, 0.1), 0.3),
                (OUT_OF_SCOPE, (0.4, 0.3, 0.3), 0.9),
                (OUT_OF_SCOPE, (0.5, 0.3, 0.2), 0.45),
                (None, (0.0, 0.0, 0.0), 0.0),
            ]
        )
    )
    assert found.rows == 6 and found.intent_rows == 3
    assert found.accuracy == pytest.approx(2 / 3) and found.top_3 == 1.0
    assert found.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found.calibration_error == pytest.approx((0.1 + 0.2 + 0.7 + 0.3) / 4)
    assert found.coverage_at_1 == found.coverage_at_5 == 0.5, "two of the four rows in scope, the surest, are right"
    assert found.aurc == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert found.false_rejection == 1 / 4 and found.oos_recall_at_5 == 1 / 2
    assert found.open_accuracy == pytest.approx(3 / 6), "refund, and the strangers, both at the lower mark"
    # Pairs of a row out of scope and one in scope: .9 is above all four, .45 above three.
    assert found.auroc == pytest.approx((4 + 3) / 8)


def drawn(seed: int, count: int) -> Outcomes:
    """Questions of which a fifth are out of scope; the surer the model is, the likelier it is right."""
    random = np.random.default_rng(seed)
    sure, scope = random.random(count), random.random(count)
    right = random.random(count) < 0.5 + sure / 2
    stranger = random.random(count) < 0.2
    rows: list[tuple[str | None, tuple[float, float, float], float]] = []
    for n in range(count):
        chance = (1 + float(sure[n])) / 3
        intent = OUT_OF_SCOPE if stranger[n] else ("refund" if right[n] else "track")
        rows.append((intent, (0.0, chance, 1 - chance), float((scope[n] + stranger[n]) / 2)))
    return outcomes(rows)


def test_the_dial_keeps_its_promise_on_rows_it_was_not_set_on() -> None:
    """Averaged over many draws, as the theorem says: neither kind of harm is above the rate."""
    told = drawn(10_000, 4_000)
    for rate in (0.05, 0.2):
        dials = [dialled(drawn(seed, 120), told, rate) for seed in range(40)]
        assert np.mean([dial.wrong for dial in dials]) <= rate
        assert np.mean([dial.false_answers or 0.0 for dial in dials]) <= rate
        assert np.mean([dial.coverage for dial in dials]) > 0.05, "and it answers something"
    answers = told.sureness >= (dials[0].threshold or 0)
    assert dials[0].coverage == pytest.approx(answers[~told.outside].mean())
    assert dials[0].wrong == pytest.approx((answers & ~told.right)[~told.outside].mean())


def test_with_too_few_rows_the_dial_answers_nothing() -> None:
    found = dialled(drawn(0, 12), drawn(1, 50), 0.01)
    assert (found.threshold, found.coverage, found.wrong) == (None, 0, 0)
    none = drawn(0, 12).only(np.zeros(12, bool))
    found = dialled(none, drawn(1, 50), 0.3)
    assert (found.threshold, found.coverage, found.wrong, found.false_answers) == (None, 0, 0, 0)


def test_a_calibrated_confidence_is_found_so_only_among_all_rows_in_scope() -> None:
    """Truth is drawn from the model's own probabilities, so it is calibrated; a third of them is answered otherwise."""
    random = np.random.default_rng(0)
    full = random.dirichlet([0.4, 0.4, 0.4, 0.6], 20_000)
    drawn = (full.cumsum(axis=1) > random.random((len(full), 1))).argmax(axis=1)
    labels = (*INTENTS, OTHERWISE)
    examples = [Example(f"{n}", labels[k]) for n, k in enumerate(drawn)]
    read = read_outcomes(Reading(full[:, :3], np.zeros(len(full)).tolist()), examples)
    assert scores_of(read).calibration_error < 0.01
    alone = read.with_intent
    assert calibration_error(read.confidence[alone], read.right[alone]) > 0.1
    scaled = full[:, :3].max(axis=1) / full[:, :3].sum(axis=1)
    assert calibration_error(scaled, read.right) > 0.1


def test_rows_that_cannot_be_measured_on_are_an_error() -> None:
    with pytest.raises(FinetuneError, match="no labelled in-scope row"):
        scores_of(outcomes([(OUT_OF_SCOPE, (1, 0, 0), 0.9), (OTHERWISE, (1, 0, 0), 0.2)]))


def test_an_unknown_intent_is_wrong_and_keeps_its_name() -> None:
    read = outcomes([("refund", (0.1, 0.9, 0.0), 0.1), ("new", (0.1, 0.9, 0.0), 0.1)])
    assert read.right.tolist() == [True, False]
    assert read.labels == (*INTENTS, "new") and read.known == 3


def test_a_key_is_of_what_training_tells_rows_apart_by() -> None:
    row = Example("Where's my parcel?", "track", (("agent", "Hello!"),))
    assert row_key(row) == row_key(replace(row, text="WHERE s my  parcel", answer="soon", group="c9"))
    others = [
        replace(row, text="where is my parcel"),
        replace(row, intent="lost"),
        replace(row, intent=OUT_OF_SCOPE),
        replace(row, intent=None),
        replace(row, history=()),
        replace(row, history=(("agent", "Hi!"),)),
        Example("Where's my parcel? Hello!", "track"),
    ]
    keys = {row_key(example) for example in others}
    assert len(keys) == len(others) and row_key(row) not in keys
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)
    assert row_key(Example("\ud800 broken", "x"))


def test_shared_rows_are_those_with_the_keys_in_the_same_order() -> None:
    read = outcomes([(name, (0.5, 0.3, 0.2), 0.1) for name in ("refund", "cancel", "track", "refund")])
    some = read.shared({read.keys[3], read.keys[1], "0" * 16})
    assert some.keys == (read.keys[1], read.keys[3]) and some.right.tolist() == [True, False]
    assert len(read.shared(set()).keys) == 0
