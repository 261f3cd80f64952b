"""How sure to be of a hit: by the built-in weights, and by a curve fitted on a company's own questions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retriever.answer_score import COEFFICIENTS, FEATURES, SIGNALS, AnswerScore, built_in, features, signals
from retriever.passages import Hit, Passage, Query, RetrieverError, Why


def hit(meaning: float, words: float, margin: float, subject: float = 0.5, text: str = "Latin", **why: float) -> Hit:
    return Hit(Passage("i", "s", "t", (), text, 0, 5), 0, 0, Why(meaning, words, subject, margin, **why))  # type: ignore[arg-type]


def test_features_are_the_signals_apart_by_script() -> None:
    latin, han = features([hit(0.8, 0.5, 0.1), hit(0.8, 0.5, 0.1, text="怎么退货")])
    assert latin.tolist() == pytest.approx([0.8, 0.5, 0.1, 0.5, 0, 0, 0, 0, 0])
    assert han.tolist() == pytest.approx([0, 0, 0, 0, 0.8, 0.5, 0.1, 0.5, 1])
    assert features([hit(-0.3, 0, 0)])[0, 0] == 0
    assert len(latin) == 2 * len(FEATURES) + 1 == len(COEFFICIENTS)


def test_the_built_in_weights_trust_a_clear_hit_and_not_a_vague_one() -> None:
    clear, vague, chinese = built_in([hit(0.8, 1, 0.3), hit(0.35, 0.2, 0.0), hit(0.6, 0.9, 0.5, text="怎么退货")])
    assert clear > 0.8
    assert vague < 0.2
    assert chinese > 0.5


def test_signals_are_those_of_the_question_and_its_first_hits() -> None:
    hits = [hit(0.5, 0.1, 0.3, window=0.6), hit(0.4, 0.7, -0.3), hit(0.3, 0.2, -0.4), hit(0.2, 0.9, -0.5)]
    found = signals(Query("how long"), hits, known=0.8)
    assert found.tolist() == pytest.approx([math.log(0.8 / 0.2), 0.6, 0.7, 0, 0, 0]), "the fourth is none of the first"
    assert signals(Query("多久退款"), hits, known=0.8).tolist() == pytest.approx([0, 0, 0, 0.7, 0.3, 1])
    assert np.isfinite([signals(Query("q"), hits, known=sure) for sure in (0.0, 1.0)]).all()


def drawn(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = np.zeros((rows, len(SIGNALS)))
    table[:, :3] = rng.uniform(0, 1, (rows, 3)) * (4, 1, 1)
    return table


def test_fitting_recovers_the_curve_that_made_the_labels() -> None:
    """The independent answer: labels are drawn from known coefficients; and another solver's fit."""
    table = drawn(6000, 5)
    true = AnswerScore((1.5, 3.0, 2.0, 0, 0, 0), -5.0)
    labels = np.random.default_rng(7).uniform(size=6000) < true.any_answers(table)
    fitted = AnswerScore.fit(table, labels)
    np.testing.assert_allclose(fitted.coefficients[:3], true.coefficients[:3], atol=0.4)
    np.testing.assert_allclose(fitted.any_answers(table), true.any_answers(table), atol=0.05)
    from sklearn.linear_model import LogisticRegression

    theirs = LogisticRegression(C=1e4, max_iter=2000).fit(table, labels).predict_proba(table)[:, 1]
    np.testing.assert_allclose(fitted.any_answers(table), theirs, atol=0.01)


def test_no_signal_may_speak_against_itself_but_scripts_may_differ() -> None:
    table = drawn(800, 6)
    table[400:, 5] = 1
    fitted = AnswerScore.fit(table, table[:, 0] - table[:, 1] - table[:, 5] > 0.5)
    assert fitted.coefficients[0] > 0 > fitted.coefficients[5]
    assert fitted.coefficients[1] == 0, "being nearer never lowers the chance"


def test_a_few_rows_that_one_signal_parts_give_a_moderate_curve() -> None:
    table = np.zeros((4, len(SIGNALS)))
    table[:, 1] = [0.1, 0.2, 0.8, 0.9]
    with pytest.raises(RetrieverError, match="needs questions that something answers and others"):
        AnswerScore.fit(table, [True] * 4)
    low, lower, higher, high = AnswerScore.fit(table, [False, False, True, True]).any_answers(table)
    assert 0.02 < low < lower < 0.5 < higher < high < 0.98


def test_numbers_of_a_version_give_the_same_score_back() -> None:
    score = AnswerScore((1.0, 2.0, 3.0, 4.0, 5.0, -1.0), -2.5)
    numbers = {"intent": 0.6, **score.to_numbers()}
    assert len(numbers) == len(SIGNALS) + 2 and AnswerScore.from_numbers(numbers) == score
    assert AnswerScore.from_numbers({"intent": 0.6}) is None
    for name in score.to_numbers():
        assert AnswerScore.from_numbers({k: v for k, v in numbers.items() if k != name}) is None, "of other signals"
        assert AnswerScore.from_numbers({**numbers, name: math.nan}) is None
    assert AnswerScore.from_numbers({**numbers, "answers:later": 1.0}) is None
