"""Names by their cues, and the parties of a conversation."""

from __future__ import annotations

import pytest

from finetune.names import find_names, party_pattern, same_person


def names(text: str, *parties: str) -> list[str]:
    return sorted({text[start:end] for start, end in find_names(text, party_pattern(parties))})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("my name is van der Berg", ["van der Berg"]),
        ("my name is Jan van der Berg, hello", ["Jan van der Berg"]),
        ("hi Emma, I'm still waiting", ["Emma"]),
        ("hi Trail Club, I'm still waiting", []),
        ("I'm Canadian and I'm Happy", []),
        ("This is Ember 1 from the catalogue", []),
        ("I've got Mr. Hassan's order here", ["Mr. Hassan"]),
        ("please check\n- Emma", ["Emma"]),
        ("please check\n- Everything", []),
        ("我叫李娜想问一下", ["李娜"]),
        ("我是江苏人，我是车主，我是金卡", []),
        ("这款女士的和男士的一样吗", []),
        ("请填写收件人和手机号", []),
        ("司马先生您好", ["司马先生"]),
    ],
)
def test_a_name_needs_its_cue(text: str, found: list[str]) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    ("text", "parties", "found"),
    [
        ("ann berg wrote, then Ann, then ANN and Annabel", ["Ann Berg"], ["ANN", "Ann", "ann berg"]),
        ("Will my order come? Regards, will black", ["Will Black"], ["will black"]),
        ("Larkmoor Support says hello, Larkmoor too", ["Larkmoor Support"], []),
        ("@orders look at the orders", ["@orders"], ["@orders"]),
        ("请找小明，王小明或者小王", ["王小明"], ["小明", "王小明"]),
        ("nobody", ["", "x", "客服", " ", "(+*)", "7"], []),
    ],
)
def test_parties_are_found_wherever_they_stand(text: str, parties: list[str], found: list[str]) -> None:
    assert names(text, *parties) == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ann", "Ann Berg", True),
        ("Mr. Berg", "Ann Berg", True),
        ("Ann Berg", "Tom Berg", False),
        ("王先生", "王小明", True),
        ("小明", "王小明", True),
        ("李女士", "王小明", False),
    ],
)
def test_a_shorter_name_may_be_the_same_person(one: str, other: str, same: bool) -> None:
    assert same_person(one, other) is same_person(other, one) is same
