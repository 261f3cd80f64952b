"""Rows held out without leaks: near copies and rows of one conversation stay on one side, and on it for good.

Owns the groups and the split. Knows nothing about files or models.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.examples import OUT_OF_SCOPE, Example, normalised


@dataclass(frozen=True, slots=True)
class Split:
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


SHINGLE = 4
BANDS, BAND_ROWS = 8, 3
NEAR = 0.7
"""Texts whose sets of 4-letter shingles have a Jaccard similarity of at least this are near copies."""

LEAST_UNKNOWN, ENOUGH_UNKNOWN = 19, 39
"""Held-out rows nobody should answer that keep a promise of 5 % with none of them answered, and with one."""


def leak_groups(examples: Sequence[Example]) -> list[int]:
    """A group number per row; rows of one conversation, and near copies of one another, share it.

    A conversation is compared as a whole: "yes please" or "my name is Ann" occur in every second one and must not
    tie all conversations together. Near copies are found with MinHash bands (Broder 1997), then checked exactly.
    """
    if not examples:
        return []
    units: dict[tuple[str, int], list[int]] = {}
    for index, example in enumerate(examples):
        key = (example.group, -1) if example.group else ("", index)
        units.setdefault(key, []).append(index)
    rows = list(units.values())
    texts = [normalised(" ".join(examples[i].text for i in unit)) for unit in rows]
    parents = list(range(len(rows)))

    def root(unit: int) -> int:
        while parents[unit] != unit:
            parents[unit] = parents[parents[unit]]
            unit = parents[unit]
        return unit

    shingles = [_shingles(text) for text in texts]
    for bucket in _candidates(shingles):
        for position, left in enumerate(bucket):
            for right in bucket[position + 1 : position + 65]:
                if root(left) != root(right) and _jaccard(shingles[left], shingles[right]) >= NEAR:
                    parents[root(right)] = root(left)
    groups = [0] * len(examples)
    for unit, indexes in enumerate(rows):
        for index in indexes:
            groups[index] = root(unit)
    return groups


def _shingles(text: str) -> NDArray[np.uint32]:
    data = text.encode()
    grams = {zlib.crc32(data[i : i + SHINGLE]) for i in range(max(1, len(data) - SHINGLE + 1))}
    return np.fromiter(grams, np.uint32, len(grams))


def _jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    shared = np.intersect1d(left, right, assume_unique=True).size
    return float(shared / (left.size + right.size - shared))


def _candidates(shingles: Sequence[NDArray[np.uint32]]) -> Iterator[list[int]]:
    """Buckets of rows that agree in one band of MinHash values and so are probably near copies."""
    random_numbers = np.random.default_rng(0)
    odd = random_numbers.integers(0, 2**63, BANDS * BAND_ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.stack([(grams[:, None] * odd >> np.uint64(32)).min(axis=0) for grams in shingles])
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for row, values in enumerate(signatures[:, band * BAND_ROWS : (band + 1) * BAND_ROWS]):
            buckets[values.tobytes()].append(row)
        yield from (bucket for bucket in buckets.values() if len(bucket) > 1)


def split(examples: Sequence[Example], share: float, seed: int) -> Split:
    """Hold out about `share` of every intent, whole leak groups at a time.

    A hash of its own name says of each group whether it is held out, whatever other rows there are: so a later split
    of more rows holds out nearly the same ones, and two versions can be compared on rows neither was trained on.
    Only where chance gives an intent less than half of its share, or half as much again, the next group in the order
    of hashes is taken or left. Every intent keeps at least one row for training, so an intent with one leak group is
    in training only. The answer depends on the rows and the seed, not on the order of the rows.

    Of rows out of scope more are held out where half of them are enough to promise anything (`choose_threshold`).
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(leak_groups(examples)):
        groups[group].append(index)
    left = Counter(e.intent for e in examples)
    most = {intent: max(1, int(1.5 * share * count)) for intent, count in left.items()}
    least = {intent: max(1, int(0.5 * share * count)) for intent, count in left.items()}
    if (unknown := min(ENOUGH_UNKNOWN, left[OUT_OF_SCOPE] // 2)) >= LEAST_UNKNOWN:
        least[OUT_OF_SCOPE] = max(unknown, least[OUT_OF_SCOPE])
    queue = sorted((_place([examples[i] for i in rows], seed), rows) for rows in groups.values())
    held: set[int] = set()

    def take(rows: list[int], wanted: Mapping[str | None, int]) -> None:
        inside = Counter(examples[i].intent for i in rows)
        useful = sum(min(max(0, wanted[intent]), count) for intent, count in inside.items())
        if 2 * useful < len(rows) + 1 or any(left[intent] <= count for intent, count in inside.items()):
            return
        held.update(rows)
        for intent, count in inside.items():
            left[intent] -= count
            most[intent] -= count
            least[intent] -= count

    for (place, _), rows in queue:
        if place < share:
            take(rows, most)
    for _, rows in queue:
        if not held.issuperset(rows):
            take(rows, least)
    return Split(
        tuple(e for i, e in enumerate(examples) if i not in held),
        tuple(e for i, e in enumerate(examples) if i in held),
    )


def _place(group: Sequence[Example], seed: int) -> tuple[float, str]:
    """A number in 0..1 by the seed and the name of a leak group, and the name.

    A conversation is named by its id, which stays when it goes on; other rows by their smallest text.
    """
    name = min(example.group or normalised(example.text) for example in group)
    digest = hashlib.sha256(f"{seed}\n{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, name
