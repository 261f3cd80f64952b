"""What changed from one version to another, on the held-out rows that neither was trained on.

Owns the paired comparison of two reports. Knows nothing about models: what each version said is in its report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune.examples import OUT_OF_SCOPE, approvable
from finetune.metrics import calibration_error, coverage_at, mcnemar, risk_coverage
from finetune.report import ERROR_RATES, Outcome, VersionReport

NOISE = 0.05
"""From this p on a difference may as well be chance."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The same rows judged by both: shares that are right, and the rows on which they differ.

    `won` are right only now, `lost` only before; `p` is that of the exact McNemar test.
    """

    rows: int
    before: float
    after: float
    won: int
    lost: int
    p: float

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class IntentChange:
    """Recall of one intent on the shared rows."""

    intent: str
    paired: Paired


@dataclass(frozen=True, slots=True)
class Confidence:
    """How far the confidence can be trusted on the shared rows in scope; `coverage` is at ERROR_RATES."""

    rows: int
    calibration_error: float
    coverage: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`accuracy` is over rows with an intent, `out_of_scope` over those that should be turned away; None without such
    rows. `intents` come with the greatest loss first."""

    accuracy: Paired | None
    out_of_scope: Paired | None
    intents: tuple[IntentChange, ...]
    before: Confidence | None
    after: Confidence | None
    made_differently: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        if self.accuracy is None:
            return "no held-out row is shared: nothing can be said of one against the other, row by row"
        odds = f"rows won {self.accuracy.won}, lost {self.accuracy.lost}, exact McNemar p = {self.accuracy.p:.2g}"
        if self.accuracy.won == self.accuracy.lost == 0:
            return f"both are right on the same {self.accuracy.rows} rows"
        if self.accuracy.p >= NOISE:
            return f"the difference is within noise ({odds})"
        return f"{'better' if self.accuracy.change > 0 else 'worse'} beyond chance ({odds})"


def compare(before: VersionReport, after: VersionReport) -> Comparison:
    """Compare two versions on the rows whose key is in both reports, and so carry the same intent in both."""
    earlier = {row.key: row for row in before.outcomes}
    pairs = [(earlier[row.key], row) for row in after.outcomes if row.key in earlier]
    names = [after.labels[row.intent] for _, row in pairs]
    by_intent: dict[str, list[tuple[Outcome, Outcome]]] = {}
    for name, pair in zip(names, pairs, strict=True):
        if approvable(name):
            by_intent.setdefault(name, []).append(pair)
    changes = [IntentChange(name, _paired(some)) for name, some in by_intent.items()]
    labelled = [pair for some in by_intent.values() for pair in some]
    outside = [pair for name, pair in zip(names, pairs, strict=True) if name == OUT_OF_SCOPE]
    inside = [pair for name, pair in zip(names, pairs, strict=True) if name != OUT_OF_SCOPE]
    return Comparison(
        _paired(labelled) if labelled else None,
        _paired(outside) if outside else None,
        tuple(sorted(changes, key=lambda c: (c.paired.change, -c.paired.rows, c.intent))),
        _confidence([pair[0] for pair in inside]) if inside else None,
        _confidence([pair[1] for pair in inside]) if inside else None,
        _made_differently(before, after),
    )


def _paired(pairs: Sequence[tuple[Outcome, Outcome]]) -> Paired:
    won = sum(after.right and not before.right for before, after in pairs)
    lost = sum(before.right and not after.right for before, after in pairs)
    return Paired(
        len(pairs),
        sum(before.right for before, _ in pairs) / len(pairs),
        sum(after.right for _, after in pairs) / len(pairs),
        won,
        lost,
        mcnemar(won, lost),
    )


def _confidence(rows: Sequence[Outcome]) -> Confidence:
    confidence, right = np.array([r.confidence for r in rows]), np.array([r.right for r in rows], dtype=bool)
    curve = risk_coverage(confidence, right)
    coverage = tuple(coverage_at(curve, rate).coverage for rate in ERROR_RATES)
    return Confidence(len(rows), calibration_error(confidence, right), coverage)


def _made_differently(before: VersionReport, after: VersionReport) -> tuple[str, ...]:
    """In what else the two differ: kind, data, intents, recipe, form."""
    found = []
    for field in ("kind", "serving", "base_model"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            found.append(f"{field}: {old:.12} -> {new:.12}")
    if before.data_fingerprint != after.data_fingerprint:
        found.append(f"rows: {before.rows:,} -> {after.rows:,}, other data")
    old_intents, new_intents = ({i.intent for i in report.intents} for report in (before, after))
    for what, names in (("new", new_intents - old_intents), ("gone", old_intents - new_intents)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            found.append(f"{what} intents: {', '.join(sorted(names)[:5])}{more}")
    for name in sorted({*before.recipe, *after.recipe}):
        if before.recipe.get(name) != after.recipe.get(name):
            found.append(f"recipe: {name} {before.recipe.get(name)} -> {after.recipe.get(name)}")
    return tuple(found)
