"""`frontdesk people`, and what agents answered as training rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.cli import staff_rows
from bot.cli.staff_rows import FILE, keep_staff_rows
from bot.conversation.messages import Message
from bot.settings import Settings
from bot.storage.conversations import forget, start_conversation
from bot.storage.database import Database
from bot.storage.people import check_password
from bot.storage.staff_answers import StaffAnswer
from bot.storage.turns import store_turn
from bot.storage.visitors import Identity, open_conversation
from finetune.examples import MAX_TEXT, Example, each_row
from finetune.transcripts import read_imported
from tests.bot.channels.office import turn_to
from tests.bot.cli.conftest import Run
from tests.bot.storage.sample import ANNA, hire
from tests.bot.storage.test_handover import Bot


@pytest.mark.slow
def test_the_first_account_is_made_listed_and_taken_away(frontdesk: Run, home: Path) -> None:
    assert "nobody yet" in frontdesk("people", "list").out
    made = frontdesk("people", "add", "Lea", "--role", "lead", "--json")
    said = json.loads(made.out)
    assert (made.status, said["name"], said["role"]) == (0, "Lea", "lead")
    with Database(home / "frontdesk.sqlite3") as database:
        person = check_password(database, "Lea", said["password"])
    assert person is not None and person.temporary
    assert "Max is a lead" in frontdesk("people", "add", "Max", "--role", "lead").out
    listed = json.loads(frontdesk("people", "list", "--json").out)["people"]
    assert [(one["name"], one["role"], one["signed_in"]) for one in listed] == [
        ("Lea", "lead", False),
        ("Max", "lead", False),
    ]
    assert json.loads(frontdesk("people", "remove", "lea", "--json").out) == {"removed": "Lea"}
    assert "Lea" not in frontdesk("people", "list").out


@pytest.mark.slow
def test_whoever_forgot_a_password_is_given_another(frontdesk: Run, home: Path) -> None:
    first = json.loads(frontdesk("people", "add", "Lea", "--role", "lead", "--json").out)["password"]
    second = json.loads(frontdesk("people", "password", "lea", "--json").out)
    assert (second["name"], second["role"]) == ("Lea", "lead")
    with Database(home / "frontdesk.sqlite3") as database:
        assert check_password(database, "Lea", first) is None
        person = check_password(database, "Lea", second["password"])
    assert person is not None and person.temporary


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("password", "Nobody"), "nobody here is called 'Nobody'"),
        (("add", "L\udcff"), r"b'L\xff' is not UTF-8; give it in UTF-8"),
        (("add", "Lea", "--role", "king"), "--role king: not known; use one of: lead, reviewer, agent"),
        (("add", "<Lea>"), "cannot be a name"),
        (("remove", "Nobody"), "nobody here is called 'Nobody'"),
    ],
)
def test_bad_input_is_named_and_refused(frontdesk: Run, arguments: tuple[str, ...], said: str) -> None:
    done = frontdesk("people", *arguments)
    assert done.status == 2 and said in done.err and done.out == ""


def test_what_agents_answered_is_kept_masked_beside_the_imported_chats(tmp_path: Path) -> None:
    from bot.serving import Desk

    settings = Settings(home=tmp_path)
    file = tmp_path / "transcripts" / FILE
    assert keep_staff_rows(settings) == 0 and not file.exists()
    with Database(tmp_path / "frontdesk.sqlite3") as database:
        hire(database)
        conversation = start_conversation(database, channel="web").id
        asked = Message("1", conversation, "c", "web", "Do you ship to Norway?", datetime.now(UTC))
        store_turn(database, turn_to(asked, "I do not know.", status="not_known"))
        desk = Desk(database, Bot())  # type: ignore[arg-type]
        desk.take(conversation, ANNA)
        desk.reply(conversation, ANNA, "reply-00001", "Yes, to all of it.")
        desk.answer(Message("2", conversation, "c", "web", "Write to kari@example.com then", datetime.now(UTC)))
        desk.reply(conversation, ANNA, "reply-00002", "I will. Anna")
        desk.close()
    assert keep_staff_rows(settings) == 2
    first, second = (row for row in each_row(file) if isinstance(row, Example))
    assert (first.text, first.answer, first.origin) == ("Do you ship to Norway?", "Yes, to all of it.", "staff")
    assert first.group == second.group == conversation and first.consent
    assert second.text == "Write to [email-1] then" and second.answer == "I will. [name-1]"
    assert second.history == (("customer", "Do you ship to Norway?"), ("agent", "Yes, to all of it."))
    with Database(tmp_path / "frontdesk.sqlite3") as database:
        forget(database, conversation, actor="test")
    assert keep_staff_rows(settings) == 0 and not file.exists()


def test_the_name_that_a_customer_is_known_by_is_masked_where_agents_use_it(tmp_path: Path) -> None:
    """No cue introduces it: they told it before the first message, or the company's server did."""
    from bot.serving import Desk

    settings = Settings(home=tmp_path)
    with Database(tmp_path / "frontdesk.sqlite3") as database:
        hire(database)
        desk = Desk(database, Bot())  # type: ignore[arg-type]
        known = Identity("customer-1", "Ola Nordmann")
        for told in (open_conversation(database, name="Kari Nordmann"), open_conversation(database, identity=known)):
            conversation = told[0].id
            asked = Message("1", conversation, "c", "web", "Do you ship to Norway?", datetime.now(UTC))
            store_turn(database, turn_to(asked, "I do not know.", status="not_known"))
            desk.take(conversation, ANNA)
            desk.reply(conversation, ANNA, f"reply-{conversation}", "Hi Kari, hi Ola, yes we do.")
        desk.close()
    keep_staff_rows(settings)
    rows = [row for row in each_row(tmp_path / "transcripts" / FILE) if isinstance(row, Example)]
    assert {row.answer for row in rows} == {"Hi [name-1], hi Ola, yes we do.", "Hi Kari, hi [name-1], yes we do."}


def test_no_answer_of_an_agent_can_stop_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masking lengthens some texts beyond what a row may hold, and leaves nothing of others."""
    settings = Settings(home=tmp_path)
    long, history = "a@b.no " * 1_142, (("customer", "\u200b"), ("agent", "x\x00y"))
    answers = [
        StaffAnswer("c1", "Which addresses?", long, history),
        StaffAnswer("c1", long, "These.", ()),
        StaffAnswer("c2", "\u200b", "Hello?", ()),
        StaffAnswer("c3", "Hello?", "\u2060", ()),
    ]
    monkeypatch.setattr(staff_rows, "staff_answers", lambda database: iter(answers))
    Database(tmp_path / "frontdesk.sqlite3").close()
    assert keep_staff_rows(settings) == 2
    first, second = read_imported(tmp_path / "transcripts")
    assert len(first.answer) <= MAX_TEXT and first.answer.startswith("[email-1]") and len(second.text) <= MAX_TEXT
    assert first.history == (("agent", "xy"),)
    monkeypatch.setattr(staff_rows, "staff_answers", lambda database: iter(answers[2:]))
    assert keep_staff_rows(settings) == 0 and not (tmp_path / "transcripts" / FILE).exists()
