"""What is missing costs what it does and no more: each combination served by the real command and asked over HTTP.

A tiny random encoder stands in for the weights, so that a company is learnt in seconds; what is judged is whether every
question gets an answer, which versions made it, and that a person is offered.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bot.channels.office import visitor
from tests.bot.company import TOKEN, Company, until
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
OF_A_PERSON = ("person", "colleague", "someone", "team", "human")


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
    next((company.home / "knowledge" / "versions").glob("*/passages.00.lines")).write_text("{}\n")
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": True})
        assert degraded(http) == {"knowledge", "model"}
        check_answers(http, model=False, index=False)


def test_a_playbook_broken_while_serving_and_at_the_next_start_leaves_the_voice(company: Company) -> None:
    good = (company.folder / "playbook.toml").read_text("utf-8")
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": False})
        (company.folder / "playbook.toml").write_text("company = [", "utf-8")
        until(lambda: ready(http)[1] == {"status": "ready", "degraded": True})
        check_answers(http, model=True, index=True)
    with company.serving() as http:
        assert ready(http) == (200, {"status": "ready", "degraded": True})
        assert degraded(http) == {"playbook"}
        check_answers(http, model=True, index=True)
        (company.folder / "playbook.toml").write_text(good, "utf-8")
        until(lambda: ready(http)[1] == {"status": "ready", "degraded": False})


def test_the_log_is_one_object_a_line_from_the_first_request_on(company: Company) -> None:
    """Also what is said while it serves: a part that broke, a part that was taken up."""
    with company.serving() as http:
        check_answers(http, model=True, index=True)
        good = (company.folder / "playbook.toml").read_text("utf-8")
        for text, degraded in (("company = [", True), (good, False)):
            (company.folder / "playbook.toml").write_text(text, "utf-8")
            until(lambda degraded=degraded: ready(http)[1] == {"status": "ready", "degraded": degraded})
    said = (company.folder / "serve.log").read_text().splitlines()
    start = next(number for number, line in enumerate(said) if line.startswith("serving "))
    lines = [json.loads(line) for line in said[start + 1 :]]
    assert {line["event"] for line in lines} == {"request", "library"}
    told = [line["said"] for line in lines if line["event"] == "library" and line["logger"] == "bot.cli.live"]
    assert [each.partition(":")[0] for each in told] == ["degraded", "taken up"]


def test_a_playbook_that_never_served_stops_the_start_with_its_cure(company: Company) -> None:
    (company.folder / "playbook.toml").write_text("company = [", "utf-8")
    (company.home / "playbook.last.toml").unlink(missing_ok=True)
    command = [sys.executable, "-m", "bot", "serve", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=company.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "playbook.toml: not valid TOML" in done.stderr and "Traceback" not in done.stderr
