"""From rows to versions: the baseline, then LoRA on the question side, both calibrated on the same held-out rows.

Owns the loop. Knows nothing about registries, gates or where rows come from. The held-out rows choose shares, level,
temperature and the score of scope (`weighing.py`), never what a reader learns or when it stops, so the gate may use
them too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.answers import Passages, Targets, blocks, remember, targets_of
from finetune.baseline import fit_baseline
from finetune.batches import Batches
from finetune.calibrate import Floats
from finetune.checkpoint import Checkpoints, training_key
from finetune.encoder import Encoder
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, approvable, classed, prepare
from finetune.flow import FILE as FLOW
from finetune.flow import LEAST_ROWS, fit_flow, talks
from finetune.labels import label_examples, telling
from finetune.leaks import Split, split
from finetune.letters import fit_letters
from finetune.memory import memorable, remembered
from finetune.model import Head, QuestionModel, changes, features, merged
from finetune.precedents import FILE as PRECEDENTS
from finetune.precedents import Precedents
from finetune.recipe import TrainConfig
from finetune.registry import Space
from finetune.student import Student, adapter_files
from finetune.tone import ToneExample, fit_tone
from finetune.weighing import calibrated, levelled

if TYPE_CHECKING:
    from finetune.optimiser import Curve


Stage = Literal["encoding", "baseline", "training", "conversations", "refitting", "calibrating", "exporting"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands; `loss` and `accuracy` (of the running batch average) are 0 outside the loop."""

    stage: Stage
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
    """A model with what it took: `seconds` includes encoding the rows it read.

    `measured` is the model that the held-out rows may judge: `model` knows them as precedents, and of a small set has
    learnt from them too.
    """

    model: QuestionModel
    measured: QuestionModel
    seconds: float
    curve: Curve | None = None


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
    tones: Sequence[ToneExample] = (),
    checkpoints: Checkpoints | None = None,
    judged: bool = False,
) -> Fitted:
    """Train the baseline and LoRA on the same split. Raises FinetuneError on rows nothing can be learnt from.

    Versions that are to be `judged` need a held-out row with an intent; without one it is raised before the training.
    """
    import torch

    prepared = prepare(examples)
    share = min(config.held_out, config.most_held_out / len(prepared.examples))
    everything = classed(prepared.examples)
    rows = split(everything, share, config.seed)
    if judged and not any(approvable(e.intent) for e in rows.held_out):
        raise FinetuneError(
            f"none of the {len(everything):,} rows has an intent and can be held out to judge the versions; "
            "add rows to an intent that are worded differently"
        )
    few = len(everything) <= config.few
    recipe = replace(config, batch=config.batch_of_few) if few else replace(config, contrast=0.0)
    told = _Told(encoder, recipe, few, report, passages, tones, checkpoints)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or _threads_allowed())
    try:
        baseline, lora = _learn(rows, told)
        if few and rows.held_out:
            whole = _learn(
                Split(everything, ()), replace(told, report=_refitting(report)), (baseline.model, lora.model)
            )
            baseline, lora = (
                replace(final, measured=once.measured, seconds=once.seconds + final.seconds)
                for once, final in zip((baseline, lora), whole, strict=True)
            )
    finally:
        torch.set_num_threads(before)
    return Fitted(baseline, lora, rows, prepared.warnings)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a training is given besides its rows."""

    encoder: Encoder
    config: TrainConfig
    few: bool
    report: Report
    passages: Passages | None
    tones: Sequence[ToneExample]
    checkpoints: Checkpoints | None


def _learn(
    rows: Split, told: _Told, settled: tuple[QuestionModel, QuestionModel] | None = None
) -> tuple[Trained, Trained]:
    """The baseline and LoRA, learnt on `rows.train`; what held-out rows decide is taken from `settled`, if given."""
    seen = _see(rows, told)
    baseline, head = _fit_frozen(seen, told, settled[0] if settled else None)
    return baseline, _fit_lora(seen, told, head, settled[1] if settled else None)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The rows as both versions learn from them: `train` is what they are fitted on, labels among it if these tell.

    `frozen` and `held` are the frozen vectors of the rows to learn from and of those held out; `known` numbers rows
    that have a class, `names` are these classes, and `near` and `far` the rows to remember of those in and out of
    scope. `letters` is the file of the reader of letters, and `spelt` what it says of the held-out rows.
    """

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    frozen: tuple[Floats, Floats]
    held: tuple[Floats, Floats]
    known: list[int]
    names: list[str]
    near: list[int]
    far: list[int]
    targets: Targets
    letters: dict[str, bytes]
    spelt: Floats
    seconds: float

    def remembering(self, head: Head, features: Floats) -> Head:
        return replace(head, memory=remembered(features[self.near]), strangers=remembered(features[self.far]))

    def judged(self, model: QuestionModel, windows: Floats, seed: int) -> QuestionModel:
        """The model as held-out rows may judge it; `windows` are the vectors of the rows to learn from.

        A question that is among the precedents finds itself, and is never read as a new one would be.
        """
        if not self.held_out:
            return model
        count = len(self.train)
        targets = replace(self.targets, near=self.targets.near[:count], credit=self.targets.credit[:count])
        return model.with_precedents(remember(windows, targets, seed))


