"""A copy is whole or not there, and bringing it back gives exactly what was copied."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import text

from bot import FrontdeskError
from bot.conversation.messages import Turn
from bot.storage.backup import backup_database, restore_database
from bot.storage.canned import keep_canned
from bot.storage.database import Database
from bot.storage.turns import all_turns, history, store_turn
from tests.bot.storage.sample import message, open_conversation, open_record, turn_for


def fill(database: Database, count: int) -> list[Turn]:
    conversation = open_conversation(database)
    turns = [turn_for(message(conversation, str(number))) for number in range(count)]
    for turn in turns:
        store_turn(database, turn)
    return turns


def test_a_restored_copy_holds_exactly_what_was_copied(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with open_record(tmp_path) as database:
        turns = fill(database, 10)
        copied = backup_database(database.path, copy)
        fill(database, 5)
        path = database.path
    assert (copied.path, copied.turns, copied.bytes) == (copy, 10, copy.stat().st_size)
    kept = restore_database(copy, path)
    with open_record(tmp_path) as database:
        assert list(all_turns(database)) == turns
        fill(database, 1)
    assert kept is not None
    with Database(kept) as before:
        assert len(list(all_turns(before))) == 15


def test_nobody_else_can_read_a_copy_while_it_is_made(tmp_path: Path) -> None:
    """Of a large record that takes minutes, and the folder may be anywhere."""
    (tmp_path / "copies").mkdir()
    with open_record(tmp_path) as database:
        keep_canned(database, "long", "x" * 4_000)
        grow = "INSERT INTO canned (title, text, created_at) SELECT title || :n || id, text, created_at FROM canned"
        for number in range(12):
            database.write(lambda connection, n=number: connection.execute(text(grow), {"n": str(n)}))  # type: ignore[misc]
        seen: set[int] = set()
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                for path in (tmp_path / "copies").iterdir():
                    with suppress(FileNotFoundError):
                        seen.add(stat.S_IMODE(path.stat().st_mode))

        watcher = threading.Thread(target=watch)
        watcher.start()
        backup_database(database.path, tmp_path / "copies" / "copy.sqlite3")
        done.set()
        watcher.join()
    assert seen == {0o600}


def test_a_copy_taken_while_writing_is_one_moment(tmp_path: Path) -> None:
    """Every conversation is stored whole turns at a time; a copy holds a beginning of each."""
    with open_record(tmp_path) as database:
        conversations = [open_conversation(database) for _ in range(4)]
        stop = threading.Event()

        def write(conversation: str) -> None:
            number = 0
            while not stop.is_set():
                store_turn(database, turn_for(message(conversation, str(number))))
                number += 1

        threads = [threading.Thread(target=write, args=(conversation,)) for conversation in conversations]
        for thread in threads:
            thread.start()
        copies = [backup_database(database.path, tmp_path / f"copy-{number}").path for number in range(5)]
        stop.set()
        for thread in threads:
            thread.join()
        whole = {conversation: history(database, conversation) for conversation in conversations}
    sizes = []
    for path in copies:
        with Database(path) as copy:
            found = {conversation: history(copy, conversation) for conversation in conversations}
        for conversation, turns in found.items():
            assert turns == whole[conversation][: len(turns)]
        sizes.append(sum(map(len, found.values())))
    assert sizes == sorted(sizes)


def test_restoring_refuses_while_a_program_uses_the_record(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with open_record(tmp_path) as database:
        turns = fill(database, 2)
        backup_database(database.path, copy)
        with pytest.raises(FrontdeskError, match="in use by a running program; stop the service, then restore"):
            restore_database(copy, database.path)
        assert list(all_turns(database)) == turns
    restore_database(copy, database.path)


@pytest.mark.slow
def test_restoring_after_a_crash_does_not_play_the_old_log_into_the_new_file(tmp_path: Path) -> None:
    """The WAL of a service that died lies beside its file; it must neither get lost nor into the restored one."""
    copy, path = tmp_path / "copy.sqlite3", tmp_path / "frontdesk.sqlite3"
    with open_record(tmp_path) as database:
        turns = fill(database, 3)
        backup_database(database.path, copy)
    crash = (
        "import os, sys; from pathlib import Path; from tests.bot.storage.test_backup import *; "
        "database = open_record(Path(sys.argv[1])); fill(database, 2); os._exit(137)"
    )
    died = subprocess.run([os.sys.executable, "-c", crash, str(tmp_path)], check=False)  # type: ignore[attr-defined]
    assert died.returncode == 137 and Path(f"{path}-wal").stat().st_size > 0
    kept = restore_database(copy, path)
    with open_record(tmp_path) as database:
        assert list(all_turns(database)) == turns
    assert kept is not None
    with Database(kept) as before:
        assert len(list(all_turns(before))) == 5


def test_restoring_where_there_was_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with open_record(tmp_path) as database:
        turns = fill(database, 2)
        backup_database(database.path, copy)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert restore_database(copy, fresh / "frontdesk.sqlite3") is None
    with open_record(fresh) as database:
        assert list(all_turns(database)) == turns


def test_a_damaged_record_can_be_replaced_and_is_kept(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with open_record(tmp_path) as database:
        turns = fill(database, 2)
        backup_database(database.path, copy)
        path = database.path
    path.write_bytes(b"rubbish" * 1000)
    kept = restore_database(copy, path)
    assert kept is not None and kept.read_bytes() == b"rubbish" * 1000
    with open_record(tmp_path) as database:
        assert list(all_turns(database)) == turns


def damage(path: Path, fault: str) -> None:
    content = path.read_bytes()
    match fault:
        case "cut short":
            path.write_bytes(content[: len(content) // 2])
        case "a page overwritten":
            middle = len(content) // 2 // 4096 * 4096
            path.write_bytes(content[:middle] + b"\xff" * 4096 + content[middle + 4096 :])
        case "not a database":
            path.write_bytes(b"PK\x03\x04" * 2000)
        case "another program's":
            path.unlink()
            run(path, "CREATE TABLE recipes (name TEXT)")
        case "of a newer program":
            run(path, "UPDATE alembic_version SET version_num = '0999'")
        case "a reference to nowhere":
            run(path, "INSERT INTO ratings VALUES ('nobody', 1, '', 0, 0)")
        case "empty":
            path.write_bytes(b"")


def run(path: Path, statement: str) -> None:
    connection = sqlite.connect(str(path), isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("cut short", "not a healthy record|damaged"),
        ("a page overwritten", "not a healthy record|damaged"),
        ("not a database", "not a healthy record"),
        ("another program's", "another program"),
        ("of a newer program", "install that one"),
        ("a reference to nowhere", "damaged"),
        ("empty", "is empty"),
    ],
)
def test_a_copy_that_is_not_whole_is_refused_and_changes_nothing(tmp_path: Path, fault: str, told: str) -> None:
    copy = tmp_path / "copy.sqlite3"
    with open_record(tmp_path) as database:
        fill(database, 40)
        backup_database(database.path, copy)
        path = database.path
    before = path.read_bytes()
    damage(copy, fault)
    with pytest.raises(FrontdeskError, match=told) as caught:
        restore_database(copy, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    left = {name.name for name in tmp_path.iterdir()} - {"copy.sqlite3-shm", "copy.sqlite3-wal"}
    assert left == {"copy.sqlite3", "frontdesk.sqlite3", "frontdesk.sqlite3.lock"}


def test_a_copy_is_not_made_over_something_or_out_of_nothing(tmp_path: Path) -> None:
    with open_record(tmp_path) as database:
        taken = tmp_path / "taken"
        taken.write_text("precious")
        for source, to, told in (
            (database.path, taken, "exists already"),
            (database.path, tmp_path / "nowhere" / "copy", "no such folder"),
            (tmp_path / "missing", tmp_path / "copy", "nothing has been recorded"),
            (taken, tmp_path / "copy", "not a healthy record"),
        ):
            with pytest.raises(FrontdeskError, match=told):
                backup_database(source, to)
        assert taken.read_text() == "precious"
        assert not (tmp_path / "copy").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_copy_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=True)
    try:
        with open_record(tmp_path) as database:
            fill(database, 40)
            with pytest.raises(FrontdeskError, match="the disk is full, nothing was stored; free some space"):
                backup_database(database.path, small / "copy")
            assert list(small.iterdir()) == []
            fill(database, 1)
    finally:
        subprocess.run(["umount", str(small)], check=True)
