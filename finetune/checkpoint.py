"""A training that was interrupted goes on where it stood: its state on disk, whole or not there at all.

Owns the file and when it is written. Knows nothing about models or losses: the state is tensors by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.answers import Targets
from finetune.examples import Example, FinetuneError
from finetune.recipe import TrainConfig

if TYPE_CHECKING:
    import torch

EVERY = 30.0
"""Seconds between two writes: a state is some 10 MB, and half a minute is soon learnt again."""


@dataclass(slots=True)
class Checkpoints:
    """The unfinished trainings under a folder, a file each, named by what is trained on what."""

    folder: Path
    every: float = field(default_factory=lambda: EVERY)
    _written: float = field(default_factory=time.monotonic)

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """The state of this training; None when there is none. A file that cannot be read is as good as none."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return dict(load(self._file(key).read_bytes()))
        except (OSError, SafetensorError, ValueError):
            return None

    def due(self) -> bool:
        return time.monotonic() - self._written >= self.every

    def save(self, key: str, state: Mapping[str, torch.Tensor]) -> None:
        """Write the state beside the old one, then put it in its place. Raises FinetuneError when the disk refuses."""
        from safetensors.torch import save

        file = self._file(key)
        staged = file.with_suffix(".staged")
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            os.replace(staged, file)
        except OSError as error:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
            raise FinetuneError(f"{self.folder}: cannot be written ({error.strerror}); free space or rights") from error
        self._written = time.monotonic()

    def clear(self) -> None:
        """Forget every unfinished training: one of them has just become a version."""
        for file in (*self.folder.glob("*.safetensors"), *self.folder.glob("*.staged")):
            with suppress(OSError):
                file.unlink()

    def _file(self, key: str) -> Path:
        return self.folder / f"{key[:32]}.safetensors"


def training_key(examples: Sequence[Example], targets: Targets, base: str, config: TrainConfig) -> str:
    """Names a training by all that decides its outcome: rows in their order, what they should find, base and recipe."""
    digest = hashlib.sha256(json.dumps([base, asdict(config)], sort_keys=True).encode())
    for example in examples:
        row = (example.text, example.intent, example.history, example.answer)
        digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for table in (targets.candidates, targets.near, targets.credit):
        digest.update(table.tobytes())
    return digest.hexdigest()
