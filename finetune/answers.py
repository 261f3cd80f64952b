"""What resolved each question, in the space of the passages: from an agent's own words to what should be found.

Owns that step alone. Knows nothing about where passages come from: their frozen vectors are an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune.calibrate import Doubles, Floats, Integers, softmax
from finetune.encoder import Encoder
from finetune.examples import Example
from finetune.precedents import Precedents

NEAREST = 8
"""Passages among which the credit for an answer is shared: a long one speaks of several."""
SHARPNESS = 20.0
"""Credit falls by e for each .05 of likeness."""
ASKED = 0.5
"""What the question counts beside the answer: an agent's "yes, five days" alone says little."""
SPOKEN_OF = 0.5
"""Cosine of answer and passage below which the knowledge base does not hold what was said."""
MOST = 20_000
"""Questions remembered as precedents, drawn by a seed when there are more: 1.5 MB for a thousand."""
BLOCK = 32
"""Questions that are compared with all passages at once."""


@dataclass(frozen=True, slots=True)
class Passages:
    """The knowledge base as training sees it: frozen vectors `[m, d]`, and the document that each belongs to."""

    vectors: Floats
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What n questions should find: up to k of the `candidates` `[m, d]` for each, with its credit.

    `near` `[n, k]` numbers candidates; each row of `credit` `[n, k]` sums to 1, or to 0 where nothing is to be found.
    """

    candidates: Floats
    near: Integers
    credit: Floats

    @property
    def answered(self) -> Integers:
        """Numbers of the questions that have something to find."""
        return np.flatnonzero(self.credit.any(axis=1))

    def after(self, count: int) -> Targets:
        """Without those of the first `count` questions."""
        return Targets(self.candidates, self.near[count:], self.credit[count:])


def targets_of(examples: Sequence[Example], asked: Floats, encoder: Encoder, passages: Passages | None) -> Targets:
    """The passages that each answer speaks of; `asked` `[n, d]` are the frozen windows of the questions.

    Where the topics of a row name documents of the knowledge base, the passages are theirs. Without a knowledge base
    the answers themselves are what is to be found.
    """
    texts = list(dict.fromkeys(e.answer for e in examples if e.answer))
    numbers = {text: number for number, text in enumerate(texts)}
    vectors = encoder.vectors(encoder.frozen, encoder.tokenise([(text, ()) for text in texts])[0])
    near = np.zeros((len(examples), NEAREST), np.int64)
    credit = np.zeros((len(examples), NEAREST), np.float32)
    if passages is None:
        answered = [row for row, example in enumerate(examples) if example.answer]
        near[answered, 0] = [numbers[examples[row].answer] for row in answered]
        credit[answered, 0] = 1
        return Targets(vectors, near, credit)
    places: dict[str, list[int]] = {}
    for place, source in enumerate(passages.sources):
        places.setdefault(source, []).append(place)
    open_rows = []
    for row, example in enumerate(examples):
        named = np.array([place for topic in example.topics for place in places.get(topic, ())], np.int64)
        if len(named):
            among = passages.vectors[named]
            told = among @ vectors[numbers[example.answer]] if example.answer else np.zeros(len(among), np.float32)
            best, share = _shared((told + ASKED * (among @ asked[row]))[None])
            near[row, : best.shape[1]], credit[row, : best.shape[1]] = named[best[0]], share[0]
        elif example.answer and len(passages.vectors):
            open_rows.append(row)
    # Some at a time: with a million passages a table of all would not fit, and one by one takes seven times as long.
    for rows in blocks(np.array(open_rows, np.int64)):
        told = vectors[[numbers[examples[row].answer] for row in rows.tolist()]] @ passages.vectors.T
        best, share = _shared(told + ASKED * (asked[rows] @ passages.vectors.T))
        near[rows, : best.shape[1]] = best
        credit[rows, : best.shape[1]] = np.where(told.max(axis=1, initial=0)[:, None] >= SPOKEN_OF, share, 0)
    return Targets(passages.vectors, near, credit)


def _shared(likeness: Floats) -> tuple[Integers, Doubles]:
    """Of rows `[n, m]` the NEAREST, nearest first, and the credit of each."""
    kept = min(NEAREST, likeness.shape[1])
    best = np.sort(np.argpartition(-likeness, kept - 1, axis=1)[:, :kept], axis=1)
    order = np.argsort(-np.take_along_axis(likeness, best, 1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, 1)
    return best, softmax(SHARPNESS * np.take_along_axis(likeness, best, 1))


def blocks(rows: Integers) -> list[Integers]:
    """The rows, `BLOCK` at a time."""
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def remember(windows: Floats, targets: Targets, seed: int) -> Precedents:
    """The precedents among n training questions, of which `windows` `[n, d]` are the vectors."""
    rows = targets.answered
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    found = np.einsum("nk,nkd->nd", targets.credit[rows], targets.candidates[targets.near[rows]])
    return Precedents(windows[rows], np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True)))
