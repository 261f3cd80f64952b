"""Wrong labels are found, right ones left alone, and the joint is the one of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finetune.calibrate import Integers
from finetune.label_errors import (
    Judged,
    _nearness,
    confident_joint,
    confusable,
    judge,
    judgeable,
    label_errors,
    thresholds,
)
from finetune.model import features
from tests.finetune.planted import planted

NAMES = np.array([f"intent-{n}" for n in range(20)])


def by_hand() -> Judged:
    """Six rows, three labels: a has three rows, b two, c one."""
    given = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.array(
        [
            [0.8, 0.1, 0.1],
            [0.6, 0.3, 0.1],
            [0.1, 0.8, 0.1],
            [0.1, 0.8, 0.1],
            [0.2, 0.6, 0.2],
            [0.3, 0.2, 0.5],
        ],
        np.float32,
    )
    return Judged(("a", "b", "c"), given, probabilities, np.eye(6, dtype=np.float32), np.arange(6))


def test_thresholds_and_joint_are_those_of_the_paper_by_hand() -> None:
    """Thresholds: a (.8 + .6 + .1) / 3 = .5, b (.8 + .6) / 2 = .7, c .5.

    Confidently a: rows 0, 1; b: rows 2, 3; c: row 5; nobody is confident of row 4. Counts: given a: (2, 1, 0); given b:
    (0, 1, 0); given c: (0, 0, 1). Scaled to 3, 2 and 1 rows: (2, 1, 0), (0, 2, 0), (0, 0, 1); divided by 6.
    """
    assert thresholds(by_hand()) == pytest.approx([0.5, 0.7, 0.5])
    expected = np.array([[2, 1, 0], [0, 2, 0], [0, 0, 1]]) / 6
    assert confident_joint(by_hand()) == pytest.approx(expected)


def test_a_row_that_several_labels_could_claim_counts_for_the_likeliest() -> None:
    judged = by_hand()
    judged.probabilities[1] = [0.45, 0.55, 0.0]
    # Thresholds fall to a .45 and stay b .7; then b's are lowered under .55, so that row 1 passes both.
    judged.probabilities[3], judged.probabilities[4] = [0.4, 0.5, 0.1], [0.4, 0.5, 0.1]
    assert thresholds(judged)[:2] == pytest.approx([0.45, 0.5])
    assert confident_joint(judged)[0] * 6 == pytest.approx([1, 2, 0])


def test_the_row_that_the_joint_blames_is_found_when_its_neighbours_agree() -> None:
    """The example by hand, five times over, all rows at right angles but b's; the joint blames each third row of a."""
    small, rows = by_hand(), np.eye(30, dtype=np.float32)
    rows[3::6] = rows[3]
    judged = Judged(small.labels, np.tile(small.given, 5), np.tile(small.probabilities, (5, 1)), rows, np.arange(30))
    assert label_errors(judged) == []
    rows[2] = rows[3]
    (error,) = label_errors(judged)
    assert (error.row, error.given, error.suggested) == (2, "a", "b")
    assert (error.given_probability, error.suggested_probability) == pytest.approx((0.1, 0.8))
    assert (error.lead, error.weight) == pytest.approx((1.0, 0.8 * math.log(8)))


def test_a_label_of_few_rows_is_not_judged() -> None:
    judged = by_hand()
    judged.rows[2] = judged.rows[3]
    assert label_errors(judged) == []


def flipped(share: float, seed: int = 0) -> tuple[np.ndarray, Integers, list[str], set[int]]:
    """Rows of twenty intents, of which a share carries a random other label."""
    rows, truth = planted([30] * 20, spread=0.4, seed=seed)
    random = np.random.default_rng(seed)
    wrong = random.choice(len(rows), round(share * len(rows)), replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + random.integers(1, 20, len(wrong))) % 20
    return features(rows, rows), truth, NAMES[given].tolist(), set(wrong.tolist())


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_planted_flips_are_found_and_put_right(share: float) -> None:
    rows, truth, given, wrong = flipped(share)
    judged = judge(rows, given, range(len(rows)), seed=0)
    assert judged is not None
    errors = label_errors(judged)
    found = {error.row for error in errors}
    assert len(found & wrong) >= 0.9 * len(wrong)
    assert len(found & wrong) >= 0.95 * len(found)
    right = [error.suggested == NAMES[truth[error.row]] for error in errors if error.row in wrong]
    assert np.mean(right) >= 0.95
    assert [error.weight for error in errors] == sorted((error.weight for error in errors), reverse=True)


def test_sound_labels_are_left_alone() -> None:
    rows, _, given, _ = flipped(0)
    judged = judge(rows, given, range(len(rows)), seed=0)
    assert judged is not None and len(label_errors(judged)) <= 2


def test_the_same_seed_judges_the_same() -> None:
    rows, _, given, _ = flipped(0.1)
    one, two = (judge(rows, given, range(len(rows)), seed=3) for _ in range(2))
    assert one is not None and two is not None
    assert label_errors(one) == label_errors(two) != []


