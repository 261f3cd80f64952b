"""Temperature, out-of-scope score and thresholds against independent answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.calibrate import (
    Floats,
    Integers,
    choose_threshold,
    fit_out_of_scope,
    fit_temperature,
    fit_top_temperature,
    log_sum_exp,
    softmax,
)


def test_softmax_and_log_sum_exp_survive_large_logits() -> None:
    logits = np.array([[1e4, 1e4 - 1, 0.0], [-1e4, -1e4, -1e4]], np.float32)
    chances = softmax(logits)
    assert np.allclose(chances.sum(axis=1), 1) and np.isfinite(chances).all()
    assert np.allclose(log_sum_exp(logits), [1e4 + np.log1p(np.exp(-1)), -1e4 + np.log(3)])


@pytest.mark.slow
@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(true: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20_000, 6)).astype(np.float32)
    chances = softmax(logits / true)
    labels = (chances.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


def test_temperature_agrees_with_a_grid_search() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (300, 4)).astype(np.float32)
    labels = np.where(random.random(300) < 0.6, logits.argmax(axis=1), random.integers(0, 4, 300))

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature)[np.arange(300), labels]).mean())

    grid = np.geomspace(0.05, 20, 2000)
    assert loss(fit_temperature(logits, labels)) <= min(map(loss, grid)) + 1e-6


def test_a_few_right_rows_do_not_make_a_version_certain() -> None:
    close = np.array([[0.3, 0.0], [0.0, 0.35], [0.4, 0.0]], np.float32)
    right = np.array([0, 1, 0])
    found = fit_temperature(close, right)
    assert 0.2 < found < 1 and softmax(close / found).max() < 0.9
    assert 1 < fit_temperature(close, 1 - right) < 5, "nor a few wrong ones that it knows nothing"


@pytest.mark.parametrize("true", [0.5, 0.7, 1.5, 2.5])
def test_the_prior_is_lost_among_many_rows(true: float) -> None:
    """Against the loss alone, minimised by scipy."""
    from scipy.optimize import minimize_scalar

    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (500, 6)).astype(np.float32)
    labels = (softmax(logits / true).cumsum(axis=1) < random.random((500, 1))).sum(axis=1)

    def loss(inverse: float) -> float:
        return float(-np.log(softmax(logits.astype(np.float64) * inverse)[np.arange(500), labels]).mean())

    best = 1 / minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(logits, labels) == pytest.approx(best, abs=2e-3)


def test_nothing_to_fit_gives_temperature_one() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0
    assert fit_temperature(np.zeros((5, 1), np.float32), np.zeros(5, np.int64)) == 1.0


def strays(count: int, true: float) -> tuple[Floats, Integers]:
    """Rows whose best label is right as often as it is sure at a temperature, and whose other labels are drawn blindly.

    Those are nowhere near the best one, as labels that contradict each other are.
    """
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (count, 20)).astype(np.float32)
    best = logits.argmax(axis=1)
    other = (best + random.integers(1, 20, count)) % 20
    right = random.random(count) < softmax(logits / true).max(axis=1)
    return logits, np.where(right, best, other)


@pytest.mark.slow
@pytest.mark.parametrize("true", [0.6, 1.0, 1.4])
def test_the_best_label_is_as_often_right_as_it_is_sure(true: float) -> None:
    logits, labels = strays(20_000, true)
    found = fit_top_temperature(logits, labels)
    assert found == pytest.approx(true, rel=0.03)
    right = (logits.argmax(axis=1) == labels).mean()
    assert softmax(logits / found).max(axis=1).mean() == pytest.approx(right, abs=0.01)
    others = softmax(logits / fit_temperature(logits, labels)).max(axis=1).mean()
    assert abs(others - right) > 0.02, "all labels of a row together draw it off"


def test_the_best_label_alone_knows_its_bounds() -> None:
    assert fit_top_temperature(np.zeros((5, 1), np.float32), np.zeros(5, np.int64)) == pytest.approx(1, rel=0.02)
    close = np.array([[0.3, 0.0], [0.0, 0.35], [0.4, 0.0]], np.float32)
    assert 0.1 < fit_top_temperature(close, np.array([0, 1, 0])) < 1 < fit_top_temperature(close, np.array([1, 0, 1]))


def test_half_rejects_one_in_twenty_in_scope_rows() -> None:
    random = np.random.default_rng(2)
    signals = random.normal(5, 2, (2000, 3)).astype(np.float32)
    scope = fit_out_of_scope(signals, np.zeros(2000, bool), (1.0, 1.0, 1.0))
    assert np.mean(scope.score(signals) > 0.5) == pytest.approx(0.05, abs=0.002)


def test_out_of_scope_rows_teach_which_signal_tells() -> None:
    random = np.random.default_rng(3)
    outside = np.arange(400) < 200
    signals = random.normal(0, 1, (400, 2)).astype(np.float32)
    signals[outside, 1] -= 3
    scope = fit_out_of_scope(signals, outside, (1.0, 0.0))
    assert scope.weights[1] > 3 * abs(scope.weights[0])
    unfitted = fit_out_of_scope(signals[~outside], outside[~outside], (1.0, 0.0))
    found = [np.mean(s.score(signals[outside]) > 0.5) for s in (scope, unfitted)]
    assert found[0] > 0.85 > 0.3 > found[1]


def test_a_handful_of_out_of_scope_rows_does_not_overturn_the_prior() -> None:
    random = np.random.default_rng(4)
    signals = random.normal(0, 1, (102, 2)).astype(np.float32)
    outside = np.arange(102) >= 100
    signals[outside] = [[-2.0, 3.0], [-2.0, 3.0]]
    scope = fit_out_of_scope(signals, outside, (1.0, 1.0))
    assert scope.weights[0] > 0.5 and scope.weights[1] > 0


def test_constant_signals_and_single_rows_do_not_divide_by_zero() -> None:
    for count in (0, 1, 5):
        scope = fit_out_of_scope(np.ones((count, 2), np.float32), np.zeros(count, bool), (1.0, 1.0))
        assert np.isfinite(scope.score(np.ones((3, 2), np.float32))).all()


Row = tuple[float, bool, bool]
ROWS = st.lists(
    st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.booleans(), st.booleans()), min_size=0, max_size=80
)


def allowed(rows: list[Row], threshold: float, rate: float) -> bool:
    """Both promises of the docstring, counted row by row."""
    unanswerable = [score for score, _, answerable in rows if not answerable]
    answerable = [(score, correct) for score, correct, a in rows if a]
    false = sum(score >= threshold for score in unanswerable)
    wrong = sum(score >= threshold and not correct for score, correct in answerable)
    return (not unanswerable or (false + 1) / (len(unanswerable) + 1) <= rate + 1e-9) and (
        not answerable or (wrong + 1) / (len(answerable) + 1) <= rate + 1e-9
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ROWS, st.sampled_from([0.02, 0.05, 0.1, 0.3]))
def test_the_threshold_is_the_lowest_that_keeps_both_promises(rows: list[Row], rate: float) -> None:
    score = np.array([r[0] for r in rows], np.float64)
    correct, answerable = (np.array([r[i] for r in rows], bool) for i in (1, 2))
    choice = choose_threshold(score, correct, answerable, rate)
    candidates = sorted({r[0] for r in rows})
    best = next((t for t in candidates if allowed(rows, t, rate)), np.inf)
    answered = score >= choice.threshold
    assert (answered == (score >= best)).all()
    if answerable.any():
        assert choice.coverage == pytest.approx(float((answered & answerable).sum() / answerable.sum()))


def test_the_promise_holds_for_the_next_question() -> None:
    """Conformal risk control: over many calibration sets the mean error on fresh rows stays below the rate."""
    random = np.random.default_rng(5)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        answerable = random.random(count) < 0.6
        score = random.random(count) * np.where(answerable, 1.0, 0.7)
        return score, random.random(count) < score, answerable

    false, wrong = [], []
    for _ in range(400):
        choice = choose_threshold(*draw(60), 0.1)
        score, correct, answerable = draw(500)
        answered = score >= choice.threshold
        false.append((answered & ~answerable).sum() / (~answerable).sum())
        wrong.append((answered & answerable & ~correct).sum() / answerable.sum())
    assert np.mean(false) <= 0.1 and np.mean(wrong) <= 0.1
    assert np.mean(false) > 0.02, "not so careful that the promise is empty"


def test_too_few_rows_to_promise_anything_answer_nothing() -> None:
    choice = choose_threshold(np.ones(10), np.ones(10, bool), np.zeros(10, bool), 0.05)
    assert choice.threshold == np.inf and choice.false_answers == 0


def test_a_rate_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_threshold(np.ones(1), np.ones(1, bool), np.ones(1, bool), 1.5)
