"""The contrastive term against the formula of its paper, written out row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from finetune.batches import Batch
from finetune.encoder import Encoder
from finetune.recipe import TrainConfig
from finetune.student import TEMPERATURE, Student, contrast


def by_hand(rows: np.ndarray, targets: list[int]) -> float:
    """Khosla et al. 2020, equation 2, the mean over the rows that have a partner."""
    losses = []
    for i, own in enumerate(targets):
        others = [a for a in range(len(targets)) if a != i]
        partners = [p for p in others if targets[p] == own]
        if partners:
            below = sum(math.exp(float(rows[i] @ rows[a]) / TEMPERATURE) for a in others)
            losses.append(
                -sum(math.log(math.exp(float(rows[i] @ rows[p]) / TEMPERATURE) / below) for p in partners)
                / len(partners)
            )
    return float(np.mean(losses))


@pytest.mark.parametrize("targets", [[0, 0, 1, 1, 2], [0, 0, 0, 1, 1], [3, 1, 3, 1, 3]])
def test_the_contrastive_loss_is_that_of_the_paper(targets: list[int]) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert contrast(torch.tensor(rows), torch.tensor(targets)).item() == pytest.approx(by_hand(rows, targets), rel=1e-6)


def test_a_batch_without_partners_costs_nothing() -> None:
    rows = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    assert contrast(rows, torch.tensor([0, 1, 2])).item() == 0
    assert contrast(rows[:0], torch.tensor([], dtype=torch.long)).item() == 0


def test_a_batch_in_which_no_row_teaches_anything_changes_nothing(tiny: Encoder) -> None:
    student = Student(tiny, ("a", "b"), torch.eye(2, 2 * tiny.dimension), TrainConfig())
    nothing = torch.zeros((0, 3))
    batch = Batch([[2, 4, 3]], [], [], [], torch.tensor([], dtype=torch.long), [], nothing, torch.zeros((3, 32)))
    loss, accuracy = student.loss(batch)
    loss.backward()
    assert (loss.item(), accuracy) == (0, 1)
    assert not any(weight.grad is not None and weight.grad.any() for weight in student.weights)
