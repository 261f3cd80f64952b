"""A filter chooses before the search, not after it: what it lets through is found as if nothing else were there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retriever.exact_index import ExactIndex
from retriever.filters import Filters
from retriever.keyword_index import KeywordIndex
from retriever.marks import Marks
from retriever.passages import Filter, Passage, Query
from retriever.search import Indexes, search
from retriever.split import embedded_text
from tests.retriever.hashing import HashingEncoder

ENCODER = HashingEncoder()


def passage(number: int, text: str, **marks: str) -> Passage:
    return Passage(f"{number}", f"{number}.md", "", (), text, 0, len(text), **marks)  # type: ignore[arg-type]


def indexes(folder: Path, passages: list[Passage]) -> Indexes:
    texts = [embedded_text(one) for one in passages]
    return Indexes.of(tuple(passages), ExactIndex(ENCODER.encode(texts)), KeywordIndex.build(folder, texts))


def found(where: Indexes, text: str, only: Filter, k: int = 5) -> list[str]:
    query = Query(text)
    return [hit.passage.id for hit in search(query, ENCODER.encode_queries([query]), where, k, only=only)]


CROWD = [
    passage(n, f"refund of the deposit number{n}", audience="staff", language="en", entity="Ember 1")
    for n in range(400)
]
FEW = [
    passage(900, "the refund of a deposit takes a week", audience="public", language="en", entity="Ember 1"),
    passage(901, "le refund of the deposit", audience="public", language="fr", entity="Ember 1"),
    passage(902, "a refund of the deposit for the kayak", audience="public", language="en", entity="Kayak 2"),
]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (Filter(), {"900", "901", "902"}),
        (Filter(languages=frozenset({"fr"})), {"901"}),
        (Filter(entities=frozenset({"Kayak 2"})), {"902"}),
        (Filter(languages=frozenset({"en"}), entities=frozenset({"Ember 1"})), {"900"}),
        (Filter(audiences=frozenset()), set()),
        (Filter(audiences=frozenset({"partners"})), set()),
    ],
)
def test_four_hundred_better_passages_that_may_not_be_seen_hide_nothing(
    tmp_path: Path, only: Filter, expected: set[str]
) -> None:
    """With the filter after the search, the crowd would fill every list of candidates."""
    where = indexes(tmp_path / "k", [*CROWD, *FEW])
    assert set(found(where, "refund of the deposit", only)) == expected


def test_no_filter_sees_everything(tmp_path: Path) -> None:
    where = indexes(tmp_path / "k", [*CROWD, *FEW])
    assert set(found(where, "refund of the deposit number7", Filter(audiences=None), 1)) == {"7"}


def test_a_filtered_search_equals_a_search_where_only_that_exists(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = [f"word{n}" for n in range(40)]
    passages = [passage(n, " ".join(random.choice(words, 6)), language="fr" if n % 3 else "en") for n in range(300)]
    whole = indexes(tmp_path / "whole", passages)
    keywords = whole.keywords
    seen = whole.filters.seen(Filter(languages=frozenset({"en"})))
    assert seen is not None
    wanted = ["word3", "word17"]
    scores, rows = keywords.search(wanted, 12, seen.mask)
    every = [(row, score) for score, row in zip(*(part.tolist() for part in keywords.search(wanted, 300)), strict=True)]
    allowed = [score for row, score in every if row % 3 == 0]
    assert (rows % 3 == 0).all() and len(rows) == min(12, len(allowed))
    np.testing.assert_allclose(scores, allowed[: len(scores)])


def test_filters_that_let_everything_through_cost_nothing() -> None:
    filters = Filters(Marks.of([passage(0, "a"), passage(1, "b")]))
    assert filters.seen(Filter()) is None
    seen = filters.seen(Filter(languages=frozenset({"zh"})))
    assert seen is not None and not seen.mask.any() and len(seen.rows) == 0
    assert Filters(Marks.of([])).seen(Filter()) is None
