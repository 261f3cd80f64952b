"""A third reader, of many chats: where a conversation stands, by its lines in their order.

A recurrent network over the vectors of the lines, ours and the customer's, as in Hybrid Code Networks (Williams et al.
2017, arXiv 1702.03274). Which reply is next hangs on what was asked, offered and refused before; a vector of the last
lines together blurs that. Owns its fit and its bytes. Knows nothing about encoders: vectors come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.calibrate import Floats, Integers, floored_log_chances
from finetune.examples import FinetuneError, Question
from finetune.sampling import shuffled

FILE = "flow.safetensors"
LEAST_ROWS = 2_500
"""Rows with a conversation before them that it takes: of 2,500 it gains half a point, of 1,000 nothing."""
LINES = 8
"""Lines before the message; all of a conversation, up to 24, gain nothing."""
NOBODY, CUSTOMER, US = range(3)
"""Who speaks a line; where a conversation has not so many lines, nobody does."""

SIZE = 256
SPREAD = np.float32(8)
"""Unit vectors times this: numbers as large as those inside the network."""
EPOCHS = 8
LEAST_STEPS = 500
BATCH = 128
RATE = 2e-3
WARM_UP = 100
DECAY = 0.05
DROPOUT = 0.3
SMOOTHING = 0.05

Vectors = Callable[[Sequence[str]], Floats]
"""Vectors `[n, d]` of the beginnings of lines."""


@dataclass(frozen=True, slots=True)
class Talks:
    """The lines of n conversations, their messages last.

    `places` `[n, LINES + 1]` says which row of `vectors` `[u, d]` a line is, `speakers` `[n, LINES + 1]` who speaks it.
    """

    vectors: Floats
    places: Integers
    speakers: Integers


def talks(questions: Sequence[Question], messages: Floats, vectors: Vectors) -> Talks:
    """The conversations of questions; `messages` `[n, d]` are the vectors of what is asked, without what was before."""
    lines = sorted({line for _, history in questions for _, line in history[-LINES:]})
    count = len(questions)
    rows = {line: count + number for number, line in enumerate(lines)}
    places, speakers = (np.zeros((count, LINES + 1), np.int64) for _ in range(2))
    for row, (_, history) in enumerate(questions):
        for column, (speaker, line) in enumerate(history[-LINES:], LINES - min(LINES, len(history))):
            places[row, column] = rows[line]
            speakers[row, column] = CUSTOMER if speaker == "customer" else US
    places[:, LINES], speakers[:, LINES] = np.arange(count), CUSTOMER
    return Talks(np.vstack([messages, vectors(lines)]) if lines else messages, places, speakers)


@dataclass(frozen=True, slots=True)
class Flow:
    """A gated recurrent network (Cho et al. 2014) for c labels; names and shapes of `tensors` are those of torch."""

    tensors: dict[str, Floats]

    def chances(self, talks: Talks) -> Floats:
        """The log of each label's chance, `[n, c]`; not below FLOOR."""
        vectors = SPREAD * talks.vectors
        lines = np.asarray(vectors @ self.tensors["line.weight"].T + self.tensors["line.bias"], np.float32)
        asked = vectors[talks.places[:, LINES]]
        logits = np.asarray(asked @ self.tensors["message.weight"].T + self.tensors["message.bias"], np.float32)
        for start in range(0, len(logits), 1024):
            rows = slice(start, start + 1024)
            logits[rows] += (
                self._state(lines, talks.places[rows], talks.speakers[rows]) @ self.tensors["state.weight"].T
            )
        return floored_log_chances(logits)

    def _state(self, lines: Floats, places: Integers, speakers: Integers) -> Floats:
        """What the network holds after the last line, `[n, SIZE]`."""
        state = np.zeros((len(places), SIZE), np.float32)
        w_in, w_own = (self.tensors[f"network.weight_{part}_l0"].T for part in ("ih", "hh"))
        b_in, b_own = (self.tensors[f"network.bias_{part}_l0"] for part in ("ih", "hh"))
        said = np.where(speakers[..., None] == NOBODY, np.float32(0), lines[places])
        seen = np.maximum(said + self.tensors["speaker.weight"][speakers], 0) @ w_in + b_in
        for column in range(places.shape[1]):
            reset, keep, new = np.split(seen[:, column], 3, axis=1)
            own_reset, own_keep, own_new = np.split(state @ w_own + b_own, 3, axis=1)
            keep = _sigmoid(keep + own_keep)
            state = (1 - keep) * np.tanh(new + _sigmoid(reset + own_reset) * own_new) + keep * state
        return state

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        return bytes(save({name: np.ascontiguousarray(t, np.float16) for name, t in self.tensors.items()}))

    @classmethod
    def from_bytes(cls, content: bytes, labels: int, dimension: int) -> Flow:
        """Raises FinetuneError when the tensors are not those of a reader for so many labels and this base."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = {name: tensor.astype(np.float32) for name, tensor in load(content).items()}
        except (SafetensorError, ValueError) as error:
            raise FinetuneError(f"{FILE}: not of this program ({error}); train again") from error
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != _shapes(labels, dimension):
            raise FinetuneError(f"{FILE}: shaped {shapes} for another model; train again")
        return cls(tensors)


def _shapes(labels: int, dimension: int) -> dict[str, tuple[int, ...]]:
    return {
        **{"line.weight": (SIZE, dimension), "line.bias": (SIZE,), "speaker.weight": (3, SIZE)},
        **{f"network.weight_{part}_l0": (3 * SIZE, SIZE) for part in ("ih", "hh")},
        **{f"network.bias_{part}_l0": (3 * SIZE,) for part in ("ih", "hh")},
        **{"state.weight": (labels, SIZE), "message.weight": (labels, dimension), "message.bias": (labels,)},
    }


def _sigmoid(values: Floats) -> Floats:
    return np.asarray((1 + np.tanh(values / 2)) / 2, np.float32)


def fit_flow(
    talks: Talks, labels: Sequence[str], seed: int, progress: Callable[[int, int], None] = lambda done, steps: None
) -> Flow:
    """Fit on conversations and the label of each: seeded batches, a rate that falls to 0. Columns: labels, sorted."""
    import torch
    from torch import nn
    from torch.nn import functional

    names, targets = np.unique(np.array(labels), return_inverse=True)
    places, speakers, wanted, vectors = map(
        torch.from_numpy, (talks.places, talks.speakers, targets.astype(np.int64), talks.vectors)
    )
    dimension, steps = vectors.shape[1], max(LEAST_STEPS, EPOCHS * -(-len(wanted) // BATCH))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.ModuleDict(
            {
                "line": nn.Linear(dimension, SIZE),
                "speaker": nn.Embedding(3, SIZE),
                "network": nn.GRU(SIZE, SIZE, batch_first=True),
                "state": nn.Linear(SIZE, len(names), bias=False),
                "message": nn.Linear(dimension, len(names)),
            }
        )
        optimiser = torch.optim.AdamW(layers.parameters(), lr=RATE, weight_decay=DECAY)
        for step, batch in enumerate(shuffled(len(wanted), BATCH, steps, seed)):
            rows, who = float(SPREAD) * vectors[places[batch]], speakers[batch]
            said = layers["line"](rows) * (who != NOBODY).unsqueeze(-1)
            seen = functional.dropout(functional.relu(said + layers["speaker"](who)), DROPOUT)
            state = functional.dropout(layers["network"](seen)[0][:, -1], DROPOUT)
            logits = layers["state"](state) + layers["message"](functional.dropout(rows[:, -1], DROPOUT))
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(logits, wanted[batch], label_smoothing=SMOOTHING))
            nn.utils.clip_grad_norm_(layers.parameters(), 1.0)
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
            optimiser.step()
            progress(step + 1, steps)
    learnt = {name: tensor.numpy() for name, tensor in layers.state_dict().items()}
    # As they are stored: what is calibrated on their word must read the same words.
    return Flow({name: tensor.astype(np.float16).astype(np.float32) for name, tensor in learnt.items()})
