"""From rows to what is live: both versions saved with reports, the right one promoted, every refusal on record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.compare import compare
from finetune.evaluate import measure
from finetune.examples import Example, FinetuneError, classed, prepare
from finetune.export import GRAPH
from finetune.gate import Verdict
from finetune.leaks import split
from finetune.model import QuestionModel
from finetune.outcomes import Outcomes, read_outcomes, row_key
from finetune.recipe import TrainConfig
from finetune.registry import Registry
from finetune.release import Learnt, train_and_register
from finetune.report import read_report
from tests.finetune.conftest import labelled_rows

QUICK = TrainConfig(least_steps=12, epochs=2, threads=1, batch=16, few=0)
HALF = replace(QUICK, held_out=0.5)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def once(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Learnt]:
    """A registry after a first training on half of `labelled_rows`."""
    folder = tmp_path_factory.mktemp("once")
    return folder, train_and_register(labelled_rows(), base_folder, Registry(folder), HALF)


@pytest.fixture
def first(once: tuple[Path, Learnt], tmp_path: Path) -> tuple[Registry, Learnt]:
    """A copy of it."""
    shutil.copytree(once[0], tmp_path / "models")
    return Registry(tmp_path / "models"), once[1]


def test_training_registers_both_versions_and_the_better_one_goes_live(
    base_folder: Path, examples: list[Example], first: tuple[Registry, Learnt]
) -> None:
    registry, learnt = first
    assert {m.kind for m in registry.list()} == {"baseline", "lora"}
    assert registry.current() == learnt.live
    assert learnt.live == (learnt.lora if learnt.verdict.accepted else learnt.baseline).version
    assert learnt.verdict.accepted is (learnt.lora_scores.accuracy > learnt.baseline_scores.accuracy)
    assert learnt.baseline_verdict == Verdict(True, ("nothing was live before",))
    held_out = split(classed(prepare(examples).examples), 0.5, HALF.seed).held_out
    for manifest in registry.list():
        model = QuestionModel.load(registry.folder(manifest.version), base_folder)
        assert model.read([("refund", ())]).labels == ("cancel", "lost_card", "refund")
        assert GRAPH in model.files, "any of them can be promoted later and serves as fast"
        report = read_report(registry, manifest.version)
        assert report is not None and report.serving in ("onnx", "onnx int8") and 0 < report.latency_ms < 1000
        assert report.scores == measure(model, held_out), "what is on disk reads as the report says"
        assert {row.key for row in report.outcomes} == {row_key(e) for e in held_out}
        assert report.bytes == model.adapter_bytes == manifest.metrics["adapter_bytes"]
        picture = registry.file(manifest.version, "risk_coverage.png")
        assert picture is not None and picture.startswith(b"\x89PNG")


def test_the_same_rows_again_are_no_worse_than_what_is_live(
    base_folder: Path, examples: list[Example], first: tuple[Registry, Learnt]
) -> None:
    registry, before = first
    again = train_and_register(examples, base_folder, registry, HALF)
    assert again.lora.parent == before.live and again.lora.data_fingerprint == before.lora.data_fingerprint
    assert again.live in (again.lora.version, again.baseline.version), "unchanged is green"
    assert "rows that neither was trained on" in again.baseline_verdict.reason
    reports = [read_report(registry, version) for version in (before.live, again.live)]
    assert reports[0] is not None and reports[1] is not None
    assert compare(reports[0], reports[1]).verdict.startswith("both are right on the same")


def test_lora_that_learnt_nothing_is_refused_and_the_baseline_goes_live_with_the_reason(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    """The planted fault: a learning rate that wrecks the adapter."""
    registry = Registry(tmp_path)
    learnt = train_and_register(examples, base_folder, registry, replace(QUICK, learning_rate=3.0))
    assert not learnt.verdict.accepted and registry.current() == learnt.baseline.version
    actions = [(e.action, e.version) for e in registry.history()]
    assert ("refused", learnt.lora.version) in actions
    last = registry.history()[-1]
    assert last.action == "promoted" and learnt.lora.version in last.reason and "does not beat" in last.reason


def test_when_both_lose_to_the_live_version_it_stays_and_both_are_kept(
    base_folder: Path, examples: list[Example], first: tuple[Registry, Learnt]
) -> None:
    """The planted fault: the rows to learn from are gone, but for three an intent; those held out are still there."""
    registry, before = first
    parts = split(classed(prepare(examples).examples), 0.5, HALF.seed)
    few = [e for intent in {e.intent for e in examples} for e in [e for e in parts.train if e.intent == intent][:3]]
    asked: list[str] = []

    def thresholds(model: QuestionModel) -> Mapping[str, float]:
        asked.append("asked")
        return {"intent": 0.7}

    again = train_and_register([*parts.held_out, *few], base_folder, registry, HALF, choose_thresholds=thresholds)
    assert again.live == before.live == registry.current()
    assert not again.verdict.accepted and not again.baseline_verdict.accepted
    said = {e.version: e.reason for e in registry.history() if e.action == "refused"}
    assert {again.lora.version, again.baseline.version} <= set(said)
    assert "fewer right than the live version" in said[again.baseline.version]
    assert len(registry.list()) == 4 and registry.history()[-1].action == "refused"
    assert asked == ["asked"]
    assert sorted("intent" in m.thresholds for m in (again.lora, again.baseline)) == [False, True]

    with pytest.raises(FinetuneError, match=r"was refused: .*fewer right.*; --force"):
        registry.promote(again.baseline.version, "for a reason", again.baseline.base_model)
    registry.promote(again.baseline.version, "for a reason", again.baseline.base_model, force=True)
    assert registry.current() == again.baseline.version
    assert registry.history()[-1].reason.startswith("forced: for a reason; refused because fewer right")


def test_forcing_makes_lora_live_on_record(base_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    learnt = train_and_register(examples, base_folder, registry, replace(QUICK, learning_rate=3.0), force=True)
    assert not learnt.verdict.accepted and learnt.live == learnt.lora.version == registry.current()
    last = registry.history()[-1]
    assert last.reason.startswith("forced: train --force; refused because does not beat the baseline")


def test_rows_of_which_none_can_judge_are_told_before_training(base_folder: Path, tmp_path: Path) -> None:
    told: list[object] = []
    rows = [Example("where is my order", "a"), Example("refund card please", "b")]
    with pytest.raises(FinetuneError, match=r"none of the 2 rows .* can be held out .*; add rows"):
        train_and_register(rows, base_folder, Registry(tmp_path), QUICK, told.append)
    assert told == [] and Registry(tmp_path).list() == ()


def test_held_out_rows_judge_what_serves_without_knowing_them(
    base_folder: Path, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[QuestionModel] = []

    def reading(model: QuestionModel, rows: Sequence[Example]) -> Outcomes:
        judged.append(model)
        return read_outcomes(model, rows)

    monkeypatch.setattr("finetune.release.read_outcomes", reading)
    rows = [replace(e, answer="money back today") for e in examples]
    learnt = train_and_register(rows, base_folder, Registry(tmp_path), HALF)
    held_out = len(split(classed(prepare(rows).examples), 0.5, HALF.seed).held_out)
    for manifest, adapted in ((learnt.baseline, False), (learnt.lora, True)):
        model = next(m for m in reversed(judged) if ("adapter_model.safetensors" in m.files) is adapted)
        served = QuestionModel.load(Registry(tmp_path).folder(manifest.version), base_folder)
        assert len(served.precedents.asked) == len(rows)
        assert len(model.precedents.asked) == len(rows) - held_out
        assert model.exported and np.array_equal(model.head.weight, served.head.weight), "else it is what serves"


def test_a_damaged_pointer_is_told_before_training(base_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("nonsense")
    with pytest.raises(FinetuneError, match="names no version"):
        train_and_register(examples, base_folder, Registry(tmp_path), QUICK)
    assert Registry(tmp_path).list() == ()


def test_more_rows_later_are_compared_on_rows_neither_was_trained_on(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    order = np.random.default_rng(0).permutation(len(examples)).tolist()
    train_and_register([examples[i] for i in order[20:]], base_folder, registry, HALF)
    later = train_and_register(examples, base_folder, registry, HALF)
    assert "rows that neither was trained on" in later.baseline_verdict.reason


def test_a_version_that_knows_what_articles_answer_starts_with_a_threshold_for_passages(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    told = [replace(e, intent=None, answer="money back today") for e in examples if e.intent == "refund"]
    knows = train_and_register([*examples, *told], base_folder, Registry(tmp_path / "a"), QUICK).lora
    assert knows.labels == ("", "*", "cancel", "lost_card", "refund")
    assert knows.thresholds == {"out_of_scope": 0.5, "foreign": 0.5}
    plain = train_and_register(examples, base_folder, Registry(tmp_path / "b"), QUICK).lora
    assert plain.thresholds == {"out_of_scope": 0.5}


def test_a_tampered_version_is_refused_before_anything_is_loaded(
    base_folder: Path, first: tuple[Registry, Learnt]
) -> None:
    registry, learnt = first
    path = registry.folder(learnt.lora.version) / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FinetuneError, match="does not match its manifest"):
        QuestionModel.load(registry.folder(learnt.lora.version), base_folder)
