"""What the service counts of itself: read by a parser that is not ours, compared with what was sent."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from bot.meters import METHODS, Meters
from bot.readers import BatchingReader
from bot.server import create_application
from retriever.passages import Query
from tests.bot.channels.office import API, STOREFRONT, Office, Scripted, open_office, visitor
from tests.bot.conversation.fakes import reader as keyword_reader
from tests.bot.storage.faulty_disk import FULL, faulty_disk
from tests.bot.storage.sample import ANNA, hire

TOKEN = "0123456789abcdefTOKEN"
STATUSES = {"approved", "grounded", "small_talk", "asked", "clarified", "not_known", "handed_over", "waiting"}


@dataclass(frozen=True)
class Measured:
    office: Office
    meters: Meters
    http: TestClient

    def read(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample by its name and labels."""
        answer = self.http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Measured]:
    meters = Meters()
    with open_office(tmp_path, Scripted(), told=meters.turn) as office:  # type: ignore[arg-type]
        application = create_application(
            office.desk, office.database, office.shelf, STOREFRONT, meters=meters, metrics_token=TOKEN
        )
        with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as http:
            yield Measured(office, meters, http)


def total(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The sum of all samples of that name that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, shown), value in samples.items() if each == name and wanted <= set(shown))


def test_what_was_sent_is_what_is_counted(measured: Measured) -> None:
    http = measured.http
    sent: Counter[str] = Counter()
    for number in range(6):
        who = visitor(http)
        for text in ("refund?", "hello", "my order is late? order", "fail now", "a person please")[: 1 + number % 5]:
            sent[str(who.ask(text)["status"])] += 1
        http.get(who.at(), headers=who.headers)
    http.get(f"{API}/conversations/nobody-knows-this", headers={"Authorization": "Bearer 0123456789abcdef"})
    http.get("/no-such-page/at-all")
    http.request("PROPFIND", "/")
    samples = measured.read()
    messages = sum(sent.values())
    posted = f"{API}/conversations/{{conversation_id}}/messages"
    assert total(samples, "frontdesk_request_seconds_count", method="POST", route=posted, status="200") == messages
    assert total(samples, "frontdesk_request_seconds_count", method="POST", route=f"{API}/conversations") == 6
    own = f"{API}/conversations/{{conversation_id}}"
    assert total(samples, "frontdesk_request_seconds_count", route=own, status="200") == 6
    assert total(samples, "frontdesk_request_seconds_count", route=own, status="404") == 1
    assert total(samples, "frontdesk_request_seconds_count", route="none", status="404") == 1
    assert total(samples, "frontdesk_request_seconds_count", method="other") == 1
    assert {s: total(samples, "frontdesk_turns_total", status=s) for s in sent} == dict(sent)
    assert total(samples, "frontdesk_turns_total") == messages
    # the scripted assistant's turns name two steps; the desk adds the third, and its failures have no steps
    assert total(samples, "frontdesk_step_seconds_count", step="store") == messages
    assert total(samples, "frontdesk_turn_seconds_count") == messages
    assert (
        0 < total(samples, "frontdesk_step_seconds_sum", step="store") <= total(samples, "frontdesk_turn_seconds_sum")
    )
    failed = total(samples, "frontdesk_handovers_total", reason="error")
    assert failed == 2 and total(samples, "frontdesk_step_seconds_count", step="understand") == messages - failed
    assert total(samples, "frontdesk_messages_in_hand") == total(samples, "frontdesk_messages_waiting") == 0


def test_a_hand_over_is_counted_once_however_much_is_said_in_it(measured: Measured) -> None:
    who = visitor(measured.http)
    hire(measured.office.database)
    who.ask("fail now")
    measured.office.desk.take(who.conversation, ANNA)
    for text in ("are you there?", "hello?"):
        assert who.ask(text)["status"] == "waiting"
    samples = measured.read()
    assert total(samples, "frontdesk_turns_total", status="waiting") == 2
    assert (
        total(samples, "frontdesk_handovers_total") == total(samples, "frontdesk_handovers_total", reason="error") == 1
    )


