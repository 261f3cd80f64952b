"""`evaluate retrieval`: one object with the keys that other programs rely on, lines for a person, a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bot.cli.output import why_found
from bot.readers import TrainedQuestions
from retriever.answer_score import AnswerScore
from retriever.evaluate import evaluate_documents
from retriever.passages import Document, Hit, Passage, Query, Section, Why
from retriever.questions import Question
from tests.bot.cli.conftest import Run
from tests.retriever.hashing import HashingEncoder

WORDS = ("apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "ivy", "juniper", "kiwi", "lemon")
KEPT = {"recall@1", "recall@5", "mrr@5", "ndcg@5", "p50_ms", "queries", "passages", "passages_per_second"}
NEW = {
    "p95_ms", "p99_ms", "recall@1_interval", "auroc", "unanswerable_rejected_at_5", "unanswerable", "groups", "worst",
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Twelve documents; a right label for one question, wrong ones for eleven, two that nothing answers, a bad row."""
    monkeypatch.setattr("bot.cli.assembly.open_encoder", lambda settings: HashingEncoder())
    rows = [{"id": f"{w}|<b>", "answer": f"{w} {w}", "domain": f"{w[0]}|*d*"} for w in WORDS]
    asked: list[object] = [{"query": w, "relevant": [f"{WORDS[i - 1]}|<b>"]} for i, w in enumerate(WORDS)]
    asked[0] = {"query": "apple", "relevant": ["apple|<b>"]}
    asked += [{"query": "zebra", "relevant": []}, {"query": "苹果" * 80, "relevant": []}, {"query": "x"}]
    asked[1] = {"query": "banana " + "*|<script>" + "苹果" * 80, "relevant": ["apple|<b>"]}
    for name, values in (("knowledge", rows), ("queries", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(value)}\n" for value in values), "utf-8")
    return "--knowledge", str(tmp_path / "knowledge.jsonl"), "--queries", str(tmp_path / "queries.jsonl")


def test_json_is_one_object_with_all_keys(frontdesk: Run, files: tuple[str, ...]) -> None:
    ran = frontdesk("evaluate", "retrieval", *files, "--json")
    assert ran.status == 0, ran.err
    figures = json.loads(ran.out)
    assert figures.keys() == KEPT | NEW
    assert (figures["queries"], figures["unanswerable"]) == (12, 2)
    assert figures["recall@1"] == pytest.approx(1 / 12)
    assert len(figures["worst"]) == 11
    assert figures["groups"].keys() == {f"{w[0]}|*d*" for w in WORDS[:-1]}
    assert ran.err.splitlines() == [
        'skipped queries.jsonl:15: "relevant" must be a list of document ids; [] where nothing answers'
    ]


def test_a_person_reads_figures_groups_and_ten_misses(frontdesk: Run, files: tuple[str, ...]) -> None:
    out = frontdesk("evaluate", "retrieval", *files).out
    assert out.startswith("R@1 0.0833 (95 %: 0.000 to 0.250), R@5")
    assert "12 questions, 12 passages; p50 " in out
    assert "2 questions that nothing answers: AUROC " in out
    assert "and 1 smaller groups" in out
    assert "Right document not first: 11 of 12 questions; the worst 10" in out
    assert out.count(" found ") == out.count(" right ") == out.count(" score ") == 10
    assert max(map(len, out.splitlines())) < 200


def test_why_a_passage_was_found_is_one_line_with_all_that_counted() -> None:
    passage = Passage("id", "a.md", "A", (), "text", 0, 4)
    why = Why(0.64, 0.5, 0.25, codes=("sr17",), moved=3, points=(("meaning", 0.64), ("codes", 0.4), ("window", -0.04)))
    assert why_found(Hit(passage, 1.0, 0.83, why)) == (
        "answers 0.83, score 1.00 = meaning 0.64 + codes 0.40 - window 0.04; meaning 0.64, words 0.50, subject 0.25; "
        "holds sr17; moved up 3 by the reranker"
    )
    judged = why_found(Hit(passage, 1.0, 0.4, replace(why, anything=0.5)))
    assert judged.startswith("anything answers 0.50, this 0.40, score 1.00 = meaning 0.64 + ")
    # A record of last year does not say what the score was made of.
    assert why_found(Hit(passage, 1.0, 0.83, Why(0.64, 0.5, 0.25))) == (
        "answers 0.83, score 1.00; meaning 0.64, words 0.50, subject 0.25"
    )


def test_nothing_missed_and_nothing_foreign_says_nothing_of_them(
    frontdesk: Run, files: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "queries.jsonl").write_text(json.dumps({"query": "fig", "relevant": ["fig|<b>"]}), "utf-8")
    out = frontdesk("evaluate", "retrieval", *files).out
    assert "R@1 1.0000 (95 %: 1.000 to 1.000)" in out
    assert "not first" not in out
    assert "AUROC" not in out
    figures = json.loads(frontdesk("evaluate", "retrieval", *files, "--json").out)
    assert figures["auroc"] is figures["unanswerable_rejected_at_5"] is None
    assert (figures["unanswerable"], figures["worst"]) == (0, [])


def test_the_report_has_every_group_and_all_of_the_worst(
    frontdesk: Run, files: tuple[str, ...], tmp_path: Path
) -> None:
    ran = frontdesk("evaluate", "retrieval", *files, "--report", tmp_path / "report.md", "--json")
    assert ran.status == 0, ran.err
    text = (tmp_path / "report.md").read_text("utf-8")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert [len(table) for table in tables] == [2 + 1 + 11, 2 + 11]
    for table in tables:
        # An escaped bar is text; any other makes a cell.
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "<script>" not in text.replace("\\<", "")
    assert "## Skipped" in text
    assert "queries.jsonl:15" in text


def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    frontdesk: Run, files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.cli.assembly.open_encoder", lambda settings: pytest.fail("measured for nothing"))
    ran = frontdesk("evaluate", "retrieval", *files, "--report", tmp_path / "absent" / "report.md")
    assert (ran.status, ran.out) == (2, "")
    assert "absent/report.md: no such folder; make it" in ran.err
    assert frontdesk("evaluate", "retrieval", *files, "--report", tmp_path).status == 2


def test_a_version_that_is_not_there_is_refused_by_name(frontdesk: Run, files: tuple[str, ...]) -> None:
    ran = frontdesk("evaluate", "retrieval", *files, "--model", "20260101-000000-00000000")
    assert ran.status == 2 and "20260101-000000-00000000" in ran.err


def test_questions_are_read_by_the_version_and_passages_by_the_frozen_encoder() -> None:
    """A version that turns every question into one about cherries finds those, whatever is asked."""

    class Cherries:
        def read(self, batch: list[tuple[str, tuple[object, ...]]]) -> SimpleNamespace:
            last, window = HashingEncoder().encode_queries([Query("cherry")] * len(batch))
            doubt = np.array([0.9 if "zebra" in text else 0.2 for text, _ in batch])
            return SimpleNamespace(last=last, window=window, expected=last, out_of_scope=doubt)

    documents = [Document(w, w, f"{w} {w}", (Section((), 0, 2 * len(w) + 1),)) for w in WORDS]
    asked = [Question(Query("zebra"), frozenset({"cherry"}))]
    assert evaluate_documents(documents, asked, HashingEncoder()).ranks != (1,)
    trained = TrainedQuestions(HashingEncoder(), Cherries())  # type: ignore[arg-type]
    assert evaluate_documents(documents, asked, trained).ranks == (1,)
    asked = [Question(Query("a cherry"), frozenset({"cherry"})), Question(Query("zebra"), frozenset())]
    assert evaluate_documents(documents, asked, trained, known=trained.known).auroc == 1.0
    lying = evaluate_documents(documents, asked, trained, known=lambda query: 1 - trained.known(query))
    assert lying.auroc == 0.0, "it is the version that tells them apart, not the passages"

    # A score that was fitted for the version speaks for it: this one trusts words alone, and zebras hold none.
    fitted = AnswerScore((0.0, 0.0, 9.0, 0.0, 0.0, 0.0), -4.0)
    doubting = lambda query: 1 - trained.known(query)  # noqa: E731
    assert evaluate_documents(documents, asked, trained, known=doubting, score=fitted).auroc == 1.0
