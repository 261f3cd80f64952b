"""Vectors that an ingest has made, on disk while it makes the others: after a kill nobody makes them again.

Owns one file beside the versions that grows part by part; each part proves what it holds, and from the first that is
torn or damaged on it is cut off. It is no version and nothing is searched in it. Knows nothing about passages.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from retriever.disk import disk_errors
from retriever.knowledge import PassageEncoder, Progress
from retriever.passages import Vectors

PART: Final = 2_048
"""Texts embedded between two writes: some seconds, and most that a kill costs. 32 batches, so that texts of a length
still meet."""

_NAME: Final = ".embedded-"
"""Hidden, as all that is unfinished: backups leave it out."""
KEY: Final = 16
"""Bytes of what stands for a text."""
_PROOF: Final = 32


def embed(
    texts: Sequence[str], encoder: PassageEncoder, folder: Path, progress: Progress | None = None
) -> tuple[Vectors, int]:
    """The vectors of `texts`, all different, float32 `[n, d]`, and how many were made now: others outlived a kill.

    Raises RetrieverError when the disk refuses. Hold the lock of `folder`, and `forget` when they are in a version.
    """
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    if not texts:
        return vectors, 0
    missing = {key(text): row for row, text in enumerate(texts)}
    path = folder / f"{_NAME}{_space(encoder)}"
    with disk_errors(path), path.open("a+b") as file:
        _take_over(file, missing, vectors)
    rows = list(missing.values())
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        made = encoder.encode([texts[row] for row in part], _further(progress, start, len(rows)))
        vectors[part] = made
        with disk_errors(path), path.open("ab") as file:
            _append(file, [key(texts[row]) for row in part], made)
    return vectors, len(rows)


def forget(folder: Path) -> None:
    """What is in a version, or of an encoder that made none, is not needed twice."""
    for left in folder.glob(f"{_NAME}*"):
        with suppress(OSError):
            left.unlink()


def _further(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def _space(encoder: PassageEncoder) -> str:
    """One encoder's vectors say nothing to another."""
    return hashlib.sha256(f"{encoder.name} {encoder.dimension}".encode()).hexdigest()[:16]


def key(text: str) -> bytes:
    """What stands for a text: of two texts never the same."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY]


def _take_over(file: BinaryIO, missing: dict[bytes, int], vectors: Vectors) -> None:
    """Fill the rows of `vectors` that the sound parts of `file` hold, and strike them off `missing`."""
    file.seek(0)
    sound = 0
    while part := _read(file, vectors.shape[1]):
        sound = file.tell()
        keys, made = part
        for key, vector in zip(keys, made, strict=True):
            if (row := missing.pop(key, None)) is not None:
                vectors[row] = vector
    file.truncate(sound)


def _read(file: BinaryIO, dimension: int) -> tuple[list[bytes], Vectors] | None:
    """The next part; None at the end, and where a write was cut short or the disk has changed a bit."""
    head = file.read(4)
    count = int.from_bytes(head, "little")
    if not 0 < count <= PART:
        return None
    body, proof = file.read(count * (KEY + 4 * dimension)), file.read(_PROOF)
    if hashlib.sha256(head + body).digest() != proof:
        return None
    keys = [body[start : start + KEY] for start in range(0, count * KEY, KEY)]
    return keys, np.frombuffer(body, "<f4", offset=count * KEY).reshape(count, dimension)


def _append(file: BinaryIO, keys: Sequence[bytes], made: Vectors) -> None:
    part = len(keys).to_bytes(4, "little") + b"".join(keys) + made.astype("<f4").tobytes()
    file.write(part + hashlib.sha256(part).digest())
    file.flush()
    os.fsync(file.fileno())
