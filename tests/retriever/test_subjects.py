"""What a conversation is about is found in its own lines, by the names that passages carry."""

from __future__ import annotations

import random

import numpy as np
import pytest

from retriever import subjects
from retriever.keyword_index import terms
from retriever.marks import Marks
from retriever.passages import Passage
from retriever.subjects import NEUTRAL, OLDER, Subjects


def passage(entity: str = "", title: str = "", domain: str = "", question: str = "q") -> Passage:
    return Passage("id", "s", title, (), "text", 0, 4, entity=entity, domain=domain, question=question)


HOTELS = Subjects(
    Marks.of(
        [
            passage("ALLENBELL", domain="hotel"),
            passage("BRIDGE GUEST HOUSE", domain="hotel"),
            passage("ACORN GUEST HOUSE", domain="hotel"),
            passage("THE LUCKY STAR", domain="restaurant"),
            passage("", domain="train"),
        ]
    )
)
TENTS = Subjects(
    Marks.of(
        [
            passage(title="Drift 2 tent (TN-120)", question=""),
            passage(title="Basin 4 tent (TN-240)", question=""),
            passage(title="Ember 1 stove (ST-101)", question=""),
            passage(title="Ember Duo stove (ST-202)", question=""),
            passage(title="退货政策", question=""),
        ]
    )
)


def fits(subjects: Subjects, *lines: str) -> tuple[list[float], list[float], list[float]]:
    entity, title, domain = subjects.fit(subjects.read([terms(line) for line in reversed(lines)]), np.arange(5))
    return entity.tolist(), title.tolist(), domain.tolist()


def test_nothing_named_leaves_everything_neutral() -> None:
    for part in fits(HOTELS, "hello there", "do you have parking?"):
        assert part == [NEUTRAL] * 5


def test_the_entity_named_anywhere_in_the_conversation_fits_and_its_neighbours_do_not() -> None:
    entity, _, _ = fits(HOTELS, "book the allenbell please", "ok done", "is there parking?")
    assert entity == [1, 0, 0, 0, NEUTRAL], "what belongs to no entity stays neutral"
    assert fits(HOTELS, "The Bridge guesthouse?", "pets?")[0][:3] == [0, 1, 0], "written as one word"


def test_the_latest_named_counts_most() -> None:
    entity, _, _ = fits(HOTELS, "i ate at the lucky star", "what about the allenbell?", "thanks", "parking?")
    assert entity[0] == 1
    assert entity[3] == np.float32(OLDER)


def test_a_typing_mistake_still_names() -> None:
    assert fits(HOTELS, "is the alenbell cheap?", "parking?")[0][0] == 1


def test_words_that_every_name_holds_do_not_name() -> None:
    assert fits(HOTELS, "i want a guest house", "parking?")[0] == [NEUTRAL] * 5


def test_domains_are_named_by_their_word() -> None:
    assert fits(HOTELS, "i need a train to ely", "is there wifi?")[2] == [0, 0, 0, 0, 1]


def test_products_are_named_by_the_proper_part_or_code_of_their_title() -> None:
    for line in ("do you have the ember 1?", "I bought ST-101", "is st101 in stock"):
        title = fits(TENTS, line, "how heavy is it?")[1]
        assert title[2] == 1, line
        assert title[3] < 1, line
    assert fits(TENTS, "i have a tent", "how heavy?")[1] == [NEUTRAL] * 5
    assert fits(TENTS, "你们的退货政策是什么", "要多久")[1][4] == 1


def test_a_question_is_no_subject() -> None:
    """The title of a question-and-answer pair is its question; naming it is not the conversation's subject."""
    pairs = Subjects(Marks.of([passage(title="Are dogs allowed in stores?")] * 5))
    assert fits(pairs, "are dogs allowed in stores?")[1] == [NEUTRAL] * 5


def test_a_product_is_new_when_no_line_before_names_it() -> None:
    def new(text: str, *before: str) -> bool:
        return TENTS.changed([terms(line) for line in (text, *reversed(before))])

    assert new("what about the Duo?", "how heavy is the Ember 1?")
    assert new("and the basin?", "how heavy is the Ember 1?")
    assert not new("and how heavy is the duo?", "how long does the Duo burn?", "An hour.")
    assert not new("is that all?", "how heavy is the Ember 1?")
    assert not new("and when do I get the refund?", "I sent the boots back"), "no proper name"


def test_words_that_many_names_share_change_only_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(2)
    words = ["acme", "router", "manual", "indoor", *(f"model{n}" for n in range(12))]
    names = [" ".join(chance.sample(words, chance.randint(1, 4))) for _ in range(120)]
    marks = Marks.of([passage(title=name, question="") for name in names])
    said = [[terms(" ".join(chance.sample(words, 3))) for _ in range(3)] for _ in range(40)]
    plain = [Subjects(marks).read(lines).titles for lines in said]
    monkeypatch.setattr(subjects, "COMMON", 10)
    quick = Subjects(marks)
    assert quick._titles._common, "some words are common"
    for lines, named in zip(said, plain, strict=True):
        assert quick.read(lines).titles == pytest.approx(named)
