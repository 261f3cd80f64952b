"""What a version remembers of its training questions, to tell how near a new one is to anything it was taught.

Owns which rows are kept, nearness to them and their bytes. Knows nothing about encoders or what nearness decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import OUT_OF_SCOPE

NEIGHBOURS = 5
MOST = 4_600
"""Rows in scope that are remembered, 60 of each of 77 intents: with 15 of each a quarter of BANKING77 is told from the
rest at AUROC .905, with 60 at .940, with all at .945 (frozen vectors, rows of train). More would not fit 5 MB."""
STRANGERS = 1_500
"""Out-of-scope rows that are remembered: they are of all kinds, so few would stand for the others."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Remembered features, float32 `[m, 2d]` on the grid of eight bits, or `[m, d]` where both halves are `alike`."""

    rows: Floats
    alike: bool

    def nearness(self, rows: Floats) -> Floats:
        """Mean cosine of each row to its nearest remembered ones, `[n]`; 0 when nothing is remembered.

        Columns behind the features are not looked at.
        """
        result = np.zeros(len(rows), np.float32)
        if not len(self.rows):
            return result
        width, count = self.rows.shape[1], min(NEIGHBOURS, len(self.rows))
        asked = rows[:, :width] + rows[:, width : 2 * width] if self.alike else rows[:, :width]
        for start in range(0, len(asked), 1024):
            likeness = asked[start : start + 1024] @ self.rows.T
            result[start : start + 1024] = np.partition(likeness, -count, axis=1)[:, -count:].mean(axis=1)
        return result

    def tensors(self, name: str) -> dict[str, Any]:
        scales = _scales(self.rows)
        return {name: np.rint(self.rows / scales).astype(np.int8), f"{name}_scales": scales}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], name: str, dimension: int) -> Memory:
        """Raises KeyError or ValueError when the tensors are none of a memory in this dimension."""
        rows = tensors[name].astype(np.float32) * tensors[f"{name}_scales"].astype(np.float32)
        if not rows.size:
            return NOTHING
        if rows.ndim != 2 or rows.shape[1] not in (dimension, 2 * dimension):
            raise ValueError(f"{name} is shaped {rows.shape}, not [rows, {dimension}] or [rows, {2 * dimension}]")
        return cls(rows, rows.shape[1] == dimension)


NOTHING = Memory(np.zeros((0, 0), np.float32), alike=False)


def remembered(rows: Floats) -> Memory:
    """A memory of features `[m, 2d]`, rounded to what its bytes can hold: a hundredth of what neighbours differ by."""
    alike = halves_alike(rows)
    kept = rows[:, : rows.shape[1] // 2] if alike else rows
    scales = _scales(kept)
    return Memory(np.asarray(np.rint(kept / scales) * scales, np.float32), alike)


def halves_alike(rows: Floats) -> bool:
    """Whether message and window are the same in all features `[m, 2d]`: no row has any history."""
    half = rows.shape[1] // 2
    return bool(np.array_equal(rows[:, :half], rows[:, half:]))


def memorable(intents: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Which training rows to remember: MOST in scope, as evenly over the intents as these allow, and STRANGERS.

    Drawn by the seed, in file order.
    """
    seen: dict[str, int] = {}
    turns: list[tuple[int, int]] = []
    for index in np.random.default_rng(seed).permutation(len(intents)).tolist():
        seen[intents[index]] = seen.get(intents[index], 0) + 1
        turns.append((seen[intents[index]], index))
    inside = sorted(turn for turn in turns if intents[turn[1]] != OUT_OF_SCOPE)[:MOST]
    outside = sorted(turn for turn in turns if intents[turn[1]] == OUT_OF_SCOPE)[:STRANGERS]
    return sorted(index for _, index in inside), sorted(index for _, index in outside)


def _scales(rows: Floats) -> Floats:
    """One step of eight bits for each row, `[m, 1]`."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0) / 127
    return np.asarray(np.where(largest > 0, largest, 1), np.float32)
