"""Bad input: one line that names the file and the cure, exit 2, nothing half-written. Never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.storage.database import Database
from bot.storage.handover import ask
from bot.storage.turns import accept_message, store_turn
from tests.bot.cli.conftest import Ran, Run
from tests.bot.storage.sample import message, open_conversation, turn_for

GOOD_LINE = json.dumps({"text": "where is my parcel", "intent": "order_status"})


def refused(ran: Ran, *named: str) -> None:
    """Exit 2, one line on stderr that names what is asked for, no traceback, nothing on stdout."""
    assert ran.status == 2, ran.err
    said = [line for line in ran.err.splitlines() if line.startswith("frontdesk: ")]
    assert len(said) == 1, ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    for name in named:
        assert name in said[0], f"{name!r} is missing in: {said[0]}"


def left_behind(home: Path) -> list[Path]:
    return (
        [path for path in home.rglob("*") if path.is_file() and not path.name.startswith(".")] if home.exists() else []
    )


def test_unknown_command_and_option_are_usage_errors(frontdesk: Run) -> None:
    assert frontdesk("bogus").status == 2
    assert frontdesk("status", "--bogus").status == 2


def test_settings_problems_are_all_reported(frontdesk: Run, tmp_path: Path) -> None:
    (tmp_path / "frontdesk.toml").write_text("prot = 1\nmax_error_rate = 7\n")
    ran = frontdesk("status")
    assert ran.status == 2
    assert "unknown setting 'prot'" in ran.err
    assert "max_error_rate = 7" in ran.err


def test_a_question_under_settings_that_cannot_be_read_is_told_as_any_command_tells_it(
    frontdesk: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking has a way of its own, which reads as little as it can."""
    monkeypatch.delenv("FRONTDESK_HOME")
    (tmp_path / "frontdesk.toml").write_text("home = [")
    refused(frontdesk("ask", "hello"), "frontdesk.toml: not valid TOML")
    monkeypatch.setenv("FRONTDESK_CONFIG", "none.toml")
    refused(frontdesk("ask", "hello"), "none.toml: no such settings file")


@pytest.mark.slow
def test_what_is_recorded_is_told_in_words(frontdesk: Run, home: Path) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    with Database(home / "frontdesk.sqlite3") as database:
        for number in range(3):
            conversation = open_conversation(database)
            store_turn(database, turn_for(message(conversation, "1")))
            if number == 2:
                accept_message(database, message(conversation, "2"))
                database.write(lambda c, which=conversation: ask(c, which, "asked", after=2))
    said = "3 conversations (2 open, 1 waiting), 3 turns, 1 message unanswered, thumbs 0 up and 0 down"
    assert f"record    {said}\n" in frontdesk("status").out
    assert f"record: {said}\n" in frontdesk("doctor").out


