"""`frontdesk models` and what a person reads of a report, on versions of a tiny encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bot.home import Home
from finetune.model import QuestionModel
from finetune.registry import REPORT, Registry
from finetune.train import Fitted
from tests.bot.cli.conftest import Run
from tests.finetune.conftest import base_folder, halved, tiny  # noqa: F401
from tests.finetune.saving import live, save

pytestmark = pytest.mark.slow


@pytest.fixture
def registry(home: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:  # noqa: F811
    monkeypatch.setenv("FRONTDESK_ENCODER", str(base_folder))
    return Registry(Home(home).models)


@pytest.fixture
def versions(registry: Registry, halved: Fitted) -> tuple[str, str]:  # noqa: F811
    """The live version, and one with two labels swapped that was refused."""
    model, held_out = halved.baseline.model, halved.rows.held_out
    swapped = QuestionModel(model.encoder, ("", "refund", "lost_card", "cancel"), model.files, model.search_vectors)
    good, bad = live(registry, model, held_out), save(registry, swapped, held_out, rows=110)
    registry.refuse(bad, "intent cancel falls below its floor")
    return good, bad


def test_show_prints_the_whole_report_of_the_live_version(frontdesk: Run, versions: tuple[str, str]) -> None:
    ran = frontdesk("models", "show")
    assert ran.status == 0 and ran.out.startswith(f"{versions[0]}  LoRA, live\n")
    for section in (
        "summary, on 107 held-out rows, 83 of them with an intent",
        "coverage at error rates, of 83 rows in scope",
        "weakest intents of 3",
        "most confused",
        "calibration",
        "history",
    ):
        assert f"\n{section}" in ran.out, section
    table = ran.out.split("coverage at error rates, of 83 rows in scope\n")[1].splitlines()[1:4]
    assert [line.split()[0] for line in table] == ["1%", "2%", "5%"]
    assert all(len(line) <= 118 for line in ran.out.splitlines())
    assert "promoted: test" in ran.out and "seed 0" in ran.out


def test_show_gives_everything_as_json(frontdesk: Run, versions: tuple[str, str]) -> None:
    shown = json.loads(frontdesk("models", "show", versions[1], "--json").out)
    assert shown["manifest"]["version"] == versions[1]
    assert [event["action"] for event in shown["history"]] == ["saved", "refused"]
    report = shown["report"]
    assert len(report["outcomes"]) == 107 and report["scores"]["intent_rows"] == 83
    assert {i["intent"] for i in report["intents"]} == {"cancel", "lost_card", "refund"}
    assert [a["rate"] for a in report["answering"]] == [0.01, 0.02, 0.05]


def test_compare_says_what_changed_and_whether_it_may_be_chance(frontdesk: Run, versions: tuple[str, str]) -> None:
    ran = frontdesk("models", "compare", *versions)
    assert ran.status == 0, ran.err
    assert "worse beyond chance" in ran.out and "exact McNemar p = " in ran.out
    assert "on 83 rows with an intent that were held out from both" in ran.out
    assert "recall by intent, 2 of 3 changed" in ran.out
    cancel = next(line for line in ran.out.splitlines() if line.endswith(" cancel"))
    assert cancel.strip().startswith("-") and "lost" in cancel
    assert "rows: 100 -> 110" not in ran.out, "the data is the same"
    same = frontdesk("models", "compare", versions[0], versions[0]).out
    assert "both are right on the same 83 rows" in same and "recall by intent, 0 of 3 changed" in same
    assert "made alike" in same
    value = json.loads(frontdesk("models", "compare", *versions, "--json").out)
    accuracy = value["comparison"]["accuracy"]
    assert accuracy["rows"] == 83 and accuracy["p"] < 0.05 and value["verdict"].startswith("worse")
    assert [c["intent"] for c in value["comparison"]["intents"]][-1] == "lost_card"


def test_compare_without_shared_rows_claims_nothing(
    frontdesk: Run,
    registry: Registry,
    halved: Fitted,  # noqa: F811
) -> None:
    one, two = (save(registry, halved.baseline.model, rows) for rows in (halved.rows.train, halved.rows.held_out))
    ran = frontdesk("models", "compare", one, two)
    assert ran.status == 0 and "no held-out row is shared" in ran.out
    assert "held out from both" not in ran.out and "each on held-out rows of its own" in ran.out


def test_a_version_from_before_reports_shows_what_there_is(
    frontdesk: Run,
    registry: Registry,
    halved: Fitted,  # noqa: F811
) -> None:
    model, held_out = halved.baseline.model, halved.rows.held_out
    old, new = live(registry, model, held_out, with_report=False), save(registry, model, held_out)
    ran = frontdesk("models", "show")
    assert ran.status == 0 and "frontdesk train" in ran.out and "accuracy" in ran.out
    assert json.loads(frontdesk("models", "show", "--json").out)["report"] is None
    ran = frontdesk("models", "compare", old, new)
    assert ran.status == 2 and old in ran.err and "frontdesk train" in ran.err and "Traceback" not in ran.err


def test_bad_input_is_named(frontdesk: Run, registry: Registry, versions: tuple[str, str]) -> None:
    good, bad = versions
    for arguments, named in (
        (("show", "nonsense"), "nonsense"),
        (("compare", good, "nonsense"), "nonsense"),
        (("compare", "20200101-000000-00000000", bad), "20200101-000000-00000000"),
        (("promote", "nonsense"), "nonsense"),
    ):
        ran = frontdesk("models", *arguments)
        assert ran.status == 2 and named in ran.err and good in ran.err and ran.out == ""
    path = registry.folder(good) / REPORT
    path.write_bytes(path.read_bytes()[:-9])
    for arguments in (("show", good), ("compare", good, bad), ("promote", good)):
        ran = frontdesk("models", *arguments)
        assert ran.status == 2 and "report.json: does not match its manifest" in ran.err and ran.out == ""
    shutil.rmtree(registry.root)
    assert frontdesk("models", "show").status == 2
    assert frontdesk("models", "compare", good, bad).status == 2


def test_a_refused_version_is_promoted_by_force_only(
    frontdesk: Run, registry: Registry, versions: tuple[str, str]
) -> None:
    good, bad = versions
    ran = frontdesk("models", "promote", bad)
    assert ran.status == 2 and "falls below its floor" in ran.err and "--force" in ran.err
    assert registry.current() == good
    assert frontdesk("models", "promote", bad, "--force", "--reason", "cancel is gone").status == 0
    assert registry.current() == bad
    assert (
        "forced: cancel is gone; refused because intent cancel falls below its floor" in frontdesk("models", "show").out
    )
    assert frontdesk("models", "rollback").status == 0 and registry.current() == good


def test_train_prints_both_versions_and_why_one_is_live(
    frontdesk: Run, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once more, by force."""
    from tests.finetune.conftest import labelled_rows

    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": e.text, "intent": e.intent or None}) for e in labelled_rows()))
    monkeypatch.setenv("FRONTDESK_SEED", "1")
    first = frontdesk("train", "--examples", path)
    assert first.status == 0, first.err
    assert f"live: {registry.current()}" in first.out and "held out:" in first.out
    assert "nothing was live before" in first.out

    forced = json.loads(frontdesk("train", "--examples", path, "--force", "--json").out)
    assert forced["live"] == forced["lora"]["version"] and forced["lora"]["parent"] in first.out
    assert registry.current() == forced["live"]
    assert np.isfinite(forced["lora_scores"]["aurc"])
    if not forced["verdict"]["accepted"]:
        assert registry.history()[-1].reason.startswith("forced: train --force; refused because ")
