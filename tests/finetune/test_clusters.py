"""Groups are found without being told how many, whatever all rows share and however large one group is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from finetune.clusters import CUT, Space, centroids, cluster, fit_space, place, sampled
from tests.finetune.planted import planted

Grown = list[set[int]]


def by_hand(distance: np.ndarray, cut: float) -> Grown:
    """Average linkage as the textbook has it: the two nearest clusters become one until none are near enough."""
    groups: Grown = [{i} for i in range(len(distance))]
    while len(groups) > 1:
        pairs = [(np.mean([distance[a, b] for a in x for b in y]), i, j)
                 for i, x in enumerate(groups) for j, y in enumerate(groups) if i < j]  # fmt: skip
        nearest, one, other = min(pairs)
        if nearest >= cut:
            break
        groups[one] |= groups.pop(other)
    return groups


def test_clusters_are_those_of_average_linkage_by_hand() -> None:
    rows = np.random.default_rng(3).normal(size=(30, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = by_hand(1 - rows @ rows.T, CUT)
    found = cluster(rows)
    assert 3 < len(expected) < 28, "the example must have something to find"
    assert {frozenset(np.flatnonzero(found == n).tolist()) for n in set(found)} == set(map(frozenset, expected))


@pytest.mark.parametrize("common", [0.0, 1.5, 3.0])
def test_planted_groups_are_found_however_narrow_the_field(common: float) -> None:
    rows, groups = planted([12] * 15, common=common)
    assert adjusted_rand_score(groups, cluster(fit_space(rows).project(rows))) == 1.0


def test_without_the_space_a_narrow_field_is_one_cluster() -> None:
    """The guard's counter-case: the plain cosine cannot do what the test above asks."""
    rows, _ = planted([12] * 15, common=3.0)
    assert len(set(cluster(rows))) == 1


def test_a_topic_of_most_customers_stays_one_topic() -> None:
    """Its members must not become the middle from which all is seen."""
    rows, groups = planted([300, *[10] * 12], spread=0.5)
    found = cluster(fit_space(rows).project(rows))
    largest = np.bincount(found[groups == 0]).max()
    assert largest >= 0.9 * 300
    plain = rows - rows.mean(axis=0)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    assert np.bincount(cluster(plain)[groups == 0]).max() < 0.5 * 300, "otherwise this test asks for nothing"


def test_everything_else_goes_to_the_nearest_group_or_to_none() -> None:
    rows, groups = planted([40] * 8)
    half = np.arange(0, len(rows), 2)
    space = fit_space(rows[half])
    seen = space.project(rows[half])
    means = centroids(seen, cluster(seen), np.ones(len(half), np.int64), 4)
    numbers, likeness = place(space.project(rows), means)
    assert adjusted_rand_score(groups, numbers) == 1.0 and (numbers >= 0).all()
    # The likeness is the mean cosine to the members that made the group.
    first = seen[np.flatnonzero(place(seen, means)[0] == numbers[0])]
    assert likeness[0] == pytest.approx(float((first @ space.project(rows[:1])[0]).mean()), abs=1e-5)
    assert place(-means[:1] / np.linalg.norm(means[0]), means)[0].tolist() == [-1]


def test_small_groups_leave_no_centroid() -> None:
    rows, groups = planted([10, 3, 10])
    assert len(centroids(rows, groups, np.ones(23, np.int64), 4)) == 2
    assert len(centroids(rows, groups, np.full(23, 2), 4)) == 3, "three rows that stand for six are enough"


def test_rows_that_are_all_alike_or_missing_are_no_error() -> None:
    same = np.tile(planted([1])[0], (80, 1))
    space = fit_space(same)
    assert np.isfinite(space.project(same)).all()
    few = fit_space(same[:3])
    assert few.axes.size == 0 and set(cluster(few.project(same[:3]))) == {0}
    nothing = np.zeros((0, 64), np.float32)
    assert cluster(nothing).tolist() == [] and fit_space(nothing).project(nothing).shape == (0, 64)
    assert place(same, np.zeros((0, 64), np.float32))[0].tolist() == [-1] * 80
    assert len(set(cluster(np.zeros((3, 5), np.float32)))) == 3, "a row in the middle of all is like nothing"


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    assert sampled(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    one, two = sampled(1000, 50, 7), sampled(1000, 50, 7)
    assert one.tolist() == two.tolist() == sorted(set(one.tolist())) and len(one) == 50
    assert one.tolist() != sampled(1000, 50, 8).tolist()


def test_a_space_without_axes_leaves_rows_as_they_are() -> None:
    rows, _ = planted([4])
    assert (Space(np.zeros(64, np.float32), np.zeros((0, 0), np.float32)).project(rows) == rows).all()
