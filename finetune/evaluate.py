"""How good a version is, and whether it may go live.

Owns the metrics, the comparison of LoRA with its baseline, and `train_and_register`, which trains both, saves both and
promotes one with its reason. Nothing here chooses on test rows: thresholds come from rows carved from training data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from finetune.answers import Passages
from finetune.calibrate import Bools, Doubles, Integers
from finetune.encoder import MAX_TOKENS, Encoder
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, approvable, fingerprint
from finetune.export import GRAPH, Exported, export
from finetune.model import QuestionModel
from finetune.recipe import TrainConfig
from finetune.registry import Kind, Manifest, Registry, Space
from finetune.train import Fitted, Progress, Report, Trained, fit_versions, questions, silent

OUT_OF_SCOPE_THRESHOLD = 0.5
"""On a calibrated version: turns away 5 % of its in-scope validation questions."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Measured on rows the version was not trained on. Shares in 0..1; None where the rows cannot tell.

    `accuracy`, `top_3`, `macro_f1` and `calibration_error` are over in-scope rows; `auroc` and `oos_recall_at_5`
    need out-of-scope rows. `false_rejection` is what the validation threshold costs on these rows.
    """

    accuracy: float
    macro_f1: float
    top_3: float
    calibration_error: float
    false_rejection: float
    auroc: float | None
    oos_recall_at_5: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class SystemReport:
    """One system of `evaluate intents --json`."""

    accuracy: float
    macro_f1: float
    auroc: float | None
    oos_recall_at_5: float | None
    seconds: float
    adapter_bytes: int
    top_3: float
    calibration_error: float
    false_rejection: float


@dataclass(frozen=True, slots=True)
class IntentsReport:
    """LoRA beside its baseline, on the same test rows, trained on the same rows."""

    lora: SystemReport
    baseline: SystemReport
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The object of `evaluate intents --json`: LoRA's numbers, and `baseline` with the same keys."""
        return {**asdict(self.lora), "baseline": asdict(self.baseline), "warnings": list(self.warnings)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate may replace what is live, and why."""

    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a training left in the registry. `live` is one of the two."""

    lora: Manifest
    baseline: Manifest
    live: str
    verdict: Verdict
    lora_scores: Scores
    baseline_scores: Scores
    warnings: tuple[str, ...]


# --------------------------------------------------------------------------------------------------------- metrics


def macro_f1(right: Integers, said: Integers) -> float:
    """Mean F1 over the classes that occur in `right` (scikit-learn's macro average over those labels)."""
    scores = []
    for label in np.unique(right):
        hit = int(((right == label) & (said == label)).sum())
        scores.append(2 * hit / (int((right == label).sum()) + int((said == label).sum())))
    return float(np.mean(scores)) if scores else 0.0


def auroc(score: Doubles, positive: Bools) -> float | None:
    """Chance that a positive row scores above a negative one, ties counting half; None without both kinds."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(confidence: Doubles, correct: Bools, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over equal-width bins (Guo et al. 2017)."""
    if not len(confidence):
        return 0.0
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[places == b].mean()) - float(correct[places == b].mean())) * float((places == b).mean())
        for b in range(bins)
        if (places == b).any()
    ]
    return float(sum(gaps))


