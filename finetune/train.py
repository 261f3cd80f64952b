"""From rows to versions: the baseline, then LoRA on the question side, both calibrated on the same held-out rows.

Owns the loop. Knows nothing about registries, gates or where rows come from. The
held-out rows choose temperature and scope weights only, never weights or epochs, so the gate may use them too.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.baseline import fit_baseline, memorable
from finetune.calibrate import Floats, Integers, fit_out_of_scope, fit_temperature
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, Split, prepare, split
from finetune.model import SCOPE_PRIOR, SCOPE_PRIOR_CLASS, Encoder, Head, QuestionModel, features
from finetune.recipe import TrainConfig
from finetune.registry import Space

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands; `loss` and `accuracy` (of the running batch average) are 0 outside the loop."""

    stage: Literal["encoding", "baseline", "training", "calibrating"]
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


def fit_versions(examples: Sequence[Example], encoder: Encoder, config: TrainConfig, report: Report = silent) -> Fitted:
    """Train the baseline and LoRA on the same split. Raises FinetuneError on rows nothing can be learnt from."""
    import torch

    prepared = prepare(examples)
    share = min(config.held_out, config.most_held_out / len(prepared.examples))
    rows = split(prepared.examples, share, config.seed)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    try:
        start = time.perf_counter()
        frozen = encoder.encode(encoder.frozen, questions(rows.train), _encoding(report, start))
        held = encoder.encode(encoder.frozen, questions(rows.held_out))
        encoded = time.perf_counter() - start
        report(Progress("baseline", 0, 1, 0.0, 0.0, 0.0))
        known = [i for i, e in enumerate(rows.train) if e.intent is not None]
        names = [rows.train[i].intent or OUT_OF_SCOPE for i in known]
        kept = [known[i] for i in memorable(names, config.seed)]
        read = features(*frozen)
        head = replace(fit_baseline(read[known], names, config.seed), memory=read[kept])
        baseline = _model(encoder, calibrated(head, features(*held), rows.held_out), {}, "frozen")
        baseline_seconds = time.perf_counter() - start

        start = time.perf_counter()
        adapter, head = adapt(rows.train, frozen, encoder, config, report)
        report(Progress("calibrating", 0, 1, 0.0, 0.0, 0.0))
        draft = _model(encoder, head, adapter, "adapted")
        head = replace(head, memory=draft.features(questions([rows.train[i] for i in kept])))
        learnt = encoder.encode(draft.adapted, questions(rows.held_out))
        space = search_space(rows.held_out, held, learnt, encoder)
        lora = _model(encoder, calibrated(head, features(*learnt), rows.held_out), adapter, space)
        seconds = time.perf_counter() - start + encoded
    finally:
        torch.set_num_threads(before)
    return Fitted(Trained(baseline, baseline_seconds), Trained(lora, seconds), rows, prepared.warnings)


def questions(examples: Sequence[Example]) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    return [(e.text, e.history) for e in examples]


def calibrated(head: Head, rows: Floats, examples: Sequence[Example]) -> Head:
    """The head with its temperature and out-of-scope score fitted on held-out features."""
    known = [i for i, e in enumerate(examples) if e.intent is not None and (e.intent in head.labels or not e.intent)]
    if not known:
        return head
    outside = np.array([examples[i].intent == OUT_OF_SCOPE for i in known])
    inside = [i for i in known if examples[i].intent != OUT_OF_SCOPE]
    targets = np.array([head.intents.index(examples[i].intent or "") for i in inside], np.int64)
    temperature = fit_temperature(head.logits(rows[inside])[0], targets)
    prior = SCOPE_PRIOR_CLASS if OUT_OF_SCOPE in head.labels else SCOPE_PRIOR
    return replace(head, temperature=temperature, scope=fit_out_of_scope(head.signals(rows[known]), outside, prior))


