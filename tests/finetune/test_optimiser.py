"""Steps: the schedule, the average of the last ones, and going on from a saved state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.optimiser import Optimiser, warm_up_then_decay
from finetune.recipe import TrainConfig

CONFIG = TrainConfig(learning_rate=0.1, averaged=0.3)


def descend(optimiser: Optimiser, weight: torch.Tensor, steps: int) -> list[np.ndarray]:
    seen = []
    for _ in range(steps):
        noise = torch.rand(3)  # stands for dropout: the state must hold the random numbers too
        optimiser.step(((weight - 1 - 0.1 * noise) ** 2).sum(), 0.5)
        seen.append(weight.detach().numpy().copy())
    return seen


def fresh() -> torch.Tensor:
    return torch.zeros(3, requires_grad=True)


def test_it_settles_on_the_mean_of_the_last_steps() -> None:
    with torch.random.fork_rng():
        weight = fresh()
        optimiser = Optimiser([weight], 10, CONFIG)
        seen = descend(optimiser, weight, 10)
        optimiser.settle()
    assert np.allclose(weight.detach().numpy(), np.mean(seen[7:], axis=0), atol=1e-6)


def test_without_averaging_the_last_step_stays() -> None:
    with torch.random.fork_rng():
        weight = fresh()
        optimiser = Optimiser([weight], 10, replace(CONFIG, averaged=0.0))
        seen = descend(optimiser, weight, 10)
        optimiser.settle()
    assert np.array_equal(weight.detach().numpy(), seen[-1])


@pytest.mark.parametrize("done", [1, 5, 8, 10])
def test_a_restored_descent_takes_the_same_steps(done: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        weight = fresh()
        whole = Optimiser([weight], 10, CONFIG)
        state = {}
        for step in range(1, 11):
            descend(whole, weight, 1)
            if step == done:
                state = {name: tensor.clone() for name, tensor in whole.state().items()}
        whole.settle()
        again = fresh()
        resumed = Optimiser([again], 10, CONFIG)
        resumed.restore(state)
        torch.rand(7)  # what another process has drawn before
        resumed.restore(state)
        descend(resumed, again, 10 - done)
        resumed.settle()
    assert torch.equal(weight, again)
    for one, other in zip(
        (whole.curve.loss, whole.curve.learning_rate), (resumed.curve.loss, resumed.curve.learning_rate), strict=True
    ):
        assert np.array_equal(one, other)


def test_the_learning_rate_climbs_and_falls_on_straight_lines() -> None:
    rates = [warm_up_then_decay(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert rates[10:] == pytest.approx([(100 - i) / 90 for i in range(10, 101)])
