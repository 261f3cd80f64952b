"""How many messages a second become durable, and how long one takes: commits alone, the desk, and over HTTP.

Measured with a quick assistant in place of the models, so that what is measured is the record, the desk and the web.
`python -m tests.bench.server` prints it beside the figures of the real service.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from bot.serving import Desk
from bot.storage.conversations import note
from bot.storage.database import Database
from bot.storage.turns import history, store_turn
from tests.bot.storage.sample import message, open_conversation, open_record, turn_for
from tests.bot.test_kill import Counting, running

Row = tuple[str, str, str]


def measured(work: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each run."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def spread(taken: Sequence[float]) -> str:
    ordered = sorted(taken)
    return f"p50 {statistics.median(ordered):.2f} ms, p99 {ordered[int(len(ordered) * 0.99)]:.2f} ms"


def disk_sync(folder: Path) -> Row:
    """What the disk itself costs: 8 KB written and synced."""
    handle = os.open(folder / "sync", os.O_RDWR | os.O_CREAT)
    place = iter(range(10**6))

    def write() -> None:
        os.pwrite(handle, b"x" * 8192, next(place) * 8192)
        os.fdatasync(handle)

    taken = measured(write, 200)
    os.close(handle)
    return "the disk: 8 KB written and synced", f"{1000 / statistics.median(taken):,.0f}/s", spread(taken)


def commits_alone(folder: Path) -> Row:
    """What everybody gets from one connection that commits every row."""
    with open_record(folder):
        connection = sqlite.connect(str(folder / "frontdesk.sqlite3"), isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        row = ("2026-01-01", "bench", "add", "x", "")
        insert = "INSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)"
        taken = measured(lambda: connection.execute(insert, row), 300)
        connection.close()
    return "one commit a row, plain sqlite", f"{1000 * len(taken) / sum(taken):,.0f}/s", spread(taken)


def small_units(database: Database, count: int = 8000) -> Row:
    """The writer alone: units of one row, as many waiting as the queue holds."""
    began = time.perf_counter()
    for start in range(0, count, 800):
        futures = [
            database.submit(lambda connection: note(connection, actor="bench", action="add", subject="x"))
            for _ in range(start, start + 800)
        ]
        for future in futures:
            future.result()
    return "group commit, one row a unit", f"{count / (time.perf_counter() - began):,.0f}/s", ""


def turns_one_by_one(database: Database) -> Row:
    conversation = open_conversation(database)
    number = iter(range(10**6))
    taken = measured(lambda: store_turn(database, turn_for(message(conversation, str(next(number))))), 300)
    return "a turn (five passages), one writer", f"{1000 * len(taken) / sum(taken):,.0f}/s", spread(taken)


def turns_together(database: Database, threads: int = 50, each: int = 40) -> Row:
    conversations = [open_conversation(database) for _ in range(threads)]

    def write(conversation: str) -> list[float]:
        number = iter(range(each))
        return measured(lambda: store_turn(database, turn_for(message(conversation, str(next(number))))), each)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        taken = [ms for part in pool.map(write, conversations) for ms in part]
    rate = len(taken) / (time.perf_counter() - began)
    return f"a turn, {threads} writers (group commit)", f"{rate:,.0f}/s", spread(taken)


def history_of_ten(database: Database) -> Row:
    conversation = open_conversation(database)
    for number in range(10):
        store_turn(database, turn_for(message(conversation, str(number))))
    taken = measured(lambda: history(database, conversation), 300)
    return "history of ten turns read", f"{1000 / statistics.median(taken):,.0f}/s", spread(taken)


def desk_alone(database: Database) -> Row:
    """Message to stored reply in process, conversations of ten messages."""
    desk = Desk(database, Counting())
    taken = []
    for _ in range(30):
        conversation, number = open_conversation(database), iter(range(10))
        taken += measured(lambda n=number, c=conversation: desk.answer(message(c, str(next(n)))), 10)  # type: ignore[misc]
    desk.close()
    return "desk: message to stored reply, one at a time", f"{1000 * len(taken) / sum(taken):,.0f}/s", spread(taken)


def desk_together(database: Database, people: int = 32, each: int = 30) -> Row:
    desk = Desk(database, Counting())
    conversations = [open_conversation(database) for _ in range(people)]

    def talk(conversation: str) -> list[float]:
        number = iter(range(each))
        return measured(lambda: desk.answer(message(conversation, str(next(number)))), each)

    began = time.perf_counter()
    with ThreadPoolExecutor(people) as pool:
        taken = [ms for part in pool.map(talk, conversations) for ms in part]
    rate = len(taken) / (time.perf_counter() - began)
    desk.close()
    return f"desk: message to stored reply, {people} at once", f"{rate:,.0f}/s", spread(taken)


def over_http(folder: Path, people: int = 16, each: int = 30) -> Row:
    """The service in a process of its own; the clients share the two cores with it."""
    taken: list[float] = []

    def talk(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Content-Type": "application/json"}

        def post(path: str, body: dict[str, str]) -> dict[str, str]:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            answer: dict[str, str] = json.loads(response.read())
            assert response.status in (200, 201), answer
            return answer

        opened = post("/api/v1/conversations", {})
        headers["Authorization"] = f"Bearer {opened['token']}"
        path = f"/api/v1/conversations/{opened['conversation_id']}/messages?wait=true"
        number = iter(range(each + 5))
        measured(lambda: post(path, {"id": f"m-{next(number)}", "text": "hello"}), 5)
        warm.wait()
        taken.extend(measured(lambda: post(path, {"id": f"m-{next(number)}", "text": "hello"}), each))
        connection.close()

    warm = threading.Barrier(people + 1)
    with running(folder) as (_, port):
        threads = [threading.Thread(target=talk, args=(port,)) for _ in range(people)]
        for thread in threads:
            thread.start()
        warm.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        rate = len(taken) / (time.perf_counter() - began)
    return f"HTTP: message to stored reply, {people} clients", f"{rate:,.0f}/s", spread(taken)


def measure(folder: Path) -> list[Row]:
    """`folder` must be on a disk, not in memory."""
    rows = [disk_sync(folder), commits_alone(folder)]
    with open_record(folder) as database:
        for each in (small_units, turns_one_by_one, turns_together, history_of_ten, desk_alone, desk_together):
            rows.append(each(database))
            print("  ".join(rows[-1]), flush=True)
    web = folder / "web"
    web.mkdir()
    rows.append(over_http(web))
    return rows
