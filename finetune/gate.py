"""Whether a version may go live: LoRA must beat its baseline, and nothing may lose to what is live.

Owns the rules and their reasons; every broken rule is told, not only the first. Knows nothing about training or about
how a version is made live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from finetune.encoder import Encoder
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.metrics import calibration_error, mcnemar, per_class
from finetune.outcomes import Outcomes, Scores, row_key
from finetune.registry import Registry, verify
from finetune.report import Outcome, VersionReport, read_report

CHANCE = 0.05
"""p of the paired test from which rows lost and won are taken for chance."""
AUROC_DROP = 0.01
"""What LoRA may lose to its baseline in telling what is out of scope."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a version may lose to the live one. Shares in 0..1; bot/settings.py holds the same defaults.

    Fewer right within `accuracy_drop` may be chance, and refusing it would refuse every second version that is as
    good as the live one. It cannot add up over many versions: each must also beat a baseline learnt from its own rows.
    """

    rows: int = 20
    """Rows from which an intent counts, and from which two versions are compared on the rows they share."""
    accuracy_drop: float = 0.01
    recall_drop: float = 0.05
    calibration_drop: float = 0.01


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version may go live, and why: all that speaks against it, or what speaks for it."""

    accepted: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)


# ---------------------------------------------------------------------------------------------- against the baseline


def beats_baseline(lora: Scores, baseline: Scores) -> Verdict:
    """LoRA earns its place only by more right answers on held-out rows, without seeing less of what is out of scope.

    A tie goes to the baseline: it is simpler.
    """
    if lora.intent_rows == 0 or not np.isfinite([lora.accuracy, baseline.accuracy]).all():
        return Verdict(False, ("not measured: no held-out rows",))
    change = f"accuracy {lora.accuracy:.4f} against {baseline.accuracy:.4f} on {lora.intent_rows} held-out rows"
    against = []
    if lora.accuracy <= baseline.accuracy:
        against.append(f"does not beat the baseline: {change}")
    if lora.auroc is not None and baseline.auroc is not None and lora.auroc < baseline.auroc - AUROC_DROP:
        against.append(f"sees less of what is out of scope: AUROC {lora.auroc:.4f} against {baseline.auroc:.4f}")
    return Verdict(not against, tuple(against) or (f"beats the baseline: {change}",))


