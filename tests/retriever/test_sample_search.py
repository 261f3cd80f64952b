"""The sample company's articles asked as people type: slips, abbreviations, codes, figures, Chinese, both at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retriever.encoders import FrozenEncoder
from retriever.knowledge import Knowledge
from retriever.knowledge_base import KnowledgeBase
from retriever.passages import Line, Query
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sample(encoder: FrozenEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knowledge]:
    base = KnowledgeBase(tmp_path_factory.mktemp("sample") / "knowledge", encoder)
    base.ingest([ROOT / "data" / "knowledge"])
    yield base.load()


@pytest.mark.parametrize(
    ("asked", "before", "article"),
    [
        ("can i wash my donw sleepng bag in the machne", (), "care/wash-a-down-bag.md"),
        ("whats the wieght of the Embr 1 stove", (), "products/ember-1-stove.md"),
        ("e-xfer refund time interac", (), "returns/refund-times.md"),
        ("price of SR-09", (), "products/ember-1-stove.md"),
        ("how much is the PK45", (), "products/traverse-packs.md"),
        ("st101 boils 1 l in how many min", (), "products/ember-1-stove.md"),
        ("P-51 at checkout, what now", (), "payments/declined-payments.md"),
        ("serial ED24-03, is mine recalled", (), "safety/ember-duo-recall.md"),
        ("SB-007 价格", (), "products/nightjar-sleeping-bags.md"),
        ("and how much does it weigh?", ("What does the Ember 1 cost?", "It costs $69."), "products/ember-1-stove.md"),
        ("what about the basin?", ("What does the Ember 1 cost?", "It costs $69."), "products/basin-4-tent.md"),
    ],
)
def test_the_right_article_comes_first(sample: Knowledge, asked: str, before: tuple[str, ...], article: str) -> None:
    history = tuple(Line("customer" if n % 2 == 0 else "bot", text) for n, text in enumerate(before))
    assert sample.search(Query(asked, history))[0].passage.source == article


@pytest.mark.parametrize(
    ("asked", "article"),
    [
        ("opning hrs calgary store", "stores/opening-hours.md"),
        ("退款多久能到账", "zh/returns/refund-times.md"),
        ("我的 PayPal 退款要几天", "zh/returns/refund-times.md"),
        ("Ember 1 有多重", "zh/products/ember-1-stove.md"),
        ("Trail Club 会费多少钱", "zh/membership/trail-club-benefits.md"),
    ],
)
def test_the_right_article_is_among_the_first(sample: Knowledge, asked: str, article: str) -> None:
    assert article in [hit.passage.source for hit in sample.search(Query(asked))]
