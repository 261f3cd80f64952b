"""Which vectors belong together, without being told how many groups there are.

Owns the space in which likeness is judged, the clustering of a sample and the placing of everything else. Knows
nothing about what the vectors stand for. Memory is bounded by the sample: all other rows pass through in chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune.calibrate import Floats, Integers

SAMPLE = 6_000
"""Rows that are clustered; average linkage needs the distances of all pairs (some 500 MB at this size)."""
CHUNK = 4_096
DIMENSIONS = 50
"""Main axes that are kept. With CUT, chosen on six draws of BANKING77 and CLINC150 (docs/decisions.md): 50 axes at .45
and 100 at .6 are the same clusters; without any projection the best cut is .4 on one set and .6 on the other."""
CUT = 0.45
"""Mean distance (1 - cosine) up to which two clusters are one."""
CROWD = 0.7
"""Rows with at least this cosine share one vote in what the middle of all rows is."""
FEW = 50
"""With fewer rows there is no middle to speak of: likeness is the plain cosine."""


@dataclass(frozen=True, slots=True)
class Space:
    """The main axes of a company's questions, seen from their middle.

    A shop's questions are all about shopping: with the plain cosine everything is like everything in a narrow field
    and nothing in a wide one. Seen from the middle, one cut serves both. `axes` `[d, k]`, empty for the plain cosine.
    """

    middle: Floats
    axes: Floats

    def project(self, vectors: Floats) -> Floats:
        """Unit rows `[n, k]`; a row in the very middle is zero and like nothing."""
        if not self.axes.size:
            return np.asarray(vectors, np.float32)
        seen = (np.asarray(vectors, np.float32) - self.middle) @ self.axes
        length = np.linalg.norm(seen, axis=1, keepdims=True)
        return np.asarray(np.divide(seen, length, out=np.zeros_like(seen), where=length > 1e-6))


def fit_space(vectors: Floats) -> Space:
    """Principal components of a sample of unit rows `[n, d]`, a crowd of near copies counting once.

    Otherwise the topic that half of the customers ask about would be the middle, and fall apart.
    """
    dimension = vectors.shape[1]
    if len(vectors) < FEW:
        return Space(np.zeros(dimension, np.float32), np.zeros((0, 0), np.float32))
    crowd = np.concatenate(
        [((vectors[start : start + CHUNK] @ vectors.T) >= CROWD).sum(axis=1) for start in range(0, len(vectors), CHUNK)]
    )
    votes = 1.0 / np.maximum(crowd, 1)
    votes /= votes.sum()
    middle = votes @ vectors.astype(np.float64)
    centred = vectors - middle
    _, axes = np.linalg.eigh((centred * votes[:, None]).T @ centred)
    return Space(middle.astype(np.float32), axes[:, ::-1][:, :DIMENSIONS].astype(np.float32))


def cluster(rows: Floats, cut: float = CUT) -> Integers:
    """A cluster number for each of n unit rows, by average linkage up to a mean distance of `cut`.

    UPGMA (Sokal and Michener 1958) as scikit-learn has it. Rows like no other get a number of their own.
    """
    if len(rows) < 2:
        return np.zeros(len(rows), np.int64)
    from sklearn.cluster import AgglomerativeClustering

    # A zero row has no cosine; its distance to all is 1, as to a row at a right angle.
    distance = np.maximum(1 - rows @ rows.T, 0)
    np.fill_diagonal(distance, 0)
    model = AgglomerativeClustering(None, metric="precomputed", linkage="average", distance_threshold=cut)
    return np.asarray(model.fit(distance).labels_, np.int64)


def centroids(rows: Floats, numbers: Integers, weights: Integers, least: int) -> Floats:
    """Means `[c, k]` of the clusters whose rows weigh at least `least` together, not of unit length.

    The product of a unit row and a mean is the row's mean cosine to the members: what average linkage goes by.
    """
    heavy = np.flatnonzero(np.bincount(numbers, weights) >= least)
    return np.array([rows[numbers == number].mean(axis=0) for number in heavy], np.float32).reshape(
        len(heavy), rows.shape[1]
    )


def place(rows: Floats, means: Floats, cut: float = CUT) -> tuple[Integers, Floats]:
    """The nearest of the means for each of n unit rows, -1 where none is within the cut; and the likeness to it."""
    if not len(means):
        return np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.float32)
    likeness = rows @ means.T
    best = likeness.argmax(axis=1)
    found = likeness[np.arange(len(rows)), best]
    return np.where(found >= 1 - cut, best, -1), found


def sampled(count: int, most: int, seed: int) -> Integers:
    """All numbers below `count`, or `most` of them drawn by the seed, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
