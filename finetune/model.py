"""The question side: one encoder pass over a message and its conversation gives intents, scope and search vectors.

Owns tokens, windows, pooling, the adapter, the head and what a version's files mean. Knows nothing about how they
are trained, where versions live, or what is done with a reading. torch is loaded when a model is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.calibrate import Doubles, Floats, OutOfScope, log_sum_exp, softmax
from finetune.examples import OTHERWISE, OUT_OF_SCOPE, FinetuneError, approvable
from finetune.export import GRAPH, Exported
from finetune.precedents import NONE, precedents_from
from finetune.registry import Manifest, Space, verify

if TYPE_CHECKING:
    import torch

Question = tuple[str, Sequence[tuple[str, str]]]
"""The last message, and the `(speaker, text)` lines before it, oldest first."""

MAX_TOKENS = 128
MAX_CHARACTERS = 8_000
"""A text is cut here before tokenising: beyond any MAX_TOKENS, and short of what stalls the tokenizer."""
WINDOW_LINES = 3
LINE_TOKENS = 24
"""The window holds the message and the start of each of the last lines before it: a long reply of ours must not push
out what the customer said, and training costs by the token (dstc9_faq R@5 .761 with this cut, .756 without)."""
BATCH = 64
SMALL_BATCH = 16
"""Sequences that a training step on a CPU computes together: 1.4 times as fast as 64, of which a third is padding."""
NEIGHBOURS = 5
STANDS_ALONE = 0.1
"""How much better known a message must be alone than with the lines before it to be read without them."""

SIGNALS = ("max_logit", "energy", "nearest", "margin")
"""What speaks for a question being in scope: the best in-scope logit; the log-sum-exp of in-scope logits (Liu et al.
2020); the mean cosine to the nearest training questions in scope (Sun et al. 2022), less that to the nearest out of
scope; and the best in-scope logit less that of the out-of-scope class, 0 where there is no such class."""
SCOPE_PRIOR = (0.0, 0.5, 0.5, 0.0)
SCOPE_PRIOR_CLASS = (0.0, 0.5, 0.5, 0.5)
"""Weights of the signals before any out-of-scope row was seen; the second when there is an out-of-scope class."""


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


# --------------------------------------------------------------------------------------------------------- encoder


def base_fingerprint(folder: Path) -> str:
    """SHA-256 of a base model's weights. Raises FinetuneError when the folder does not hold a usable model."""
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights or not (folder / "tokenizer.json").is_file() or not (folder / "config.json").is_file():
        raise FinetuneError(f"{folder}: has no config.json, tokenizer.json and model.safetensors; set its path")
    digest = hashlib.sha256()
    for path in weights:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Encoder:
    """A frozen base folder (sentence-transformers layout): text to token ids, token ids to pooled unit vectors.

    Raises FinetuneError when the folder does not hold a usable model.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from tokenizers import Tokenizer

        self.folder = folder
        self.fingerprint = base_fingerprint(folder)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.bfloat16 if self.device == "cuda" or _cpu_has_bf16() else torch.float32
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise FinetuneError(f"{folder / 'tokenizer.json'}: not a tokenizer ({error}); copy it again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        special = self._tokenizer.encode("").ids
        self._prefix, self._suffix = special[:1], special[1:]
        pooling = folder / "1_Pooling" / "config.json"
        self._first_token = pooling.is_file() and b'"pooling_mode_cls_token": true' in pooling.read_bytes()
        self.frozen = self.module()
        self.dimension = int(self.frozen.config.hidden_size)

    def module(self, attention: str = "sdpa", dtype: torch.dtype | None = None) -> Any:
        """A fresh copy of the base weights, a transformers model on the device, frozen."""
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            module = AutoModel.from_pretrained(
                str(self.folder),
                dtype=dtype or self.dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
        except Exception as error:  # anything from safetensors to a missing architecture
            reason = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
            raise FinetuneError(f"{self.folder}: not a usable base model ({reason}); copy it again") from error
        module.eval().requires_grad_(False)
        return module.to(self.device)

    def tokenise(self, questions: Sequence[Question]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of the last messages and of the windows, at most MAX_TOKENS each.

        A window is the last lines, cut to LINE_TOKENS each, and the message; when it is too long its oldest tokens
        go. Without history the two are the same list object, so that callers encode it once.
        """
        texts = [_encodable(text[:MAX_CHARACTERS]) for text, _ in questions]
        lines = [_encodable(line[-MAX_CHARACTERS:]) for _, history in questions for _, line in history[-WINDOW_LINES:]]
        pieces = [e.ids for e in self._tokenizer.encode_batch(texts + lines, add_special_tokens=False)]
        room = MAX_TOKENS - len(self._prefix) - len(self._suffix)
        last, window = [], []
        cursor = len(texts)
        for index, (_, history) in enumerate(questions):
            message = pieces[index][:room]
            last.append([*self._prefix, *message, *self._suffix])
            count = min(len(history), WINDOW_LINES)
            before = [token for line in pieces[cursor : cursor + count] for token in line[:LINE_TOKENS]]
            cursor += count
            kept = before[max(0, len(before) - (room - len(message))) :]
            window.append([*self._prefix, *kept, *message, *self._suffix] if kept else last[-1])
        return last, window

    def pooled(self, module: torch.nn.Module, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Float32 unit vectors `[n, d]` of one padded batch; gradients flow when they are on."""
        import torch

        width = max(len(ids) for ids in sequences)
        if self.device == "cuda":
            width = -(-width // 8) * 8
        ids = torch.zeros((len(sequences), width), dtype=torch.long)
        mask = torch.zeros((len(sequences), width), dtype=torch.long)
        for row, tokens in enumerate(sequences):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        mask = mask.to(self.device)
        states = module(input_ids=ids.to(self.device), attention_mask=mask).last_hidden_state.float()
        if self._first_token:
            pooled = states[:, 0]
        else:
            weights = mask.unsqueeze(-1).float()
            pooled = (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1)

    def pooling(self, module: torch.nn.Module) -> torch.nn.Module:
        """`pooled` as a module of its own, from the ids `[1, l]` of one sequence: what an export traces."""
        import torch

        first_token = self._first_token

        class Pooling(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                states = self.module(input_ids=ids).last_hidden_state
                pooled = states[:, 0] if first_token else states.mean(1)
                return torch.nn.functional.normalize(pooled, dim=-1)

        return Pooling().eval()

    def pooled_by_length(self, module: torch.nn.Module, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `pooled`, but a CPU computes it in small batches of like length: padding costs as much as words do."""
        import torch

        size = SMALL_BATCH if self.device == "cpu" else len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        parts = [
            self.pooled(module, [sequences[i] for i in order[start : start + size]])
            for start in range(0, len(order), size)
        ]
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def vectors(
        self,
        module: torch.nn.Module | Exported,
        sequences: Sequence[Sequence[int]],
        progress: Callable[[int, int], None] | None = None,
    ) -> Floats:
        """Float32 unit vectors `[n, d]` in the order given; computed in batches of like length."""
        if isinstance(module, Exported):
            return module.pooled(sequences)
        import torch

        result = np.zeros((len(sequences), self.dimension), np.float32)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                result[rows] = self.pooled(module, [sequences[i] for i in rows]).cpu().numpy()
                if progress is not None:
                    progress(min(start + BATCH, len(order)), len(order))
        return result

    def encode(
        self,
        module: torch.nn.Module | Exported,
        questions: Sequence[Question],
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Floats, Floats]:
        """`(last, window)` of the questions in one pass; a question without history is encoded once."""
        last, window = self.tokenise(questions)
        longer = [i for i, (a, b) in enumerate(zip(last, window, strict=True)) if a is not b]
        vectors = self.vectors(module, last + [window[i] for i in longer], progress)
        windows = vectors[: len(last)].copy()
        windows[longer] = vectors[len(last) :]
        return vectors[: len(last)], windows


def _encodable(text: str) -> str:
    """A lone surrogate is a valid str but not valid UTF-8; the tokenizer would raise on it."""
    return text.encode("utf-8", "replace").decode()


def _cpu_has_bf16() -> bool:
    """Whether bf16 is fast here: without these units it is eight times slower than fp32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def features(last: Floats, window: Floats) -> Floats:
    """What the head reads: both vectors side by side, `[n, 2d]` unit rows."""
    return np.asarray(np.hstack([last, window]) / np.sqrt(np.float32(2)))


# ------------------------------------------------------------------------------------------------------------ head


@dataclass(frozen=True, slots=True)
class Head:
    """Reads features. The baseline's logistic regression and the cosine head of LoRA are both linear.

    `labels` may hold classes that are no intents. OUT_OF_SCOPE takes part in the score for out of scope, never in an
    arg max (reference: that finds .36 of it); those of OTHERWISE take their share of the probability, so that a
    question for an article is not taken for the intent next to it. `memory` holds features of training questions in
    scope, `strangers` of those out of scope, float16 `[m, 2d]` each.
    """

    labels: tuple[str, ...]
    weight: Floats
    bias: Floats
    memory: Floats
    strangers: Floats
    temperature: float = 1.0
    scope: OutOfScope = UNFITTED

    @property
    def intents(self) -> tuple[str, ...]:
        return tuple(filter(approvable, self.labels))

    @property
    def inside(self) -> tuple[str, ...]:
        """The intents, and behind them the classes of questions that are answered otherwise."""
        return (*self.intents, *(label for label in self.labels if label.startswith(OTHERWISE)))

    def logits(self, rows: Floats) -> tuple[Floats, Floats]:
        """Logits of `inside` `[n, c]`, and of the out-of-scope class `[n]` (-inf without one)."""
        scores = rows @ self.weight.T + self.bias
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
        nearest = _nearness(rows, self.memory) - _nearness(rows, self.strangers)
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
                    "memory": np.ascontiguousarray(self.memory.astype(np.float16)),
                    "strangers": np.ascontiguousarray(self.strangers.astype(np.float16)),
                    "temperature": np.array([self.temperature]),
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
                tensors["memory"].astype(np.float32),
                tensors["strangers"].astype(np.float32),
                float(tensors["temperature"][0]),
                OutOfScope(means, scales, weights, float(tensors["scope_offset"][0])),
            )
        except (SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
            raise FinetuneError(f"head.safetensors: not a head of this program ({error}); train again") from error
        rows = {head.memory.shape[1:], head.strangers.shape[1:]}
        shapes = (head.weight.shape, head.bias.shape, rows, len(means))
        if shapes != ((len(labels), 2 * dimension), (len(labels),), {(2 * dimension,)}, len(SIGNALS)):
            raise FinetuneError(f"head.safetensors: shaped for another model {shapes}; train again")
        return head


def _nearness(rows: Floats, memory: Floats) -> Floats:
    """Mean cosine of each row to its nearest remembered rows, `[n]`; 0 when nothing is remembered."""
    result = np.zeros(len(rows), np.float32)
    if not len(memory):
        return result
    count = min(NEIGHBOURS, len(memory))
    for start in range(0, len(rows), 1024):
        likeness = rows[start : start + 1024] @ memory.T
        result[start : start + 1024] = np.partition(likeness, -count, axis=1)[:, -count:].mean(axis=1)
    return result


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
        if "precedents.safetensors" in files:
            self.precedents = precedents_from(files["precedents.safetensors"], encoder.dimension)
        self.adapted: torch.nn.Module | Exported = encoder.frozen
        """What reads questions."""
        self._learnt = "adapter_model.safetensors" in files
        if GRAPH in files and encoder.device == "cpu":
            self.adapted = Exported(files[GRAPH])
        elif self._learnt:
            self.adapted = merged(encoder, files["adapter_model.safetensors"], files.get("adapter_config.json", b""))

    @classmethod
    def load(cls, version_folder: Path, base_folder: Path) -> QuestionModel:
        """Load a version onto its base, after every byte was checked. Raises FinetuneError."""
        return cls.of(Encoder(base_folder), version_folder)

    @classmethod
    def of(cls, encoder: Encoder, version_folder: Path) -> QuestionModel:
        """As `load`, on an encoder that is in memory already; versions share it."""
        manifest = verify(version_folder, encoder.fingerprint)
        files = {name: (version_folder / name).read_bytes() for name in manifest.files}
        return cls.from_manifest(encoder, manifest, files)

    @classmethod
    def from_manifest(cls, encoder: Encoder, manifest: Manifest, files: Mapping[str, bytes]) -> QuestionModel:
        return cls(encoder, manifest.labels, files, manifest.search_vectors)

    @property
    def adapter_bytes(self) -> int:
        """What a version adds to the shared base on disk, without the graph, which is the base once more."""
        return sum(len(content) for name, content in self.files.items() if name != GRAPH)

    def read(self, batch: Sequence[Question]) -> Readings:
        """Read n questions in one encoder pass (two when the version searches with frozen vectors).

        A question that is known by itself better than in its conversation begins something new: it is read alone.
        """
        if not batch:
            none = np.zeros((0, self.encoder.dimension), np.float32)
            return Readings(self.head.intents, np.zeros((0, len(self.head.intents))), np.zeros(0), none, none, none)
        last, window = self.encoder.encode(self.adapted, batch)
        expected = self.precedents.expected(window)
        # Without any history message and window are the same rows.
        alone = self.precedents.expected(last) if any(history for _, history in batch) else expected
        known_alone, known = np.linalg.norm(alone, axis=1), np.linalg.norm(expected, axis=1)
        stands = (known_alone >= known + STANDS_ALONE)[:, None]
        expected = np.where(stands, alone, expected)
        rows = features(last, np.where(stands, last, window))
        if self.search_vectors == "frozen" and self._learnt:
            last, window = self.encoder.encode(self.encoder.frozen, batch)
        window = np.where(stands, last, window)
        intents, scope = self.head.probabilities(rows), self.head.out_of_scope(rows)
        return Readings(self.head.intents, intents, scope, last, window, expected)


def merged(encoder: Encoder, weights: bytes, config: bytes) -> Any:
    """A copy of the base with a LoRA adapter added into its weights: W + alpha / r * B A.

    Written out rather than left to peft, so that serving does not import it; a test holds the two equal.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    prefix, down, up = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
    module = encoder.module()
    targets = dict(module.named_parameters())
    try:
        settings = json.loads(config)
        scale = float(settings["lora_alpha"]) / int(settings["r"])
        tensors = load(weights)
        with torch.no_grad():
            for name in [key for key in tensors if key.endswith(down)]:
                target = targets[name.removeprefix(prefix).removesuffix(down) + ".weight"]
                change = tensors.pop(name.removesuffix(down) + up).float() @ tensors.pop(name).float()
                target.copy_(target.float() + scale * change.to(target.device))
    except (SafetensorError, KeyError, ValueError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise FinetuneError(f"adapter_model.safetensors: does not fit this base ({error}); train again") from error
    if tensors:
        raise FinetuneError(f"adapter_model.safetensors: holds unknown tensors ({min(tensors)}); train again")
    return module
