"""Articles as HTML: what was written can be read, and nothing in it can run, load or lead astray."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bot.channels.web.articles import BLOCKS, INLINE, TABLE, address_of, render
from retriever.passages import Document, Passage


class Tags(HTMLParser):
    """Every tag with its attributes, read by another parser than the one that cleaned them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    parser.close()
    return parser.found


def document(text: str, source: str = "returns/refunds.md") -> Document:
    return Document(source, "Refunds", text, ())


def passage(text: str, name: str, first: str, last: str = "") -> Passage:
    start = text.index(first)
    end = text.index(last, start) + len(last) if last else start + len(first)
    return Passage(name, "returns/refunds.md", "Refunds", (), text[start:end], start, end)


def html_of(text: str, *passages: Passage, existing: set[str] | None = None) -> str:
    return str(render(document(text), passages, lambda source: source in (existing or set())).html)


ARTICLE = """# Refunds

Intro with **weight** and `code`.

## Times

1. First we look.
2. Then we pay.
3. Then it arrives.

| paid | time |
|---|---|
| card | 3 days |

The end.
"""


def test_headings_lists_and_tables_are_shown() -> None:
    html = html_of(ARTICLE)
    for piece in (
        "<h1>Refunds</h1>",
        "<strong>weight</strong>",
        "<code>code</code>",
        "<li>Then we pay.</li>",
        "<td>card",
    ):
        assert piece in html


@pytest.mark.parametrize(("text", "headed"), [("# Refunds\n\nText.", True), ("Text.\n\n## Later", False)])
def test_an_article_says_whether_it_brings_its_own_heading(text: str, headed: bool) -> None:
    assert render(document(text), (), lambda source: False).headed is headed


def section_of(html: str, name: str) -> str:
    """What the section that holds this anchor shows."""
    found = re.search(
        rf'<section class="passage">(?:<span[^>]*></span>)*<span class="anchor" id="p-{name}">.*?</section>', html, re.S
    )
    assert found, html
    return re.sub(r"<[^>]+>", "", found[0]).strip()


def test_a_passage_is_a_section_that_ends_where_the_passage_ends() -> None:
    html = html_of(
        ARTICLE,
        passage(ARTICLE, "intro", "Intro with", "`code`."),
        passage(ARTICLE, "list", "1. First", "arrives."),
        passage(ARTICLE, "end", "The end."),
    )
    assert section_of(html, "intro") == "Intro with weight and code."
    assert section_of(html, "list") == "First we look.\nThen we pay.\nThen it arrives."
    assert section_of(html, "end") == "The end."
    assert html.count("<section") == html.count("</section>") == 3


def test_a_passage_that_begins_inside_a_block_opens_at_that_block() -> None:
    html = html_of(ARTICLE, passage(ARTICLE, "third", "3. Then"), passage(ARTICLE, "cell", "3 days"))
    assert "First we look." in section_of(html, "third")
    assert "card" in section_of(html, "cell")
    assert "<ol>" in html, "the list is not torn apart"


def test_passages_of_one_block_share_its_section() -> None:
    html = html_of(ARTICLE, passage(ARTICLE, "a", "1. First"), passage(ARTICLE, "b", "2. Then"))
    assert html.count("<section") == 1
    assert section_of(html, "a") == section_of(html, "b")


def test_every_passage_of_a_long_article_has_its_anchor() -> None:
    paragraphs = [f"Paragraph {number} says something of its own." for number in range(2_000)]
    text = "\n\n".join(paragraphs)
    assert len(text) > 40_000
    html = html_of(text, *(passage(text, f"n{n}", line) for n, line in enumerate(paragraphs)))
    assert html.count('class="anchor"') == 2_000
    assert section_of(html, "n1234") == paragraphs[1234]


@pytest.mark.parametrize("name", ['x" onclick="alert(1)', "x><script>", "", "a b"])
def test_an_anchor_that_is_no_plain_name_is_dropped(name: str) -> None:
    assert "id=" not in html_of("Text.", passage("Text.", name, "Text."))


