"""The report of a version: right numbers, read back as written, bounded, without a word of a customer."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from finetune.examples import FinetuneError
from finetune.metrics import calibration_error
from finetune.model import QuestionModel
from finetune.outcomes import Outcomes, read_outcomes, scores_of
from finetune.registry import REPORT, Manifest, Registry, read_manifest
from finetune.report import MOST_ROWS, Outcome, VersionReport, milliseconds, read_report, report_of, to_bytes
from finetune.train import Fitted
from tests.finetune.saving import save


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def report(registry: Registry, halved: Fitted) -> VersionReport:
    found = read_report(registry, save(registry, halved.baseline.model, halved.rows.held_out))
    assert found is not None
    return found


def test_a_report_is_read_back_as_it_was_measured(registry: Registry, halved: Fitted) -> None:
    model, held_out = halved.baseline.model, halved.rows.held_out
    version = save(registry, model, held_out)
    report = read_report(registry, version)
    outcomes = read_outcomes(model, held_out)
    assert report is not None and report == report_of(outcomes, model, registry.show(version), 1.25)
    assert report.scores == scores_of(outcomes) and report.latency_ms == 1.25
    assert (report.kind, report.rows, report.seed, report.recipe["rank"]) == ("lora", 100, 0, 16)
    assert report.bytes == sum(len(content) for content in model.files.values())
    assert report.serving == "torch" and report.seconds == 1.5


def test_scores_of_every_intent_are_those_of_scikit_learn(report: VersionReport, halved: Fitted) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    labelled = [e for e in halved.rows.held_out if e.intent]
    read = halved.baseline.model.read([(e.text, e.history) for e in labelled])
    said = [read.labels[i] for i in read.probabilities.argmax(axis=1)]
    expected = precision_recall_fscore_support([e.intent for e in labelled], said, labels=read.labels)
    assert [i.intent for i in report.intents] == list(read.labels)
    for number, intent in enumerate(report.intents):
        assert (intent.precision, intent.recall, intent.f1, intent.rows) == pytest.approx([e[number] for e in expected])
    pairs = {(pair.right, pair.said): pair.rows for pair in report.confusions}
    mistakes = [(e.intent, name) for e, name in zip(labelled, said, strict=True) if e.intent != name]
    assert pairs == {pair: mistakes.count(pair) for pair in mistakes}  # type: ignore[comparison-overlap]


def test_a_report_holds_no_text(registry: Registry, halved: Fitted) -> None:
    held_out = [replace(e, text=e.text + " my name is zebediah") for e in halved.rows.held_out]
    content = registry.file(save(registry, halved.baseline.model, held_out), REPORT)
    assert content is not None
    for secret in ("zebediah", "hello", "parcel", "thanks"):
        assert secret.encode() not in content


def test_kept_rows_give_the_same_calibration(report: VersionReport, halved: Fitted) -> None:
    """What a later comparison computes from the rows is what was measured, but for rounding to four digits."""
    inside = [row for row in report.outcomes if report.labels[row.intent]]
    sure, right = np.array([r.confidence for r in inside]), np.array([r.right for r in inside])
    assert calibration_error(sure, right) == pytest.approx(report.scores.calibration_error, abs=2e-3)
    assert sum(b.rows for b in report.reliability) == len(inside)
    assert report.answering[2].point.coverage == report.scores.coverage_at_5
    assert report.risk_coverage[-1].coverage == 1.0 and 3 <= len(report.risk_coverage) <= 20


def test_an_intent_without_rows_or_never_said_has_none_instead_of_a_number(halved: Fitted) -> None:
    model = halved.baseline.model
    refunds = [e for e in halved.rows.held_out if e.intent == "refund"]
    intents = {i.intent: i for i in report_of(read_outcomes(model, refunds), model, MANIFEST, 1.0).intents}
    assert set(intents) == {"cancel", "lost_card", "refund"}
    assert intents["cancel"].recall is None and intents["cancel"].rows == 0
    assert intents["refund"].rows == len(refunds) and intents["refund"].recall is not None


MANIFEST = Manifest("", "lora", "", "ab", "frozen", "cd", 9, (), "", {"seed": 3}, {}, {}, {})


def test_a_report_stays_small_with_a_thousand_intents_and_a_crowd_of_rows(halved: Fitted) -> None:
    """And of too many rows two versions keep the same ones."""
    random = np.random.default_rng(0)
    count, names = MOST_ROWS + 5_000, tuple(f"{n:04}" + "意" * 96 for n in range(1000))

    def crowd(keys: list[str]) -> Outcomes:
        truth, said = (random.integers(0, 1000, len(keys)) for _ in range(2))
        zeros = np.zeros(len(keys))
        return Outcomes(names, 1000, tuple(keys), truth, said, random.random(len(keys)), zeros > 0, zeros)

    keys = [f"{n:016x}" for n in random.integers(0, 2**63, count)]
    model = halved.baseline.model
    first, second = (report_of(crowd(some), model, MANIFEST, 1.0) for some in (keys, keys[::-1]))
    content = to_bytes(first)
    assert len(content) < 2_000_000 and len(first.outcomes) == MOST_ROWS and len(first.confusions) == 50
    assert [row.key for row in first.outcomes] == [row.key for row in second.outcomes] == sorted(keys)[:MOST_ROWS]


def test_rows_of_the_same_key_are_kept_once(halved: Fitted) -> None:
    model, rows = halved.baseline.model, halved.rows.held_out[:30]
    report = report_of(read_outcomes(model, (*rows, rows[0])), model, MANIFEST, 1.0)
    assert len(report.outcomes) == 30 and report.scores.rows == 31
    assert isinstance(report.outcomes[0], Outcome)


def test_a_version_from_before_reports_has_none(registry: Registry, halved: Fitted) -> None:
    version = save(registry, halved.baseline.model, halved.rows.held_out, with_report=False)
    assert read_report(registry, version) is None
    with pytest.raises(FinetuneError, match="no model version"):
        read_report(registry, "20200101-000000-00000000")


def test_a_damaged_report_is_named(registry: Registry, halved: Fitted) -> None:
    version = save(registry, halved.baseline.model, halved.rows.held_out)
    path = registry.folder(version) / REPORT
    content = path.read_bytes()
    for damage in (content[:-1], content.replace(b"0.5", b"0.6"), b"", content + b" "):
        path.write_bytes(damage)
        with pytest.raises(FinetuneError, match=r"report\.json: does not match its manifest"):
            read_report(registry, version)
    path.unlink()
    with pytest.raises(FinetuneError, match=r"report\.json: is not a plain file"):
        read_report(registry, version)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"kind": "lora"}', b"\xff", b"[" * 100_000])
def test_a_sealed_report_that_is_none_is_named(registry: Registry, content: bytes) -> None:
    """Written by another program, or another version of this one."""
    version = registry.save({REPORT: content, "head.safetensors": b"x"}, MANIFEST).version
    with pytest.raises(FinetuneError, match=r"report\.json: not a report of this program"):
        read_report(registry, version)


def test_a_report_with_a_number_out_of_place_is_refused(registry: Registry, report: VersionReport) -> None:
    value = json.loads(to_bytes(report))
    value["scores"]["accuracy"] = "high"
    version = registry.save({REPORT: json.dumps(value).encode()}, MANIFEST).version
    with pytest.raises(FinetuneError, match=r"scores\.accuracy"):
        read_report(registry, version)
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_bytes(replace(report, latency_ms=float("nan")))


def test_a_model_is_loaded_without_its_report(registry: Registry, halved: Fitted) -> None:
    model = halved.baseline.model
    folder = registry.folder(save(registry, model, halved.rows.held_out))
    loaded = QuestionModel.of(model.encoder, folder)
    assert loaded.files == model.files and REPORT in read_manifest(folder).files
    assert loaded.adapter_bytes == model.adapter_bytes


def test_reading_is_timed_on_one_thread_and_the_threads_come_back(halved: Fitted) -> None:
    import torch

    before = torch.get_num_threads()
    assert 0 < milliseconds(halved.baseline.model, halved.rows.held_out[:5]) < 1000
    assert milliseconds(halved.baseline.model, []) == 0.0
    assert torch.get_num_threads() == before


def test_asdict_keeps_rows_as_lists_of_five(report: VersionReport) -> None:
    rows = json.loads(to_bytes(report))["outcomes"]
    assert all(len(row) == 5 for row in rows) and len(rows) == len(report.outcomes)
    assert asdict(report)["outcomes"][0] == report.outcomes[0]
