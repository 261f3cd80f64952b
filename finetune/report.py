"""The report of a version: everything measured about it, kept in its folder as `report.json`, sealed like the rest.

Owns what a report holds, how it is written and read. Holds no text of a customer: rows are known by a hash. Knows
nothing about gates or how two reports are compared.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from finetune.examples import Example, FinetuneError, Question, approvable
from finetune.metrics import (
    ReliabilityBin,
    RiskCurve,
    RiskPoint,
    confusion_pairs,
    coverage_at,
    per_class,
    reliability,
    risk_coverage,
    risk_table,
)
from finetune.model import QuestionModel
from finetune.outcomes import Outcomes, Scores, scores_of
from finetune.registry import REPORT, Kind, Manifest, Registry, Scalar

MOST_ROWS = 20_000
MOST_PAIRS = 50
ERROR_RATES = (0.01, 0.02, 0.05)
TIMED = 50
"""Held-out messages whose reading is timed one by one."""


@dataclass(frozen=True, slots=True)
class IntentScores:
    """One intent on the rows that carry an intent; None where there was nothing to divide by."""

    intent: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows of `right` that were taken for `said`."""

    right: str
    said: str
    rows: int


@dataclass(frozen=True, slots=True)
class Answering:
    """The most that can be answered with at most `rate` of the answers wrong, on these rows."""

    rate: float
    point: RiskPoint


class Outcome(NamedTuple):
    """One held-out row, four fields wide on disk: `intent` and `said` are numbers of the report's labels.

    `right` as in `Outcomes.right`; `confidence` of the intent that was said, to four digits.
    """

    key: str
    intent: int
    said: int
    right: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class VersionReport:
    """Held-out rows chose temperature and scope weights, a dozen numbers, and nothing else; no test rows are used.

    `latency_ms` is the median time to read one message on one core in the form that is served (`serving`). `bytes` is
    what the version adds to its base. `labels` begin with all intents of the version. Of more than MOST_ROWS held-out
    rows those with the smallest keys are kept in `outcomes`: keys are hashes, so this is a fair draw, and of two
    versions it is the same one.
    """

    kind: Kind
    scores: Scores
    intents: tuple[IntentScores, ...]
    confusions: tuple[Confusion, ...]
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: tuple[RiskPoint, ...]
    answering: tuple[Answering, ...]
    latency_ms: float
    serving: str
    bytes: int
    seconds: float
    rows: int
    data_fingerprint: str
    base_model: str
    seed: int
    recipe: Mapping[str, Scalar]
    labels: tuple[str, ...]
    outcomes: tuple[Outcome, ...]


def curve_of(outcomes: Outcomes) -> RiskCurve:
    """Risk and coverage over the rows in scope."""
    inside = ~outcomes.outside
    return risk_coverage(outcomes.confidence[inside], outcomes.right[inside])


def report_of(outcomes: Outcomes, model: QuestionModel, about: Manifest, latency_ms: float) -> VersionReport:
    """The report of a version that is about to be saved. Raises FinetuneError when no row carries an intent."""
    inside, scores = ~outcomes.outside, scores_of(outcomes)
    curve = curve_of(outcomes)
    return VersionReport(
        kind=about.kind,
        scores=scores,
        intents=_by_intent(outcomes),
        confusions=_confusions(outcomes),
        reliability=reliability(outcomes.confidence[inside], outcomes.right[inside]),
        risk_coverage=risk_table(curve),
        answering=tuple(Answering(rate, coverage_at(curve, rate)) for rate in ERROR_RATES),
        latency_ms=latency_ms,
        serving=("onnx int8" if model.in_eight_bits else "onnx") if model.exported else "torch",
        bytes=model.adapter_bytes,
        seconds=about.metrics.get("seconds") or 0.0,
        rows=about.rows,
        data_fingerprint=about.data_fingerprint,
        base_model=about.base_model,
        seed=int(about.config.get("seed") or 0),
        recipe=about.config,
        labels=outcomes.labels,
        outcomes=_rows(outcomes),
    )


def _by_intent(outcomes: Outcomes) -> tuple[IntentScores, ...]:
    """Every intent of the version, those without a held-out row too, and intents of the rows that it does not know."""
    labelled = outcomes.with_intent
    scores = per_class(outcomes.truth[labelled], outcomes.said[labelled], len(outcomes.labels))

    def share(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return tuple(
        IntentScores(label, int(rows), share(precision), share(recall), float(f1))
        for label, rows, precision, recall, f1 in zip(
            outcomes.labels, scores.rows, scores.precision, scores.recall, scores.f1, strict=True
        )
        if approvable(label)
    )


def _confusions(outcomes: Outcomes) -> tuple[Confusion, ...]:
    labelled, labels = outcomes.with_intent, outcomes.labels
    pairs = confusion_pairs(outcomes.truth[labelled], outcomes.said[labelled], MOST_PAIRS)
    return tuple(Confusion(labels[right], labels[said], rows) for right, said, rows in pairs)


def _rows(outcomes: Outcomes) -> tuple[Outcome, ...]:
    columns = (outcomes.truth.tolist(), outcomes.said.tolist(), outcomes.right.tolist(), outcomes.confidence.tolist())
    rows = {
        key: Outcome(key, intent, said, right, round(confidence, 4))
        for key, intent, said, right, confidence in zip(outcomes.keys, *columns, strict=True)
    }
    return tuple(rows[key] for key in sorted(rows)[:MOST_ROWS])


def milliseconds(model: QuestionModel, examples: Sequence[Example]) -> float:
    """Median time of reading one message, one core, over the first TIMED of the rows; 0 without rows.

    An exported version reads on one thread by itself; torch is held to one meanwhile. On a GPU it is the GPU's time.
    """
    asked = [(e.text, e.history) for e in examples[:TIMED]]
    if not asked:
        return 0.0
    if model.exported:
        return _median(model, asked)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _median(model, asked)
    finally:
        torch.set_num_threads(before)


def _median(model: QuestionModel, asked: Sequence[Question]) -> float:
    for question in asked[:3]:
        model.read([question])
    times = []
    for question in asked:
        start = time.perf_counter()
        model.read([question])
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


# ------------------------------------------------------------------------------------------------------ on disk


def to_bytes(report: VersionReport) -> bytes:
    """`report.json`: some 50 bytes a held-out row and 200 an intent."""
    return json.dumps(asdict(report), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def read_report(registry: Registry, version: str) -> VersionReport | None:
    """The report of a version, its bytes checked against the manifest; None for one made before there were reports.

    Raises FinetuneError for an unknown version and for a report that is missing, was changed or is none.
    """
    content = registry.file(version, REPORT)
    if content is None:
        return None
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(VersionReport).validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise FinetuneError(
            f"{registry.folder(version) / REPORT}: not a report of this program ({place}: {first['msg']}); train again"
        ) from error
