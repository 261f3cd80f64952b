"""The record on disk: durable before it is acknowledged, one writer, and one line with the cure for every fault."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from bot import FrontdeskError
from bot.storage.conversations import note
from bot.storage.database import Database, check_sqlite
from bot.storage.faults import DiskFault, RecordUnavailable
from bot.storage.turns import history, store_turn
from tests.bot.storage.faulty_disk import IOERR_FSYNC, IOERR_WRITE, faulty_disk
from tests.bot.storage.sample import fresh_record, message, open_conversation, open_record, turn_for


def add(subject: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        note(connection, actor="test", action="add", subject=subject)
        return subject

    return unit


def subjects(path: Path) -> list[str]:
    """What another connection sees, without any of our code."""
    connection = sqlite.connect(str(path))
    try:
        return [subject for (subject,) in connection.execute("SELECT subject FROM audit ORDER BY id")]
    finally:
        connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Keeps the writer busy for the block, so that what is submitted in it waits together."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(connection: Connection) -> None:
        begun.set()
        go_on.wait(10)

    waiting = database.submit(wait)
    begun.wait(10)
    try:
        yield
    finally:
        go_on.set()
        waiting.result(10)


# -- what SQLite must be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", [(3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 49, 2), (3, 50, 6), (3, 51, 0), (3, 51, 2), (3, 7, 0)]
)
def test_a_sqlite_with_the_wal_bug_is_refused(version: tuple[int, int, int]) -> None:
    with pytest.raises(FrontdeskError, match=r"SQLite 3\.\d+\.\d+ can lose .* install pysqlite3==0\.6\.1"):
        check_sqlite(version)


@pytest.mark.parametrize("version", [(3, 44, 6), (3, 44, 9), (3, 50, 7), (3, 51, 3), (3, 53, 4), (4, 0, 0)])
def test_a_fixed_sqlite_is_accepted(version: tuple[int, int, int]) -> None:
    check_sqlite(version)


def test_opening_checks_the_sqlite_it_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "sqlite_version_info", (3, 40, 1))
    with pytest.raises(FrontdeskError, match="WAL-reset bug"):
        fresh_record(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_connection_is_durable_and_checks_references(database: Database) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "secure_delete": 1}

    def pragmas(connection: Connection) -> dict[str, object]:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}

    with database.read() as connection:
        assert pragmas(connection) == expected
    assert database.write(pragmas) == expected


def test_the_file_is_private(tmp_path: Path) -> None:
    with fresh_record(tmp_path) as database:
        database.write(add("x"))
        assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}
        assert len(list(tmp_path.iterdir())) == 4  # the file, its WAL, its index, our lock


# -- one writer ------------------------------------------------------------------------------------------------------


def test_a_result_comes_only_after_another_connection_can_see_it(database: Database) -> None:
    """The callback runs in the writer's own thread, at the very moment the future resolves."""
    seen: list[list[str]] = []
    with held(database):
        for number in range(3):
            future: Future[str] = database.submit(add(str(number)))
            future.add_done_callback(lambda _: seen.append(subjects(database.path)))
        assert subjects(database.path) == []
    database.write(add("later"))  # the callbacks before it are done
    assert seen == [["0", "1", "2"]] * 3


def test_waiting_units_share_one_commit(tmp_path: Path) -> None:
    with faulty_disk() as disk, open_record(tmp_path) as database:
        with held(database):
            futures = [database.submit(add(str(number))) for number in range(50)]
            disk.remembers = True
        assert [future.result(10) for future in futures] == [str(number) for number in range(50)]
        # One for the commit; a WAL that starts anew has its header synced too.
        assert 1 <= sum(act.operation == "sync" for act in disk.acts) <= 2


