"""Batches: seeded, of rows of like length, each question beside its answer and the wrong answers nearest to it.

Owns what a training step sees and how many steps there are. Knows nothing about losses or optimisers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.calibrate import Floats, Integers
from finetune.examples import Example
from finetune.model import Encoder, features
from finetune.recipe import TrainConfig

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Batch:
    """Token ids and targets of up to `config.batch` rows, on the device."""

    last: list[list[int]]
    window: list[list[int]]
    """Only of the rows `longer` that have history."""
    longer: list[int]
    known: list[int]
    """Rows with an intent; `targets` has one for each."""
    targets: torch.Tensor
    asked: list[int]
    """Rows with an answer; `right` points into `answers` `[a, d]`, hard negatives behind."""
    right: torch.Tensor
    answers: torch.Tensor
    frozen_last: torch.Tensor
    frozen_window: torch.Tensor


class Batches:
    """Seeded batches of rows of like length, for as many epochs as the recipe and the token budget allow."""

    def __init__(
        self, examples: Sequence[Example], frozen: tuple[Floats, Floats], encoder: Encoder, config: TrainConfig
    ) -> None:
        self._config = config
        self._device = encoder.device
        self._last, self._window = encoder.tokenise([(e.text, e.history) for e in examples])
        self._frozen = frozen
        self.labels = tuple(sorted({e.intent for e in examples if e.intent is not None}))
        numbers = {label: number for number, label in enumerate(self.labels)}
        self._targets = [-1 if e.intent is None else numbers[e.intent] for e in examples]
        self._answer, self._answers, self._hard = _answers(examples, frozen[0], encoder, config)
        self._costs = [len(a) + (len(b) if a is not b else 0) for a, b in zip(self._last, self._window, strict=True)]
        per_epoch = -(-len(examples) // config.batch)
        epochs = min(2 * config.epochs, max(config.epochs, -(-config.least_steps // per_epoch)))
        affordable = max(1, int(config.token_budget / (sum(self._costs) / per_epoch)))
        self.steps = min(epochs * per_epoch, affordable)

    def class_means(self) -> torch.Tensor:
        import torch

        rows = features(*self._frozen)
        targets = np.array(self._targets)
        means = np.stack([rows[targets == number].mean(axis=0) for number in range(len(self.labels))])
        return torch.from_numpy(means)

    def __iter__(self) -> Iterator[Batch]:
        random = np.random.default_rng(self._config.seed)
        given = 0
        while given < self.steps:
            for rows in self._epoch(random):
                if given == self.steps:
                    return
                given += 1
                yield self._batch(rows, random)

    def _epoch(self, random: np.random.Generator) -> list[list[int]]:
        """Shuffled rows, sorted by length within slabs of 16 batches, the batches shuffled again."""
        size = self._config.batch
        order = random.permutation(len(self._last)).tolist()
        batches = []
        for start in range(0, len(order), 16 * size):
            slab = order[start : start + 16 * size]
            slab.sort(key=lambda i: len(self._window[i]))
            batches += [slab[i : i + size] for i in range(0, len(slab), size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def _batch(self, rows: list[int], random: np.random.Generator) -> Batch:
        import torch

        longer = [k for k, i in enumerate(rows) if self._window[i] is not self._last[i]]
        known = [k for k, i in enumerate(rows) if self._targets[i] >= 0]
        asked = [k for k, i in enumerate(rows) if self._answer[i] >= 0]
        own = [self._answer[rows[k]] for k in asked]
        columns = list(dict.fromkeys(own))
        position = {answer: column for column, answer in enumerate(columns)}
        for k in asked:
            hard = self._hard[rows[k]]
            drawn = random.permutation(hard)[: self._config.hard_negatives].tolist()
            columns += [answer for answer in drawn if answer not in position]
        return Batch(
            [self._last[i] for i in rows],
            [self._window[rows[k]] for k in longer],
            longer,
            known,
            torch.tensor([self._targets[rows[k]] for k in known], device=self._device),
            asked,
            torch.tensor([position[answer] for answer in own], device=self._device),
            torch.from_numpy(self._answers[columns]).to(self._device),
            torch.from_numpy(self._frozen[0][rows]).to(self._device),
            torch.from_numpy(self._frozen[1][rows]).to(self._device),
        )


def _answers(
    examples: Sequence[Example], asked: Floats, encoder: Encoder, config: TrainConfig
) -> tuple[list[int], Floats, dict[int, Integers]]:
    """Number of each row's answer (-1: none), the frozen answer vectors, and each row's nearest wrong answers."""
    texts = list(dict.fromkeys(e.answer for e in examples if e.answer))
    numbers = {text: number for number, text in enumerate(texts)}
    own = [numbers[e.answer] if e.answer else -1 for e in examples]
    if not texts or not config.pairs:
        return [-1] * len(own), np.zeros((0, encoder.dimension), np.float32), {}
    vectors = encoder.vectors(encoder.frozen, encoder.tokenise([(text, ()) for text in texts])[0])
    hard: dict[int, Integers] = {}
    for row, number in enumerate(own):
        if number >= 0:
            nearest = np.argsort(-(vectors @ asked[row]))[: 4 * config.hard_negatives + 1]
            hard[row] = nearest[nearest != number]
    return own, vectors, hard
