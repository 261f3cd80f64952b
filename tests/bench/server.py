"""The service under load: what it carries, what it refuses, what it takes, and what a restart costs anybody.

`python -m tests.bench.server` runs unattended for a quarter of an hour and puts its tables into docs/benchmarks.md
between the marks of this suite. The load comes from a process of its own (`load.py`) over loopback; the two share the
cores. The model is the live one of `--home` (else of FRONTDESK_HOME or .frontdesk), else one that is learnt here from
the sample company with a short recipe: a real version in every respect but its accuracy. `--soak-minutes 30` is the
campaign's soak; `--only load soak` measures a part and leaves the page alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bot.home import running_service
from tests.bench import record
from tests.bench.load import Plan
from tests.bench.page import machine, put
from tests.bench.scale import Mixing, many_rows
from tests.conftest import ROOT

TOKEN = "bench-0123456789abcdef"
STEP = "frontdesk_step_seconds_sum"
STEPS = ("understand", "search", "decide", "answer", "store")
PASSAGES = 100_000
RESTARTS = 20
TEXTS = tuple(json.loads(line)["text"] for line in (ROOT / "data/evaluation.jsonl").read_text("utf-8").splitlines())


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.1f}] {text}", flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]


def quantile(taken: Sequence[float], share: float) -> str:
    ordered = sorted(taken)
    return f"{ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.1f}" if ordered else "-"


# ---------------------------------------------------------------------------------------------- the service, the load


@dataclass(frozen=True, slots=True)
class Service:
    url: str
    pid: int

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        answer = httpx.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return total(self.samples(), name, **labels)


def total(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (each, shown), value in samples.items() if each == name and wanted <= set(shown))


def environment(home: Path) -> dict[str, str]:
    """Customers of the load have addresses of their own, as a proxy on this machine would tell them; and all of them
    together are at one site, so what a site may ask for is lifted: it is the service that is measured."""
    said = {"FRONTDESK_CONFIG": str(ROOT / "data/frontdesk.toml"), "FRONTDESK_HOME": str(home)}
    lifted = {
        f"FRONTDESK_LIMITS_{what}_PER_{whose}".upper(): "1000000000"
        for what in ("requests", "conversations", "messages", "work")
        for whose in ("address", "visitor", "conversation", "site")
    }
    proxy = {"FRONTDESK_TRUSTED_PROXIES": "127.0.0.1", "FRONTDESK_METRICS_TOKEN": TOKEN}
    return {**os.environ, **said, **lifted, **proxy}


@contextmanager
def serving(home: Path) -> Iterator[Service]:
    """The real command on this home, in a process of its own."""
    command = [sys.executable, "-m", "bot", "serve", "--port", "0"]
    log = (home / "bench.log").open("w")
    with log, subprocess.Popen(command, cwd=ROOT, env=environment(home), stderr=log) as process:
        try:
            deadline = time.monotonic() + 180
            while (found := running_service(home)) is None or found.pid != process.pid:
                assert process.poll() is None and time.monotonic() < deadline, (home / "bench.log").read_text()[-2000:]
                time.sleep(0.1)
            yield Service(found.url, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def load(service: Service, plan: Plan) -> dict[str, Any]:
    """The figures of one plan, from a second process."""
    told = {name: getattr(plan, name) for name in Plan.__slots__} | {"texts": TEXTS}
    command = [sys.executable, "-m", "tests.bench.load", service.url, json.dumps(told)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def errors_of(figures: Mapping[str, Any]) -> str:
    return "; ".join(f"{count} x {what}" for what, count in figures["errors"].items()) or "0"


# --------------------------------------------------------------------------------------------------- what is measured


def capacity(service: Service, seconds: float) -> tuple[list[str], float]:
    """Customers who wait for each answer, more and more of them; and the best rate of durable messages."""
    rows, best = [], 0.0
    for people in (1, 16, 48):
        before, cpu = service.samples(), service.value("process_cpu_seconds_total")
        figures = load(service, Plan("closed", seconds, people, warm=3.0))
        after = service.samples()
        cpu = service.value("process_cpu_seconds_total") - cpu
        rate = len(figures["answered"]) / figures["seconds"]
        best = max(best, rate)
        taken = figures["answered"]
        turns = total(after, "frontdesk_turn_seconds_count") - total(before, "frontdesk_turn_seconds_count")
        batches = [total(s, "frontdesk_reader_batch_questions_count") for s in (before, after)]
        questions = [total(s, "frontdesk_reader_batch_questions_sum") for s in (before, after)]
        batch = (questions[1] - questions[0]) / max(1.0, batches[1] - batches[0])
        steps = [
            1000 * (total(after, STEP, step=step) - total(before, STEP, step=step)) / max(1.0, turns) for step in STEPS
        ]
        cells = [people, f"{rate:.0f}", quantile(taken, 0.5), quantile(taken, 0.99), errors_of(figures)]
        cells += [f"{1000 * cpu / max(1.0, turns):.1f}", f"{batch:.1f}", *(f"{ms:.2f}" for ms in steps)]
        rows.append(cells)
        say(f"{people} customers: {' | '.join(map(str, rows[-1]))}")
    head = [
        "customers at once",
        "durable messages a second",
        "p50, ms",
        "p99, ms",
        "errors",
        "CPU of the service, ms each",
    ]
    head += ["questions a batch", *(f"{step}, ms" for step in STEPS)]
    return table(head, rows), best


def streams(service: Service, seconds: float, people: int = 500, rate: float = 40.0) -> list[str]:
    figures = load(service, Plan("streams", seconds, people, rate=rate))
    ended = time.monotonic()  # the process that held the streams is gone
    while service.value("frontdesk_open_streams") and time.monotonic() - ended < 30:
        time.sleep(0.02)
    freed = time.monotonic() - ended
    cells = [
        people,
        f"{rate:.0f}",
        *(quantile(figures["opened"], share) for share in (0.5, 0.99)),
        *(quantile(figures["first"], share) for share in (0.5, 0.99)),
        f"{1000 * freed:.0f}",
        errors_of(figures),
    ]
    say(f"streams: {' | '.join(map(str, cells))}")
    head = [
        "open streams",
        "messages a second",
        "opened p50, ms",
        "p99",
        "first byte of the reply p50, ms",
        "p99",
        "all places free again after, ms",
        "errors",
    ]
    return table(head, [cells])


def overload(service: Service, seconds: float, rate: float, times: int = 10) -> list[str]:
    """Ten times as many arrivals as it can carry, that wait for nobody."""
    figures = load(service, Plan("open", seconds, 500, rate=rate * times, warm=2.0))
    goodput = len(figures["answered"]) / figures["seconds"]
    cells = [
        f"{rate * times:.0f}",
        f"{goodput:.0f} ({goodput / rate:.0%} of {rate:.0f})",
        quantile(figures["answered"], 0.99),
        f"{len(figures['refused']) / figures['seconds']:.0f}",
        *(quantile(figures["refused"], share) for share in (0.5, 0.99)),
        figures["without_retry_after"],
        f"{figures['unsent'] / figures['seconds']:.0f}",
        f"{figures['late']:.0f}",
        errors_of(figures),
    ]
    say(f"overload: {' | '.join(map(str, cells))}")
    head = ["arrivals a second", "answered a second", "p99, ms", "refused a second", "refusal p50, ms", "p99"]
    head += ["without Retry-After", "found no connection", "generator late, ms", "errors"]
    return table(head, [cells])


def soak(service: Service, minutes: float, people: int = 16) -> list[str]:
    """The same load for minutes; what memory does once everything is warm, by a line through the last two thirds."""
    told = {name: getattr(Plan("closed", minutes * 60, people), name) for name in Plan.__slots__} | {"texts": TEXTS}
    command = [sys.executable, "-m", "tests.bench.load", service.url, json.dumps(told)]
    began, seen = time.monotonic(), []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and time.monotonic() - began < minutes * 60:
            seen.append(((time.monotonic() - began) / 60, service.value("process_resident_memory_bytes") / 2**20))
            time.sleep(min(5.0, minutes * 2))
        figures = json.loads(process.communicate()[0])
    settled = [point for point in seen if point[0] >= minutes / 3]
    slope = statistics.linear_regression(*zip(*settled, strict=True)).slope if len(settled) > 2 else 0.0
    cells = [
        f"{minutes:g}",
        f"{len(figures['answered']):,}",
        f"{len(figures['answered']) / figures['seconds']:.0f}",
        *(quantile(figures["answered"], share) for share in (0.5, 0.99)),
        f"{seen[0][1]:.0f}",
        f"{settled[0][1]:.0f}",
        f"{seen[-1][1]:.0f}",
        f"{max(mb for _, mb in seen):.0f}",
        f"{slope:+.2f}",
        errors_of(figures),
    ]
    say(f"soak: {' | '.join(cells)}")
    head = ["minutes", "messages", "a second", "p50, ms", "p99, ms", "MB at start", "MB after a third"]
    return table([*head, "MB at the end", "MB at most", "MB a minute then", "errors"], [cells])


def restarts(folder: Path) -> list[str]:
    """The test of restarts with its whole campaign; it fails here as it would there."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/bot/test_restarts.py"]
    chosen = [*command, "-k", "restarts_under_load", "--basetemp", str(folder / "restarts")]
    began = time.monotonic()
    given = {**os.environ, "FRONTDESK_CAMPAIGN": "1"}
    done = subprocess.run(chosen, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if "restarts," in line]
    text = told[0] if done.returncode == 0 and told else f"FAILED: {done.stdout[-1500:]}"
    say(f"restarts: {text}")
    return [f"Restarts under load, every stream judged word by word: {text} ({time.monotonic() - began:.0f} s)."]


