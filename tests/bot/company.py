"""A company learnt in seconds, served by the real command: a tiny random encoder stands in for the weights."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bot.home import Home, running_service
from finetune.encoder import MAX_TOKENS
from finetune.export import GRAPH, export
from finetune.model import QuestionModel
from finetune.registry import Registry
from finetune.train import Fitted
from tests.conftest import ROOT
from tests.finetune.saving import live

TOKEN = "0123456789abcdef"
START = 240.0
"""Seconds after which what should have happened has not: other work on the same cores makes a start far longer."""


def until(happened: Callable[[], bool]) -> None:
    """Wait for a condition that another process brings about."""
    deadline = time.monotonic() + START
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@dataclass(frozen=True)
class Company:
    folder: Path
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "bot", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        command = [sys.executable, "-m", "bot", "serve", "--port", "0"]
        log = (self.folder / "serve.log").open("w")
        with log, subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=log) as process:
            try:
                until(lambda: process.poll() is not None or running_service(self.home) is not None)
                found = running_service(self.home)
                assert found is not None, (self.folder / "serve.log").read_text()
                with httpx.Client(base_url=found.url, trust_env=False, timeout=START) as http:
                    yield http
            finally:
                process.send_signal(signal.SIGKILL)


def exported(model: QuestionModel) -> QuestionModel:
    """As it is served: without torch, which would take most of the time of a start."""
    graph = export(model.encoder.traceable(model.adapted), MAX_TOKENS, model.encoder.weights())
    return QuestionModel(model.encoder, model.head.labels, {**model.files, GRAPH: graph}, model.search_vectors)


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory, base_folder: Path, halved: Fitted) -> Company:
    """A company with everything: playbook, knowledge, model."""
    folder = tmp_path_factory.mktemp("learnt")
    shutil.copy(ROOT / "data/playbook.toml", folder / "playbook.toml")
    (folder / "articles").mkdir()
    (folder / "articles" / "warranty.md").write_text("# Warranty\n\nThe warranty lasts two years.\n")
    (folder / "frontdesk.toml").write_text(
        f'home = "home"\nknowledge = ["articles"]\nplaybook = "playbook.toml"\nencoder = "{base_folder}"\n'
        f'metrics_token = "{TOKEN}"\n'
    )
    company = of(folder)
    company.run("ingest")
    live(Registry(Home(company.home).models), exported(halved.baseline.model), halved.rows.held_out)
    return company


@pytest.fixture
def company(learnt: Company, tmp_path: Path) -> Company:
    """A copy of it that a test may damage."""
    shutil.copytree(learnt.folder, tmp_path / "company")
    return of(tmp_path / "company")


def of(folder: Path) -> Company:
    threads = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "FRONTDESK_CONFIG": str(folder / "frontdesk.toml")}
    # All customers of a test come from one address, and ask as fast as they are answered.
    lifted = {
        f"FRONTDESK_LIMITS_{what}_PER_{whose}": "1000000000"
        for what in ("REQUESTS", "CONVERSATIONS", "MESSAGES", "WORK")
        for whose in ("ADDRESS", "VISITOR", "CONVERSATION", "SITE")
        if (what, whose) not in (("REQUESTS", "VISITOR"), ("REQUESTS", "CONVERSATION"), ("REQUESTS", "SITE"))
    }
    return Company(
        folder, threads | lifted | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    )
