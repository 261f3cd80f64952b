"""Vectors with groups planted in them, so that what is found can be compared with what is there."""

from __future__ import annotations

import numpy as np

from finetune.calibrate import Floats, Integers


def planted(sizes: list[int], spread: float = 0.25, common: float = 1.5, seed: int = 0) -> tuple[Floats, Integers]:
    """Unit rows of one group for each size, and their group numbers.

    Groups of one are strangers. `common` is what all rows share, as all questions to one shop do; `spread` the noise
    around a group's middle.
    """
    random = np.random.default_rng(seed)
    dimension = 64
    middles = random.normal(size=(len(sizes), dimension))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    shared = random.normal(size=dimension)
    shared *= common / np.linalg.norm(shared)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    noise = random.normal(size=(len(groups), dimension)) * spread / np.sqrt(dimension)
    rows = shared + middles[groups] + noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), groups