LINKS = {
    "https://example.com/a?b=1": "https://example.com/a?b=1",
    "mailto:help@example.com": "mailto:help@example.com",
    "returns.md": "/articles/returns/returns.md",
    "returns.md#p-1": "/articles/returns/returns.md",
    "../shipping/a%20b.md": "/articles/shipping/a%20b.md",
    "missing.md": None,
    "../../../etc/passwd": None,
    "/returns/returns.md": None,
    "#top": None,
    "http://example.com": None,
    "//example.com/x": None,
    "https://user@example.com": None,
    "https://[broken": None,
    "javascript:alert(1)": None,
    "JaVaScRiPt:alert(1)": None,
    "java&#10;script:alert(1)": None,
    "vbscript:x": None,
    "data:text/html,x": None,
    "file:///etc/passwd": None,
    "\\\\example.com\\x": None,
    "returns.md\\..\\x": None,
    "ftp://example.com": None,
    "tel:123": None,
}


@pytest.mark.parametrize("written", LINKS)
def test_links_lead_to_articles_https_and_mail_and_nowhere_else(written: str) -> None:
    existing = {"returns/returns.md", "shipping/a b.md"}
    html = html_of(f"[text](<{written}>)", existing=existing)
    links = [attributes.get("href") for tag, attributes in tags(html) if tag == "a"]
    assert [link for link in links if link] == ([LINKS[written]] if LINKS[written] else [])
    assert "text" in html


def test_links_do_not_say_where_they_were_found() -> None:
    ((_, attributes),) = (found for found in tags(html_of("<https://example.com>")) if found[0] == "a")
    assert attributes["rel"] == "noopener noreferrer nofollow"


def harmless(html: str) -> None:
    for tag, attributes in tags(html):
        assert tag in BLOCKS | INLINE | TABLE, tag
        assert set(attributes) <= {"id", "href", "rel", "class", "start"}, attributes
        assert (attributes.get("href") or "https:").startswith(("https:", "mailto:", "/articles/"))


def test_attack_strings_become_text(shared_datasets: Path) -> None:
    attacks = (shared_datasets / "attacks" / "xss.txt").read_text("utf-8").splitlines()[::20]
    attacks += json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8"))
    assert len(attacks) > 800
    raw = 0
    for attack in attacks:
        raw += bool(tags(attack))
        harmless(html_of(f"# {attack}\n\n{attack}\n\n[{attack}]({attack})\n\n![{attack}]({attack})"))
    assert raw > 300, "the attacks themselves hold tags, or this looked at nothing"


@pytest.mark.parametrize(
    "carrier",
    [
        "![x](https://evil.example/?q=1)",
        "![x][r]\n\n[r]: https://evil.example/",
        "<img src=https://evil.example/>",
        "<link rel=stylesheet href=https://evil.example/>",
        "<style>@import url(https://evil.example/)</style>",
        '<p style="background:url(https://evil.example/)">x</p>',
        "<svg><image href=https://evil.example/ /></svg>",
        "<iframe src=https://evil.example/></iframe>",
        "<base href=https://evil.example/>",
        "<math><mtext><table><mglyph><style><img src=https://evil.example/>",
    ],
)
def test_nothing_in_an_article_is_fetched(carrier: str) -> None:
    html = html_of(carrier)
    harmless(html)
    assert not [tag for tag, _ in tags(html) if tag in ("img", "link", "style", "svg", "iframe", "base")]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "*a_ " * 9_000,
        "> " * 15_000,
        "- " * 15_000,
        "`" * 30_000,
        "<" * 30_000,
        "|" * 30_000,
        "![[]()" * 5_000,
    ],
)
def test_hostile_markdown_is_rendered_in_bounded_time(text: str) -> None:
    began = time.perf_counter()
    harmless(html_of(text))
    assert time.perf_counter() - began < 5.0


def test_text_without_a_break_longer_than_markdown_may_be_is_shown_as_it_is() -> None:
    html = html_of("<script>" + "x" * 50_000)
    assert html.startswith("<pre>&lt;script&gt;x")
    harmless(html)


@pytest.mark.parametrize(
    ("source", "passage_id", "address"),
    [
        ("returns/a b.md", "", "/articles/returns/a%20b.md"),
        ("faq.csv#row-3", "x1", "/articles/faq.csv%23row-3#p-x1"),
        ("退货.md", "", "/articles/%E9%80%80%E8%B4%A7.md"),
    ],
)
def test_the_address_of_a_source_can_stand_in_a_page(source: str, passage_id: str, address: str) -> None:
    assert address_of(source, passage_id) == address
