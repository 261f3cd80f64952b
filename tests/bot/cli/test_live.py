"""A running service takes up what an ingest, a rollback or an edit made newer, and keeps the old when that fails."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from bot.cli.live import Live, followed
from bot.conversation.assistant import Assistant
from bot.conversation.messages import Turn
from bot.serving import Desk
from bot.settings import load_settings
from bot.storage.conversations import find_conversation
from bot.storage.database import Database
from bot.storage.handover import Agent
from bot.storage.people import add_person, remove_person
from tests.bot.cli.conftest import Run
from tests.bot.conversation.fakes import message
from tests.bot.storage.sample import hire, open_conversation, open_record
from tests.bot.storage.test_handover import Bot
from tests.conftest import ROOT


@pytest.fixture
def company(home: Path, tmp_path: Path) -> Path:
    """A folder with a playbook and one article, and a home without a model."""
    shutil.copy(ROOT / "data" / "playbook.toml", tmp_path / "playbook.toml")
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "warranty.md").write_text("# Warranty\n\nThe warranty lasts two years.\n")
    (tmp_path / "frontdesk.toml").write_text('knowledge = ["articles"]\nplaybook = "playbook.toml"\n')
    return tmp_path


def searched(assistant: Assistant) -> str:
    """The version that a turn says it was answered from."""
    *_, turn = assistant.respond(message("how long does the warranty last?"))
    assert isinstance(turn, Turn)
    return turn.versions.index


@pytest.mark.slow
def test_an_edited_playbook_is_taken_up_and_a_broken_one_is_not(company: Path) -> None:
    live = Live(load_settings(None))
    assert live.refreshed() is None, "nothing has changed"
    playbook = company / "playbook.toml"
    text = playbook.read_text("utf-8")
    old = live.parts.playbook.company
    playbook.write_text(text.replace(f'"{old}"', '"Another Name Ltd"'), "utf-8")
    assert live.refreshed() is not None
    assert live.parts.playbook.company == "Another Name Ltd"
    playbook.write_text("company = [", "utf-8")
    assert live.refreshed() is not None
    assert live.parts.playbook.company == "Another Name Ltd"
    assert any("playbook.toml" in said and "serves on" in said for said in live.shortcomings())
    playbook.write_text(text, "utf-8")
    live.refreshed()
    assert live.parts.playbook.company == old
    assert not any("playbook.toml" in said for said in live.shortcomings())


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"\xff\xfe", b"no version"])
def test_a_damaged_pointer_to_the_model_stops_neither_a_start_nor_what_else_is_new(
    company: Path, home: Path, content: bytes
) -> None:
    before = Live(load_settings(None))
    (home / "models").mkdir(parents=True)
    (home / "models" / "CURRENT").write_bytes(content)
    for live in (before, Live(load_settings(None))):
        live.refreshed()
        assert any("CURRENT" in said and "promote one again" in said for said in live.shortcomings())
        playbook = company / "playbook.toml"
        playbook.write_text(playbook.read_text("utf-8").replace(live.parts.playbook.company, "Another Ltd"), "utf-8")
        live.refreshed()
        assert live.parts.playbook.company == "Another Ltd"


@pytest.mark.slow
def test_an_ingest_and_a_rollback_are_live_without_a_restart(company: Path, frontdesk: Run) -> None:
    frontdesk("ingest")
    live = Live(load_settings(None))
    article = company / "articles" / "warranty.md"
    assert "two years" in live.passages_of("warranty.md")[0].text
    article.write_text("# Warranty\n\nThe warranty lasts three years.\n")
    frontdesk("ingest")
    assistant = live.refreshed()
    assert assistant is not None
    document = live.document("warranty.md")
    assert document is not None and "three years" in document.text
    assert searched(assistant).startswith("000002")
    frontdesk("knowledge", "rollback")
    assistant = live.refreshed()
    assert assistant is not None and searched(assistant).startswith("000001")
    assert "two years" in live.passages_of("warranty.md")[0].text


@pytest.mark.slow
def test_a_damaged_version_leaves_the_one_before_in_service(company: Path, frontdesk: Run, home: Path) -> None:
    frontdesk("ingest")
    live = Live(load_settings(None))
    (company / "articles" / "warranty.md").write_text("# Warranty\n\nThe warranty lasts three years.\n")
    frontdesk("ingest")
    newest = max((home / "knowledge" / "versions").iterdir())
    (newest / "passages.00.lines").write_text("{}\n")
    assert live.refreshed() is not None
    assert "two years" in live.passages_of("warranty.md")[0].text
    assert any("damaged" in said for said in live.shortcomings())


@pytest.mark.slow
def test_a_desk_that_follows_answers_from_what_is_newest(company: Path, frontdesk: Run) -> None:
    frontdesk("ingest")
    live = Live(load_settings(None))
    swapped = threading.Event()

    class Watched(Desk):
        def swap(self, assistant: Assistant) -> None:  # type: ignore[override]
            super().swap(assistant)
            swapped.set()

    with Database(company / "record.sqlite") as database:
        from bot.cli import assembly

        desk = Watched(database, assembly.assistant_of(live.parts))
        try:
            with followed(live, desk, every=0.02):
                (company / "articles" / "warranty.md").write_text("# Warranty\n\nThe warranty lasts ten years.\n")
                frontdesk("ingest")
                assert swapped.wait(20)
            assert not [thread for thread in threading.enumerate() if thread.name == "live"]
        finally:
            desk.close()
    assert "ten years" in live.passages_of("warranty.md")[0].text


@pytest.mark.slow
def test_a_service_that_looks_around_finds_whom_a_removed_agent_left(company: Path) -> None:
    """Also when the account was taken away by the command line, which is another process."""
    live = Live(load_settings(None))
    with open_record(company) as database:
        hire(database, Agent("lea", "Lea", lead=True))
        anna, _ = add_person(database, "Anna", "agent", actor="test")
        conversation = open_conversation(database)
        desk = Desk(database, Bot())  # type: ignore[arg-type]
        desk.take(conversation, Agent(anna.id, anna.name))
        changed = threading.Event()
        desk.attach(conversation, None, lambda event: changed.set())
        try:
            with followed(live, desk, every=0.02):
                assert not changed.is_set()
                remove_person(database, anna, actor="command line")
                assert changed.wait(20)
            assert find_conversation(database, conversation).status == "waiting"
        finally:
            desk.close()
