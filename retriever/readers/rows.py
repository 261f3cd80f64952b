"""Question-and-answer pairs from CSV and JSON Lines: one document a row.

Owns the columns and what is wrong with a row. Runs in the child that `child` limits, and reads line by line, so that a
giant line is named and not held.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from retriever.passages import Document, RetrieverError, Section
from retriever.readers.outline import one_line, visible

LONGEST_LINE: Final = 1_000_000
COLUMNS: Final = ("id", "question", "answer", "entity", "domain", "language", "audience")
MOST_CHARACTERS: Final = {"id": 200, "question": 2_000, "entity": 200, "domain": 200, "audience": 200}
MOST_PROBLEMS: Final = 1_000
"""Of one file that are named one by one."""
READ_AGAIN: Final = 20_000_000
"""Characters of a file that are read again after bad quotes: each could take as much as a row may have."""
Problem = tuple[int, str]
"""A line number and what is wrong there."""


def named(found: Iterable[Document | Problem]) -> Iterator[Document | Problem]:
    """`found` with its first `MOST_PROBLEMS` problems, and how many more there are."""
    problems, next_line = 0, 0
    for one in found:
        if isinstance(one, Document):
            yield one
            continue
        problems += 1
        if problems <= MOST_PROBLEMS:
            yield one
        elif not next_line:
            next_line = one[0]
    if next_line:
        yield next_line, f"{problems - MOST_PROBLEMS:,} more bad rows from here on; mend those before and ingest again"


def read_jsonl(path: Path, source: str) -> Iterator[Document | Problem]:
    """Rows `{"id", "question"?, "answer" or "text", "entity"?, "domain"?}`; a bad row is yielded as its problem."""
    seen: dict[str, int] = {}
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                size = len(line) + _rest_of_line(file)
                yield number, f"the line has {size:,} bytes, more than {LONGEST_LINE:,}; split the row"
                continue
            if line.strip():
                yield _json_row(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number, source, seen)


def _rest_of_line(file: io.BufferedReader) -> int:
    size = 0
    while piece := file.readline(1 << 20):
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return size


def _json_row(line: bytes, number: int, source: str, seen: dict[str, int]) -> Document | Problem:
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        return number, "not UTF-8; save the file as UTF-8"
    except RecursionError:
        return number, "nested too deep; give one flat JSON object a line"
    except ValueError as error:
        return number, f"not JSON ({error}); give one JSON object a line"
    if not isinstance(row, dict):
        return number, 'not a JSON object; give rows like {"id": ..., "question": ..., "answer": ...}'
    if "answer" not in row and "text" in row:
        row["answer"] = row["text"]
    for name in COLUMNS:
        if row.get(name) is not None and not isinstance(row[name], str | int):
            return number, f'"{name}" must be text'
    return pair({name: str(row[name]) for name in COLUMNS if row.get(name) is not None}, number, source, seen)


def read_csv(path: Path, source: str) -> Iterator[Document | Problem]:
    """Columns `question` and `answer`, and any of the others in `COLUMNS`. Comma, semicolon or tab.

    Raises RetrieverError when a column is missing, or the file is not the text it should be.
    """
    lines = _lines(path)
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    seen: dict[str, int] = {}
    # The csv module's limit is for a process, not a reader: set it to what any row may have.
    csv.field_size_limit(LONGEST_LINE)
    header: list[str] | None = None
    for number, row in _records(chain([first] if first else [], lines), delimiter):
        if isinstance(row, csv.Error):
            if header is None:
                raise RetrieverError(f"{source}:{number}: not CSV ({row}); check the quotes")
            yield number, f"not CSV ({row}); check the quotes"
        elif header is None:
            header = _header(row, source)
        elif any(field.strip() for field in row):
            if len(row) != len(header):
                yield number, f"{len(row)} columns instead of {len(header)}; quote fields that hold {delimiter!r}"
                continue
            yield pair({n: v for n, v in zip(header, row, strict=True) if n in COLUMNS}, number, source, seen)
    if header is None:
        raise RetrieverError(f"{source}: empty; give columns id, question, answer")


def _records(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Each row, or what is wrong with it, with the number of its first line.

    After a bad row comes the line after its first, whatever it took: a quote without an end takes all the rest.
    """
    again: deque[str] = deque()
    taken: list[str] = []

    def fed() -> Iterator[str]:
        size = 0
        while (line := again.popleft() if again else next(lines, None)) is not None:
            taken.append(line)
            size = size * (len(taken) > 1) + len(line)
            if size > LONGEST_LINE:
                raise csv.Error(f"a row of more than {LONGEST_LINE:,} characters")
            yield line

    number, spare = 1, READ_AGAIN
    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        try:
            row = next(reader, None)
        except csv.Error as error:
            size = sum(map(len, taken[1:]))
            if size <= spare:
                spare -= size
                again.extendleft(reversed(taken[1:]))
                del taken[1:]
                yield number, error
            else:
                yield number, csv.Error(f"{error}, with all to line {number + len(taken) - 1}")
            reader = csv.reader(fed(), delimiter=delimiter, strict=True)
        else:
            if row is None:
                return
            yield number, row
        number += len(taken)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file as text, each with its end; UTF-16, which spreadsheets also write, by its mark."""
    with path.open("rb") as file:
        wide = file.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
        raw = io.BytesIO(_narrow(file.read())) if wide else file
        number = 0
        while line := raw.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise RetrieverError(f"line {number} has more than {LONGEST_LINE:,} bytes; break it up")
            if b"\0" in line:
                raise RetrieverError(f"binary, not {path.suffix}; give it its real suffix or remove it")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise RetrieverError(f"line {number} is not UTF-8; save it as UTF-8") from None
            yield from io.StringIO(text, newline="")  # some end their lines with a carriage return alone


def _narrow(wide: bytes) -> bytes:
    try:
        return wide.decode("utf-16").encode()
    except UnicodeError:
        raise RetrieverError("not the UTF-16 that its mark says; save it as UTF-8") from None


def _header(row: list[str], source: str) -> list[str]:
    header = [name.strip().lower() for name in row]
    for name in ("question", "answer"):
        if name not in header:
            raise RetrieverError(
                f"{source}:1: no column {name!r} (found: {', '.join(header)[:200]}); give columns id, question, answer"
            )
    return header


def pair(row: Mapping[str, str], number: int, source: str, seen: dict[str, int]) -> Document | Problem:
    """A row as a document, or what is wrong with it; `seen` holds the ids of the rows before it, with their lines. The
    language is what the row says, if it does."""
    answer = visible(row.get("answer", "")).strip()
    question = one_line(row.get("question", ""))
    if not answer:
        return number, "no answer; fill it in or remove the row"
    for column, most in MOST_CHARACTERS.items():
        if (size := len(one_line(row.get(column, "")))) > most:
            return number, f"{column} of {size:,} characters, more than {most:,}; shorten it or move text to the answer"
    name = one_line(row.get("id", "")) or str(number)
    if name in seen:
        return number, f"id {name!r} was used in line {seen[name]}; give each row its own"
    seen[name] = number
    entity = one_line(row.get("entity", ""))
    return Document(
        source=f"{source}#{name}",
        title=question or entity or answer.split("\n")[0][:120],
        text=answer,
        sections=(Section((), 0, len(answer)),),
        language=one_line(row.get("language", ""))[:2].lower(),
        question=question,
        entity="" if entity == "*" else entity,
        domain=one_line(row.get("domain", "")),
        audience=one_line(row.get("audience", "")) or "public",
    )
