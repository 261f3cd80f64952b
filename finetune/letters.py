"""A second reader beside the encoder: what the letters of a message, and of the lines before it, say about its intent.

Letter n-grams within words, hashed, under a linear softmax (Joulin et al. 2017). It sees names, codes and fixed
wordings that a sentence vector blurs, errs elsewhere than the encoder does, and costs a fraction of a millisecond. Owns
its features, its fit and its bytes. Knows nothing about encoders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.calibrate import Floats, Integers, floored_log_chances
from finetune.examples import FinetuneError, Question, normalised
from finetune.sampling import shuffled

BITS = 13
BUCKETS = 1 << BITS
"""Hashed n-grams of a field: 4,096 cost a tenth of a point, 16,384 gain nothing (docs/decisions.md)."""
SHORTEST, LONGEST = 2, 5
FIELDS = 4
"""The message; our line before it; our last LINES lines; the customer's last LINES lines before it. Each has its own
buckets, and of rows without any conversation there is only the first."""
LINES = 8
MAX_CHARACTERS = 1_000
"""Of each field the last ones are read."""

EPOCHS = 6
LEAST_STEPS = 150
BATCH = 256
RATE = 0.05
DECAY = 0.1


@dataclass(frozen=True, slots=True)
class Letters:
    """A linear softmax of hashed n-grams for c labels: `weight` int8 `[f * BUCKETS, c]` times `scale` `[c]`, `bias`.

    `rarity` `[f * BUCKETS]` says how rare an n-gram is (inverse document frequency).
    """

    rarity: Floats
    weight: NDArray[np.int8]
    scale: Floats
    bias: Floats

    def chances(self, questions: Sequence[Question]) -> Floats:
        """The log of each label's chance, `[n, c]`, by letters alone; not below FLOOR."""
        logits = np.empty((len(questions), len(self.bias)), np.float32)
        fields = len(self.rarity) // BUCKETS
        for row, question in enumerate(questions):
            places, values = _weighted(_counted(question, fields), self.rarity)
            logits[row] = (values @ self.weight[places].astype(np.float32)) * self.scale + self.bias
        return floored_log_chances(logits)

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        return bytes(save({name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}))

    @classmethod
    def from_bytes(cls, content: bytes, labels: int) -> Letters:
        """Raises FinetuneError when the tensors are not those of a reader for so many labels."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(content)
            letters = cls(*(tensors[name] for name in _TENSORS))
        except (SafetensorError, KeyError, ValueError) as error:
            raise FinetuneError(f"letters.safetensors: not of this program ({error}); train again") from error
        rows = len(letters.rarity)
        shapes = tuple(tensors[name].shape for name in _TENSORS)
        if shapes != ((rows,), (rows, labels), (labels,), (labels,)) or rows not in (BUCKETS, FIELDS * BUCKETS):
            raise FinetuneError(f"letters.safetensors: shaped {shapes} for another model; train again")
        return letters


_TENSORS = ("rarity", "weight", "scale", "bias")

Counted = list[tuple[Integers, Floats]]
"""Of each field the buckets of its n-grams, and how much their count weighs."""


def _counted(question: Question, fields: int) -> Counted:
    found = []
    for field, text in enumerate(_texts(question)[:fields]):
        buckets, counts = np.unique(_grams(text), return_counts=True)
        if len(buckets):
            places = buckets.astype(np.int64) + BUCKETS * field
            found.append((places, np.asarray(1 + np.log(counts), np.float32)))
    return found


def _texts(question: Question) -> tuple[str, ...]:
    message, history = question
    ours = [text for speaker, text in history if speaker != "customer"]
    theirs = [text for speaker, text in history if speaker == "customer"]
    return message, *(" ".join(lines) for lines in (ours[-1:], ours[-LINES:], theirs[-LINES:]))


def _grams(text: str) -> NDArray[np.uint64]:
    """The buckets of all n-grams of each word, which begins and ends with a blank."""
    plain = normalised(text[-MAX_CHARACTERS:])
    if not plain:
        return np.zeros(0, np.uint64)
    letters = np.frombuffer(f" {plain} ".encode("utf-32-le", "replace"), np.uint32)
    within = letters != ord(" ")
    inside, found = np.ones(len(letters) - 1, bool), []
    for size, hashes in enumerate(hashed_runs(letters, LONGEST), 1):
        if size > SHORTEST:
            # A blank may begin or end an n-gram, but not stand between two words in it.
            inside = inside[: len(hashes)] & within[size - 2 :][: len(hashes)]
        if size >= SHORTEST:
            found.append((hashes >> np.uint64(64 - BITS))[inside[: len(hashes)]])
    return np.concatenate(found)


def hashed_runs(letters: NDArray[np.uint32], longest: int) -> Iterator[NDArray[np.uint64]]:
    """Of each size from 1 to `longest` the hashes of all runs of so many letters; the high bits are the best ones.

    A polynomial of the letters, spread by a multiplication (Knuth 6.4); overflow is meant.
    """
    wide = letters.astype(np.uint64)
    runs = np.zeros_like(wide)
    for size in range(min(longest, len(wide))):
        runs = runs[: len(wide) - size] * np.uint64(1_000_003) + wide[size:]
        yield runs * np.uint64(0x9E3779B97F4A7C15)


def _weighted(counted: Counted, rarity: Floats) -> tuple[Integers, Floats]:
    """Buckets and values of a question: each field of length 1, all of them together too."""
    if not counted:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    values = [weight * rarity[places] for places, weight in counted]
    unit = [v / (np.linalg.norm(v) * np.sqrt(len(values))) for v in values]
    return np.concatenate([places for places, _ in counted]), np.concatenate(unit).astype(np.float32)


def fit_letters(questions: Sequence[Question], labels: Sequence[str], seed: int) -> Letters:
    """Fit on questions and the label of each: seeded batches, a rate that falls to 0. Columns are labels, sorted."""
    import torch
    from torch.nn import functional

    fields = FIELDS if any(history for _, history in questions) else 1
    counted = [_counted(question, fields) for question in questions]
    seen = np.zeros(fields * BUCKETS)
    for row in counted:
        for places, _ in row:
            seen[places] += 1
    rarity = (1 + np.log((1 + len(counted)) / (1 + seen))).astype(np.float32)
    # Buckets that no row holds would stay 0 whatever is learnt: they take part neither in steps nor in time.
    held = np.flatnonzero(seen)
    place = np.cumsum(seen > 0) - 1
    rows = [(place[places], values) for places, values in (_weighted(row, rarity) for row in counted)]
    names, targets = np.unique(np.array(labels), return_inverse=True)
    wanted = torch.from_numpy(targets.astype(np.int64))
    weight = torch.zeros(len(held), len(names), requires_grad=True)
    bias = torch.zeros(len(names), requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=RATE, betas=(0.9, 0.99), weight_decay=DECAY)
    steps = max(LEAST_STEPS, EPOCHS * -(-len(rows) // BATCH))
    for step, drawn in enumerate(shuffled(len(rows), BATCH, steps, seed)):
        batch = drawn.tolist()
        starts = torch.tensor([0, *(len(rows[i][0]) for i in batch[:-1])]).cumsum(0)
        buckets = torch.from_numpy(np.concatenate([rows[i][0] for i in batch]))
        values = torch.from_numpy(np.concatenate([rows[i][1] for i in batch]))
        logits = functional.embedding_bag(buckets, weight, starts, mode="sum", per_sample_weights=values)
        optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(logits + bias, wanted[batch]))
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        optimiser.step()
    learnt = np.zeros((fields * BUCKETS, len(names)), np.float32)
    learnt[held] = weight.detach().numpy()
    scale = np.maximum(np.abs(learnt).max(axis=0), 1e-9) / 127
    return Letters(rarity, np.rint(learnt / scale).astype(np.int8), scale.astype(np.float32), bias.detach().numpy())
