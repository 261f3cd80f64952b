"""Importing old chats on the command line: what is said of what was masked, and of rows that are not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bot.cli.learning import training_rows
from bot.settings import Settings
from finetune.examples import FinetuneError
from tests.bot.cli.conftest import Run
from tests.bot.cli.test_bad_input import left_behind, refused

FIXTURES = Path(__file__).parents[2] / "finetune" / "fixtures"


def test_an_import_reports_what_was_masked_as_a_table_and_as_json(frontdesk: Run) -> None:
    ran = frontdesk("transcripts", "import", FIXTURES / "zendesk.jsonl", "--format", "zendesk")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert "2 conversations with 5 turns became 3 rows (0 labelled, 2 paired, 2 without consent)" in lines[0]
    assert lines[1].split() == ["masked", "values", "conversations"]
    assert lines[2].split() == ["name", "2", "1"]
    assert "skipped line 4: has no" in ran.err
    again = frontdesk("transcripts", "import", FIXTURES / "zendesk.jsonl", "--format", "zendesk", "--json")
    report = json.loads(again.out)
    assert report["masked"] == [{"kind": "name", "values": 2, "conversations": 1}]
    assert (report["rows"], report["withheld"], len(report["problems"])) == (3, 2, 4)


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "slack", "zendesk"])
def test_the_wrong_format_is_one_line_that_names_the_right_one(frontdesk: Run, home: Path, file_format: str) -> None:
    ran = frontdesk("transcripts", "import", FIXTURES / "intercom.jsonl", "--format", file_format)
    refused(ran, "intercom.jsonl", "give --format intercom")
    assert left_behind(home) == []


@pytest.mark.slow
def test_rows_from_slack_are_kept_but_not_trained_on_unless_a_setting_says_so(
    frontdesk: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = frontdesk("transcripts", "import", FIXTURES / "slack", "--format", "slack")
    assert ran.status == 0
    assert "rows from Slack are kept but not trained on" in ran.err and "train_on_slack" in ran.err
    refused(frontdesk("train"), "all 3 rows are from Slack", "train_on_slack")
    monkeypatch.setenv("FRONTDESK_TRAIN_ON_SLACK", "true")
    assert "not trained on" not in frontdesk("transcripts", "import", FIXTURES / "slack", "--format", "slack").err
    refused(frontdesk("train"), "two intents")


@pytest.mark.slow
def test_training_says_how_many_rows_it_leaves_out_and_why(frontdesk: Run, tmp_path: Path) -> None:
    rows = [{"text": f"where is parcel {n}", "intent": "only"} for n in range(20)]
    rows += [{"text": f"refund {n}", "intent": "refund", "origin": "slack"} for n in range(3)]
    rows += [{"text": f"complaint {n}", "intent": "complaint", "consent": False} for n in range(2)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    ran = frontdesk("train", "--examples", path)
    refused(ran, "found 1")
    assert "training on 20 rows" in ran.err and "left out: 3 rows from Slack" in ran.err
    assert "left out: 2 rows without consent" in ran.err


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"consent": False}] * 2, "nothing to train on: 2 rows are without consent"),
        ([{"origin": "slack"}], "nothing to train on: all 1 rows are from Slack; Slack's terms"),
        ([{"consent": False}, {"origin": "slack"}], "1 rows are without consent, all other 1 rows are from Slack; "),
    ],
)
def test_why_no_row_is_left_to_train_on_is_said(tmp_path: Path, rows: list[dict[str, object]], reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": "hi", "intent": "greeting", **row}) for row in rows))
    with pytest.raises(FinetuneError, match=reason):
        training_rows(Settings(home=tmp_path), path)
