"""An article as safe HTML: Markdown without raw HTML, then a tight allow-list, with an anchor at every passage.

Owns the only place where text becomes HTML. What comes out can be read and can lead to another article, a https page or
a mail address; it cannot run, load or style anything.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote, unquote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from retriever.passages import Document, Passage

LONGEST_MARKDOWN = 40_000
"""Markdown's worst case grows faster than its input; longer documents are rendered a passage at a time."""

BLOCKS = {"section", "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "hr", "br"}
INLINE = {"span", "code", "em", "strong", "s", "a"}
TABLE = {"table", "thead", "tbody", "tr", "th", "td"}
PLACE = re.compile(r"p-[A-Za-z0-9_-]{1,80}")


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


def render(document: Document, passages: Sequence[Passage], exists: Callable[[str], bool]) -> Article:
    """The document as an article; `exists` says which sources a relative link may lead to."""
    ordered = sorted(passages, key=lambda p: p.start)
    if len(document.text) <= LONGEST_MARKDOWN:
        html = _render(document.text, ordered, 0)
    else:
        edges = [0, *sorted({p.start for p in ordered if p.start > 0}), len(document.text)]
        html = "".join(
            _render(document.text[a:b], [p for p in ordered if a <= p.start < b], a)
            for a, b in itertools.pairwise(edges)
        )
    clean = _clean(html, document.source, exists)
    return Article(document.title, document.language, Markup(clean), headed="<h1>" in clean[:400])


def _render(text: str, passages: Sequence[Passage], offset: int) -> str:
    if len(text) > LONGEST_MARKDOWN:
        return f"<pre>{nh3.clean_text(text)}</pre>"
    markdown = _markdown()
    tokens = markdown.parse(text)
    line_starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def line(position: int) -> int:
        return bisect_right(line_starts, position - offset) - 1

    places = [
        _Place(line(p.start), line(max(p.start, p.end - 1)) + 1, anchor(p.id))
        for p in passages
        if PLACE.fullmatch(anchor(p.id))
    ]
    return str(markdown.renderer.render(_with_places(tokens, places), markdown.options, {}))


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """The lines of a passage, `last` excluded, and the name of its anchor."""

    first: int
    last: int
    name: str


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def _with_places(tokens: list[Token], places: Sequence[_Place]) -> list[Token]:
    """Wrap the top-level blocks of each passage in a section whose anchors carry the passages' ids.

    A passage may begin inside a list or a table: then its anchor stands at the block that holds its first line, so a
    citation opens at most one block early.
    """
    waiting = sorted(places)
    result: list[Token] = []
    until = 0  # the line behind the open section, 0 when none is open
    for token in tokens:
        if token.level == 0 and token.nesting >= 0 and token.map is not None:
            first, last = token.map
            here = [place for place in waiting if place.first < last]
            waiting = waiting[len(here) :]
            if until and (here or first >= until):
                result.append(_html("</section>"))
                until = 0
            if here:
                spans = "".join(f'<span class="anchor" id="{place.name}"></span>' for place in here)
                result.append(_html(f'<section class="passage">{spans}'))
                until = max(place.last for place in here)
        result.append(token)
    if until:
        result.append(_html("</section>"))
    return result


def _html(content: str) -> Token:
    return Token("html_block", "", 0, content=content)


def _clean(html: str, source: str, exists: Callable[[str], bool]) -> str:
    def keep(tag: str, attribute: str, value: str) -> str | None:
        if attribute == "id":
            return value if PLACE.fullmatch(value) else None
        if attribute == "href":
            return _address(value, source, exists)
        return value

    return nh3.clean(
        html,
        tags=BLOCKS | INLINE | TABLE,
        attributes={"a": {"href"}, "span": {"id"}, "ol": {"start"}},
        allowed_classes={"section": {"passage"}, "span": {"anchor"}},
        attribute_filter=keep,
        url_schemes={"https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )


def _address(href: str, source: str, exists: Callable[[str], bool]) -> str | None:
    """A https or mail address as it is; a relative one as the article it means; anything else is no link."""
    try:
        parts = urlsplit(href.strip())
    except ValueError:
        return None
    if parts.scheme in ("https", "mailto"):
        return href if parts.scheme == "mailto" or (parts.hostname and "@" not in parts.netloc) else None
    if parts.scheme or parts.netloc or not parts.path or "\\" in href:
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(parts.path)))
    return address_of(target) if exists(target) else None


def address_of(source: str, passage: str = "") -> str:
    """Where the service shows its own copy of a source, at a passage when one is named."""
    place = f"#{anchor(passage)}" if passage else ""
    return f"/articles/{quote(source)}{place}"
