"""The frozen base: text to token ids, token ids to pooled unit vectors, with whatever module stands in for its weights.

Owns tokens, windows, batches and pooling. Knows nothing about intents, versions or training. torch is loaded when the
weights are first needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import FinetuneError, Question
from finetune.export import Exported

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 128
MAX_CHARACTERS = 8_000
"""A text is cut here before tokenising: beyond any MAX_TOKENS, and short of what stalls the tokenizer."""
WINDOW_LINES = 3
LINE_TOKENS = 24
"""The window holds the message and the start of each of the last lines before it: a long reply of ours must not push
out what the customer said, and training costs by the token (dstc9_faq R@5 .761 with this cut, .756 without)."""
BATCH = 64
SMALL_BATCH = 16
"""Sequences that a training step on a CPU computes together in float32: 1.4 times as fast as 64, of which a third is
padding. In bf16 it is the other way round: the units for it are fed by large batches."""


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

    Its weights, and torch with them, are loaded when they are first asked for: an exported version never does.
    Raises FinetuneError when the folder does not hold a usable model.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.folder = folder
        self.fingerprint = base_fingerprint(folder)
        try:
            self.dimension = int(json.loads((folder / "config.json").read_bytes())["hidden_size"])
        except (ValueError, KeyError, TypeError) as error:
            raise FinetuneError(f"{folder / 'config.json'}: not of a model ({error!r}); copy it again") from error
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

    @cached_property
    def device(self) -> str:
        """ "cuda" or "cpu". Where no driver stands, torch need not be asked."""
        if not any(Path("/dev").glob("nvidia[0-9]*")):
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.bfloat16 if _has_fast_bf16(self.device) else torch.float32

    @cached_property
    def frozen(self) -> Any:
        """The base as it is."""
        return self.module()

    def weights(self) -> dict[str, Floats]:
        """The base's tensors by name, float32, without torch. Raises FinetuneError for a type that NumPy has not."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = [load_file(path) for path in sorted(self.folder.glob("model*.safetensors"))]
        except (SafetensorError, OSError, TypeError, KeyError) as error:
            raise FinetuneError(f"{self.folder}: weights that NumPy cannot read ({error}); train again") from error
        return {name: np.asarray(t, np.float32) for part in tensors for name, t in part.items() if t.dtype.kind == "f"}

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

    def starts(self, module: torch.nn.Module | Exported, lines: Sequence[str]) -> Floats:
        """Float32 unit vectors `[n, d]` of the beginnings of lines, cut as in a window but each read by itself."""
        texts = [_encodable(line[:MAX_CHARACTERS]) for line in lines]
        pieces = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return self.vectors(module, [[*self._prefix, *piece.ids[:LINE_TOKENS], *self._suffix] for piece in pieces])

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

    def traceable(self, weights: torch.nn.Module) -> torch.nn.Module:
        """`pooled` as one module from the ids `[1, l]` of a sequence, a float32 copy with these weights on the CPU."""
        import torch

        copy = self.module("eager", torch.float32).cpu()
        copy.load_state_dict({name: tensor.float().cpu() for name, tensor in weights.state_dict().items()})
        first_token = self._first_token

        class Pooling(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = copy

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                states = self.module(input_ids=ids).last_hidden_state
                pooled = states[:, 0] if first_token else states.mean(1)
                return torch.nn.functional.normalize(pooled, dim=-1)

        return Pooling().eval()

    def pooled_by_length(self, module: torch.nn.Module, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `pooled`, but a CPU computes it in smaller batches of like length: padding costs as much as words do."""
        import torch

        size = len(sequences)
        if self.device == "cpu":
            size = SMALL_BATCH if self.dtype == torch.float32 else BATCH
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


def _has_fast_bf16(device: str) -> bool:
    """Only with matrix units: a Xeon with AVX-512 BF16 alone multiplies in bf16 at half the speed of float32."""
    import torch

    return device == "cuda" or bool(torch.cpu._is_amx_tile_supported())
