"""What is remembered tells how near a question is, in few bytes, and is drawn fairly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from finetune import memory
from finetune.calibrate import Floats
from finetune.examples import OUT_OF_SCOPE
from finetune.memory import NEIGHBOURS, NOTHING, Memory, memorable, remembered


def unit(count: int, width: int, seed: int = 0) -> Floats:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def nearest(asked: Floats, taught: Floats) -> list[float]:
    return [float(np.mean(sorted((taught @ row).tolist())[-NEIGHBOURS:])) for row in asked]


def test_nearness_is_the_mean_cosine_to_the_nearest() -> None:
    taught, asked = unit(400, 64), unit(1_100, 64, seed=1)
    assert remembered(taught).nearness(asked) == pytest.approx(nearest(asked, taught), abs=2e-3), "to eight bits"
    beyond = np.hstack([asked, unit(1_100, 9)])
    assert np.array_equal(remembered(taught).nearness(beyond), remembered(taught).nearness(asked))


def test_rows_with_equal_halves_take_half_the_room_and_are_as_near() -> None:
    taught, asked = np.tile(unit(300, 32), 2) / np.sqrt(2, dtype=np.float32), unit(50, 64, seed=1)
    half = remembered(taught)
    assert half.alike and half.rows.shape == (300, 32)
    assert half.nearness(asked) == pytest.approx(nearest(asked, taught), abs=2e-3)


def test_nothing_is_near_to_nothing_and_few_are_all_neighbours() -> None:
    assert not NOTHING.nearness(unit(3, 8)).any()
    assert remembered(np.zeros((2, 8), np.float32)).nearness(unit(3, 8)).tolist() == [0, 0, 0]
    taught, asked = unit(2, 8), unit(3, 8, seed=1)
    assert remembered(taught).nearness(asked) == pytest.approx((asked @ taught.T).mean(axis=1), abs=2e-3)


@pytest.mark.parametrize("rows", [unit(30, 16), np.tile(unit(30, 8), 2)])
def test_a_memory_survives_its_bytes(rows: Floats) -> None:
    one = remembered(rows)
    tensors = one.tensors("memory")
    assert tensors["memory"].dtype == np.int8
    again = Memory.from_tensors(tensors, "memory", 8)
    assert again.alike is one.alike and np.allclose(again.rows, one.rows, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="memory is shaped"):
        Memory.from_tensors(tensors, "memory", 9)
    assert not len(Memory.from_tensors(NOTHING.tensors("memory"), "memory", 8).rows)


def test_common_intents_make_room_for_rare_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST", 100)
    monkeypatch.setattr(memory, "STRANGERS", 20)
    intents = ["common"] * 500 + ["usual"] * 300 + ["rare"] * 8 + [OUT_OF_SCOPE] * 30
    near, far = memorable(intents, 0)
    assert Counter(intents[i] for i in near) == {"common": 46, "usual": 46, "rare": 8}
    assert len(far) == 20 and {intents[i] for i in far} == {OUT_OF_SCOPE}
    assert near == sorted(near) and far == sorted(far) and max(near) > 800
    assert memorable(intents, 0) == (near, far) != memorable(intents, 1)
    assert memorable(["a", "b", OUT_OF_SCOPE], 0) == ([0, 1], [2]), "of few all"
