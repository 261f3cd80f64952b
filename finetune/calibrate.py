"""From scores to numbers one can act on: temperature, out-of-scope score, and thresholds for a promised error rate.

Owns the arithmetic, in NumPy alone. Knows nothing about encoders, files or what the scores are about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

PRIOR = 0.25
"""Strength of the prior on the temperature: that of one row which is a toss-up of two logits that lie 1 apart."""

FLOOR = -9.0
"""No label's log chance counts as less where readers are added up: what one has never seen together is no proof."""

FALSE_REJECTION = 0.05
"""Share of in-scope validation questions that an out-of-scope score of 0.5 turns away."""


# ------------------------------------------------------------------------------------------------ probabilities


def softmax(logits: NDArray[np.floating]) -> Doubles:
    """Row-wise softmax of `[n, c]`, safe for large values."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_sum_exp(logits: NDArray[np.floating]) -> Doubles:
    top = logits.max(axis=1).astype(np.float64)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def floored_log_chances(logits: Floats) -> Floats:
    """The log of each label's chance, `[n, c]`, not below FLOOR."""
    return np.maximum(logits - log_sum_exp(logits)[:, None], FLOOR).astype(np.float32)


def log_loss(logits: NDArray[np.floating], labels: Integers) -> float:
    """Mean of minus the log probability of the right label; 0 without rows."""
    if len(labels) == 0:
        return 0.0
    return float((log_sum_exp(logits) - logits[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """The temperature in 0.05..20 that minimises the held-out log loss (Guo et al. 2017) with a prior around 1.

    1 when there is nothing to fit. A few rows that are all right would make any version certain, and the temperature
    run to its bound; the prior, a gamma of mode 1 on 1/temperature, holds it back as a row would, and near 1 is
    Gaussian in its logarithm. Loss and prior are both convex in 1/temperature, so a golden-section search finds it.
    """
    if len(labels) == 0 or logits.shape[1] < 2:
        return 1.0
    exact = logits.astype(np.float64)

    def loss(inverse: float) -> float:
        return log_loss(exact * inverse, labels) + PRIOR / len(labels) * (inverse - 1 - math.log(inverse))

    low, high = 1 / 20, 1 / 0.05
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(2 / (low + high))


def fit_top_temperature(logits: Floats, labels: Integers) -> float:
    """The temperature in 0.05..20, to 1.5 %, at which the chance of the best label alone surprises least.

    Top-label calibration (Gupta and Ramdas 2022, arXiv 2107.08353): whether the best label is right is all that a
    threshold asks, and a temperature for all labels is drawn off by rows whose label is nowhere near the best. A row
    says less this way, so it takes many. The prior is that of `fit_temperature`; the loss may have several valleys.
    """
    right = logits.argmax(axis=1) == labels

    def loss(temperature: float) -> float:
        best = softmax(logits / temperature).max(axis=1)
        surprise = -np.log(np.where(right, best, np.maximum(1 - best, 1e-12))).sum()
        return float(surprise + PRIOR * (1 / temperature - 1 + math.log(temperature)))

    return min(map(float, np.geomspace(0.05, 20, 400)), key=loss)


# ------------------------------------------------------------------------------------------------- out of scope


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Turns signals `[n, k]` into a score in 0..1, where 0.5 rejects `FALSE_REJECTION` of in-scope questions.

    Each signal is larger for questions that look *in* scope, and is standardised on in-scope validation rows.
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float

    def score(self, signals: NDArray[np.floating]) -> Doubles:
        unusual = -((signals - np.array(self.means)) / np.array(self.scales)) @ np.array(self.weights)
        return np.asarray(1 / (1 + np.exp(np.clip(self.offset - unusual, -60, 60))))


def fit_out_of_scope(signals: Floats, outside: Bools, prior: tuple[float, ...]) -> OutOfScope:
    """Weigh the signals on held-out rows; `outside` marks the out-of-scope ones.

    A logistic regression with equal weight for both sides, drawn towards `prior` as strongly as 20 rows would, so
    that a handful of out-of-scope rows, or none, still gives a sane score.
    """
    inside = signals[~outside].astype(np.float64)
    if len(inside) == 0:
        inside = np.zeros((1, signals.shape[1]))
    means, scales = inside.mean(axis=0), inside.std(axis=0)
    scales = np.where(scales > 1e-6, scales, 1.0)
    weights = np.array(prior, dtype=np.float64)
    if outside.any() and not outside.all():
        weights = _logistic(-(signals - means) / scales, outside, weights)
    unusual = -((inside - means) / scales) @ weights
    offset = float(np.quantile(unusual, 1 - FALSE_REJECTION))
    return OutOfScope(tuple(means.tolist()), tuple(scales.tolist()), tuple(weights.tolist()), offset)


def _logistic(features: Doubles, positive: Bools, prior: Doubles, strength: float = 20.0) -> Doubles:
    """Newton's method for a balanced logistic regression with a Gaussian prior around `prior` and a free bias."""
    columns = np.hstack([features, np.ones((len(features), 1))])
    target = positive.astype(np.float64)
    count = min(int(positive.sum()), int((~positive).sum()))
    importance = np.where(positive, count / positive.sum(), count / (~positive).sum())
    centre = np.append(prior, 0.0)
    penalty = np.append(np.full(len(prior), strength / 4), 1e-6)
    solution = centre.copy()
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(columns @ solution, -30, 30)))
        gradient = columns.T @ (importance * (chance - target)) + penalty * (solution - centre)
        curvature = (columns * (importance * chance * (1 - chance))[:, None]).T @ columns + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(solution)), gradient)
        solution = solution - step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-8:
            break
    return np.asarray(solution[:-1])


