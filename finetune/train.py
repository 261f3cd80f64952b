"""From rows to versions: the baseline, then LoRA on the question side, both calibrated on the same held-out rows.

Owns the loop. Knows nothing about registries, gates or where rows come from. The
held-out rows choose temperature and scope weights only, never weights or epochs, so the gate may use them too.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.answers import Passages, Targets, remember, targets_of
from finetune.baseline import fit_baseline, memorable
from finetune.batches import Batch, Batches
from finetune.calibrate import Floats, fit_out_of_scope, fit_temperature
from finetune.encoder import Encoder
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, Split, classed, prepare, split
from finetune.model import SCOPE_PRIOR, SCOPE_PRIOR_CLASS, Head, QuestionModel, features
from finetune.precedents import NONE, Precedents
from finetune.recipe import TrainConfig
from finetune.registry import Space

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands; `loss` and `accuracy` (of the running batch average) are 0 outside the loop."""

    stage: Literal["encoding", "baseline", "training", "calibrating", "exporting"]
    step: int
    steps: int
    loss: float
    accuracy: float
    seconds_left: float


Report = Callable[[Progress], None]

LEAST_PAIRS = 20
"""Held-out questions with an answer that it takes to let adapted vectors search."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with what it took: `seconds` includes encoding the rows it read."""

    model: QuestionModel
    seconds: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """Both versions of one data set, and the rows that took part."""

    baseline: Trained
    lora: Trained
    rows: Split
    warnings: tuple[str, ...]


def silent(_: Progress) -> None:
    """A report nobody reads."""


def fit_versions(
    examples: Sequence[Example],
    encoder: Encoder,
    config: TrainConfig,
    report: Report = silent,
    passages: Passages | None = None,
) -> Fitted:
    """Train the baseline and LoRA on the same split. Raises FinetuneError on rows nothing can be learnt from."""
    import torch

    prepared = prepare(examples)
    share = min(config.held_out, config.most_held_out / len(prepared.examples))
    rows = split(classed(prepared.examples), share, config.seed)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or _threads_allowed())
    try:
        start = time.perf_counter()
        frozen = encoder.encode(encoder.frozen, questions(rows.train), _encoding(report, start))
        held = encoder.encode(encoder.frozen, questions(rows.held_out))
        encoded = time.perf_counter() - start
        report(Progress("baseline", 0, 1, 0.0, 0.0, 0.0))
        known = [i for i, e in enumerate(rows.train) if e.intent is not None]
        names = [rows.train[i].intent or OUT_OF_SCOPE for i in known]
        near, far = ([known[i] for i in kept] for kept in memorable(names, config.seed))
        read = features(*frozen)
        head = replace(fit_baseline(read[known], names, config.seed), memory=read[near], strangers=read[far])
        # Held-out rows are remembered too: what chooses on them, the intents' head, does not read precedents.
        everyone, windows = (*rows.train, *rows.held_out), np.vstack([frozen[1], held[1]])
        targets = targets_of(everyone, windows, encoder, passages)
        precedents = remember(windows, targets, config.seed)
        baseline = _model(encoder, calibrated(head, features(*held), rows.held_out), precedents, {}, "frozen")
        baseline_seconds = time.perf_counter() - start

        start = time.perf_counter()
        adapter, head = adapt(rows.train, frozen, targets, encoder, config, report)
        report(Progress("calibrating", 0, 1, 0.0, 0.0, 0.0))
        adapted = _model(encoder, head, NONE, adapter, "adapted").adapted
        last, window = encoder.encode(adapted, questions(rows.train))
        read = features(last, window)
        head = replace(head, memory=read[near], strangers=read[far])
        learnt = encoder.encode(adapted, questions(rows.held_out))
        space = search_space(targets.after(len(rows.train)), held, learnt)
        precedents = remember(np.vstack([window, learnt[1]]), targets, config.seed)
        lora = _model(encoder, calibrated(head, features(*learnt), rows.held_out), precedents, adapter, space)
        seconds = time.perf_counter() - start + encoded
    finally:
        torch.set_num_threads(before)
    return Fitted(Trained(baseline, baseline_seconds), Trained(lora, seconds), rows, prepared.warnings)


