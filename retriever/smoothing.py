"""What a passage says whatever it is filed under: its vector drawn towards its likes under other entities.

Thirty hotels each say whether breakfast is included. Whose breakfast is meant is the subject's business; the vector
should say that it is about breakfast, and the hotel's own wording is in the way. Owns that arithmetic. Knows nothing
about queries or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retriever.passages import Vectors
from retriever.vector_index import index_of

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


def smoothed(vectors: Vectors, entities: Sequence[str]) -> Vectors:
    """`vectors` `[n, d]`, each drawn towards the mean of its `LIKES` nearest rows under other entities.

    `entities[i]` is empty for a row without one: such rows are about the company itself, one more entity. Nothing
    changes, and `vectors` themselves are returned, where the rows are no catalogue: where less than `FILED` of them
    have an entity, or what entities say of the same matter is not alike.

    Smoothing a document by its neighbours: Kurland and Lee 2004, "Corpus structure, language models, and ad hoc
    information retrieval". Rows are no longer unit vectors: one whose likes disagree scores lower, as it should.
    """
    names, entity = np.unique(np.array(entities), return_inverse=True)
    if len(names) < 2 or np.mean([bool(name) for name in entities]) < FILED:
        return vectors
    index, result = index_of(vectors), np.empty_like(vectors)
    depth = LIKES + min(OWN, int(np.bincount(entity).max()))
    likeness = np.zeros(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        near = index.search(vectors[rows], depth)[1]
        other = entity[near] != entity[rows][:, None]
        likes = other & (other.cumsum(axis=1) <= LIKES)
        found = likes.sum(axis=1, keepdims=True)
        mean = np.einsum("nk,nkd->nd", likes.astype(np.float32), vectors[near]) / np.maximum(found, 1)
        likeness[rows] = np.einsum("nd,nd->n", mean, vectors[rows])
        # Few likes are little evidence of what all of them would say.
        share = SHARE * (found / np.float32(LIKES))
        result[rows] = (1 - share) * vectors[rows] + share * mean
    return result if ALIKE <= likeness.mean() > _own(vectors, entity, names) else vectors


def _own(vectors: Vectors, entity: NDArray[np.int64], names: NDArray[np.str_]) -> float:
    """The mean cosine of two passages of the same entity; 1 where no entity has two."""
    sums = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(sums, entity, vectors)
    count = np.bincount(entity)
    several = (count > 1) & (names != "")
    if not several.any():
        return 1.0
    # The sum of all pairs is the square of the sum; what a row has with itself goes.
    pairs = (np.einsum("nd,nd->n", sums, sums) - count)[several] / (count - 1)[several]
    return float(pairs.sum() / count[several].sum())
