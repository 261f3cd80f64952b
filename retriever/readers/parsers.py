"""Every format that is parsed, to what a person would see of it. Runs in the child that `child` limits.

Owns which reader a format has, and what of an Office file is visible. Run as `python -m retriever.readers.parsers
MEMORY` it reads a line of JSON for each thing, `[kind, arguments, bytes that follow, seconds]`, and answers with lines
of JSON: each part of what it found, and an end.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Literal, NamedTuple

from retriever.charsets import meant
from retriever.passages import Document, RetrieverError
from retriever.readers.markup import read_html, read_markdown
from retriever.readers.outline import Block, Outline, outline
from retriever.readers.pdf import MOST_CHARACTERS, read_pdf
from retriever.readers.rows import LONGEST_LINE, Problem, named, pair, read_csv, read_jsonl

Kind = Literal["markdown", "html", "text", "pdf", "docx", "pptx", "xlsx", "csv", "jsonl"]
UNPACKED: Final = 200_000_000
"""Bytes that an Office file may unpack to."""

_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([A-Za-z0-9_-]+)", re.IGNORECASE)
_QUOTED_FORMAT = re.compile(r'"[^"]*"|\\.')


class Parsed(NamedTuple):
    """The visible text of a file, and apart from it the numbered rows of sheets with questions and answers."""

    outline: Outline
    rows: tuple[tuple[int, dict[str, str]], ...] = ()


def _main(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    # What a parser prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin.buffer:
        kind, arguments, size, cpu = json.loads(line)
        body = sys.stdin.buffer.read(size)
        used = resource.getrusage(resource.RUSAGE_SELF)
        # Of each thing anew; a whole second more, because the limit knows no parts of one.
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + cpu) + 1, hard))
        for answer in _answer(kind, arguments, body, memory):
            answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _answer(kind: str, arguments: list[Any], body: bytes, memory: int) -> Iterator[dict[str, object]]:
    """Parts, and an end: empty, or why there is no more; `spent` when this process should serve nobody after it."""
    try:
        parts = _of_site(kind, body, *arguments) if kind in SITES else map(_plain, _read(kind, *arguments))
        yield from ({"part": part} for part in parts)
        yield {}
    except RetrieverError as error:
        yield {"problem": str(error)}
    except OSError as error:
        yield {"problem": f"cannot be read ({error.strerror}); check the file and its permissions"}
    except (MemoryError, RecursionError):
        yield {"problem": f"needs more than {memory >> 20} MB to read; split it", "spent": True}
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        if kind in SITES:  # these name what is wrong with a page: anything else is wrong with us
            yield {"bug": f"{type(error).__name__}: {reason}"}
        else:  # a parser may raise anything on a damaged file
            yield {"problem": f"damaged or not a {kind.upper()} file ({reason}); save it anew"}


def _read(kind: str, path: str, source: str) -> Iterator[Document | Problem]:
    if kind == "jsonl":
        yield from named(read_jsonl(Path(path), source))
    elif kind == "csv":
        yield from named(read_csv(Path(path), source))
    else:
        found, rows = PARSERS[kind](Path(path))
        if found.text:
            yield _article(found, source)
        seen: dict[str, int] = {}
        yield from named(pair(row, number, source, seen) for number, row in rows)


def _article(found: Outline, source: str) -> Document:
    name = PurePosixPath(source)
    url = found.facts.get("url", "")
    folders = source.split("/")[:-1]
    return Document(
        source=source,
        title=found.title or name.stem.replace("-", " ").replace("_", " ").strip().capitalize() or name.name,
        text=found.text,
        sections=found.sections,
        language=found.facts.get("language", "")[:2].lower(),
        url=url if url.startswith(("https://", "http://")) else "",
        entity=found.facts.get("entity", ""),
        domain=found.facts.get("domain", "") or (folders[-1].replace("-", " ") if folders else ""),
        audience=found.facts.get("audience", "") or "public",
    )


def _plain(found: Document | Problem) -> object:
    if not isinstance(found, Document):
        return found
    sections = [(section.heading, section.start, section.end) for section in found.sections]
    return {name: getattr(found, name) for name in found.__slots__} | {"sections": sections}


# -------------------------------------------------------------------------------------------------------------- text


def _markdown(path: Path) -> Parsed:
    return Parsed(read_markdown(decoded(path)))


def _html(path: Path) -> Parsed:
    return Parsed(read_html(decoded(path, html=True)))


def _text(path: Path) -> Parsed:
    return Parsed(outline([Block(part) for part in re.split(r"\n[^\S\n]*\n", decoded(path))]))


def decoded(file: Path, *, html: bool = False) -> str:
    """The file as text: by its byte order mark, by what an HTML page declares, else UTF-8."""
    raw = file.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif html and not raw.startswith(b"\xef\xbb\xbf") and (declared := _CHARSET.search(raw[:4096])):
        encoding = meant(declared[1].decode("ascii"))
        if encoding.startswith("utf-16"):  # whoever could read that could not read this
            encoding = "utf-8"
    else:
        encoding = "utf-8-sig"
    if encoding != "utf-16" and b"\x00" in raw:
        raise RetrieverError(f"binary, not {file.suffix}; give it its real suffix or remove it")
    try:
        # The five bytes that cp1252 lacks are controls to browsers, and nobody sees those.
        text = raw.decode(encoding, "ignore" if encoding == "cp1252" else "strict")
    except LookupError:
        raise RetrieverError(f"declares the unknown encoding {encoding!r}; save it as UTF-8") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RetrieverError(f"line {line} is not {encoding.removesuffix('-sig').upper()}; save it as UTF-8") from None
    longest = max(map(len, text.split("\n")))
    if longest > LONGEST_LINE:
        raise RetrieverError(f"one line has {longest:,} characters, more than {LONGEST_LINE:,}; break it up")
    return text


# ------------------------------------------------------------------------------------------------------------ office


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


def _pdf(path: Path) -> Parsed:
    title, blocks = read_pdf(path)
    return Parsed(outline([Block(text, level) for text, level in blocks], title))


def _docx(path: Path) -> Parsed:
    import mammoth  # type: ignore[import-untyped]

    _check_archive(path, "DOCX")
    with _without_vanished(path) as file:
        # Pictures are not text, and inlining them would be most of the output.
        ignore = mammoth.images.img_element(lambda image: {"src": ""})
        html = mammoth.convert_to_html(
            file, convert_image=ignore, style_map="p[style-name='Title'] => h1:fresh", external_file_access=False
        ).value
    return Parsed(read_html(html[:MOST_CHARACTERS]))


def _without_vanished(path: Path) -> BinaryIO:
    """The file without the runs that Word hides, themselves or by a style, which mammoth knows nothing of."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as kept:
        parts = {item: archive.read(item) for item in archive.namelist() if item.endswith((".xml", ".rels"))}
        sheets = [etree.fromstring(parts[name], parser) for name in parts if name.endswith("/styles.xml")]
        vanished = _Vanished([style for sheet in sheets for style in sheet.iterfind("{*}style")])
        for name, content in parts.items():  # no pictures
            if b"vanish" in content or vanished.styles:
                tree = etree.fromstring(content, parser)
                for run in list(tree.iter("{*}r")):
                    if vanished.takes(run):
                        for part in run.xpath("*[local-name() != 'rPr']"):
                            run.remove(part)
                content = etree.tostring(tree)
            kept.writestr(name, content)
    copy.seek(0)
    return copy


