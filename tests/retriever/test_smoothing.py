"""Passages filed under entities are drawn towards their likes elsewhere, and nothing else moves."""

from __future__ import annotations

import numpy as np

from retriever.evaluate import Question, evaluate_documents
from retriever.passages import Document, Line, Query, Section
from retriever.smoothing import LIKES, SHARE, smoothed
from tests.retriever.hashing import HashingEncoder


def _unit(rows: int, seed: int = 0) -> np.ndarray:
    table = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def test_it_equals_the_definition_row_by_row() -> None:
    vectors = _unit(200)
    entities = [f"hotel {row % 7}" if row % 5 else "" for row in range(200)]
    result = smoothed(vectors, entities)
    for row in range(200):
        others = [i for i in range(200) if entities[i] != entities[row]]
        likes = sorted(others, key=lambda i: -float(vectors[i] @ vectors[row]))[:LIKES]
        expected = (1 - SHARE) * vectors[row] + SHARE * np.mean([vectors[i] for i in likes], axis=0)
        np.testing.assert_allclose(result[row], expected, atol=1e-5)


def test_articles_are_left_alone_and_so_is_a_single_entity() -> None:
    vectors = _unit(30)
    assert smoothed(vectors, [""] * 30) is vectors
    assert smoothed(vectors, ["hotel"] * 30) is vectors
    assert smoothed(vectors, [*["a", "b"] * 7, *[""] * 16]) is vectors, "a few rows about products among articles"
    assert smoothed(vectors[:0], []) is not None


def test_few_likes_count_for_as_many_as_they_are() -> None:
    vectors = _unit(3)
    moved = smoothed(vectors, ["a", "b", "b"])
    share = SHARE * 2 / LIKES
    np.testing.assert_allclose(moved[0], (1 - share) * vectors[0] + share * vectors[1:].mean(axis=0), atol=1e-6)


def test_a_question_about_a_kind_of_thing_finds_it_in_spite_of_a_name_that_sounds_like_it() -> None:
    """The Breakfast Inn's parking is nearer to a question about breakfast than to one about parking, until smoothed."""
    documents = []
    for place in range(24):
        name = "Breakfast Morning Inn" if place == 0 else f"Place{place} House{place} Lodge{place}"
        for topic in ("parking car", "breakfast morning"):
            text = f"{topic} at {name}"
            documents.append(
                Document(f"{place}#{topic}", topic, text, (Section((), 0, len(text)),), entity=name, question=topic)
            )
    asked = Question(
        Query("breakfast morning?", (Line("customer", "I stay at the Breakfast Morning Inn"),)),
        frozenset({"0#breakfast morning"}),
    )
    assert evaluate_documents(documents, [asked], HashingEncoder()).ranks == (1,)
