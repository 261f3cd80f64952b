"""Zendesk and Intercom exports, in the shapes their makers document, with everything odd that they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune import helpdesks
from finetune.dialogues import Dialogue, Spoken
from finetune.examples import FinetuneError, Problem
from finetune.helpdesks import html_text, read_intercom, read_zendesk

FIXTURES = Path(__file__).parent / "fixtures"


def both(found: object) -> tuple[list[Dialogue], list[Problem]]:
    items = list(found)  # type: ignore[call-overload]
    return [i for i in items if isinstance(i, Dialogue)], [i for i in items if isinstance(i, Problem)]


def test_a_zendesk_ticket_is_what_the_customer_could_read() -> None:
    """Private notes, call logs and attachments without words are left out; the system is a bot; entities are text."""
    (ticket, erased, unclear), _ = both(read_zendesk(FIXTURES / "zendesk.jsonl"))
    assert ticket == Dialogue(
        "35436",
        (
            Spoken(
                "customer",
                "Hello,\n\nis my stove still under warranty? It's from 2024 & the knob broke.\n\nAnn Berg",
            ),
            Spoken("agent", "Hi Ann,\n\nyes, stoves have a warranty of five years, knobs included."),
            Spoken("bot", "This ticket was merged."),
        ),
        ("stove", "warranty", "7"),
        ("Ann Berg", "Tom Alder"),
    )
    assert erased.turns == (
        Spoken("customer", "Where is order LM482913?\nIt was due on Monday."),
        Spoken("agent", "It left our warehouse this morning and arrives on Thursday."),
    )
    assert (ticket.consent, erased.consent) == (True, False)
    assert (unclear.turns, unclear.consent) == ((), False), "its consent is 'maybe': what was imported before ends"


def test_zendesk_tickets_that_cannot_be_used_are_named_by_line() -> None:
    _, problems = both(read_zendesk(FIXTURES / "zendesk.jsonl"))
    assert [(p.line, p.reason.split(";")[0]) for p in problems[:3]] == [
        (3, "35438 holds nothing that customer and agent wrote to each other"),
        (4, 'has no "comments"'),
        (5, "\"consent\" is 'maybe'"),
    ]
    assert problems[3].line == 6 and "not valid JSON" in problems[3].reason and len(problems) == 4


def test_a_zendesk_page_brings_its_users() -> None:
    """Comments by time; every end-user is a customer; a party called after a role is still an agent."""
    (ticket,), problems = both(read_zendesk(FIXTURES / "zendesk_page.json"))
    assert [turn.speaker for turn in ticket.turns] == ["customer", "agent", "customer", "agent"]
    assert ticket.turns[0].text == "a pole of my tent snapped, what can I do?"
    assert set(ticket.names) == {"Sofia Lund", "Daniel Osei", "Larkmoor Support"}
    assert len(problems) == 2


def test_a_list_of_tickets_is_the_same_as_its_lines(tmp_path: Path) -> None:
    lines = (FIXTURES / "zendesk.jsonl").read_text().splitlines()[:5]
    whole = tmp_path / "tickets.json"
    for text in ("[" + ",\n".join(lines) + "]", json.dumps([json.loads(line) for line in lines], indent=2)):
        whole.write_text(text)
        assert both(read_zendesk(whole))[0] == both(read_zendesk(FIXTURES / "zendesk.jsonl"))[0]


def test_an_intercom_conversation_is_what_the_customer_could_read() -> None:
    """Notes, assignments, events, redacted and unknown parts are left out; closing may carry a reply; Fin is a bot."""
    (first, old), _ = both(read_intercom(FIXTURES / "intercom.jsonl"))
    assert first == Dialogue(
        "1911149811",
        (
            Spoken("customer", "Hi, I'm Ann Berg. How do I clean the Ember 1?"),
            Spoken("bot", "Larkmoor typically replies in a few hours."),
            Spoken("bot", "Fin here: see the manual."),
            Spoken(
                "agent",
                "Wipe it with a damp cloth & let it dry.\nNever use soap:\nit clogs the jet\nit stains",
            ),
        ),
        ("stoves", "cleaning"),
        ("Ann Berg", "Operator", "Fin", "Tom Alder"),
    )
    assert old.turns == (
        Spoken("customer", "does the gift card expire after a year?"),
        Spoken("agent", "No, gift cards never expire in our shops."),
    )
    assert (first.consent, old.consent) == (True, False)


def test_intercom_conversations_that_cannot_be_used_are_named_by_line() -> None:
    _, problems = both(read_intercom(FIXTURES / "intercom.jsonl"))
    assert [p.line for p in problems] == [3, 4, 5]
    assert 'no "conversation_parts"' in problems[0].reason and "by its id" in problems[0].reason


def test_a_page_of_conversations_and_a_single_one_are_read(tmp_path: Path) -> None:
    first = json.loads((FIXTURES / "intercom.jsonl").read_text().splitlines()[0])
    expected = both(read_intercom(FIXTURES / "intercom.jsonl"))[0][0]
    path = tmp_path / "one.json"
    for value in (first, [first], {"type": "conversation.list", "conversations": [first], "pages": {}}):
        for indent in (None, 2):
            path.write_text(json.dumps(value, indent=indent))
            assert both(read_intercom(path)) == ([expected], [])


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    path.write_text((FIXTURES / "zendesk_page.json").read_text()[:-40])
    with pytest.raises(FinetuneError, match=r"page\.json: not valid JSON .* cut off"):
        list(read_zendesk(path))


def test_one_value_beyond_the_limit_is_refused_and_json_lines_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpdesks, "MAX_WHOLE", 1000)
    with pytest.raises(FinetuneError, match=r"over 1,000 bytes; export JSON Lines"):
        list(read_zendesk(FIXTURES / "zendesk_page.json"))
    assert len(both(read_zendesk(FIXTURES / "zendesk.jsonl"))[0]) == 3


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("plain &amp; simple", "plain & simple"),
        ("two\nlines", "two\nlines"),
        ("<p>one</p><p>two<br/>three</p>", "one\ntwo\nthree"),
        ("<div>a <b>bold</b>\n   word</div>", "a bold word"),
        ('<a href="https://x.example">the link</a>', "the link"),
        ("<p>seen</p><script>alert(1)</script><style>p{}</style>", "seen"),
        ("<p>3 &lt; 5</p>", "3 < 5"),
        ("3 < 5 and 7 > 2", "3 < 5 and 7 > 2"),
        ("<p>open <b>for ever", "open for ever"),
        ("<!-- only a comment -->", ""),
        ("<p>a\x00b\x0bc</p>", "abc"),
        ("<div>" * 200 + "deep" + "</div>" * 200, "deep"),
        ("<p>top</p>" + "<div>" * 50_000 + "too deep for any reader", "top"),
        ("", ""),
    ],
)
def test_html_becomes_the_text_a_person_sees(markup: str, text: str) -> None:
    assert html_text(markup) == text