# --------------------------------------------------------------------------------------------------- thresholds


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold and what it buys on the rows that chose it. Answer when `score >= threshold`."""

    threshold: float
    coverage: float
    """Share of answerable questions that are answered."""
    wrong: float
    """Share of answerable questions that get a wrong answer."""
    false_answers: float
    """Share of unanswerable questions that are answered."""


def choose_threshold(score: Doubles, correct: Bools, answerable: Bools, max_error_rate: float) -> Choice:
    """The lowest threshold that keeps two promises for the next question from the same source.

    Of unanswerable questions at most `max_error_rate` are answered; of answerable ones at most `max_error_rate` are
    answered wrongly. Each loss can only fall as the threshold rises, so conformal risk control applies
    (Angelopoulos et al. 2022, arXiv 2208.02814): the n held-out losses and one worst-case loss for the unseen
    question must together stay below the rate, `(sum + 1) / (n + 1) <= max_error_rate`. With fewer than
    `1 / max_error_rate - 1` rows of a kind nothing can be promised and nothing is answered (threshold infinity);
    a kind with no row at all sets no limit.
    """
    if not 0 < max_error_rate < 1:
        raise ValueError(f"max_error_rate is {max_error_rate}; it must lie between 0 and 1")
    threshold = max(
        _controlled(score[~answerable], max_error_rate, int((~answerable).sum())),
        _controlled(score[answerable & ~correct], max_error_rate, int(answerable.sum())),
        float(score.min()) if len(score) else -np.inf,
    )
    answered = score >= threshold

    def share(part: Bools, of: Bools) -> float:
        return float(part.sum() / of.sum()) if of.any() else 0.0

    return Choice(
        threshold,
        share(answered & answerable, answerable),
        share(answered & answerable & ~correct, answerable),
        share(answered & ~answerable, ~answerable),
    )


def _controlled(harmful: Doubles, rate: float, count: int) -> float:
    """The lowest threshold at which `(harmful scores at or above it + 1) / (count + 1)` is at most `rate`."""
    if count == 0:
        return -np.inf
    allowed = int(np.floor(rate * (count + 1) + 1e-9)) - 1
    if allowed < 0:
        return np.inf
    if allowed >= len(harmful):
        return -np.inf
    # Just above the first score that would be one mistake too many; equal scores fall together.
    return float(np.nextafter(np.sort(harmful)[::-1][allowed], np.inf))
