"""Exports become masked training rows on disk, whole or not at all."""

from __future__ import annotations

import json
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.dialogues import Dialogue
from finetune.examples import Example, FinetuneError, Problem
from finetune.masking import Masked
from finetune.transcripts import (
    FORMATS,
    Format,
    import_transcripts,
    likely_format,
    read_dialogues,
    read_imported,
)

FIXTURES = Path(__file__).parent / "fixtures"
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
SAMPLES: dict[Format, Path] = {
    "slack": FIXTURES / "slack",
    "zendesk": FIXTURES / "zendesk.jsonl",
    "intercom": FIXTURES / "intercom.jsonl",
}


def store(folder: Path, *rows: object) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_an_import_is_masked_whole_and_the_same_when_run_twice(tmp_path: Path) -> None:
    source = store(tmp_path, CHAT)
    done = import_transcripts(source, "jsonl", tmp_path / "rows")
    assert (done.dialogues, done.turns, done.rows, done.labelled, done.paired, done.withheld) == (1, 8, 2, 1, 1, 0)
    assert done.masked == (Masked("email", 1, 1),) and done.problems == ()
    assert "ann@example.com" not in done.file.read_text()
    again = import_transcripts(source, "jsonl", tmp_path / "rows")
    assert again == done
    assert [p.name for p in (tmp_path / "rows").iterdir()] == [done.file.name]
    labelled, paired = tuple(read_imported(tmp_path / "rows"))
    group, topics = "conversation:c1", ("delivery",)
    first = "where is my parcel 12345678?"
    history = (("agent", "Welcome!"), ("customer", "hi"), ("customer", first), ("agent", "What is your e-mail?"))
    assert labelled == Example(first, "ask_email", history[:1], topics=topics, group=group)
    said, answer = "[email-1], and do you ship to Norway?", "Yes, we ship to Norway within five days."
    assert paired == Example(said, None, history, answer, topics, group)


@pytest.mark.parametrize(("file_format", "path"), SAMPLES.items())
def test_every_export_becomes_rows_without_personal_data(tmp_path: Path, file_format: Format, path: Path) -> None:
    done = import_transcripts(path, file_format, tmp_path / "rows")
    content = done.file.read_text()
    for secret in ("Ann", "Berg", "Tom", "Alder", "Lena", "Fischer", "@example.com", "22 85 50", "PRIVATE", "NOTE"):
        assert secret not in content, secret
    rows = tuple(read_imported(tmp_path / "rows"))
    unread = file_format == "zendesk"  # a ticket whose consent is unclear is a refusal and nothing else
    assert len(rows) == done.rows >= 2 and done.paired == done.rows - unread
    assert {row.origin for row in rows} == {"slack" if file_format == "slack" else "import"}
    assert sum(not row.consent for row in rows) == done.withheld == (file_format != "slack") + unread
    assert any(kind.kind == "name" for kind in done.masked)


def test_the_question_of_each_export_meets_its_answer(tmp_path: Path) -> None:
    expected = {
        "slack": ("and does that include the delivery fee?", "Only when we sent the wrong thing; else the label"),
        "zendesk": ("Where is order LM482913?\nIt was due on Monday.", "It left our warehouse this morning and"),
        "intercom": ("does the gift card expire after a year?", "No, gift cards never expire in our shops."),
    }
    for file_format, path in SAMPLES.items():
        import_transcripts(path, file_format, tmp_path / file_format)
        question, answer = expected[file_format]
        rows = tuple(read_imported(tmp_path / file_format))
        assert any(row.text == question and row.answer.startswith(answer) for row in rows), file_format


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


def test_an_id_that_is_personal_becomes_its_hash(tmp_path: Path) -> None:
    """Two customers whose address is the conversation's id stay two groups, and their addresses are not stored."""
    rows = [{**CHAT, "id": name} for name in ("ann@example.com", "tom@example.com", "c9")]
    done = import_transcripts(store(tmp_path, *rows), "jsonl", tmp_path / "rows")
    groups = {row.group for row in tuple(read_imported(tmp_path / "rows"))}
    assert len(groups) == 3 and "conversation:c9" in groups and "@" not in "".join(groups)
    assert "ann@" not in done.file.read_text()


def test_a_turn_of_invisible_characters_is_no_turn(tmp_path: Path) -> None:
    turns = [{"speaker": "customer", "text": "\u200b"}, *CHAT["turns"]]  # type: ignore[misc]
    import_transcripts(store(tmp_path, {**CHAT, "turns": turns}), "jsonl", tmp_path / "rows")
    assert len(tuple(read_imported(tmp_path / "rows"))) == 2