# ----------------------------------------------------------------------------------- a message among 100,000 passages


def among_many(home: Path, folder: Path, count: int, conversations: int = 40) -> list[str]:
    """Message to stored reply in this process, one at a time, and the same with the sample's own articles."""
    from bot.cli import assembly
    from bot.cli.live import settle
    from bot.conversation.messages import Message
    from bot.serving import Desk
    from bot.settings import load_settings
    from bot.storage.conversations import start_conversation
    from bot.storage.database import Database
    from retriever.knowledge_base import KnowledgeBase

    settings = load_settings(None, environment(home))
    parts = assembly.open_parts(settings)
    assert parts.knowledge is not None and parts.model is not None
    sample = parts.knowledge.passages
    file = folder / "many.jsonl"
    file.write_text("".join(many_rows(sample, count)), "utf-8")
    encoder = assembly.open_encoder(settings)
    began = time.monotonic()
    KnowledgeBase(folder / "many", Mixing(encoder, parts.knowledge.vectors)).ingest([file])
    many = KnowledgeBase(folder / "many", encoder).load()
    say(f"{len(many.passages):,} passages taken in, {time.monotonic() - began:.0f} s")
    settle()  # as the service does
    found = []
    for knowledge in (parts.knowledge, many):
        with Database(folder / f"desk-{len(knowledge.passages)}.sqlite3") as database:
            desk = Desk(database, assembly.assistant_of(replace(parts, knowledge=knowledge)))
            whole: list[float] = []
            steps: dict[str, list[float]] = {}
            for talk in range(conversations + 2):
                conversation = start_conversation(database, channel="web").id
                for place in range(5):
                    text = TEXTS[(talk * 5 + place) % len(TEXTS)]
                    asked = Message(uuid.uuid4().hex, conversation, "bench", "web", text, datetime.now(UTC))
                    start = time.perf_counter()
                    turn = desk.answer(asked)
                    if talk >= 2:  # the first ones warm up
                        whole.append((time.perf_counter() - start) * 1000)
                        for step, ms in turn.milliseconds:
                            steps.setdefault(step, []).append(ms)
            desk.close()
        rest = statistics.median(whole) - sum(statistics.median(each) for each in steps.values())
        cells = [f"{len(knowledge.passages):,}", quantile(whole, 0.5), quantile(whole, 0.99)]
        cells += [f"{statistics.median(each):.2f}" for each in steps.values()] + [f"{rest:.2f}"]
        say(f"in process: {' | '.join(cells)}")
        found.append(cells)
    return table(["passages", "p50, ms", "p99, ms", *steps, "record and desk"], found)


