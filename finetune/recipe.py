"""The recipe: every number of a training in one frozen value, with defaults that carry over from set to set.

Owns the numbers alone. Knows nothing about the loop that follows them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The recipe of reference/baselines.md; docs/decisions.md holds the numbers behind each change."""

    seed: int = 0
    held_out: float = 0.1
    most_held_out: int = 800
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: float = 0.06
    batch: int = 64
    epochs: int = 4
    least_steps: int = 60
    """Small sets run more epochs, up to three times as many, to make this many steps."""
    token_budget: int = 600_000
    """Epochs after the first end when so many tokens were trained on (0.8 ms each on one core without bf16 units)."""
    most_tokens: int = 1_500_000
    """Of a large set no more is trained on than this."""
    clip: float = 1.0
    averaged: float = 0.3
    """Share of the last steps whose weights are averaged."""
    dropout: float = 0.1
    slips: float = 0.2
    """Share of the messages that are read with slips of the keyboard."""
    scale: float = 20.0
    smoothing: float = 0.03
    few: int = 2_000
    """Sets of up to so many rows are learnt with their labels, the contrastive term and a second head, and once more
    whole after the held-out rows have been asked. Of many rows a tenth is not missed, and the rest costs accuracy."""
    contrast: float = 2.0
    batch_of_few: int = 256
    """Of few rows a batch must be large, so that rows meet others of their intent in it."""
    pairs: float = 1.0
    interrupting: float = 0.15
    """Share of the messages without history that are read as a change of subject in somebody else's conversation."""
    threads: int = 0
    """0: one for each core."""
