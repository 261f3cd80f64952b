"""HTML and Markdown to the text a person would see.

Owns which elements are hidden or page furniture. Markdown goes through HTML, so that what hides in it (comments,
hidden elements) is judged by the same rules. Knows nothing about files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from retriever.passages import RetrieverError
from retriever.readers.outline import Block, Outline, outline

_UNSEEN: Final = frozenset(
    ("script", "style", "template", "noscript", "iframe", "object", "embed", "svg", "math", "canvas", "audio", "video",
     "picture", "map", "head", "select", "option", "datalist", "button", "input", "textarea", "progress", "meter",
     "dialog")
)  # fmt: skip
_FURNITURE: Final = frozenset(("nav", "footer", "header", "aside", "form"))
_OF_A_PAGE: Final = frozenset(("h1", "h2", "nav", "header", "footer", "article"))
_GROUPS: Final = frozenset(("ul", "ol", "table", "dl"))
_HEADINGS: Final = {f"h{n}": n for n in range(1, 7)}
_INLINE: Final = frozenset(
    ("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "cite", "code", "data", "del", "dfn", "em", "font",
     "i", "img", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup",
     "time", "tt", "u", "var", "wbr", "ruby", "rt", "rp")
)  # fmt: skip
_HIDING_STYLE = re.compile(
    r"(?<![\w-])(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|font-size\s*:\s*0(?![.\d]*[1-9])|"
    r"opacity\s*:\s*0(?![.\d]*[1-9])|clip\s*:\s*rect\(\s*0|(?:left|top|text-indent)\s*:\s*-\d{3,}|"
    r"margin-(?:left|top)\s*:\s*-\d{4,})",
    re.IGNORECASE,
)
_RULE = re.compile(r"([^{}]{1,500})\{([^{}]{0,2000})\}")
_SIMPLE_SELECTOR = re.compile(r"[.#][\w-]+")
_CSS_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
# What holds for every screen is no condition.
_MEDIA_OR_BRACE = re.compile(r"@media(?!\s+(?:all|screen)\s*\{)[^{}]*+\{|[{}]", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---[^\S\n]*\n((?:.*\n)*?)(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)")
_KEY = re.compile(r"[^\s:#-][^:]{0,60}:(?:\s|\Z)")
_FRONT_LINE = re.compile(rf"{_KEY.pattern}|-\s|#|\s|[\]}}]|\Z")
_AUDIENCE = re.compile(r"^[\"']?audience[\"']?[^\S\n]*:", re.MULTILINE | re.IGNORECASE)
_FACT = re.compile(r"^([A-Za-z][\w-]{0,40})[^\S\n]*:[^\S\n]+(.+)$", re.MULTILINE)
_RULE_LINE = re.compile(r"---[^\S\n]*\n")
_WHOLE = re.compile(r"\s*-?[0-9]{1,9}\s*")
_SPACE = re.compile(r"\s+")
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")

MOST_FRONT_MATTER: Final = 10_000
"""Characters."""


def read_markdown(text: str) -> Outline:
    """CommonMark with tables; `key: value` front matter gives title, url, entity, domain and audience.

    Raises RetrieverError where front matter says for whom a text is, and not in a way that is understood.
    """
    from markdown_it import MarkdownIt

    facts, text = _front_matter(text.replace("\r\n", "\n"))
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return _outline(rendered, facts)


def read_html(text: str) -> Outline:
    """The main part of a page: `<main>` or the only `<article>` where there is one, else the body without its menus."""
    return _outline(text, {})


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """What front matter says, and the text after it. A text may also begin with a rule, which looks the same."""
    front = _FRONT_MATTER.match(text)
    if front and not _is_front_matter(front[1]):
        front = None
    said = front[1] if front else text[:MOST_FRONT_MATTER] if _RULE_LINE.match(text) else ""
    if len(said) > MOST_FRONT_MATTER:
        raise RetrieverError(
            f"front matter of {len(said):,} characters, more than {MOST_FRONT_MATTER:,}; end it with a line of ---"
        )
    facts = {key.lower(): value.strip().strip("'\"") for key, value in _FACT.findall(said)} if front else {}
    if "audience" not in facts and _AUDIENCE.search(said):  # or what is for staff would be read to everyone
        raise RetrieverError(
            "front matter whose audience is not understood; give lines of `key: value` between two ---"
        )
    return facts, text[front.end() :] if front else text


def _is_front_matter(text: str) -> bool:
    if not all(map(_FRONT_LINE.match, text.split("\n"))):
        return False
    return not text.strip() or any(map(_KEY.match, text.split("\n")))


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
    sheets = "\n".join(_unconditional((style.text or "")[:100_000]) for style in page.iter("style"))
    hidden: set[str] = set()
    for selectors, rules in _RULE.findall(sheets):
        if _HIDING_STYLE.search(rules):
            hidden.update(s for s in map(str.strip, selectors.split(",")) if _SIMPLE_SELECTOR.fullmatch(s))
    return frozenset(hidden)


def _unconditional(sheet: str) -> str:
    """A style sheet without what it says of paper or of screens of some sizes only."""
    sheet = _CSS_COMMENT.sub("", sheet)
    kept: list[str] = []
    depth = start = 0
    for token in _MEDIA_OR_BRACE.finditer(sheet):
        if depth:
            depth += -1 if token[0] == "}" else 1
            start = token.end()
        elif len(token[0]) > 1:
            kept.append(sheet[start : token.start()])
            depth = 1
    return "".join(kept) + ("" if depth else sheet[start:])


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
            unseen = (element.tag in _UNSEEN and not _is_label(element)) or (furniture and _is_furniture(element))
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


def _is_furniture(element: Any) -> bool:
    """Whether it stands on every page. Some systems (ASP.NET, JSF) wrap a page in a form: that one is the page."""
    if element.tag == "form" and element.getparent().tag == "body":
        return next(element.iterdescendants(*_OF_A_PAGE), None) is None
    return element.tag in _FURNITURE


def _is_label(element: Any) -> bool:
    """Whether it is the button that a heading consists of where what stands under it can be folded."""
    return element.tag == "button" and next(element.iterancestors("summary", *_HEADINGS), None) is not None


@dataclass(slots=True)
class _Walk:
    """Where in a page the walk is, and the text of the line it is on."""

    line: list[str] = field(default_factory=list)
    level: int = 0
    preformatted: int = 0
    cells: int = 0
    lists: list[int | None] = field(default_factory=list)
    """For each open list the number of its next item, None where items have bullets."""
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
            self._enter_list(element)

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

    def _enter_list(self, element: Any) -> None:
        tag = element.tag
        if tag in _GROUPS and not self.lists:
            self.groups += 1
            self.group = self.groups
        if tag in ("ul", "ol"):
            self.lists.append(_whole(element.get("start"), 1) if tag == "ol" else None)
        elif tag == "li":
            number = self.lists[-1] if self.lists else None
            self.prefix = "- "
            if number is not None:
                number = _whole(element.get("value"), number)
                self.prefix = f"{number}. "
                self.lists[-1] = number + 1


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and _WHOLE.fullmatch(text) else default


def _has_earlier_cell(element: Any) -> bool:
    before = element.getprevious()
    return before is not None and before.tag in ("td", "th")