def _threads_allowed() -> int:
    """One for each core this process may use, or as many as OpenMP was told: more would wait for each other."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else len(os.sched_getaffinity(0))


def questions(examples: Sequence[Example]) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    return [(e.text, e.history) for e in examples]


def calibrated(head: Head, rows: Floats, examples: Sequence[Example]) -> Head:
    """The head with its temperature and out-of-scope score fitted on held-out features."""
    numbers = {label: number for number, label in enumerate(head.inside)}
    known = [i for i, e in enumerate(examples) if e.intent == OUT_OF_SCOPE or e.intent in numbers]
    if not known:
        return head
    outside = np.array([examples[i].intent == OUT_OF_SCOPE for i in known])
    inside = [i for i in known if examples[i].intent != OUT_OF_SCOPE]
    targets = np.array([numbers[examples[i].intent or ""] for i in inside], np.int64)
    temperature = fit_temperature(head.logits(rows[inside])[0], targets)
    prior = SCOPE_PRIOR_CLASS if OUT_OF_SCOPE in head.labels else SCOPE_PRIOR
    return replace(head, temperature=temperature, scope=fit_out_of_scope(head.signals(rows[known]), outside, prior))


def search_space(targets: Targets, frozen: tuple[Floats, Floats], adapted: tuple[Floats, Floats]) -> Space:
    """Whether search may use adapted question vectors: only if they find held-out answers at least as well.

    Compares the mean reciprocal rank of the passage with the most credit among all of them. With fewer than
    LEAST_PAIRS questions that should find something nothing is proven, and the frozen vectors stay.
    """
    asked = targets.answered
    if len(asked) < LEAST_PAIRS or len(targets.candidates) < 2:
        return "frozen"
    right = targets.near[asked, 0]

    def reciprocal_rank(vectors: tuple[Floats, Floats]) -> float:
        likeness = (vectors[0][asked] + vectors[1][asked]) @ targets.candidates.T
        own = likeness[np.arange(len(asked)), right]
        return float((1 / (1 + (likeness > own[:, None]).sum(axis=1))).mean())

    return "adapted" if reciprocal_rank(adapted) >= reciprocal_rank(frozen) else "frozen"


def _model(
    encoder: Encoder, head: Head, precedents: Precedents, adapter: dict[str, bytes], space: Space
) -> QuestionModel:
    files = {**adapter, "head.safetensors": head.to_bytes()}
    if len(precedents.asked):
        files["precedents.safetensors"] = precedents.to_bytes()
    return QuestionModel(encoder, head.labels, files, space)


def _encoding(report: Report, start: float) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        left = (time.perf_counter() - start) / done * (total - done)
        report(Progress("encoding", done, total, 0.0, 0.0, left))

    return tell


# -------------------------------------------------------------------------------------------------------- the loop


def adapt(
    examples: Sequence[Example],
    frozen: tuple[Floats, Floats],
    targets: Targets,
    encoder: Encoder,
    config: TrainConfig,
    report: Report = silent,
) -> tuple[dict[str, bytes], Head]:
    """Train LoRA and a cosine head; returns the adapter's files and the head, neither merged nor calibrated.

    `frozen` holds the frozen last and window vectors of the examples, `[n, d]` each: class means start the head.
    Raises FinetuneError when the loss stops being a number.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        batches = Batches(examples, frozen, targets, encoder, config)
        student = _Student(encoder, batches.class_means(), config)
        optimiser = torch.optim.AdamW(student.weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        steps = batches.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_then_decay(steps, config.warm_up))
        averaged = _Average(student.weights)
        start, loss_mean, accuracy_mean = time.perf_counter(), 0.0, 0.0
        for step, batch in enumerate(batches, start=1):
            loss, accuracy = student.loss(batch)
            if not bool(torch.isfinite(loss)):
                raise FinetuneError(
                    f"training diverged at step {step} of {steps} (loss is {loss.item()}); "
                    f"lower learning_rate (now {config.learning_rate})"
                )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(student.weights, config.clip)
            optimiser.step()
            schedule.step()
            if step > steps * (1 - config.averaged):
                averaged.add(student.weights)
            share = max(0.1, 1 / step)
            loss_mean += share * (loss.item() - loss_mean)
            accuracy_mean += share * (accuracy - accuracy_mean)
            left = (time.perf_counter() - start) / step * (steps - step)
            report(Progress("training", step, steps, loss_mean, accuracy_mean, left))
        averaged.put(student.weights)
        return _adapter_files(student.lora), student.head(batches.labels)


