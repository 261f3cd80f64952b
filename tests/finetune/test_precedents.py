"""Precedents against a kernel regression written out, and their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.calibrate import Floats
from finetune.examples import FinetuneError
from finetune.precedents import NEIGHBOURS, NONE, SHARPNESS, Precedents, precedents_from


def unit(rows: int, seed: int, size: int = 16) -> Floats:
    drawn = np.random.default_rng(seed).normal(size=(rows, size))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("known", [1, NEIGHBOURS, 50])
def test_expected_is_the_kernel_regression_of_the_nearest(known: int) -> None:
    precedents, asked = Precedents(unit(known, 1), unit(known, 2)), unit(7, 3)
    for question, expected in zip(asked, precedents.expected(asked), strict=True):
        likeness = [float(question @ row) for row in precedents.asked]
        nearest = sorted(range(known), key=lambda i: -likeness[i])[:NEIGHBOURS]
        trust = [np.exp(SHARPNESS * likeness[i]) for i in nearest]
        wanted = sum(
            weight / sum(trust) * max(likeness[i], 0) * precedents.found[i]
            for i, weight in zip(nearest, trust, strict=True)
        )
        assert np.allclose(expected, wanted, atol=1e-5)


def test_a_question_asked_before_expects_what_was_found_and_a_strange_one_little() -> None:
    precedents = Precedents(np.eye(16, dtype=np.float32)[:8], unit(8, 4))
    same = precedents.expected(precedents.asked[2:3])[0]
    assert np.allclose(same, precedents.found[2], atol=1e-3)
    assert not precedents.expected(np.eye(16, dtype=np.float32)[9:10]).any()


def test_without_precedents_nothing_is_expected() -> None:
    assert not NONE.expected(unit(3, 1)).any()


def test_bytes_come_back_and_those_of_another_base_are_refused() -> None:
    precedents = Precedents(unit(5, 1), unit(5, 2))
    again = precedents_from(precedents.to_bytes(), 16)
    assert np.allclose(again.asked, precedents.asked, atol=1e-3) and np.allclose(
        again.found, precedents.found, atol=1e-3
    )
    with pytest.raises(FinetuneError, match="another model; train again"):
        precedents_from(precedents.to_bytes(), 32)
    with pytest.raises(FinetuneError, match=r"precedents\.safetensors: not of this program"):
        precedents_from(b"nonsense", 16)
