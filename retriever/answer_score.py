"""How sure to be that what was found answers: one chance for each hit, 0 to 1.

Owns the built-in weights, and the score that is fitted on a company's own questions where a reader was trained on them.
Knows nothing about how hits are ranked, or what is done with a chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retriever.keyword_index import unspaced_share
from retriever.passages import Hit, Query, RetrieverError

Features = NDArray[np.float64]

# ------------------------------------------------------------------------------------------------ the built-in weights

FEATURES: Final = ("meaning", "words", "margin", "subject")
"""Of each hit, for text in scripts with spaces, then the same again for scripts without; then 1 for the latter."""
COEFFICIENTS: Final = np.array((3.1, 2.7, 5.3, 2.2, 2.6, 5.0, 7.7, 3.7, -2.6))
INTERCEPT: Final = -4.2
"""Fitted on the sample company's validation questions, lowered to be careful: for companies with nothing to fit on."""


def features(hits: Sequence[Hit]) -> Features:
    """What the built-in weights judge, `[len(hits), 9]`: see `FEATURES`."""
    table = np.zeros((len(hits), 2 * len(FEATURES) + 1))
    for row, hit in enumerate(hits):
        why = hit.why
        unspaced = unspaced_share(hit.passage.text) > 0.3
        at = len(FEATURES) if unspaced else 0
        table[row, at : at + len(FEATURES)] = (max(why.meaning, 0.0), why.words, why.margin, why.subject)
        table[row, -1] = unspaced
    return table


def built_in(hits: Sequence[Hit]) -> Features:
    """The chance that each hit answers, by itself."""
    return _logistic(features(hits) @ COEFFICIENTS + INTERCEPT)


# ------------------------------------------------------------------------------------------------------------- fitted

SIGNALS: Final = ("known", "window", "words", "words_unspaced", "margin_unspaced", "unspaced")
"""Of a question: how sure the reader is that it is one for this company, as log-odds; the best hit's cosine with the
conversation; and the most of the question's words that one of the first hits holds. For scripts without spaces, which
the default encoder cannot read, those words and the best hit's margin; then 1 for these scripts."""
FIRST: Final = 3
"""How many hits are the first ones."""
STRENGTH: Final = 1.0
"""Of the ridge, on signals of unit variance: .3 to 3 do alike (docs/decisions.md)."""
_PREFIX: Final = "answers:"
_INTERCEPT: Final = "intercept"


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """A logistic curve from the signals of a question and what was found for it to the chance that any of it answers.

    Fitted for one version of the reader, and stored with it.
    """

    coefficients: tuple[float, ...]
    """One for each of `SIGNALS`."""
    intercept: float

    def any_answers(self, table: Features) -> Features:
        """One chance, 0 to 1, for each row of `SIGNALS`."""
        return _logistic(table @ np.array(self.coefficients) + self.intercept)

    @classmethod
    def fit(cls, table: Features, answered: Sequence[bool] | NDArray[np.bool_]) -> AnswerScore:
        """Logistic regression by Newton's method with a ridge, on rows of `SIGNALS` and whether anything answers the
        question. No signal may speak against itself: a coefficient that would turn negative is held at 0.

        Raises RetrieverError unless both occur.
        """
        y = np.asarray(answered, dtype=np.float64)
        if len(y) != len(table) or not 0 < y.sum() < len(y):
            raise RetrieverError("calibration needs questions that something answers and others; label more of them")
        scale = np.where(table.std(axis=0) > 1e-9, table.std(axis=0), 1.0)
        mean = table.mean(axis=0)
        x = np.column_stack([(table - mean) / scale, np.ones(len(y))])
        free = np.ones(x.shape[1], dtype=bool)
        while True:
            solution = np.zeros(len(free))
            solution[free] = _newton(x[:, free], y)
            # What tells the scripts apart and the intercept may have either sign.
            wrong = free & (solution < 0) & (np.arange(len(free)) < len(SIGNALS) - 1)
            if not wrong.any():
                coefficients = solution[:-1] / scale
                return cls(tuple(coefficients.tolist()), float(solution[-1] - coefficients @ mean))
            free &= ~wrong

    def to_numbers(self) -> dict[str, float]:
        """Under names of their own, as they are kept beside other numbers of a version."""
        names = (*SIGNALS, _INTERCEPT)
        return {_PREFIX + name: one for name, one in zip(names, (*self.coefficients, self.intercept), strict=True)}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> AnswerScore | None:
        """What `to_numbers` gave; None where a version has none, or those of another program's signals."""
        stored = {name.removeprefix(_PREFIX): one for name, one in numbers.items() if name.startswith(_PREFIX)}
        if stored.keys() != {*SIGNALS, _INTERCEPT} or not all(map(math.isfinite, stored.values())):
            return None
        return cls(tuple(stored[name] for name in SIGNALS), stored[_INTERCEPT])


def signals(query: Query, hits: Sequence[Hit], known: float) -> Features:
    """The `SIGNALS` of a question with its hits, best first; `known` is how sure a reader is, 0 to 1."""
    best, words = hits[0].why, max(hit.why.words for hit in hits[:FIRST])
    if unspaced_share(query.text) > 0.3:
        return np.array([0.0, 0.0, 0.0, words, best.margin, 1.0])
    sure = min(max(known, 1e-3), 1 - 1e-3)
    return np.array([math.log(sure / (1 - sure)), best.window, words, 0.0, 0.0, 0.0])


def _newton(x: Features, y: Features) -> Features:
    solution: Features = np.zeros(x.shape[1])
    ridge = STRENGTH * np.eye(x.shape[1])
    ridge[-1, -1] = 1e-6
    for _ in range(100):
        p = _logistic(x @ solution)
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, x.T @ (y - p) - ridge @ solution)
        # A full step may overshoot where classes separate; a bounded one still converges.
        solution = solution + step / max(1.0, float(np.abs(step).max()) / 4)
        if np.abs(step).max() < 1e-8:
            break
    return solution


def _logistic(z: Features) -> Features:
    chances: Features = 1 / (1 + np.exp(-np.clip(z, -40, 40)))
    return chances