def _see(rows: Split, told: _Told) -> _Seen:
    encoder, seed, start = told.encoder, told.config.seed, time.perf_counter()
    train, frozen = _with_labels(rows.train, told, _counting("encoding", told.report))
    held = encoder.encode(encoder.frozen, questions(rows.held_out))
    told.report(Progress("baseline", 0, 1, 0.0, 0.0, 0.0))
    known = [i for i, e in enumerate(train) if e.intent is not None]
    names = [train[i].intent or OUT_OF_SCOPE for i in known]
    near, far = ([known[i] for i in kept] for kept in memorable(names, seed))
    letters = fit_letters(questions([train[i] for i in known]), names, seed)
    # Held-out rows are remembered too: what serves may know them, what they judge does not (`judged`).
    targets = targets_of((*train, *rows.held_out), np.vstack([frozen[1], held[1]]), encoder, told.passages)
    file, spelt = {"letters.safetensors": letters.to_bytes()}, letters.chances(questions(rows.held_out))
    seconds = time.perf_counter() - start
    return _Seen(train, rows.held_out, frozen, held, known, names, near, far, targets, file, spelt, seconds)


def _fit_frozen(seen: _Seen, told: _Told, settled: QuestionModel | None) -> tuple[Trained, Head]:
    """The baseline, and its head as it was fitted."""
    start = time.perf_counter()
    read = features(*seen.frozen)
    fitted = fit_baseline(read[seen.known], seen.names, told.config.seed)
    flow, said = _fit_flow(seen, told, told.encoder.frozen, seen.frozen[0], seen.held[0])
    asked = np.hstack([features(*seen.held), seen.spelt, *said])
    head = _calibrated(seen.remembering(fitted, read), asked, seen, settled)
    precedents = remember(np.vstack([seen.frozen[1], seen.held[1]]), seen.targets, told.config.seed)
    files = {**_files(head, precedents, told.encoder.frozen, told), **seen.letters, **flow}
    model = QuestionModel(told.encoder, head.labels, files, "frozen")
    measured = seen.judged(model, seen.frozen[1], told.config.seed)
    return Trained(model, measured, time.perf_counter() - start + seen.seconds), fitted


