"""A proposal's file says what the proposal is, survives any text, and names what a person wrote wrongly in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.examples import Example, FinetuneError, clean_text
from finetune.proposal_toml import edited, from_toml, to_toml
from finetune.proposals import (
    AnswerProposal,
    Asked,
    IntentProposal,
    LabelProposal,
    MergeProposal,
    Proposal,
    evidence,
    kind_of,
    new_id,
    row_key,
)

TALK = (("customer", "I bought a lamp"), ("agent", 'The "Tide" lamp?\nOr another?'))
ANSWER = AnswerProposal(
    "answers/lamp_refund-0123abcd", "lamp_refund", (("en", "When do I get my money?"), ("zh", "")),
    (("en", "Refunds take 5 days.\nThen ask us."), ("zh", "")), (Asked("my refund?"), Asked("and mine", TALK)),
    ("Five days.",), 7, 0.71, "refund_status",
)  # fmt: skip
INTENT = IntentProposal("intents/lamp_zip-0123abcd", "lamp_zip", False, (Asked("the zip broke"),), 6, 0.5)
LABEL = LabelProposal("labels/a-b-0123abcd", "ff00", Asked("x y", TALK), "a", "relabel", "b", 0.05, 0.9, 1.2)
MERGE = MergeProposal("merges/a-b-0123abcd", "a", "b", (12, 30), 0.55, (("a", "one"), ("b", "two")))
ALL: tuple[Proposal, ...] = (ANSWER, INTENT, LABEL, MERGE)


def again(proposal: Proposal) -> Proposal:
    return from_toml(to_toml(proposal), kind_of(proposal), "f.toml")


@pytest.mark.parametrize("proposal", ALL, ids=kind_of)
def test_what_is_written_is_read(proposal: Proposal) -> None:
    assert again(proposal) == proposal
    assert not edited(to_toml(proposal))


@pytest.mark.parametrize("proposal", ALL, ids=kind_of)
def test_a_file_opens_with_what_accepting_does_and_how(proposal: Proposal) -> None:
    head = to_toml(proposal).split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "Accepting" in head and f"frontdesk proposals accept {proposal.id}" in head
    assert f"frontdesk proposals reject {proposal.id}" in head


def test_any_change_but_the_last_line_counts_as_an_edit() -> None:
    text = to_toml(INTENT)
    assert edited(text.replace("the zip broke", "the zip tore"))
    assert edited(text.replace("# The most", "# Most"))
    assert edited("".join(text.splitlines(keepends=True)[:-1])), "a file whose last line is gone"


HOSTILE = (
    "\"quotes' and \\ backslashes \\n", '"""', "tab\tand\nlines\r\nhere", "= [brackets] # no comment", "'''", "\u007f?",
    "null \u2028 and \ufeff", "退款：什么时候？", "😀 ‏עברית", "a" * 8000, "in_conversation", "{order_number}",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_breaks_the_file(text: str) -> None:
    safe = text.replace("\u007f", "").strip()
    lines = (("customer", safe), ("agent", safe))
    for proposal in (
        replace(
            ANSWER,
            title=(("en", safe),),
            answer=(("en", safe),),
            asked=(Asked(safe), Asked(safe, lines)),
            wordings=(safe,),
        ),
        replace(INTENT, intent=safe[:50], asked=(Asked(safe), Asked(safe, lines))),
        replace(LABEL, asked=Asked(safe, lines), given=text[:50], intent=safe[:50]),
        replace(MERGE, confused=((text, text),)),
    ):
        assert again(proposal) == proposal


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_that_may_train_comes_back(text: str) -> None:
    try:
        safe = clean_text(text, "text")
    except ValueError:
        return
    proposal = replace(INTENT, asked=(Asked(safe), Asked(safe, (("bot", safe),))))
    assert again(proposal) == proposal


def test_the_blns_come_back(shared_datasets: Path) -> None:
    """The big list of naughty strings, those of them that a row may hold at all."""
    seen = 0
    for text in json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8")):
        try:
            safe = clean_text(text, "text")
        except ValueError:
            continue
        seen += 1
        assert again(replace(LABEL, asked=Asked(safe))) == replace(LABEL, asked=Asked(safe))
    assert seen > 300


