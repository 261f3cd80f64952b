"""From rows to what is live: both versions trained, put into the form that is served, measured, judged and saved.

Owns the order of these steps and what of them ends up in the registry. The rules are in gate.py, the measures in
outcomes.py and report.py; nothing here knows what a threshold of the bot means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finetune.answers import Passages
from finetune.checkpoint import Checkpoints
from finetune.encoder import MAX_TOKENS, Encoder
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, fingerprint
from finetune.export import GRAPH, Exported, export
from finetune.gate import Limits, Verdict, beats_baseline, both, holds_against, live_on, winner
from finetune.model import QuestionModel, merged
from finetune.outcomes import OUT_OF_SCOPE_THRESHOLD, Outcomes, Scores, read_outcomes, scores_of
from finetune.pictures import risk_coverage_png, training_png
from finetune.quantise import QUANTISED, SMOOTHING, fast_here, quantised, smoothing
from finetune.quantise import to_bytes as factors_to_bytes
from finetune.recipe import TrainConfig
from finetune.registry import REPORT, RISK_COVERAGE, TRAINING, Kind, Manifest, Registry
from finetune.report import curve_of, milliseconds, report_of, to_bytes
from finetune.tone import ToneExample
from finetune.train import Fitted, Progress, Report, Trained, fit_versions, questions, silent

if TYPE_CHECKING:
    import torch

UNFINISHED = "unfinished"
"""Where, beside the versions, a training that was killed is found by the next one."""
ALIKE = 1e-3
"""Most that a number of the exported version may differ from the original's."""
COMPARED = 200
CALIBRATING = 300
"""Training rows that show how large the inputs of each product become."""
LIKENESS = 0.995
"""Mean cosine that eight bits must keep: passages are found as before from .998 on (docs/decisions.md)."""
DROP = 0.001
"""Share of the held-out rows that may be lost to eight bits on average, or one row of few."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a training left in the registry. `live` is one of the two, or what was live before and stays."""

    lora: Manifest
    baseline: Manifest
    live: str
    verdict: Verdict
    """On LoRA: against its baseline and against what was live."""
    baseline_verdict: Verdict
    """On the baseline: against what was live."""
    lora_scores: Scores
    baseline_scores: Scores
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version in the form that it would serve in, and what it said of the held-out rows."""

    kind: Kind
    trained: Trained
    outcomes: Outcomes
    scores: Scores


def train_and_register(
    examples: Sequence[Example],
    base_folder: Path,
    registry: Registry,
    config: TrainConfig | None = None,
    report: Report = silent,
    choose_thresholds: Callable[[QuestionModel], Mapping[str, float]] = lambda _: {},
    passages: Passages | None = None,
    tones: Sequence[ToneExample] = (),
    limits: Limits | None = None,
    force: bool = False,
) -> Learnt:
    """Train both versions, save both with their reports, and promote LoRA if it passes the gate, else the baseline.

    When both lose to the live version, that one stays. `force` promotes LoRA whatever the gate says, on record.
    `choose_thresholds` gives the thresholds of the version that goes live, or would but for the live one, so that it
    can be promoted by hand; the caller knows what they mean, and the other one is saved with the defaults. Raises
    FinetuneError; nothing is promoted then.
    """
    settings = config or TrainConfig()
    registry.current()  # A damaged registry is told before the training, not after it.
    encoder = Encoder(base_folder)
    checkpoints = Checkpoints(registry.root / UNFINISHED)
    fitted = fit_versions(examples, encoder, settings, report, passages, tones, checkpoints, judged=True)
    baseline, warnings = _candidate("baseline", fitted.baseline, fitted, report)
    lora, more = _candidate("lora", fitted.lora, fitted, report)

    live = live_on(fitted.rows.held_out, registry, encoder)
    bounds = limits or Limits()
    duel = beats_baseline(lora.scores, baseline.scores)
    verdicts = {
        "lora": both(duel, holds_against(live, lora.outcomes, bounds)),
        "baseline": holds_against(live, baseline.outcomes, bounds),
    }
    goes_live = "lora" if force else winner(verdicts["lora"], verdicts["baseline"])
    better = goes_live or ("lora" if duel.accepted else "baseline")
    parent = live.version if live is not None else ""
    saved = {
        c.kind: _save(registry, c, fitted, settings, parent, choose_thresholds if c.kind == better else lambda _: {})
        for c in (baseline, lora)
    }
    checkpoints.clear()
    for kind, manifest in saved.items():
        if not verdicts[kind].accepted:
            registry.refuse(manifest.version, verdicts[kind].reason)
    if goes_live is not None:
        version = saved[goes_live].version
        registry.promote(version, _reason(goes_live, saved["lora"], verdicts), encoder.fingerprint, force)
    return Learnt(
        saved["lora"],
        saved["baseline"],
        saved[goes_live].version if goes_live is not None else parent,
        verdicts["lora"],
        verdicts["baseline"],
        lora.scores,
        baseline.scores,
        (*fitted.warnings, *dict.fromkeys((*warnings, *more))),
    )


def _reason(goes_live: Kind, lora: Manifest, verdicts: Mapping[str, Verdict]) -> str:
    if goes_live == "baseline":
        return f"LoRA {lora.version} {verdicts['lora'].reason}; {verdicts['baseline'].reason}"
    return verdicts["lora"].reason if verdicts["lora"].accepted else "train --force"


def _candidate(kind: Kind, trained: Trained, fitted: Fitted, report: Report) -> tuple[Candidate, tuple[str, ...]]:
    form, warnings = served(trained, fitted, report)
    judged = trained.measured
    # What has learnt from the held-out rows in the end cannot be judged by them. Else what serves is, without the
    # precedents that they are themselves.
    if judged.head is trained.model.head:
        judged = form.model.with_precedents(judged.precedents)
    outcomes = read_outcomes(judged, fitted.rows.held_out)
    return Candidate(kind, form, outcomes, scores_of(outcomes)), warnings


# ------------------------------------------------------------------------------------------------ the form it serves in


def served(trained: Trained, fitted: Fitted, report: Report = silent) -> tuple[Trained, tuple[str, ...]]:
    """The version with its graph, which a CPU reads twice as fast; as it is, and why, where no graph reads alike.

    On a GPU it stays as it is too: torch is faster there.
    """
    import torch

    model, encoder = trained.model, trained.model.encoder
    if encoder.device != "cpu" or isinstance(model.adapted, Exported):
        return trained, ()
    report(Progress("exporting", 0, 1, 0.0, 0.0, 0.0))
    # What was trained may stand in memory in half precision; the graph computes with all of its digits.
    exact = merged(encoder, model.adapter(), torch.float32)
    try:
        graph = export(encoder.traceable(exact), MAX_TOKENS, encoder.weights())
        form = QuestionModel(encoder, model.head.labels, {**model.files, GRAPH: graph}, model.search_vectors)
    except FinetuneError as error:
        return trained, (f"serves with torch: {error}",)
    if not reads_alike(form, exact, fitted.rows.held_out[:COMPARED]):
        return trained, ("serves with torch: the exported graph reads held-out rows differently",)
    form, warnings = in_eight_bits(form, fitted)
    return replace(trained, model=form), warnings


def reads_alike(form: QuestionModel, exact: torch.nn.Module, examples: Sequence[Example]) -> bool:
    """Whether both turn the questions into the same vectors: what they read with, not what they search with."""
    rows = questions(examples)
    ours, theirs = form.encoder.encode(form.adapted, rows), form.encoder.encode(exact, rows)
    return all(np.allclose(a, b, atol=ALIKE) for a, b in zip(ours, theirs, strict=True))


def in_eight_bits(form: QuestionModel, fitted: Fitted) -> tuple[QuestionModel, tuple[str, ...]]:
    """The exported version with its graph in eight bits too, where this CPU gains from it and nothing is lost by it."""
    if not fast_here():
        return form, ()
    encoder, graph, weights = form.encoder, form.files[GRAPH], form.weights()
    typical, _ = encoder.tokenise(questions(fitted.rows.train[:CALIBRATING]))
    factors = smoothing(graph, weights, typical)
    files = {**form.files, QUANTISED: quantised(graph, factors), SMOOTHING: factors_to_bytes(factors)}
    eight = QuestionModel(encoder, form.head.labels, files, form.search_vectors)
    if (loss := what_is_lost(eight, form, fitted.rows.held_out)) is not None:
        return form, (f"serves in float32: {loss}",)
    return eight, ()


def what_is_lost(eight: QuestionModel, form: QuestionModel, examples: Sequence[Example]) -> str | None:
    """What eight bits cost on held-out rows, if it is too much to serve with them."""
    rows = questions(examples[:COMPARED])
    ours, theirs = (m.encoder.encode(m.adapted, rows) for m in (eight, form))
    likeness = min(
        (float((a * b).sum(axis=1).mean()) for a, b in zip(ours, theirs, strict=True) if len(a)), default=1.0
    )
    if likeness < LIKENESS:
        return f"in eight bits vectors are {likeness:.4f} of what they were, less than {LIKENESS}"
    right, before = (right_on_average(m, examples) for m in (eight, form))
    if before - right > max(1, DROP * len(examples)):
        return f"in eight bits {right:,.1f} instead of {before:,.1f} of {len(examples):,} held-out rows are right"
    return None


def right_on_average(model: QuestionModel, examples: Sequence[Example]) -> float:
    """How many labelled rows are right by the chances that the version gives them.

    Counted rows would say nothing of a loss of a tenth of a point: a few near ties fall either way. The sample's 670
    held-out rows, eight bits against float32: 2 rows fewer counted, .2 more or less by this, with an error of .15.
    """
    rows = [e for e in examples if e.intent is not None]
    read = model.read(questions(rows))
    column = {label: number for number, label in enumerate(read.labels)}
    known = [(row, column[e.intent]) for row, e in enumerate(rows) if e.intent in column]
    outside = np.array([e.intent == OUT_OF_SCOPE for e in rows], dtype=bool)
    return float(read.out_of_scope[outside].sum() + sum(read.probabilities[at] for at in known))


# ------------------------------------------------------------------------------------------------------------ saving


def _save(
    registry: Registry,
    candidate: Candidate,
    fitted: Fitted,
    config: TrainConfig,
    parent: str,
    choose_thresholds: Callable[[QuestionModel], Mapping[str, float]],
) -> Manifest:
    model, outcomes = candidate.trained.model, candidate.outcomes
    rows = (*fitted.rows.train, *fitted.rows.held_out)
    about = Manifest(
        version="",
        kind=candidate.kind,
        created="",
        base_model=model.encoder.fingerprint,
        search_vectors=model.search_vectors,
        data_fingerprint=fingerprint(rows),
        rows=len(rows),
        labels=model.head.labels,
        parent=parent,
        config=asdict(config),
        metrics={
            **asdict(candidate.scores),
            "seconds": candidate.trained.seconds,
            "adapter_bytes": model.adapter_bytes,
        },
        thresholds={**_default_thresholds(model), **choose_thresholds(model)},
        files={},
    )
    measured = report_of(outcomes, model, about, milliseconds(model, fitted.rows.held_out))
    name, inside = {"lora": "LoRA", "baseline": "Baseline"}[candidate.kind], int((~outcomes.outside).sum())
    title = f"{name}, {len(rows):,} rows: what the confidence buys on {inside:,} held-out rows in scope"
    pictures = {RISK_COVERAGE: risk_coverage_png(curve_of(outcomes), title)}
    if (curve := candidate.trained.curve) is not None:
        loss, accuracy, rate = (part.tolist() for part in (curve.loss, curve.accuracy, curve.learning_rate))
        title = f"{name}, {len(rows):,} rows: training"
        pictures[TRAINING] = training_png(range(1, len(loss) + 1), loss, accuracy, rate, title)
    return registry.save({**model.files, **pictures, REPORT: to_bytes(measured)}, about)


def _default_thresholds(model: QuestionModel) -> dict[str, float]:
    """Until some are chosen. Of a version that knows what articles answer the score speaks for passages too."""
    knows_articles = model.head.inside != model.head.intents
    return dict.fromkeys(("out_of_scope", "foreign") if knows_articles else ("out_of_scope",), OUT_OF_SCOPE_THRESHOLD)
