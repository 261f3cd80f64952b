"""Copies by the command line: where they may go, and that bringing one back loses nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bot.cli import record
from bot.storage.database import Database
from bot.storage.people import all_people
from tests.bot.cli.conftest import Run
from tests.bot.cli.test_bad_input import refused


def names_in(path: Path) -> list[str]:
    with Database(path) as database:
        return [person.name for person in all_people(database)]


def test_an_empty_folder_that_one_is_in_takes_a_copy(
    frontdesk: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    (tmp_path / "copies").mkdir()
    monkeypatch.chdir(tmp_path / "copies")
    assert frontdesk("backup", ".").status == 0
    assert names_in(tmp_path / "copies" / "frontdesk.sqlite3") == ["Lea"]


def test_what_a_customer_deletes_meanwhile_does_not_cost_the_copy(frontdesk: Run, home: Path, tmp_path: Path) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    (home / "files").mkdir()
    (home / "files" / "kept").write_text("kept")
    # as a file is that was there when the folder was listed
    (home / "files" / "deleted").symlink_to("nowhere")
    assert frontdesk("backup", tmp_path / "copy").status == 0
    assert [path.name for path in (tmp_path / "copy" / "files").iterdir()] == ["kept"]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [1, 100])
def test_a_version_that_comes_while_it_is_copied_is_copied_whole(
    frontdesk: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """Right after the versions were listed the next one is there, and the one before is pruned."""
    frontdesk("people", "add", "Lea", "--role", "lead")
    versions = home / "knowledge" / "versions"
    came = iter(range(changes))

    def next_version(number: int) -> None:
        (versions / f"v{number}").mkdir(parents=True)
        (versions / f"v{number}" / "manifest.json").write_text("{}")
        (home / "knowledge" / "CURRENT").write_text(f"v{number}\n")
        shutil.rmtree(versions / f"v{number - 1}", ignore_errors=True)

    def listed(folder: str, names: list[str]) -> list[str]:
        if folder == str(versions) and (number := next(came, None)) is not None:
            next_version(number + 2)
        return []

    next_version(1)
    monkeypatch.setattr(record, "_unfinished", listed)
    if changes > 1:
        refused(frontdesk("backup", tmp_path / "copy"), "changes faster than it can be copied")
        assert not (tmp_path / "copy").exists()
        return
    assert frontdesk("backup", tmp_path / "copy").status == 0
    assert (tmp_path / "copy" / "knowledge" / "CURRENT").read_text() == "v2\n"
    assert (tmp_path / "copy" / "knowledge" / "versions" / "v2" / "manifest.json").read_text() == "{}"


def test_a_copy_that_fails_says_why_and_leaves_nothing(frontdesk: Run, home: Path, tmp_path: Path) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    (home / "files").mkdir()
    os.mkfifo(home / "files" / "pipe")  # which cannot be copied, whoever tries
    refused(frontdesk("backup", tmp_path / "copies" / "today"), "pipe", "named pipe")
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_copy_that_cannot_be_brought_back_whole_changes_nothing(frontdesk: Run, home: Path, tmp_path: Path) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    frontdesk("backup", tmp_path / "copy")
    frontdesk("people", "add", "Max")
    (tmp_path / "copy" / "models").mkdir()
    os.mkfifo(tmp_path / "copy" / "models" / "pipe")
    before = sorted(path.name for path in home.iterdir())
    refused(frontdesk("restore", tmp_path / "copy"), "pipe")
    assert sorted(path.name for path in home.iterdir()) == before
    assert names_in(home / "frontdesk.sqlite3") == ["Lea", "Max"]


@pytest.mark.slow
def test_whoever_brings_back_one_copy_after_another_still_has_what_was_there_first(
    frontdesk: Run, home: Path, tmp_path: Path
) -> None:
    """The wrong copy is easily taken first: then the next one must not cost the record that no copy has."""
    frontdesk("people", "add", "Lea", "--role", "lead")
    frontdesk("backup", tmp_path / "old")
    frontdesk("people", "add", "Max")
    frontdesk("backup", tmp_path / "new")
    frontdesk("people", "add", "Zoe")
    kept = [json.loads(frontdesk("restore", tmp_path / name, "--json").out)["kept"] for name in ("old", "new")]
    assert names_in(home / "frontdesk.sqlite3") == ["Lea", "Max"]
    assert names_in(Path(kept[0]) / "frontdesk.sqlite3") == ["Lea", "Max", "Zoe"]
    assert names_in(Path(kept[1]) / "frontdesk.sqlite3") == ["Lea"]


def test_a_restore_says_where_what_was_there_is_kept(frontdesk: Run, home: Path, tmp_path: Path) -> None:
    frontdesk("people", "add", "Lea", "--role", "lead")
    frontdesk("backup", tmp_path / "copy")
    said = frontdesk("restore", tmp_path / "copy").out
    (kept,) = home.glob("before-restore-*")
    assert str(kept) in said
    shutil.rmtree(home)
    said = json.loads(frontdesk("restore", tmp_path / "copy", "--json").out)
    assert said["kept"] is None and not list(home.glob("before-restore-*"))