# ----------------------------------------------------------------------------------------------------------- the model


def learnt(folder: Path) -> Path:
    """A home with the sample company's articles and a version that went through everything but long training."""
    home = folder / "home"
    for command in (["ingest"], ["transcripts", "import", "data/transcripts.jsonl"]):
        subprocess.run([sys.executable, "-m", "bot", *command], cwd=ROOT, env=environment(home), check=True, stdout=2)
    from bot.cli import assembly, learning
    from bot.settings import load_settings
    from finetune.recipe import TrainConfig
    from finetune.registry import Registry
    from finetune.release import train_and_register

    settings = load_settings(None, environment(home))
    knowledge = assembly.open_knowledge_base(settings).load()
    train_and_register(
        learning.training_rows(settings, None).examples,
        assembly.base_folder(settings),
        Registry(settings.home_folder.models),
        TrainConfig(token_budget=20_000, most_tokens=20_000, least_steps=10, most_held_out=200),
        passages=learning._passages(knowledge),
        tones=learning._tones(settings)[:300],
        force=True,
    )
    return home


def copied(home: Path, folder: Path) -> Path:
    """The versions of a home without its record: the bench must not write into a company's conversations."""
    copy = folder / "home"
    copy.mkdir()
    for name in ("models", "knowledge"):
        os.symlink((home / name).resolve(), copy / name)
    return copy


