"""One step after another: AdamW under a warm-up and a decay, the average of the last steps, and how it all went.

Owns what a step does to the weights, and the state that lets another process go on. Knows nothing about losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from finetune.calibrate import Floats
from finetune.recipe import TrainConfig


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went: `loss`, `accuracy` of its batches and `learning_rate`, float32 `[steps]` each."""

    loss: Floats
    accuracy: Floats
    learning_rate: Floats


class Optimiser:
    """Moves the weights for `steps` steps; `done` of them are behind it."""

    def __init__(self, weights: Sequence[torch.Tensor], steps: int, config: TrainConfig) -> None:
        self.done = 0
        self.steps = steps
        self._weights = list(weights)
        self._config = config
        self._adam = torch.optim.AdamW(self._weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._mean = [w.detach().clone() for w in self._weights]
        self._averaged = 0
        self._course = np.zeros((3, steps), np.float32)

    def step(self, loss: torch.Tensor, accuracy: float) -> None:
        """Follow the gradient of a batch's loss."""
        rate = self._config.learning_rate * warm_up_then_decay(self.done, self.steps, self._config.warm_up)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._weights, self._config.clip)
        self._adam.step()
        self._course[:, self.done] = loss.item(), accuracy, rate
        self.done += 1
        if self.done > self.steps * (1 - self._config.averaged):
            self._averaged += 1
            for mean, weight in zip(self._mean, self._weights, strict=True):
                mean.lerp_(weight.detach(), 1 / self._averaged)

    def settle(self) -> None:
        """Put the mean of the last steps in place: a flatter, steadier optimum for nothing (Izmailov et al. 2018)."""
        if self._averaged:
            for mean, weight in zip(self._mean, self._weights, strict=True):
                weight.detach().copy_(mean)

    def lately(self) -> tuple[float, float]:
        """Loss and accuracy over the last ten steps."""
        seen = self._course[:2, max(0, self.done - 10) : self.done]
        loss, accuracy = seen.mean(axis=1).tolist() if self.done else (0.0, 0.0)
        return loss, accuracy

    @property
    def curve(self) -> Curve:
        return Curve(*self._course[:, : self.done])

    def state(self) -> dict[str, torch.Tensor]:
        """All that decides the steps to come, the random numbers of torch among them; there must be one behind it."""
        moments = self._adam.state_dict()["state"]
        found = {
            "done": torch.tensor([self.done, self._averaged]),
            "course": torch.from_numpy(self._course.copy()),
            "random": torch.random.get_rng_state(),
        }
        if self._weights[0].is_cuda:
            found["random_cuda"] = torch.cuda.get_rng_state()
        for number, (weight, mean) in enumerate(zip(self._weights, self._mean, strict=True)):
            found |= {f"weight.{number}": weight, f"mean.{number}": mean}
            found |= {f"{name}.{number}": value for name, value in moments[number].items()}
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where `state` was taken, of a training of the same weights and steps."""
        self.done, self._averaged = state["done"].tolist()
        self._course[:] = state["course"].numpy()
        torch.random.set_rng_state(state["random"])
        if "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"])
        moments = {}
        with torch.no_grad():
            for number, (weight, mean) in enumerate(zip(self._weights, self._mean, strict=True)):
                weight.copy_(state[f"weight.{number}"])
                mean.copy_(state[f"mean.{number}"])
                moments[number] = {name: state[f"{name}.{number}"] for name in ("step", "exp_avg", "exp_avg_sq")}
        self._adam.load_state_dict({"state": moments, "param_groups": self._adam.state_dict()["param_groups"]})


def warm_up_then_decay(step: int, steps: int, share: float) -> float:
    """What of the learning rate a step gets: a line up over a share of the steps, then a line down to nothing."""
    warm = max(1, round(share * steps))
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
