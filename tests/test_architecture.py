"""The import contract holds, and each rule of it turns red when broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LINT = Path(sys.executable).parent / "lint-imports"

FAULTS = {
    "a stray helpers file": ("bot/helpers.py", ""),
    "a stray file in the conversation": ("bot/conversation/utils.py", ""),
    "retriever reaches up": ("retriever/split.py", "import bot.home"),
    "finetune reaches across": ("finetune/calibrate.py", "import retriever.passages"),
    "the conversation starts training": ("bot/conversation/dialogue.py", "import finetune.train"),
    "an import hidden in a function": (
        "bot/conversation/answers.py",
        "def f() -> None:\n    import finetune.model",
    ),
    "a channel reads settings": ("bot/channels/terminal.py", "import bot.settings"),
    "the console reads settings": ("bot/console/pages.py", "import bot.settings"),
    "a channel reaches up to the console": ("bot/channels/web/api.py", "import bot.console.inbox"),
    "a delivery sees the web": ("bot/delivery.py", "import fastapi"),
    "the conversation sees the web": ("bot/conversation/dialogue.py", "import fastapi"),
    "the conversation sees SQL": ("bot/conversation/assistant.py", "import sqlalchemy"),
    "answers reach past passages": ("bot/conversation/answers.py", "import retriever.knowledge_base"),
    "storage sees a channel": ("bot/storage/database.py", "import bot.channels.terminal"),
    "the registry starts training": ("finetune/registry.py", "import finetune.train"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINT, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("bot", "retriever", "finetune"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_tree_keeps_its_contract(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_the_contract(copy: Path, fault: str) -> None:
    name, line = FAULTS[fault]
    path = copy / name
    path.write_text((path.read_text("utf-8") if path.exists() else "") + f"\n{line}\n")
    assert lint(copy).returncode == 1, fault


def test_every_module_says_what_it_owns_and_stays_readable() -> None:
    """A docstring opens every module, and no file outgrows what one reads in a sitting."""
    files = [p for name in ("bot", "retriever", "finetune") for p in (ROOT / name).rglob("*.py")]
    assert len(files) > 30, "the guard must look at the real tree"
    for path in files:
        text = path.read_text("utf-8")
        if "migrations" not in path.parts and text.strip():
            assert text.startswith('"""'), f"{path.relative_to(ROOT)} opens without saying what it owns"
        assert text.count("\n") <= 450, f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines: split it"


def test_no_file_reaches_imports_the_contract_cannot_see() -> None:
    for name in ("bot", "retriever", "finetune"):
        for path in (ROOT / name).rglob("*.py"):
            assert "import_module" not in path.read_text("utf-8"), path
