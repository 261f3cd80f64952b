"""Of any number of rows training reads a bounded draw: fair, the same again, and never without what is rare."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from finetune.examples import Example
from finetune.sampling import RARE, sample


def rows(count: int, rare: int = 0) -> Iterator[Example]:
    """Rows of two common intents, three to one, and a few of a rare one at the end."""
    for n in range(count - rare):
        yield Example(f"message {n}", "common" if n % 4 else "other")
    for n in range(rare):
        yield Example(f"once in a while {n}", "rare")


@pytest.mark.parametrize("count", [0, 1, 999, 1000])
def test_what_fits_is_kept_in_its_order(count: int) -> None:
    drawn = sample(rows(count), 1000)
    assert drawn.examples == tuple(rows(count)) and drawn.drawn_from == count


def test_a_draw_is_as_large_as_it_may_be_fair_and_in_order() -> None:
    drawn = sample(rows(20_000), 2_000)
    assert len(drawn.examples) == 2_000 and drawn.drawn_from == 20_000
    numbers = [int(e.text.split()[1]) for e in drawn.examples]
    assert numbers == sorted(numbers)
    # Half of the rows come from the first half of the file, give or take four standard deviations.
    assert abs(sum(n < 10_000 for n in numbers) - 1_000) < 90
    assert abs(Counter(e.intent for e in drawn.examples)["common"] - 1_500) < 80


def test_rare_intents_are_kept_whole_wherever_they_stand() -> None:
    assert Counter(e.intent for e in sample(rows(20_000, RARE), 1_000).examples)["rare"] == RARE
    everything = list(rows(20_000, RARE))
    Random(0).shuffle(everything)
    assert Counter(e.intent for e in sample(everything, 1_000).examples)["rare"] == RARE


def test_copies_of_one_message_do_not_crowd_out_the_others() -> None:
    """Whatever the hash of the message: of five buttons one is bound to be among the smallest."""
    buttons = [Example(f"button {n}", "common") for n in range(5) for _ in range(3_000)]
    everything = [*rows(4_000), *buttons]
    Random(0).shuffle(everything)
    drawn = sample(everything, 1_000).examples
    assert len(drawn) == len(set(drawn)) == 1_000
    other = [Example("button 0", "other"), Example("button 0", "common", answer="yes")]
    assert set(sample([*buttons, *other], 1_000).examples) == {*buttons, *other}


def test_rows_without_consent_take_no_places() -> None:
    refused = [replace(row, consent=False) for row in rows(5_000)]
    drawn = sample([*refused, *rows(1_000)], 1_000, lambda row: row.text != "message 0")
    assert drawn.examples == tuple(rows(1_000))[1:]
    assert (drawn.drawn_from, drawn.left_out, drawn.withheld) == (999, 2, 4_999)


def test_the_draw_does_not_depend_on_the_order_of_the_rows() -> None:
    shuffled = list(rows(9_000, 60))
    Random(1).shuffle(shuffled)
    one, other = sample(rows(9_000, 60), 1_000), sample(shuffled, 1_000)
    assert set(one.examples) == set(other.examples)


def test_more_rows_draw_nearly_the_same_ones() -> None:
    before, after = (set(sample(rows(count), 1_000).examples) for count in (10_000, 11_000))
    assert len(before & after) > 860, "the share that is drawn falls by a tenth, and no more of the old rows leave"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        sample(islice(rows(10**9), count), 500)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(40_000) < 1.2 * peak(4_000)