def test_rows_of_an_older_import_are_from_an_import_with_consent(tmp_path: Path) -> None:
    """Files stored before rows had an origin are still read."""
    (tmp_path / "old.jsonl").write_text('{"text": "hi", "intent": "greeting", "group": "g"}\n')
    assert tuple(read_imported(tmp_path)) == (Example("hi", "greeting", group="g", origin="import", consent=True),)
    (tmp_path / "old.jsonl").write_text('{"text": "hi", "intent": "greeting", "origin": "moon"}\n')
    with pytest.raises(FinetuneError, match=r"old\.jsonl line 1: \"origin\" is 'moon'"):
        tuple(read_imported(tmp_path))


@pytest.mark.parametrize("consent", [False, "nope"])
@pytest.mark.parametrize("answers", [True, False])
def test_consent_that_is_withdrawn_later_reaches_what_was_imported_before(
    tmp_path: Path, answers: bool, consent: object
) -> None:
    """Also when nothing else is left of the conversation in the newer export."""
    rows = tmp_path / "rows"
    other = {**CHAT, "id": "c2"}
    import_transcripts(store(tmp_path, CHAT, other), "jsonl", rows)
    assert all(row.consent for row in read_imported(rows))
    turns = CHAT["turns"] if answers else CHAT["turns"][1:2]  # type: ignore[index]
    import_transcripts(store(tmp_path, {**CHAT, "turns": turns, "consent": consent}, other), "jsonl", rows)
    consents = {(row.group, row.consent) for row in read_imported(rows)}
    assert consents == {("conversation:c1", False), ("conversation:c2", True)}


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.write_text("a file where the folder should be")
    with pytest.raises(FinetuneError, match="cannot be written"):
        import_transcripts(store(tmp_path, CHAT), "jsonl", folder)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_import_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    lines = [json.dumps(CHAT)] * 3
    page = '{"tickets": ' + (FIXTURES / "zendesk.jsonl").read_text().splitlines()[0]
    source = tmp_path / "broken.json"
    source.write_text("\n".join((page, *lines)))
    with pytest.raises(FinetuneError):
        import_transcripts(source, "zendesk", tmp_path / "rows")
    assert not (tmp_path / "rows").exists() or list((tmp_path / "rows").iterdir()) == []


# ----------------------------------------------------------------------------------------------- the wrong format


def example_of(folder: Path, file_format: Format) -> Path:
    if file_format == "jsonl":
        return store(folder, CHAT)
    if file_format == "csv":
        path = folder / "chats.csv"
        path.write_text(
            "conversation_id,speaker,text\nc1,customer,where is it now?\nc1,agent,It is still on its way.\n"
        )
        return path
    if file_format == "slack":
        path = folder / "slack.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in (FIXTURES / "slack").rglob("*.json"):
                archive.write(file, file.relative_to(FIXTURES / "slack").as_posix())
        return path
    return SAMPLES[file_format]


@pytest.mark.parametrize("given_format", FORMATS)
@pytest.mark.parametrize("real", FORMATS)
def test_a_wrong_format_is_refused_with_the_right_one(tmp_path: Path, real: Format, given_format: Format) -> None:
    source = example_of(tmp_path, real)
    assert likely_format(source) == real
    if real == given_format:
        assert import_transcripts(source, real, tmp_path / "rows").rows > 0
        return
    with pytest.raises(FinetuneError, match=f"it looks like {real}: give --format {real}$") as refused:
        import_transcripts(source, given_format, tmp_path / "rows")
    assert str(source) in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "rows").exists()


def test_a_folder_and_a_file_of_anything_look_like_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00\x01 hello")
    assert likely_format(tmp_path) is None and likely_format(tmp_path / "x") is None
    assert likely_format(tmp_path / "none") is None
    assert likely_format(FIXTURES / "slack") == "slack"
    assert likely_format(FIXTURES / "zendesk_page.json") == "zendesk"


# -------------------------------------------------------------------------------------------------- hostile input

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("9" * 50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ("id", "turns", "speaker", "text", "comments", "public", "author_id", "body", "plain_body", "html_body", "tags",
         "requester_id", "users", "tickets", "role", "created_at", "consent", "topics", "source", "author", "type",
         "conversation_parts", "part_type", "conversations", "name", "ts", "thread_ts", "user", "subtype", "template",
         "parent_user_id", "profile", "bot_id", "user_profile", "is_bot", "email")), inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


def survived(source: Path, folder: Path) -> None:
    """Every reader says what is wrong, or reads; what is stored can be read again."""
    for file_format in FORMATS:
        rows = folder / file_format
        try:
            for found in read_dialogues(source, file_format):
                assert isinstance(found, Dialogue | Problem)
            done = import_transcripts(source, file_format, rows)
        except FinetuneError as error:
            assert str(error)
            continue
        assert len(tuple(read_imported(rows))) >= done.rows > 0


