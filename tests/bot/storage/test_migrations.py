"""The migrations make what the tables say, one process at a time, and a killed one never happened."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Column, Connection, Engine, MetaData, Text, create_engine

import bot.storage.migrations as migrations
from bot import FrontdeskError
from bot.storage.conversations import forget, opened_conversation
from bot.storage.database import Database
from bot.storage.inbox import listed
from bot.storage.tables import Table, append_only_triggers
from bot.storage.tokens import hash_of
from bot.storage.turns import entries, history, store_turn
from bot.storage.visitors import find_visitor
from tests.bot.storage.sample import fresh_record, message, open_conversation, turn_for

_SPACE = re.compile(r"\s+")


def in_memory() -> Engine:
    return create_engine("sqlite://", module=sqlite)


def migrated(connection: Connection) -> Connection:
    migrations.upgrade(connection)
    return connection


def differences(connection: Connection, metadata: MetaData) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def declared(connection: Connection) -> dict[str, set[str]]:
    """Table -> what its SQL declares: every column, key and check, without order and spelling."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT IN ('alembic_version')"
    )
    found = {}
    for name, sql in rows:
        body = _SPACE.sub(" ", sql[sql.index("(") + 1 : sql.rindex(")")])
        found[name] = {part.strip().lower() for part in re.split(r",(?![^(]*\))", body)}
    return found


def test_migrations_and_tables_agree() -> None:
    with in_memory().connect() as by_migration, in_memory().connect() as by_tables:
        migrated(by_migration)
        Table.metadata.create_all(by_tables)
        assert differences(by_migration, Table.metadata) == []
        assert len(Table.metadata.tables) >= 9
        # Alembic does not compare CHECKs and foreign keys' actions, so the SQL itself is compared too.
        assert declared(by_migration) == declared(by_tables)
        triggers = by_migration.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        assert {name: sql for name, sql in triggers} == append_only_triggers()


def test_a_column_that_no_migration_makes_is_noticed() -> None:
    """The planted fault for the test above."""
    changed = MetaData(naming_convention=Table.metadata.naming_convention)
    for table in Table.metadata.tables.values():
        table.to_metadata(changed)
    changed.tables["turns"].append_column(Column("mood", Text))
    with in_memory().connect() as connection:
        assert [name for name, *_ in differences(migrated(connection), changed)] == ["add_column"]  # type: ignore[misc]


def test_the_constant_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [migrations.HEAD]
    assert {script.revision for script in scripts.walk_revisions()} == set(migrations.REVISIONS)


def test_opening_a_current_record_does_not_load_alembic(tmp_path: Path) -> None:
    fresh_record(tmp_path).close()
    reopen = (
        "import sys; from pathlib import Path; from bot.storage.database import Database; "
        "Database(Path(sys.argv[1])).close(); print([n for n in sys.modules if n.startswith('alembic')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", reopen, str(tmp_path / "frontdesk.sqlite3")], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_conversations_of_the_first_tables_keep_their_messages_tokens_and_turns(tmp_path: Path) -> None:
    """A record as the first revision wrote it, brought up to date: nothing in it is lost, and its token still opens."""
    path = tmp_path / "frontdesk.sqlite3"
    with create_engine(f"sqlite:///{path}", module=sqlite).begin() as connection:
        migrations.upgrade(connection, "0001")
        connection.exec_driver_sql(
            "INSERT INTO conversations VALUES ('c1', ?, 'web', 'c1', 'shop', 'waiting', '2026-01-01 10:00:00.000000')",
            (hash_of("a-token-of-then"),),
        )
        connection.exec_driver_sql(
            "INSERT INTO messages VALUES ('c1', 'm1', 1, 'c1', 'web', 'hello', '2026-01-01T10:00:00+00:00')"
        )
        connection.exec_driver_sql("INSERT INTO ratings VALUES ('c1', 5, 'fine', '2026-01-01', '2026-01-01')")
    with fresh_record(tmp_path) as database:
        found = opened_conversation(database, "a-token-of-then")
        assert found is not None
        assert (found.id, found.site, found.status, found.visitor) == ("c1", "shop", "waiting", "c1")
        assert [entry.message.text for entry in entries(database, "c1")] == ["hello"]
        assert find_visitor(database, "c1") is not None
        assert forget(database, "c1", actor="test"), "what refers to the table follows it still"
        with database.read() as connection:
            for table in ("messages", "ratings", "tokens", "visitors"):
                assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0, table


