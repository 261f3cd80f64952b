"""Metrics against scikit-learn, the report's keys, and the gate with faults planted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.baseline import fit_baseline
from finetune.encoder import Encoder
from finetune.evaluate import (
    Scores,
    auroc,
    calibration_error,
    evaluate_intents,
    gate,
    macro_f1,
    measure,
    train_and_register,
)
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.export import GRAPH
from finetune.model import QuestionModel
from finetune.recipe import TrainConfig
from finetune.registry import Registry
from finetune.train import fit_versions

QUICK = TrainConfig(least_steps=12, epochs=2, threads=1, batch=16, few=0)
GOOD = Scores(0.9, 0.9, 0.99, 0.02, 0.05, 0.95, 0.8, 200)


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    random = np.random.default_rng(0)
    right, said = random.integers(0, 6, 500), random.integers(0, 8, 500)
    expected = f1_score(right, said, labels=np.unique(right), average="macro")
    assert macro_f1(right, said) == pytest.approx(expected)
    score, positive = random.integers(0, 20, 500) / 20, random.random(500) < 0.3
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert auroc(score, np.zeros(500, bool)) is None


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confidence = np.array([0.95] * 100 + [0.5] * 100)
    correct = np.array([True] * 75 + [False] * 25 + [True] * 50 + [False] * 50)
    assert calibration_error(confidence, correct) == pytest.approx(0.1)


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


@pytest.mark.parametrize(
    ("candidate", "accepted", "reason"),
    [
        (replace(GOOD, accuracy=0.91), True, "beats the baseline"),
        (GOOD, False, "does not beat"),
        (replace(GOOD, accuracy=0.89), False, "0.8900 against 0.9000"),
        (replace(GOOD, accuracy=0.95, auroc=0.5), False, "out of scope"),
        (replace(GOOD, accuracy=float("nan")), False, "not measured"),
        (replace(GOOD, accuracy=0.95, rows=0), False, "not measured"),
        (replace(GOOD, accuracy=0.91, auroc=None), True, "beats"),
    ],
)
def test_the_gate_accepts_only_what_beats_the_baseline(candidate: Scores, accepted: bool, reason: str) -> None:
    verdict = gate(candidate, GOOD)
    assert verdict.accepted is accepted and reason in verdict.reason


@pytest.mark.slow
def test_training_registers_both_versions_and_the_better_one_goes_live(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    learnt = train_and_register(examples, base_folder, registry, QUICK)
    assert {m.kind for m in registry.list()} == {"baseline", "lora"}
    assert registry.current() == learnt.live
    assert learnt.live == (learnt.lora if learnt.verdict.accepted else learnt.baseline).version
    assert gate(learnt.lora_scores, learnt.baseline_scores) == learnt.verdict
    for manifest in registry.list():
        model = QuestionModel.load(registry.folder(manifest.version), base_folder)
        assert model.read([("refund", ())]).labels == ("cancel", "lost_card", "refund")
        assert (GRAPH in model.files) is (manifest.version == learnt.live), "what goes live is exported"
    again = train_and_register(examples, base_folder, registry, QUICK)
    assert again.lora.parent == learnt.live and again.lora.data_fingerprint == learnt.lora.data_fingerprint


@pytest.mark.slow
def test_a_version_that_knows_what_articles_answer_starts_with_a_threshold_for_passages(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    told = [replace(e, intent=None, answer="money back today") for e in examples if e.intent == "refund"]
    knows = train_and_register([*examples, *told], base_folder, Registry(tmp_path / "a"), QUICK).lora
    assert knows.labels == ("", "*", "cancel", "lost_card", "refund")
    assert knows.thresholds == {"out_of_scope": 0.5, "foreign": 0.5}
    plain = train_and_register(examples, base_folder, Registry(tmp_path / "b"), QUICK).lora
    assert plain.thresholds == {"out_of_scope": 0.5}


@pytest.mark.slow
def test_lora_that_learnt_nothing_is_refused_and_the_baseline_goes_live_with_the_reason(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    """The planted fault: a learning rate that wrecks the adapter."""
    registry = Registry(tmp_path)
    learnt = train_and_register(examples, base_folder, registry, replace(QUICK, learning_rate=3.0))
    assert not learnt.verdict.accepted and registry.current() == learnt.baseline.version
    actions = [(e.action, e.version) for e in registry.history()]
    assert ("refused", learnt.lora.version) in actions
    assert learnt.lora.version in registry.history()[-1].reason


@pytest.mark.slow
def test_a_tampered_version_is_refused_before_anything_is_loaded(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    learnt = train_and_register(examples, base_folder, registry, QUICK)
    path = registry.folder(learnt.lora.version) / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FinetuneError, match="does not match its manifest"):
        QuestionModel.load(registry.folder(learnt.lora.version), base_folder)


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