def files(content: bytes, folder: Path) -> Iterator[Path]:
    """The content as a file of its own and as parts of a Slack export."""
    folder.mkdir(exist_ok=True)
    for place, users in (("general/2026-01-01.json", b"[]"), ("users.json", content)):
        path = folder / "export.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("users.json" if place != "users.json" else "org_users.json", users)
            archive.writestr("general/2026-01-01.json", content)
        yield path
    (folder / "plain").write_bytes(content)
    yield folder / "plain"


def truncated() -> list[bytes]:
    texts = [(FIXTURES / name).read_bytes() for name in ("zendesk.jsonl", "zendesk_page.json", "intercom.jsonl")]
    texts.append((FIXTURES / "slack" / "help-orders" / "2026-03-02.json").read_bytes())
    return [text[:length] for text in texts for length in (1, 2, 50, 399, len(text) // 2, len(text) - 3)]


NASTY = {
    "nothing": b"",
    "a null": b"null",
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"comments":' * 100_000,
    "a huge number": b'{"id": ' + b"9" * 10_000 + b', "turns": []}',
    "infinity": b'{"id": 1e999, "comments": [{"public": true, "author_id": -1e999, "body": "x"}]}',
    "lone surrogates": b'{"id": "\\ud800", "comments": [{"public": true, "author_id": 1, "body": "\\udfff hello?"}]}',
    "UTF-16": '{"id": 1, "turns": []}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf[]",
    "zip without an end": b"PK\x03\x04" + b"\x00" * 100,
    "quotes": b'conversation_id,speaker,text\n"' + b"x" * 2_000_000,
    "a long line": b'{"id": "' + b"x" * 11_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", NASTY.values(), ids=NASTY.keys())
def test_nasty_files_are_refused_or_read(tmp_path: Path, content: bytes) -> None:
    for path in files(content, tmp_path / "in"):
        survived(path, tmp_path / "rows")


def test_files_cut_off_anywhere_are_refused_or_read(tmp_path: Path) -> None:
    for content in truncated():
        for path in files(content, tmp_path / "in"):
            survived(path, tmp_path / "rows")


VALUES = JSON.map(json.dumps).map(str.encode)
LINES = st.lists(JSON, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
LISTS = st.lists(JSON, max_size=4).map(json.dumps).map(str.encode)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | VALUES | LINES | LISTS)
def test_whatever_a_file_holds_no_reader_falls_over(tmp_path: Path, content: bytes) -> None:
    for path in files(content, tmp_path / "in"):
        survived(path, tmp_path / "rows")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_real_exports_with_one_value_replaced_by_anything(tmp_path: Path, data: st.DataObject) -> None:
    """Closer to the mark than random bytes: the right shape with one wrong field."""
    name = data.draw(st.sampled_from(("zendesk.jsonl", "intercom.jsonl")))
    row = json.loads((FIXTURES / name).read_text().splitlines()[data.draw(st.integers(0, 1))])
    target: object = row
    while isinstance(target, dict | list) and target:
        key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        if not isinstance(target[key], dict | list) or data.draw(st.booleans()):  # type: ignore[index]
            target[key] = data.draw(JSON)  # type: ignore[index]
            break
        target = target[key]  # type: ignore[index]
    path = tmp_path / "changed.jsonl"
    path.write_text(json.dumps(row))
    survived(path, tmp_path / "rows")


# ------------------------------------------------------------------------------------------------------ a million


def peak_of_importing(folder: Path, conversations: int) -> int:
    source = folder / f"many-{conversations}.jsonl"
    turns = [{"speaker": "customer", "text": "what is it?" + " x" * 1000}, {"speaker": "agent", "text": "y " * 1000}]
    with source.open("w") as file:
        file.writelines(json.dumps({"id": f"c{n}", "turns": turns}) + "\n" for n in range(conversations))
    tracemalloc.start()
    done = import_transcripts(source, "jsonl", folder / "rows")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.rows == conversations
    return peak


@pytest.mark.slow
def test_an_import_holds_one_conversation_at_a_time(tmp_path: Path) -> None:
    """Five times the conversations, the same memory, but for what the collector has not got to: not 800 kB of rows."""
    peak_of_importing(tmp_path, 10)
    few, many = peak_of_importing(tmp_path, 50), peak_of_importing(tmp_path, 250)
    assert many < few + 300_000, f"{few:,} and {many:,} bytes"


@pytest.mark.slow
@pytest.mark.skipif(not STAR.exists(), reason="the public datasets are not on this machine")
def test_star_is_imported_in_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    done = import_transcripts(STAR, "jsonl", tmp_path)
    assert (done.dialogues, done.turns, done.labelled) == (4930, 86488, 37289)
    assert time.process_time() - start < 30
