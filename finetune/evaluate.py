"""How good a version is on labelled rows that it has never seen.

Owns the comparison of LoRA with its baseline on test rows, which choose nothing. Knows nothing about registries: the
rules by which a version goes live are in gate.py, the way there in release.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from finetune.encoder import Encoder
from finetune.examples import Example
from finetune.model import QuestionModel
from finetune.outcomes import Scores, read_outcomes, scores_of
from finetune.recipe import TrainConfig
from finetune.train import Report, Trained, fit_versions, silent


@dataclass(frozen=True, slots=True)
class SystemReport(Scores):
    """One system of `evaluate intents --json`."""

    seconds: float
    adapter_bytes: int


@dataclass(frozen=True, slots=True)
class IntentsReport:
    """LoRA beside its baseline, on the same test rows, trained on the same rows."""

    lora: SystemReport
    baseline: SystemReport
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The object of `evaluate intents --json`: LoRA's numbers, and `baseline` with the same keys."""
        return {**asdict(self.lora), "baseline": asdict(self.baseline), "warnings": list(self.warnings)}


def measure(model: QuestionModel, examples: Sequence[Example]) -> Scores:
    """Scores of a version on labelled rows. Raises FinetuneError when no row carries an intent.

    An intent the version does not know counts as an error, not as out of scope.
    """
    return scores_of(read_outcomes(model, examples))


def evaluate_intents(
    train_rows: Sequence[Example],
    test_rows: Sequence[Example],
    base_folder: Path,
    config: TrainConfig | None = None,
    report: Report = silent,
) -> IntentsReport:
    """Train both systems on `train_rows` and measure them once on `test_rows`, which choose nothing.

    Raises FinetuneError on rows nothing can be learnt from or measured on.
    """
    fitted = fit_versions(train_rows, Encoder(base_folder), config or TrainConfig(), report)
    return IntentsReport(_system(fitted.lora, test_rows), _system(fitted.baseline, test_rows), fitted.warnings)


def _system(trained: Trained, test_rows: Sequence[Example]) -> SystemReport:
    scores = measure(trained.model, test_rows)
    return SystemReport(**asdict(scores), seconds=trained.seconds, adapter_bytes=trained.model.adapter_bytes)