# ---------------------------------------------------------------------------------------------- against what is live


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate looks at, of one version: `recalls` are `(recall, rows)` of each intent with a row.

    `right` says of each row with an intent whether it was, in the order of the rows; empty where only sums are known.
    """

    accuracy: float
    rows: int
    calibration_error: float | None
    recalls: Mapping[str, tuple[float, int]]
    right: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Duel:
    """A candidate and the live version, and the rows they are compared on, in words."""

    candidate: Evidence
    live: Evidence
    basis: str


@dataclass(frozen=True, slots=True)
class Live:
    """The version that is live, as far as it can still speak for itself: `outcomes` on rows held out from it."""

    version: str
    report: VersionReport | None
    accuracy: float | None
    outcomes: Outcomes | None
    trouble: str = ""


def live_on(held_out: Sequence[Example], registry: Registry, encoder: Encoder) -> Live | None:
    """The live version, and what it said of those held-out rows that were held out from it too; None before the first.

    What it said is in its report. It is not asked again: of a small set the version that serves has learnt from its
    held-out rows in the end, and the report is of the one that had not.

    Raises FinetuneError when the pointer to it is damaged. What cannot be loaded holds nobody back: to train again is
    the cure for it.
    """
    version = registry.current()
    if version is None:
        return None
    try:
        verify(registry.folder(version), encoder.fingerprint)
        accuracy = registry.show(version).metrics.get("accuracy")
    except FinetuneError as error:
        return Live(version, None, None, None, f"{error}")
    try:
        report = read_report(registry, version)
    except FinetuneError:
        # Its bytes are those that were saved: another version of this program wrote it.
        report = None
    if report is None:
        return Live(version, None, accuracy, None)
    said = {row.key: row for row in report.outcomes}
    keys = [row_key(e) for e in held_out if e.intent is not None]
    shared = [said[key] for key in keys if key in said]
    return Live(version, report, accuracy, _outcomes(report, shared) if shared else None)


def _outcomes(report: VersionReport, rows: Sequence[Outcome]) -> Outcomes:
    """Rows of a report as they were when it was written, but for what no rule here looks at."""
    rejected = [row.right and report.labels[row.intent] == OUT_OF_SCOPE for row in rows]
    return Outcomes(
        labels=report.labels,
        known=len(report.labels),
        keys=tuple(row.key for row in rows),
        truth=np.array([row.intent for row in rows], dtype=np.int64),
        said=np.array([row.said for row in rows], dtype=np.int64),
        confidence=np.array([row.confidence for row in rows], dtype=np.float64),
        among_3=np.array([row.right for row in rows], dtype=bool),
        out_of_scope=np.array(rejected, dtype=np.float64),
    )


def holds_against(live: Live | None, outcomes: Outcomes, limits: Limits) -> Verdict:
    """Whether a candidate, by what it said of its held-out rows, loses nothing to the live version.

    Both are compared on the rows that neither was trained on. With fewer than `limits.rows` of them each is judged by
    the rows it was measured on itself, and the reason says so.
    """
    if live is None:
        return Verdict(True, ("nothing was live before",))
    if live.trouble:
        return Verdict(True, (f"nothing to compare with: the live version cannot be loaded ({live.trouble})",))
    duel = _duel(live, outcomes, limits)
    if duel is None:
        return Verdict(True, (f"nothing to compare with: the live version {live.version} was never measured",))
    broken = broken_rules(duel, limits)
    if broken:
        return Verdict(False, (*broken, duel.basis))
    counted = sum(rows >= limits.rows for _, rows in duel.candidate.recalls.values())
    said = f"accuracy {duel.candidate.accuracy:.4f} against {duel.live.accuracy:.4f}"
    if duel.candidate.calibration_error is not None and duel.live.calibration_error is not None:
        said += f", ECE {duel.candidate.calibration_error:.3f} against {duel.live.calibration_error:.3f}"
    floors = f"{counted} of {len(duel.candidate.recalls)} intents have the {limits.rows} rows that a floor needs"
    return Verdict(True, (f"loses nothing to the live version: {said}, {floors}", duel.basis))


def broken_rules(duel: Duel, limits: Limits) -> tuple[str, ...]:
    """Every rule that the candidate breaks, in words; empty when it may go live."""
    candidate, live = duel.candidate, duel.live
    broken = []
    if live.accuracy - candidate.accuracy > limits.accuracy_drop + 1e-9 or _surely_fewer(candidate.right, live.right):
        broken.append(
            f"fewer right than the live version: accuracy {candidate.accuracy:.4f} against {live.accuracy:.4f}"
            + _flips(candidate.right, live.right)
        )
    for intent, (recall, rows) in sorted(candidate.recalls.items()):
        before, rows_before = live.recalls.get(intent, (0.0, 0))
        if min(rows, rows_before) >= limits.rows and recall < before - limits.recall_drop - 1e-9:
            broken.append(
                f"intent {intent} falls below its floor: recall {recall:.3f}, floor {before - limits.recall_drop:.3f} "
                f"({before:.3f} live) on {rows} rows"
            )
    errors = candidate.calibration_error, live.calibration_error
    if errors[0] is not None and errors[1] is not None and errors[0] > errors[1] + limits.calibration_drop + 1e-9:
        broken.append(f"calibration got worse: ECE {errors[0]:.3f} against {errors[1]:.3f}")
    return tuple(broken)


def _surely_fewer(right: Sequence[bool], before: Sequence[bool]) -> bool:
    """Whether so many more of the shared rows were lost than won that it is no chance: a little can be certain."""
    won, lost = _flipped(right, before)
    return lost > won and mcnemar(won, lost) < CHANCE


def _flips(right: Sequence[bool], before: Sequence[bool]) -> str:
    won, lost = _flipped(right, before)
    return f" (rows won {won}, lost {lost}, p {mcnemar(won, lost):.2g})" if won or lost else ""


def _flipped(right: Sequence[bool], before: Sequence[bool]) -> tuple[int, int]:
    """How many of the same rows were won and lost; none where they are not the same."""
    if len(right) != len(before):
        return 0, 0
    won = sum(now and not then for now, then in zip(right, before, strict=True))
    return won, sum(then and not now for now, then in zip(right, before, strict=True))


def _duel(live: Live, outcomes: Outcomes, limits: Limits) -> Duel | None:
    shared = 0
    if live.outcomes is not None:
        same = outcomes.shared(set(live.outcomes.keys))
        shared = int(same.with_intent.sum())
        if shared >= limits.rows:
            basis = f"compared with {live.version} on {shared} rows that neither was trained on"
            return Duel(evidence_of(same), evidence_of(live.outcomes), basis)
    own = evidence_of(outcomes)
    if live.report is not None:
        why = f"only {shared} held-out rows are shared" if shared else "no held-out row is shared"
        basis = f"compared with {live.version} by its own report, each on rows of its own: {why}"
        return Duel(own, evidence_of_report(live.report), basis)
    if live.accuracy is None:
        return None
    basis = f"compared with {live.version} by its accuracy alone: it has no report that can be read"
    return Duel(own, Evidence(live.accuracy, 0, None, {}), basis)


def evidence_of(outcomes: Outcomes) -> Evidence:
    """Evidence from rows that were read."""
    labelled, inside, right = outcomes.with_intent, ~outcomes.outside, outcomes.right
    scores = per_class(outcomes.truth[labelled], outcomes.said[labelled], len(outcomes.labels))
    return Evidence(
        float(right[labelled].mean()),
        int(labelled.sum()),
        calibration_error(outcomes.confidence[inside], right[inside]),
        {
            label: (float(recall), int(rows))
            for label, recall, rows in zip(outcomes.labels, scores.recall, scores.rows, strict=True)
            if rows
        },
        tuple(right[labelled].tolist()),
    )


def evidence_of_report(report: VersionReport) -> Evidence:
    """Evidence from what a version's report says of its own held-out rows."""
    recalls = {i.intent: (i.recall, i.rows) for i in report.intents if i.recall is not None}
    return Evidence(report.scores.accuracy, report.scores.intent_rows, report.scores.calibration_error, recalls)


# ------------------------------------------------------------------------------------------------- the decision


def winner(lora: Verdict, baseline: Verdict) -> Literal["lora", "baseline"] | None:
    """What goes live: LoRA if nothing speaks against it, else the baseline, else what is live stays."""
    if lora.accepted:
        return "lora"
    return "baseline" if baseline.accepted else None


def both(*verdicts: Verdict) -> Verdict:
    """One verdict of several: everything that speaks against, or everything that speaks for."""
    accepted = all(v.accepted for v in verdicts)
    return Verdict(accepted, tuple(reason for v in verdicts if v.accepted is accepted for reason in v.reasons))
