"""`frontdesk people`, and what agents answered as training rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.cli.staff_rows import FILE, keep_staff_rows
from bot.conversation.messages import Message
from bot.settings import Settings
from bot.storage.conversations import forget, start_conversation
from bot.storage.database import Database
from bot.storage.people import check_password
from bot.storage.turns import store_turn
from finetune.examples import Example, each_row
from tests.bot.channels.office import turn_to
from tests.bot.cli.conftest import Run
from tests.bot.storage.sample import ANNA, hire
from tests.bot.storage.test_handover import Bot


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
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
