"""Reading, checking, grouping and splitting of training rows."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from finetune.leaks import NEAR, SHINGLE, leak_groups, split


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


def jaccard(left: str, right: str) -> float:
    """The textbook version: sets of letter shingles."""
    first, second = (
        {t[i : i + SHINGLE] for i in range(max(1, len(t) - SHINGLE + 1))} for t in map(normalised, (left, right))
    )
    return len(first & second) / len(first | second)


def sentences(count: int, seed: int) -> list[str]:
    """Random sentences, a third of them near copies of an earlier one."""
    random_numbers = random.Random(seed)
    words = ["".join(random_numbers.choices("abcdefghij", k=random_numbers.randint(2, 8))) for _ in range(300)]
    texts: list[str] = []
    for _ in range(count):
        if texts and random_numbers.random() < 0.33:
            copied = random_numbers.choice(texts).split()
            copied[random_numbers.randrange(len(copied))] = random_numbers.choice(words)
            texts.append(" ".join(copied))
        else:
            texts.append(" ".join(random_numbers.choices(words, k=random_numbers.randint(6, 14))))
    return texts


def test_near_copies_share_a_group_as_brute_force_says() -> None:
    texts = sentences(200, seed=1)
    groups = leak_groups([Example(text, "x") for text in texts])
    near = [(i, j) for i in range(200) for j in range(i) if jaccard(texts[i], texts[j]) >= NEAR]
    assert len(near) > 40
    missed = [pair for pair in near if groups[pair[0]] != groups[pair[1]]]
    assert len(missed) <= 0.05 * len(near)
    assert len(set(groups)) > 70, "unlike sentences must not be tied together"


def test_a_conversation_is_one_group_and_short_replies_do_not_tie_conversations() -> None:
    rows = [
        Example(text, "x", group=f"conversation:{number}")
        for number, middle in enumerate(sentences(40, seed=2))
        for text in ("yes please", middle, middle[::-1] * 3, "my name is Ann")
    ]
    groups = leak_groups(rows)
    for number in range(40):
        assert len(set(groups[4 * number : 4 * number + 4])) == 1
    assert len(set(groups)) > 20


def test_no_group_stands_on_both_sides_and_intents_are_held_out_evenly() -> None:
    random_numbers = random.Random(3)
    rows = [
        Example(text, f"intent{random_numbers.randrange(5)}", group=f"c{i % 150}" if i % 2 else "")
        for i, text in enumerate(sentences(600, seed=4))
    ]
    groups = dict(zip(rows, leak_groups(rows), strict=True))
    parts = split(rows, 0.2, seed=7)
    assert not {groups[e] for e in parts.train} & {groups[e] for e in parts.held_out}
    assert sorted([*parts.train, *parts.held_out], key=str) == sorted(rows, key=str)
    total, held = Counter(e.intent for e in rows), Counter(e.intent for e in parts.held_out)
    for intent, count in total.items():
        assert 0.1 <= held[intent] / count <= 0.3


def test_a_split_depends_on_the_seed_and_not_on_the_order() -> None:
    rows = [Example(text, "ab"[i % 2]) for i, text in enumerate(sentences(200, seed=5))]
    assert set(split(rows, 0.2, 1).held_out) == set(split(rows[::-1], 0.2, 1).held_out)
    assert set(split(rows, 0.2, 1).held_out) != set(split(rows, 0.2, 2).held_out)


@pytest.mark.parametrize("seed", range(3))
def test_a_tenth_more_rows_leaves_the_held_out_rows_held_out(seed: int) -> None:
    """Else the next version would be compared with the live one on rows that the live one learnt by heart."""
    rows = [Example(text, f"intent{i % 20}", group=f"c{i % 700}") for i, text in enumerate(sentences(2000, seed=6))]
    random.Random(seed).shuffle(rows)
    before, after = split(rows[:1800], 0.2, seed), split(rows, 0.2, seed)
    kept = set(before.held_out) & set(after.held_out)
    assert 250 < len(before.held_out) < 450
    assert len(kept) >= 0.95 * len(before.held_out)
    assert len(set(after.held_out) & set(before.train)) <= 0.05 * len(after.held_out)


def test_a_smaller_share_holds_out_some_of_the_same_rows() -> None:
    """With more rows than `most_held_out` allows the share shrinks."""
    rows = [Example(text, f"intent{i % 5}") for i, text in enumerate(sentences(1000, seed=7))]
    large, small = (set(split(rows, share, 0).held_out) for share in (0.2, 0.1))
    assert small < large


def test_ten_rows_of_an_intent_give_one_or_a_group_of_two() -> None:
    rows = [Example(text, f"intent{i % 40}") for i, text in enumerate(sentences(400, seed=8))]
    held = Counter(e.intent for e in split(rows, 0.1, 0).held_out)
    assert len(held) == 40 and set(held.values()) <= {1, 2} and held.total() <= 50


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text("abcdef ", max_size=20), st.sampled_from(["x", "y", "z", None, ""])), max_size=30))
def test_every_intent_keeps_a_row_for_training(pairs: list[tuple[str, str | None]]) -> None:
    rows = [Example(text, intent) for text, intent in pairs]
    parts = split(rows, 0.3, seed=0)
    assert {e.intent for e in parts.train} == {e.intent for e in rows}
    assert len(parts.train) + len(parts.held_out) == len(rows)


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
