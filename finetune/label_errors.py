"""Which labels are probably wrong, and which intents are probably one, by confident learning.

Owns out-of-fold probabilities and what follows from them (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068). Knows
nothing about texts or files: rows are features, labels and leak groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from finetune.baseline import fit_baseline
from finetune.calibrate import Bools, Doubles, Floats, Integers, softmax

FOLDS = 5
NEIGHBOURS = 3
LEAST = 5
"""Rows of a label from which it can be said what it looks like; with fewer each of them looks wrong."""
CHUNK = 4_096
BLOCK = 256
"""Rows that are compared with all of a label at once."""
TOLD_APART = 0.7
"""Balanced accuracy of telling two intents apart, up to which they may be one. Halves of one intent reach .42 to .58,
the closest two intents of BANKING77 .90, of CLINC150 .86 (.74 with 15 % of all labels flipped)."""
ENOUGH = 10
"""Rows of both intents that it takes to say so."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What models that did not see a row say of it. `labels` are the c names, `given` `[n]` numbers them.

    `probabilities` `[n, c]` rows sum to 1; float32, for there may be many rows. `rows` `[n, 2d]` and `groups` `[n]` are
    what was judged.
    """

    labels: tuple[str, ...]
    given: Integers
    probabilities: Floats
    rows: Floats
    groups: Integers


@dataclass(frozen=True, slots=True)
class LabelError:
    """Row `row` is probably not `given`: a model that did not see it has these probabilities for both labels.

    `lead` is how much nearer (cosine) the nearest rows with the suggested label are than those with the given one.
    """

    row: int
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float
    lead: float

    @property
    def weight(self) -> float:
        """Orders the errors: the suggestion's term of the Kullback-Leibler divergence, p log(p / q), times the lead."""
        p, q = self.suggested_probability, max(self.given_probability, 1e-12)
        return p * math.log(p / q) * self.lead


@dataclass(frozen=True, slots=True)
class Confusable:
    """Two intents that a model cannot tell apart.

    `accuracy` is the balanced accuracy of choosing between the two, `confused` are the rows that were taken for the
    other one.
    """

    smaller: str
    larger: str
    rows: tuple[int, int]
    accuracy: float
    confused: tuple[int, ...]


def judge(rows: Floats, intents: Sequence[str], groups: Sequence[int], seed: int) -> Judged | None:
    """Each of n rows `[n, 2d]` judged by a baseline fitted on the other folds; None where there is nothing to compare.

    Rows of one leak group share a fold, so that no model has seen a near copy of what it judges.
    """
    labels, given = np.unique(np.array(intents, dtype=object).astype(str), return_inverse=True)
    _, places = np.unique(np.array(groups, np.int64), return_inverse=True)
    folds = _folds(places, given, seed)
    if len(labels) < 2 or folds.max(initial=0) < 1:
        return None
    probabilities = np.zeros((len(rows), len(labels)), np.float32)
    for fold in range(int(folds.max()) + 1):
        seen, judged = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(np.unique(given[seen])) < 2:
            return None
        head = fit_baseline(rows[seen], labels[given[seen]].tolist(), seed)
        columns = np.searchsorted(labels, head.labels)
        for start in range(0, len(judged), CHUNK):
            part = judged[start : start + CHUNK]
            probabilities[np.ix_(part, columns)] = softmax(rows[part] @ head.weight.T + head.bias)
    return Judged(tuple(map(str, labels)), given, probabilities, rows, places)


def _folds(places: Integers, given: Integers, seed: int) -> Integers:
    """A fold for each row, whole groups at a time, each label spread over the folds as evenly as its groups allow."""
    count = min(FOLDS, int(places.max(initial=-1)) + 1)
    first = np.zeros(int(places.max(initial=-1)) + 1, np.int64)
    first[places] = given
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(first[order], kind="stable")]
    fold = np.zeros(len(first), np.int64)
    fold[order] = np.arange(len(first)) % max(1, count)
    return fold[places]


def thresholds(judged: Judged) -> Doubles:
    """How sure the model usually is of rows labelled so: the mean probability of each label on its own rows, `[c]`."""
    own = judged.probabilities[np.arange(len(judged.given)), judged.given].astype(np.float64)
    counts = np.bincount(judged.given, minlength=len(judged.labels))
    return np.asarray(np.bincount(judged.given, own, len(judged.labels)) / np.maximum(counts, 1))


def judgeable(judged: Judged) -> Bools:
    """Which labels their rows say anything about, `[c]`.

    Where all rows of a label are in one fold, the model that judged them had never seen it: it gave them exactly 0.
    """
    return thresholds(judged) > 0


def confident_joint(judged: Judged) -> Doubles:
    """The estimated joint distribution `[c, c]` of given and true label; it sums to 1.

    A row counts as truly j when its probability of j reaches j's threshold, of several such j the most probable; none
    does when j is not judgeable. Counts are scaled so that each given label keeps its share of the rows (equations 1 to
    3 of the paper).
    """
    size = len(judged.labels)
    counts = np.bincount(judged.given, minlength=size)
    known = judgeable(judged)
    confident = np.where(known & (judged.probabilities >= thresholds(judged)), judged.probabilities, -1.0)
    true = confident.argmax(axis=1)
    sure = confident.max(axis=1) >= 0
    joint = np.zeros((size, size))
    np.add.at(joint, (judged.given[sure], true[sure]), 1)
    totals = joint.sum(axis=1)
    joint[totals == 0, totals == 0] = 1
    joint *= (counts / np.maximum(joint.sum(axis=1), 1))[:, None]
    return np.asarray(joint / joint.sum())


