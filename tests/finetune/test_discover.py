"""From rows and vectors to proposals: each kind is found in one company's rows, in its words, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from finetune.calibrate import Floats
from finetune.discover import Found, Vectors, discover
from finetune.examples import OUT_OF_SCOPE, Example
from finetune.proposals import AnswerProposal, IntentProposal, LabelProposal, MergeProposal, Proposal, row_key
from finetune.topic_words import unspaced
from tests.finetune.planted import planted


def language_of(text: str) -> str:
    return "zh" if unspaced(text) else "en"


def found(examples: Sequence[Example], last: Floats, answer: Floats | None = None) -> Found:
    said = np.zeros_like(last) if answer is None else answer
    return discover(examples, Vectors(last, last, said), ("en", "zh"), language_of, seed=0)


def kinds(proposals: Sequence[Proposal]) -> dict[type, list[Proposal]]:
    return {kind: [p for p in proposals if isinstance(p, kind)] for kind in
            (AnswerProposal, IntentProposal, LabelProposal, MergeProposal)}  # fmt: skip


ASKED = (
    "refund of my lamp",
    "parcel is late",
    "invoice with tax",
    "zip is broken",
    "gift card pin",
    "colour of the tent",
)
SAID = (
    "Refunds take five days.",
    "It comes tomorrow.",
    "We send the bill.",
    "We mend it.",
    "It is on the back.",
    "Blue.",
)
CLOSINGS = ("today", "please", "", "again", "now", "then", "soon", "here", "still", "too", "at last", "this week")


def company(replies: bool) -> tuple[list[Example], Floats, Floats]:
    """Six things asked in twelve conversations each, the first two of them labelled with three more."""
    questions, groups = planted([12] * 6)
    answers, _ = planted([12] * 6, seed=5)
    rows = [
        Example(f"{ASKED[g]} {CLOSINGS[n % 12]}".strip(), None, answer=SAID[g] if replies else "", group=f"c{n}")
        for n, g in enumerate(groups.tolist())
    ]
    return rows, questions, answers if replies else np.zeros_like(answers)


def test_unlabelled_questions_become_intents_with_names_and_messages() -> None:
    rows, questions, answers = company(replies=False)
    proposals = kinds(found(rows, questions, answers).proposals)
    assert not proposals[AnswerProposal] and not proposals[LabelProposal] and not proposals[MergeProposal]
    intents = {p.intent: p for p in proposals[IntentProposal] if isinstance(p, IntentProposal)}
    assert set(intents) == {"refund_lamp", "parcel_late", "invoice_tax", "zip_broken", "gift_card_pin", "colour_tent"}
    zips = intents["zip_broken"]
    assert {a.text for a in zips.asked} == {r.text for r in rows if r.text.startswith("zip")}
    assert (zips.conversations, zips.existing) == (12, False) and zips.id.startswith("intents/zip_broken-")


def test_repeated_replies_become_answers_with_a_wording_somebody_wrote() -> None:
    rows, questions, answers = company(replies=True)
    proposals = kinds(found(rows, questions, answers).proposals)
    assert not proposals[IntentProposal], "what is proposed with its answer is not proposed without it"
    answered = [p for p in proposals[AnswerProposal] if isinstance(p, AnswerProposal)]
    assert {p.answer for p in answered} == {(("en", text), ("zh", "")) for text in SAID}
    for proposal in answered:
        (en, zh) = proposal.title
        assert en[1] in {row.text for row in rows} and zh == ("zh", "")
        assert {a.text for a in proposal.asked} == {
            r.text for r in rows if (("en", r.answer), ("zh", "")) == proposal.answer
        }
    assert len({p.intent for p in answered}) == 6


def test_the_same_rows_and_seed_find_the_same() -> None:
    rows, questions, answers = company(replies=True)
    assert found(rows, questions, answers) == found(rows, questions, answers)


def test_labels_without_an_answer_get_the_one_that_agents_give() -> None:
    """`refund` carries labels and no approved answer: the repeated answer is proposed under its name."""
    rows, questions, answers = company(replies=True)
    rows += [Example(f"money back {n}", "refund") for n in range(5)]
    questions, answers = (
        np.vstack([questions, questions[:5]]),
        np.vstack([answers, np.zeros((5, 64))]).astype(np.float32),
    )
    proposals = found(rows, questions, answers).proposals
    (refund,) = (p for p in proposals if isinstance(p, AnswerProposal) and p.answer[0][1] == SAID[0])
    assert (refund.intent, refund.near) == ("refund", "")
    rows[-1] = Example("money back 4", "refund", origin="playbook")
    proposals = found(rows, questions, answers).proposals
    (refund,) = (p for p in proposals if isinstance(p, AnswerProposal) and p.answer[0][1] == SAID[0])
    assert refund.intent != "refund" and refund.near == "refund", "an approved answer is there: a person compares"


def test_a_new_name_never_is_one_that_is_there() -> None:
    rows, questions, answers = company(replies=False)
    far = -questions[:8]
    rows += [Example(f"quite another thing {n}", "zip_broken") for n in range(8)]
    proposals = found(rows, np.vstack([questions, far]), np.vstack([answers, far])).proposals
    new = {p.intent for p in proposals if isinstance(p, IntentProposal) and not p.existing}
    assert "zip_broken" not in new and len(new) == 6


def labelled(names: Callable[[int], str], sizes: Sequence[int] = (30,) * 6) -> tuple[list[Example], Floats]:
    vectors, groups = planted(list(sizes), spread=0.4)
    return [Example(f"{names(g)} {CLOSINGS[n % 12]} {n}", names(g)) for n, g in enumerate(groups.tolist())], vectors


def test_a_wrong_label_is_proposed_with_the_right_one() -> None:
    rows, vectors = labelled(lambda g: f"intent_{g}")
    rows[3], rows[70] = Example(rows[3].text, "intent_5"), Example(rows[70].text, OUT_OF_SCOPE)
    rows += [Example(f"pizza {n}", OUT_OF_SCOPE) for n in range(30)]
    odd = planted([1] * 7 + [30], spread=0.4, seed=0)[0][7:]
    proposals = found(rows, np.vstack([vectors, odd])).proposals
    wrong = {p.row: p for p in proposals if isinstance(p, LabelProposal)}
    assert set(wrong) == {row_key(rows[3]), row_key(rows[70])}
    first, second = wrong[row_key(rows[3])], wrong[row_key(rows[70])]
    assert (first.given, first.action, first.intent) == ("intent_5", "relabel", "intent_0")
    assert (second.given, second.action, second.intent) == (OUT_OF_SCOPE, "relabel", "intent_2")
    assert first.suggested_probability > 0.5 > first.given_probability


def test_the_playbooks_own_examples_are_left_to_the_playbook() -> None:
    rows, vectors = labelled(lambda g: f"intent_{g}")
    rows[3] = Example(rows[3].text, "intent_5", origin="playbook")
    assert not any(isinstance(p, LabelProposal) for p in found(rows, vectors).proposals)


def test_one_intent_under_two_names_is_proposed_as_one() -> None:
    rows, vectors = labelled(lambda g: f"intent_{g}")
    rows = [Example(r.text, "other_name") if n < 30 and n % 3 == 0 else r for n, r in enumerate(rows)]
    merges = [p for p in found(rows, vectors).proposals if isinstance(p, MergeProposal)]
    assert [(p.source, p.into, p.rows) for p in merges] == [("other_name", "intent_0", (10, 20))]
    rows[0] = Example(rows[0].text, "other_name", origin="playbook")
    merges = [p for p in found(rows, vectors).proposals if isinstance(p, MergeProposal)]
    assert [(p.source, p.into) for p in merges] == [("intent_0", "other_name")], "what the playbook answers stays"


def test_chinese_questions_are_grouped_by_their_words_and_named_in_them() -> None:
    """Their vectors from an English encoder are all the same; eight of them ask about refunds, eight about hours."""
    texts = ["退款多久到账", "门店几点开门"]
    endings = ("", "吗", "请问", "谢谢", "呢", "啊", "你好", "一下")
    rows = [Example(f"{texts[n // 8]}{endings[n % 8]}", group=f"c{n}") for n in range(16)]
    same = np.tile(planted([1])[0], (16, 1))
    proposals = found(rows, same).proposals
    groups = {frozenset(a.text for a in p.asked) for p in proposals if isinstance(p, IntentProposal)}
    assert groups == {frozenset(r.text for r in rows[:8]), frozenset(r.text for r in rows[8:])}
    assert all(unspaced(p.intent) for p in proposals if isinstance(p, IntentProposal))


def test_a_chinese_answer_is_worded_in_chinese_under_a_name_the_playbook_allows() -> None:
    rows = [Example(f"退款多久到账{'吗呢啊吧'[n % 4]}", None, answer="退款需要五天。", group=f"c{n}") for n in range(8)]
    (proposal,) = found(rows, np.tile(planted([1])[0], (8, 1))).proposals
    assert isinstance(proposal, AnswerProposal)
    assert proposal.answer == (("en", ""), ("zh", "退款需要五天。"))
    assert proposal.intent.isascii() and proposal.intent.startswith("answer_")


@pytest.mark.parametrize(
    "rows",
    [[], [Example("one")], [Example("one", "a")], [Example("same", "a")] * 50, [Example("same", answer="same")] * 50,
     [Example("same", "a"), Example("same", "b")] * 20, [Example("???", group=str(n)) for n in range(20)]],
    ids=["nothing", "one question", "one label", "one row fifty times", "one reply", "contradictions", "no words"],
)  # fmt: skip
def test_poor_rows_are_no_error(rows: list[Example]) -> None:
    vectors = np.tile(planted([1])[0], (len(rows), 1))
    result = found(rows, vectors, vectors)
    assert len(result.proposals) <= 2 and result.notes


def test_rows_without_words_get_a_name_all_the_same() -> None:
    rows = [Example("???", group=str(n)) for n in range(20)]
    (proposal,) = found(rows, np.tile(planted([1])[0], (20, 1))).proposals
    assert isinstance(proposal, IntentProposal) and proposal.intent == "topic"
