"""The sample company through the command line: learnt, asked, explained, copied, brought back, served."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.home import running_service
from tests.conftest import ROOT

# The training alone takes 11 minutes on one thread of a machine without matrix units, and longer beside other work.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ENGLISH_RIGHT = 0.66
"""A floor against regressions, below what was reached (.76) and the goal (.90): docs/decisions.md says why."""
CHINESE_RIGHT = 0.70
MOST_LEAKED = 0.05


@pytest.fixture(scope="module")
def sample_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample company, learnt once by the commands that a person would type."""
    home = tmp_path_factory.mktemp("sample") / "home"
    for command in (["ingest"], ["transcripts", "import", "data/transcripts.jsonl"], ["train"]):
        done = run_frontdesk(home, *command)
        assert done.returncode == 0, done.stderr
    return home


def run_frontdesk(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`frontdesk` as its own process, on the sample company."""
    return subprocess.run(
        [Path(sys.executable).parent / "frontdesk", *arguments],
        cwd=ROOT,
        env=sample_environment(home),
        capture_output=True,
        text=True,
        check=False,
    )


def sample_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",  # other tests have the other core, and two threads would wait for each other
        "FRONTDESK_CONFIG": str(ROOT / "data/frontdesk.toml"),
        "FRONTDESK_HOME": str(home),
    }


def said(home: Path, *arguments: str) -> Any:
    """The one JSON object that a command prints."""
    done = run_frontdesk(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def commands(text: str) -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in re.findall(r"```console\n(.*?)```", text, re.S)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


def test_training_leaves_two_versions_and_says_why_one_is_live(sample_home: Path) -> None:
    listed = said(sample_home, "models", "list")
    assert {v["kind"] for v in listed["versions"]} == {"baseline", "lora"}
    shown = said(sample_home, "models", "show")
    assert shown["manifest"]["version"] == listed["live"]
    assert next(event for event in shown["history"] if event["action"] == "promoted")["reason"]
    assert set(shown["manifest"]["thresholds"]) >= {"intent", "out_of_scope", "passage", "phrase"}


def test_golden_questions_keep_what_was_reached(sample_home: Path) -> None:
    """The evaluation set through the whole bot: no threshold was chosen on it."""
    scores = said(sample_home, "evaluate", "golden")["scores"]
    assert scores["all"]["answerable"] + scores["all"]["unanswerable"] == 300
    assert scores["en"]["answered_right"] >= ENGLISH_RIGHT
    assert scores["zh"]["answered_right"] >= CHINESE_RIGHT
    assert scores["zh"]["leak_rate"] <= MOST_LEAKED
    assert scores["en"]["leak_rate"] <= 2 * MOST_LEAKED


def test_status_and_doctor_agree_that_all_is_there(sample_home: Path) -> None:
    status = said(sample_home, "status")
    assert status["model"] and status["index"] and status["service"] is None
    assert said(sample_home, "doctor")["ok"] is True


def test_doctor_names_what_is_missing_and_ends_with_one(tmp_path: Path) -> None:
    done = run_frontdesk(tmp_path / "nothing", "doctor")
    assert done.returncode == 1
    assert "frontdesk train" in done.stdout
    assert "frontdesk ingest" in done.stdout


@pytest.fixture
def service(sample_home: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """`frontdesk serve` on a copy of the home, so that what it records stays its own."""
    home = tmp_path / "home"
    shutil.copytree(sample_home, home)
    command = [Path(sys.executable).parent / "frontdesk", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=sample_environment(home), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while run_frontdesk(home, "ask", "hello", "--json").stderr or running_service(home) is None:
            assert process.poll() is None and time.monotonic() < deadline, "the service did not start"
        yield home, process
    finally:
        process.kill()
        process.wait()


def test_served_asked_explained_copied_and_brought_back(
    service: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """One question's whole life: answered over HTTP, explained, in the backup, and in the restored copy."""
    home, process = service
    turn = said(home, "ask", "how much is delivery to Ontario")
    assert turn["status"] == "approved" and turn["intent"] == "shipping_cost"
    explained = run_frontdesk(home, "explain", turn["id"])
    assert "shipping_cost" in explained.stdout and turn["model_version"] in explained.stdout

    copy = tmp_path / "copy"
    assert said(home, "backup", str(copy))["bytes"] > 0
    assert run_frontdesk(home, "restore", str(copy)).returncode == 2, "a running service must not lose its record"

    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert running_service(home) is None

    elsewhere = tmp_path / "elsewhere"
    assert said(elsewhere, "restore", str(copy))["home"] == str(elsewhere)
    again = run_frontdesk(elsewhere, "explain", turn["id"])
    assert again.stdout == explained.stdout
    assert said(elsewhere, "ask", "how much is delivery to Ontario")["text"] == turn["text"]


def test_readme_commands_do_what_they_say(sample_home: Path) -> None:
    """Every `frontdesk` line of README runs on the sample company and succeeds; training is proven by the fixture."""
    lines = [line for line in commands((ROOT / "README.md").read_text("utf-8")) if line.startswith("frontdesk ")]
    assert len(lines) >= 5
    for line in lines:
        if line in ("frontdesk train", "frontdesk discover"):
            continue  # minutes; the fixture proves the one, tests/bot/cli/test_discovery.py the other
        result = run_frontdesk(sample_home, *shlex.split(line)[1:])
        assert result.returncode == 0, f"{line}\n{result.stderr}"
        assert result.stdout.strip(), line
