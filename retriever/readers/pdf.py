"""PDF to headings and paragraphs, by where its words stand and how large they are.

Owns the reading of a page. Runs in the child that `child` limits. Knows nothing about files but their pages.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from retriever.passages import RetrieverError

MOST_CHARACTERS: Final = 5_000_000
MOST_PAGES: Final = 3_000

_DIGITS = re.compile(r"\d+|\s+")


@dataclass(slots=True)
class _Line:
    text: str
    size: float
    gap: float
    height: float


def read_pdf(path: Path) -> tuple[str, list[tuple[str, int]]]:
    """Its title, and its blocks with their levels. Raises RetrieverError with the reason."""
    from pypdf import PdfReader

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise RetrieverError("protected by a password; save it without one")
    if len(reader.pages) > MOST_PAGES:
        raise RetrieverError(f"has {len(reader.pages)} pages, more than {MOST_PAGES}; split it")
    pages: list[list[_Line]] = []
    characters = 0
    for page in reader.pages:
        pages.append(_page_lines(page))
        characters += sum(len(line.text) for line in pages[-1])
        if characters > MOST_CHARACTERS:
            raise RetrieverError(f"holds more than {MOST_CHARACTERS:,} characters; split it")
    lines = list(_without_running_lines(pages))
    if not lines:
        raise RetrieverError("no text in it (a scan?); run text recognition first")
    title = reader.metadata.title if reader.metadata and reader.metadata.title else ""
    return str(title), list(_blocks(lines))


def _page_lines(page: Any) -> list[_Line]:
    """The lines of a page in reading order, each with its font size and its distance from the line above."""
    lines: list[_Line] = []
    bottom: float | None = None
    right = 0.0

    def visit(text: str, matrix: Sequence[float], place: Sequence[float], font: object, size: float) -> None:
        nonlocal bottom, right
        scale = abs(place[3] * matrix[3]) or 1.0
        x, y = place[4] * matrix[0] + matrix[4], place[5] * matrix[3] + matrix[5]
        for number, piece in enumerate(text.split("\n")):
            if not piece.strip():
                continue
            same = bottom is not None and lines and abs(y - bottom) < 0.3 * size * scale and number == 0
            if same:
                # A gap that no word space explains is the next column of a table.
                lines[-1].text += (" | " if x - right > 1.5 * size * scale else "") + piece
            else:
                lines.append(_Line(piece, size * scale, 0.0 if bottom is None else bottom - y, y))
            bottom = y
            right = x + 0.45 * size * scale * len(piece)

    page.extract_text(visitor_text=visit)
    return lines


def _without_running_lines(pages: Sequence[Sequence[_Line]]) -> Iterator[_Line]:
    """All lines but running headers and footers: the top or bottom line, where most pages repeat it, numbers aside."""
    edges: Counter[str] = Counter()
    for page in pages:
        edges.update({_key(line) for line in page if _at_edge(line, page)})
    for page in pages:
        for line in page:
            repeated = len(pages) > 1 and edges[_key(line)] > len(pages) / 2
            if not (repeated and _at_edge(line, page)):
                yield line


def _key(line: _Line) -> str:
    return _DIGITS.sub("", line.text)


def _at_edge(line: _Line, page: Sequence[_Line]) -> bool:
    heights = [other.height for other in page]
    return min(max(heights) - line.height, line.height - min(heights)) < line.size


def _blocks(lines: Sequence[_Line]) -> Iterator[tuple[str, int]]:
    """Headings are lines set clearly larger than the body; wrapped lines are joined into paragraphs."""
    body = statistics.median(line.size for line in lines for _ in range(max(1, len(line.text) // 10)))
    larger = sorted({round(line.size, 1) for line in lines if line.size > 1.12 * body}, reverse=True)
    full = max(len(line.text) for line in lines)
    paragraph = ""
    closed, short = True, False
    for line in lines:
        text = " ".join(line.text.split())
        heading = line.size > 1.12 * body and len(text) < 150
        apart = closed or heading or not 0 <= line.gap < 1.7 * body
        if apart and paragraph:
            yield paragraph, 0
            paragraph = ""
        if heading:
            yield text, min(6, 1 + larger.index(round(line.size, 1)))
            closed = True
            continue
        if paragraph.endswith("-") and text[:1].islower():
            paragraph = paragraph[:-1] + text
        elif paragraph:
            # A short line ended on purpose: a table row, a list item, the end of a paragraph.
            paragraph += ("\n" if short else " ") + text
        else:
            paragraph = text
        short = len(text) < 0.7 * full
        closed = False
    if paragraph:
        yield paragraph, 0