class _Vanished:
    """Which runs are hidden: what a run says itself counts, else its styles, of which one hides what the other does
    not (ECMA-376 part 1, 17.7.3: a toggle property)."""

    def __init__(self, styles: Sequence[Any]) -> None:
        said = {_value(style, "styleId"): style for style in styles}
        self.styles = {name for name in said if self._hides(name, said)}
        default = [
            style for style in styles if _value(style, "type") == "paragraph" and _value(style, "default") == "1"
        ]
        self._default = _value(default[0], "styleId") if default else ""

    def _hides(self, name: str, said: Mapping[str, Any]) -> bool:
        seen: set[str] = set()
        while name in said and name not in seen:
            seen.add(name)
            own = _vanish(said[name])
            if own is not None:
                return own
            name = _value(said[name].find("{*}basedOn"), "val")
        return False

    def takes(self, run: Any) -> bool:
        own = _vanish(run)
        if own is not None or not self.styles:
            return bool(own)
        paragraph = next(run.iterancestors("{*}p"), run)
        style = _value(paragraph.find("{*}pPr/{*}pStyle"), "val") or self._default
        return (_value(run.find("{*}rPr/{*}rStyle"), "val") in self.styles) != (style in self.styles)


def _vanish(element: Any) -> bool | None:
    """Whether a run or a style says that it is hidden; None where it says nothing."""
    mark = element.find("{*}rPr/{*}vanish")
    return None if mark is None else not {"0", "false", "off"} & set(mark.values())


