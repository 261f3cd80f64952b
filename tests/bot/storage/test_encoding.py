"""What is stored reads back exactly, and what is not understood is refused instead of guessed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings

from bot import FrontdeskError
from bot.conversation.messages import Approved, Decision, NotKnown, Part, SmallTalk, Thresholds, Turn
from bot.storage.encoding import FORMAT, check_format, from_json, to_json
from retriever.passages import Why
from tests.bot.storage.sample import any_turn, message, turn_for

FORMAT_1 = (
    '[{"question":"Where is it?","understanding":{"intent":null,"confidence":0.25,"runners_up":'
    '[{"intent":"a","confidence":0.5}],"out_of_scope":0.75,"entities":[],"language":"en","model_version":"m",'
    '"sentiment":"","urgent":false},'
    '"hits":[],"decision":{"kind":"AskFor","intent":"a","slot":"order_number","filled":[["email","a@b"]],'
    '"problem":""}}]'
)
"""Parts as format 1 wrote them. Never edit: a record of last year must still open."""


@given(any_turn)
@settings(max_examples=60, deadline=None)
def test_every_turn_reads_back_exactly(turn: Turn) -> None:
    assert from_json(tuple[Part, ...], to_json(tuple[Part, ...], turn.parts)) == turn.parts
    assert from_json(Thresholds, to_json(Thresholds, turn.thresholds)) == turn.thresholds


def test_decisions_of_the_same_shape_are_told_apart() -> None:
    for decision in (Approved("a"), SmallTalk("a"), NotKnown()):
        back: Decision = from_json(Decision, to_json(Decision, decision))  # type: ignore[arg-type]
        assert back == decision and type(back) is type(decision)


def test_json_of_format_1_is_still_read_and_written() -> None:
    """Planted: any change of the stored shape must come with a new FORMAT, or this turns red."""
    parts = from_json(tuple[Part, ...], FORMAT_1)
    assert to_json(tuple[Part, ...], parts) == FORMAT_1
    assert FORMAT == 1
    before_tone = FORMAT_1.replace(',"sentiment":"","urgent":false', "")
    assert before_tone != FORMAT_1 and from_json(tuple[Part, ...], before_tone) == parts


def test_why_a_passage_was_found_reads_as_it_was_told_before_and_as_it_is_now() -> None:
    old = '{"meaning":0.5,"words":0.25,"subject":1.0,"margin":0.0,"precedent":0.0,"judged":0.0}'
    assert from_json(Why, old) == Why(0.5, 0.25, 1.0)
    now = Why(0.5, 0.25, 1.0, 0.1, 0.2, 0.3, 0.4, 0.6, ("sr17",), -2, (("meaning", 0.5), ("reranker", -0.125)))
    assert from_json(Why, to_json(Why, now)) == now


def test_a_field_added_with_a_default_reads_old_rows() -> None:
    old = {name: value for name, value in dataclasses.asdict(Thresholds()).items() if name != "clarify"}
    assert from_json(Thresholds, json.dumps(old)) == Thresholds()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("[", "cannot be read"),
        ('[{"question":"x"}]', "lacks decision, hits, understanding"),
        (FORMAT_1.replace('"AskFor"', '"Gossip"'), "'Gossip'"),
        (FORMAT_1.replace('"hits"', '"extra":1,"hits"'), "has no field extra"),
        (FORMAT_1.replace("0.25", '"much"'), "'much'"),
    ],
)
def test_damaged_json_is_refused_with_one_line(fault: str, told: str) -> None:
    with pytest.raises(FrontdeskError, match="restore a backup") as caught:
        from_json(tuple[Part, ...], fault)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), "0.5", None, True])
def test_a_value_outside_its_type_is_refused_when_written(confidence: object) -> None:
    part = turn_for(message("c", "m")).parts[0]
    wrong = dataclasses.replace(part.understanding, confidence=confidence)  # type: ignore[arg-type]
    with pytest.raises(FrontdeskError, match="cannot be stored"):
        to_json(tuple[Part, ...], (dataclasses.replace(part, understanding=wrong),))


def test_a_number_of_numpy_is_stored_as_a_number() -> None:
    part = turn_for(message("c", "m")).parts[0]
    scored = dataclasses.replace(part.understanding, confidence=np.float32(0.5))  # type: ignore[arg-type]
    back = from_json(tuple[Part, ...], to_json(tuple[Part, ...], (dataclasses.replace(part, understanding=scored),)))
    assert type(back[0].understanding.confidence) is float and back[0].understanding.confidence == 0.5


def test_rows_of_a_later_format_are_refused() -> None:
    check_format(FORMAT)
    with pytest.raises(FrontdeskError, match="install the newer Frontdesk"):
        check_format(FORMAT + 1)
