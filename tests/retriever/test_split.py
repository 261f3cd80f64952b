"""Passages cover their document, quote it exactly and keep their ids."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.passages import Document, Section
from retriever.split import LIMIT, embedded_text, sentences, split, word_pieces

_WORDS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "return",
        "parcel",
        "退货",
        "订单号是多少",
        ". ",
        "! ",
        "\n",
        "\n\n",
        "。",
        "e.g. ",
        "x" * 3000,
        "\u00a0",
        "\u200b",
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Documents of sections with gaps between them, as a reader makes (headings lie in the gaps)."""
    text, sections = "", []
    for number in range(draw(st.integers(1, 4))):
        text += f"Heading {number}\n\n"
        body = draw(st.sampled_from(["", " "])).join(draw(st.lists(_WORDS, max_size=60)))
        sections.append(Section((f"Heading {number}",), len(text), len(text) + len(body)))
        text += body + "\n\n"
    return Document("a.md", "Title", text, tuple(sections))


def _article(body: str) -> Document:
    return Document("a.md", "Title", body, (Section((), 0, len(body)),))


@pytest.mark.slow
@given(documents())
@settings(max_examples=150, deadline=None)
def test_passages_cover_every_visible_character_of_every_section(document: Document) -> None:
    passages = split(document)
    for section in document.sections:
        covered = "".join(p.text for p in passages if section.start <= p.start < section.end)
        assert "".join(covered.split()) == "".join(document.text[section.start : section.end].split())


@pytest.mark.slow
@given(documents())
@settings(max_examples=150, deadline=None)
def test_passages_quote_the_document_exactly_in_order_and_do_not_overlap(document: Document) -> None:
    end = 0
    for passage in split(document):
        assert passage.text == document.text[passage.start : passage.end]
        assert passage.text.strip() == passage.text != ""
        assert passage.start >= end
        end = passage.end


@given(documents())
@settings(max_examples=100, deadline=None)
def test_no_passage_is_longer_than_the_limit_and_ids_are_unique(document: Document) -> None:
    passages = split(document)
    assert all(word_pieces(p.text) <= LIMIT for p in passages)
    assert len({p.id for p in passages}) == len(passages)


def test_the_same_paragraph_twice_has_two_ids() -> None:
    paragraph = "word " * (LIMIT - 1)
    document = _article(f"{paragraph}\n\n{paragraph}")
    assert len({p.id for p in split(document)}) == 2


def test_an_edit_of_one_section_leaves_the_ids_of_the_others() -> None:
    def two(first: str) -> Document:
        text = f"{first}\n\nSecond part stays."
        cut = len(first)
        return Document("a.md", "T", text, (Section(("A",), 0, cut), Section(("B",), cut, len(text))))

    before, after = split(two("First.")), split(two("First, but edited and longer."))
    assert before[0].id != after[0].id
    assert before[1].id == after[1].id
    assert before[1].start != after[1].start


def test_language_and_address_are_not_part_of_the_id() -> None:
    document = _article("Text.")
    assert split(document)[0].id == split(replace(document, url="https://x/", language="de"))[0].id


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    body = " ".join(f"Sentence number {i} says that parcel {i} travels for {i} days." for i in range(60))
    passages = split(_article(body))
    assert len(passages) > 3
    assert all(p.text.startswith("Sentence number") and p.text.endswith("days.") for p in passages)


def test_sentences_end_at_marks_and_lines_but_not_at_abbreviations() -> None:
    text = 'Call Dr. Smith, e.g. Mondays. He said "Stop!" Then left.\n- one\n- two\n可以退货吗？可以。'
    text += "No. 5 costs 3.50 EUR."
    assert [text[s:e] for s, e in sentences(text)] == [
        "Call Dr. Smith, e.g. Mondays.", 'He said "Stop!"', "Then left.", "- one", "- two", "可以退货吗？", "可以。",
        "No. 5 costs 3.50 EUR.",
    ]  # fmt: skip


def test_a_question_and_answer_pair_is_embedded_whole() -> None:
    document = replace(_article("Yes, within 30 days."), question="Can I return it?")
    assert embedded_text(split(document)[0]) == "Can I return it?\nYes, within 30 days."


def test_an_article_passage_is_embedded_under_its_title_and_headings() -> None:
    document = Document("a.md", "Returns", "Body.", (Section(("Returns", "Refund times"), 0, 5),))
    assert embedded_text(split(document)[0]) == "Returns > Refund times\nBody."