DIE_AT = """
import os, sys
from pathlib import Path
from sqlalchemy import Engine, event
from bot.storage.database import Database
from bot.storage.inbox import listed
left = int(sys.argv[2])
@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    global left
    if statement.lstrip().startswith(("CREATE", "INSERT")):
        left -= 1
        if left < 0:
            os._exit(137)
Database(Path(sys.argv[1])).close()
"""


@pytest.mark.slow
def test_a_migration_killed_before_any_of_its_statements_can_be_run_again(tmp_path: Path) -> None:
    """Every point is tried: the process dies before its n-th statement, until one gets through."""
    deaths = 0
    while True:
        path = tmp_path / f"{deaths}.sqlite3"
        ended = subprocess.run([sys.executable, "-c", DIE_AT, str(path), str(deaths)], check=False).returncode
        if ended == 0:
            break
        assert ended == 137
        with Database(path) as database:
            store_turn(database, turn_for(message(open_conversation(database), "1")))
        deaths += 1
    assert deaths >= 15  # ten tables, their indexes, three triggers, the revision


def test_a_migration_that_would_break_references_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgrade_and_break(connection: Connection) -> None:
        migrations_upgrade(connection)
        connection.exec_driver_sql("INSERT INTO ratings VALUES ('nobody', 1, '', 0, 0)")

    migrations_upgrade = migrations.upgrade
    monkeypatch.setattr(migrations, "upgrade", upgrade_and_break)
    with pytest.raises(FrontdeskError, match="would break a reference in table ratings"):
        fresh_record(tmp_path)
    monkeypatch.undo()
    with fresh_record(tmp_path) as database:
        assert history(database, "none") == ()


def test_two_that_start_at_once_make_one_record(tmp_path: Path) -> None:
    opened: list[Database] = []
    start = threading.Barrier(4)

    def open_one() -> None:
        start.wait()
        opened.append(fresh_record(tmp_path))

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    conversation = open_conversation(opened[0])
    for number, database in enumerate(opened):
        store_turn(database, turn_for(message(conversation, str(number))))
    assert len(history(opened[0], conversation)) == 4
    for database in opened:
        database.close()


def test_a_record_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    fresh_record(tmp_path).close()
    path = tmp_path / "frontdesk.sqlite3"
    newer = sqlite.connect(str(path))
    newer.execute("UPDATE alembic_version SET version_num = '0999'")
    newer.commit()
    newer.close()
    before = path.read_bytes()
    with pytest.raises(FrontdeskError, match=r"newer Frontdesk \(revision 0999\): install that one"):
        fresh_record(tmp_path)
    assert path.read_bytes() == before


def test_who_waited_before_there_was_an_inbox_waits_in_it(tmp_path: Path) -> None:
    path = tmp_path / "frontdesk.sqlite3"
    with create_engine(f"sqlite:///{path}", module=sqlite).begin() as connection:
        migrations.upgrade(connection, "0001")
        for name in ("open", "waiting", "person", "resolved"):
            connection.exec_driver_sql(
                "INSERT INTO conversations (id, token_hash, channel, sender, status, created_at) "
                f"VALUES ('{name}', '{name}', 'web', '', '{name}', '2026-11-01 09:00:00.000000')"
            )
    with Database(path) as database:
        lines = listed(database, "queue", "")
    assert [(line.conversation, line.status, line.reason) for line in lines] == [
        ("waiting", "waiting", "asked"),
        ("person", "waiting", "asked"),
    ]