def label_errors(judged: Judged) -> list[LabelError]:
    """The rows that are probably mislabelled, the surest first.

    How many, the joint says: as many as both of the paper's rules find (C+NR, its most precise). Which, their weight
    says, for that finds more of them than the rules and than simpler orders do, and keeps to rows whose neighbours
    agree: where the model is often wrong the joint blames the labels for it (docs/decisions.md).
    """
    joint = confident_joint(judged) * len(judged.given)
    own = judged.probabilities[np.arange(len(judged.given)), judged.given]
    known = judgeable(judged)
    enough = known & (np.bincount(judged.given, minlength=len(judged.labels)) >= LEAST)
    blamed = _by_class(judged, joint, own) & _by_pair(judged, joint, own) & known[judged.given]
    best = judged.probabilities.argmax(axis=1)
    rows = np.flatnonzero((judged.probabilities.max(axis=1) > own) & enough[judged.given] & enough[best])
    leads = _nearness(judged, rows, best[rows]) - _nearness(judged, rows, judged.given[rows])
    errors = []
    for row, lead in zip(rows.tolist(), leads.tolist(), strict=True):
        if lead > 0:
            given, other = judged.labels[judged.given[row]], judged.labels[best[row]]
            p, q = float(judged.probabilities[row, best[row]]), float(own[row])
            errors.append(LabelError(row, given, other, q, p, lead))
    return sorted(errors, key=lambda error: (-error.weight, error.row))[: int(blamed.sum())]


def _nearness(judged: Judged, rows: Integers, labels: Integers) -> Floats:
    """Mean cosine of each of the rows to the nearest ones of the label that is asked about, near copies of it left out;
    0 where there are none."""
    result = np.zeros(len(rows), np.float32)
    for label in np.unique(labels).tolist():
        others, places = np.flatnonzero(judged.given == label), np.flatnonzero(labels == label)
        vectors, count = judged.rows[others].T, min(NEIGHBOURS, len(others))
        for start in range(0, len(places), BLOCK):
            block = places[start : start + BLOCK]
            likeness = judged.rows[rows[block]] @ vectors
            likeness[judged.groups[rows[block]][:, None] == judged.groups[others]] = -np.inf
            best = np.partition(likeness, -count, axis=1)[:, -count:]
            there = np.isfinite(best)
            result[block] = np.where(there, best, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return result


def _by_class(judged: Judged, joint: Doubles, own: Floats) -> Bools:
    """The rows of each given label that look least like it, as many as the joint says are wrong."""
    found = np.zeros(len(own), bool)
    for label in range(len(judged.labels)):
        rows = np.flatnonzero(judged.given == label)
        wrong = round(float(joint[label].sum() - joint[label, label]))
        found[rows[np.argsort(own[rows], kind="stable")[:wrong]]] = True
    return found


def _by_pair(judged: Judged, joint: Doubles, own: Floats) -> Bools:
    """For each pair of labels the rows of the one that look most like the other, as many as the joint says."""
    found = np.zeros(len(own), bool)
    for label, other in np.argwhere(np.round(joint) >= 1).tolist():
        if label != other:
            rows = np.flatnonzero(judged.given == label)
            margin = judged.probabilities[rows, other] - own[rows]
            found[rows[np.argsort(-margin, kind="stable")[: round(float(joint[label, other]))]]] = True
    return found


def confusable(judged: Judged) -> list[Confusable]:
    """Pairs of intents that may be one, the least told apart first.

    Only the two are compared: an intent that is cut in two is confused with its other half about as often as chance
    has it, while two intents that are close are still told apart nine times of ten.
    """
    members = [np.flatnonzero(judged.given == label) for label in range(len(judged.labels))]
    known = judgeable(judged)
    enough = [label for label, rows in enumerate(members) if len(rows) >= ENOUGH and known[label]]
    taken = {label: _taken_for(judged, members[label], label) for label in enough}
    found = []
    for one, other in combinations(enough, 2):
        there, back = taken[one][:, other], taken[other][:, one]
        accuracy = 1 - (float(there.mean()) + float(back.mean())) / 2
        if accuracy <= TOLD_APART:
            small, large = sorted((one, other), key=lambda label: (len(members[label]), label))
            mixed = (*members[one][there].tolist(), *members[other][back].tolist())
            sizes = (len(members[small]), len(members[large]))
            found.append(Confusable(judged.labels[small], judged.labels[large], sizes, accuracy, mixed))
    return sorted(found, key=lambda pair: (pair.accuracy, pair.smaller, pair.larger))


def _taken_for(judged: Judged, rows: Integers, label: int) -> Bools:
    """Which of the rows of a label look more like each other one, `[m, c]`."""
    return np.asarray(judged.probabilities[rows] >= judged.probabilities[rows, label][:, None])
