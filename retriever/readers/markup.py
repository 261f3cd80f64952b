"""HTML and Markdown to the text a person would see.

Owns which elements are hidden or page furniture. Markdown goes through HTML, so that what hides in it (comments,
hidden elements) is judged by the same rules. Knows nothing about files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from retriever.readers.outline import Block, Outline, outline

_UNSEEN: Final = frozenset(
    ("script", "style", "template", "noscript", "iframe", "object", "embed", "svg", "math", "canvas", "audio", "video",
     "picture", "map", "head", "select", "option", "datalist", "button", "input", "textarea", "progress", "meter",
     "dialog")
)  # fmt: skip
_FURNITURE: Final = frozenset(("nav", "footer", "header", "aside", "form"))
_GROUPS: Final = frozenset(("ul", "ol", "table", "dl"))
_HEADINGS: Final = {f"h{n}": n for n in range(1, 7)}
_INLINE: Final = frozenset(
    ("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
     "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt",
     "u", "var", "wbr", "ruby", "rt", "rp")
)  # fmt: skip
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|font-size\s*:\s*0(?![.\d]*[1-9])|"
    r"opacity\s*:\s*0(?![.\d]*[1-9])|clip\s*:\s*rect\(\s*0|(?:left|top|text-indent)\s*:\s*-\d{3,}",
    re.IGNORECASE,
)
_RULE = re.compile(r"([^{}]{1,500})\{([^{}]{0,2000})\}")
_SIMPLE_SELECTOR = re.compile(r"[.#][\w-]+")
_FRONT_MATTER = re.compile(r"\A---[^\S\n]*\n(.*?)\n(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)", re.DOTALL)
_FACT = re.compile(r"^([A-Za-z][\w-]{0,40})[^\S\n]*:[^\S\n]+(.+)$", re.MULTILINE)
_SPACE = re.compile(r"\s+")
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")


def read_markdown(text: str) -> Outline:
    """CommonMark with tables; `key: value` front matter gives title, url, entity, domain and audience."""
    from markdown_it import MarkdownIt

    facts: dict[str, str] = {}
    text = text.replace("\r\n", "\n")
    front = _FRONT_MATTER.match(text)
    if front and len(front[1]) < 10_000:
        facts = {key.lower(): value.strip().strip("'\"") for key, value in _FACT.findall(front[1])}
        text = text[front.end() :]
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return _outline(rendered, facts)


def read_html(text: str) -> Outline:
    """The main part of a page: `<main>` or the only `<article>` where there is one, else the body without its menus."""
    return _outline(text, {})


def _outline(markup: str, facts: dict[str, str]) -> Outline:
    from lxml import etree, html

    markup = _DECLARATION.sub("", markup)
    if not markup.strip():
        return outline(())
    try:
        page = html.document_fromstring(markup)
    except (etree.ParserError, ValueError):  # nothing but comments, or nothing lxml calls a document
        return outline(())
    title = (page.findtext(".//title") or "").strip()
    main, whole = _main(page)
    return outline(_blocks(main, _hiding_selectors(page), furniture=whole), title, facts)


def _main(page: Any) -> tuple[Any, bool]:
    """The element to read, and whether it is the whole page with its furniture."""
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = page.findall(path)
        if len(found) == 1:
            return found[0], False
    body = page.find("body")
    return (page if body is None else body), True


def _hiding_selectors(page: Any) -> frozenset[str]:
    """Classes and ids that the page's own style sheets hide."""
    sheets = "\n".join((style.text or "")[:100_000] for style in page.iter("style"))
    hidden: set[str] = set()
    for selectors, rules in _RULE.findall(sheets):
        if _HIDING_STYLE.search(rules):
            hidden.update(s for s in map(str.strip, selectors.split(",")) if _SIMPLE_SELECTOR.fullmatch(s))
    return frozenset(hidden)


def _is_hidden(element: Any, selectors: frozenset[str]) -> bool:
    get = element.get
    if get("hidden") is not None or get("aria-hidden") == "true" or _HIDING_STYLE.search(get("style") or ""):
        return True
    if not selectors:
        return False
    return f"#{get('id')}" in selectors or any(f".{name}" in selectors for name in (get("class") or "").split())


def _blocks(root: Any, selectors: frozenset[str], *, furniture: bool) -> Iterator[Block]:
    """One block for each stretch of text that a browser would set apart. Walks without recursion: depth is input."""
    from lxml import etree

    state = _Walk()
    walk = etree.iterwalk(root, events=("start", "end", "comment", "pi"))
    skipped: Any = None
    for event, element in walk:
        if event in ("comment", "pi"):
            state.add(element.tail)
        elif event == "start":
            unseen = element.tag in _UNSEEN or (furniture and element.tag in _FURNITURE)
            if element is not root and (unseen or _is_hidden(element, selectors)):
                skipped = element
                walk.skip_subtree()
                continue
            yield from state.enter(element)
            state.add(element.text)
        else:
            if element is skipped:
                skipped = None
            else:
                yield from state.leave(element)
            if element is not root:
                state.add(element.tail)
    yield from state.flush()


@dataclass(slots=True)
class _Walk:
    """Where in a page the walk is, and the text of the line it is on."""

    line: list[str] = field(default_factory=list)
    level: int = 0
    preformatted: int = 0
    cells: int = 0
    lists: list[int] = field(default_factory=list)
    """For each open list the number of its next item, negative where items have bullets."""
    prefix: str = ""
    groups: int = 0
    group: int = 0

    def add(self, text: str | None) -> None:
        if text:
            self.line.append(text if self.preformatted else _SPACE.sub(" ", text))

    def flush(self) -> Iterator[Block]:
        text = "".join(self.line).strip("\n")
        self.line.clear()
        if not self.preformatted:
            text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
        if text.strip(" |\n"):  # a row of empty cells says nothing
            yield Block(self.prefix + text, self.level, self.group)
            self.prefix = ""

    def enter(self, element: Any) -> Iterator[Block]:
        tag = element.tag
        if tag in _INLINE:
            return
        if tag == "br":
            self.line.append(" " if self.cells else "\n")
        elif tag in ("td", "th"):
            self.cells += 1
            self.line.append(" | " if _has_earlier_cell(element) else "")
        elif self.cells and tag != "tr":
            self.line.append(" ")  # a row stays one line whatever its cells hold
        else:
            yield from self.flush()
            self.level = _HEADINGS.get(tag, self.level)
            self.preformatted += tag == "pre"
            self._enter_list(tag)

    def leave(self, element: Any) -> Iterator[Block]:
        tag = element.tag
        if tag in ("td", "th"):
            self.cells -= 1
        elif tag in _INLINE or tag == "br":
            return
        elif self.cells and tag != "tr":
            self.line.append(" ")
        else:
            yield from self.flush()
            self.level = 0 if tag in _HEADINGS else self.level
            self.preformatted -= tag == "pre"
            if tag in ("ul", "ol") and self.lists:
                self.lists.pop()
            if tag in _GROUPS and not self.lists:
                self.group = 0

    def _enter_list(self, tag: str) -> None:
        if tag in _GROUPS and not self.lists:
            self.groups += 1
            self.group = self.groups
        if tag in ("ul", "ol"):
            self.lists.append(1 if tag == "ol" else -1)
        elif tag == "li":
            number = self.lists[-1] if self.lists else -1
            self.prefix = "- " if number < 0 else f"{number}. "
            if number > 0:
                self.lists[-1] += 1


def _has_earlier_cell(element: Any) -> bool:
    before = element.getprevious()
    return before is not None and before.tag in ("td", "th")
