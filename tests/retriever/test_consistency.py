"""What contradicts or repeats itself is found, and what may well differ is not: a person reads every finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retriever.consistency import Findings, check
from retriever.knowledge_base import KnowledgeBase
from retriever.passages import Passage
from tests.retriever.hashing import HashingEncoder

# What a company writes besides: enough that words have a weight, and that some are written in lower case.
BACKGROUND = (
    "Our stores open every morning. Parking is behind the building and the lift goes to all floors.",
    "We ship parcels on weekdays. The courier brings a tent, a jacket or a filter to the door.",
    "Write to the help desk or phone us. An answer comes by e-mail from a person of the team.",
    "Membership brings points for purchases, invitations to walks and news by letter.",
    "我们的门店每天营业，停车场在楼后面，电梯可以到所有楼层。",
)


def passage(source: str, text: str, **more: str) -> Passage:
    heading = tuple(filter(None, [more.pop("heading", "")]))
    language = "zh" if any("\u4e00" <= character <= "\u9fff" for character in text) else "en"
    title = more.pop("title", more.get("question") or "Help")
    return Passage(source, source, title, heading, text, 0, len(text), language, **more)


def checked(*given: Passage, background: tuple[str, ...] = BACKGROUND) -> Findings:
    """All of `given` near each other, the background far away."""
    others = [passage(f"background-{n}.md", text) for n, text in enumerate(background)]
    vectors = np.zeros((len(given) + len(others), len(others) + 1), np.float32)
    vectors[: len(given), 0] = 1
    vectors[len(given) :, 1:] = np.eye(len(others))
    return check([*given, *others], vectors)


def contradiction(one: str, other: str) -> tuple[str, str] | None:
    """What two articles contradict each other in."""
    found = checked(passage("one.md", one), passage("other.md", other))
    assert len(found.contradictions) < 2
    for finding in found.contradictions:
        assert (finding.first.source, finding.second.source) == ("one.md", "other.md")
        assert finding.sentence_first in one and finding.sentence_second in other
    return next((finding.what for finding in found.contradictions), None)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (
            "You can return unused items within 30 days.",
            "Unused items: return them within 14 days.",
            ("30 days", "14 days"),
        ),
        ("Express delivery costs $5 extra.", "For express delivery we charge $7 extra costs.", ("$5", "$7")),
        ("Breakfast in the lobby starts at 9:00.", "In the lobby breakfast starts at 10:00.", ("9:00", "10:00")),
        ("Breakfast in the lobby starts at 9 a.m.", "In the lobby breakfast starts at 9 p.m.", ("9 a.m.", "9 p.m.")),
        ("Members get 10 % off new boots.", "Members get 15 percent off new boots.", ("10 %", "15 percent")),
        (
            "Refunds to a card arrive in 3-5 business days.",
            "Refunds to a card arrive in 3-7 business days.",
            ("3-5 business days", "3-7 business days"),
        ),
        (
            "The deposit is held on your card for two weeks.",
            "Your card: the deposit is held four weeks.",
            ("two weeks", "four weeks"),
        ),
        ("收到商品后30天内可以退货。", "收到商品后 14 天内可以退货。", ("30天", "14 天")),
        ("收到商品后三十天内可以退货。", "收到商品后十四天内可以退货。", ("三十天", "十四天")),
        ("特快配送费用为15元。", "特快配送费用是20元。", ("15元", "20元")),
        ("退款在5个工作日内到账。", "退款会在10个工作日内到账。", ("5个工作日", "10个工作日")),
    ],
)
def test_two_articles_that_give_different_amounts_are_found(one: str, other: str, what: tuple[str, str]) -> None:
    assert contradiction(f"{one} Have a good day.", f"Hello there. {other}") == what


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Opened filters can be returned to us.", "Opened filters cannot be returned to us."),
        ("Gift cards never expire and carry no fee.", "Gift cards expire and carry a fee."),
        ("We don't deliver parcels to hotels.", "We deliver parcels to hotels."),
        ("已拆封的滤水器可以退货。", "已拆封的滤水器不能退货。"),
        ("预售商品发货前可以取消。", "预售商品发货前无法取消。"),
        ("门店提供礼品包装服务。", "门店没有提供礼品包装服务。"),
    ],
)
def test_yes_against_no_is_found_in_either_order(one: str, other: str) -> None:
    assert contradiction(one, other) is not None
    assert contradiction(other, one) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The same in other words.
        ("You can return unused items within 30 days.", "Unused items: return them within thirty (30) days."),
        ("Breakfast in the lobby starts at 2 p.m.", "In the lobby breakfast starts at 14:00."),
        ("The lost parcel costs $1,000 at most.", "A lost parcel costs 1000 dollars at most."),
        ("收到商品后三十天内可以退货。", "收到商品后 30 天内可以退货。"),
        # More detail, not another word.
        ("Refunds to a card arrive within 5 business days.", "Refunds to a card arrive in 3-5 business days."),
        ("Members may return items for 90 days.", "The time to return items is 45 days, 90 for members."),
        # Other things than these are counted, or meant.
        ("The deposit on your card is held for two weeks.", "The deposit on your card is held for four people."),
        ("Cheques for the room: check in at 14:00.", "Cheques for the room: check out at 11:00."),
        ("We refund the parcel within 5 days.", "A jacket is washed for members at our desk within 9 days."),
        ("Express parcels to Ontario arrive within 3 days.", "Express parcels to Quebec arrive within 5 days."),
        ("Open for 5 days.", "Open for 9 days."),
        (
            "Unused items can be returned to any store within 5 days.",
            "Unused items of a rental, such as poles and pegs, are cleaned and counted in a store in 9 days.",
        ),
        ("不同尺码的帐篷可以退货。", "同尺码的帐篷可以退货。"),
        # Both deny something.
        ("Gift cards carry no tax here.", "Tax is charged on shipping here, not on gift cards."),
        # A condition or an exception.
        ("Opened filters can be returned to us.", "If opened filters are not returned to us, they are yours."),
        ("Opened filters can be returned to us.", "Opened filters cannot be returned to us unless they leak."),
        ("Opened filters can be returned to us.", "Opened filters can not only be returned to us."),
        ("已拆封的滤水器可以退货。", "已拆封的滤水器不仅可以退货。"),
        # Columns: their head is not in the row.
        ("Express parcel fee | 5 days | $5 | $7", "Express parcel fee | 9 days | $6 | $8"),
    ],
)
def test_what_agrees_or_speaks_of_something_else_is_not_reported(one: str, other: str) -> None:
    assert contradiction(one, other) is None


def test_two_hotels_may_differ_and_one_hotel_may_not() -> None:
    def row(source: str, entity: str, hour: str) -> Passage:
        asked = f"When can I check in at {entity}?"
        return passage(source, f"Check-in starts at {hour}.", question=asked, entity=entity)

    apart = checked(row("a", "Alder Inn", "14:00"), row("b", "Birch House", "15:00"))
    assert apart == Findings((), ())
    same = checked(row("a", "Alder Inn", "14:00"), row("b", "Alder Inn", "15:00"))
    assert [finding.what for finding in same.contradictions] == [("14:00", "15:00")]


def test_the_name_of_a_hotel_is_no_matter_of_its_own() -> None:
    name = "Grand Old Harbour Lodge"
    found = checked(
        passage("a", f"{name} offers free parking.", question=f"Is parking free at {name}?", entity=name),
        passage("b", f"{name} does not offer room service.", question=f"Is there service at {name}?", entity=name),
    )
    assert found.contradictions == ()


def test_products_differ_unless_the_sentence_names_the_same_one() -> None:
    names = "The Drift and the Basin are on show. Ask for the Drift or for the Basin."
    weight = "Packed with all its poles it weighs {} kg."
    named = "Packed with all its poles the Drift weighs {} kg."

    def found(one: str, other: str) -> int:
        first = passage("drift.md", one.format("1.9"), title="Drift tent")
        second = passage("basin.md", other.format("3.9"), title="Basin tent")
        return len(checked(first, second, background=(*BACKGROUND, names)).contradictions)

    assert found(weight, weight) == 0
    assert found(named, named) == 1
    assert found(named, named.replace("Drift", "Basin")) == 0


def test_two_articles_about_one_product_may_not_differ() -> None:
    names = "The Ember Duo is on show. Ask for the Ember Duo by its code, the ST-202."
    text = "The hose must be changed after {} years by the workshop."
    given = [
        passage(f"{n}.md", text.format(n), title=title) for n, title in ((5, "Ember Duo"), (8, "Ember Duo (ST-202)"))
    ]
    found = checked(*given, background=(*BACKGROUND, names)).contradictions
    assert [finding.what for finding in found] == [("5 years", "8 years")]


def test_what_stands_in_a_layout_is_about_each_title() -> None:
    def found(heading: str) -> int:
        given = [
            passage(f"{n}.md", f"Boil the filter for {n} minutes in clean water.", title=title, heading=heading)
            for n, title in enumerate(("lower pump", "upper pump", "hand pump"), 3)
        ]
        return len(checked(*given).contradictions)

    assert found("Care") == 0
    assert found("") == 3


def test_articles_that_each_name_their_own_case_do_not_contradict() -> None:
    damaged = "Report a damaged parcel to us within 7 days of delivery."
    missing = damaged.replace("damaged", "missing").replace("7", "14")
    titles = {"title": "Damaged on the way"}, {"title": "Missing after delivery"}
    apart = checked(passage("a.md", damaged, **titles[0]), passage("b.md", missing, **titles[1]))
    assert apart.contradictions == ()
    same = checked(passage("a.md", damaged, **titles[0]), passage("b.md", damaged.replace("7", "14"), **titles[1]))
    assert [finding.what for finding in same.contradictions] == [("7 days", "14 days")]


DENTED = "Do not post a dented can. Put it outdoors and send us a photo; we refund it at once."
LEAKING = "A dented canister is replaced: leave it outdoors, send us a photo and do not post it."
CHOICE = (
    "You may choose a replacement or a refund.",
    "For a refund or replacement show the receipt.",
    "It takes three days to refund or replace a pump.",
)


def test_what_articles_present_as_alternatives_excludes_each_other() -> None:
    given = passage("a.md", DENTED), passage("b.md", LEAKING)
    found = checked(*given, background=(*BACKGROUND, *CHOICE)).contradictions
    assert [finding.what for finding in found] == [("refund", "replaced")]
    assert "dented" in found[0].sentence_first and "dented" in found[0].sentence_second
    rarely = checked(*given, background=(*BACKGROUND, *CHOICE[:2])).contradictions
    assert rarely == (), "twice may be chance"


def test_who_knows_of_both_alternatives_contradicts_neither() -> None:
    both = passage("a.md", f"{DENTED} Nothing else is replaced.")
    for given in ((both, passage("b.md", LEAKING)), (passage("b.md", LEAKING), both)):
        assert checked(*given, background=(*BACKGROUND, *CHOICE)).contradictions == ()


def test_chinese_alternatives_exclude_each_other_too() -> None:
    choice = ("您可以选择退款或换货。", "请先选择换货或者退款。", "到店可以办理退款还是换货？")
    one, other = "凹陷的气罐请放在室外并拍照，我们马上退款。", "凹陷的气罐请放在室外并拍照，我们马上换货。"
    found = checked(passage("a.md", one), passage("b.md", other), background=(*BACKGROUND, *choice))
    assert [set(finding.what) for finding in found.contradictions] == [{"退款", "换货"}]


SHIPPING = (
    "Parcels leave our warehouse every weekday before noon, and the courier sends a message with a link that shows "
    "where the parcel is and when it will be at the door."
)


def test_nearly_the_same_text_in_two_sources_is_a_duplicate() -> None:
    found = checked(passage("a.md", SHIPPING), passage("b.md", SHIPPING.replace("door", "gate")))
    assert [(one.first.source, one.second.source) for one in found.duplicates] == [("a.md", "b.md")]
    assert 0.8 <= found.duplicates[0].likeness < 1
    exact = checked(passage("a.md", SHIPPING), passage("b.md", SHIPPING))
    assert [one.likeness for one in exact.duplicates] == [1.0]
    chinese = "包裹每个工作日从仓库发出，快递会发送链接，可以查看包裹的位置。"
    assert len(checked(passage("a.md", chinese), passage("b.md", chinese)).duplicates) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (passage("a.md", SHIPPING), passage("b.md", " ".join(reversed(SHIPPING.split())))),
        (passage("a.md", "See shipping costs."), passage("b.md", "See shipping costs.")),
        (passage("a.md", SHIPPING), passage("a.md", SHIPPING)),
        (passage("a.csv#1", "Yes.", question="Is parking free?"), passage("a.csv#2", "Yes.", question="Is it warm?")),
        (passage("a.md", SHIPPING, entity="Alder Inn"), passage("b.md", SHIPPING, entity="Birch House")),
    ],
    ids=["other order", "short", "one source", "questions", "entities"],
)
def test_what_is_no_duplicate(first: Passage, second: Passage) -> None:
    assert checked(first, second) == Findings((), ())


def test_many_copies_are_told_once_each() -> None:
    copies = [passage(f"{n}.md", SHIPPING) for n in range(15)]
    assert len(checked(*copies).duplicates) == 14


def test_a_sentence_that_many_repeat_and_one_contradicts_is_told_once() -> None:
    said = [passage(f"{n}.md", "You can return unused items within 30 days.") for n in range(6)]
    other = passage("z.md", "You can return unused items within 14 days.")
    assert len(checked(*said, other).contradictions) == 1


def test_a_copy_with_another_number_is_a_contradiction_alone() -> None:
    text = f"{SHIPPING} Express parcels with fuel arrive within 2 days."
    found = checked(passage("a.md", text), passage("b.md", text.replace("2 days", "6 days")))
    assert [finding.what for finding in found.contradictions] == [("2 days", "6 days")]
    assert found.duplicates == ()


def test_the_pair_is_found_among_many_and_only_when_near() -> None:
    """More passages than one block holds, with vectors that are not of length one."""
    rng = np.random.default_rng(5)
    passages = [passage(f"{n}.md", f"Item {n} of the list is made for walkers.", title=f"t{n}") for n in range(700)]
    passages[3] = passage("3.md", "You can return unused items within 30 days.")
    passages[690] = passage("690.md", "You can return unused items within 14 days.")
    vectors = rng.normal(size=(700, 64)).astype(np.float32)
    assert check(passages, vectors).contradictions == ()
    vectors[690] = vectors[3] / 1000
    told: list[tuple[str, int, int]] = []
    found = check(passages, vectors, lambda *step: told.append(step)).contradictions
    assert [(finding.first.source, finding.second.source) for finding in found] == [("3.md", "690.md")]
    assert [step for step in told if step[1] == step[2]] == [
        ("looking for what is near", 700, 700),
        ("comparing", 3, 3),
    ]
    assert told[0] == ("looking for what is near", 256, 700)


def test_a_number_written_with_a_long_s_is_a_number() -> None:
    given = [
        passage(f"{n}.md", f"You can return unused items within {days} days.") for n, days in ((1, "ſix"), (2, "9"))
    ]
    (found,) = check(given, np.ones((2, 2), np.float32)).contradictions
    assert "9 days" in found.what


def test_passages_about_other_things_are_not_compared() -> None:
    given = [passage(f"{n}.md", f"You can return unused items within {n} days.") for n in (14, 30)]
    assert check(given, np.eye(2, dtype=np.float32)) == Findings((), ())


def test_a_knowledge_base_is_checked_as_it_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "articles"
    folder.mkdir()
    (folder / "returns.md").write_text("# Returns\n\nUnused items can be returned within 30 days.\n", "utf-8")
    (folder / "faq.md").write_text("# Returns\n\nUnused items can be returned within 14 days.\n", "utf-8")
    base = KnowledgeBase(tmp_path / "knowledge", HashingEncoder())
    base.ingest([folder])
    knowledge = base.load()
    found = check(knowledge.passages, knowledge.vectors).contradictions
    assert [finding.what for finding in found] == [("14 days", "30 days")]


def test_nothing_is_found_in_nothing() -> None:
    assert check([], np.empty((0, 8), np.float32)) == Findings((), ())
