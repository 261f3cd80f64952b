"""The question side: one encoder pass over a message and its conversation gives intents, scope and search vectors.

Owns the adapter, the head and what a version's files mean. Knows nothing about how they are trained, where versions
live, or what is done with a reading. torch is loaded when a model is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.calibrate import Doubles, Floats, OutOfScope, log_sum_exp, softmax
from finetune.encoder import Encoder
from finetune.examples import OTHERWISE, OUT_OF_SCOPE, FinetuneError, Question, approvable
from finetune.export import GRAPH, Exported
from finetune.flow import FILE as FLOW
from finetune.flow import Flow, talks
from finetune.letters import Letters
from finetune.memory import NOTHING, Memory
from finetune.precedents import FILE as PRECEDENTS
from finetune.precedents import NONE, Precedents, precedents_from
from finetune.quantise import QUANTISED, SMOOTHING, eight_bits, factors_from, fast_here
from finetune.registry import MODEL_FILES, Manifest, Space, verify
from finetune.tone import ToneHead, Tones

if TYPE_CHECKING:
    import torch

STANDS_ALONE = 0.1
"""How much better known a message must be alone than with the lines before it to be read without them."""

SIGNALS = ("max_logit", "energy", "nearest", "margin")
"""What speaks for a question being in scope: the best in-scope logit; the log-sum-exp of in-scope logits (Liu et al.
2020); the mean cosine to the nearest training questions in scope (Sun et al. 2022), less that to the nearest out of
scope; and the best in-scope logit less that of the out-of-scope class, 0 where there is no such class."""
SCOPE_PRIOR = (0.5, 0.0, 0.5, 0.0)
SCOPE_PRIOR_CLASS = (0.0, 0.5, 0.5, 0.5)
"""Weights of the signals before any out-of-scope row was seen; the second when there is an out-of-scope class."""

REMEMBERED_LINES = 4096
"""Lines said before whose vectors a model keeps (6 MB), those of one batch beyond."""

UNFITTED = OutOfScope((0.0,) * 4, (1.0,) * 4, SCOPE_PRIOR, 0.0)


@dataclass(frozen=True, slots=True)
class Readings:
    """What a batch of n questions means.

    `labels` are the c intents; `probabilities` `[n, c]` is calibrated, given that the question is in scope, and sums to
    less than 1 where the question may be answered otherwise;
    `out_of_scope` `[n]` lies in 0..1, where 0.5 turns away one in twenty in-scope questions; `last` and `window` are
    float32 `[n, d]` unit rows in the space of the frozen passages; `expected` `[n, d]` is what resolved past questions
    of the kind, zero rows for a version without precedents.
    """

    labels: tuple[str, ...]
    probabilities: Doubles
    out_of_scope: Doubles
    last: Floats
    window: Floats
    expected: Floats
    tones: Tones | None = None
    """None for a version that was trained without messages whose tone is known."""


def features(last: Floats, window: Floats) -> Floats:
    """Both vectors side by side, `[n, 2d]` unit rows: what heads, memories and tests of nearness are about."""
    return np.asarray(np.hstack([last, window]) / np.sqrt(np.float32(2)))


# ------------------------------------------------------------------------------------------------------------ head


@dataclass(frozen=True, slots=True)
class Head:
    """Reads features. The baseline's logistic regression and the cosine head of LoRA are both linear.

    A row holds the features, behind them those of the frozen encoder if `weight` `[labels, 2d or 4d]` has columns for
    them, and last what each other reader says of each label: the letters, and the reader of conversations.

    `labels` may hold classes that are no intents. OUT_OF_SCOPE takes part in the score for out of scope, never in an
    arg max (reference: that finds .36 of it); those of OTHERWISE take their share of the probability, so that a
    question for an article is not taken for the intent next to it. `memory` holds training questions in scope,
    `strangers` those out of scope. `shares` are how much the other readers count beside the features, `level` how
    much of what frequent classes gained has been taken from `bias`.
    """

    labels: tuple[str, ...]
    weight: Floats
    bias: Floats
    memory: Memory = NOTHING
    strangers: Memory = NOTHING
    temperature: float = 1.0
    scope: OutOfScope = UNFITTED
    shares: tuple[float, ...] = ()
    level: float = 0.0

    @property
    def intents(self) -> tuple[str, ...]:
        return tuple(filter(approvable, self.labels))

    @property
    def inside(self) -> tuple[str, ...]:
        """The intents, and behind them the classes of questions that are answered otherwise."""
        return (*self.intents, *(label for label in self.labels if label.startswith(OTHERWISE)))

    def readers(self, rows: Floats) -> int:
        """How many readers have spoken in the rows beside the encoder."""
        return int(rows.shape[1] - self.weight.shape[1]) // len(self.labels)

    def logits(self, rows: Floats) -> tuple[Floats, Floats]:
        """Logits of `inside` `[n, c]`, and of the out-of-scope class `[n]` (-inf without one)."""
        size = self.weight.shape[1]
        scores = rows[:, :size] @ self.weight.T + self.bias
        for share, start in zip(self.shares, range(size, rows.shape[1], len(self.labels)), strict=False):
            scores = scores + np.float32(share) * rows[:, start : start + len(self.labels)]
        places = {label: place for place, label in enumerate(self.labels)}
        inside = scores[:, [places[label] for label in self.inside]]
        if OUT_OF_SCOPE not in places:
            return inside, np.full(len(rows), -np.inf, np.float32)
        return inside, scores[:, places[OUT_OF_SCOPE]]

    def probabilities(self, rows: Floats) -> Doubles:
        """Of the intents, `[n, len(intents)]`; what is missing to 1 is answered otherwise."""
        return softmax(self.logits(rows)[0] / self.temperature)[:, : len(self.intents)]

    def signals(self, rows: Floats) -> Floats:
        """The SIGNALS of each row, `[n, 4]`; larger means more in scope."""
        inside, outside = self.logits(rows)
        best = inside.max(axis=1)
        nearest = self.memory.nearness(rows) - self.strangers.nearness(rows)
        margin = np.where(np.isfinite(outside), best - outside, 0.0)
        return np.stack([best, log_sum_exp(inside), nearest, margin], axis=1).astype(np.float32)

    def out_of_scope(self, rows: Floats) -> Doubles:
        return self.scope.score(self.signals(rows))

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        scope = np.array([self.scope.means, self.scope.scales, self.scope.weights], np.float64)
        return bytes(
            save(
                {
                    "weight": np.ascontiguousarray(self.weight),
                    "bias": np.ascontiguousarray(self.bias),
                    **self.memory.tensors("memory"),
                    **self.strangers.tensors("strangers"),
                    "temperature": np.array([self.temperature]),
                    "share": np.array(self.shares),
                    "level": np.array([self.level]),
                    "scope": scope,
                    "scope_offset": np.array([self.scope.offset]),
                }
            )
        )

    @classmethod
    def from_bytes(cls, content: bytes, labels: tuple[str, ...], dimension: int) -> Head:
        """Raises FinetuneError when the tensors are not those of a head for these labels and this base."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(content)
            means, scales, weights = (tuple(map(float, row)) for row in tensors["scope"])
            head = cls(
                labels,
                tensors["weight"].astype(np.float32),
                tensors["bias"].astype(np.float32),
                Memory.from_tensors(tensors, "memory", dimension),
                Memory.from_tensors(tensors, "strangers", dimension),
                float(tensors["temperature"][0]),
                OutOfScope(means, scales, weights, float(tensors["scope_offset"][0])),
                tuple(map(float, tensors["share"])),
                float(tensors["level"][0]),
            )
        except (SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
            raise FinetuneError(f"head.safetensors: not a head of this program ({error}); train again") from error
        width = 4 * dimension if head.weight.shape[1:] == (4 * dimension,) else 2 * dimension
        shapes = (head.weight.shape, head.bias.shape, len(means))
        if shapes != ((len(labels), width), (len(labels),), len(SIGNALS)):
            raise FinetuneError(f"head.safetensors: shaped for another model {shapes}; train again")
        return head


# ----------------------------------------------------------------------------------------------------------- model


class QuestionModel:
    """A version in memory. A baseline has no adapter file: its head reads the frozen encoder."""

    def __init__(
        self, encoder: Encoder, labels: tuple[str, ...], files: Mapping[str, bytes], search_vectors: Space
    ) -> None:
        """Raises FinetuneError when the files are not those of a version for this encoder."""
        self.encoder = encoder
        self.files = dict(files)
        self.search_vectors = search_vectors
        if "head.safetensors" not in files:
            raise FinetuneError("a version without head.safetensors cannot read questions; train again")
        self.head = Head.from_bytes(files["head.safetensors"], labels, encoder.dimension)
        self.precedents = NONE
        if PRECEDENTS in files:
            self.precedents = precedents_from(files[PRECEDENTS], encoder.dimension)
        self.letters: Letters | None = None
        if "letters.safetensors" in files:
            self.letters = Letters.from_bytes(files["letters.safetensors"], len(labels))
        self.flow: Flow | None = None
        if FLOW in files:
            self.flow = Flow.from_bytes(files[FLOW], len(labels), encoder.dimension)
        self._said: dict[int, Floats] = {}
        self.tone: ToneHead | None = None
        if "tone.safetensors" in files:
            self.tone = ToneHead.from_bytes(files["tone.safetensors"], encoder.dimension)
        adapter = self.adapter()
        self._reads_both = self.head.weight.shape[1] > 2 * encoder.dimension
        self.adapted: torch.nn.Module | Exported
        """What reads questions."""
        self._frozen: torch.nn.Module | Exported | None = None
        """What reads them a second time, without the adapter, where the head or the search needs that."""
        second = bool(adapter) and (self._reads_both or search_vectors == "frozen")
        if GRAPH in files and encoder.device == "cpu":
            self.adapted = self._exported(self.weights())
            self._frozen = self._exported(encoder.weights()) if second else None
        else:
            self.adapted = merged(encoder, adapter) if adapter else encoder.frozen
            self._frozen = encoder.frozen if second else None

    def with_precedents(self, precedents: Precedents) -> QuestionModel:
        """The model with other precedents; it shares everything else, its head and weights in memory too."""
        other = copy(self)
        other.files = {name: content for name, content in self.files.items() if name != PRECEDENTS}
        if len(precedents.asked):
            other.files[PRECEDENTS] = precedents.to_bytes()
        other.precedents = precedents
        return other

    def adapter(self) -> dict[str, Floats]:
        """What the adapter adds to the weights of the base, by their names; nothing for a baseline."""
        if "adapter_model.safetensors" not in self.files:
            return {}
        return changes(self.files["adapter_model.safetensors"], self.files.get("adapter_config.json", b""))

    def weights(self) -> dict[str, Floats]:
        """The base's weights with what the adapter adds to them, float32."""
        base, adapter = self.encoder.weights(), self.adapter()
        _fitting(adapter, base)
        return base | {name: base[name] + change for name, change in adapter.items()}

    def _exported(self, weights: Mapping[str, Floats]) -> Exported:
        """The graph over these weights, in eight bits where the version has been found to read alike and it pays."""
        if not self.in_eight_bits:
            return Exported(self.files[GRAPH], weights)
        factors = factors_from(self.files.get(SMOOTHING, b""))
        return Exported(self.files[QUANTISED], weights, eight_bits(weights, factors))

    @property
    def in_eight_bits(self) -> bool:
        return QUANTISED in self.files and self.encoder.device == "cpu" and fast_here()

    @classmethod
    def load(cls, version_folder: Path, base_folder: Path) -> QuestionModel:
        """Load a version onto its base, after every byte was checked. Raises FinetuneError."""
        return cls.of(Encoder(base_folder), version_folder)

    @classmethod
    def of(cls, encoder: Encoder, version_folder: Path) -> QuestionModel:
        """As `load`, on an encoder that is in memory already; versions share it."""
        manifest = verify(version_folder, encoder.fingerprint)
        files = {name: (version_folder / name).read_bytes() for name in MODEL_FILES.intersection(manifest.files)}
        return cls.from_manifest(encoder, manifest, files)

    @classmethod
    def from_manifest(cls, encoder: Encoder, manifest: Manifest, files: Mapping[str, bytes]) -> QuestionModel:
        return cls(encoder, manifest.labels, files, manifest.search_vectors)

    @property
    def exported(self) -> bool:
        """Whether it reads without torch."""
        return isinstance(self.adapted, Exported)

    @property
    def adapter_bytes(self) -> int:
        """What a version adds to the shared base on disk."""
        return sum(len(content) for content in self.files.values())

    def read(self, batch: Sequence[Question]) -> Readings:
        """Read n questions in one encoder pass (two when the version searches with frozen vectors).

        A question that is known by itself better than in its conversation begins something new: it is read alone.
        """
        if not batch:
            none = np.zeros((0, self.encoder.dimension), np.float32)
            return Readings(self.head.intents, np.zeros((0, len(self.head.intents))), np.zeros(0), none, none, none)
        last, window = self.encoder.encode(self.adapted, batch)
        # Without any history message and window are the same rows; else one look at the memory is for both.
        both = np.vstack([window, last]) if any(history for _, history in batch) else window
        expected = self.precedents.expected(both)
        expected, alone = expected[: len(batch)], expected[-len(batch) :]
        known_alone, known = np.linalg.norm(alone, axis=1), np.linalg.norm(expected, axis=1)
        stands = (known_alone >= known + STANDS_ALONE)[:, None]
        expected = np.where(stands, alone, expected)
        plain = self.encoder.encode(self._frozen, batch) if self._frozen is not None else (last, window)
        parts = [features(last, np.where(stands, last, window))]
        if self._reads_both:
            parts.append(features(plain[0], np.where(stands, plain[0], plain[1])))
        apart = stands[:, 0].tolist()
        asked = [(text, () if alone else history) for (text, history), alone in zip(batch, apart, strict=True)]
        if self.letters is not None:
            parts.append(self.letters.chances(asked))
        if self.flow is not None:
            parts.append(self.flow.chances(talks(asked, last, self._starts)))
        rows = np.hstack(parts)
        tones = self.tone.read([text for text, _ in batch], last) if self.tone is not None else None
        if self.search_vectors == "frozen":
            last, window = plain
        window = np.where(stands, last, window)
        intents, scope = self.head.probabilities(rows), self.head.out_of_scope(rows)
        return Readings(self.head.intents, intents, scope, last, window, expected, tones)

    def _starts(self, lines: Sequence[str]) -> Floats:
        """Vectors of lines that stand before a message; each comes again with every message after it, but is read once.

        The table is replaced and never changed, so that another thread may be reading it; of a text it keeps the hash.
        """
        said, keys = self._said, [hash(line) for line in lines]
        new = {key: line for key, line in zip(keys, lines, strict=True) if key not in said}
        if new:
            kept = said if len(said) + len(new) <= REMEMBERED_LINES else {key: said[key] for key in keys if key in said}
            read = self.encoder.starts(self.adapted, list(new.values()))
            self._said = said = kept | dict(zip(new, read, strict=True))
        return np.stack([said[key] for key in keys])


def merged(encoder: Encoder, adapter: Mapping[str, Floats], dtype: torch.dtype | None = None) -> Any:
    """A copy of the base with what an adapter adds to its weights, in the encoder's own type of numbers or another."""
    import torch

    module = encoder.module(dtype=dtype)
    targets = dict(module.named_parameters())
    _fitting(adapter, targets)
    with torch.no_grad():
        for name, change in adapter.items():
            targets[name].copy_(targets[name].float() + torch.from_numpy(change).to(targets[name].device))
    return module


def _fitting(adapter: Mapping[str, Floats], base: Mapping[str, Any]) -> None:
    for name, change in adapter.items():
        if name not in base or tuple(base[name].shape) != change.shape:
            raise FinetuneError(f"adapter_model.safetensors: does not fit this base ({name}); train again")


def changes(weights: bytes, config: bytes) -> dict[str, Floats]:
    """What a LoRA adapter adds to the weights of its base, by their names: alpha / r * B A.

    Written out rather than left to peft, so that serving does not import it; a test holds the two equal.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    prefix, down, up = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
    try:
        settings = json.loads(config)
        scale = np.float32(float(settings["lora_alpha"]) / int(settings["r"]))
        tensors = load(weights)
        found = {}
        for name in [key for key in tensors if key.endswith(down)]:
            low, high = (tensors.pop(n).astype(np.float32) for n in (name, name.removesuffix(down) + up))
            found[name.removeprefix(prefix).removesuffix(down) + ".weight"] = scale * (high @ low)
    except (SafetensorError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise FinetuneError(f"adapter_model.safetensors: does not fit this base ({error}); train again") from error
    if tensors:
        raise FinetuneError(f"adapter_model.safetensors: holds unknown tensors ({min(tensors)}); train again")
    return found
