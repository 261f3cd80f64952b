"""Terms are what people type; BM25 is the textbook's."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever import keyword_index, lines
from retriever.keyword_index import KeywordIndex, terms, unspaced_share, weighty
from retriever.passages import RetrieverError


def textbook_bm25(rows: list[list[str]], wanted: list[str]) -> list[float]:
    """Robertson and Zaragoza 2009 with Lucene's never-negative inverse document frequency; k1 1.2, b .75."""
    average = sum(map(len, rows)) / len(rows)
    scores = []
    for row in rows:
        counts, score = Counter(row), 0.0
        for term in dict.fromkeys(wanted):
            held = sum(term in other for other in rows)
            weight = math.log(1 + (len(rows) - held + 0.5) / (held + 0.5))
            score += weight * counts[term] * 2.2 / (counts[term] + 1.2 * (1 - 0.75 + 0.75 * len(row) / average))
        scores.append(score)
    return scores


@pytest.mark.slow
def test_scores_are_the_textbooks(tmp_path: Path) -> None:
    rng = random.Random(3)
    words = [f"w{n}" for n in range(60)]
    # Up to 39 words: there tantivy stores lengths exactly, beyond that rounded.
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 39))) for _ in range(200)]
    index = KeywordIndex.build(tmp_path / "keywords", texts)
    for _ in range(30):
        wanted = rng.sample(words, rng.randint(1, 6))
        scores, rows = index.search(wanted, 200)
        truth = textbook_bm25([text.split() for text in texts], wanted)
        assert {int(row) for row in rows} == {i for i, score in enumerate(truth) if score > 0}
        np.testing.assert_allclose(scores, [truth[row] for row in rows], rtol=1e-4)
        assert (np.diff(scores) <= 1e-6).all()


def test_ranking_agrees_with_rank_bm25(tmp_path: Path) -> None:
    from rank_bm25 import BM25Plus  # the variant of that library whose weights are never negative

    rng = random.Random(4)
    words = [f"w{n}" for n in range(80)]
    texts = [" ".join(rng.choices(words, k=20)) for _ in range(150)]
    index = KeywordIndex.build(tmp_path / "keywords", texts)
    other = BM25Plus([text.split() for text in texts], k1=1.2, b=0.75, delta=0)
    for _ in range(20):
        wanted = rng.sample(words, 3)
        theirs = other.get_scores(wanted)
        _, rows = index.search(wanted, 10)
        best = sorted(theirs, reverse=True)[:5]
        # Its inverse document frequency differs a little, so near ties may swap.
        assert all(theirs[row] >= 0.9 * least for row, least in zip(rows[:5], best, strict=True))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Refunds were REFUNDED", ["refund", "were", "refund"]),
        ("TR-8464 won't fit", ["tr", "8464", "tr8464", "won", "fit"]),
        ("e-mail, E-Mails", ["e", "mail", "email", "e", "mail", "email"]),
        ("Café ﬁne １２", ["cafe", "fine", "12"]),
        ("it's the shop's 3.50", ["it", "the", "shop", "3", "50", "350"]),
        ("退货", ["退货", "退", "货"]),
        ("ST-101炉头", ["st", "101", "st101", "炉头", "炉", "头"]),
        ("订", ["订"]),
        ("TR\u20118464 TR\u20138464", ["tr", "8464", "tr8464"] * 2),
        ("İSTANBUL", ["istanbul"]),
        ("مُحَمَّد محمد", ["محمد", "محمد"]),
        ("か\u3099", ["が"]),
        ("हिन्दी", ["हनद"]),
        ("...!?", []),
    ],
)
def test_terms(text: str, found: list[str]) -> None:
    assert terms(text) == found


def test_a_short_chinese_question_meets_a_longer_word(tmp_path: Path) -> None:
    texts = ["信用卡退款需要三到七个工作日", "我们的门店周一到周五营业", "礼品卡不能退"]
    index = KeywordIndex.build(tmp_path / "keywords", texts)
    for question, row in (("退款", 0), ("几点营业", 1), ("礼品卡", 2), ("信用卡", 0)):
        assert index.search(weighty(terms(question)), 3)[1][0] == row


def test_grammar_carries_no_weight_unless_alone() -> None:
    assert weighty(terms("Do you have any wifi?")) == ["wifi"]
    assert set(weighty(terms("怎么退货？"))) == {"么退", "退货", "退", "货"}
    assert weighty(terms("how are you")) == ["how", "are", "you"]


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_has_terms_without_white_space(text: str) -> None:
    assert all(term and not any(c in term for c in " \n\t") for term in terms(text))


def test_coverage_is_the_share_of_the_weight(tmp_path: Path) -> None:
    index = KeywordIndex.build(tmp_path / "keywords", ["tent pole", "tent", "stove"])
    weights = {term: index.weight(term) for term in ("tent", "pole")}
    covered = index.coverage(weights, np.arange(3))
    assert covered.tolist() == pytest.approx([1.0, weights["tent"] / sum(weights.values()), 0.0])
    assert weights["pole"] > weights["tent"] > 0
    assert index.coverage({}, np.arange(3)).tolist() == [0, 0, 0]


def test_strength_is_a_share_of_the_most_there_can_be(tmp_path: Path) -> None:
    index = KeywordIndex.build(tmp_path / "keywords", ["tent " * 500, "tent pole stove", "stove"])
    strength = index.strength(["tent"], 10)
    assert set(strength) == {0, 1}
    assert 0 < strength[1] < strength[0] <= 1


@pytest.mark.parametrize("few", [0, 40])
def test_of_few_rows_that_may_be_seen_the_best_are_found_with_the_same_scores(
    tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyword_index, "_FEW_SEEN", few)
    rng = random.Random(5)
    texts = [" ".join(rng.choices([f"w{n}" for n in range(30)], k=20)) for _ in range(500)]
    index = KeywordIndex.build(tmp_path / "keywords", texts)
    for count in (0, 1, 7, 40, 200):
        seen = np.zeros(500, bool)
        seen[rng.sample(range(500), count)] = True
        scores, rows = index.search(["w3", "w7"], 500)
        mine, found = index.search(["w3", "w7"], 5, seen)
        np.testing.assert_allclose(mine, scores[seen[rows]][:5], rtol=1e-6)
        assert seen[found].all() and len(found) == min(5, int(seen[rows].sum()))


def test_what_is_gone_makes_no_weight_negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MANY", 0)
    before = KeywordIndex.build(tmp_path / "before", ["tent pole"] * 200)
    grown = KeywordIndex.grown(tmp_path / "grown", [], np.arange(170), before)
    assert grown.weight("tent") > 0
    assert all(0 < share <= 1 for share in grown.strength(["tent"], 10).values())


def test_opening_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetrieverError, match="terms: not readable"):
        KeywordIndex(tmp_path)


def test_scripts_are_told_apart() -> None:
    assert unspaced_share("怎么退货") == 1
    assert unspaced_share("how to return") == 0 == unspaced_share("123")
    assert 0.3 < unspaced_share("Ember 1 炉头怎么用") < 0.7
