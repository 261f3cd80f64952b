"""The question side while it learns: LoRA on the encoder, a prototype for each label, and what they are judged by.

Owns the losses and the adapter's files. Knows nothing about steps, schedules or where rows come from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.batches import Batch
from finetune.encoder import Encoder
from finetune.examples import approvable
from finetune.model import Head
from finetune.recipe import TrainConfig

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.1
"""Of the contrastive term: .05 and .1 are alike (docs/decisions.md)."""


class Student:
    """The question side while it learns: LoRA on the encoder, a prototype for each label, and a learnt scale."""

    def __init__(
        self, encoder: Encoder, labels: tuple[str, ...], class_means: torch.Tensor, config: TrainConfig
    ) -> None:
        import torch

        self._encoder = encoder
        self._config = config
        self.lora = _with_lora(encoder, config)
        self.lora.train()
        means = torch.nn.functional.normalize(class_means, dim=-1)
        self._prototypes = torch.nn.Parameter(means.to(encoder.device))
        self._log_scale = torch.nn.Parameter(torch.tensor(math.log(config.scale), device=encoder.device))
        self.weights = [p for p in self.lora.parameters() if p.requires_grad] + [self._prototypes, self._log_scale]
        self._intents = torch.tensor([approvable(label) for label in labels], device=encoder.device)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, float]:
        """The loss of a batch, of intents and of answers to be found, and its accuracy."""
        import torch
        from torch.nn import functional

        pooled = self._vectors([*batch.last, *batch.window])
        last = pooled[: len(batch.last)]
        window = last
        if batch.window:
            window = last.clone()
            window[batch.longer] = pooled[len(batch.last) :]
        # Tied to the weights: a batch in which no row teaches anything has a gradient too, of zeros.
        loss, accuracy = 0.0 * last.sum(), 1.0
        if len(batch.targets):
            joined = torch.cat([last, window], dim=1)[batch.known] / math.sqrt(2)
            logits = functional.dropout(joined, self._config.dropout) @ self._scaled().T
            loss = functional.cross_entropy(logits, batch.targets, label_smoothing=self._config.smoothing)
            if self._config.contrast:
                alike = self._intents[batch.targets]
                loss = loss + self._config.contrast * contrast(joined[alike], batch.targets[alike])
            accuracy = (logits.argmax(1) == batch.targets).float().mean().item()
        if self._config.pairs and len(batch.asked):
            loss = loss + self._config.pairs * pull(last, window, batch, self._config.scale)
        return loss, accuracy

    def _vectors(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """In bf16 the adapters multiply as the base does, their weights stay in float32: peft alone would turn every
        input into float32 for them, which costs a quarter of a step."""
        import torch
        from peft.helpers import disable_input_dtype_casting

        if self._encoder.dtype == torch.float32:
            return self._encoder.pooled_by_length(self.lora, sequences)
        with torch.autocast(self._encoder.device, self._encoder.dtype), disable_input_dtype_casting(self.lora):
            return self._encoder.pooled_by_length(self.lora, sequences)

    def head(self, labels: tuple[str, ...]) -> Head:
        weight = self._scaled().detach().float().cpu().numpy()
        return Head(labels, weight, np.zeros(len(labels), np.float32))

    def _scaled(self) -> torch.Tensor:
        import torch

        return self._log_scale.exp() * torch.nn.functional.normalize(self._prototypes, dim=-1)


def contrast(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss of unit rows `[n, d]` (Khosla et al. 2020): rows of an intent choose one another.

    Rows without another of their intent in the batch only stand in the way of the others.
    """
    import torch
    from torch.nn import functional

    same = (targets[:, None] == targets).float().fill_diagonal_(0)
    chosen = same.sum(1) > 0
    if not bool(chosen.any()):
        return torch.zeros((), device=rows.device)
    likeness = (rows @ rows.T / TEMPERATURE).masked_fill(
        torch.eye(len(rows), dtype=torch.bool, device=rows.device), -1e4
    )
    shares = functional.log_softmax(likeness, dim=1)
    return -((shares * same).sum(1)[chosen] / same.sum(1)[chosen]).mean()


def _with_lora(encoder: Encoder, config: TrainConfig) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    # Eager attention is twice as fast as SDPA when training on a CPU.
    module = encoder.module("eager")
    linear = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Linear) and "pooler" not in n]
    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=linear, lora_dropout=0.0)
    with warnings.catch_warnings():
        # peft asks transformers whether it checkpoints gradients by a name that is going away.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(module, settings)


def adapter_files(lora: Any) -> dict[str, bytes]:
    """The files of a peft adapter folder, readable by any other peft program."""
    import json

    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    # Half precision: what is lost is far below what a step changes, and half of the file is saved.
    tensors = {n: t.detach().half().cpu().contiguous() for n, t in get_peft_model_state_dict(lora).items()}
    settings = lora.peft_config["default"].to_dict()
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    settings["base_model_name_or_path"] = None
    settings["inference_mode"] = True
    return {
        "adapter_model.safetensors": bytes(save(tensors)),
        "adapter_config.json": json.dumps(settings, indent=2, sort_keys=True, default=str).encode(),
    }


def pull(last: torch.Tensor, window: torch.Tensor, batch: Batch, scale: float) -> torch.Tensor:
    """Cross-entropy of the questions' choice among frozen passages; the answer that was given says which are right."""
    from torch.nn import functional

    asked = (last[batch.asked] + window[batch.asked]) / 2
    return functional.cross_entropy(scale * asked @ batch.candidates.T, batch.right)
