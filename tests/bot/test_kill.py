"""kill -9 at random moments under load: no acknowledged message is lost or doubled, and order is kept.

The server is the real one (HTTP, desk, record) with a quick assistant in the place of the models. The clients live
in the test's process, so what was acknowledged is known to somebody who survives. What is on the disk is judged by
SQL of this file, not by our own reading of it. Run `python -m tests.bot.test_kill FOLDER` to be such a server.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from pysqlite3 import dbapi2 as sqlite

from bot.conversation.messages import Message, Turn
from tests.bot.channels.office import PLENTY
from tests.bot.storage.sample import turn_for

KILLS = int(os.environ.get("FRONTDESK_KILLS", "20"))
CLIENTS = 8
NOTHING = "nothing"
Way = Literal["wait", "accept", "stream"]


class Following:
    """Answers at once, with the message whose turn it was shown last: so a reply tells whether it came in its place."""

    def respond(self, asked: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        text = f"{history[-1].message.id if history else NOTHING} before {asked.id}"
        yield text
        yield turn_for(asked, text=text)


class NoArticles:
    def document(self, source: str) -> None:
        return None

    def passages_of(self, source: str) -> tuple[()]:
        return ()


def serve(folder: Path) -> None:
    """Serves until it is killed, or until SIGTERM. Prints its port once it has taken up what it owes."""
    from bot.channels.web.pages import Storefront
    from bot.server import Service, create_application, listen
    from bot.serving import Desk
    from bot.storage.database import Database

    listener = listen("127.0.0.1", 0)
    with Database(folder / "frontdesk.sqlite3") as database:
        desk = Desk(database, Following())
        desk.resume()
        service = Service(
            create_application(desk, database, NoArticles(), Storefront("Test", {}), allowance=PLENTY),
            listener,
            drain_seconds=0.2,
        )
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        service.run()
        desk.close()


@dataclass
class Client:
    """A customer who sends one message after the other, and an unanswered one again with the same id.

    `told` is what was acknowledged, and how: "turn" if the reply was seen, "stored" if only the 202 was.
    """

    number: int
    conversation: str = ""
    token: str = ""
    next: int = 1
    told: dict[str, Literal["turn", "stored"]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    def talk(self, port: int, stop: threading.Event, heard: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            if not self.conversation:
                opened = self._post(connection, "/api/v1/conversations", {}, "application/json")[1]
                self.conversation, self.token = opened["conversation_id"], opened["token"]
            while not stop.is_set():
                ways: tuple[Way, ...] = ("wait", "accept", "stream")
                self._say(connection, ways[(self.next + self.number) % 3])
                heard.set()
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            pass  # the server died: what it had not told us, we send again later
        finally:
            connection.close()

    def name(self, number: int) -> str:
        """The id of a message, counted from 1."""
        return f"{self.number}-{number:06d}" if number else NOTHING

    def _say(self, connection: http.client.HTTPConnection, way: Way) -> None:
        name = self.name(self.next)
        path = f"/api/v1/conversations/{self.conversation}/messages{'?wait=true' if way == 'wait' else ''}"
        kind = "text/event-stream" if way == "stream" else "application/json"
        status, body = self._post(connection, path, {"id": name, "text": f"message {name}"}, kind)
        if status == 503:
            return  # too much at once: the same message again
        if status == 202:
            self.told.setdefault(name, "stored")
        elif status == 200 and body.get("text") == f"{self.name(self.next - 1)} before {name}":
            self.told[name] = "turn"
        else:
            self.strange.append(f"{name} by {way}: {status} {body}")
        self.next += 1

    def _post(
        self, connection: http.client.HTTPConnection, path: str, body: dict[str, str], accept: str
    ) -> tuple[int, dict[str, str]]:
        """Status, and the JSON of the answer: of a stream the data of its `turn` event."""
        headers = {"Content-Type": "application/json", "Accept": accept, "Authorization": f"Bearer {self.token}"}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status == 200 and accept == "text/event-stream":
            turns = [block for block in text.replace("\r", "").split("\n\n") if "event: turn" in block]
            if not turns:
                raise http.client.IncompleteRead(text.encode())
            text = next(line for line in turns[0].splitlines() if line.startswith("data: ")).removeprefix("data: ")
        return response.status, json.loads(text)


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that has taken up what it owes, and its port. Ends when the block does, however."""
    command = [sys.executable, "-m", "tests.bot.test_kill", str(folder)]
    with (
        (folder / "server.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            port = server.stdout.readline().strip()
            assert port, (folder / "server.log").read_text()[-2000:]
            yield server, int(port)
        finally:
            server.kill()


def check(record: Path, clients: list[Client], *, settled: bool) -> None:
    """What the disk must hold after a death; `settled` once a last server has answered what was owed."""
    connection = sqlite.connect(str(record))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for client in clients:
            assert client.strange == []
            rows = connection.execute(
                "SELECT m.id, m.sequence, t.reply, (SELECT count(*) FROM turns u WHERE u.message_id = m.id) "
                "FROM messages m LEFT JOIN turns t ON t.message_id = m.id AND t.conversation_id = m.conversation_id "
                "WHERE m.conversation_id = ? ORDER BY m.sequence",
                (client.conversation,),
            ).fetchall()
            found = {name: reply for name, _, reply, _ in rows}
            assert len(found) == len(rows), "a message is there twice"
            assert all(turns <= 1 for *_, turns in rows), "a message was answered twice"
            # Nothing is missing in between, nothing out of order, and no reply was made without its predecessors.
            assert [name for name, *_ in rows] == [client.name(n) for n in range(1, len(rows) + 1)]
            for place, (name, _, reply, _) in enumerate(rows):
                assert reply in (f"{client.name(place)} before {name}", None)
            lost = [name for name in client.told if name not in found]
            assert lost == [], "acknowledged and lost"
            unanswered = [name for name, how in client.told.items() if how == "turn" and found[name] is None]
            assert unanswered == [], "a reply was seen that is not stored"
            assert not settled or None not in found.values()
    finally:
        connection.close()


def campaign(folder: Path, kills: int, seed: int) -> tuple[int, float]:
    """Kills a server that often; (acknowledged messages, worst seconds from start to serving)."""
    chance = random.Random(seed)
    clients = [Client(number) for number in range(CLIENTS)]
    slowest = 0.0
    for _ in range(kills):
        began = time.monotonic()
        with running(folder) as (server, port):
            slowest = max(slowest, time.monotonic() - began)
            stop, heard = threading.Event(), threading.Event()
            threads = [threading.Thread(target=client.talk, args=(port, stop, heard)) for client in clients]
            for thread in threads:
                thread.start()
            if chance.random() < 0.9:  # the others die while they take up what they owe
                assert heard.wait(30)
            stop.wait(chance.uniform(0.0, 0.6))
            server.send_signal(signal.SIGKILL)
            assert server.wait() == -signal.SIGKILL
            stop.set()
            for thread in threads:
                thread.join()
        check(folder / "frontdesk.sqlite3", clients, settled=False)
    with running(folder) as (last, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health/live")  # once it answers it knows what a signal means
        assert connection.getresponse().status == 200
        connection.close()
        last.send_signal(signal.SIGTERM)
        assert last.wait(30) == 0
    check(folder / "frontdesk.sqlite3", clients, settled=True)
    return sum(len(client.told) for client in clients), slowest


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_acknowledged_message_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    told, slowest = campaign(tmp_path, KILLS, seed=20261122)
    sys.stdout.write(f"{KILLS} kills, {told} messages acknowledged, slowest start {slowest:.2f} s\n")
    assert told >= 3 * KILLS, "too little load to show anything"
    assert slowest < 15.0


def test_the_judge_notices_what_is_lost_doubled_or_out_of_order(tmp_path: Path) -> None:
    """The planted faults for the test above."""
    from bot.storage.turns import store_turn
    from tests.bot.storage.sample import message, open_conversation, open_record

    record = tmp_path / "frontdesk.sqlite3"
    with open_record(tmp_path) as database:
        client = Client(0, open_conversation(database))
        for n in range(1, 4):
            name = client.name(n)
            told = f"{client.name(n - 1)} before {name}"
            store_turn(database, turn_for(message(client.conversation, name), text=told))
            client.told[name] = "turn"
        bystander = open_conversation(database)
    check(record, [client], settled=True)
    for fault, told in (
        ("DELETE FROM turns WHERE message_id = '0-000002'", "a reply was seen that is not stored"),
        ("DELETE FROM messages WHERE id = '0-000003'", "acknowledged and lost"),
        ("DELETE FROM messages WHERE id = '0-000002'", "assert "),
        ("UPDATE messages SET sequence = -sequence", "assert "),
        (
            "INSERT INTO messages "
            f"SELECT '{bystander}', id, sequence, sender, channel, text, received_at FROM messages; "
            "INSERT INTO turns SELECT 'x' || id, "
            f"'{bystander}', message_id, status, reply, citations, suggestions, parts, model_version, index_version, "
            "playbook_version, thresholds, milliseconds, format, stored_at FROM turns",
            "a message was answered twice",
        ),
        (
            "DROP TRIGGER tr_turns_no_update; "
            "UPDATE turns SET reply = replace(reply, '0-000001', 'nothing') WHERE message_id = '0-000002'",
            "assert ",
        ),
    ):
        damaged = tmp_path / "damaged.sqlite3"
        damaged.write_bytes(record.read_bytes())
        connection = sqlite.connect(str(damaged), isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(fault)
        connection.close()
        with pytest.raises(AssertionError, match=told):
            check(damaged, [client], settled=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
