"""PDF and DOCX, parsed in a child process with limits: these parsers meet hostile files.

Owns the limits and the child. Run as `python -m retriever.readers.office pdf|docx FILE`, it prints one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from retriever.passages import RetrieverError
from retriever.readers.markup import read_html
from retriever.readers.outline import Block, Outline, outline

_DIGITS = re.compile(r"\d+|\s+")
CPU_SECONDS: Final = 30
MEMORY: Final = 1 << 30
WALL_SECONDS: Final = 90
MOST_CHARACTERS: Final = 5_000_000
MOST_PAGES: Final = 3_000
UNPACKED: Final = 200_000_000
"""Bytes that a DOCX may unpack to."""


def read_office(path: Path, kind: Literal["pdf", "docx"]) -> Outline:
    """The visible text of `path`. Raises RetrieverError with the reason when it cannot be had within the limits."""
    here = Path(__file__).resolve().parents[2]
    try:
        child = subprocess.run(
            [sys.executable, "-m", "retriever.readers.office", kind, str(path)],
            cwd=here, stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_SECONDS, check=False,
            env={"PATH": os.defpath, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RetrieverError(f"took more than {WALL_SECONDS} s to read; save it anew or as text") from None
    try:
        answer = json.loads(child.stdout)
    except ValueError:
        raise RetrieverError(
            f"too large or damaged: its parser needed more than {CPU_SECONDS} s or {MEMORY >> 20} MB; split it"
        ) from None
    if problem := answer.get("problem"):
        raise RetrieverError(str(problem))
    if kind == "docx":
        return read_html(answer["html"])
    blocks = [Block(str(text), int(level)) for text, level in answer["blocks"]]
    return outline(blocks, str(answer["title"]))


def _main(kind: str, path: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        answer: dict[str, object] = _docx(Path(path)) if kind == "docx" else _pdf(Path(path))
    except RetrieverError as error:
        answer = {"problem": str(error)}
    except MemoryError:
        answer = {"problem": f"needs more than {MEMORY >> 20} MB to read; split it"}
    except Exception as error:  # a parser may raise anything on a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        answer = {"problem": f"damaged or not a {kind.upper()} file ({reason}); save it anew"}
    sys.stdout.write(json.dumps(answer))


def _docx(path: Path) -> dict[str, object]:
    import mammoth  # type: ignore[import-untyped]

    if not zipfile.is_zipfile(path):
        raise RetrieverError("not a DOCX file (Word 97 .doc and encrypted files are not read); save it as DOCX")
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > UNPACKED:
            raise RetrieverError(f"unpacks to more than {UNPACKED // 1_000_000} MB; remove the pictures")
        for item in archive.infolist():
            if item.filename.endswith((".xml", ".rels")) and b"<!DOCTYPE" in archive.read(item)[:4096]:
                raise RetrieverError("holds an XML document type, which Word never writes; save it anew with Word")
    with path.open("rb") as file:
        # Pictures are not text, and inlining them would be most of the output.
        ignore = mammoth.images.img_element(lambda image: {"src": ""})
        html = mammoth.convert_to_html(
            file, convert_image=ignore, style_map="p[style-name='Title'] => h1:fresh", external_file_access=False
        ).value
    return {"html": html[:MOST_CHARACTERS]}


@dataclass(slots=True)
class _Line:
    text: str
    size: float
    gap: float
    height: float


def _pdf(path: Path) -> dict[str, object]:
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
    return {"title": str(title), "blocks": list(_blocks(lines))}


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


if __name__ == "__main__":
    _main(*sys.argv[1:3])
