"""The mark to beat: logistic regression on the frozen encoder.

Owns the fit. A baseline is a full version (an empty adapter and this head), goes live first, and is what LoRA must
beat on the company's own data. Knows nothing about encoders or files.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import FinetuneError
from finetune.memory import halves_alike
from finetune.model import Head

STRENGTH = 30.0
"""Inverse regularisation C: chosen on BANKING77, CLINC150 and few-shot splits (reference/baselines.md)."""


def fit_baseline(rows: Floats, intents: Sequence[str], seed: int) -> Head:
    """Fit on features `[n, 2d]` of labelled rows; the head has no memory and is not calibrated yet.

    Raises FinetuneError with fewer than two intents.
    """
    from sklearn.linear_model import LogisticRegression

    labels, targets = np.unique(np.array(intents), return_inverse=True)
    if len(labels) < 2:
        raise FinetuneError(f"training needs rows of at least two intents, found {len(labels)}; label more messages")
    half = rows.shape[1] // 2
    # Without any history both halves are equal: fitting one is the same model in half the time.
    alike = halves_alike(rows)
    inputs = rows[:, :half] * np.sqrt(np.float32(2)) if alike else rows
    with warnings.catch_warnings():
        # Many intents with few rows are normal here, and 300 steps are near enough to the optimum.
        warnings.simplefilter("ignore", UserWarning)
        # The gradient of a mean over many intents is small from the start: at 1e-3 BANKING77 ends 2.4 points too low.
        fitted = LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-4, random_state=seed).fit(inputs, targets)
    weight, bias = fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32)
    if len(labels) == 2:
        # scikit-learn keeps one row for two classes.
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    if alike:
        weight = np.hstack([weight, weight]) / np.sqrt(np.float32(2))
    return Head(tuple(map(str, labels)), weight, bias)
