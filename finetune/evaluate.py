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
from finetune.outcomes import Dial, Scores, dialled, read_outcomes, scores_of
from finetune.recipe import TrainConfig
from finetune.train import Report, Trained, fit_versions, silent


@dataclass(frozen=True, slots=True)
class SystemReport(Scores):
    """One system of `evaluate intents --json`."""

    seconds: float
    adapter_bytes: int
    dial: Dial


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
    max_error_rate: float = 0.05,
) -> IntentsReport:
    """Train both systems on `train_rows` and measure them once on `test_rows`, which choose nothing.

    The threshold for `max_error_rate` is chosen on rows held out from `train_rows`.

    Raises FinetuneError on rows nothing can be learnt from or measured on.
    """
    fitted = fit_versions(train_rows, Encoder(base_folder), config or TrainConfig(), report)

    def told(trained: Trained) -> SystemReport:
        outcomes = read_outcomes(trained.model, test_rows)
        dial = dialled(read_outcomes(trained.measured, fitted.rows.held_out), outcomes, max_error_rate)
        scores = asdict(scores_of(outcomes))
        return SystemReport(**scores, seconds=trained.seconds, adapter_bytes=trained.model.adapter_bytes, dial=dial)

    return IntentsReport(told(fitted.lora), told(fitted.baseline), fitted.warnings)
