"""What changed between two versions: by hand, and against SciPy, on rows that both held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetune.compare import Paired, compare
from finetune.registry import Registry
from finetune.report import Outcome, VersionReport, read_report
from finetune.train import Fitted
from tests.finetune.saving import save

LABELS = ("cancel", "refund", "", "*sizes.md")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, halved: Fitted) -> VersionReport:
    registry = Registry(tmp_path_factory.mktemp("compare"))
    report = read_report(registry, save(registry, halved.baseline.model, halved.rows.held_out))
    assert report is not None
    return report


def with_rows(base: VersionReport, rows: str, labels: tuple[str, ...] = LABELS) -> VersionReport:
    """A report whose rows are words such as `k1:cancel+.9`: key, intent, right or not, confidence."""
    outcomes = []
    for word in rows.split():
        key, rest = word.split(":")
        sign = "+" if "+" in rest else "-"
        intent, confidence = rest.split(sign)
        outcomes.append(Outcome(key, labels.index(intent), 0, sign == "+", float(confidence)))
    return replace(base, labels=labels, outcomes=tuple(outcomes))


BEFORE = "k1:cancel+.9 k2:cancel+.9 k3:refund-.6 k4:refund+.8 k5:-.5 k6:-.5 k7:*sizes.md-.2 old:cancel+.9"
AFTER = "k1:cancel-.9 k2:cancel-.9 k3:refund+.8 k4:refund+.8 k5:+.5 k6:-.5 k7:*sizes.md-.2 new:refund+.9"


@pytest.mark.slow
def test_a_comparison_by_hand(base: VersionReport) -> None:
    found = compare(with_rows(base, BEFORE), with_rows(base, AFTER))
    assert found.accuracy == Paired(rows=4, before=0.75, after=0.5, won=1, lost=2, p=1.0)
    assert found.out_of_scope == Paired(rows=2, before=0.0, after=0.5, won=1, lost=0, p=1.0)
    assert [(c.intent, c.paired.change, c.paired.won, c.paired.lost) for c in found.intents] == [
        ("cancel", -1.0, 0, 2),
        ("refund", 0.5, 1, 0),
    ]
    assert found.before is not None and found.after is not None
    assert found.before.rows == 5, "in scope: the four with an intent, and the one answered otherwise"
    assert found.before.calibration_error == pytest.approx((0.1 + 0.1 + 0.6 + 0.2 + 0.2) / 5)
    assert found.before.coverage == (0.6, 0.6, 0.6) and found.after.coverage == (0.0, 0.0, 0.0)
    assert "within noise" in found.verdict and "rows won 1, lost 2" in found.verdict


def test_a_difference_beyond_chance_is_called_one(base: VersionReport) -> None:
    from scipy.stats import binomtest

    before = " ".join(f"k{n}:cancel{'+' if n < 15 else '-'}.7" for n in range(40))
    after = " ".join(f"k{n}:cancel{'+' if n >= 3 else '-'}.7" for n in range(40))
    found = compare(with_rows(base, before), with_rows(base, after))
    assert found.accuracy is not None and (found.accuracy.won, found.accuracy.lost) == (25, 3)
    assert found.accuracy.p == pytest.approx(binomtest(3, 28).pvalue)
    assert found.verdict.startswith("better beyond chance")
    assert compare(with_rows(base, after), with_rows(base, before)).verdict.startswith("worse beyond chance")


def test_without_shared_rows_nothing_is_claimed(base: VersionReport) -> None:
    found = compare(with_rows(base, "a:cancel+.9"), with_rows(base, "b:cancel-.9"))
    assert found.accuracy is found.out_of_scope is found.before is found.after is None
    assert found.intents == () and found.verdict.startswith("no held-out row is shared")


def test_intents_are_matched_by_name_when_numbers_moved(base: VersionReport) -> None:
    other = ("appeal", *LABELS)
    found = compare(with_rows(base, BEFORE), with_rows(base, AFTER, other))
    assert [c.intent for c in found.intents] == ["cancel", "refund"]


def test_a_version_against_itself_changed_nothing(base: VersionReport) -> None:
    found = compare(base, base)
    assert found.accuracy is not None and found.accuracy.rows == base.scores.intent_rows
    assert found.accuracy.before == pytest.approx(base.scores.accuracy)
    assert found.verdict.startswith("both are right on the same") and found.made_differently == ()
    recalls = {i.intent: i.recall for i in base.intents}
    assert {c.intent: c.paired.before for c in found.intents} == pytest.approx(recalls)


def test_what_else_differs_is_told(base: VersionReport) -> None:
    other = replace(
        base,
        kind="baseline",
        rows=2000,
        data_fingerprint="ef" * 32,
        recipe={**base.recipe, "epochs": 6, "new": True},
        intents=tuple(replace(i, intent=f"{i.intent}2") for i in base.intents),
    )
    said = compare(base, other).made_differently
    assert said == (
        "kind: lora -> baseline",
        "rows: 100 -> 2,000, other data",
        "new intents: cancel2, lost_card2, refund2",
        "gone intents: cancel, lost_card, refund",
        "recipe: epochs 4 -> 6",
        "recipe: new None -> True",
    )


def test_a_planted_fault_shows_up_in_its_intent(tmp_path: Path, halved: Fitted, base: VersionReport) -> None:
    from finetune.model import QuestionModel

    model = halved.baseline.model
    swapped = QuestionModel(model.encoder, ("", "refund", "lost_card", "cancel"), model.files, model.search_vectors)
    registry = Registry(tmp_path)
    report = read_report(registry, save(registry, swapped, halved.rows.held_out))
    assert report is not None
    changes = {c.intent: c.paired for c in compare(base, report).intents}
    assert changes["cancel"].lost > 5 and changes["refund"].lost > 0
    assert changes["lost_card"].won == changes["lost_card"].lost == 0
