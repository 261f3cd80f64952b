"""Every measure against scikit-learn, SciPy or a sum done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.metrics import (
    RiskPoint,
    aurc,
    auroc,
    calibration_error,
    confusion_pairs,
    coverage_at,
    macro_f1,
    mcnemar,
    per_class,
    reliability,
    risk_coverage,
    risk_table,
    wilson,
)

RANDOM = np.random.default_rng(0)
SURE = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
RIGHT = np.array([True, True, False, True, False])
"""Answered from .9: 1 of 1 right; from .8: 2 of 3; from .7: 3 of 4; from .6: 3 of 5."""


def test_scores_by_class_agree_with_scikit_learn() -> None:
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    right, said = RANDOM.integers(0, 6, 500), RANDOM.integers(0, 8, 500)
    scores = per_class(right, said, 9)
    precision, recall, f1, rows = precision_recall_fscore_support(
        right, said, labels=np.arange(9), zero_division=np.nan
    )
    assert np.allclose(scores.precision, precision, equal_nan=True)
    assert np.allclose(scores.recall, recall, equal_nan=True)
    assert np.allclose(scores.f1, np.nan_to_num(f1)) and np.array_equal(scores.rows, rows)
    assert np.isnan(scores.recall[6]) and np.isnan(scores.precision[8]), "classes without rows must occur here"
    expected = f1_score(right, said, labels=np.unique(right), average="macro")
    assert macro_f1(right, said) == pytest.approx(expected)


def test_confusion_pairs_are_the_largest_cells_beside_the_diagonal() -> None:
    from sklearn.metrics import confusion_matrix

    right, said = RANDOM.integers(0, 6, 900), RANDOM.integers(0, 6, 900)
    matrix = confusion_matrix(right, said)
    np.fill_diagonal(matrix, 0)
    pairs = confusion_pairs(right, said, 10)
    assert [count for *_, count in pairs] == sorted(matrix.ravel().tolist(), reverse=True)[:10]
    assert all(matrix[r, s] == count for r, s, count in pairs)
    assert confusion_pairs(right, right, 10) == ()


def test_auroc_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    score, positive = RANDOM.integers(0, 20, 500) / 20, RANDOM.random(500) < 0.3
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert auroc(score, np.zeros(500, bool)) is None


def test_the_reliability_table_is_that_of_scikit_learn_by_quantiles() -> None:
    from sklearn.calibration import calibration_curve

    confidence = RANDOM.permutation(np.linspace(0.01, 0.99, 600))
    correct = RANDOM.random(600) < confidence**2
    table = reliability(confidence, correct)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    assert [b.rows for b in table] == [40] * 15
    assert np.allclose([b.accuracy for b in table], accuracy)
    assert np.allclose([b.confidence for b in table], mean)
    assert calibration_error(confidence, correct) == pytest.approx(np.abs(accuracy - mean).mean())


def test_calibration_error_by_hand() -> None:
    """Two bins: .8 and .6 sure where 1 of 2 were right, twice: (|.5 - .8| + |.5 - .6|) / 2."""
    confidence, correct = np.array([0.6, 0.8, 0.6, 0.8]), np.array([True, True, False, False])
    assert calibration_error(confidence, correct, bins=2) == pytest.approx(0.2)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0
    over_sure = np.full(100, 0.95)
    assert calibration_error(over_sure, np.arange(100) < 75) == pytest.approx(0.2)


def test_risk_coverage_by_hand_with_equal_confidences_together() -> None:
    curve = risk_coverage(SURE, RIGHT)
    assert np.allclose(curve.confidence, [0.9, 0.8, 0.7, 0.6])
    assert np.allclose(curve.coverage, [0.2, 0.6, 0.8, 1.0])
    assert np.allclose(curve.error, [0, 1 / 3, 1 / 4, 2 / 5])
    assert coverage_at(curve, 0.25) == RiskPoint(0.8, 0.25, 0.7), "the largest, though the curve was above before"
    assert coverage_at(curve, 0.01) == RiskPoint(0.2, 0.0, 0.9)
    assert coverage_at(risk_coverage(SURE, ~RIGHT), 0.01) == RiskPoint(0.0, 0.0, None)
    assert risk_table(curve, 2) == (RiskPoint(0.6, pytest.approx(1 / 3), 0.8), RiskPoint(1.0, 0.4, 0.6))


def test_aurc_is_its_mean_over_the_orders_of_ties() -> None:
    """By hand: the wrong one of the two at .8 comes second or third, errors (0, 1/2 or 0, 1/3, 1/4, 2/5)."""
    tied = (np.array([0, 1 / 2, 1 / 3, 1 / 4, 2 / 5]).mean() + np.array([0, 0, 1 / 3, 1 / 4, 2 / 5]).mean()) / 2
    assert aurc(SURE, RIGHT) == pytest.approx(tied)
    confidence, correct = RANDOM.permutation(500) / 500, RANDOM.random(500) < 0.8
    order = np.argsort(-confidence)
    naive = np.mean([1 - correct[order[:k]].mean() for k in range(1, 501)])
    assert aurc(confidence, correct) == pytest.approx(naive)


def test_a_coverage_table_has_a_point_every_twentieth() -> None:
    confidence, correct = RANDOM.permutation(1000) / 1000, RANDOM.random(1000) < 0.8
    points = risk_table(risk_coverage(confidence, correct))
    assert np.allclose([p.coverage for p in points], np.arange(1, 21) / 20)
    for point in points:
        answered = confidence >= (point.confidence or 0)
        assert point.coverage == answered.mean() and point.error == pytest.approx(1 - correct[answered].mean())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_no_measure_depends_on_the_order_of_the_rows(rows: list[tuple[int, bool]], random: object) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = (
        (np.array([c / 5 for c, _ in some]), np.array([r for _, r in some], dtype=bool)) for some in (rows, mixed)
    )
    for measure in (calibration_error, aurc):
        assert measure(*first) == pytest.approx(measure(*second))
    assert coverage_at(risk_coverage(*first), 0.2) == coverage_at(risk_coverage(*second), 0.2)
    assert 0 <= aurc(*first) <= 1 and sum(b.rows for b in reliability(*first)) == len(rows)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (8, 5), (5, 8), (3, 15), (40, 40), (0, 9), (700, 612)])
def test_mcnemar_is_a_binomial_test_of_the_flips(won: int, lost: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


def test_twenty_thousand_flips_are_no_trouble() -> None:
    assert mcnemar(10_000, 10_000) == 1.0
    assert 0 < mcnemar(9_000, 11_000) < 1e-40


@pytest.mark.parametrize(("hits", "rows"), [(0, 20), (20, 20), (17, 20), (1, 3), (450, 800)])
def test_the_interval_of_a_share_is_wilsons(hits: int, rows: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson(hits, rows) == pytest.approx((expected.low, expected.high))
    assert wilson(0, 0) == (0.0, 1.0)
