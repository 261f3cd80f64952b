"""Slips of the keyboard become the words of the passages; what is a word, a name or a code stays as it was typed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.exact_index import ExactIndex
from retriever.keyword_index import KeywordIndex, terms
from retriever.knowledge import Knowledge
from retriever.passages import Document, Query, Section
from retriever.search import Indexes
from retriever.spelling import MOST, Spelling
from retriever.split import embedded_text, split
from tests.retriever.hashing import HashingEncoder

TEXTS = (
    "The return policy: parcels travel back for free within thirty days.",
    "Returned orders are refunded to the card. A refund takes three days.",
    "Breakfast is served from seven. Parking costs extra at the Allenbell.",
    "Reservations are held until six. Hiking boots are resoled in the workshop.",
)
WORDS = [word for text in TEXTS for word in text.lower().replace(":", "").replace(".", "").split() if len(word) > 5]
ENGLISH = frozenset(("whole", "writing", "harness", "return", "reservation", *WORDS)) - {"allenbell"}


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Spelling:
    keywords = KeywordIndex.build(tmp_path_factory.mktemp("spelling") / "keywords", TEXTS)
    return Spelling(keywords, ENGLISH.__contains__)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("retrun polciy", "return policy"),
        ("what is your retun policcy?", "what is your return policy?"),
        ("Retrun the PARCLES, please", "return the parcels, please"),
        ("is brekfast included, and parkign?", "is breakfast included, and parking?"),
        ("a resevration at the workhsop", "a reservation at the workshop"),
    ],
)
def test_a_slip_is_mended_as_the_passages_spell_it(spelling: Spelling, typed: str, meant: str) -> None:
    assert spelling.mended(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "the whole writing",  # words of their own
        "Returned orders were returning with a refunding card",
        "daus dasy tren",  # too short to tell
        "my order LM845530, parc3ls, retrun2",
        "mail retrun@parcles.example or see www.retrun.example/parcles",
        "退货政策是什么",
        "Größe Rückgabe",
        "zzzzz qqqqq",
        "harnesses",  # "hasnesses" would have the stem of "has"
        "writings",  # a form of a word
        "porking for recards",  # parking and records, were the keys not far apart
        "",
    ],
)
def test_what_is_no_slip_stays(spelling: Spelling, typed: str) -> None:
    assert spelling.mended(typed) == typed


def test_random_slips_in_the_passages_words_are_undone(spelling: Spelling) -> None:
    """Of a thousand slips made by a rule of our own all but a few end at the stem that was meant."""
    rng = random.Random(8)
    undone = 0
    for _ in range(1000):
        word = rng.choice(WORDS)
        at = rng.randrange(1, len(word) - 1)
        before, here, following = word[:at], word[at], word[at + 1 :]
        swapped = before + following[0] + here + following[1:]
        slip = rng.choice([before + following, before + here + here + following, swapped])
        undone += terms(spelling.mended(slip)) == terms(word)
    assert undone > 900


@given(
    text=st.text(max_size=60)
    | st.lists(st.sampled_from(["retrun", "polciy", "Parkign", "brekfast", "x"])).map(" ".join)
)
@settings(max_examples=200, deadline=None)
def test_mending_twice_changes_nothing_more(spelling: Spelling, text: str) -> None:
    once = spelling.mended(text)
    assert spelling.mended(once) == once


def test_a_text_of_nothing_but_slips_costs_no_more_than_its_first_words(tmp_path: Path) -> None:
    asked: list[str] = []
    keywords = KeywordIndex.build(tmp_path / "keywords", TEXTS)
    spelling = Spelling(keywords, lambda word: bool(asked.append(word)))  # type: ignore[func-returns-value]
    spelling.mended(" ".join("q" + chr(97 + n // 26) + chr(97 + n % 26) + "xyz" for n in range(600)))
    assert len(set(asked)) == MOST


def test_a_question_with_slips_is_searched_as_it_was_meant(tmp_path: Path) -> None:
    encoder = HashingEncoder()
    documents = [Document(f"{n}.md", f"{n}", text, (Section((), 0, len(text)),)) for n, text in enumerate(TEXTS)]
    passages = tuple(passage for document in documents for passage in split(document))
    texts = [embedded_text(passage) for passage in passages]
    keywords = KeywordIndex.build(tmp_path / "keywords", texts)
    knowledge = Knowledge("k", documents, Indexes.of(passages, ExactIndex(encoder.encode(texts)), keywords), encoder)
    meant, typed = (knowledge.search(Query(text), None, 4) for text in ("return policy", "retrun polciy"))
    assert typed == meant and typed[0].passage.source == "0.md" and typed[0].why.words == pytest.approx(1)
    # With vectors of a reader the words are mended all the same.
    zeros = (np.zeros((1, 64), np.float32),) * 2
    assert knowledge.search(Query("retrun polciy"), zeros, 4)[0].why.words == pytest.approx(1)