def test_a_near_copy_never_tells_on_a_row() -> None:
    """Pairs of copies with labels that mean nothing: who saw the copy would know the label, who did not cannot."""
    random = np.random.default_rng(0)
    vectors = np.repeat(random.normal(size=(150, 32)), 2, axis=0).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given = np.repeat(random.integers(0, 20, 150), 2)
    pairs = np.repeat(np.arange(150), 2)
    apart = judge(features(vectors, vectors), NAMES[given].tolist(), pairs, seed=0)
    mixed = judge(features(vectors, vectors), NAMES[given].tolist(), range(300), seed=0)
    assert apart is not None and mixed is not None
    known = [(judged.probabilities.argmax(axis=1) == judged.given).mean() for judged in (apart, mixed)]
    assert known[0] < 0.15 < 0.5 < known[1]


@pytest.mark.parametrize(
    ("given", "groups"),
    [([], []), (["a"] * 10, range(10)), (["a", "b"] * 5, [0] * 10), (["a", "b"], [0, 1])],
    ids=["nothing", "one intent", "all near copies", "each label in one fold"],
)
def test_what_cannot_be_judged_is_left(given: list[str], groups: list[int]) -> None:
    rows = np.tile(planted([1])[0], (len(given), 1))
    assert judge(features(rows, rows), given, groups, seed=0) is None


def test_contradictory_copies_and_single_rows_are_no_error() -> None:
    rows, truth = planted([20, 20, 1])
    given = NAMES[truth].tolist()
    rows, given = np.vstack([rows, rows[:1]]), [*given, NAMES[1]]
    judged = judge(features(rows, rows), given, [*range(41), 0], seed=0)
    assert judged is not None
    assert {error.row for error in label_errors(judged)} <= {40, 41}
    assert np.isfinite(confident_joint(judged)).all()


def test_an_intent_that_was_cut_in_two_is_found_and_no_other_pair() -> None:
    rows, truth = planted([40] * 8, spread=0.8)
    names = NAMES[truth]
    half = np.flatnonzero(truth == 3)[::3]
    names[half] = "intent-3b"
    judged = judge(features(rows, rows), names.tolist(), range(len(rows)), seed=0)
    assert judged is not None
    (pair,) = confusable(judged)
    assert (pair.smaller, pair.larger, pair.rows) == ("intent-3b", "intent-3", (14, 26))
    assert 0.3 < pair.accuracy < 0.7
    assert pair.confused and all(truth[row] == 3 for row in pair.confused)


def test_what_no_model_has_seen_is_neither_wrong_nor_one_with_another() -> None:
    """All rows of one intent are near copies, so one fold has them all: out of it the intent's chance is 0."""
    rows, truth = planted([30] * 4, spread=0.8)
    groups = np.where(truth == 2, 1_000, np.arange(len(rows)))
    judged = judge(features(rows, rows), NAMES[truth].tolist(), groups.tolist(), seed=0)
    assert judged is not None and not judged.probabilities[truth == 2, 2].any()
    assert confusable(judged) == []
    assert judgeable(judged).tolist() == [True, True, False, True]
    assert all("intent-2" not in (error.given, error.suggested) for error in label_errors(judged))
    assert len(label_errors(judged)) <= 2


def test_a_label_that_no_model_has_seen_takes_no_row() -> None:
    """The example by hand, b's and c's rows judged without c: nobody is confident of row 4, and nobody of row 5."""
    judged = by_hand()
    judged.probabilities[5] = [0.45, 0.55, 0.0]
    expected = np.array([[2, 1, 0], [0, 2, 0], [0, 0, 1]]) / 6
    assert confident_joint(judged) == pytest.approx(expected)


def test_nearness_is_that_of_the_nearest_three_that_are_no_near_copies() -> None:
    """Against a loop over the rows; of one label all others are near copies."""
    random = np.random.default_rng(0)
    rows, given = random.normal(size=(400, 8)).astype(np.float32), random.integers(0, 3, 400)
    groups = np.where(given == 2, 0, random.integers(1, 150, 400))
    judged = Judged(("a", "b", "c"), given, np.zeros((400, 3), np.float32), rows, groups)
    labels = random.integers(0, 3, 400)
    found = _nearness(judged, np.arange(400), labels)
    for row, label in enumerate(labels):
        others = (given == label) & (groups != groups[row])
        wanted = np.sort(rows[others] @ rows[row])[-3:].mean() if others.any() else 0.0
        assert found[row] == pytest.approx(wanted, abs=1e-5)


def test_a_pair_of_few_rows_is_not_judged() -> None:
    rows, truth = planted([40, 8], spread=0.8)
    names = NAMES[truth]
    names[np.flatnonzero(truth == 1)[::2]] = "intent-1b"
    judged = judge(features(rows, rows), names.tolist(), range(len(rows)), seed=0)
    assert judged is not None and confusable(judged) == []
