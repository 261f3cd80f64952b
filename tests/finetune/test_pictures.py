"""Pictures: PNG of the size that was promised, equal for equal numbers, and nothing global touched."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from finetune.metrics import RiskCurve, risk_coverage
from finetune.pictures import risk_coverage_png, training_png
from tests.conftest import ROOT


def curve(rows: int) -> RiskCurve:
    random = np.random.default_rng(rows)
    confidence = random.random(rows)
    return risk_coverage(confidence, random.random(rows) < confidence)


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 1, 2, 800])
def test_a_risk_coverage_picture_of_any_number_of_rows(rows: int) -> None:
    png = risk_coverage_png(curve(rows), "LoRA on 800 held-out rows")
    assert size(png) == (800, 500) and b"Software" not in png
    assert png == risk_coverage_png(curve(rows), "LoRA on 800 held-out rows")
    assert png != risk_coverage_png(curve(801), "LoRA on 800 held-out rows"), "it shows the numbers"


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 60])
def test_a_training_picture(steps: int) -> None:
    series = [1 / (n + 1) for n in range(steps)]
    png = training_png(range(steps), series, series, series, "LoRA")
    assert size(png) == (800, 500) and png == training_png(range(steps), series, series, series, "LoRA")
    assert png != training_png(range(steps), series, series, [2 * x for x in series], "LoRA")


@pytest.mark.slow
def test_importing_draws_nothing_and_drawing_needs_no_pyplot(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys, finetune.pictures as p; assert 'matplotlib' not in sys.modules\n"
        "p.training_png([1], [1.0], [1.0], [1.0], 'x'); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
