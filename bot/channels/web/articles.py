"""An article as safe HTML: the plain text of a document set out again, with an anchor at every passage.

Owns the only place where text becomes HTML. Every character is escaped, and an allow-list passes over the result a
second time: what comes out can be read; it cannot run, load, style or link to anything. Knows how the readers lay out
text (headings between sections, a blank line between blocks, "- " and "1. " for items, " | " between cells).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import nh3
from markupsafe import Markup

from retriever.passages import Document, Passage, Section

HEADINGS = ("h2", "h3", "h4", "h5", "h6")
TAGS = {"section", "span", "h1", *HEADINGS, "p", "br", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"}
PLACE = re.compile(r"p-[A-Za-z0-9_-]{1,80}")
BLANK = re.compile(r"\n[^\S\n]*\n\s*")
ITEM = re.compile(r"(?:-|(\d{1,9})\.) ")
CELLS = " | "


@dataclass(frozen=True, slots=True)
class Article:
    """`html` is safe to show as it is; `headed` says that it opens with its own main heading."""

    title: str
    language: str
    html: Markup
    headed: bool


def anchor(passage: str) -> str:
    """The fragment at which a passage begins on its article's page."""
    return f"p-{passage}"


def render(document: Document, passages: Sequence[Passage]) -> Article:
    """The document as an article. Every passage is a section of the page that ends where the passage ends."""
    sections = document.sections or (Section((), 0, len(document.text)),)
    pieces: list[str] = []
    end = 0
    for section in sections:
        pieces += _headings(document.text[end : section.start], section.heading, first=end == 0)
        within = [p for p in passages if section.start <= p.start < section.end]
        pieces += _section(document.text, section, sorted(within, key=lambda p: p.start))
        end = section.end
    pieces += _blocks(document.text[end:])
    html = nh3.clean(
        "".join(pieces).replace("</ul>\n<ul>", ""),  # a list with air between its items is still one list
        tags=TAGS,
        attributes={"span": {"id"}, "ol": {"start"}},
        allowed_classes={"section": {"passage"}, "span": {"anchor"}},
        attribute_filter=lambda tag, name, value: value if name != "id" or PLACE.fullmatch(value) else None,
        link_rel=None,
    )
    return Article(document.title, document.language, Markup(html), headed=html.startswith("<h1>"))


def _headings(text: str, path: tuple[str, ...], *, first: bool) -> Iterator[str]:
    """What stands between two sections: headings that open the next one, and the title before all of them."""
    for block in _split(text):
        depth = path.index(block) if block in path else -1
        tag = HEADINGS[min(depth, len(HEADINGS) - 1)] if depth >= 0 else "h1" if first else "p"
        first = False
        yield f"<{tag}>{escape(block)}</{tag}>\n"


def _section(text: str, section: Section, passages: Sequence[Passage]) -> Iterator[str]:
    """The blocks of a section, cut where its passages begin and end."""
    position = section.start
    for start, same in groupby(passages, key=lambda p: p.start):
        here = list(same)
        if start > position:
            yield from _blocks(text[position:start])
        following = next((p.start for p in passages if p.start > start), section.end)
        position = min(max(p.end for p in here), following)
        names = (anchor(p.id) for p in here)
        spans = "".join(f'<span class="anchor" id="{name}"></span>' for name in names if PLACE.fullmatch(name))
        body = "".join(_blocks(text[start:position], section.heading))
        yield f'<section class="passage">{spans}{body}</section>\n'
    yield from _blocks(text[position : section.end])


def _blocks(text: str, path: tuple[str, ...] = ()) -> Iterator[str]:
    for block in _split(text):
        if path and block == path[-1]:  # a heading with nothing under it is a section by itself
            tag = HEADINGS[min(len(path), len(HEADINGS)) - 1]
            yield f"<{tag}>{escape(block)}</{tag}>\n"
            continue
        for kind, lines in groupby(block.split("\n"), key=_kind):
            yield _SHAPES[kind](list(lines))


def _split(text: str) -> list[str]:
    return [block for block in BLANK.split(text.strip()) if block]


def _kind(line: str) -> str:
    item = ITEM.match(line)
    if item:
        return "ol" if item[1] else "ul"
    return "table" if CELLS in line else "p"


def _paragraph(lines: Sequence[str]) -> str:
    return f"<p>{'<br>'.join(escape(line) for line in lines)}</p>\n"


def _bullets(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line[2:])}</li>' for line in lines)}</ul>\n"


def _numbers(lines: Sequence[str]) -> str:
    parts = [line.partition(". ") for line in lines]
    return f'<ol start="{int(parts[0][0])}">{"".join(f"<li>{escape(rest)}</li>" for _, _, rest in parts)}</ol>\n'


def _table(lines: Sequence[str]) -> str:
    """Rows of cells; the first names the columns. A single row is no table."""
    if len(lines) == 1:
        return _paragraph(lines)
    first, *rest = ([escape(cell) for cell in line.split(CELLS)] for line in lines)
    head = "".join(f"<th>{cell}</th>" for cell in first)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rest)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n"


_SHAPES = {"p": _paragraph, "ul": _bullets, "ol": _numbers, "table": _table}
