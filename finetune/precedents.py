"""Precedents: past questions and the passages that resolved them, remembered beside the weights.

A new question should find what its like have found: kernel regression (Nadaraya 1964, Watson 1964) from the space of
questions to the space of frozen passages. Owns that memory and its bytes; knows no encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import FinetuneError

FILE = "precedents.safetensors"
NEIGHBOURS = 8
SHARPNESS = 40.0
"""A neighbour counts e times less for each .025 of cosine that it is further away."""


@dataclass(frozen=True, slots=True)
class Precedents:
    """`asked` `[m, d]`: unit rows, adapted windows of past questions; `found` `[m, d]`: the mean of their passages."""

    asked: Floats
    found: Floats

    def expected(self, windows: Floats) -> Floats:
        """What questions with these windows `[n, d]` should find, `[n, d]`, in the space of the passages.

        The length of a row, 0 to 1, says how much is known: the likeness of the nearest past questions, less where
        these were resolved by different passages. Zero when there are no precedents.
        """
        result = np.zeros_like(windows)
        if not len(self.asked):
            return result
        count = min(NEIGHBOURS, len(self.asked))
        for start in range(0, len(windows), 1024):
            likeness = windows[start : start + 1024] @ self.asked.T
            nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            likeness = np.take_along_axis(likeness, nearest, axis=1)
            trust = np.exp(SHARPNESS * (likeness - likeness.max(axis=1, keepdims=True)))
            trust /= trust.sum(axis=1, keepdims=True)
            result[start : start + 1024] = np.einsum("nk,nkd->nd", trust * likeness.clip(0), self.found[nearest])
        return result

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        return bytes(save({"asked": self.asked.astype(np.float16), "found": self.found.astype(np.float16)}))


NONE = Precedents(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))


def precedents_from(content: bytes, dimension: int) -> Precedents:
    """Raises FinetuneError when the tensors are not those of precedents for this base."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
        precedents = Precedents(tensors["asked"].astype(np.float32), tensors["found"].astype(np.float32))
    except (SafetensorError, KeyError, ValueError) as error:
        raise FinetuneError(f"precedents.safetensors: not of this program ({error}); train again") from error
    if precedents.asked.shape != precedents.found.shape or precedents.asked.shape[1:] != (dimension,):
        raise FinetuneError(f"precedents.safetensors: shaped {precedents.asked.shape} for another model; train again")
    return precedents
