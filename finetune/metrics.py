"""The measures of a classifier that may decline to answer, in NumPy alone.

Owns the formulas and where they come from. Knows nothing about models, rows of text or what is done with a number.
Labels are class numbers, confidences lie in 0..1; equal confidences are never told apart by the order of the rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from finetune.calibrate import Bools, Doubles, Integers

BINS = 15


# ------------------------------------------------------------------------------------------------------ by class


@dataclass(frozen=True, slots=True)
class PerClass:
    """Scores of classes 0..c-1, `[c]` each. Precision is NaN for a class that was never said, recall for one that
    never was right."""

    rows: Integers
    precision: Doubles
    recall: Doubles
    f1: Doubles


def per_class(right: Integers, said: Integers, classes: int) -> PerClass:
    """Precision, recall and F1 of each of the classes; `right` and `said` are `[n]`."""
    hits = np.bincount(right[right == said], minlength=classes)
    rows, answers = np.bincount(right, minlength=classes), np.bincount(said, minlength=classes)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / answers, hits / rows
    return PerClass(rows, precision, recall, 2 * hits / np.maximum(rows + answers, 1))


def macro_f1(right: Integers, said: Integers) -> float:
    """Mean F1 over the classes that occur in `right` (scikit-learn's macro average over those labels)."""
    if not len(right):
        return 0.0
    scores = per_class(right, said, int(max(right.max(), said.max())) + 1)
    return float(scores.f1[scores.rows > 0].mean())


def confusion_pairs(right: Integers, said: Integers, most: int) -> tuple[tuple[int, int, int], ...]:
    """`(right, said, rows)` of the mistakes made most often, at most `most` of them."""
    counts = Counter((r, s) for r, s in zip(right.tolist(), said.tolist(), strict=True) if r != s)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((r, s, count) for (r, s), count in ordered[:most])


# ----------------------------------------------------------------------------------------------------- detection


def auroc(score: Doubles, positive: Bools) -> float | None:
    """Chance that a positive row scores above a negative one, ties counting half; None without both kinds."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


# --------------------------------------------------------------------------------------------------- calibration


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows of like confidence: how sure the model was on average, and how often it was right."""

    rows: int
    confidence: float
    accuracy: float


def reliability(confidence: Doubles, correct: Bools, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The rows in order of confidence, in `bins` parts of equal size (to one row), least sure first.

    Equal mass rather than equal width: no bin is nearly empty, so the estimate is steadier and less biased (Nguyen &
    O'Connor 2015, "Posterior calibration and exploratory analysis"; Roelofs et al. 2022, arXiv 2012.08668).
    """
    order = np.argsort(confidence, kind="stable")
    hits = _shared_by_ties(confidence, correct)[order]
    parts = np.array_split(np.arange(len(order)), min(bins, len(order))) if len(order) else []
    return tuple(
        ReliabilityBin(len(part), float(confidence[order[part]].mean()), float(hits[part].mean())) for part in parts
    )


def calibration_error(confidence: Doubles, correct: Bools, bins: int = BINS) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over the bins of `reliability`."""
    table = reliability(confidence, correct, bins)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in table) / max(1, len(confidence))


def _shared_by_ties(confidence: Doubles, correct: Bools) -> Doubles:
    """Of each row the share of right ones among the rows of the same confidence: its mean over every order."""
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(inverse, weights=correct, minlength=len(counts)) / counts)[inverse])


# --------------------------------------------------------------------------------------- answering when sure enough


@dataclass(frozen=True, slots=True)
class RiskCurve:
    """What answering from a confidence upwards gives, `[m]` each: one point for each confidence, the surest first.

    `coverage` is the share of rows answered, `error` the share of those that are wrong (selective risk).
    """

    confidence: Doubles
    coverage: Doubles
    error: Doubles


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """One point of a RiskCurve: answer when at least so sure. No confidence is enough where nothing is answered."""

    coverage: float
    error: float
    confidence: float | None


def risk_coverage(confidence: Doubles, correct: Bools) -> RiskCurve:
    """The risk-coverage curve (Geifman & El-Yaniv 2017, arXiv 1705.08500); equal confidences fall together."""
    values, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(inverse, weights=~correct, minlength=len(counts))[::-1].cumsum()
    answered = counts[::-1].cumsum()
    return RiskCurve(values[::-1], answered / max(1, len(confidence)), wrong / answered)


def aurc(confidence: Doubles, correct: Bools) -> float:
    """Area under the risk-coverage curve: the mean of its error over the n coverages (Geifman et al. 2019, arXiv
    1805.08206), 0 at best. Rows of equal confidence count as the mean over their orders."""
    if not len(confidence):
        return 0.0
    wrong = 1 - _shared_by_ties(confidence, correct)[np.argsort(-confidence, kind="stable")]
    return float((wrong.cumsum() / np.arange(1, len(wrong) + 1)).mean())


def coverage_at(curve: RiskCurve, rate: float) -> RiskPoint:
    """The largest coverage at which no more than `rate` of the answers are wrong."""
    kept = np.flatnonzero(curve.error <= rate)
    return _point(curve, int(kept[-1])) if len(kept) else RiskPoint(0.0, 0.0, None)


def risk_table(curve: RiskCurve, points: int = 20) -> tuple[RiskPoint, ...]:
    """The curve at coverages of at least 1/points, 2/points, ... 1; points that fall together are given once."""
    wanted = np.arange(1, points + 1) / points
    places = np.unique(np.searchsorted(curve.coverage, wanted - 1e-12))
    return tuple(_point(curve, int(place)) for place in places if place < len(curve.coverage))


def _point(curve: RiskCurve, place: int) -> RiskPoint:
    return RiskPoint(float(curve.coverage[place]), float(curve.error[place]), float(curve.confidence[place]))


# ---------------------------------------------------------------------------------------------------------- chance


def mcnemar(won: int, lost: int) -> float:
    """p of the exact McNemar test (McNemar 1947): how often as uneven a `won` and `lost`, or worse, were mere chance.

    Of the rows that two versions judge differently each would be a fair coin: a two-sided binomial test.
    """
    flips = won + lost
    ways, tail = 1, 0
    for k in range(min(won, lost) + 1):
        tail += ways
        ways = ways * (flips - k) // (k + 1)
    # Whole numbers until here: 20,000 flips are as exact as two.
    return min(1.0, 2 * tail / (1 << flips))


def wilson(hits: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """The interval that holds the true share at that level of confidence (Wilson 1927); (0, 1) without rows."""
    if not rows:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = hits / rows, z * z / rows
    centre = (share + spread / 2) / (1 + spread)
    reach = z * float(np.sqrt(share * (1 - share) / rows + spread / (4 * rows))) / (1 + spread)
    return max(0.0, centre - reach), min(1.0, centre + reach)