def test_doctor_names_every_file_of_the_settings_that_is_not_there(frontdesk: Run, tmp_path: Path) -> None:
    """Any of them stops a service, a training or an ingest."""
    (tmp_path / "frontdesk.toml").write_text(
        'examples = ["rows.jsonl"]\nvalidation = "asked.jsonl"\ntone = "tone.jsonl"\nknowledge = ["articles"]\n'
    )
    ran = frontdesk("doctor", "--json")
    assert ran.status == 1
    sick = {one["what"]: one["problem"] for one in json.loads(ran.out)["findings"] if one["problem"]}
    named = {"examples": "rows.jsonl", "validation": "asked.jsonl", "tone": "tone.jsonl", "articles": "articles"}
    assert {what: sick[what].partition(":")[0].rpartition("/")[2] for what in named} == named


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{broken", "37"),
        ('{"intent": "x"}', "37"),
        ('{"text": "", "intent": "x"}', "37"),
        ('{"text": 5, "intent": "x"}', "37"),
    ],
)
def test_a_bad_training_row_is_named_with_its_line(
    frontdesk: Run, home: Path, tmp_path: Path, line: str, named: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([GOOD_LINE] * 36 + [line]))
    refused(frontdesk("train", "--examples", path), "rows.jsonl", named)
    assert left_behind(home) == []


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00bad", b"x" * 50_000_000], ids=["empty", "encoding", "50 MB line"]
)
def test_training_files_that_are_no_rows(frontdesk: Run, home: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    refused(frontdesk("train", "--examples", path), "rows.jsonl")
    assert left_behind(home) == []


@pytest.mark.slow
def test_training_needs_rows_and_two_intents(frontdesk: Run, home: Path, tmp_path: Path) -> None:
    refused(frontdesk("train"), "nothing to train on")
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"where is parcel {n}", "intent": "only"}) for n in range(20)))
    refused(frontdesk("train", "--examples", path), "intent")
    assert left_behind(home) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.md", b""),
        ("binary.md", bytes(range(256)) * 40),
        ("broken.jsonl", b"".join(b'{"id": "%d", "answer": "yes"}\n' % n for n in range(36)) + b"{broken"),
        ("columns.csv", b"a,b\n1,2\n"),
        ("longline.jsonl", b'{"id": "' + b"x" * 50_000_000),
        ("encoding.md", "# Größe".encode("utf-16")[3:] + b"\xff\xfe\xfa"),
    ],
)
@pytest.mark.slow
def test_an_article_that_cannot_be_read_is_named(
    frontdesk: Run, home: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(frontdesk("ingest", tmp_path / name), name, *(["37"] if name == "broken.jsonl" else []))
    assert [path for path in left_behind(home) if path.name == "manifest.json"] == []


@pytest.mark.slow
def test_one_bad_file_does_not_stop_a_folder(frontdesk: Run, tmp_path: Path) -> None:
    folder = tmp_path / "articles"
    folder.mkdir()
    (folder / "good.md").write_text("# Parcels\n\nParcels leave on Monday.")
    (folder / "bad.md").write_bytes(bytes(range(256)) * 40)
    ran = frontdesk("ingest", folder, "--json")
    assert ran.status == 0
    report = json.loads(ran.out)
    assert report["added"] == 1
    assert "bad.md" in ran.err


@pytest.mark.slow
def test_searching_an_empty_knowledge_base_says_what_to_do(frontdesk: Run) -> None:
    refused(frontdesk("search", "parcel"), "frontdesk ingest")


def test_transcripts_in_an_unknown_format_or_file(frontdesk: Run, home: Path, tmp_path: Path) -> None:
    refused(frontdesk("transcripts", "import", tmp_path / "none.jsonl"), "none.jsonl")
    refused(frontdesk("transcripts", "import", tmp_path / "none.jsonl", "--format", "xml"), "xml", "jsonl")
    assert left_behind(home) == []


def test_explaining_before_anything_was_recorded(frontdesk: Run) -> None:
    refused(frontdesk("explain", "t1"), "frontdesk serve")


def test_restoring_what_is_no_backup(frontdesk: Run, tmp_path: Path) -> None:
    refused(frontdesk("restore", tmp_path), "frontdesk backup")


def test_a_copy_in_the_place_of_a_file(frontdesk: Run, tmp_path: Path) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    (tmp_path / "copy").write_text("mine")
    refused(frontdesk("backup", "copy"), "copy", "new folder")
    assert (tmp_path / "copy").read_text() == "mine"


def test_unknown_model_and_nothing_to_roll_back_to(frontdesk: Run) -> None:
    refused(frontdesk("models", "show"), "frontdesk train")
    refused(frontdesk("models", "show", "nonsense"), "nonsense")


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_cannot_be_is_no_other_port(frontdesk: Run, command: str, port: str) -> None:
    """The system itself would take 65536 for 0."""
    ran = frontdesk(command, "--port", port)
    assert ran.status == 2 and "Invalid value for '--port'" in ran.err


def test_a_home_that_is_a_file_is_named(frontdesk: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("mine")
    for place in ("mine", "mine/home"):
        monkeypatch.setenv("FRONTDESK_HOME", str(tmp_path / place))
        refused(frontdesk("people", "list"), "mine", "`home`")


def test_a_taken_port_is_named_before_anything_is_loaded(frontdesk: Run, tmp_path: Path) -> None:
    (tmp_path / "playbook.toml").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(frontdesk("serve", "--port", str(port)), str(port), "taken")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, so that a disk can be full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(
    frontdesk: Run, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTDESK_HOME", str(small_disk / "home"))
    path = tmp_path / "chats.jsonl"
    turns = [
        {"speaker": "customer", "text": "where is my parcel? " + "It should be here. " * 40},
        {"speaker": "agent", "text": "On its way.", "template": "t"},
    ]
    path.write_text("\n".join(json.dumps({"id": str(n), "turns": turns}) for n in range(2000)))
    refused(frontdesk("transcripts", "import", path), "space")
    assert [p for p in left_behind(small_disk) if p.stat().st_size] == []


@pytest.mark.slow
def test_discovery_on_a_full_disk_leaves_nothing(
    frontdesk: Run, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTDESK_HOME", str(small_disk / "home"))
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"text": "where is parcel {n}", "intent": "x"}}\n' for n in range(200))
    )
    (tmp_path / "frontdesk.toml").write_text('examples = ["rows.jsonl"]\n')
    refused(frontdesk("discover"), "the disk is full")
    assert list((small_disk / "home").iterdir()) == []


@pytest.mark.slow
def test_a_read_only_home_is_named(
    frontdesk: Run, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setenv("FRONTDESK_HOME", str(small_disk / "home"))
    path = tmp_path / "chats.jsonl"
    turns = [
        {"speaker": "customer", "text": "where is my parcel?"},
        {"speaker": "agent", "text": "on its way", "template": "t"},
    ]
    path.write_text(json.dumps({"id": "1", "turns": turns}))
    refused(frontdesk("transcripts", "import", path), str(small_disk))
