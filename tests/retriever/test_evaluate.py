"""The figures are what one computes by hand, and bad rows are named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from retriever.encoders import FrozenEncoder
from retriever.evaluate import WORST, evaluate_documents, evaluate_retrieval
from retriever.passages import Document, Line, Query, RetrieverError, Section
from retriever.questions import Question, read_questions
from tests.retriever.hashing import HashingEncoder

WORDS = ("apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel")


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def knowledge(tmp_path: Path) -> Path:
    rows = [{"id": word, "question": f"{word}?", "answer": f"{word} {word}"} for word in WORDS]
    return write(tmp_path / "knowledge.jsonl", list(rows))


def test_figures_by_hand(knowledge: Path, tmp_path: Path) -> None:
    """Two questions find their answer first; the third asks for a fig and is marked as meaning the hazel."""
    queries = write(
        tmp_path / "q.jsonl",
        [
            {"query": "apple", "relevant": ["apple"]},
            {
                "history": [{"speaker": "agent", "text": "hi"}, {"speaker": "customer", "text": "banana"}],
                "relevant": ["banana"],
            },
            {"query": "fig hazel fig", "relevant": ["hazel"]},
        ],
    )
    report = evaluate_retrieval(knowledge, queries, HashingEncoder())
    rank = report.ranks[2]
    assert report.ranks[:2] == (1, 1)
    assert rank in (1, 2, 3, 4, 5)
    figures = report.to_json()
    assert figures["recall@1"] == pytest.approx((2 + (rank == 1)) / 3)
    assert figures["recall@5"] == 1
    assert figures["mrr@5"] == pytest.approx((2 + 1 / rank) / 3)
    assert figures["ndcg@5"] == pytest.approx((2 + 1 / math.log2(rank + 1)) / 3)
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert (figures["queries"], figures["passages"], figures["unanswerable"]) == (3, 8, 0)
    assert figures["auroc"] is figures["unanswerable_rejected_at_5"] is None
    low, high = figures["recall@1_interval"]
    assert 0 <= low <= figures["recall@1"] <= high <= 1
    json.dumps(figures, allow_nan=False)


def test_wrong_labels_turn_the_figures_red(knowledge: Path, tmp_path: Path) -> None:
    """The planted fault: the same questions with the answers shuffled score nothing at rank 1."""
    rows: list[object] = [{"query": w, "relevant": [WORDS[i - 1]]} for i, w in enumerate(WORDS)]
    assert evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", rows), HashingEncoder()).overall.recall_at_1 == 0


def test_bad_rows_are_named_by_line_and_skipped(knowledge: Path, tmp_path: Path) -> None:
    good = {"query": "apple", "relevant": ["apple"]}
    queries = write(
        tmp_path / "q.jsonl",
        [
            good, "{broken", {"query": "x", "relevant": ["nobody"]}, {"query": "x"}, ["list"], {"relevant": ["apple"]},
            {"history": [{"speaker": "agent", "text": "bye"}], "relevant": ["apple"]},
            {"history": [{"speaker": "robot", "text": "x"}], "relevant": ["apple"]}, good,
        ],
    )  # fmt: skip
    report = evaluate_retrieval(knowledge, queries, HashingEncoder())
    assert (report.overall.queries, report.unanswerable) == (2, 0)
    assert [problem.split(": ")[0] for problem in report.problems] == [f"q.jsonl:{n}" for n in range(2, 9)]
    assert "no document is called nobody" in report.problems[1]
    assert "[] where nothing answers" in report.problems[2]


def test_what_was_said_before_a_query_counts_too(tmp_path: Path) -> None:
    rows: list[object] = [{"query": "and?", "history": [{"speaker": "agent", "text": "An apple"}], "relevant": ["a"]}]
    rows.append({"query": "and?", "history": "An apple", "relevant": ["a"]})
    document = Document("a", "A", "An apple.", (Section((), 0, 9),))
    (question,), skipped = read_questions(write(tmp_path / "q.jsonl", rows), [document])
    assert question.query == Query("and?", (Line("agent", "An apple"),))
    assert len(skipped) == 1 and "must be a list" in skipped[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("relevant", ['"apple"', "null", "[1]", '[["apple"]]', "{}", "false"])
def test_only_a_list_of_ids_says_what_answers(knowledge: Path, tmp_path: Path, relevant: str) -> None:
    """The planted fault: what is empty, but no list, must not pass for a question that nothing answers."""
    good = {"query": "apple", "relevant": ["apple"]}
    queries = write(tmp_path / "q.jsonl", [good, f'{{"query": "x", "relevant": {relevant}}}'])
    report = evaluate_retrieval(knowledge, queries, HashingEncoder())
    assert report.unanswerable == 0
    assert [problem.split(": ")[0] for problem in report.problems] == ["q.jsonl:2"]


def test_an_unknown_id_beside_a_known_one_is_named_and_costs_nothing(knowledge: Path, tmp_path: Path) -> None:
    queries = write(tmp_path / "q.jsonl", [{"query": "apple", "relevant": ["apple", "nobody", "noone"]}])
    report = evaluate_retrieval(knowledge, queries, HashingEncoder())
    assert report.problems == ("q.jsonl:1: no document is called nobody, noone; the row counts by its other ids",)
    assert (report.overall.queries, report.overall.ndcg_at_5) == (1, 1)


def test_a_document_named_in_two_ways_is_one(knowledge: Path, tmp_path: Path) -> None:
    """By its id and by its whole source: the ideal gain is still that of one document."""
    queries = write(tmp_path / "q.jsonl", [{"query": "fig", "relevant": ["fig", "knowledge.jsonl#fig", "fig"]}])
    assert evaluate_retrieval(knowledge, queries, HashingEncoder()).overall.ndcg_at_5 == 1


@pytest.mark.slow
def test_several_right_documents(knowledge: Path, tmp_path: Path) -> None:
    """One of them first is a hit at 1; the gain asks where the other came."""
    rows: list[object] = [{"query": "fig fig hazel", "relevant": ["hazel", "fig"]}]
    report = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", rows), HashingEncoder())
    assert report.ranks == (1,)
    rows = [{"query": "fig fig hazel", "relevant": ["hazel"]}]
    (other,) = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", rows), HashingEncoder()).ranks
    (one,) = evaluate_retrieval(
        knowledge, write(tmp_path / "q.jsonl", [{**rows[0], "relevant": ["fig"]}]), HashingEncoder()
    ).ranks
    assert {one, other} == {1, 2}
    assert report.overall.ndcg_at_5 == 1
    rows = [{"query": "fig", "relevant": ["elder", "fig"]}]
    report = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", rows), HashingEncoder())
    assert report.overall.recall_at_1 == 1 > report.overall.ndcg_at_5 >= 1 / (1 + 1 / math.log2(3))


# --------------------------------------------------------------------------------------- what nothing answers


def test_questions_that_nothing_answers_are_told_apart(knowledge: Path, tmp_path: Path) -> None:
    """Words that no document has score lower; a foreign question with a document's word is not told apart."""
    rows: list[object] = [{"query": word, "relevant": [word]} for word in WORDS]
    foreign: list[object] = [{"query": text, "relevant": []} for text in ("zebra quagga", "okapi", "gnu and yak")]
    alone = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", rows), HashingEncoder())
    report = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", [*foreign, *rows]), HashingEncoder())
    assert report.problems == ()
    assert (report.overall, report.groups, report.worst) == (alone.overall, alone.groups, alone.worst)
    assert report.ranks == alone.ranks
    assert (report.unanswerable, report.auroc, report.unanswerable_rejected_at_5) == (3, 1.0, 1.0)
    leak: list[object] = [{"query": "apple", "relevant": []}]
    figures = evaluate_retrieval(
        knowledge, write(tmp_path / "q.jsonl", [*foreign, *rows, *leak]), HashingEncoder()
    ).to_json()
    assert figures["unanswerable"] == 4
    assert 0.5 < figures["auroc"] < 1
    assert figures["unanswerable_rejected_at_5"] == 0.75


