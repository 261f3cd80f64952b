"""Reading and checking of training rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.examples import (
    MAX_LINE,
    OUT_OF_SCOPE,
    Example,
    FinetuneError,
    Origin,
    approvable,
    classed,
    fingerprint,
    may_train,
    normalised,
    prepare,
    read_examples,
)


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_of_the_contract_are_read(tmp_path: Path) -> None:
    rows = [
        {"text": " Where is my card? ", "intent": "card_arrival"},
        {"text": "tell me a joke", "intent": None},
        {
            "text": "and on Sunday?",
            "answer": "We are closed on Sunday.",
            "history": [{"speaker": "customer", "text": "When do you open?"}],
        },
    ]
    loaded = read_examples(write(tmp_path / "rows.jsonl", rows))
    assert loaded.problems == ()
    assert loaded.examples == (
        Example("Where is my card?", "card_arrival"),
        Example("tell me a joke", OUT_OF_SCOPE),
        Example("and on Sunday?", None, (("customer", "When do you open?"),), "We are closed on Sunday."),
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "intent": ', "not valid JSON"),
        ('["a"]', "is a JSON list"),
        ('{"intent": "a"}', '"text" is missing'),
        ('{"text": 5, "intent": "a"}', '"text" is a int'),
        ('{"text": "  ", "intent": "a"}', '"text" is empty'),
        ('{"text": "a\\u0000b", "intent": "a"}', "U+0000"),
        ('{"text": "a\\ud800b", "intent": "a"}', "U+D800"),
        (json.dumps({"text": "x" * 9000, "intent": "a"}), "9,000 characters"),
        ('{"text": "a", "intent": ""}', '"intent" is empty'),
        ('{"text": "a", "intent": 3}', '"intent" is a int'),
        ('{"text": "a"}', 'neither "intent" nor "answer"'),
        ('{"text": "a", "intent": "b", "history": "c"}', '"history" is a str'),
        ('{"text": "a", "intent": "b", "history": [{"speaker": "cat", "text": "c"}]}', "speaker 'cat'"),
        ('{"text": "a", "intent": "b", "history": ["c"]}', '"history" item 1'),
        ("[" * 100_000, "nested too deeply"),
        ('{"text": "' + "x" * MAX_LINE + '", "intent": "a"}', "longer than 1,000,000 bytes"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"text": "a", "intent": "b"}\n'
    path.write_text(good * 36 + line + "\n" + good)
    with pytest.raises(FinetuneError) as refused:
        read_examples(path)
    assert str(path) in str(refused.value) and "line 37" in str(refused.value) and reason in str(refused.value)
    assert "\n" not in str(refused.value)
    skipped = read_examples(path, bad_rows="skip")
    assert len(skipped.examples) == 37 and [p.line for p in skipped.problems] == [37]


def test_wrong_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a", "intent": "b"}\n{"text": "caf\xe9", "intent": "b"}\n')
    with pytest.raises(FinetuneError, match="line 2: not UTF-8"):
        read_examples(path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a", "intent": "b"}\n')
    assert len(read_examples(path).examples) == 1


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(FinetuneError, match="is empty"):
        read_examples(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FinetuneError, match="No such file"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(FinetuneError, match="directory"):
        read_examples(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Where's my order?!", "where s my  ORDER", True),
        ("hello ❤️", "Hello", True),
        ("👍", "👎", False),
        ("??", " ?? ", True),
        ("की", "का", False),
        ("ＡＢＣ", "abc", True),
    ],
)
def test_messages_are_the_same_by_their_letters_and_signs_alone_by_themselves(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) == same


def test_preparing_drops_repeats_and_reports_what_a_person_should_know() -> None:
    rows = [
        Example("Where is it?", "track"),
        Example("where is IT", "track"),
        Example("where is it!", "refund"),
        Example("my money", "refund"),
        Example("unique", "alone"),
        Example("private", "refund", consent=False),
    ]
    prepared = prepare(rows)
    assert [e.text for e in prepared.examples] == ["Where is it?", "where is it!", "my money", "unique"]
    report = "\n".join(prepared.warnings)
    assert "1 rows without consent" in report and "1 repeated rows" in report
    assert "contradictory labels for 'where is it': refund, track" in report
    assert "intents with one example" in report and "alone" in report


def test_questions_answered_in_an_agents_own_words_are_classes_of_their_own() -> None:
    rows = [
        Example("send it back", "return", topics=("returns.md",)),
        Example("tell me a joke", OUT_OF_SCOPE),
        Example("does it fold", answer="It does.", topics=("lamp.md",)),
        Example("is it loud", answer="It is not."),
        Example("may I send it back later", answer="For 30 days.", topics=("returns.md",)),
    ]
    assert [row.intent for row in classed(rows)] == ["return", OUT_OF_SCOPE, "*lamp.md", "*", None]
    assert [approvable(row.intent) for row in classed(rows)] == [True, False, False, False, False]


def test_an_intent_may_not_be_named_like_such_a_class(tmp_path: Path) -> None:
    loaded = read_examples(
        write(tmp_path / "rows.jsonl", [{"text": "a", "intent": "*b"}, {"text": "a", "intent": "b"}]), bad_rows="skip"
    )
    assert "does not begin with *" in loaded.problems[0].reason


def test_topics_are_read_and_must_be_names(tmp_path: Path) -> None:
    rows: list[object] = [{"text": "a", "intent": "b", "topics": ["c.md"]}, {"text": "a", "intent": "b", "topics": "c"}]
    loaded = read_examples(write(tmp_path / "rows.jsonl", rows), bad_rows="skip")
    assert loaded.examples[0].topics == ("c.md",)
    assert '"topics" is a str' in loaded.problems[0].reason


def test_one_intent_is_nothing_to_tell_apart() -> None:
    with pytest.raises(FinetuneError, match="at least two intents, found 1"):
        prepare([Example("a", "x"), Example("b", "x"), Example("c", OUT_OF_SCOPE)])


def test_the_fingerprint_depends_on_the_rows_and_not_on_their_order() -> None:
    rows = [Example("a", "x"), Example("b", "y", (("agent", "c"),)), Example("d", None, answer="e")]
    assert fingerprint(rows) == fingerprint(rows[::-1])
    for other in (Example("a", "z"), Example("a", OUT_OF_SCOPE), Example("a2", "x"), Example("a", None)):
        assert fingerprint([other, *rows[1:]]) != fingerprint(rows)


def test_origin_and_consent_are_read_and_default_to_an_import_with_consent(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "intent": "b"},
        {"text": "a", "intent": "b", "origin": "slack", "consent": False},
        {"text": "a", "intent": "b", "origin": None, "consent": None},
    ]
    loaded = read_examples(write(tmp_path / "rows.jsonl", rows)).examples
    assert [(e.origin, e.consent) for e in loaded] == [("import", True), ("slack", False), ("import", True)]
    for key, value in (("origin", "moon"), ("origin", 7), ("consent", "no"), ("consent", 0)):
        with pytest.raises(FinetuneError, match=f'"{key}" is {value!r}'):
            read_examples(write(tmp_path / "rows.jsonl", [{"text": "a", "intent": "b", key: value}]))


@pytest.mark.parametrize(
    ("origin", "consent", "slack", "allowed"),
    [
        ("import", True, False, True),
        ("import", False, True, False),
        ("slack", True, False, False),
        ("slack", True, True, True),
        ("slack", False, True, False),
    ],
)
def test_a_row_may_train_with_consent_and_from_slack_only_where_decided(
    origin: Origin, consent: bool, slack: bool, allowed: bool
) -> None:
    assert may_train(Example("a", "b", origin=origin, consent=consent), slack) is allowed
