"""A power cut: what was not synced is lost, torn or out of order, and still nothing acknowledged is missing.

Every write, truncate and sync of SQLite is written down, with every acknowledgement in its place. A cut keeps what
was synced and, of the rest, whatever chance leaves. The control shows that the cut is as bad as it claims to be:
with `synchronous=NORMAL` it must lose acknowledged commits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection

from bot.storage.conversations import note
from tests.bot.storage.faulty_disk import Act, FaultyDisk, faulty_disk
from tests.bot.storage.sample import fresh_record

SECTOR = 512
UNITS = 240
DETAIL = "x" * 20_000
"""Large, so that the WAL is folded into the database (a checkpoint) several times on the way."""


def acts_of_group_commits(folder: Path) -> list[Act]:
    """Our own writer from the first byte of the file on, eight units at a time. Acknowledgements are noted in the
    writer's thread, as they are given."""
    with faulty_disk() as disk:
        disk.remembers = True
        with fresh_record(folder) as database:
            for start in range(0, UNITS, 8):
                futures = []
                for number in range(start, start + 8):
                    future = database.submit(_unit(str(number)))
                    future.add_done_callback(lambda done: _acknowledge(disk, done.result()))
                    futures.append(future)
                for future in futures:
                    future.result(10)
            return list(disk.acts)


def _unit(subject: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        note(connection, actor="test", action="add", subject=subject, detail=DETAIL)
        return subject

    return unit


def acts_of_normal(folder: Path) -> list[Act]:
    """The control: the same table and rows, but `synchronous=NORMAL`."""
    with faulty_disk() as disk:
        disk.remembers = True
        fresh_record(folder).close()
        connection = sqlite.connect(str(folder / "frontdesk.sqlite3"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        for number in range(UNITS):
            row = ("2026-01-01", "test", "add", str(number), DETAIL)
            connection.execute("INSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)", row)
            _acknowledge(disk, str(number))
        acts = list(disk.acts)
        connection.close()
        return acts


def _acknowledge(disk: FaultyDisk, subject: str) -> None:
    disk.acts.append(Act("sync", f"ack {subject}"))


class Platter:
    """A file as it lies on the disk, and what was written to it since it was last synced."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[Act] = []

    def do(self, act: Act) -> None:
        if act.operation == "sync":
            for each in self.pending:
                self.apply(each, len(each.data))
            self.pending.clear()
        else:
            self.pending.append(act)

    def apply(self, act: Act, length: int) -> None:
        if act.operation == "truncate":
            del self.durable[act.offset :]
        else:
            self.durable.extend(b"\0" * (act.offset + length - len(self.durable)))
            self.durable[act.offset : act.offset + length] = act.data[:length]

    def cut(self, chance: random.Random) -> bytes:
        """What is left: every unsynced write is there, gone or torn, in any order."""
        chance.shuffle(self.pending)
        for act in self.pending:
            match chance.randrange(3):
                case 0:
                    self.apply(act, len(act.data))
                case 1 if act.data:
                    self.apply(act, chance.randrange(len(act.data)) // SECTOR * SECTOR)
        return bytes(self.durable)


def losses(acts: Sequence[Act], folder: Path, trials: int, seed: int) -> int:
    """In how many cuts something acknowledged was missing. A file that is damaged fails at once."""
    chance = random.Random(seed)
    folder.mkdir()
    first = next(index for index, act in enumerate(acts) if act.file.startswith("ack"))
    lost = 0
    for _ in range(trials):
        gone = Platter()  # the rollback journal, deleted before the first acknowledgement
        platters = {"sqlite3": Platter(), "sqlite3-wal": Platter()}
        told = []
        for act in acts[: chance.randrange(first, len(acts)) + 1]:
            if act.file.startswith("ack"):
                told.append(act.file.removeprefix("ack "))
            else:
                platters.get(act.file.rpartition(".")[2], gone).do(act)
        for path in folder.iterdir():
            path.unlink()
        for suffix, platter in platters.items():
            (folder / f"record.{suffix}").write_bytes(platter.cut(chance))
        connection = sqlite.connect(str(folder / "record.sqlite3"), isolation_level=None)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = {subject for (subject,) in connection.execute("SELECT subject FROM audit")}
        connection.close()
        lost += not found.issuperset(told)
    return lost


@pytest.mark.slow
@pytest.mark.parametrize("trials", [100, pytest.param(5_000, marks=pytest.mark.campaign)])
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, trials: int) -> None:
    acts = acts_of_group_commits(tmp_path)
    syncs_of_database = [act for act in acts if act.operation == "sync" and act.file.endswith(".sqlite3")]
    assert len(syncs_of_database) >= 2, "no checkpoint happened, so none was tested"
    assert losses(acts, tmp_path / "cut", trials, seed=1) == 0


@pytest.mark.slow
def test_the_same_cuts_do_lose_commits_that_were_not_synced(tmp_path: Path) -> None:
    """The planted fault for the test above."""
    acts = acts_of_normal(tmp_path)
    assert losses(acts, tmp_path / "cut", 50, seed=1) >= 20