def test_a_failing_unit_takes_nobody_with_it(database: Database) -> None:
    def broken(connection: Connection) -> None:
        note(connection, actor="test", action="add", subject="half")
        raise KeyError("a bug")

    def forbidden(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO feedback VALUES (1, 'no such turn', 's', 'up', '', '', 0, 0)")

    with held(database):
        before, bug, refused, after = (database.submit(unit) for unit in (add("a"), broken, forbidden, add("b")))
    assert (before.result(10), after.result(10)) == ("a", "b")
    with pytest.raises(KeyError, match="a bug"):
        bug.result(10)
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        refused.result(10)
    assert subjects(database.path) == ["a", "b"]


def test_a_cancelled_unit_is_not_run(database: Database) -> None:
    with held(database):
        unwanted, wanted = database.submit(add("unwanted")), database.submit(add("wanted"))
        assert unwanted.cancel()
    assert wanted.result(10) == "wanted"
    assert subjects(database.path) == ["wanted"]


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    with Database(tmp_path / "r.sqlite3", most_waiting=3) as database:
        with held(database):
            futures = [database.submit(add(str(number))) for number in range(3)]
            with pytest.raises(RecordUnavailable, match="3 writes are waiting"):
                database.submit(add("one too many"))
        assert [future.result(10) for future in futures] == ["0", "1", "2"]


def test_closing_finishes_what_is_queued_and_refuses_more(tmp_path: Path) -> None:
    database = open_record(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(held(database))
        futures = [database.submit(add(str(number))) for number in range(20)]
        closing = threading.Thread(target=database.close)
        closing.start()
    closing.join(10)
    database.close()
    assert all(future.done() for future in futures)
    assert subjects(database.path) == [str(number) for number in range(20)]
    with pytest.raises(RecordUnavailable, match="stopping"):
        database.submit(add("late"))


@pytest.mark.slow
def test_fifty_writers_beside_a_reader_that_holds_its_moment(tmp_path: Path) -> None:
    """Nobody meets "database is locked", the reader sees one moment, and the WAL stays bounded."""
    with open_record(tmp_path) as database:
        conversations = [open_conversation(database) for _ in range(50)]
        faults: list[BaseException] = []

        def write(conversation: str) -> None:
            try:
                for number in range(20):
                    store_turn(database, turn_for(message(conversation, str(number))))
            except BaseException as error:
                faults.append(error)

        with database.snapshot() as connection:
            counted = "SELECT count(*) FROM turns"
            assert connection.exec_driver_sql(counted).scalar() == 0
            threads = [threading.Thread(target=write, args=(conversation,)) for conversation in conversations]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert connection.exec_driver_sql(counted).scalar() == 0
        assert faults == []
        assert [len(history(database, conversation)) for conversation in conversations] == [20] * 50
        assert Path(f"{database.path}-wal").stat().st_size < 64 * 2**20


# -- what a trigger protects -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'me'", "DELETE FROM audit", "UPDATE turns SET reply = ''"]
)
def test_what_is_append_only_cannot_be_changed_by_anybody(database: Database, statement: str) -> None:
    store_turn(database, turn_for(message(open_conversation(database), "1")))
    database.write(add("kept"))
    with pytest.raises(DBAPIError, match="append-only"):
        database.write(lambda connection: connection.exec_driver_sql(statement))
    assert subjects(database.path) == ["kept"]


# -- faults of the disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "code"), [("sync", IOERR_FSYNC), ("write", IOERR_WRITE)])
def test_after_a_disk_fault_nothing_is_acknowledged_until_a_restart(tmp_path: Path, operation: str, code: int) -> None:
    with faulty_disk() as disk:
        with open_record(tmp_path) as database:
            database.write(add("safe"))
            disk.fault = {operation: code}  # type: ignore[dict-item]
            with held(database):
                futures = [database.submit(add(name)) for name in ("a", "b")]
            for future in futures:
                with pytest.raises(DiskFault, match="the disk failed"):
                    future.result(10)
            disk.fault = {}  # the disk says it is well again: that is exactly what must not be believed
            with pytest.raises(DiskFault, match="restart"):
                database.write(add("c"))
            assert "the disk failed" in database.problem
        with open_record(tmp_path) as database:
            database.write(add("after"))
            assert database.problem == ""
    left = subjects(tmp_path / "frontdesk.sqlite3")
    assert left[0] == "safe" and left[-1] == "after" and "c" not in left


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("room", [0, 40_000, 300_000])
def test_a_full_disk_fails_the_writes_and_heals_when_there_is_room(tmp_path: Path, room: int) -> None:
    """`room` bytes are left, so that the disk runs full at different points of a write."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=True)
    try:
        with open_record(tmp_path) as database:
            conversation = open_conversation(database)
            stored, refused = [], []
            ballast = tmp_path / "ballast"
            with ballast.open("wb") as file:
                free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
                file.write(b"\0" * max(0, free - room))
            for number in range(40):
                turn = turn_for(message(conversation, str(number), "long " * 800))
                try:
                    store_turn(database, turn)
                    stored.append(turn)
                except RecordUnavailable as error:
                    assert "the disk is full, nothing was stored; free some space" in str(error)
                    refused.append(turn)
            assert refused and list(history(database, conversation)) == stored
            ballast.unlink()
            for turn in refused:
                store_turn(database, turn)
            assert {turn.id for turn in history(database, conversation)} == {turn.id for turn in stored + refused}
            with database.read() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a read-only disk needs root")
def test_a_read_only_folder_is_one_line_with_the_cure(tmp_path: Path) -> None:
    with fresh_record(tmp_path):
        pass
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        with pytest.raises(FrontdeskError, match="give this user write access") as caught:
            fresh_record(tmp_path)
        assert "\n" not in str(caught.value)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_a_file_locked_by_another_process_is_one_line_with_the_cure(database: Database) -> None:
    hold = (
        "import sys; from pysqlite3 import dbapi2 as s; c = s.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(database.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        with pytest.raises(RecordUnavailable, match="locked by another process for 5 seconds; find it with `fuser"):
            database.write(add("x"))
        other.stdin.close()
    database.write(add("y"))
    assert subjects(database.path) == ["y"]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"not a database, but long enough to have a header" * 20, "not a healthy record"), (None, "another program")],
)
def test_a_file_that_is_no_record_is_refused_and_left_alone(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "frontdesk.sqlite3"
    if content is not None:
        path.write_bytes(content)
    else:
        other = sqlite.connect(str(path))
        other.execute("CREATE TABLE recipes (name TEXT)")
        other.commit()
        other.close()
    before = path.read_bytes()
    with pytest.raises(FrontdeskError, match=told) as caught:
        fresh_record(tmp_path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrontdeskError, match="no such folder; make it, or set FRONTDESK_HOME"):
        fresh_record(tmp_path / "nowhere")


def test_a_path_with_the_signs_of_a_url_is_only_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "50% off?mode=memory#1"
    folder.mkdir()
    with open_record(folder) as database:
        database.write(add("x"))
    assert subjects(folder / "frontdesk.sqlite3") == ["x"]
