"""A small real encoder for tests of logic: words hashed into buckets, the same text the same vector, no model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from retriever.passages import Query, Vectors


class HashingEncoder:
    """Texts that share words are near. Counts what it was asked to encode."""

    dimension = 64

    def __init__(self, name: str = "hashing-64@1") -> None:
        self.name = name
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        self.encoded += texts
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                digest = hashlib.sha256(word.strip(".,?!:").encode("utf-8", "replace")).digest()
                rows[row, digest[0] % self.dimension] += 1 if digest[1] % 2 else -1
            if progress is not None:
                progress(row + 1, len(texts))
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.where(norms > 0, rows / np.maximum(norms, 1e-9), 1 / np.sqrt(self.dimension)).astype(np.float32)

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, Vectors]:
        before, self.encoded = self.encoded, []
        last = self.encode([query.text for query in queries])
        window = self.encode([" ".join([*(line.text for line in query.history), query.text]) for query in queries])
        self.encoded = before
        return last, window

    def knows(self, word: str) -> bool:
        """It has no words of its own."""
        return False
