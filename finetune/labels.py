"""What a label says by itself: "card_arrival" read as words is one more example of its intent.

Owns the words of a label and whether a company's labels tell anything. Knows nothing about training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import Example, approvable

TELLING = 0.5
"""Share of labels that must be nearer to the mean of their own examples than to any other's (BANKING77 .90, CLINC150
.85, with two examples an intent .75 and .74); codes and numbers are not, and say nothing."""

_BETWEEN = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")


def spoken(label: str) -> str:
    """The words of a label: "cardArrival", "card_arrival" and "card/arrival" are all "card arrival"."""
    return " ".join(filter(None, _BETWEEN.split(label))).lower()


def label_examples(examples: Sequence[Example]) -> tuple[Example, ...]:
    """One row for each intent whose label has words: the label itself."""
    labels = sorted({e.intent for e in examples if e.intent is not None and approvable(e.intent)})
    return tuple(Example(spoken(label), label, origin="label") for label in labels if spoken(label))


def telling(names: Floats, labels: Sequence[str | None], rows: Floats, intents: Sequence[str | None]) -> bool:
    """Whether the labels say what their intents are about.

    `names` `[c, d]` are unit vectors of the spoken `labels`, `rows` `[n, d]` those of examples with these `intents`.
    """
    if len(labels) < 2:
        return False
    numbers = {label: number for number, label in enumerate(labels)}
    own = np.array([numbers.get(intent, -1) for intent in intents])
    means = np.zeros((len(labels), rows.shape[1]), np.float32)
    np.add.at(means, own[own >= 0], rows[own >= 0])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    return float(((names @ means.T).argmax(axis=1) == np.arange(len(labels))).mean()) >= TELLING