def search_space(
    examples: Sequence[Example], frozen: tuple[Floats, Floats], adapted: tuple[Floats, Floats], encoder: Encoder
) -> Space:
    """Whether search may use adapted question vectors: only if they find held-out answers at least as well.

    Compares the mean reciprocal rank of the right answer among all held-out answers, in the frozen passage space.
    With fewer than LEAST_PAIRS rows that have an answer nothing is proven and the frozen vectors stay.
    """
    asked = [i for i, e in enumerate(examples) if e.answer]
    texts = list(dict.fromkeys(examples[i].answer for i in asked))
    if len(asked) < LEAST_PAIRS or len(texts) < 2:
        return "frozen"
    answers = encoder.vectors(encoder.frozen, encoder.tokenise([(text, ()) for text in texts])[0])
    right = [texts.index(examples[i].answer) for i in asked]

    def reciprocal_rank(vectors: tuple[Floats, Floats]) -> float:
        likeness = (vectors[0][asked] + vectors[1][asked]) @ answers.T
        own = likeness[np.arange(len(asked)), right]
        ranks = 1 + (likeness > own[:, None]).sum(axis=1)
        return float((1 / ranks).mean())

    return "adapted" if reciprocal_rank(adapted) >= reciprocal_rank(frozen) else "frozen"


def _model(encoder: Encoder, head: Head, adapter: dict[str, bytes], space: Space) -> QuestionModel:
    return QuestionModel(encoder, head.labels, {**adapter, "head.safetensors": head.to_bytes()}, space)


def _encoding(report: Report, start: float) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        left = (time.perf_counter() - start) / done * (total - done)
        report(Progress("encoding", done, total, 0.0, 0.0, left))

    return tell


# -------------------------------------------------------------------------------------------------------- the loop


def adapt(
    examples: Sequence[Example],
    frozen: tuple[Floats, Floats],
    encoder: Encoder,
    config: TrainConfig,
    report: Report = silent,
) -> tuple[dict[str, bytes], Head]:
    """Train LoRA and a cosine head; returns the adapter's files and the head, neither merged nor calibrated.

    `frozen` holds the frozen last and window vectors of the examples, `[n, d]` each: class means start the head, and
    they anchor the search vectors. Raises FinetuneError when the loss stops being a number.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        batches = _Batches(examples, frozen, encoder, config)
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
        """The loss of a batch and its accuracy: intents, answers pulled near, and no drift from the frozen space."""
        import torch
        from torch.nn import functional

        last = self._encoder.pooled(self.lora, batch.last)
        window = last
        if batch.window:
            window = last.clone()
            window[batch.longer] = self._encoder.pooled(self.lora, batch.window)
        loss, accuracy = torch.zeros((), device=last.device), 1.0
        if len(batch.targets):
            joined = torch.cat([last, window], dim=1)[batch.known] / math.sqrt(2)
            logits = functional.dropout(joined, self._config.dropout) @ self._scaled().T
            loss = functional.cross_entropy(logits, batch.targets, label_smoothing=self._config.smoothing)
            accuracy = (logits.argmax(1) == batch.targets).float().mean().item()
        if self._config.pairs and len(batch.asked):
            loss = loss + self._config.pairs * _pull(last, window, batch, self._config.scale)
        if self._config.anchor:
            likeness = (last * batch.frozen_last).sum(1) + (window * batch.frozen_window).sum(1)
            loss = loss + self._config.anchor * (2 - likeness).mean()
        return loss, accuracy

    def head(self, labels: tuple[str, ...]) -> Head:
        weight = self._scaled().detach().float().cpu().numpy()
        return Head(labels, weight, np.zeros(len(labels), np.float32), np.zeros((0, weight.shape[1]), np.float32))

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
    """InfoNCE of questions towards their frozen answers, against the batch's other answers and hard negatives."""
    from torch.nn import functional

    loss = functional.cross_entropy(scale * last[batch.asked] @ batch.answers.T, batch.right)
    if batch.window:
        loss = (loss + functional.cross_entropy(scale * window[batch.asked] @ batch.answers.T, batch.right)) / 2
    return loss


# --------------------------------------------------------------------------------------------------------- batches


@dataclass(slots=True)
class Batch:
    """Token ids and targets of up to `config.batch` rows, on the device."""

    last: list[list[int]]
    window: list[list[int]]
    """Only of the rows `longer` that have history."""
    longer: list[int]
    known: list[int]
    """Rows with an intent; `targets` has one for each."""
    targets: torch.Tensor
    asked: list[int]
    """Rows with an answer; `right` points into `answers` `[a, d]`, hard negatives behind."""
    right: torch.Tensor
    answers: torch.Tensor
    frozen_last: torch.Tensor
    frozen_window: torch.Tensor