FAULTS = [
    (INTENT, 'intent = "lamp_zip"', "intent = 3", 'f.toml: intent: is a int, not a text'),
    (INTENT, 'intent = "lamp_zip"', 'intent = ""', "f.toml: intent: is empty"),
    (INTENT, 'intent = "lamp_zip"', 'intent = "*x"', "f.toml: intent: is '*x'; give it a name that does not begin"),
    (INTENT, 'intent = "lamp_zip"', "", "f.toml: intent: is missing"),
    (INTENT, "messages = [", "mesages = [", "f.toml: mesages: unknown; known here are intent, messages"),
    (INTENT, '  "the zip broke",\n', "", "f.toml: messages: is empty; keep or write a message, or reject"),
    (INTENT, '"the zip broke"', '"the zip broke", 7', "f.toml: messages[2]: is a int"),
    (INTENT, '"the zip broke"', '""', "f.toml: messages[1]: is empty"),
    (INTENT, '"the zip broke"', '"the zip broke', "f.toml: not valid TOML"),
    (INTENT, "cohesion = 0.5", 'cohesion = "x"', "f.toml: why.cohesion: is 'x', not a number"),
    (INTENT, '"intents/lamp_zip-0123abcd"\n#', '"../../passwd"\n#', "f.toml: found.id: is '../../passwd', not of"),
    (ANSWER, "title.en", "tilte.en", "f.toml: tilte: unknown"),
    (ANSWER, "title.en =", "title = #", "f.toml: not valid TOML"),
    (ANSWER, '["agent", ', '["robot", ', "f.toml: in_conversation[1].history[2]: speaker 'robot' is none of"),
    (ANSWER, '["customer", ', "[", 'f.toml: in_conversation[1].history[1]: is [\'I bought a lamp\']; write ["'),
    (LABEL, 'action = "relabel"', 'action = "delete"', "f.toml: action: is 'delete'; write one of relabel, out_of"),
    (LABEL, 'intent = "b"', 'intent = ""', "f.toml: intent: is empty"),
    (MERGE, 'into = "b"', 'into = "a"', "f.toml: into: is 'a' like `from`; name another intent"),
]  # fmt: skip


@pytest.mark.parametrize(("proposal", "sound", "faulty", "problem"), FAULTS, ids=[f[3][8:50] for f in FAULTS])
def test_a_fault_is_named_with_file_and_field(proposal: Proposal, sound: str, faulty: str, problem: str) -> None:
    text = to_toml(proposal)
    assert sound in text
    with pytest.raises(FinetuneError) as error:
        from_toml(text.replace(sound, faulty, 1), kind_of(proposal), "f.toml")
    assert any(line.startswith(problem) for line in str(error.value).splitlines()), error.value


def test_all_faults_are_named_at_once() -> None:
    text = to_toml(INTENT).replace("messages", "mesages").replace('"lamp_zip"', "1")
    with pytest.raises(FinetuneError) as error:
        from_toml(text, "intents", "f.toml")
    assert len(str(error.value).splitlines()) == 2


def test_a_deleted_explanation_is_no_fault() -> None:
    text = to_toml(INTENT)
    start, end = text.index("[why]"), text.index("[found]")
    assert from_toml(text[:start] + text[end:], "intents", "f") == replace(INTENT, conversations=0, cohesion=0.0)


def test_leaving_a_row_out_needs_no_intent() -> None:
    text = to_toml(LABEL).replace('action = "relabel"', 'action = "leave_out"').replace('intent = "b"\n', "")
    assert from_toml(text, "labels", "f") == replace(LABEL, action="leave_out", intent="")


def test_a_row_is_known_by_its_words_and_those_before_it() -> None:
    row = Example("Where is it?", "x", TALK)
    assert row_key(row) == row_key(Asked("where is it", TALK)) == row_key(replace(row, intent=None, group="g"))
    assert (
        len({row_key(r) for r in (row, Asked("where is it"), Asked("where was it", TALK), Asked("?"), Asked("!"))}) == 5
    )


def test_ids_are_the_same_for_the_same_evidence_and_safe_as_file_names() -> None:
    assert new_id("intents", "a", ["x", "y"]) == new_id("intents", "a", ["y", "x"]) != new_id("intents", "a", ["x"])
    assert new_id("labels", "../a b/😀", ["x"]).startswith("labels/a-b-")
    assert new_id("labels", "退款", ["x"]).startswith("labels/退款-")
    assert new_id("labels", "///", ["x"]).startswith("labels/proposal-")


def test_evidence_outlives_a_new_name() -> None:
    assert evidence(INTENT) == evidence(replace(INTENT, intent="other", id="intents/other-1"))
    assert evidence(MERGE) == evidence(replace(MERGE, source="b", into="a"))
    assert evidence(LABEL) != evidence(replace(LABEL, given="c"))
