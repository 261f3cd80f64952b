"""What a version said of labelled rows that it was not trained on, and the scores that follow.

Owns which rows count for which score, and the key by which two versions find the rows they share. Knows nothing
about reports, gates or how rows were split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.calibrate import Bools, Doubles, Integers, choose_threshold
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, approvable, normalised
from finetune.metrics import aurc, auroc, calibration_error, coverage_at, macro_f1, risk_coverage
from finetune.model import QuestionModel

OUT_OF_SCOPE_THRESHOLD = 0.5
"""On a calibrated version: turns away 5 % of its in-scope validation questions."""
OPEN_SET_THRESHOLD = 0.35
"""Where unknown questions are as common as known ones, and near them: turns away some 15 % of what is in scope. Chosen
from .25 to .5 on rows of BANKING77's train with 25 / 50 / 75 % of its intents known."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Measured on rows the version was not trained on. Shares in 0..1; None where the rows cannot tell.

    `accuracy`, `top_3` and `macro_f1` are over the rows with an intent, `intent_rows` of all the `rows`. Everything
    that judges the confidence (`calibration_error`, `aurc`, `coverage_at_*`: the largest share of questions for which
    an intent can be said with so many per cent of errors) is over all rows in scope, those that are answered
    otherwise than by an intent too: see `Outcomes.confidence`. The latter are chosen on the rows they are told of:
    they describe, thresholds with a promise come from `calibrate`. `auroc` and `oos_recall_at_5` tell the rows out of
    scope from all others; `false_rejection` is what the threshold from validation rows costs of the others here.
    """

    accuracy: float
    macro_f1: float
    top_3: float
    calibration_error: float
    false_rejection: float
    auroc: float | None
    oos_recall_at_5: float | None
    rows: int
    intent_rows: int
    aurc: float
    coverage_at_1: float
    coverage_at_2: float
    coverage_at_5: float
    open_accuracy: float | None
    """Share of all rows met rightly where what is above OPEN_SET_THRESHOLD is turned away: the intent said, or turned
    away. None without rows out of scope."""


@dataclass(frozen=True, slots=True)
class Dial:
    """What the one dial `max_error_rate` buys: see `calibrate.choose_threshold` for what it promises.

    A question is answered when `Outcomes.sureness` reaches `threshold`, which was chosen on other rows than those told
    of; None where these were too few to promise anything: nothing is answered then. Shares in 0..1: `coverage` of the
    questions in scope are answered, `wrong` of them wrongly, `false_answers` of those out of scope are answered.
    """

    max_error_rate: float
    threshold: float | None
    coverage: float
    wrong: float
    false_answers: float | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a version said of n rows. `truth` and `said` `[n]` are numbers of `labels`.

    `labels` begin with the `known` intents of the version; behind them stands whatever else the rows carry.
    `confidence` `[n]` is the probability of the intent that was said, as it is served: it is not made to sum to 1
    over the intents. Where a question may be answered otherwise the rest belongs to that, so the number says how
    often the intent is right among *all* questions in scope, and is judged among all of them: a row that is answered
    otherwise makes any intent wrong. Judged on the rows with an intent alone it would look too modest by just the
    share of the others, and scaled up to sum to 1 it would not be the number that thresholds are held against.
    Where no row is answered otherwise all three are the same.
    """

    labels: tuple[str, ...]
    known: int
    keys: tuple[str, ...]
    truth: Integers
    said: Integers
    confidence: Doubles
    among_3: Bools
    out_of_scope: Doubles

    @property
    def outside(self) -> Bools:
        """Rows that are out of scope."""
        return np.array([label == OUT_OF_SCOPE for label in self.labels], dtype=bool)[self.truth]

    @property
    def with_intent(self) -> Bools:
        return np.array([approvable(label) for label in self.labels], dtype=bool)[self.truth]

    @property
    def right(self) -> Bools:
        """The intent that was said is the row's; of a row out of scope: it was turned away."""
        return np.where(self.outside, self.out_of_scope > OUT_OF_SCOPE_THRESHOLD, self.said == self.truth)

    @property
    def sureness(self) -> Doubles:
        """The chance, `[n]`, that the question is in scope and its intent the one that was said."""
        return self.confidence * (1 - self.out_of_scope)

    def only(self, rows: Bools) -> Outcomes:
        """Those rows alone."""
        keys = tuple(key for key, kept in zip(self.keys, rows.tolist(), strict=True) if kept)
        arrays = (self.truth[rows], self.said[rows], self.confidence[rows], self.among_3[rows], self.out_of_scope[rows])
        return Outcomes(self.labels, self.known, keys, *arrays)

    def shared(self, keys: Collection[str]) -> Outcomes:
        """The rows whose key is one of these."""
        return self.only(np.array([key in keys for key in self.keys], dtype=bool))


