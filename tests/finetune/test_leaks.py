"""Near copies and turns of one conversation never stand on both sides of a split, and a split lasts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.calibrate import choose_threshold
from finetune.examples import OUT_OF_SCOPE, Example, normalised
from finetune.leaks import ENOUGH_UNKNOWN, LEAST_UNKNOWN, NEAR, SHINGLE, leak_groups, split


def jaccard(left: str, right: str) -> float:
    """The textbook version: sets of letter shingles."""
    first, second = (
        {t[i : i + SHINGLE] for i in range(max(1, len(t) - SHINGLE + 1))} for t in map(normalised, (left, right))
    )
    return len(first & second) / len(first | second)


def distinct(seed: int) -> Iterator[str]:
    """Random sentences of which no two are alike."""
    random_numbers = random.Random(seed)
    while True:
        yield " ".join("".join(random_numbers.choices("abcdefghijklmnopqrst", k=6)) for _ in range(6))


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "least", "most"), [(30, 1, 4), (37, 1, 5), (38, 19, 19), (60, 30, 30), (100, 39, 39), (800, 40, 120)]
)
def test_of_rows_out_of_scope_enough_are_held_out_to_promise_something(unknown: int, least: int, most: int) -> None:
    """A tenth of a hundred promises nothing at 5 %, and what may promise nothing answers nothing."""
    texts = islice(distinct(seed=9), unknown + 1000)
    rows = [Example(text, OUT_OF_SCOPE if i < unknown else f"intent{i % 20}") for i, text in enumerate(texts)]
    held = Counter(e.intent for e in split(rows, 0.1, 0).held_out)
    assert least <= held[OUT_OF_SCOPE] <= most
    assert all(2 <= held[f"intent{i}"] <= 8 for i in range(20))


def test_so_many_out_of_scope_are_what_the_promise_needs() -> None:
    """How many of n rows that nobody should answer are answered at 5 %, and whether anything is promised of them."""

    def chosen(n: int) -> tuple[bool, int]:
        score, nobody = np.linspace(0, 1, n), np.zeros(n, bool)
        threshold = choose_threshold(score, nobody, nobody, 0.05).threshold
        return bool(np.isfinite(threshold)), int((score >= threshold).sum())

    assert [chosen(LEAST_UNKNOWN - 1), chosen(LEAST_UNKNOWN)] == [(False, 0), (True, 0)]
    assert [chosen(ENOUGH_UNKNOWN - 1), chosen(ENOUGH_UNKNOWN)] == [(True, 0), (True, 1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text("abcdef ", max_size=20), st.sampled_from(["x", "y", "z", None, ""])), max_size=30))
def test_every_intent_keeps_a_row_for_training(pairs: list[tuple[str, str | None]]) -> None:
    rows = [Example(text, intent) for text, intent in pairs]
    parts = split(rows, 0.3, seed=0)
    assert {e.intent for e in parts.train} == {e.intent for e in rows}
    assert len(parts.train) + len(parts.held_out) == len(rows)