def measure(model: QuestionModel, examples: Sequence[Example]) -> Scores:
    """Scores of a version on labelled rows. Raises FinetuneError when no row is in scope.

    An intent the version does not know counts as an error, not as out of scope.
    """
    rows = [e for e in examples if e.intent == OUT_OF_SCOPE or approvable(e.intent)]
    outside = np.array([e.intent == OUT_OF_SCOPE for e in rows], dtype=bool)
    if outside.all():
        raise FinetuneError("no labelled in-scope row to measure on; add rows with an intent")
    read = model.read(questions(rows))
    names = {label: number for number, label in enumerate(read.labels)}
    strangers = {e.intent for e in rows if e.intent} - set(names)
    names.update({label or "": len(names) + i for i, label in enumerate(sorted(map(str, strangers)))})
    right = np.array([names[e.intent] for e in rows if e.intent], dtype=np.int64)
    inside = read.probabilities[~outside]
    order = np.argsort(-inside, axis=1)[:, :3]
    said = order[:, 0].astype(np.int64)
    correct = said == right
    rejected = read.out_of_scope > OUT_OF_SCOPE_THRESHOLD
    return Scores(
        accuracy=float(correct.mean()),
        macro_f1=macro_f1(right, said),
        top_3=float((order == right[:, None]).any(axis=1).mean()),
        calibration_error=calibration_error(inside.max(axis=1), correct),
        false_rejection=float(rejected[~outside].mean()),
        auroc=auroc(read.out_of_scope, outside),
        oos_recall_at_5=float(rejected[outside].mean()) if outside.any() else None,
        rows=len(rows),
    )


# ------------------------------------------------------------------------------------------------------ evaluating


def evaluate_intents(
    train_rows: Sequence[Example],
    test_rows: Sequence[Example],
    base_folder: Path,
    config: TrainConfig | None = None,
    report: Report = silent,
) -> IntentsReport:
    """Train both systems on `train_rows` and measure them once on `test_rows`, which choose nothing.

    Raises FinetuneError on rows nothing can be learnt from or measured on.
    """
    fitted = fit_versions(train_rows, Encoder(base_folder), config or TrainConfig(), report)
    return IntentsReport(_system(fitted.lora, test_rows), _system(fitted.baseline, test_rows), fitted.warnings)


def _system(trained: Trained, test_rows: Sequence[Example]) -> SystemReport:
    scores = measure(trained.model, test_rows)
    return SystemReport(
        accuracy=scores.accuracy,
        macro_f1=scores.macro_f1,
        auroc=scores.auroc,
        oos_recall_at_5=scores.oos_recall_at_5,
        seconds=trained.seconds,
        adapter_bytes=trained.model.adapter_bytes,
        top_3=scores.top_3,
        calibration_error=scores.calibration_error,
        false_rejection=scores.false_rejection,
    )


# --------------------------------------------------------------------------------------------------------- serving

ALIKE = 1e-3
"""Most that a number of the exported version may differ from the original's."""
COMPARED = 200


def served(trained: Trained, fitted: Fitted, report: Report = silent) -> tuple[Trained, tuple[str, ...]]:
    """The version with its graph, which a CPU reads twice as fast; as it is, and why, where no graph reads alike.

    On a GPU it stays as it is too: torch is faster there.
    """
    model, encoder = trained.model, trained.model.encoder
    if encoder.device != "cpu" or isinstance(model.adapted, Exported):
        return trained, ()
    report(Progress("exporting", 0, 1, 0.0, 0.0, 0.0))
    try:
        graph = export(encoder.traceable(model.adapted), MAX_TOKENS, encoder.weights())
        form = QuestionModel(encoder, model.head.labels, {**model.files, GRAPH: graph}, model.search_vectors)
    except FinetuneError as error:
        return trained, (f"serves with torch: {error}",)
    if not reads_alike(form, model, fitted.rows.held_out[:COMPARED]):
        return trained, ("serves with torch: the exported graph reads held-out rows differently",)
    return replace(trained, model=form), ()


def reads_alike(one: QuestionModel, other: QuestionModel, examples: Sequence[Example]) -> bool:
    """Whether both turn the questions into the same vectors: what they read with, not what they search with."""
    rows = questions(examples)
    ours, theirs = one.encoder.encode(one.adapted, rows), other.encoder.encode(other.adapted, rows)
    return all(np.allclose(a, b, atol=ALIKE) for a, b in zip(ours, theirs, strict=True))


# ------------------------------------------------------------------------------------------------------- promoting