class _Student:
    """The question side while it learns: LoRA on the encoder, a prototype for each label, and a learnt scale."""

    def __init__(self, encoder: Encoder, class_means: torch.Tensor, config: TrainConfig) -> None:
        import torch

        self._encoder = encoder
        self._config = config
        self.lora = _with_lora(encoder, config)
        self.lora.train()
        means = torch.nn.functional.normalize(class_means, dim=-1)
        self._prototypes = torch.nn.Parameter(means.to(encoder.device))
        self._log_scale = torch.nn.Parameter(torch.tensor(math.log(config.scale), device=encoder.device))
        self.weights = [p for p in self.lora.parameters() if p.requires_grad] + [self._prototypes, self._log_scale]

    def loss(self, batch: Batch) -> tuple[torch.Tensor, float]:
        """The loss of a batch, of intents and of answers to be found, and its accuracy."""
        import torch
        from torch.nn import functional

        pooled = self._encoder.pooled_by_length(self.lora, [*batch.last, *batch.window])
        last = pooled[: len(batch.last)]
        window = last
        if batch.window:
            window = last.clone()
            window[batch.longer] = pooled[len(batch.last) :]
        loss, accuracy = torch.zeros((), device=last.device), 1.0
        if len(batch.targets):
            joined = torch.cat([last, window], dim=1)[batch.known] / math.sqrt(2)
            logits = functional.dropout(joined, self._config.dropout) @ self._scaled().T
            loss = functional.cross_entropy(logits, batch.targets, label_smoothing=self._config.smoothing)
            accuracy = (logits.argmax(1) == batch.targets).float().mean().item()
        if self._config.pairs and len(batch.asked):
            loss = loss + self._config.pairs * _pull(last, window, batch, self._config.scale)
        return loss, accuracy

    def head(self, labels: tuple[str, ...]) -> Head:
        weight = self._scaled().detach().float().cpu().numpy()
        nothing = np.zeros((0, weight.shape[1]), np.float32)
        return Head(labels, weight, np.zeros(len(labels), np.float32), nothing, nothing)

    def _scaled(self) -> torch.Tensor:
        import torch

        return self._log_scale.exp() * torch.nn.functional.normalize(self._prototypes, dim=-1)


class _Average:
    """The mean of weights over the last steps: a flatter, steadier optimum for nothing (Izmailov et al. 2018)."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        self._mean = [w.detach().clone() for w in weights]
        self._count = 0

    def add(self, weights: Sequence[torch.Tensor]) -> None:
        self._count += 1
        for mean, weight in zip(self._mean, weights, strict=True):
            mean.lerp_(weight.detach(), 1 / self._count)

    def put(self, weights: Sequence[torch.Tensor]) -> None:
        for mean, weight in zip(self._mean, weights, strict=True):
            weight.detach().copy_(mean)


def _warm_up_then_decay(steps: int, share: float) -> Callable[[int], float]:
    warm = max(1, round(share * steps))
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


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


def _adapter_files(lora: Any) -> dict[str, bytes]:
    """The files of a peft adapter folder, readable by any other peft program."""
    import json

    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    tensors = {n: t.detach().float().cpu().contiguous() for n, t in get_peft_model_state_dict(lora).items()}
    settings = lora.peft_config["default"].to_dict()
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    settings["base_model_name_or_path"] = None
    settings["inference_mode"] = True
    return {
        "adapter_model.safetensors": bytes(save(tensors)),
        "adapter_config.json": json.dumps(settings, indent=2, sort_keys=True, default=str).encode(),
    }


def _pull(last: torch.Tensor, window: torch.Tensor, batch: Batch, scale: float) -> torch.Tensor:
    """Cross-entropy of the questions' choice among frozen passages; the answer that was given says which are right."""
    from torch.nn import functional

    asked = (last[batch.asked] + window[batch.asked]) / 2
    return functional.cross_entropy(scale * asked @ batch.candidates.T, batch.right)
