"""Golden questions: the judge, and thresholds that keep the promise of the dial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot import FrontdeskError
from bot.conversation.messages import (
    Approved,
    Citation,
    Clarify,
    Grounded,
    Message,
    NotKnown,
    Part,
    Reply,
    Thresholds,
    Turn,
    Understanding,
    Versions,
)
from bot.golden import GoldenRow, Score, as_good, ask_all, choose_thresholds, judge, past_turns, read_golden, score
from retriever.passages import Hit, Passage, Why

ROW = GoldenRow("q1", "where is my refund", (), "en", True, ("refund_status",), ("refunds.md",))


def understanding(intent: str | None) -> Understanding:
    return Understanding(intent, 0.9, (), 0.1, (), "en", "m1")


def turn(reply: Reply, part: Part, message: Message | None = None) -> Turn:
    message = message or past_turns([("customer", "x")])[0].message
    return Turn("t1", message, (part,), reply, Versions("m1", "i1", "p1"), Thresholds())


def hit(source: str) -> Hit:
    return Hit(Passage(f"id-{source}", source, "t", (), "text", 0, 4), 1.0, 0.9, Why(0.5, 0.5, 0.5))


def approved(intent: str) -> Turn:
    return turn(Reply("ok", (), (), "approved"), Part("q", understanding(intent), (), Approved(intent)))


def grounded(source: str) -> Turn:
    found = hit(source)
    citation = Citation("t", "/a", "text", found.passage.id)
    return turn(Reply("ok", (citation,), (), "grounded"), Part("q", understanding(None), (found,), Grounded((found,))))


def silent(reply: Reply | None = None) -> Turn:
    return turn(reply or Reply("?", (), (), "not_known"), Part("q", understanding(None), (), NotKnown()))


def test_the_judge_tells_right_from_wrong_and_abstained() -> None:
    assert judge(ROW, approved("refund_status")) == "right"
    assert judge(ROW, approved("cancel_order")) == "wrong"
    assert judge(ROW, grounded("refunds.md")) == "right"
    assert judge(ROW, grounded("other.md")) == "wrong"
    assert judge(ROW, silent()) == "abstained"


def test_options_that_name_the_right_intent_are_no_answer() -> None:
    part = Part("q", understanding("refund_status"), (), Clarify(("refund_status",)))
    assert judge(ROW, turn(Reply("a or b", (), (), "clarified"), part)) == "abstained"


def test_an_unanswerable_question_may_only_be_refused() -> None:
    row = replace(ROW, answerable=False, intents=(), articles=())
    assert judge(row, silent()) == "refused"
    assert judge(row, grounded("refunds.md")) == "leaked"
    assert judge(row, approved("refund_status")) == "leaked"


def test_written_history_becomes_turns_in_order() -> None:
    turns = past_turns([("agent", "what"), ("agent", "is it?"), ("customer", "a"), ("agent", "b"), ("agent", "B")])
    assert [(t.message.text, t.reply.text) for t in turns] == [("", "what\nis it?"), ("a", "b\nB")]
    turns = past_turns([("agent", "hello"), ("customer", "a"), ("agent", "b"), ("customer", "c")])
    assert [(t.message.text, t.reply.text) for t in turns] == [("", "hello"), ("a", "b"), ("c", "")]


@pytest.mark.parametrize("line", ["not json", "[]", '{"id": 1}', '{"id": 1, "text": "x"}'])
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('{"id": "a", "text": "x", "answerable": false}\n' + line)
    with pytest.raises(FrontdeskError, match=r"golden\.jsonl:2: bad golden row"):
        read_golden(path)


@pytest.mark.parametrize(
    "wrong",
    ['"answerable": "false"', '"answerable": true, "intents": "refund"', '"answerable": true, "articles": "a.md"'],
)
def test_a_value_of_another_type_is_not_taken_for_one(tmp_path: Path, wrong: str) -> None:
    """ "false" would count as answerable, and a text as a list of its letters."""
    path = tmp_path / "golden.jsonl"
    path.write_text('{"id": "a", "text": "x", ' + wrong + "}")
    with pytest.raises(FrontdeskError, match=r"golden\.jsonl:1: bad golden row"):
        read_golden(path)


def test_a_row_ends_at_a_line_feed_alone_and_a_byte_order_mark_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    rows = (
        '{"id": "a", "text": "x\u2028y\x85z", "answerable": false}',
        '{"id": "b", "text": "x", "answerable": false}',
    )
    path.write_text("\ufeff" + "\r\n".join(rows), "utf-8")
    assert [row.text for row in read_golden(path)] == ["x\u2028y\x85z", "x"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_text("\n")
    with pytest.raises(FrontdeskError, match="no questions in it"):
        read_golden(tmp_path / "golden.jsonl")


@dataclass(frozen=True)
class ScoreInText:
    """Answers with the right article when the number that the question carries reaches the passage threshold."""

    thresholds: Thresholds

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        sure = float(message.text) >= self.thresholds.passage
        yield replace(grounded("refunds.md") if sure else silent(), message=message)


def rows(answerable: list[float], unanswerable: list[float]) -> list[GoldenRow]:
    return [replace(ROW, id=f"a{n}", text=str(v)) for n, v in enumerate(answerable)] + [
        replace(ROW, id=f"u{n}", text=str(v), answerable=False, intents=(), articles=())
        for n, v in enumerate(unanswerable)
    ]


def test_thresholds_answer_as_much_as_the_dial_allows() -> None:
    """Unanswerable scores end at 0.58 with one outlier at 0.9: 59 rows at 5 % allow exactly two leaks."""
    questions = rows([0.5, 0.66, 0.7, 0.99], [0.01 * n for n in range(1, 59)] + [0.9])
    chosen, reached = choose_thresholds(ScoreInText, questions, 0.05)
    assert 0.57 < chosen.passage <= 0.66
    assert (reached.right, reached.leaked) == (3, 1 + (chosen.passage <= 0.58))
    assert (reached.leaked + 1) / (reached.unanswerable + 1) <= 0.05


@dataclass(frozen=True)
class SentenceInText:
    """Answers when the number in the text, the share that its best sentence has, is enough; below .4 it is wrong."""

    thresholds: Thresholds

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        share = float(message.text)
        said = grounded("refunds.md" if share >= 0.4 else "other.md")
        yield replace(said if share >= self.thresholds.sentence else silent(), message=message)


def test_the_sentence_has_a_threshold_of_its_own_where_questions_show_that_it_pays() -> None:
    helps, _ = choose_thresholds(SentenceInText, rows([0.9] * 9 + [0.35] * 4, []), 0.05)
    assert helps.sentence == 0.5
    costs, _ = choose_thresholds(SentenceInText, rows([0.9] * 9 + [0.45] * 4, []), 0.05)
    assert costs.sentence == 0, "as on the sample company: what is right in other words would be lost"


@dataclass(frozen=True)
class ScopeInText:
    """Answers a question when its out-of-scope score, the last word of its text, is low enough."""

    thresholds: Thresholds

    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]:
        score = float(message.text.split()[-1])
        yield approved("refund_status") if score <= self.thresholds.foreign else silent()


@pytest.mark.parametrize(("doubtful", "scope"), [(3, 0.05), (15, 0.15)])
def test_of_scopes_that_gain_alike_the_strictest_is_taken(doubtful: int, scope: float) -> None:
    """50 sure questions, 20 that nothing answers, and some at .12: three are within one standard error, fifteen not."""
    questions = rows([0.04] * 50 + [0.12] * doubtful + [0.99] * 20, [0.95] * 60)
    chosen, _ = choose_thresholds(ScopeInText, questions, 0.05)
    assert (chosen.foreign, chosen.out_of_scope) == (scope, scope)


def test_another_way_is_as_good_within_a_standard_error_and_never_over_the_dial() -> None:
    """80 of 100 right: gains of 1 and 0 with a variance of .16, a standard error of 4."""
    now = Score(answerable=100, right=80, wrong=0, abstained=20, unanswerable=60, leaked=1)
    for right, good in ((80, True), (90, True), (77, True), (76, True), (75, False)):
        assert as_good(replace(now, right=right, abstained=100 - right), now, 0.05) is good
    leaking = replace(now, right=100, abstained=0, leaked=10)
    assert not as_good(leaking, now, 0.05) and as_good(now, leaking, 0.05)


def test_too_few_unanswerable_questions_cannot_prove_the_dial_and_leak_nothing() -> None:
    """With five questions no leak rate under 5 % can be shown, so nothing unanswerable is answered."""
    _, reached = choose_thresholds(ScoreInText, rows([0.9, 0.95], [0.1, 0.2, 0.3, 0.4, 0.5]), 0.05)
    assert reached.leaked == 0
    assert reached.right == 2


def test_counts_add_up() -> None:
    counts = score(ask_all(ScoreInText(Thresholds(passage=0.5)), rows([0.4, 0.9], [0.6, 0.1])))
    assert (counts.answerable, counts.right, counts.abstained, counts.unanswerable, counts.leaked) == (2, 1, 1, 2, 1)
    assert counts.answered_right == counts.leak_rate == 0.5