class _Batches:
    """Seeded batches of rows of like length, for as many epochs as the recipe and the token budget allow."""

    def __init__(
        self, examples: Sequence[Example], frozen: tuple[Floats, Floats], encoder: Encoder, config: TrainConfig
    ) -> None:
        self._config = config
        self._device = encoder.device
        self._last, self._window = encoder.tokenise(questions(examples))
        self._frozen = frozen
        self.labels = tuple(sorted({e.intent for e in examples if e.intent is not None}))
        numbers = {label: number for number, label in enumerate(self.labels)}
        self._targets = [-1 if e.intent is None else numbers[e.intent] for e in examples]
        self._answer, self._answers, self._hard = _answers(examples, frozen[0], encoder, config)
        self._costs = [len(a) + (len(b) if a is not b else 0) for a, b in zip(self._last, self._window, strict=True)]
        per_epoch = -(-len(examples) // config.batch)
        epochs = min(2 * config.epochs, max(config.epochs, -(-config.least_steps // per_epoch)))
        affordable = max(1, int(config.token_budget / (sum(self._costs) / per_epoch)))
        self.steps = min(epochs * per_epoch, affordable)

    def class_means(self) -> torch.Tensor:
        import torch

        rows = features(*self._frozen)
        targets = np.array(self._targets)
        means = np.stack([rows[targets == number].mean(axis=0) for number in range(len(self.labels))])
        return torch.from_numpy(means)

    def __iter__(self) -> Iterator[Batch]:
        random = np.random.default_rng(self._config.seed)
        given = 0
        while given < self.steps:
            for rows in self._epoch(random):
                if given == self.steps:
                    return
                given += 1
                yield self._batch(rows, random)

    def _epoch(self, random: np.random.Generator) -> list[list[int]]:
        """Shuffled rows, sorted by length within slabs of 16 batches, the batches shuffled again."""
        size = self._config.batch
        order = random.permutation(len(self._last)).tolist()
        batches = []
        for start in range(0, len(order), 16 * size):
            slab = order[start : start + 16 * size]
            slab.sort(key=lambda i: len(self._window[i]))
            batches += [slab[i : i + size] for i in range(0, len(slab), size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def _batch(self, rows: list[int], random: np.random.Generator) -> Batch:
        import torch

        longer = [k for k, i in enumerate(rows) if self._window[i] is not self._last[i]]
        known = [k for k, i in enumerate(rows) if self._targets[i] >= 0]
        asked = [k for k, i in enumerate(rows) if self._answer[i] >= 0]
        own = [self._answer[rows[k]] for k in asked]
        columns = list(dict.fromkeys(own))
        position = {answer: column for column, answer in enumerate(columns)}
        for k in asked:
            hard = self._hard[rows[k]]
            drawn = random.permutation(hard)[: self._config.hard_negatives].tolist()
            columns += [answer for answer in drawn if answer not in position]
        return Batch(
            [self._last[i] for i in rows],
            [self._window[rows[k]] for k in longer],
            longer,
            known,
            torch.tensor([self._targets[rows[k]] for k in known], device=self._device),
            asked,
            torch.tensor([position[answer] for answer in own], device=self._device),
            torch.from_numpy(self._answers[columns]).to(self._device),
            torch.from_numpy(self._frozen[0][rows]).to(self._device),
            torch.from_numpy(self._frozen[1][rows]).to(self._device),
        )


def _answers(
    examples: Sequence[Example], asked: Floats, encoder: Encoder, config: TrainConfig
) -> tuple[list[int], Floats, dict[int, Integers]]:
    """Number of each row's answer (-1: none), the frozen answer vectors, and each row's nearest wrong answers."""
    texts = list(dict.fromkeys(e.answer for e in examples if e.answer))
    numbers = {text: number for number, text in enumerate(texts)}
    own = [numbers[e.answer] if e.answer else -1 for e in examples]
    if not texts or not config.pairs:
        return [-1] * len(own), np.zeros((0, encoder.dimension), np.float32), {}
    vectors = encoder.vectors(encoder.frozen, encoder.tokenise([(text, ()) for text in texts])[0])
    hard: dict[int, Integers] = {}
    for row, number in enumerate(own):
        if number >= 0:
            nearest = np.argsort(-(vectors @ asked[row]))[: 4 * config.hard_negatives + 1]
            hard[row] = nearest[nearest != number]
    return own, vectors, hard
