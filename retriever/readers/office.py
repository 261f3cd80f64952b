"""PDF, DOCX, PPTX and XLSX, parsed in a child process with limits: these parsers meet hostile files.

Owns the limits, the child, and what of an Office file is visible. Run as `python -m retriever.readers.office KIND FILE`
it prints one JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from retriever.passages import RetrieverError
from retriever.readers.markup import read_html
from retriever.readers.outline import Block, Outline, outline
from retriever.readers.pdf import MOST_CHARACTERS, read_pdf

Kind = Literal["pdf", "docx", "pptx", "xlsx"]
CPU_SECONDS: Final = 30
MEMORY: Final = 1 << 30
WALL_SECONDS: Final = 90
UNPACKED: Final = 200_000_000
"""Bytes that an Office file may unpack to."""

_Blocks = list[tuple[str, int]]


def read_office(path: Path, kind: Kind) -> tuple[Outline, list[tuple[int, dict[str, str]]]]:
    """The visible text of `path`, and apart from it the numbered rows of sheets with questions and answers.

    Raises RetrieverError with the reason when it cannot be had within the limits.
    """
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
        return read_html(answer["html"]), []
    blocks = [Block(str(text), int(level)) for text, level in answer["blocks"]]
    return outline(blocks, str(answer["title"])), [(int(number), dict(row)) for number, row in answer.get("rows", ())]


def _main(kind: str, path: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        answer = _READERS[kind](Path(path))
    except RetrieverError as error:
        answer = {"problem": str(error)}
    except MemoryError:
        answer = {"problem": f"needs more than {MEMORY >> 20} MB to read; split it"}
    except Exception as error:  # a parser may raise anything on a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        answer = {"problem": f"damaged or not a {kind.upper()} file ({reason}); save it anew"}
    sys.stdout.write(json.dumps(answer))


def _check_archive(path: Path, kind: str) -> None:
    """Office files are archives of XML: nothing is unpacked before its size and its document types are known."""
    if not zipfile.is_zipfile(path):
        raise RetrieverError(
            f"not a {kind} file (those of Office 97 and encrypted ones are not read); save it as {kind}"
        )
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > UNPACKED:
            raise RetrieverError(f"unpacks to more than {UNPACKED // 1_000_000} MB; remove the pictures")
        for item in archive.infolist():
            if item.filename.endswith((".xml", ".rels")) and b"<!DOCTYPE" in archive.read(item)[:4096]:
                raise RetrieverError("holds an XML document type, which Office never writes; save it anew")


def _pdf(path: Path) -> dict[str, object]:
    title, blocks = read_pdf(path)
    return {"title": title, "blocks": blocks}


def _docx(path: Path) -> dict[str, object]:
    import mammoth  # type: ignore[import-untyped]

    _check_archive(path, "DOCX")
    with path.open("rb") as file:
        # Pictures are not text, and inlining them would be most of the output.
        ignore = mammoth.images.img_element(lambda image: {"src": ""})
        html = mammoth.convert_to_html(
            file, convert_image=ignore, style_map="p[style-name='Title'] => h1:fresh", external_file_access=False
        ).value
    return {"html": html[:MOST_CHARACTERS]}


# ------------------------------------------------------------------------------------------------------------ slides


def _pptx(path: Path) -> dict[str, object]:
    """Each slide under its title, in reading order. Hidden slides and speaker's notes are not what an audience saw."""
    from pptx import Presentation

    _check_archive(path, "PPTX")
    deck = Presentation(str(path))
    blocks: _Blocks = []
    for slide in deck.slides:
        if slide.element.get("show") == "0":
            continue
        title = slide.shapes.title
        if title is not None and title.text_frame.text.strip():
            blocks.append((title.text_frame.text, 2 if blocks else 1))
        others = [shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id]
        for shape in sorted(others, key=lambda shape: (shape.top or 0, shape.left or 0)):
            blocks += ((text, 0) for text in _said_by(shape))
    return {"title": str(deck.core_properties.title or ""), "blocks": blocks}


def _said_by(shape: Any) -> Iterator[str]:
    for inner in getattr(shape, "shapes", ()):  # a group
        yield from _said_by(inner)
    if shape.has_text_frame:
        yield "\n".join(paragraph.text for paragraph in shape.text_frame.paragraphs)
    if getattr(shape, "has_table", False):
        yield "\n".join(" | ".join(cell.text_frame.text.strip() for cell in row.cells) for row in shape.table.rows)


# ------------------------------------------------------------------------------------------------------------ sheets


def _xlsx(path: Path) -> dict[str, object]:
    """Each sheet a table under its name, or rows where its head says question and answer. Nothing hidden is read."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    _check_archive(path, "XLSX")
    book = load_workbook(path, data_only=True)
    blocks: _Blocks = []
    pairs: list[tuple[int, dict[str, str]]] = []
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        rows = list(_visible_rows(sheet))
        header = [name.strip().lower() for name in rows[0][1]] if rows else []
        if {"question", "answer"} <= set(header):
            pairs += ((number, dict(zip(header, row, strict=True))) for number, row in rows[1:])
        elif rows:
            blocks.append((sheet.title, 2))
            blocks.append(("\n".join(" | ".join(row) for _, row in rows), 0))
    return {"title": str(book.properties.title or ""), "blocks": blocks, "rows": pairs}


def _visible_rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows with anything in them, as they are shown; formulas by their last value."""
    hidden = {letter for letter, column in sheet.column_dimensions.items() if column.hidden}
    for row in sheet.iter_rows():
        shown = [cell for cell in row if getattr(cell, "column_letter", "") not in hidden]
        texts = ["" if cell.value is None else _shown(cell.value) for cell in shown]
        if any(texts) and not sheet.row_dimensions[row[0].row].hidden:
            yield row[0].row, texts


def _shown(value: object) -> str:
    """Dates without a midnight nobody typed, whole numbers without a point."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return " ".join(text.removesuffix(" 00:00:00").split())


_READERS: Final[dict[str, Callable[[Path], dict[str, object]]]] = {
    "pdf": _pdf, "docx": _docx, "pptx": _pptx, "xlsx": _xlsx,
}  # fmt: skip

if __name__ == "__main__":
    _main(*sys.argv[1:3])
