"""The application as a whole: what importing it costs, listening, draining, and staying alive meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bot import FrontdeskError
from bot.server import DRAIN_SECONDS, LAST_ANSWERS_SECONDS, Service, create_application, inherited, listen
from bot.storage.database import Database
from tests.bot.channels.office import (
    PATIENCE,
    PLENTY,
    STOREFRONT,
    Office,
    Scripted,
    SlowSource,
    Visitor,
    hear,
    listening,
    open_office,
    serving,
    visitor,
    wait_until,
)

HEAVY = (
    "numpy",
    "torch",
    "transformers",
    "faiss",
    "sklearn",
    "tantivy",
    "peft",
    "safetensors",
    "sentence_transformers",
    "finetune",
)


@pytest.mark.slow
def test_importing_the_server_loads_no_model_library() -> None:
    code = f"import sys, bot.server; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FRAMEWORKS_ON_A_QUIET_MACHINE = 0.66
"""Seconds of processor time that `import fastapi, sqlalchemy.orm` takes on two cores with nothing else to do."""


def import_seconds(modules: str) -> float:
    """Processor time of a fresh interpreter that imports these."""
    code = f"import time, {modules}; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_importing_the_server_takes_less_than_a_second() -> None:
    runs = [(import_seconds("bot.server"), import_seconds("fastapi, sqlalchemy.orm")) for _ in range(4)]
    server, frameworks = min(run[0] for run in runs), min(run[1] for run in runs)
    # Other work on the same cores slows everything alike: then the second is as much longer as the frameworks take.
    assert server < 1.0 * max(1.0, frameworks / FRAMEWORKS_ON_A_QUIET_MACHINE)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path, Scripted()) as office:
        yield office


def test_a_taken_port_is_one_line_with_the_cure() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FrontdeskError, match=rf"^127\.0\.0\.1:{port}: the port is taken; .*choose another `port`$"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "cure"), [("no-such-host.invalid", "set `host`"), ("192.0.2.1", "choose another `host`")]
)
def test_an_address_that_cannot_be_had_is_one_line_with_the_cure(host: str, cure: str) -> None:
    with pytest.raises(FrontdeskError) as caught:
        listen(host, 0)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_the_service_says_an_address_that_can_be_opened(office: Office, host: str, shown: str) -> None:
    with listen(host, 0) as listener:
        assert Service(office.application, listener).url.startswith(shown)


@pytest.mark.slow
def test_the_health_check_says_that_answers_are_poorer_and_not_which_file_is_to_blame(office: Office) -> None:
    application = create_application(
        office.desk,
        office.database,
        office.shelf,
        STOREFRONT,
        allowance=PLENTY,
        shortcomings=lambda: ["/srv/models: no model yet"],
    )
    with serving(application) as service:
        answer = httpx.get(f"{service.url}/health/ready", trust_env=False, timeout=PATIENCE)
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "degraded": True})


def test_a_draining_service_still_answers_but_closes_each_connection(office: Office) -> None:
    with serving(office.application, drain_seconds=PATIENCE) as service, socket.socket() as idle:
        address = httpx.URL(service.url)
        # a client that connected and has not spoken yet: the drain waits for it
        idle.connect((address.host, address.port or 0))
        with httpx.Client(base_url=service.url, trust_env=False, timeout=PATIENCE) as http:
            who = visitor(http)
            service.stop()
            wait_until(lambda: http.get("/health/ready").status_code == 503)
            ready, answer = http.get("/health/ready"), http.get(who.at(), headers=who.headers)
            assert ready.json()["status"] == "draining"
            assert ready.headers["connection"] == answer.headers["connection"] == "close"
            assert who.ask("hello")["text"] == "hello"


@pytest.mark.slow
def test_streams_end_when_the_service_drains_and_resume_elsewhere(office: Office) -> None:
    with (
        serving(office.application) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=PATIENCE) as http,
    ):
        who = visitor(http)
        turn = who.ask("hello")
        with listening(who) as heard:
            first = next(heard)
            service.stop()
            assert list(heard) == []
    again = create_application(office.desk, office.database, office.shelf, STOREFRONT, allowance=PLENTY)
    with (
        serving(again) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=PATIENCE) as http,
        listening(Visitor(http, who.conversation, who.token)) as heard,
    ):
        assert next(heard) == first
    assert first.data["id"] == turn["id"]


@pytest.mark.slow
def test_an_answer_under_way_is_finished_before_the_service_stops(tmp_path: Path) -> None:
    slow = SlowSource()
    with (
        open_office(tmp_path, slow) as office,
        serving(office.application, drain_seconds=0.2) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=PATIENCE) as http,
    ):
        who = visitor(http)
        slow.say(who, "half ")
        headers = who.headers | {"Accept": "text/event-stream"}
        body = {"id": "m1", "text": "hello"}
        with http.stream("POST", who.at("/messages"), json=body, headers=headers) as response:
            own = hear(response.iter_lines())
            next(own)
            service.stop()
            wait_until(lambda: service.stopping)
            slow.say(who, "an answer")
            slow.finish(who)
            *_, last = own
    assert (last.name, last.data["text"]) == ("turn", "half an answer")


SERVER = """
import sys
from pathlib import Path
from bot.server import Service, listen
from tests.bot.channels.office import Scripted, open_office

