"""The measures of a search on questions with known answers, in NumPy alone.

Owns the formulas and where they come from. Knows nothing about documents, questions or indexes: a question is where
its right documents came, and how sure the search was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

DEPTH: Final = 5
"""How many documents of a question count as found."""
RESAMPLES: Final = 2000
LOST_PERCENT: Final = 5


@dataclass(frozen=True, slots=True)
class Places:
    """Where the right documents of one question came: `ranks` from 1 to DEPTH, ascending, of `relevant` there are."""

    ranks: tuple[int, ...]
    relevant: int

    @property
    def first(self) -> int | None:
        return self.ranks[0] if self.ranks else None

    @property
    def ndcg(self) -> float:
        """Discounted gain as a share of the most there could be (Järvelin & Kekäläinen 2002), a right document being
        worth 1: with more right documents than places the first DEPTH are perfect when all of them are right."""
        best = range(1, min(DEPTH, self.relevant) + 1)
        return _discounted(self.ranks) / _discounted(best) if self.ranks else 0.0


def _discounted(ranks: Sequence[int]) -> float:
    return math.fsum(1 / math.log2(rank + 1) for rank in ranks)


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over `queries` questions that something answers.

    One right document is enough for a customer: recall is the share of questions with any of theirs among the first,
    and the reciprocal rank is that of the first. Only `ndcg_at_5` asks for all of them.
    """

    queries: int
    recall_at_1: float
    recall_at_5: float
    mrr_at_5: float
    ndcg_at_5: float
    recall_at_1_interval: tuple[float, float]

    @classmethod
    def of(cls, places: Sequence[Places]) -> Figures:
        """Of at least one question."""
        queries, first = len(places), [place.first for place in places]
        hits = first.count(1)
        return cls(
            queries=queries,
            recall_at_1=hits / queries,
            recall_at_5=(queries - first.count(None)) / queries,
            mrr_at_5=math.fsum(1 / rank for rank in first if rank) / queries,
            ndcg_at_5=math.fsum(place.ndcg for place in places) / queries,
            recall_at_1_interval=interval(hits, queries),
        )

    def to_json(self) -> dict[str, object]:
        """Under the names that `evaluate retrieval --json` prints."""
        return {
            "queries": self.queries,
            "recall@1": self.recall_at_1,
            "recall@5": self.recall_at_5,
            "mrr@5": self.mrr_at_5,
            "ndcg@5": self.ndcg_at_5,
            "recall@1_interval": list(self.recall_at_1_interval),
        }


def interval(hits: int, rows: int, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of a share, by percentiles (Efron 1979), the same for the same counts.

    To draw `rows` rows with replacement and count the hits is to draw from a binomial: no table of draws is needed.
    """
    shares = np.random.default_rng(seed).binomial(rows, hits / rows, RESAMPLES) / rows
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auroc(answerable: Sequence[float], unanswerable: Sequence[float]) -> float | None:
    """Chance that an answerable question scores above an unanswerable one, ties counting half, by the sum of ranks
    (Mann & Whitney 1947); None without both kinds."""
    n, m = len(answerable), len(unanswerable)
    if not n or not m:
        return None
    _, inverse, counts = np.unique([*answerable, *unanswerable], return_inverse=True, return_counts=True)
    # Twice the mean rank of equal scores is a whole number: the sum is exact.
    twice = (2 * np.cumsum(counts) - counts + 1)[inverse]
    return (int(twice[:n].sum()) - n * (n + 1)) / (2 * n * m)


def rejected_at_5(answerable: Sequence[float], unanswerable: Sequence[float]) -> float | None:
    """Share of the unanswerable below the highest threshold that loses at most LOST_PERCENT of the answerable; equal
    scores are turned away together or not at all. None without both kinds."""
    if not answerable or not unanswerable:
        return None
    # With the scores in order, all below the k-th are at most k: the threshold is that score itself.
    threshold = sorted(answerable)[LOST_PERCENT * len(answerable) // 100]
    return sum(score < threshold for score in unanswerable) / len(unanswerable)
