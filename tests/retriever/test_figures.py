"""Each figure against another way to compute it: all pairs, all resamples, scikit-learn, a hand-made DCG."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from retriever.figures import Figures, Places, auroc, interval, rejected_at_5


def scores(count: int, seed: int, levels: int) -> list[float]:
    """Few levels make many ties."""
    return (np.random.default_rng(seed).integers(0, levels, count) / levels).tolist()


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_auroc_is_the_share_of_pairs_in_order_ties_counting_half(levels: int) -> None:
    yes, no = scores(37, 1, levels), scores(23, 2, levels)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(yes, no)]
    assert auroc(yes, no) == sum(pairs) / len(pairs)
    assert auroc(yes, no) == pytest.approx(roc_auc_score([1] * 37 + [0] * 23, yes + no))
    assert auroc(no, yes) == pytest.approx(1 - sum(pairs) / len(pairs))


def test_without_both_kinds_there_is_nothing_to_tell_apart() -> None:
    for yes, no in (([], []), ([0.5], []), ([], [0.5])):
        assert auroc(yes, no) is None
        assert rejected_at_5(yes, no) is None


@pytest.mark.parametrize("levels", [1, 3, 20, 1000])
@pytest.mark.parametrize("count", [1, 19, 20, 21, 40, 99, 100])
def test_rejected_is_the_most_any_threshold_turns_away_at_five_per_cent_lost(count: int, levels: int) -> None:
    yes, no = scores(count, count, levels), scores(50, 7, levels)
    shares = [
        sum(score < threshold for score in no) / len(no)
        for threshold in {*yes, *no}
        # In whole numbers: 5 of 100 are 5 %, whatever 0.05 is in binary.
        if 100 * sum(score < threshold for score in yes) <= 5 * len(yes)
    ]
    assert rejected_at_5(yes, no) == max(shares)


def test_a_threshold_loses_one_of_twenty_and_none_of_nineteen() -> None:
    low = [0.1] + [0.9] * 19
    assert rejected_at_5(low, [0.5, 0.5, 0.95, 0.1]) == 0.75
    assert rejected_at_5(low[:-1], [0.5, 0.5, 0.95, 0.1]) == 0.0


@pytest.mark.parametrize("relevant", [1, 2, 3, 5, 8])
def test_ndcg_is_that_of_scikit_learn(relevant: int) -> None:
    """20 documents in a random order, `relevant` of them right: scikit-learn sees them all, we the first five."""
    rng = np.random.default_rng(relevant)
    for _ in range(20):
        gains = rng.permutation([1] * relevant + [0] * (20 - relevant))
        places = Places(tuple((np.flatnonzero(gains[:5]) + 1).tolist()), relevant)
        assert places.ndcg == pytest.approx(ndcg_score([gains], [np.arange(20, 0, -1)], k=5))


def test_ndcg_by_hand() -> None:
    """Two right documents at 1 and 3: 1 + 1/2 of at most 1 + 1/log2(3)."""
    assert Places((1, 3), 2).ndcg == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    assert Places((1, 2, 3, 4, 5), 9).ndcg == 1
    assert Places((), 3).ndcg == 0


def test_means_by_hand() -> None:
    figures = Figures.of([Places((1,), 1), Places((2, 3), 2), Places((), 4), Places((1, 2), 2)])
    assert (figures.queries, figures.recall_at_1, figures.recall_at_5) == (4, 0.5, 0.75)
    assert figures.mrr_at_5 == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    second = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))
    assert figures.ndcg_at_5 == pytest.approx((1 + second + 0 + 1) / 4)


@pytest.mark.slow
@pytest.mark.parametrize(("hits", "rows"), [(134, 176), (3, 20), (500, 1000)])
def test_interval_is_that_of_rows_drawn_with_replacement(hits: int, rows: int) -> None:
    right = np.arange(rows) < hits
    drawn = np.random.default_rng(5).integers(0, rows, (20_000, rows))
    low, high = np.quantile(right[drawn].mean(axis=1), [0.025, 0.975])
    # Shares are steps of 1/rows, and 2,000 resamples leave the ends a step or two uncertain.
    assert interval(hits, rows) == pytest.approx((low, high), abs=max(1 / rows, 0.006))


def test_interval_is_the_same_every_time_and_has_no_width_where_all_agree() -> None:
    assert interval(134, 176) == interval(134, 176) != interval(134, 176, seed=1)
    assert interval(7, 7) == (1, 1)
    assert interval(0, 7) == (0, 0)


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """300 samples of 150 questions with a true share of .7; of 95 % some 2 % either way is chance."""
    samples = np.random.default_rng(3).binomial(150, 0.7, 300).tolist()
    held = [low <= 0.7 <= high for low, high in (interval(hits, 150, seed=n) for n, hits in enumerate(samples))]
    assert 0.91 <= sum(held) / len(held) <= 0.98
