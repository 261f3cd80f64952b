"""How an evaluation of retrieval reads: lines for a terminal, and a Markdown report with all of the worst questions.

Owns wording and layout only. Knows nothing about how anything in it was measured.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.cli.output import why_found

if TYPE_CHECKING:
    from retriever.evaluate import Miss, RetrievalReport
    from retriever.figures import Figures

SHOWN = 10
_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


def lines_of(report: RetrievalReport) -> list[str]:
    lines = [
        f"R@1 {report.overall.recall_at_1:.4f} (95 %: {_interval(report.overall)}), R@5 "
        f"{report.overall.recall_at_5:.4f}, MRR@5 {report.overall.mrr_at_5:.4f}, nDCG@5 "
        f"{report.overall.ndcg_at_5:.4f}",
        _size(report),
        *_unanswerable(report),
        "",
        "questions     R@1  95 %              R@5   MRR@5  group",
    ]
    for name, group in list(report.groups.items())[:SHOWN]:
        lines.append(
            f"{group.queries:9,}  {group.recall_at_1:.4f}  {_interval(group)}  {group.recall_at_5:.4f}  "
            f"{group.mrr_at_5:.4f}  {_cut(name, 60)}"
        )
    if len(report.groups) > SHOWN:
        lines.append(f"and {len(report.groups) - SHOWN} smaller groups: --json and --report have them")
    if report.worst:
        lines += ["", _heading(report, SHOWN), "rank    lead  question"]
        for miss in report.worst[:SHOWN]:
            lines += [
                f"{miss.rank or '-':>4}  {_lead(miss):>6}  {_cut(miss.query, 100)}",
                f"{'':14}found {_found(miss)}",
                f"{'':20}{_cut(why_found(miss.first), 170)}",
                f"{'':14}right {_right(miss)}",
            ]
    return lines


def markdown_of(report: RetrievalReport, knowledge: str, queries: str) -> str:
    """`knowledge` and `queries` are what was measured, as the person named them."""
    lines = [f"# Retrieval: {_cell(queries)} on {_cell(knowledge)}", "", f"{_size(report)}."]
    lines += [f"{line}." for line in _unanswerable(report)]
    lines += ["", *_table("group", "questions", "R@1", "95 %", "R@5", "MRR@5", "nDCG@5")]
    for name, group in (("**all**", report.overall), *((_cell(n), g) for n, g in report.groups.items())):
        shares = (f"{share:.4f}" for share in (group.recall_at_5, group.mrr_at_5, group.ndcg_at_5))
        lines.append(_row(name, f"{group.queries:,}", f"{group.recall_at_1:.4f}", _interval(group), *shares))
    if report.worst:
        lines += ["", f"## {_heading(report, len(report.worst))}", ""]
        lines += _table("question", "found first", "right", "rank", "lead", "why the first was found")
        for miss in report.worst:
            texts = map(_cell, (miss.query, _found(miss), _right(miss)))
            lines.append(_row(*texts, str(miss.rank or "-"), _lead(miss), _cell(why_found(miss.first))))
    if report.problems:
        lines += ["", "## Skipped", "", *(f"- {_cell(problem)}" for problem in report.problems)]
    return "\n".join(lines) + "\n"


def _size(report: RetrievalReport) -> str:
    return (
        f"{report.overall.queries:,} questions, {report.passages:,} passages; p50 {report.p50_ms:.1f} ms, p95 "
        f"{report.p95_ms:.1f} ms, p99 {report.p99_ms:.1f} ms"
    )


def _unanswerable(report: RetrievalReport) -> list[str]:
    if report.auroc is None or report.unanswerable_rejected_at_5 is None:
        return []
    return [
        f"{report.unanswerable:,} questions that nothing answers: AUROC {report.auroc:.4f}, "
        f"{report.unanswerable_rejected_at_5:.1%} turned away where 5 % of the others are lost"
    ]


def _heading(report: RetrievalReport, most: int) -> str:
    shown = f"; the worst {most}" if report.missed > most else ""
    return f"Right document not first: {report.missed} of {report.overall.queries:,} questions{shown}"


def _interval(figures: Figures) -> str:
    low, high = figures.recall_at_1_interval
    return f"{low:.3f} to {high:.3f}"


def _found(miss: Miss) -> str:
    passage = miss.first.passage
    return f"{passage.source}: {_cut(passage.title, 80)}"


def _right(miss: Miss) -> str:
    more = f" and {len(miss.relevant) - 1} more" if len(miss.relevant) > 1 else ""
    return f"{miss.relevant[0]}{more}"


def _lead(miss: Miss) -> str:
    return "-" if miss.lead is None else f"{miss.lead:.3f}"


def _cell(text: str) -> str:
    """Text of somebody else, which must not become markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(*names: str) -> list[str]:
    return [_row(*names), f"|{'---|' * len(names)}"]
