"""Articles as HTML: what was written can be read, and nothing in it can run, load or lead astray."""

from __future__ import annotations

import json
import math
import re
import time
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.channels.web.articles import TAGS, render
from retriever.passages import Document, Passage, Section
from retriever.readers import read_path
from retriever.readers.child import Child
from retriever.split import split
from tests.bot.channels.office import laid_out

KNOWLEDGE = Path(__file__).parents[3] / "data" / "knowledge"


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


def letters(text: str) -> str:
    """What a person reads, without space, and without what tells items and cells apart in plain text."""
    return re.sub(r"[\s|-]|\b\d+\.", "", text)


def read(html: str) -> str:
    return letters(unescape(re.sub(r"<[^>]+>", "\n", html)))


def passage(document: Document, name: str, first: str, last: str = "") -> Passage:
    start = document.text.index(first)
    end = document.text.index(last, start) + len(last) if last else start + len(first)
    return Passage(name, document.source, document.title, (), document.text[start:end], start, end)


def section_of(html: str, name: str) -> str:
    """The HTML of the section that holds this anchor."""
    anchors = r'(?:<span class="anchor" id="[^"]*"></span>)*'
    found = re.search(
        rf'<section class="passage">({anchors}<span class="anchor" id="p-{name}">.*?)</section>', html, re.S
    )
    assert found, html
    return found[1]


REFUNDS = laid_out(
    "refunds.md",
    "Refunds",
    ("", "Intro with a < b & c.\nIts second line."),
    ("Times", "1. First we look.\n2. Then we pay.\n3. Then it arrives.\n\npaid | time\ncard | 3 days"),
    ("A loose list", "- air\n\n- and more"),
    ("Nothing else", "One | row is no table.\n\nThe end."),
)


def test_headings_lists_and_tables_are_set_out_again() -> None:
    html = str(render(REFUNDS, ()).html)
    assert html.split("\n") == [
        "<h1>Refunds</h1>",
        "<p>Intro with a &lt; b &amp; c.<br>Its second line.</p>",
        "<h2>Times</h2>",
        '<ol start="1"><li>First we look.</li><li>Then we pay.</li><li>Then it arrives.</li></ol>',
        "<table><thead><tr><th>paid</th><th>time</th></tr></thead>"
        "<tbody><tr><td>card</td><td>3 days</td></tr></tbody></table>",
        "<h2>A loose list</h2>",
        "<ul><li>air</li><li>and more</li></ul>",
        "<h2>Nothing else</h2>",
        "<p>One | row is no table.</p>",
        "<p>The end.</p>",
        "",
    ]


def test_every_passage_is_a_section_that_ends_where_the_passage_ends() -> None:
    passages = [
        passage(REFUNDS, "intro", "Intro with", "line."),
        passage(REFUNDS, "looks", "1. First", "look."),
        passage(REFUNDS, "pays", "2. Then", "arrives."),
        passage(REFUNDS, "end", "The end."),
    ]
    html = str(render(REFUNDS, passages).html)
    assert html.count("<section") == html.count("</section>") == 4
    assert '<ol start="2"><li>Then we pay.</li><li>Then it arrives.</li></ol>' in section_of(html, "pays")
    for each in passages:
        assert read(section_of(html, each.id)) == letters(each.text)
    assert read(html) == letters(REFUNDS.text)


def test_passages_that_begin_together_share_a_section() -> None:
    html = str(render(REFUNDS, [passage(REFUNDS, "a", "The end"), passage(REFUNDS, "b", "The end.")]).html)
    assert html.count("<section") == 1
    assert read(section_of(html, "a")) == read(section_of(html, "b")) == "Theend."


def test_a_heading_with_nothing_under_it_is_still_a_heading() -> None:
    document = Document("a.md", "A", "A\n\nLater", (Section(("Later",), 3, 8),))
    assert "<h2>Later</h2>" in render(document, [passage(document, "x", "Later")]).html


@pytest.mark.slow
def test_every_article_of_the_sample_company_opens_at_each_of_its_passages() -> None:
    with Child() as child:
        read_files = [file for file in read_path(KNOWLEDGE, KNOWLEDGE, {}, child) if not isinstance(file, tuple)]
    documents = [document for file in read_files for document in file.documents]
    assert len(documents) >= 60
    for document in documents:
        passages = split(document)
        article = render(document, passages)
        assert article.headed or "#" in document.source
        assert read(article.html) == letters(document.text)
        for each in passages:
            assert read(section_of(article.html, each.id)) == letters(each.text)


@given(st.text(st.sampled_from("ab <>&\"'|-.1\n#*_`[]()字"), max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_text_can_be_read_whatever_its_passages(body: str, starts: list[int]) -> None:
    document = laid_out("a.md", "Title", ("Heading", body))
    section = document.sections[0]
    passages = [
        Passage(f"n{start}", "a.md", "Title", (), "", section.start + start, section.end)
        for start in set(starts)
        if section.start + start < section.end
    ]
    html = str(render(document, passages).html)
    assert read(html) == letters(document.text)
    harmless(html)


@pytest.mark.parametrize("name", ['x" onclick="alert(1)', "x><script>", "", "a b"])
def test_an_anchor_that_is_no_plain_name_is_dropped(name: str) -> None:
    assert "id=" not in render(REFUNDS, [passage(REFUNDS, name, "The end.")]).html


def harmless(html: str) -> None:
    """Nothing but text set out: no link, no picture, no style, no handler."""
    for tag, attributes in tags(html):
        assert tag in TAGS, tag
        allowed = {"span": {"id", "class"}, "section": {"class"}, "ol": {"start"}}.get(tag, set())
        assert set(attributes) <= allowed, (tag, attributes)


def test_attack_strings_become_text(shared_datasets: Path) -> None:
    attacks = (shared_datasets / "attacks" / "xss.txt").read_text("utf-8").splitlines()[::20]
    attacks += json.loads((shared_datasets / "attacks" / "blns.json").read_text("utf-8"))
    assert len(attacks) > 800
    assert sum(bool(tags(attack)) for attack in attacks) > 300, "the attacks hold tags, or this looked at nothing"
    for attack in attacks:
        document = laid_out(
            "a.md", attack, (attack, f"{attack}\n\n- {attack}\n1. {attack}\n\n{attack} | {attack}\n| x | y")
        )
        harmless(str(render(document, [Passage(attack, "a.md", attack, (), "", 0, len(document.text))]).html))


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["- x\n", "a | b\n", "\n", " \n \n", "1. "])
def test_long_and_hostile_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    """A ratio of two measurements in one run: quadratic work takes sixteen times as long for four times the text."""

    def seconds(times: int) -> float:
        document = laid_out("a.md", "Long", ("", piece * times))
        best = math.inf
        for _ in range(3):
            began = time.process_time()
            html = str(render(document, ()).html)
            best = min(best, time.process_time() - began)
        harmless(html)
        return best

    assert seconds(20_000) < 9 * seconds(5_000) + 0.05
