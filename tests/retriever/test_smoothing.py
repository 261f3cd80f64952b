"""Passages filed under entities are drawn towards their likes elsewhere, and nothing else moves."""

from __future__ import annotations

import numpy as np

from retriever.blocks import Blocks
from retriever.evaluate import Question, evaluate_documents
from retriever.exact_index import ExactIndex
from retriever.marks import Column
from retriever.passages import Document, Line, Query, Section
from retriever.smoothing import LIKES, SHARE, joining, smoothed
from tests.retriever.hashing import HashingEncoder


def _unit(rows: int, seed: int = 0) -> np.ndarray:
    table = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def _catalogue(rows: int, topics: int = 10) -> np.ndarray:
    """Row `i` is about topic `i % topics`, so what one entity says of a topic is like what the others say of it."""
    table = _unit(topics)[np.arange(rows) % topics] + 0.5 * _unit(rows, seed=1)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def test_it_equals_the_definition_row_by_row() -> None:
    vectors = _catalogue(400)
    entities = [f"hotel {row // 10}" if row // 10 % 5 else "" for row in range(400)]
    result = smoothed(vectors, Column.of(entities))
    for row in range(400):
        others = [i for i in range(400) if entities[i] != entities[row]]
        likes = sorted(others, key=lambda i: -float(vectors[i] @ vectors[row]))[:LIKES]
        expected = (1 - SHARE) * vectors[row] + SHARE * np.mean([vectors[i] for i in likes], axis=0)
        np.testing.assert_allclose(result[row], expected, atol=1e-5)


def test_what_joins_a_catalogue_is_drawn_towards_what_is_there() -> None:
    vectors = _catalogue(400)
    entities = [f"hotel {row // 10}" if row // 10 % 5 else "" for row in range(400)]
    entities[395:] = ["new hotel"] * 5
    there, new = vectors[:360], vectors[360:]
    # Of what was there thirty are gone, the rest and the new ones stand in another order.
    order = np.random.default_rng(2).permutation(np.r_[30:400])
    index = ExactIndex(smoothed(there, Column.of(entities[:360])))
    for rows in (order, np.arange(360, 400)):
        result = joining(new, rows, Column.of(entities[row] for row in rows), index, Blocks([there]))
        for row in range(360, 400):
            others = [i for i in rows if entities[i] != entities[row]]
            likes = sorted(others, key=lambda i: -float(vectors[i] @ vectors[row]))[:LIKES]
            share = SHARE * len(likes) / LIKES
            expected = (1 - share) * vectors[row] + share * np.mean([vectors[i] for i in likes], axis=0)
            np.testing.assert_allclose(result[row - 360], expected, atol=1e-5)


def test_articles_are_left_alone_and_so_is_a_single_entity() -> None:
    vectors = _unit(30)
    assert smoothed(vectors, Column.of([""] * 30)) is vectors
    assert smoothed(vectors, Column.of(["hotel"] * 30)) is vectors
    few = Column.of([*["a", "b"] * 7, *[""] * 16])
    assert smoothed(vectors, few) is vectors, "a few rows about products among articles"
    assert smoothed(vectors[:0], Column.of([])) is not None


def test_few_likes_count_for_as_many_as_they_are() -> None:
    first, second = _unit(2)
    vectors = np.stack([first, second, first, second])
    moved = smoothed(vectors * np.float32(1), Column.of("aabb"))
    assert moved is not vectors
    share = SHARE * 2 / LIKES
    likes = (first + second) / 2
    np.testing.assert_allclose(moved[0], (1 - share) * first + share * likes, atol=1e-6)


def test_articles_filed_under_themselves_are_no_catalogue() -> None:
    """Their passages are about each other: a page of a manual, each section under the page's name."""
    vectors = _catalogue(200)
    by_topic = [f"article {row % 10} part {row % 20}" for row in range(200)]
    assert smoothed(vectors, Column.of(by_topic)) is vectors


def test_what_is_not_alike_is_no_catalogue() -> None:
    vectors = _unit(200)
    assert smoothed(vectors, Column.of(f"hotel {row // 10}" for row in range(200))) is vectors


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