def gate(candidate: Scores, live: Scores) -> Verdict:
    """LoRA earns its place only by more right answers on held-out rows, without seeing less of what is out of scope.

    A tie goes to the one that is live: it is known.
    """
    if candidate.rows == 0 or not np.isfinite([candidate.accuracy, live.accuracy]).all():
        return Verdict(False, "not measured: no held-out rows")
    change = f"accuracy {candidate.accuracy:.4f} against {live.accuracy:.4f} on {candidate.rows} held-out rows"
    if candidate.accuracy <= live.accuracy:
        return Verdict(False, f"does not beat the baseline: {change}")
    if candidate.auroc is not None and live.auroc is not None and candidate.auroc < live.auroc - 0.01:
        return Verdict(
            False, f"sees less of what is out of scope: AUROC {candidate.auroc:.4f} against {live.auroc:.4f}; {change}"
        )
    return Verdict(True, f"beats the baseline: {change}")


def train_and_register(
    examples: Sequence[Example],
    base_folder: Path,
    registry: Registry,
    config: TrainConfig | None = None,
    report: Report = silent,
    choose_thresholds: Callable[[QuestionModel], Mapping[str, float]] = lambda _: {},
    passages: Passages | None = None,
) -> Learnt:
    """Train both versions, save both, and promote LoRA if it passes the gate, else the baseline, with the reason.

    `choose_thresholds` gives the thresholds of the version that goes live; the caller knows what they mean, and the
    other one is saved with the defaults. Raises FinetuneError; nothing is promoted then.
    """
    settings = config or TrainConfig()
    encoder = Encoder(base_folder)
    fitted = fit_versions(examples, encoder, settings, report, passages)
    baseline_scores, lora_scores = (measure(t.model, fitted.rows.held_out) for t in (fitted.baseline, fitted.lora))
    verdict = gate(lora_scores, baseline_scores)
    live = registry.current() or ""
    # Only what goes live is exported and asked the validation questions, in the form that customers will ask.
    winner, warnings = served(fitted.lora if verdict.accepted else fitted.baseline, fitted, report)
    chosen = choose_thresholds(winner.model)
    if verdict.accepted:
        baseline = _save(registry, "baseline", fitted.baseline, fitted, baseline_scores, settings, live, {})
        lora = _save(registry, "lora", winner, fitted, lora_scores, settings, live, chosen)
        registry.promote(lora.version, verdict.reason, encoder.fingerprint)
    else:
        baseline = _save(registry, "baseline", winner, fitted, baseline_scores, settings, live, chosen)
        lora = _save(registry, "lora", fitted.lora, fitted, lora_scores, settings, live, {})
        registry.refuse(lora.version, verdict.reason)
        registry.promote(baseline.version, f"LoRA {lora.version} {verdict.reason}", encoder.fingerprint)
    now = (lora if verdict.accepted else baseline).version
    return Learnt(lora, baseline, now, verdict, lora_scores, baseline_scores, (*fitted.warnings, *warnings))


def _default_thresholds(model: QuestionModel) -> dict[str, float]:
    """Until some are chosen. Of a version that knows what articles answer the score speaks for passages too."""
    knows_articles = model.head.inside != model.head.intents
    return dict.fromkeys(("out_of_scope", "foreign") if knows_articles else ("out_of_scope",), OUT_OF_SCOPE_THRESHOLD)


def _save(
    registry: Registry,
    kind: Kind,
    trained: Trained,
    fitted: Fitted,
    scores: Scores,
    config: TrainConfig,
    parent: str,
    thresholds: Mapping[str, float],
) -> Manifest:
    space: Space = trained.model.search_vectors
    about = Manifest(
        version="",
        kind=kind,
        created="",
        base_model=trained.model.encoder.fingerprint,
        search_vectors=space,
        data_fingerprint=fingerprint((*fitted.rows.train, *fitted.rows.held_out)),
        rows=len(fitted.rows.train) + len(fitted.rows.held_out),
        labels=trained.model.head.labels,
        parent=parent,
        config=asdict(config),
        metrics={**asdict(scores), "seconds": trained.seconds, "adapter_bytes": trained.model.adapter_bytes},
        thresholds={**_default_thresholds(trained.model), **thresholds},
        files={},
    )
    return registry.save(trained.model.files, about)
