"""As many rows as a training can use, out of however many there are, in memory that does not grow with them.

Owns the draw, and the order in which readers beside the encoder meet what was drawn. Knows nothing about files: rows
come in one by one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.examples import Example

MOST = 50_000
"""Rows that a training reads. Of short messages 100,000 are as many as it makes steps for, of conversations 40,000."""
RARE = 50
"""Rows of an intent that are kept before others: what is asked once a week must not be lost among the daily."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that were drawn, in their order, how many they were drawn from, how many were not allowed, and how many
    of the rest are without consent."""

    examples: tuple[Example, ...]
    drawn_from: int
    left_out: int = 0
    withheld: int = 0


def sample(rows: Iterable[Example], most: int = MOST, allowed: Callable[[Example], bool] = lambda _: True) -> Sample:
    """All rows with consent that are allowed, or `most` of them, none twice: those whose hash is smallest, so that more
    rows change few of them.

    Of every intent the RARE smallest are among them first. Never more than twice `most` rows are in memory; that some
    were let go on the way changes nothing, for none of those can be among the smallest in the end (a bottom-k sketch,
    Cohen and Kaplan 2007).
    """
    kept: list[tuple[int, int, Example]] = []
    count = left_out = withheld = 0
    for example in rows:
        if not allowed(example):
            left_out += 1
            continue
        if not example.consent:
            withheld += 1
            continue
        kept.append((_hash(example), count, example))
        count += 1
        if len(kept) >= 2 * most:
            kept = _smallest(kept, most)
    if len(kept) > most:
        kept = _smallest(kept, most)
    examples = tuple(example for _, _, example in sorted(kept, key=lambda row: row[1]))
    return Sample(examples, count, left_out, withheld)


def _smallest(rows: list[tuple[int, int, Example]], most: int) -> list[tuple[int, int, Example]]:
    # Copies have one hash: where it is small, what customers get by pressing a button would crowd out all else.
    distinct: dict[tuple[object, ...], tuple[int, int, Example]] = {}
    for row in sorted(rows, key=lambda row: row[:2]):
        distinct.setdefault((row[2].text, row[2].history, row[2].intent, row[2].answer), row)
    seen: Counter[str | None] = Counter()
    first: list[tuple[int, int, Example]] = []
    others: list[tuple[int, int, Example]] = []
    for row in distinct.values():
        seen[row[2].intent] += 1
        (first if seen[row[2].intent] <= RARE else others).append(row)
    return [*first, *others][:most]


def _hash(example: Example) -> int:
    words = "\n".join((example.text, *(text for _, text in example.history)))
    return int.from_bytes(hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def shuffled(rows: int, size: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of the rows of so many steps, up to `size` each: all of them, in another order each time around."""
    random, order = np.random.default_rng(seed), np.zeros(0, np.int64)
    for _ in range(steps):
        if not len(order):
            order = random.permutation(rows)
        batch, order = order[:size], order[size:]
        yield batch
