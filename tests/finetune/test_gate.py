"""The gate: each rule turns red for its own planted fault, all of them are told, and what is unchanged passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.encoder import Encoder
from finetune.examples import Example, FinetuneError
from finetune.gate import (
    Duel,
    Evidence,
    Limits,
    Verdict,
    beats_baseline,
    both,
    broken_rules,
    evidence_of,
    evidence_of_report,
    holds_against,
    live_on,
    winner,
)
from finetune.model import QuestionModel
from finetune.outcomes import Scores, read_outcomes, row_key
from finetune.registry import Registry
from finetune.report import read_report
from finetune.train import Fitted
from tests.finetune.saving import altered, live

GOOD = Scores(0.9, 0.9, 0.99, 0.02, 0.05, 0.95, 0.8, 200, 150, 0.01, 0.7, 0.8, 0.9, 0.85)
BEFORE = Evidence(0.9, 100, 0.02, {"refund": (0.95, 40), "track": (0.8, 20), "rare": (1.0, 19)})


# ------------------------------------------------------------------------------------------ LoRA against its baseline


@pytest.mark.parametrize(
    ("candidate", "accepted", "reason"),
    [
        (replace(GOOD, accuracy=0.91), True, "beats the baseline"),
        (GOOD, False, "does not beat"),
        (replace(GOOD, accuracy=0.89), False, "0.8900 against 0.9000 on 150 held-out rows"),
        (replace(GOOD, accuracy=0.95, auroc=0.5), False, "out of scope"),
        (replace(GOOD, accuracy=float("nan")), False, "not measured"),
        (replace(GOOD, accuracy=0.95, intent_rows=0), False, "not measured"),
        (replace(GOOD, accuracy=0.91, auroc=None), True, "beats"),
    ],
)
def test_lora_must_beat_its_baseline(candidate: Scores, accepted: bool, reason: str) -> None:
    verdict = beats_baseline(candidate, GOOD)
    assert verdict.accepted is accepted and reason in verdict.reason


def test_all_reasons_are_told_not_only_the_first() -> None:
    verdict = beats_baseline(replace(GOOD, accuracy=0.8, auroc=0.8), GOOD)
    assert len(verdict.reasons) == 2
    refused = both(verdict, Verdict(True, ("fine",)), Verdict(False, ("third",)))
    assert refused == Verdict(False, (*verdict.reasons, "third"))
    assert both(Verdict(True, ("a",)), Verdict(True, ("b",))) == Verdict(True, ("a", "b"))


# -------------------------------------------------------------------------------------------- each rule, to the row


def broken(candidate: Evidence, limits: Limits | None = None) -> tuple[str, ...]:
    return broken_rules(Duel(candidate, BEFORE, ""), limits or Limits())


def test_what_is_unchanged_or_just_within_the_limits_passes() -> None:
    assert broken(BEFORE) == ()
    at_the_limit = replace(
        BEFORE, accuracy=0.89, calibration_error=0.03, recalls={"refund": (0.9, 40), "track": (0.75, 20)}
    )
    assert broken(at_the_limit) == ()
    assert broken(replace(BEFORE, recalls={**BEFORE.recalls, "rare": (0.0, 19), "new": (0.0, 90)})) == ()


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (replace(BEFORE, accuracy=0.889), "fewer right than the live version: accuracy 0.8890 against 0.9000"),
        (replace(BEFORE, calibration_error=0.0301), "calibration got worse: ECE 0.030 against 0.020"),
        (
            replace(BEFORE, recalls={**BEFORE.recalls, "track": (0.7, 20)}),
            "intent track falls below its floor: recall 0.700, floor 0.750 (0.800 live) on 20 rows",
        ),
    ],
)
def test_each_rule_turns_red_alone(candidate: Evidence, said: str) -> None:
    assert broken(candidate) == (said,)


def test_every_broken_rule_is_told() -> None:
    bad = Evidence(0.5, 100, 0.3, {"refund": (0.5, 40), "track": (0.1, 20), "rare": (0.0, 19)})
    assert len(broken(bad)) == 4


def test_the_limits_are_those_of_the_settings() -> None:
    bad = replace(BEFORE, calibration_error=0.04, recalls={"refund": (0.85, 40), "rare": (0.5, 19)})
    assert len(broken(bad)) == 2
    assert broken(bad, Limits(recall_drop=0.1, calibration_drop=0.02)) == ()
    assert broken(replace(BEFORE, accuracy=0.85), Limits(accuracy_drop=0.05)) == ()
    assert len(broken(bad, Limits(rows=19))) == 3


def test_flips_of_the_same_rows_come_with_their_p() -> None:
    before = replace(BEFORE, accuracy=0.75, right=(True, True, True, False))
    after = replace(BEFORE, accuracy=0.5, right=(False, False, True, True))
    (said,) = broken_rules(Duel(after, before, ""), Limits())
    assert said.endswith("(rows won 1, lost 2, p 1)")


@pytest.mark.parametrize(("won", "lost", "refused"), [(0, 5, False), (0, 6, True), (8, 0, False), (20, 25, False)])
def test_a_little_worse_is_refused_only_when_it_is_no_chance(won: int, lost: int, refused: bool) -> None:
    """Of 1,000 shared rows: by hand, six coins on one side have p = 2 / 2^6 = .031, five .0625."""
    before = [True] * 900 + [False] * 100
    after = [False] * lost + [True] * (900 - lost + won) + [False] * (100 - won)
    one, other = (Evidence(float(np.mean(r)), 1000, None, {}, tuple(r)) for r in (after, before))
    assert bool(broken_rules(Duel(one, other, ""), Limits())) is refused


def test_versions_of_equal_worth_mostly_pass() -> None:
    """800 shared rows of which 3 % flip by chance: before there was room for chance, two of five were refused."""
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        before = random.random(800) < 0.93
        after = np.where(random.random(800) < 0.24, random.random(800) < 0.93, before)
        one, other = (Evidence(float(r.mean()), 800, None, {}, tuple(r.tolist())) for r in (after, before))
        refused += bool(broken_rules(Duel(one, other, ""), Limits()))
    assert refused < 20


@pytest.mark.parametrize(
    ("lora", "baseline", "expected"),
    [(True, True, "lora"), (True, False, "lora"), (False, True, "baseline"), (False, False, None)],
)
def test_lora_goes_live_else_the_baseline_else_nothing(lora: bool, baseline: bool, expected: str | None) -> None:
    assert winner(Verdict(lora, ()), Verdict(baseline, ())) == expected


# ------------------------------------------------------------------------- a real version against the one that is live


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def judged(registry: Registry, encoder: Encoder, model: QuestionModel, held_out: tuple[Example, ...]) -> Verdict:
    return holds_against(live_on(held_out, registry, encoder), read_outcomes(model, held_out), Limits())


def test_a_version_with_nothing_changed_passes(registry: Registry, tiny: Encoder, halved: Fitted) -> None:
    model, held_out = halved.baseline.model, halved.rows.held_out
    assert judged(registry, tiny, model, held_out) == Verdict(True, ("nothing was live before",))
    version = live(registry, model, held_out)
    verdict = judged(registry, tiny, model, held_out)
    assert verdict.accepted and "3 of 3 intents have the 20 rows" in verdict.reason
    labelled = sum(bool(e.intent) for e in held_out)
    assert verdict.reasons[-1] == f"compared with {version} on {labelled} rows that neither was trained on"


def test_an_intent_that_is_taken_for_another_is_refused(registry: Registry, tiny: Encoder, halved: Fitted) -> None:
    """The planted fault: the labels of two intents are swapped; the third reads as before."""
    model, held_out = halved.baseline.model, halved.rows.held_out
    live(registry, model, held_out)
    assert model.head.labels == ("", "cancel", "lost_card", "refund")
    swapped = QuestionModel(tiny, ("", "refund", "lost_card", "cancel"), model.files, model.search_vectors)
    verdict = judged(registry, tiny, swapped, held_out)
    assert not verdict.accepted
    assert "intent cancel falls below its floor" in verdict.reason
    assert "intent refund falls below its floor" in verdict.reason
    assert "intent lost_card" not in verdict.reason
    assert "fewer right than the live version" in verdict.reason


def test_a_version_that_is_too_sure_is_refused_for_that_alone(
    registry: Registry, tiny: Encoder, halved: Fitted
) -> None:
    """The planted fault: a temperature of .2 leaves every answer as it was."""
    model, held_out = halved.baseline.model, halved.rows.held_out
    assert model.head.temperature > 0.3
    live(registry, model, held_out)
    verdict = judged(registry, tiny, altered(model, temperature=0.2), held_out)
    assert not verdict.accepted and len(verdict.reasons) == 2
    assert verdict.reasons[0].startswith("calibration got worse")


def test_a_version_that_is_worse_overall_is_refused(registry: Registry, tiny: Encoder, halved: Fitted) -> None:
    """The planted fault: noise in the head."""
    model, held_out = halved.baseline.model, halved.rows.held_out
    live(registry, model, held_out)
    noise = np.random.default_rng(0).normal(size=model.head.weight.shape) * model.head.weight.std() * 3
    verdict = judged(registry, tiny, altered(model, weight=model.head.weight + noise), held_out)
    assert not verdict.accepted and verdict.reasons[0].startswith("fewer right than the live version")


def test_only_rows_that_neither_was_trained_on_are_compared(registry: Registry, tiny: Encoder, halved: Fitted) -> None:
    """The live version held out another part; what it knows by heart must not count for it."""
    model, rows = halved.baseline.model, (*halved.rows.train, *halved.rows.held_out)
    live(registry, model, rows[:60])
    found = live_on(rows[30:], registry, tiny)
    assert found is not None and found.outcomes is not None
    assert found.outcomes.keys == tuple(row_key(e) for e in rows[30:60])
    verdict = judged(registry, tiny, model, rows[30:])
    shared = sum(bool(e.intent) for e in rows[30:60])
    assert f"on {shared} rows that neither was trained on" in verdict.reason


def test_with_too_few_shared_rows_live_is_judged_by_its_own_report(
    registry: Registry, tiny: Encoder, halved: Fitted
) -> None:
    model, held_out = halved.baseline.model, halved.rows.held_out
    version = live(registry, model, halved.rows.train)
    report = read_report(registry, version)
    assert report is not None
    assert evidence_of_report(report).recalls == evidence_of(read_outcomes(model, halved.rows.train)).recalls
    verdict = judged(registry, tiny, model, held_out)
    assert not verdict.accepted, "it knew those rows by heart"
    assert verdict.reasons[-1].endswith("by its own report, each on rows of its own: no held-out row is shared")
    few = judged(registry, tiny, model, (*held_out, *halved.rows.train[:5]))
    assert "held-out rows are shared" in few.reason


def test_a_live_version_from_before_reports_is_judged_by_its_accuracy(
    registry: Registry, tiny: Encoder, halved: Fitted
) -> None:
    model, held_out = halved.baseline.model, halved.rows.held_out
    live(registry, model, held_out, with_report=False)
    assert judged(registry, tiny, model, held_out).accepted
    noise = np.random.default_rng(0).normal(size=model.head.weight.shape) * model.head.weight.std() * 3
    verdict = judged(registry, tiny, altered(model, weight=model.head.weight + noise), held_out)
    assert not verdict.accepted and "by its accuracy alone" in verdict.reason


def test_a_report_of_another_program_does_not_open_the_gate(registry: Registry, tiny: Encoder, halved: Fitted) -> None:
    model, held_out = halved.baseline.model, halved.rows.held_out
    measured = registry.show(live(registry, model, held_out))
    version = registry.save({**model.files, "report.json": b'{"form": 2}'}, measured).version
    registry.promote(version, "test", tiny.fingerprint)
    noise = np.random.default_rng(0).normal(size=model.head.weight.shape) * model.head.weight.std() * 3
    verdict = judged(registry, tiny, altered(model, weight=model.head.weight + noise), held_out)
    assert not verdict.accepted and f"compared with {version} by its accuracy alone" in verdict.reason


def test_a_damaged_live_version_holds_nobody_back(registry: Registry, tiny: Encoder, halved: Fitted) -> None:
    """To train again is its cure; a damaged pointer is told, for nothing can be put right behind it."""
    model, held_out = halved.baseline.model, halved.rows.held_out
    version = live(registry, model, held_out)
    (registry.folder(version) / "report.json").write_bytes(b"{}")
    verdict = judged(registry, tiny, altered(model, temperature=0.2), held_out)
    assert verdict.accepted and "cannot be loaded" in verdict.reason and "report.json" in verdict.reason
    (registry.root / "CURRENT").write_text("nonsense")
    with pytest.raises(FinetuneError, match="names no version"):
        judged(registry, tiny, model, held_out)
