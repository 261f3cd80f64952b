"""What is missing costs what it does and no more: each combination served by the real command and asked over HTTP.

A tiny random encoder stands in for the weights, so that a company is learnt in seconds; what is judged is whether every
question gets an answer, which versions made it, and that a person is offered.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.home import Home, running_service
from finetune.registry import Registry
from finetune.train import Fitted
from tests.bot.channels.office import PATIENCE, visitor, wait_until
from tests.conftest import ROOT
from tests.finetune.conftest import base_folder, halved, tiny  # noqa: F401
from tests.finetune.saving import live

pytestmark = pytest.mark.slow
TOKEN = "0123456789abcdef"
START = 90.0
"""Seconds after which a service that should have started has not: it loads torch, beside whatever else runs here."""
OF_A_PERSON = ("person", "colleague", "someone", "team", "human")


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
                deadline = time.monotonic() + START
                while process.poll() is None and running_service(self.home) is None:
                    assert time.monotonic() < deadline, "it did not start"
                    time.sleep(0.02)
                found = running_service(self.home)
                assert found is not None, (self.folder / "serve.log").read_text()
                with httpx.Client(base_url=found.url, trust_env=False, timeout=PATIENCE) as http:
                    yield http
            finally:
                process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory, base_folder: Path, halved: Fitted) -> Company:  # noqa: F811
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
    live(Registry(Home(company.home).models), halved.baseline.model, halved.rows.held_out)
    return company


@pytest.fixture
def company(learnt: Company, tmp_path: Path) -> Company:
    """A copy of it that a test may damage."""
    shutil.copytree(learnt.folder, tmp_path / "company")
    return of(tmp_path / "company")


def of(folder: Path) -> Company:
    threads = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "FRONTDESK_CONFIG": str(folder / "frontdesk.toml")}
    return Company(folder, threads | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ})


def ready(http: httpx.Client) -> tuple[int, object]:
    answer = http.get("/health/ready")
    return answer.status_code, answer.json()


def degraded(http: httpx.Client) -> set[str]:
    """The parts that the meters call missing."""
    text = http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {s.labels["part"] for s in families["frontdesk_part_degraded"].samples if s.value}


def check_answers(http: httpx.Client, *, model: bool, index: bool) -> None:
    """Every question is answered from what is left; what cannot be is said so, and a person offered or brought."""
    greeting, unknown = (visitor(http).ask(text) for text in ("hello", "zorblatt frumious?"))
    assert greeting["status"] in ("small_talk", "approved") and greeting["text"]
    assert unknown["text"] and unknown["status"] in ("not_known", "clarified", "grounded", "asked", "handed_over")
    if unknown["status"] == "not_known":
        offered = f"{unknown['text']} {unknown['suggestions']}".lower()
        assert any(word in offered for word in OF_A_PERSON), offered
    who = visitor(http)
    asked = who.ask("can I talk to a human please")
    assert asked["status"] == "handed_over" and any(word in str(asked["text"]).lower() for word in OF_A_PERSON)
    assert (unknown["model_version"] != "unavailable") is model
    assert (unknown["index_version"] != "unavailable") is index
    status = http.get(who.at(), headers=who.headers).json()["status"]
    assert status == "waiting"


@pytest.mark.parametrize(
    "missing",
    [(), ("knowledge",), ("models",), ("knowledge", "models")],
    ids=lambda names: "+".join(names) or "nothing",
)
def test_what_is_left_answers(company: Company, missing: tuple[str, ...]) -> None:
    for name in missing:
        shutil.rmtree(company.home / name)
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": bool(missing)})
        assert degraded(http) == {{"knowledge": "knowledge", "models": "model"}[name] for name in missing}
        check_answers(http, model="models" not in missing, index="knowledge" not in missing)


def test_a_damaged_model_and_a_damaged_index_are_as_good_as_none(company: Company) -> None:
    next((company.home / "models" / "versions").glob("*/head.safetensors")).write_bytes(b"rubbish")
    next((company.home / "knowledge" / "versions").glob("*/passages.jsonl")).write_text("{}\n")
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": True})
        assert degraded(http) == {"knowledge", "model"}
        check_answers(http, model=False, index=False)


def test_a_playbook_broken_while_serving_and_at_the_next_start_leaves_the_voice(company: Company) -> None:
    good = (company.folder / "playbook.toml").read_text("utf-8")
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": False})
        (company.folder / "playbook.toml").write_text("company = [", "utf-8")
        wait_until(lambda: ready(http)[1] == {"status": "ready", "degraded": True})
        check_answers(http, model=True, index=True)
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": True})
        assert degraded(http) == {"playbook"}
        check_answers(http, model=True, index=True)
        (company.folder / "playbook.toml").write_text(good, "utf-8")
        wait_until(lambda: ready(http)[1] == {"status": "ready", "degraded": False})


def test_a_playbook_that_never_served_stops_the_start_with_its_cure(company: Company) -> None:
    (company.folder / "playbook.toml").write_text("company = [", "utf-8")
    (company.home / "playbook.last.toml").unlink(missing_ok=True)
    command = [sys.executable, "-m", "bot", "serve", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=company.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "playbook.toml: not valid TOML" in done.stderr and "Traceback" not in done.stderr