def about(home: Path) -> str:
    from finetune.export import GRAPH
    from finetune.registry import Registry

    registry = Registry(home / "models")
    version = registry.current()
    assert version is not None
    manifest = registry.show(version)
    form = "an exported graph" if GRAPH in manifest.files else "torch (not exported)"
    return f"{manifest.kind} {version} served as {form}, searching with {manifest.search_vectors} vectors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("FRONTDESK_HOME", ROOT / ".frontdesk")))
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement of load; 600 for the campaign")
    parser.add_argument("--soak-minutes", type=float, default=3.0)
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument(
        "--only", nargs="*", choices=["record", "many", "load", "streams", "overload", "soak", "restarts"]
    )
    chosen = parser.parse_args()

    def wanted(*names: str) -> bool:
        return chosen.only is None or bool(set(names) & set(chosen.only))

    began, loads = time.monotonic(), [os.getloadavg()[0]]
    lines: list[str] = []
    (ROOT / ".artifacts").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".artifacts") as name:  # on the disk of the checkout, not in memory
        folder = Path(name)
        if wanted("record"):
            say("record, desk and web without models")
            (folder / "record").mkdir()
            lines += [*table(["what (no models)", "rate", "time"], record.measure(folder / "record")), ""]
        if wanted("many", "load", "streams", "overload", "soak"):
            known = (chosen.home / "models" / "CURRENT").exists() and (chosen.home / "knowledge" / "CURRENT").exists()
            say(f"model of {chosen.home}" if known else "learning the sample company with a short recipe (minutes)")
            home = copied(chosen.home, folder) if known else learnt(folder)
            lines += [f"Model: {about(home)}.", ""]
            if wanted("many"):
                say(f"a message among {chosen.passages:,} passages, in process")
                lines += [*among_many(home, folder, chosen.passages), ""]
            if wanted("load", "streams", "overload", "soak"):
                with serving(home) as service:
                    loads.append(os.getloadavg()[0])
                    say(f"load over HTTP, {chosen.seconds:g} s each")
                    shown, best = capacity(service, chosen.seconds)
                    lines += [*shown, ""]
                    if wanted("streams"):
                        lines += [*streams(service, chosen.seconds, rate=min(40.0, best / 2)), ""]
                    if wanted("overload"):
                        lines += [*overload(service, chosen.seconds, best), ""]
                    if wanted("soak"):
                        lines += [*soak(service, chosen.soak_minutes), ""]
        if wanted("restarts"):
            say(f"{RESTARTS} restarts under load")
            lines += [*restarts(folder), ""]
    loads.append(os.getloadavg()[0])
    lines.append(
        f"{machine()}; load average {min(loads):.1f} to {max(loads):.1f} around the measurements, of which the load "
        f"itself is 2 to 3; {(time.monotonic() - began) / 60:.0f} minutes. `make bench-server`."
    )
    print("\n".join(lines))
    if chosen.only is None:
        put("server", "\n".join(lines))


if __name__ == "__main__":
    main()
