"""The mark to beat must be as high as it can be: a baseline that stops early flatters whatever is compared with it."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.baseline import STRENGTH, fit_baseline
from finetune.calibrate import log_sum_exp


@pytest.mark.parametrize("history", [False, True])
def test_the_fit_is_the_optimum_of_a_logistic_regression(history: bool) -> None:
    """Many intents with few rows each, where solvers stop too early; the check is another solver run to its end."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    names = [f"intent-{n:02}" for n in range(60) for _ in range(15)]
    centres = np.repeat(random.normal(size=(60, 24)), 15, axis=0)
    vectors = (centres + random.normal(size=(900, 24))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    other = np.roll(vectors, 1, axis=1) if history else vectors
    rows = np.hstack([vectors, other]) / np.sqrt(np.float32(2))

    head = fit_baseline(rows, names, seed=0)
    best = LogisticRegression(C=STRENGTH, solver="newton-cg", max_iter=1000, tol=1e-8).fit(rows, names)

    def loss(logits: np.ndarray) -> float:
        right = logits[np.arange(900), np.repeat(np.arange(60), 15)]
        return float((log_sum_exp(logits) - right).mean())

    optimum = loss(best.decision_function(rows))
    assert loss(rows @ head.weight.T + head.bias) == pytest.approx(optimum, rel=0.02)