with open_office(Path(sys.argv[1]), Scripted()) as office:
    service = Service(office.application, listen("127.0.0.1", 0), float(sys.argv[2]))
    print(service.url, flush=True)
    service.run()
print("stopped", flush=True)
"""


@contextmanager
def own_process(folder: Path, drain_seconds: float = DRAIN_SECONDS) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service in a process of its own, and its address."""
    command = [sys.executable, "-c", SERVER, str(folder), str(drain_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_in_order_and_no_request_is_lost(tmp_path: Path, number: signal.Signals) -> None:
    answered: list[float] = []
    failed: list[tuple[float, str]] = []

    def keep_asking(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http:
            try:
                while True:
                    visitor(http).ask("hello")
                    answered.append(time.monotonic())
            except (httpx.HTTPError, AssertionError) as error:
                failed.append((time.monotonic(), repr(error)))

    with own_process(tmp_path) as (process, url):
        askers = [threading.Thread(target=keep_asking, args=(url,)) for _ in range(3)]
        for asker in askers:
            asker.start()
        wait_until(lambda: len(answered) > 10)
        address, before = httpx.URL(url), len(answered)
        # A drain ends early once nobody is connected for a moment, and on a busy machine all askers may pause together.
        with socket.create_connection((address.host, address.port or 0)):
            wait_until(lambda: len(answered) > before + 2 * len(askers))  # by then it was let in
            stopped_at = time.monotonic()
            process.send_signal(number)
            for asker in askers:
                asker.join(PATIENCE)
        assert process.stdout is not None
        assert process.stdout.read().strip() == "stopped"
        assert process.wait(PATIENCE) == 0
    # Each asker goes on until the socket is closed under it, and that comes only after the drain.
    early = [each for at, each in failed if at < stopped_at + DRAIN_SECONDS]
    assert early == []
    assert max(answered) > stopped_at, "a draining service still answers"
    with Database(tmp_path / "record.sqlite3") as record, record.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM turns").scalar_one() >= len(answered)


@pytest.mark.slow
def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with own_process(tmp_path, drain_seconds=4 * PATIENCE) as (process, address):
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port or 0)):
            assert httpx.get(url.join("/health/live"), trust_env=False, timeout=PATIENCE).status_code == 200
            process.send_signal(signal.SIGTERM)
            wait_until(
                lambda: httpx.get(url.join("/health/ready"), trust_env=False, timeout=PATIENCE).status_code == 503
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(LAST_ANSWERS_SECONDS / 2) == 0  # less than either part of an orderly end takes


def test_a_socket_that_systemd_holds_for_somebody_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert inherited() is None
    assert "LISTEN_FDS" not in os.environ, "children must not take it for theirs"


def test_two_sockets_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(FrontdeskError, match="ListenStream"):
        inherited()


@pytest.mark.slow
def test_a_socket_that_is_a_file_is_refused_with_the_cure(tmp_path: Path) -> None:
    """It has no port, and on it every customer would have the same address: none."""
    program = (
        "import os, socket, sys\n"
        "held = socket.socket(socket.AF_UNIX)\n"
        "held.bind(sys.argv[1])\n"
        "held.listen()\n"
        "os.dup2(held.fileno(), 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "from bot.server import inherited\n"
        "inherited()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "ListenStream=127.0.0.1:8080" in done.stderr
