"""Questions whose answers are known: a file of them, read line by line against the documents they are about.

Owns the form of a row and what is wrong with one. A row that names no document at all is a question that nothing
answers. Knows nothing about how a search is measured on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retriever.passages import Document, Line, Query, RetrieverError
from retriever.readers import Skipped


@dataclass(frozen=True, slots=True)
class Question:
    """A query and the ids of the documents that answer it: each one does by itself. Empty: nothing answers it."""

    query: Query
    relevant: frozenset[str]


def read_questions(path: Path, documents: Sequence[Document]) -> tuple[list[Question], list[Skipped]]:
    """Rows `{"history": [{"speaker", "text"}, ...], "relevant": [id]}`, the last line of history being the question, or
    `{"query", "relevant"}`; `"relevant": []` is a question that nothing answers. A row is skipped with its line when it
    is broken or no document has any of its ids; where some have, the others are named and left out.
    """
    known = {name for document in documents for name in names_of(document.source)}
    questions: list[Question] = []
    skipped: list[Skipped] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                place = f"{path.name}:{number}"
                try:
                    question = _question(line)
                    strangers = question.relevant - known
                    if strangers:
                        missing = f"no document is called {', '.join(sorted(strangers))[:100]}"
                        if strangers == question.relevant:
                            raise RetrieverError(f"{missing}; check the ids")
                        # An id that cannot be found must not count as one that was not.
                        question = Question(question.query, question.relevant & known)
                        skipped.append((place, f"{missing}; the row counts by its other ids"))
                    questions.append(question)
                except RetrieverError as error:
                    skipped.append((place, str(error)))
    except OSError as error:
        raise RetrieverError(f"{path}: {error.strerror}; give a file of questions") from None
    if not questions:
        first = "".join(f"; {place}: {reason}" for place, reason in skipped[:1])
        raise RetrieverError(f"{path}: no usable question{first}")
    return questions, skipped


def names_of(source: str) -> tuple[str, str]:
    """What a document may be called: a row of a file is also known by its own id."""
    return source, source.partition("#")[2] or source


def _question(line: bytes) -> Question:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise RetrieverError("not JSON; give one JSON object a line") from None
    if not isinstance(row, dict):
        raise RetrieverError("not a JSON object")
    relevant = row.get("relevant")
    # Rows of a file may have numbers for ids; a truth value is none.
    if not isinstance(relevant, list) or not all(type(name) in (str, int) for name in relevant):
        raise RetrieverError('"relevant" must be a list of document ids; [] where nothing answers')
    relevant = [str(name) for name in relevant]
    lines = row.get("history")
    if isinstance(row.get("query"), str):
        before = lines or []
        if not isinstance(before, list) or not all(map(_is_line, before)):
            raise RetrieverError('"history" before a "query" must be a list of {"speaker", "text"}')
        return Question(Query(row["query"], tuple(map(_line, before))), frozenset(relevant))
    if not isinstance(lines, list) or not lines or not all(map(_is_line, lines)):
        raise RetrieverError('give "query", or "history" as a list of {"speaker", "text"}')
    if lines[-1]["speaker"] != "customer":
        raise RetrieverError("the last line of history must be the customer's question")
    said = [_line(line) for line in lines]
    return Question(Query(said[-1].text, tuple(said[:-1])), frozenset(relevant))


def _line(line: dict[str, Any]) -> Line:
    return Line(line["speaker"], line["text"])


def _is_line(line: object) -> bool:
    return (
        isinstance(line, dict)
        and line.get("speaker") in ("customer", "bot", "agent")
        and isinstance(line.get("text"), str)
    )
