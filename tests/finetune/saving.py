"""Puts a version into a registry as training would, without training or exporting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from finetune.calibrate import Doubles
from finetune.examples import Example
from finetune.model import QuestionModel
from finetune.outcomes import read_outcomes, scores_of
from finetune.recipe import TrainConfig
from finetune.registry import REPORT, Manifest, Registry
from finetune.report import report_of, to_bytes


def save(
    registry: Registry, model: QuestionModel, held_out: Sequence[Example], with_report: bool = True, rows: int = 100
) -> str:
    """Save a version that was measured on these rows; returns its id."""
    outcomes = read_outcomes(model, held_out)
    about = Manifest(
        version="",
        kind="lora",
        created="",
        base_model=model.encoder.fingerprint,
        search_vectors="frozen",
        data_fingerprint="cd" * 32,
        rows=rows,
        labels=model.head.labels,
        parent="",
        config=asdict(TrainConfig()),
        metrics={**asdict(scores_of(outcomes)), "seconds": 1.5},
        thresholds={"out_of_scope": 0.5},
        files={},
    )
    report = {REPORT: to_bytes(report_of(outcomes, model, about, 1.25))} if with_report else {}
    return registry.save({**model.files, **report}, about).version


def live(registry: Registry, model: QuestionModel, held_out: Sequence[Example], with_report: bool = True) -> str:
    version = save(registry, model, held_out, with_report)
    registry.promote(version, "test", model.encoder.fingerprint)
    return version


def altered(model: QuestionModel, weight: Doubles | None = None, temperature: float | None = None) -> QuestionModel:
    """The version with a fault in its head."""
    head = model.head
    if weight is not None:
        head = replace(head, weight=weight.astype("float32"))
    if temperature is not None:
        head = replace(head, temperature=temperature)
    files = {**model.files, "head.safetensors": head.to_bytes()}
    return QuestionModel(model.encoder, head.labels, files, model.search_vectors)
