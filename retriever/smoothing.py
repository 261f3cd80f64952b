"""What a passage says whatever it is filed under: its vector drawn towards its likes under other entities.

Thirty hotels each say whether breakfast is included. Whose breakfast is meant is the subject's business; the vector
should say that it is about breakfast, and the hotel's own wording is in the way. Owns that arithmetic. Knows nothing
about queries or files.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from retriever.blocks import Blocks
from retriever.lines import Order
from retriever.marks import Column
from retriever.passages import Vectors
from retriever.vector_index import VectorIndex, index_of

LIKES: Final = 30
SHARE: Final = 0.5
"""Weight of the likes' mean against the passage's own vector: docs/decisions.md has the numbers of both."""
FILED: Final = 0.5
"""The share of passages under entities from which a knowledge base is a catalogue of such, and not articles."""
OWN: Final = 100
"""How many passages of the same entity may stand nearer than its likes and are looked past."""
ALIKE: Final = 0.5
"""The mean cosine of passages to their likes from which they are a catalogue, if that of the same entity is lower: an
article's passages are about each other, those of a hotel about other hotels'."""
BLOCK: Final = 256


def smoothed(vectors: Vectors, entities: Column) -> Vectors:
    """`vectors` `[n, d]`, each drawn towards the mean of its `LIKES` nearest rows under other entities.

    A row without an entity is about the company itself, one more entity. Nothing changes, and `vectors` themselves are
    returned, where the rows are no catalogue: where they are not `filed`, or what entities say of the same matter is
    not alike.

    Smoothing a document by its neighbours: Kurland and Lee 2004, "Corpus structure, language models, and ad hoc
    information retrieval". Rows are no longer unit vectors: one whose likes disagree scores lower, as it should.
    """
    if not filed(entities):
        return vectors
    entity, index, result = entities.numbers, index_of(vectors), np.empty_like(vectors)
    depth = LIKES + min(OWN, int(np.bincount(entity).max()))
    likeness = np.zeros(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        near = index.search(vectors[rows], depth)[1]
        result[rows], mean = _drawn(vectors[rows], vectors[near], entity[near] != entity[rows][:, None])
        likeness[rows] = np.einsum("nd,nd->n", mean, vectors[rows])
    return result if ALIKE <= likeness.mean() > _own(vectors, entities) else vectors


def filed(entities: Column) -> bool:
    """Whether there are several entities, and enough of the rows are filed under one."""
    named = np.array([bool(name) for name in entities.names])
    return len(named) > 1 and float(named[entities.numbers].mean()) >= FILED


def joining(added: Vectors, order: Order, entities: Column, index: VectorIndex, unsmoothed: Blocks) -> Vectors:
    """`added` `[n, d]`, rows that come to a catalogue, drawn towards their likes as `smoothed` would draw them.

    `index` holds the rows of the catalogue smoothed, `unsmoothed` as the encoder made them. `order` says what is left
    of them and then of `added`, as `entities` names it. What is left stays where it is: what is new moves a mean of
    thirty by little.
    """
    size = index.size
    under = np.full(size + len(added), -1, np.int32)
    under[order] = entities.numbers
    left, new, result = order[order < size], index_of(added), np.empty_like(added)
    for start in range(0, len(added), BLOCK):
        asked = added[start : start + BLOCK]
        before = index.search(asked, LIKES + OWN, left)[1] if len(left) else np.empty((len(asked), 0), np.int64)
        beside = new.search(asked, LIKES + OWN)[1]
        near = np.concatenate([unsmoothed[before], added[beside]], axis=1)
        entity = under[np.concatenate([before, size + beside], axis=1)]
        nearest = np.argsort(-np.einsum("nd,nkd->nk", asked, near), axis=1, kind="stable")
        near, entity = np.take_along_axis(near, nearest[:, :, None], 1), np.take_along_axis(entity, nearest, 1)
        own = under[size + start : size + start + len(asked)]
        result[start : start + BLOCK], _ = _drawn(asked, near, entity != own[:, None])
    return result


def _drawn(vectors: Vectors, near: Vectors, other: NDArray[np.bool_]) -> tuple[Vectors, Vectors]:
    """`vectors` `[n, d]` drawn towards their likes, and the mean of these: of `near` `[n, k, d]`, the nearest first,
    those that are filed under `other` entities `[n, k]`."""
    likes = other & (other.cumsum(axis=1) <= LIKES)
    found = likes.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkd->nd", likes.astype(np.float32), near) / np.maximum(found, 1)
    # Few likes are little evidence of what all of them would say.
    share = SHARE * (found / np.float32(LIKES))
    return (1 - share) * vectors + share * mean, mean


def _own(vectors: Vectors, entities: Column) -> float:
    """The mean cosine of two passages of the same entity; 1 where no entity has two."""
    sums = np.zeros((len(entities.names), vectors.shape[1]), np.float32)
    np.add.at(sums, entities.numbers, vectors)
    count = np.bincount(entities.numbers)
    several = (count > 1) & np.array([bool(name) for name in entities.names])
    if not several.any():
        return 1.0
    # The sum of all pairs is the square of the sum; what a row has with itself goes.
    pairs = (np.einsum("nd,nd->n", sums, sums) - count)[several] / (count - 1)[several]
    return float(pairs.sum() / count[several].sum())
