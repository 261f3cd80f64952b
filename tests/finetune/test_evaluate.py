"""Scores on labelled rows, and the keys of the report that others read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.baseline import fit_baseline
from finetune.encoder import Encoder
from finetune.evaluate import evaluate_intents, measure
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.model import QuestionModel
from finetune.recipe import TrainConfig
from finetune.train import fit_versions

pytestmark = pytest.mark.slow

QUICK = TrainConfig(least_steps=12, epochs=2, threads=1, batch=16, few=0)


def test_an_intent_the_version_does_not_know_counts_as_an_error(tiny: Encoder, examples: list[Example]) -> None:
    model = fit_versions(examples, tiny, QUICK).baseline.model
    known = [e for e in examples if e.intent][:12]
    all_known = measure(model, known)
    half = measure(model, [*known, *(replace(e, intent="never seen") for e in known)])
    assert half.accuracy == pytest.approx(all_known.accuracy / 2)
    with pytest.raises(FinetuneError, match="no labelled in-scope row"):
        measure(model, [Example("x", OUT_OF_SCOPE)])


def test_the_report_has_the_keys_of_the_contract(base_folder: Path, examples: list[Example]) -> None:
    report = evaluate_intents(examples, examples[::3], base_folder, QUICK).to_json()
    keys = {"accuracy", "macro_f1", "auroc", "oos_recall_at_5", "seconds", "adapter_bytes"}
    keys |= {"aurc", "coverage_at_1", "coverage_at_2", "coverage_at_5", "calibration_error", "top_3"}
    baseline = report["baseline"]
    assert isinstance(baseline, dict) and keys <= set(report) and keys <= set(baseline)
    assert isinstance(report["auroc"], float) and report["adapter_bytes"] > baseline["adapter_bytes"]  # type: ignore[operator]
    without = evaluate_intents(examples, [e for e in examples if e.intent], base_folder, QUICK).to_json()
    assert without["auroc"] is None and without["oos_recall_at_5"] is None
    json.dumps(without)


def test_test_rows_choose_nothing(base_folder: Path, trained: QuestionModel, examples: list[Example]) -> None:
    """The model is the one that training alone gives, whatever the test rows are; each row is judged by itself."""
    half, poison = examples[::2], [Example("pizza refund", "cancel")] * 40
    report = evaluate_intents(examples, [*half, *poison], base_folder, QUICK)
    known = [e for e in half if e.intent]
    right = measure(trained, half).accuracy * len(known) + 40 * measure(trained, poison[:1]).accuracy
    assert report.lora.accuracy == pytest.approx(right / (len(known) + 40))


def test_the_baseline_is_logistic_regression_on_the_features(tiny: Encoder) -> None:
    """Fitting one half when both are equal is the same model as fitting both."""
    random = np.random.default_rng(0)
    half = random.normal(size=(120, 8)).astype(np.float32)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    rows = np.hstack([half, half]) / np.sqrt(np.float32(2))
    intents = ["abc"[i] for i in half[:, :3].argmax(axis=1)]
    other = rows.copy()
    other[0, 0] += 1e-6
    short, full = fit_baseline(rows, intents, 0), fit_baseline(other, intents, 0)
    assert np.allclose(short.probabilities(rows), full.probabilities(rows), atol=5e-3)
    two = fit_baseline(rows, ["ab"[i == "c"] for i in intents], 0)
    assert two.weight.shape == (2, 16) and two.probabilities(rows).max() > 0.7
    with pytest.raises(FinetuneError, match="at least two intents"):
        fit_baseline(rows, ["a"] * 120, 0)
