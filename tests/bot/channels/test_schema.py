"""Requests made from /openapi.json itself, good and bad ones: whatever is sent, the service does not fail."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings

from bot.storage.sites import create_site
from tests.bot.channels.office import API, Office, Scripted, open_office, visitor

CASES = 6
CAMPAIGN_CASES = 200
"""Of each operation."""

ENDLESS = f"{API}/conversations/{{conversation_id}}/events"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path, Scripted()) as office:
        yield office


def failures(office: Office, application: FastAPI, cases: int, only: str = "") -> tuple[int, list[str]]:
    """How many requests were made, and those that were answered with a fault of ours; with `only` on that path alone.

    Half of them with the token and ids of a conversation that exists, so that they get past the door.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tool's own imports
        import schemathesis
    schema = schemathesis.openapi.from_asgi("/openapi.json", application, headers={"Host": "localhost"})
    http = office.client()
    create_site(office.database, "Shop", actor="test")
    made, found = 0, []

    def attempt(case: Any, signed: bool) -> None:
        nonlocal made
        if signed:
            who = visitor(http)
            office.desk.ask_for_person(who.conversation, "asked")
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {who.token}"}
            if "conversation_id" in case.path_parameters:
                case.path_parameters["conversation_id"] = who.conversation
            if "turn_id" in case.path_parameters:
                case.path_parameters["turn_id"] = str(who.ask("refund?")["id"])
        made += 1
        answer = case.call(headers={"Host": "localhost"})
        # 503 is an answer of ours too: the desk says that it cannot take more just now
        if answer.status_code >= 500 and answer.status_code != 503:
            found.append(f"{case.method} {case.path} {answer.status_code}: {answer.text[:200]}")

    for result in schema.get_all_operations():
        operation = result.ok()
        for signed in (False, True):
            # With a token that opens it a stream never ends: tests of events read it.
            if not (signed and operation.path == ENDLESS) and only in ("", operation.path):
                generate(operation, cases, partial(attempt, signed=signed))
    return made, found


def generate(operation: Any, cases: int, attempt: Callable[[Any], None]) -> None:
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        attempt(case)

    run()


@pytest.mark.slow
def test_no_request_made_from_the_schema_is_a_fault_of_ours(office: Office) -> None:
    made, found = failures(office, office.application, CASES)
    assert made > 100
    assert found == []


@pytest.mark.slow
def test_a_planted_fault_is_found(office: Office) -> None:
    @office.application.get("/api/v1/planted")
    def planted(number: int) -> float:
        return 1 / (number % 2)

    _, found = failures(office, office.application, CASES, only="/api/v1/planted")
    assert any(line.startswith("GET /api/v1/planted 500: ") for line in found)


@pytest.mark.campaign
@pytest.mark.skipif(not os.environ.get("FRONTDESK_CAMPAIGN"), reason="thousands of requests: make campaign")
def test_thousands_of_requests_made_from_the_schema_are_no_fault_of_ours(office: Office) -> None:
    made, found = failures(office, office.application, CAMPAIGN_CASES)
    assert made > 5_000
    assert found == []