def _fit_lora(seen: _Seen, told: _Told, plain: Head, settled: QuestionModel | None) -> Trained:
    """LoRA; of few rows its head is the sum of three, one of them `plain`, which reads frozen vectors."""
    encoder, config, start = told.encoder, told.config, time.perf_counter()
    adapter, head, curve = adapt(seen.train, seen.frozen, seen.targets, encoder, config, told.report, told.checkpoints)
    told.report(Progress("calibrating", 0, 1, 0.0, 0.0, 0.0))
    adapted = merged(encoder, changes(adapter["adapter_model.safetensors"], adapter["adapter_config.json"]))
    last, window = encoder.encode(adapted, questions(seen.train))
    held = encoder.encode(adapted, questions(seen.held_out))
    flow, said = _fit_flow(seen, told, adapted, last, held[0])
    read, asked = features(last, window), [features(*held), seen.spelt, *said]
    if told.few:
        head = _together(head, fit_baseline(read[seen.known], seen.names, config.seed), plain)
        asked.insert(1, features(*seen.held))
    head = _calibrated(seen.remembering(head, read), np.hstack(asked), seen, settled)
    precedents = remember(np.vstack([window, held[1]]), seen.targets, config.seed)
    held_targets = seen.targets.after(len(seen.train))
    space = settled.search_vectors if settled is not None else search_space(held_targets, seen.held, held)
    files = {**adapter, **_files(head, precedents, adapted, told), **seen.letters, **flow}
    model = QuestionModel(encoder, head.labels, files, space)
    measured = seen.judged(model, window, config.seed)
    return Trained(model, measured, time.perf_counter() - start + seen.seconds, curve)


def _fit_flow(
    seen: _Seen, told: _Told, reads: Any, last: Floats, held: Floats
) -> tuple[dict[str, bytes], tuple[Floats, ...]]:
    """The reader of conversations and what it says of the held-out rows; nothing where few rows have a conversation.

    `last` and `held` are the vectors of the messages to learn from and of those held out, as `reads` gives them.
    """
    known = questions([seen.train[i] for i in seen.known])
    if sum(bool(history) for _, history in known) < LEAST_ROWS:
        return {}, ()

    def vectors(lines: Sequence[str]) -> Floats:
        return told.encoder.starts(reads, lines)

    progress = _counting("conversations", told.report)
    flow = fit_flow(talks(known, last[seen.known], vectors), seen.names, told.config.seed, progress)
    return {FLOW: flow.to_bytes()}, (flow.chances(talks(questions(seen.held_out), held, vectors)),)


def _calibrated(head: Head, asked: Floats, seen: _Seen, settled: QuestionModel | None) -> Head:
    """The head calibrated on held-out rows, or as the version that these have judged: it has learnt from them since."""
    if settled is None:
        return calibrated(head, asked, seen.held_out, seen.names)
    like = settled.head
    settled_head = replace(head, temperature=like.temperature, scope=like.scope, shares=like.shares)
    return levelled(settled_head, seen.names, like.level)


def _with_labels(
    rows: Sequence[Example], told: _Told, progress: Callable[[int, int], None]
) -> tuple[tuple[Example, ...], tuple[Floats, Floats]]:
    """The rows and their frozen vectors, behind few of them the labels, where these say what they are about."""
    encoder, labels = told.encoder, label_examples(rows) if told.few else ()
    last, window = encoder.encode(encoder.frozen, questions((*rows, *labels)), progress)
    count = len(rows)
    if telling(last[count:], [e.intent for e in labels], last[:count], [e.intent for e in rows]):
        return (*rows, *labels), (last, window)
    return tuple(rows), (last[:count], window[:count])


def _files(head: Head, precedents: Precedents, reads: Any, told: _Told) -> dict[str, bytes]:
    files = {"head.safetensors": head.to_bytes()}
    if len(precedents.asked):
        files[PRECEDENTS] = precedents.to_bytes()
    if told.tones:
        vectors, _ = told.encoder.encode(reads, [(e.text, ()) for e in told.tones])
        files["tone.safetensors"] = fit_tone(told.tones, vectors, told.config.seed).to_bytes()
    return files