def row_key(example: Example) -> str:
    """16 hex digits by which two trainings know the same row: text and history as `prepare` compares them, and intent.

    Holds no text, though whoever guesses a text can check the guess.
    """
    content = [normalised(example.text), [normalised(text) for _, text in example.history], example.intent]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_outcomes(model: QuestionModel, examples: Sequence[Example]) -> Outcomes:
    """Let the version read the rows that carry a label. An intent it does not know counts as an error."""
    rows = [e for e in examples if e.intent is not None]
    read = model.read([(e.text, e.history) for e in rows])
    strangers = sorted({e.intent or "" for e in rows} - set(read.labels))
    labels = (*read.labels, *strangers)
    numbers = {label: number for number, label in enumerate(labels)}
    truth = np.array([numbers[e.intent or ""] for e in rows], dtype=np.int64)
    order = np.argsort(-read.probabilities, axis=1, kind="stable")[:, :3]
    return Outcomes(
        labels=labels,
        known=len(read.labels),
        keys=tuple(row_key(e) for e in rows),
        truth=truth,
        said=order[:, 0].astype(np.int64),
        confidence=read.probabilities.max(axis=1),
        among_3=(order == truth[:, None]).any(axis=1),
        out_of_scope=read.out_of_scope,
    )


def scores_of(outcomes: Outcomes) -> Scores:
    """Raises FinetuneError when no row carries an intent."""
    outside, labelled, right = outcomes.outside, outcomes.with_intent, outcomes.right
    if not labelled.any():
        raise FinetuneError("no labelled in-scope row to measure on; add rows with an intent")
    confidence, correct = outcomes.confidence[~outside], right[~outside]
    rejected = outcomes.out_of_scope > OUT_OF_SCOPE_THRESHOLD
    unknown = outcomes.out_of_scope > OPEN_SET_THRESHOLD
    curve = risk_coverage(confidence, correct)
    return Scores(
        accuracy=float(right[labelled].mean()),
        macro_f1=macro_f1(outcomes.truth[labelled], outcomes.said[labelled]),
        top_3=float(outcomes.among_3[labelled].mean()),
        calibration_error=calibration_error(confidence, correct),
        false_rejection=float(rejected[~outside].mean()),
        auroc=auroc(outcomes.out_of_scope, outside),
        oos_recall_at_5=float(rejected[outside].mean()) if outside.any() else None,
        rows=len(outcomes.keys),
        intent_rows=int(labelled.sum()),
        aurc=aurc(confidence, correct),
        coverage_at_1=coverage_at(curve, 0.01).coverage,
        coverage_at_2=coverage_at(curve, 0.02).coverage,
        coverage_at_5=coverage_at(curve, 0.05).coverage,
        open_accuracy=float(np.where(outside, unknown, right & ~unknown).mean()) if outside.any() else None,
    )


def dialled(chosen_on: Outcomes, told: Outcomes, max_error_rate: float) -> Dial:
    """The threshold that one set of rows chooses for a promised rate, and what it does on another."""
    choice = choose_threshold(chosen_on.sureness, chosen_on.right, ~chosen_on.outside, max_error_rate)
    # Without any row to choose on nothing limits the choice, and nothing is promised.
    threshold = choice.threshold if chosen_on.keys else np.inf
    answered, outside = told.sureness >= threshold, told.outside
    return Dial(
        max_error_rate,
        threshold if np.isfinite(threshold) else None,
        float(answered[~outside].mean()),
        float((answered & ~told.right)[~outside].mean()),
        float(answered[outside].mean()) if outside.any() else None,
    )
