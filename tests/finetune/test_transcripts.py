"""Old chats become masked training rows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from finetune.examples import FinetuneError, Problem
from finetune.transcripts import (
    Dialogue,
    Spoken,
    answers,
    examples_from,
    iban,
    import_transcripts,
    luhn,
    mask,
    read_dialogues,
    read_imported,
)

STAR = Path("/work/shared/datasets/star/transcripts.jsonl")

CHAT = {
    "id": "c1",
    "topics": ["delivery"],
    "turns": [
        {"speaker": "agent", "text": "Welcome!"},
        {"speaker": "customer", "text": "hi"},
        {"speaker": "customer", "text": "where is my parcel 12345678?"},
        {"speaker": "agent", "text": "What is your e-mail?", "template": "ask_email"},
        {"speaker": "customer", "text": "ann@example.com, and do you ship to Norway?"},
        {"speaker": "agent", "text": "Yes, we ship to Norway within five days."},
        {"speaker": "agent", "text": "Shall I send it?"},
        {"speaker": "customer", "text": "great"},
    ],
}


def store(folder: Path, *rows: object) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_replies_become_rows_with_their_history() -> None:
    rows = list(
        examples_from(
            Dialogue(
                "c1",
                (
                    Spoken("agent", "Welcome!"),
                    Spoken("customer", "hi"),
                    Spoken("customer", "where is my parcel?"),
                    Spoken("agent", "What is your e-mail?", "ask_email"),
                    Spoken("customer", "a@b.c, and do you ship to Norway?"),
                    Spoken("agent", "Yes, we ship to Norway within five days."),
                    Spoken("customer", "great"),
                ),
            )
        )
    )
    first, second = rows
    assert (first.text, first.intent, first.answer) == ("hi\nwhere is my parcel?", "ask_email", "")
    assert first.history == (("agent", "Welcome!"),)
    assert (second.text, second.intent) == ("a@b.c, and do you ship to Norway?", None)
    assert second.answer == "Yes, we ship to Norway within five days."
    assert second.history[-1] == ("agent", "What is your e-mail?") and len(second.history) == 4
    assert {row.group for row in rows} == {"conversation:c1"}


def test_replies_in_a_row_count_as_one() -> None:
    turns = (
        Spoken("customer", "do you ship to Norway?"),
        Spoken("agent", "Yes, we do."),
        Spoken("agent", "It takes five days.", "shipping_time"),
        Spoken("customer", "thanks"),
    )
    (row,) = examples_from(Dialogue("c", turns))
    assert row.intent == "shipping_time" and row.answer == "Yes, we do.\nIt takes five days."


@pytest.mark.parametrize(
    ("question", "reply", "expected"),
    [
        ("do you ship to Norway?", "Yes, we ship to Norway within five days.", True),
        ("how do I return a broken lamp", "Send it back within 30 days with the slip.", True),
        ("你们周日开门吗？可以退货吗?", "我们周日不开门，请周一再来，退货需要小票。", True),
        ("ok?", "Yes, we ship to Norway within five days.", False),
        ("my lamp is broken and I am angry", "Send it back within 30 days with the slip.", True),
        ("my lamp is broken", "Send it back within 30 days with the slip.", False),
        ("thanks a lot, you were really kind", "Send it back within 30 days with the slip.", False),
        ("do you ship to Norway?", "Yes.", False),
        ("do you ship to Norway?", "Hello and welcome to our friendly shop chat.", False),
        ("do you ship to Norway?", "Which city in Norway do you mean?", False),
    ],
)
def test_only_replies_that_say_something_are_answers(question: str, reply: str, expected: bool) -> None:
    assert answers(question, reply) is expected


def test_an_import_is_masked_whole_and_the_same_when_run_twice(tmp_path: Path) -> None:
    source = store(tmp_path, CHAT)
    done = import_transcripts(source, "jsonl", tmp_path / "rows")
    assert (done.dialogues, done.turns, done.labelled, done.paired) == (1, 8, 1, 0)
    assert done.masked == (("email", 1),) and done.problems == ()
    assert "ann@example.com" not in done.file.read_text()
    again = import_transcripts(source, "jsonl", tmp_path / "rows")
    assert again == done
    assert [p.name for p in (tmp_path / "rows").iterdir()] == [done.file.name]
    (row,) = read_imported(tmp_path / "rows")
    assert row.text == "hi\nwhere is my parcel 12345678?" and row.intent == "ask_email"


def test_topics_go_with_every_row_of_their_conversation(tmp_path: Path) -> None:
    import_transcripts(store(tmp_path, CHAT), "jsonl", tmp_path / "rows")
    assert {row.topics for row in read_imported(tmp_path / "rows")} == {("delivery",)}


def test_bad_dialogues_are_named_by_line_and_skipped(tmp_path: Path) -> None:
    bad_turn = {"id": "x", "turns": [{"speaker": "customer", "text": "a"}, {"speaker": "robot", "text": "b"}]}
    source = store(tmp_path, CHAT, "{", {"id": "y"}, {"turns": []}, bad_turn, {**CHAT, "id": 7})
    done = import_transcripts(source, "jsonl", tmp_path / "rows")
    assert done.dialogues == 1
    assert [p.line for p in done.problems] == [2, 3, 4, 5, 6]
    assert "turn 2: speaker 'robot'" in done.problems[3].reason


@pytest.mark.parametrize("content", ["{\n", '{"id": "a", "turns": [{"speaker": "customer", "text": "alone"}]}\n', ""])
def test_a_file_with_nothing_usable_is_refused_and_nothing_is_written(tmp_path: Path, content: str) -> None:
    source = tmp_path / "chats.jsonl"
    source.write_text(content)
    with pytest.raises(FinetuneError, match=str(source)):
        import_transcripts(source, "jsonl", tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


def test_csv_gives_the_same_rows_as_jsonl(tmp_path: Path) -> None:
    lines = ["conversation_id,speaker,text,template"]
    lines += [f'c1,{t["speaker"]},"{t["text"]}",{t.get("template", "")}' for t in CHAT["turns"]]  # type: ignore[index]
    source = tmp_path / "chats.csv"
    source.write_text("\n".join(lines) + "\nc2,nobody,x,\n")
    (dialogue, *_) = (d for d in read_dialogues(source, "csv") if isinstance(d, Dialogue))
    (expected,) = read_dialogues(store(tmp_path, {**CHAT, "topics": []}), "jsonl")
    assert dialogue == expected
    (problem,) = (d for d in read_dialogues(source, "csv") if isinstance(d, Problem))
    assert problem.line == 10 and "nobody" in problem.reason


def test_a_csv_without_the_column_names_it(tmp_path: Path) -> None:
    source = tmp_path / "chats.csv"
    source.write_text("conversation_id,who,text\n1,customer,hello\n")
    with pytest.raises(FinetuneError, match=r"line 1: no column speaker"):
        list(read_dialogues(source, "csv"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a,b\n\x00"])
def test_a_binary_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "chats.csv"
    source.write_bytes(content)
    with pytest.raises(FinetuneError):
        list(read_dialogues(source, "csv"))


MASKED = [
    ("mail me at ann.b+c@mail.example.co.uk now", "mail me at [email] now"),
    ("card 4111 1111 1111 1111 please", "card [card] please"),
    ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [iban]."),
    ("call +47 22 85 50 50 or (415) 555-2671", "call [phone] or [phone]"),
    ("call 020 7946 0958", "call [phone]"),
    ("order 4111111111111112 and 12345678, 2026-11-22, 10:30", None),
    ("version 1.2.3, SKU DE12ABCD, 3 for 2", None),
]


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_personal_values_are_masked_and_order_numbers_stay(text: str, expected: str | None) -> None:
    masked, _ = mask(text)
    assert masked == (expected or text)
    assert mask(masked)[0] == masked


def test_check_digits_agree_with_known_numbers() -> None:
    assert luhn("79927398713") and not luhn("79927398710")
    assert iban("GB82 WEST 1234 5698 7654 32") and not iban("GB82 WEST 1234 5698 7654 33")


@pytest.mark.slow
@pytest.mark.skipif(not STAR.exists(), reason="the public datasets are not on this machine")
def test_star_is_imported_in_seconds(tmp_path: Path) -> None:
    start = time.perf_counter()
    done = import_transcripts(STAR, "jsonl", tmp_path)
    assert (done.dialogues, done.turns, done.labelled) == (4930, 86488, 37289)
    assert time.perf_counter() - start < 30