def _together(cosine: Head, learnt: Head, plain: Head) -> Head:
    """The head whose logits are the sum of three: of few rows each sees what the others do not.

    `cosine` and `learnt` read the adapted vectors, `plain` the frozen ones.
    """
    weight = np.hstack([cosine.weight + learnt.weight, plain.weight])
    return replace(cosine, weight=weight, bias=cosine.bias + learnt.bias + plain.bias)


def _threads_allowed() -> int:
    """One for each core this process may use, or as many as OpenMP was told: more would wait for each other."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else len(os.sched_getaffinity(0))


def questions(examples: Sequence[Example]) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    return [(e.text, e.history) for e in examples]


def search_space(targets: Targets, frozen: tuple[Floats, Floats], adapted: tuple[Floats, Floats]) -> Space:
    """Whether search may use adapted question vectors: only if they find held-out answers at least as well.

    Compares the mean reciprocal rank of the passage with the most credit among all of them. With fewer than
    LEAST_PAIRS questions that should find something nothing is proven, and the frozen vectors stay.
    """
    asked = targets.answered
    if len(asked) < LEAST_PAIRS or len(targets.candidates) < 2:
        return "frozen"

    def reciprocal_rank(vectors: tuple[Floats, Floats]) -> float:
        found = 0.0
        for rows in blocks(asked):
            likeness = (vectors[0][rows] + vectors[1][rows]) @ targets.candidates.T
            own = likeness[np.arange(len(rows)), targets.near[rows, 0]]
            found += float((1 / (1 + (likeness > own[:, None]).sum(axis=1))).sum())
        return found / len(asked)

    return "adapted" if reciprocal_rank(adapted) >= reciprocal_rank(frozen) else "frozen"


def _refitting(report: Report) -> Report:
    return lambda progress: report(replace(progress, stage="refitting") if progress.stage == "training" else progress)


def _counting(stage: Stage, report: Report) -> Callable[[int, int], None]:
    start = time.perf_counter()

    def tell(done: int, total: int) -> None:
        left = (time.perf_counter() - start) / done * (total - done)
        report(Progress(stage, done, total, 0.0, 0.0, left))

    return tell


# -------------------------------------------------------------------------------------------------------- the loop


def adapt(
    examples: Sequence[Example],
    frozen: tuple[Floats, Floats],
    targets: Targets,
    encoder: Encoder,
    config: TrainConfig,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> tuple[dict[str, bytes], Head, Curve]:
    """Train LoRA and a cosine head; returns the adapter's files and the head, neither merged nor calibrated.

    `frozen` holds the frozen last and window vectors of the examples, `[n, d]` each: class means start the head.
    Goes on where a killed training of the same rows and recipe stood, to the same weights.
    Raises FinetuneError when the loss stops being a number.
    """
    import torch

    from finetune.optimiser import Optimiser

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        batches = Batches(examples, frozen, targets, encoder, config)
        student = Student(encoder, batches.labels, batches.class_means(), config)
        optimiser = Optimiser(student.weights, batches.steps, config)
        key = training_key(examples, targets, encoder.fingerprint, config) if checkpoints is not None else ""
        if checkpoints is not None and (state := checkpoints.load(key)) is not None:
            optimiser.restore(state)
        start, before = time.perf_counter(), optimiser.done
        for batch in batches.after(before):
            loss, accuracy = student.loss(batch)
            if not bool(torch.isfinite(loss)):
                raise FinetuneError(
                    f"training diverged at step {optimiser.done + 1} of {batches.steps} (loss is {loss.item()}); "
                    f"lower learning_rate (now {config.learning_rate})"
                )
            optimiser.step(loss, accuracy)
            left = (time.perf_counter() - start) / (optimiser.done - before) * (batches.steps - optimiser.done)
            report(Progress("training", optimiser.done, batches.steps, *optimiser.lately(), left))
            if checkpoints is not None and (checkpoints.due() or optimiser.done == batches.steps):
                checkpoints.save(key, optimiser.state())
        optimiser.settle()
        return adapter_files(student.lora), student.head(batches.labels), optimiser.curve
