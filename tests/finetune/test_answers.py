"""From agents' words to passages: credit, topics, and what is remembered, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.answers import ASKED, NEAREST, SHARPNESS, Passages, remember, targets_of
from finetune.calibrate import Floats
from finetune.encoder import Encoder
from finetune.examples import Example

SHELF = ("refund money back", "lost card", "cancel subscription", "change address", "late parcel arrive") * 3


@pytest.fixture(scope="module")
def passages(tiny: Encoder) -> Passages:
    texts = [f"{text} {'please ' * number}" for number, text in enumerate(SHELF)]
    vectors = tiny.vectors(tiny.frozen, tiny.tokenise([(text, ()) for text in texts])[0])
    return Passages(vectors, tuple(f"{text.split()[0]}.md" for text in SHELF))


def asked(tiny: Encoder, rows: list[Example]) -> Floats:
    return tiny.encode(tiny.frozen, [(row.text, row.history) for row in rows])[1]


def test_credit_goes_to_the_passages_nearest_to_answer_and_question(tiny: Encoder, passages: Passages) -> None:
    rows = [Example("where is my money", answer="refund money back today"), Example("hello thanks", "greeting")]
    windows = asked(tiny, rows)
    targets = targets_of(rows, windows, tiny, passages)
    told = tiny.vectors(tiny.frozen, tiny.tokenise([("refund money back today", ())])[0])[0]
    likeness = passages.vectors @ told + ASKED * (passages.vectors @ windows[0])
    best = np.argsort(-likeness, kind="stable")[:NEAREST]
    wanted = np.exp(SHARPNESS * (likeness[best] - likeness[best[0]]))
    assert targets.near[0].tolist() == best.tolist()
    assert np.allclose(targets.credit[0], wanted / wanted.sum(), atol=1e-5)
    assert targets.answered.tolist() == [0] and not targets.credit[1].any()


def test_topics_that_name_documents_say_where_to_look(tiny: Encoder, passages: Passages) -> None:
    rows = [
        Example("where is my money", answer="refund money back today", topics=("lost.md",)),
        Example("where is my money", topics=("lost.md",)),
        Example("where is my money", topics=("unheard-of.md",)),
    ]
    targets = targets_of(rows, asked(tiny, rows), tiny, passages)
    for row in (0, 1):
        found = {passages.sources[place] for place in targets.near[row][targets.credit[row] > 0]}
        assert found == {"lost.md"}
    assert targets.answered.tolist() == [0, 1], "a topic that names no document tells nothing"


def test_what_no_passage_speaks_of_is_not_to_be_found(tiny: Encoder) -> None:
    rows = [Example("where is my money", answer="refund money back today")]
    windows = asked(tiny, rows)
    away = np.zeros((3, tiny.dimension), np.float32)
    away[:, 0] = -np.sign(windows[0, 0]) or 1
    assert not targets_of(rows, windows, tiny, Passages(away, ("a", "b", "c"))).answered.size


def test_without_a_knowledge_base_the_answers_themselves_are_to_be_found(tiny: Encoder) -> None:
    rows = [
        Example("a", answer="yes today"),
        Example("b"),
        Example("c", answer="no late"),
        Example("d", answer="yes today"),
    ]
    targets = targets_of(rows, asked(tiny, rows), tiny, None)
    assert targets.near[[0, 2, 3], 0].tolist() == [0, 1, 0]
    assert targets.credit[[0, 2, 3], 0].tolist() == [1, 1, 1] and targets.credit.sum() == 3
    assert len(targets.candidates) == 2


def test_precedents_hold_the_questions_that_have_something_to_find(tiny: Encoder, passages: Passages) -> None:
    rows = [
        Example("hello"),
        Example("where is my money", answer="refund money back"),
        Example("lost card", topics=("lost.md",)),
    ]
    windows = asked(tiny, rows)
    targets = targets_of(rows, windows, tiny, passages)
    precedents = remember(windows, targets, seed=0)
    assert np.array_equal(precedents.asked, windows[1:])
    mean = (targets.credit[1][:, None] * passages.vectors[targets.near[1]]).sum(axis=0)
    assert np.allclose(precedents.found[0], mean / np.linalg.norm(mean), atol=1e-6)