def _value(element: Any, name: str) -> str:
    """An attribute in whatever namespace, of an element that may be missing."""
    if element is None:
        return ""
    return next((value for key, value in element.items() if key.rpartition("}")[2] == name), "")


# ------------------------------------------------------------------------------------------------------------ slides


def _pptx(path: Path) -> Parsed:
    """Each slide under its title, in reading order. Hidden slides and speaker's notes are not what an audience saw."""
    from pptx import Presentation

    _check_archive(path, "PPTX")
    deck = Presentation(str(path))
    blocks: list[Block] = []
    for slide in deck.slides:
        if slide.element.get("show") == "0":
            continue
        title = slide.shapes.title
        if title is not None and _is_shown(title) and title.text_frame.text.strip():
            blocks.append(Block(title.text_frame.text, 2 if blocks else 1))
        others = [shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id]
        for shape in sorted(others, key=lambda shape: (shape.top or 0, shape.left or 0)):
            blocks += map(Block, _said_by(shape))
    return Parsed(outline(blocks, str(deck.core_properties.title or "")))


def _is_shown(shape: Any) -> bool:
    return shape._element._nvXxPr.cNvPr.get("hidden") not in ("1", "true")


def _said_by(shape: Any) -> Iterator[str]:
    if not _is_shown(shape):
        return
    for inner in getattr(shape, "shapes", ()):  # a group
        yield from _said_by(inner)
    if shape.has_text_frame:
        yield "\n".join(paragraph.text for paragraph in shape.text_frame.paragraphs)
    if getattr(shape, "has_table", False):
        yield "\n".join(" | ".join(cell.text_frame.text.strip() for cell in row.cells) for row in shape.table.rows)


# ------------------------------------------------------------------------------------------------------------ sheets


def _xlsx(path: Path) -> Parsed:
    """Each sheet a table under its name, or rows where its head says question and answer. Nothing hidden is read."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    _check_archive(path, "XLSX")
    book = load_workbook(path, data_only=True)
    blocks: list[Block] = []
    pairs: list[tuple[int, dict[str, str]]] = []
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        rows = list(_visible_rows(sheet))
        header = [name.strip().lower() for name in rows[0][1]] if rows else []
        if {"question", "answer"} <= set(header):
            pairs += ((number, dict(zip(header, row, strict=True))) for number, row in rows[1:])
        elif rows:
            blocks += (Block(sheet.title, 2), Block("\n".join(" | ".join(row) for _, row in rows)))
    return Parsed(outline(blocks, str(book.properties.title or "")), tuple(pairs))


def _visible_rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows with anything in them, as they are shown; formulas by their last value."""
    hidden = [(column.min, column.max) for column in sheet.column_dimensions.values() if column.hidden]
    rows: dict[int, dict[int, str]] = {}
    # Only cells that are in the file: iter_rows makes all those that could be between them.
    for (number, column), cell in sheet._cells.items():
        if cell.value is not None and (text := _shown(cell.value, cell.number_format)):
            rows.setdefault(number, {})[column] = text
    used = {column for row in rows.values() for column in row}
    columns = sorted(column for column in used if not any(low <= column <= high for low, high in hidden))
    for number, row in sorted(rows.items()):
        texts = [row.get(column, "") for column in columns]
        if any(texts) and not (number in sheet.row_dimensions and sheet.row_dimensions[number].hidden):
            yield number, texts


def _shown(value: object, number_format: str) -> str:
    """Dates without a midnight nobody typed, whole numbers without a point, percentages as such."""
    if isinstance(value, int | float) and not isinstance(value, bool) and "%" in _QUOTED_FORMAT.sub("", number_format):
        return f"{_shown(round(value * 100.0, 8), '')}%"
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return " ".join(text.removesuffix(" 00:00:00").split())


# ------------------------------------------------------------------------------------------------------------- sites


def _of_site(kind: str, body: bytes, *arguments: Any) -> Iterator[object]:
    from retriever import links  # which an ingest of files need not load

    asked: dict[str, Callable[..., object]] = {
        "links": links.said_by, "locations": links.locations, "manners": links.manners, "allowed": links.allowed,
    }  # fmt: skip
    yield asked[kind](body, *arguments)


PARSERS: Final[dict[str, Callable[[Path], Parsed]]] = {
    "markdown": _markdown, "html": _html, "text": _text, "pdf": _pdf, "docx": _docx, "pptx": _pptx, "xlsx": _xlsx,
}  # fmt: skip
SITES: Final = frozenset(("links", "locations", "manners", "allowed"))
"""What is asked about what a site says of itself."""

if __name__ == "__main__":
    _main(int(sys.argv[1]))
