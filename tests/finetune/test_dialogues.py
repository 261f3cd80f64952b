"""The two plain formats of conversations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.dialogues import Dialogue, Spoken, as_name, read_csv, read_jsonl, tidied
from finetune.examples import MAX_TEXT, FinetuneError, Problem, clean_text

TURNS = [
    {"speaker": "customer", "text": "do you ship to Norway?"},
    {"speaker": "agent", "text": "Yes, within five days.", "template": "shipping"},
]


def store(folder: Path, *rows: object) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_line_is_a_conversation(tmp_path: Path) -> None:
    path = store(tmp_path, {"id": "c1", "topics": ["delivery"], "turns": TURNS, "consent": False})
    spoken = (
        Spoken("customer", "do you ship to Norway?"),
        Spoken("agent", "Yes, within five days.", "shipping"),
    )
    assert list(read_jsonl(path)) == [Dialogue("c1", spoken, ("delivery",), consent=False)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"id": ' + "9" * 5000 + "}", "not valid JSON"),
        ({"id": "y"}, '"turns" is not a list'),
        ({"id": 7, "turns": TURNS}, '"id" is a int'),
        ({"id": None, "turns": TURNS}, '"id" is missing'),
        ({"id": "y", "turns": [None]}, "turn 1 is not an object"),
        ({"id": "y", "turns": [{"speaker": "robot", "text": "b"}]}, "turn 1: speaker 'robot'"),
        ({"id": "y", "turns": [*TURNS, {"speaker": "agent", "text": None}]}, 'turn 3: "text" is missing'),
        ({"id": "y", "turns": [{**TURNS[1], "template": "*x"}]}, "does not begin with *"),
        ({"id": "y", "turns": [{**TURNS[1], "template": {"a": 1}}]}, '"template" is a dict'),
        ({"id": "y", "turns": TURNS, "topics": "x"}, '"topics" is a str'),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_reason(tmp_path: Path, row: object, reason: str) -> None:
    good = {"id": "c", "turns": TURNS}
    first, problem, last = read_jsonl(store(tmp_path, good, row, good))
    assert isinstance(first, Dialogue) and first == last
    assert isinstance(problem, Problem) and problem.line == 2 and reason in problem.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "y", "turns": TURNS, "consent": "no"}, "\"consent\" is 'no'; write true or false"),
        ({"id": "y", "turns": TURNS, "consent": 1}, '"consent" is 1; write true or false'),
        ({"id": "y", "turns": [None], "consent": False}, "turn 1 is not an object"),
    ],
)
def test_a_refusal_counts_whatever_else_is_wrong(tmp_path: Path, row: object, reason: str) -> None:
    problem, refused = read_jsonl(store(tmp_path, row))
    assert problem == Problem(1, f"{reason}; its conversation is without consent")
    assert refused == Dialogue("y", (), consent=False)


COLUMNS = "conversation_id,speaker,text,template,consent"


def table(folder: Path, *rows: str, columns: str = COLUMNS) -> tuple[list[Dialogue], list[tuple[int, str]]]:
    """The conversations of a table, and the line and reason of each Problem."""
    path = folder / "chats.csv"
    path.write_text("\n".join((columns, *rows)) + "\n")
    found = list(read_csv(path))
    problems = [(one.line, one.reason) for one in found if isinstance(one, Problem)]
    return [one for one in found if isinstance(one, Dialogue)], problems


def test_a_table_reads_as_its_lines(tmp_path: Path) -> None:
    """Rows of two conversations may stand among each other; one row without consent is a conversation without."""
    found, problems = table(
        tmp_path,
        "c1,customer,do you ship to Norway?,,",
        'c2,customer,"open on\nSunday?",,yes',
        'c1,Agent,"Yes, within five days.",shipping,TRUE',
        "c2,AGENT ,No.,,no",
    )
    (expected,) = read_jsonl(store(tmp_path, {"id": "c1", "turns": TURNS}))
    other = Dialogue("c2", (Spoken("customer", "open on\nSunday?"), Spoken("agent", "No.")), consent=False)
    assert found == [expected, other] and problems == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("c1,nobody,x,,", "speaker 'nobody' is none of customer, agent, bot; its conversation is left out"),
        ("c1,customer", '"text" is missing, not a text; its conversation is left out'),
        (
            "c1,customer,a, b,,no",
            "more fields than columns; put a text with commas in quotes; its conversation is left out",
        ),
        ("c1,customer,,,", '"text" is empty; its conversation is left out'),
    ],
)
def test_a_row_that_cannot_be_used_leaves_out_its_conversation(tmp_path: Path, bad: str, reason: str) -> None:
    """Without the second question its answer would stand under the first. One Problem says so, however many rows."""
    rows = ("c1,customer,Q1,,", "c1,agent,A1,,", bad, bad, "c1,agent,A2,,", "c2,customer,hi,,", ",agent,x,,")
    found, problems = table(tmp_path, *rows)
    assert [one.id for one in found] == ["c2"]
    assert problems == [(4, reason), (8, '"conversation_id" is empty; the row is left out')]


@pytest.mark.parametrize("refusal", ["c1,customer,,,false", "c1,nobody,x,,no", "c1,agent,x,,refused", "c1,agent,x,,?"])
def test_a_refusal_counts_whatever_else_is_wrong_with_its_row(tmp_path: Path, refusal: str) -> None:
    (found,), problems = table(tmp_path, "c1,customer,Q1,,true", refusal, "c1,agent,A1,,true")
    assert not found.consent and problems[0][1].endswith("; its conversation is without consent")


def test_the_consent_column_is_read_however_it_is_capitalised(tmp_path: Path) -> None:
    (found,), _ = table(tmp_path, "c1,customer,Q1,no", columns="conversation_id,Speaker,text, Consent")
    assert not found.consent


def test_a_csv_without_the_column_names_it(tmp_path: Path) -> None:
    source = tmp_path / "chats.csv"
    source.write_text("conversation_id,who,text\n1,customer,hello\n")
    with pytest.raises(FinetuneError, match=r"line 1: no column speaker"):
        list(read_csv(source))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a,b\n\x00", b""])
def test_a_binary_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "chats.csv"
    source.write_bytes(content)
    with pytest.raises(FinetuneError):
        list(read_csv(source))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a\r\nb\rc\u2028d ", "a\nb\nc\nd"),
        ("a\x00b\x0bc\ud800d", "abcd"),
        ("a\u00a0 b\n\n\n\n c", "a  b\n\nc"),
        ("\x07", ""),
        ("e\u0301", "é"),
        ("x" * (MAX_TEXT + 5), "x" * MAX_TEXT),
    ],
)
def test_what_help_desks_keep_becomes_text_that_training_can_read(text: str, expected: str) -> None:
    assert tidied(text) == expected
    assert not expected or clean_text(expected, "text") == expected


@pytest.mark.parametrize(
    ("value", "name"), [("a", "a"), (7, "7"), (True, ""), (None, ""), (1.5, ""), ([], ""), ("x" * 500, "x" * 200)]
)
def test_only_texts_and_whole_numbers_name_something(value: object, name: str) -> None:
    assert as_name(value) == name