@pytest.mark.slow
def test_it_stays_bounded_and_names_nobody(measured: Measured) -> None:
    """Ids, addresses, queries and methods that strangers make up do not become rows."""
    secrets = []
    for number in range(12):
        who = visitor(measured.http)
        turn = who.ask(f"my name is Zebulon{number}")
        secrets += [who.conversation, who.token, str(turn["id"]), f"zebulon{number}"]
        measured.http.get(f"/{who.token}?q=zebulon{number}")
        measured.http.get(f"{API}/conversations/{who.conversation}x", headers=who.headers)
        measured.http.request(f"VERB{number}", "/", headers={"X-Made-Up": f"zebulon{number}"})
    samples = measured.read()
    shown = str(samples).lower()
    assert not any(secret.lower() in shown for secret in secrets)
    routes = {dict(labels)["route"] for name, labels in samples if name == "frontdesk_request_seconds_count"}
    assert routes == {"none", f"{API}/conversations", f"{API}/conversations/{{conversation_id}}",
                      f"{API}/conversations/{{conversation_id}}/messages", "/"}  # fmt: skip
    assert {dict(labels).get("method", "GET") for _, labels in samples} <= METHODS | {"other"}
    names = {name for name, _ in samples}
    assert {"process_resident_memory_bytes", "frontdesk_open_streams", "frontdesk_writes_waiting"} <= names
    assert {dict(labels).get("status", "200") for _, labels in samples} <= STATUSES | {"200", "201", "404", "405"}
    assert total(samples, "process_resident_memory_bytes") > 2**20


def test_the_bounds_would_be_noticed_to_break(measured: Measured) -> None:
    """The planted fault for the test above: a row for the address as it was asked."""
    measured.meters.request("GET", f"{API}/conversations/abc", 200, 0.1)
    routes = {dict(labels)["route"] for name, labels in measured.read() if name == "frontdesk_request_seconds_count"}
    assert f"{API}/conversations/abc" in routes


@pytest.mark.slow
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong-token-0123456789", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer "]
)
def test_without_the_token_nobody_reads_them(measured: Measured, header: str | None) -> None:
    answer = measured.http.get("/metrics", headers={"Authorization": header} if header is not None else {})
    assert answer.status_code == 401 and "frontdesk" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_token_in_the_settings_there_is_no_such_page(tmp_path: Path) -> None:
    """Whoever asks, from wherever, even as nobody or with an empty token."""
    with open_office(tmp_path, Scripted()) as office:
        application = create_application(office.desk, office.database, office.shelf, STOREFRONT, meters=Meters())
        with TestClient(application, base_url="http://127.0.0.1") as http:
            for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}):
                answer = http.get("/metrics", headers=headers)
                elsewhere = http.get("/no-such-page")
                assert answer.status_code == 404 and answer.json() == elsewhere.json()
        assert "/metrics" not in str(application.openapi())


def test_a_disk_that_is_full_is_counted_and_noticed_and_gone_when_there_is_room(tmp_path: Path) -> None:
    meters = Meters()
    with faulty_disk() as disk, open_office(tmp_path, Scripted(), told=meters.turn) as office:  # type: ignore[arg-type]
        application = create_application(
            office.desk, office.database, office.shelf, STOREFRONT, meters=meters, metrics_token=TOKEN
        )
        with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as http:
            measured, who = Measured(office, meters, http), visitor(http)
            disk.fault = {"write": FULL}
            body = {"id": "m-1", "text": "hello"}
            full = http.post(who.at("/messages"), params={"wait": "true"}, json=body, headers=who.headers)
            assert (full.status_code, full.headers["retry-after"]) == (503, "1")
            ready = http.get("/health/ready")
            assert (ready.status_code, ready.json()) == (503, {"status": "not_ready", "degraded": True})
            assert total(measured.read(), "frontdesk_record_errors_total", kind="unavailable") >= 1
            # what was stored can be read meanwhile
            assert http.get(who.at(), headers=who.headers).status_code == 200
            disk.fault = {}
            # no customer comes while it is not ready: the question itself must bring it back
            for _ in range(1000):
                if http.get("/health/ready").status_code == 200:
                    break
            else:
                pytest.fail("it never became ready again")
            again = http.post(who.at("/messages"), params={"wait": "true"}, json=body, headers=who.headers)
            assert again.status_code == 200 and again.json()["text"] == "hello"


def test_batches_are_counted_by_their_size() -> None:
    sizes: list[int] = []
    batching = BatchingReader(keyword_reader(), sizes.append)
    batching.read([Query("where is my lamp", ()), Query("refund", ())])
    batching.read([Query("hello", ())])
    assert sizes == [2, 1]


def test_a_family_of_rows_has_a_meaning_and_a_unit_in_its_name() -> None:
    meters = Meters()
    meters.watch("frontdesk_version_info", "The versions in service.", lambda: {("a", "b"): 1.0}, ("model", "index"))
    for family in text_string_to_metric_families(meters.render().decode()):
        assert family.documentation, family.name
        assert re.fullmatch(r"(frontdesk|process)_[a-z_]+", family.name)
        for sample in family.samples:
            assert not sample.name.endswith("_created")


@pytest.mark.slow
def test_the_library_is_not_loaded_before_somebody_counts() -> None:
    code = "import sys, bot.server, bot.serving, bot.meters; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