def test_the_chance_judged_is_that_of_the_best_hit(knowledge: Path, tmp_path: Path) -> None:
    """The planted fault: chances turned upside down turn the AUROC upside down."""
    rows: list[object] = [{"query": word, "relevant": [word]} for word in WORDS]
    rows += [{"query": text, "relevant": []} for text in ("zebra", "okapi")]
    queries = write(tmp_path / "q.jsonl", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retriever.search.built_in", lambda hits: 1 - np.array([hit.why.words for hit in hits]))
        assert evaluate_retrieval(knowledge, queries, HashingEncoder()).auroc == 0


# --------------------------------------------------------------------------------------------------- groups, misses


def document(source: str, text: str, domain: str = "") -> Document:
    return Document(source, source, text, (Section((), 0, len(text)),), domain=domain)


def test_the_version_is_asked_what_was_mended(knowledge: Path) -> None:
    """As in a service, where a reader never sees the slip."""
    text = "The parcel comes in summer."
    document = Document("fruit.md", "Fruit", text, (Section((), 0, len(text)),))
    told: list[str] = []

    def known(query: Query) -> float:
        told.append(query.text)
        return 1.0

    question = Question(Query("when does the pacrel come"), frozenset({"fruit.md"}))
    evaluate_documents([document], [question], HashingEncoder(), known=known)
    assert told == ["when does the parcel come"]


def test_groups_are_domains_else_what_is_on_top() -> None:
    documents = [
        document("stay/rooms.md", "apple"), document("stay/deep/pets.md", "banana"), document("fees.md", "cherry"),
        document("faq.jsonl#a/b", "damson"), document("faq.jsonl#c", "elder", "money"),
        document("x/y.md", "fig", "money"),
    ]  # fmt: skip
    asked = [
        ("apple", "stay/rooms.md"), ("apple", "stay/deep/pets.md"), ("cherry", "fees.md"), ("damson", "a/b"),
        ("elder", "c"), ("fig", "x/y.md"), ("fig", "c"),
    ]  # fmt: skip
    questions = [Question(Query(text), frozenset({name})) for text, name in asked]
    questions.append(Question(Query("apple"), frozenset({"stay/rooms.md", "stay/deep/pets.md", "fees.md"})))
    report = evaluate_documents(documents, questions, HashingEncoder())
    assert {name: group.queries for name, group in report.groups.items()} == {
        "money": 3, "stay": 3, "fees.md": 2, "faq.jsonl": 1
    }  # fmt: skip
    assert list(report.groups) == ["money", "stay", "fees.md", "faq.jsonl"]
    assert report.groups["stay"].recall_at_1 == pytest.approx(2 / 3)
    assert report.groups["money"].recall_at_1 == pytest.approx(2 / 3)
    assert report.groups["fees.md"].recall_at_1 == 1
    assert report.overall.recall_at_1 == pytest.approx(6 / 8)
    group = report.to_json()["groups"]["stay"]
    assert {"queries", "recall@1", "recall@5", "mrr@5"} <= group.keys()


def test_the_worst_come_first_with_why(knowledge: Path, tmp_path: Path) -> None:
    """Found nowhere before found late, the larger lead before the smaller; a right one first is no miss."""
    rows = [
        {"query": "apple", "relevant": ["apple"]},
        {"query": "fig hazel fig", "relevant": ["hazel"]},
        {"query": "fig fig fig fig fig hazel", "relevant": ["hazel"]},
        {"query": "what about\u200b\nbanana \ud800", "relevant": ["grape"]},
        {"query": "apple banana cherry damson elder fig", "relevant": ["fig", "elder", "hazel"]},
    ]
    report = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", list(rows)), HashingEncoder())
    worst = report.worst
    assert report.missed == len(worst) == sum(rank != 1 for rank in report.ranks)
    assert "apple" not in [miss.query for miss in worst]
    order = [(miss.rank is not None, -(miss.lead or 0)) for miss in worst]
    assert order == sorted(order)
    for miss in worst:
        assert (miss.rank is None) == (miss.lead is None)
        assert miss.first.passage.source not in miss.relevant
    late = next(miss for miss in worst if miss.query == "fig hazel fig")
    assert (late.rank, late.relevant) == (report.ranks[1], ("knowledge.jsonl#hazel",))
    # A hit's margin is against the best of another source: ahead of the second by just what a right second one lacks.
    assert late.rank != 2 or late.lead == pytest.approx(late.first.why.margin)
    row = next(miss for miss in report.to_json()["worst"] if miss["query"].startswith("what about"))
    assert row["query"] == "what about banana"
    assert (row["found"], row["relevant"]) == ("knowledge.jsonl#banana", ["knowledge.jsonl#grape"])
    assert row["why"].keys() >= {"meaning", "words", "subject", "margin"}
    assert row["why"]["words"] > 0
    json.dumps(report.to_json(), ensure_ascii=False).encode()


def test_no_more_than_the_worst_are_kept(knowledge: Path, tmp_path: Path) -> None:
    rows: list[object] = [{"query": w, "relevant": [WORDS[i % len(WORDS) - 1]]} for i, w in enumerate(WORDS * 4)]
    report = evaluate_retrieval(knowledge, write(tmp_path / "q.jsonl", rows[1:]), HashingEncoder())
    assert report.missed == len(rows) - 1
    assert len(report.worst) == WORST < report.missed
    # All eight documents are among the hits; the sixth counts as not found.
    assert set(report.ranks) == {2, 3, 4, 5, None}


def test_a_document_counts_once_at_its_best_passage() -> None:
    """Three passages about figs lead, two of them of the document that also has the best: the other one is second."""
    parts = ["fig", "fig hazel", "fig elder elder"]
    text = "\n\n".join(parts)
    starts = [text.index(part) for part in parts]
    sections = tuple(Section((part,), at, at + len(part)) for part, at in zip(parts, starts, strict=True))
    documents = [Document("long.md", "Long", text, sections), document("short.md", "fig elder elder elder")]
    asked = [Question(Query("fig"), frozenset({name})) for name in ("short.md", "long.md")]
    report = evaluate_documents(documents, asked, HashingEncoder())
    assert (report.passages, report.ranks) == (4, (2, 1))
    (miss,) = report.worst
    assert (miss.first.passage.text, miss.first.passage.source) == ("fig", "long.md")
    assert miss.lead == pytest.approx(miss.first.why.margin)


def test_nothing_to_evaluate_is_an_error_with_its_cure(knowledge: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "q.jsonl", ["{broken"])
    with pytest.raises(RetrieverError, match=r"no usable question; q\.jsonl:1: not JSON"):
        evaluate_retrieval(knowledge, bad, HashingEncoder())
    with pytest.raises(RetrieverError, match="one question that it answers"):
        evaluate_retrieval(
            knowledge, write(tmp_path / "none.jsonl", [{"query": "x", "relevant": []}]), HashingEncoder()
        )
    with pytest.raises(RetrieverError, match="give a file of questions"):
        evaluate_retrieval(knowledge, tmp_path / "absent.jsonl", HashingEncoder())
    with pytest.raises(RetrieverError, match="no such file or folder"):
        evaluate_retrieval(tmp_path / "absent", bad, HashingEncoder())
    with pytest.raises(RetrieverError, match="no readable document"):
        evaluate_retrieval(write(tmp_path / "k.jsonl", ["{}"]), bad, HashingEncoder())


@pytest.mark.slow
def test_faq_search_in_conversation_reaches_its_mark(encoder: FrozenEncoder, shared_datasets: Path) -> None:
    """dstc9_faq, untrained: R@1, MRR@5, R@5 in float32 .761 / .857 / .972, in bf16 .756 / .854 / .972."""
    folder = shared_datasets / "dstc9_faq"
    report = evaluate_retrieval(folder / "knowledge.jsonl", folder / "queries.jsonl", encoder)
    assert (report.overall.queries, report.passages, report.problems) == (176, 2900, ())
    assert report.overall.recall_at_1 >= 0.75
    assert report.overall.mrr_at_5 >= 0.83
    assert report.overall.recall_at_5 >= 0.93
    assert {name: group.queries for name, group in report.groups.items()} == {
        "train": 124,
        "hotel": 34,
        "restaurant": 18,
    }
