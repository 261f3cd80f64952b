"""The terminal: lines in, streamed answers and numbered sources out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.channels.terminal import chat, terminal_message
from bot.conversation.messages import Message, Turn
from bot.storage.turns import history
from tests.bot.channels.office import Office, Scripted, open_office, turn_to
from tests.bot.storage.sample import ANNA, hire


def talk(office: Office, *typed: str) -> str:
    """What is on the screen after somebody typed these lines."""
    waiting = iter(typed)
    written: list[str] = []

    def read(prompt: str) -> str:
        written.append(prompt)
        try:
            line = next(waiting)
        except StopIteration:
            raise EOFError from None
        written.append(f"{line}\n")
        return line

    chat(office.desk, office.database, read, written.append)
    return "".join(written)


def test_an_answer_is_shown_with_its_numbered_sources_and_what_to_ask_next(office: Office) -> None:
    assert talk(office, "refund?") == (
        "you> refund?\n"
        "bot> We inspect it within 5 business days. [1]\n\n"
        "Credit cards take 3 to 7 business days. [2]\n"
        "     [1] Refunds  /articles/returns/refunds.md#p-inspect\n"
        "     [2] Refunds  /articles/returns/refunds.md#p-money\n"
        "     - How do I return something?\n"
        "     - Is a label free?\n"
        "\n"
        "you> \n"
    )


def test_options_are_not_listed_twice(office: Office) -> None:
    assert talk(office, "order").count("Can I cancel my order?") == 1


@pytest.mark.parametrize("last", ["", "   "])
def test_an_empty_line_ends_the_chat(office: Office, last: str) -> None:
    assert talk(office, last, "never read") == f"you> {last}\n"


def test_all_lines_are_one_conversation_in_the_record(tmp_path: Path) -> None:
    with open_office(tmp_path, Scripted()) as office:
        talk(office, "hello", "refund?")
        with office.database.read() as connection:
            ((conversation, channel),) = connection.exec_driver_sql("SELECT id, channel FROM conversations").all()
        turns = history(office.database, conversation)
    assert channel == "terminal"
    assert [turn.message.text for turn in turns] == ["hello", "refund?"]


def test_a_line_for_a_person_is_not_met_with_nothing(tmp_path: Path) -> None:
    lines = iter(["hello", "are you there?"])
    written: list[str] = []
    with open_office(tmp_path, Scripted()) as office:
        hire(office.database, ANNA)

        def read(prompt: str) -> str:
            line = next(lines, "")
            if line == "are you there?":
                with office.database.read() as connection:
                    conversation = connection.exec_driver_sql("SELECT id FROM conversations").scalar_one()
                office.desk.take(conversation, ANNA)
            return line

        chat(office.desk, office.database, read, written.append)
    assert "".join(written) == "bot> hello\n     - hello\n\nbot> (a person has this conversation now)\n\n"


class Restless:
    """Streams something else than it stores in the end, and control characters on the way."""

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        yield "\x1b]0;owned\x07half"
        yield turn_to(message, "whole\x9b2J")


def test_what_is_stored_is_shown_and_nothing_moves_the_cursor(tmp_path: Path) -> None:
    with open_office(tmp_path, Restless()) as office:  # type: ignore[arg-type]
        screen = talk(office, "hello")
    assert screen == "you> hello\nbot> ]0;ownedhalf\nbot> whole2J\n\nyou> \n"


def test_a_message_that_fails_is_reported_and_the_chat_goes_on(tmp_path: Path) -> None:
    with open_office(tmp_path, Scripted()) as office:
        office.desk.close()
        screen = talk(office, "hello", "again")
    assert screen.count("the service is stopping") == 2


def test_a_typed_line_is_a_message_with_an_id_of_its_own() -> None:
    first, second = terminal_message("hello"), terminal_message("hello")
    assert (first.text, first.channel, first.conversation) == ("hello", "terminal", "terminal")
    assert first.id != second.id
    assert first.received_at.tzinfo is not None
