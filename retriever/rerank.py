"""A second opinion on the best passages: a small cross-encoder, where a company has set one.

Owns loading it and what it reads of a question and a passage. Knows nothing about how passages were found or how much
its opinion counts. torch and sentence-transformers are loaded when the first question is judged.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retriever.passages import Passage, Query, RetrieverError
from retriever.split import embedded_text

LINES: Final = 3
"""Lines before the question that it reads too."""
PIECES: Final = 384


class CrossEncoder:
    """Judges pairs of question and passage. `folder` is one of sentence-transformers' cross-encoders with one label."""

    def __init__(self, folder: Path) -> None:
        """Raises RetrieverError when a file is missing; the weights must be safetensors."""
        self._folder = folder
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            if not (folder / file).is_file():
                raise RetrieverError(
                    f"reranker {folder}: no {file} in it; give the folder of a sentence-transformers cross-encoder "
                    "(nothing is fetched from a hub, and only safetensors are loaded)"
                )
        self._lock = threading.Lock()

    def judge(self, query: Query, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """For each passage how well it answers, 0 to 1."""
        before = [line.text for line in query.history[-LINES:]]
        asked = "\n".join([*before, query.text])
        pairs = [(asked, _told(passage)) for passage in passages]
        with self._lock:
            judged: NDArray[np.float32] = np.asarray(
                self._model.predict(pairs, batch_size=32, show_progress_bar=False), np.float32
            )
        return judged

    @cached_property
    def _model(self) -> Any:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder as Loaded

        try:
            model: Any = Loaded(
                str(self._folder), local_files_only=True, max_length=PIECES, activation_fn=torch.nn.Sigmoid(),
                model_kwargs={"use_safetensors": True},
            )  # fmt: skip
        except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).splitlines() or [""])[0][:120]
            raise RetrieverError(f"reranker {self._folder}: cannot be loaded ({reason}); choose another") from None
        if model.num_labels != 1:
            raise RetrieverError(f"reranker {self._folder}: has {model.num_labels} labels; give one that scores pairs")
        return model


def _told(passage: Passage) -> str:
    """The passage with what it is about, which its own words often leave out."""
    about = passage.entity or (passage.title if not passage.question else "")
    return f"{about}\n{embedded_text(passage)}" if about else embedded_text(passage)
