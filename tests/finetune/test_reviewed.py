"""Accepted proposals change exactly the rows they are about, wherever these stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from finetune import reviewed as decisions
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.proposals import Action, Asked, IntentProposal, LabelProposal, MergeProposal, Proposal, row_key
from finetune.reviewed import check_acceptable
from tests.finetune.test_proposals import ANSWER, TALK

ROWS = [
    Example("My zip broke.", group="c1", answer="Send it in.", topics=("zips",)),
    Example("my zip broke", "warranty"),
    Example("and the other one?", history=TALK, group="c2"),
    Example("pin lost", "pin", group="c3"),
    Example("pin lost", "card", group="c4"),
    Example("pin lost", "pin", origin="playbook"),
    Example("zip from slack", origin="slack"),
]


def reviewed(rows: Sequence[Example], accepted: Sequence[Proposal]) -> list[Example]:
    return list(decisions.reviewed(rows, accepted))


def intent(name: str, *asked: Asked) -> IntentProposal:
    return IntentProposal(f"intents/{name}-0", name, False, asked, 1, 1.0)


def label(action: Action, becomes: str = "", row: Example = ROWS[3]) -> LabelProposal:
    return LabelProposal("labels/x-0", row_key(row), Asked(row.text), row.intent or "", action, becomes, 0.1, 0.9, 1.0)


def merge(source: str, into: str) -> MergeProposal:
    return MergeProposal(f"merges/{source}-{into}", source, into, (1, 1), 0.5, ())


def test_nothing_accepted_changes_nothing() -> None:
    assert reviewed(ROWS, ()) == ROWS and reviewed([], ()) == []


def test_an_accepted_message_labels_its_row_and_keeps_the_rest_of_it() -> None:
    found = reviewed(ROWS, [intent("zip", Asked("my ZIP broke!"))])
    assert found[0] == replace(ROWS[0], intent="zip", origin="review")
    assert found[1:] == ROWS[1:], "a label that is there stays"


def test_the_same_words_after_other_words_are_another_row() -> None:
    assert reviewed(ROWS, [intent("other", Asked("and the other one?", TALK))])[2].intent == "other"
    found = reviewed(ROWS, [intent("other", Asked("and the other one?"))])
    assert found[2].intent is None and found[-1] == Example("and the other one?", "other", origin="review")


def test_a_message_in_no_row_becomes_one_once() -> None:
    accepted = [intent("zip", Asked("a new one"), Asked("A new one!")), intent("zip", Asked("with talk", TALK))]
    found = reviewed(ROWS, accepted)
    assert found[: len(ROWS)] == ROWS
    assert [(r.text, r.intent, r.history, r.origin) for r in found[len(ROWS) :]] == [
        ("A new one!", "zip", (), "review"),
        ("with talk", "zip", TALK, "review"),
    ]


def test_a_message_that_is_left_out_does_not_come_back_by_another_decision() -> None:
    rows = [Example("pin lost", "pin")]
    assert reviewed(rows, [label("leave_out"), intent("card", Asked("Pin lost!"))]) == []


def test_a_message_of_a_row_without_consent_does_not_come_back_with_consent() -> None:
    rows = [Example("my zip?", consent=False), Example("my pin?", origin="slack")]
    found = reviewed(rows, [intent("zip", Asked("my zip?"), Asked("my pin?"))])
    assert found == [replace(rows[0], intent="zip", origin="review"), replace(rows[1], intent="zip")]


def test_an_answer_labels_its_questions() -> None:
    found = reviewed([Example("my refund?"), Example("and mine", history=TALK)], [ANSWER])
    assert [row.intent for row in found] == ["lamp_refund", "lamp_refund"]


def test_a_row_from_slack_stays_one() -> None:
    assert reviewed(ROWS, [intent("zip", Asked("zip from slack"))])[6].origin == "slack"


@pytest.mark.parametrize(
    ("action", "becomes", "expected"),
    [("relabel", "card_pin", ["card_pin", "card", "pin"]), ("out_of_scope", "", [OUT_OF_SCOPE, "card", "pin"]),
     ("leave_out", "", ["card", "pin"])],
)  # fmt: skip
def test_a_correction_changes_that_label_of_that_row_and_not_the_playbook(
    action: Action, becomes: str, expected: list[str]
) -> None:
    found = reviewed(ROWS, [label(action, becomes)])
    assert [row.intent for row in found if row.text == "pin lost"] == expected
    assert [row for row in found if row.text != "pin lost"] == [row for row in ROWS if row.text != "pin lost"]


def test_a_correction_is_over_when_the_company_corrects_its_file() -> None:
    rows = [Example("pin lost", "mended")]
    assert reviewed(rows, [label("relabel", "card_pin")]) == rows


def test_merges_follow_each_other_and_reach_every_row() -> None:
    accepted = [merge("pin", "card"), merge("card", "cards"), label("relabel", "pin"), intent("pin", Asked("new pin"))]
    found = reviewed(ROWS, accepted)
    assert {row.intent for row in found} == {None, "warranty", "cards"}
    assert found[5].origin == "playbook", "the playbook's examples move too"


def test_merges_in_a_circle_are_refused_with_their_way() -> None:
    before = [merge("a", "b"), merge("b", "c")]
    with pytest.raises(FinetuneError, match=r"a -> b -> c -> a"):
        check_acceptable(merge("c", "a"), before)
    with pytest.raises(FinetuneError, match=r"a was merged into b before"):
        check_acceptable(merge("a", "c"), before)
    check_acceptable(merge("c", "d"), before)
    check_acceptable(merge("a", "b"), before)
    check_acceptable(intent("x", Asked("y")), before)
    with pytest.raises(FinetuneError, match="circle"):
        reviewed(ROWS, [merge("a", "b"), merge("b", "a")])
