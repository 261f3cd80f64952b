"""Batches: seeded, of rows of like length, each question with its intent and with the passages that it should find.

Owns what a training step sees and how many steps there are. Knows nothing about losses or optimisers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.answers import Targets
from finetune.calibrate import Floats, Integers
from finetune.encoder import Encoder
from finetune.examples import Example, Question
from finetune.model import features
from finetune.recipe import TrainConfig

if TYPE_CHECKING:
    import torch

CANDIDATES = 4096
"""Passages that a question is told apart from in one step."""
SLIPS_A_WORD = 0.2
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
BESIDE = {key: row[max(0, at - 1) : at] + row[at + 1 : at + 2] for row in _ROWS for at, key in enumerate(row)}
"""The keys beside a key."""


def interrupting(examples: Sequence[Example], encoder: Encoder, seed: int) -> dict[int, list[int]]:
    """Windows of the messages that stand alone, as they would be after a conversation about something else.

    By number of the row; the conversations are other rows with their answers, and there are none without answers.
    A window that has only ever seen true follow-ups reads every message as one.
    """
    talks = [(("customer", e.text), ("agent", e.answer)) for e in examples if e.answer]
    alone = [row for row, example in enumerate(examples) if not example.history]
    if not talks or not alone:
        return {}
    drawn = np.random.default_rng(seed).integers(len(talks), size=len(alone)).tolist()
    windows = encoder.tokenise([(examples[row].text, talks[n]) for row, n in zip(alone, drawn, strict=True)])[1]
    return dict(zip(alone, windows, strict=True))


def slips(examples: Sequence[Example], seed: int) -> list[Question]:
    """The questions as hurried fingers type them: a letter dropped, doubled, swapped or hit beside, in some words."""
    random = np.random.default_rng(seed)
    return [(" ".join(_slip(word, random) for word in e.text.split(" ")), e.history) for e in examples]


def _slip(word: str, random: np.random.Generator) -> str:
    if len(word) < 4 or not word.isalpha() or not word.isascii() or random.random() > SLIPS_A_WORD:
        return word
    at = int(random.integers(1, len(word) - 1))
    match int(random.integers(4)):
        case 0:
            return word[:at] + word[at + 1 :]
        case 1:
            return word[:at] + word[at] + word[at:]
        case 2:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case _:
            beside = BESIDE.get(word[at].lower(), word[at])
            return word[:at] + beside[int(random.integers(len(beside)))] + word[at + 1 :]


@dataclass(slots=True)
class Batch:
    """Token ids and targets of up to `config.batch` rows, on the device."""

    last: list[list[int]]
    window: list[list[int]]
    """Only of the rows `longer`, those with a conversation before them."""
    longer: list[int]
    known: list[int]
    """Rows with an intent; `targets` has one for each."""
    targets: torch.Tensor
    asked: list[int]
    """Rows with an answer; `right` `[asked, c]` is the credit of each of the `candidates` `[c, d]`."""
    right: torch.Tensor
    candidates: torch.Tensor


class Batches:
    """Seeded batches of rows of like length, for as many epochs as the recipe and the token budget allow."""

    def __init__(
        self,
        examples: Sequence[Example],
        frozen: tuple[Floats, Floats],
        targets: Targets,
        encoder: Encoder,
        config: TrainConfig,
    ) -> None:
        self._config = config
        self._device = encoder.device
        self._last, self._window = encoder.tokenise([(e.text, e.history) for e in examples])
        self._interrupting = interrupting(examples, encoder, config.seed) if config.interrupting else {}
        self._slips = encoder.tokenise(slips(examples, config.seed)) if config.slips else None
        self._frozen = frozen
        self.labels = tuple(sorted({e.intent for e in examples if e.intent is not None}))
        numbers = {label: number for number, label in enumerate(self.labels)}
        self._classes = [-1 if e.intent is None else numbers[e.intent] for e in examples]
        self._targets = targets
        self._costs = [len(a) + (len(b) if a is not b else 0) for a, b in zip(self._last, self._window, strict=True)]
        self._costs += [int(config.interrupting * len(window)) for window in self._interrupting.values()]
        self._per_epoch = per_epoch = -(-len(examples) // config.batch)
        epochs = min(3 * config.epochs, max(config.epochs, -(-config.least_steps // per_epoch)))
        cost = sum(self._costs) / per_epoch
        repeated = max(per_epoch, int(config.token_budget / cost))
        self.steps = max(1, min(epochs * per_epoch, repeated, int(config.most_tokens / cost)))

    def class_means(self) -> torch.Tensor:
        import torch

        rows = features(*self._frozen)
        classes = np.array(self._classes)
        means = np.stack([rows[classes == number].mean(axis=0) for number in range(len(self.labels))])
        return torch.from_numpy(means)

    def after(self, done: int) -> Iterator[Batch]:
        """The batches from step `done` on: a step's batch depends on the seed and its number alone."""
        for epoch in range(done // self._per_epoch, -(-self.steps // self._per_epoch)):
            batches = self._epoch(np.random.default_rng([self._config.seed, epoch]))
            first = epoch * self._per_epoch
            for step in range(max(done, first), min(self.steps, first + len(batches))):
                yield self._batch(batches[step - first], np.random.default_rng([self._config.seed, epoch, step]))

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

        lasts, windows = [self._last[i] for i in rows], [self._window[i] for i in rows]
        if self._slips is not None:
            for k in np.flatnonzero(random.random(len(rows)) < self._config.slips).tolist():
                lasts[k], windows[k] = self._slips[0][rows[k]], self._slips[1][rows[k]]
        if self._interrupting:
            for k in np.flatnonzero(random.random(len(rows)) < self._config.interrupting).tolist():
                windows[k] = self._interrupting.get(rows[k], windows[k])
        longer = [k for k in range(len(rows)) if windows[k] is not lasts[k]]
        known = [k for k, i in enumerate(rows) if self._classes[i] >= 0]
        asked = [k for k, i in enumerate(rows) if self._targets.credit[i].any()]
        columns, right = self._search(rows, asked, random)
        return Batch(
            lasts,
            [windows[k] for k in longer],
            longer,
            known,
            torch.tensor([self._classes[rows[k]] for k in known], device=self._device),
            asked,
            torch.from_numpy(right).to(self._device),
            torch.from_numpy(self._targets.candidates[columns]).to(self._device),
        )

    def _search(self, rows: list[int], asked: list[int], random: np.random.Generator) -> tuple[Integers, Floats]:
        """The candidates that the batch chooses among, and each asked row's credit for them.

        All of a small knowledge base; of a large one what is right for some row of the batch and a random draw.
        """
        near, credit = (table[[rows[k] for k in asked]] for table in (self._targets.near, self._targets.credit))
        size = len(self._targets.candidates)
        drawn = np.arange(size) if size <= CANDIDATES else random.choice(size, CANDIDATES, replace=False)
        columns = np.union1d(drawn, near)
        right = np.zeros((len(asked), len(columns)), np.float32)
        # Added and not put: where a row has fewer targets the rest are 0 without credit, and so may be a target.
        np.add.at(right, (np.arange(len(asked))[:, None], np.searchsorted(columns, near)), credit)
        return columns, right
