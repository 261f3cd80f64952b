"""Whatever a file does to the child that parses it, it is a reason, and the next file is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retriever.passages import Document, RetrieverError
from retriever.readers import FileRead, read_path
from retriever.readers.child import Child
from retriever.readers.parsers import Kind


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "small.html"
    file.write_text("<h1>Refunds</h1><p>They take a week.</p>")
    return file


@pytest.fixture
def child() -> Iterator[Child]:
    with Child() as one:
        yield one


def read(child: Child, path: Path, kind: Kind = "html") -> Document:
    (found,) = child.parse(path, kind, path.name)
    assert isinstance(found, Document)
    return found


def test_one_child_reads_many_files(child: Child, page: Path) -> None:
    assert read(child, page).text.endswith("They take a week.")
    process = child._process
    (page.parent / "b.md").write_text("# Titel\n\n## Größe\n\n汉字")
    found = read(child, page.parent / "b.md", "markdown")
    assert (found.title, found.sections[0].heading) == ("Titel", ("Größe",)) and "汉字" in found.text
    assert child._process is process


@pytest.mark.slow
def test_a_file_that_needs_too_much_memory_is_a_reason_and_the_next_is_read(page: Path) -> None:
    """The control: without the limit the same file is read."""
    greedy = page.parent / "greedy.html"
    greedy.write_text("<p>" + "<b>x</b>\n" * 600_000)
    with Child(memory=150 << 20) as child:
        with pytest.raises(RetrieverError, match=r"150 MB|damaged"):
            read(child, greedy)
        assert read(child, page).title == "Refunds"
    with Child() as free:
        assert read(free, greedy).text.startswith("x x")


@pytest.mark.slow
def test_a_file_that_needs_too_long_is_a_reason_and_the_next_is_read(page: Path) -> None:
    pipe = page.parent / "endless.html"
    os.mkfifo(pipe)
    with Child(wall=0.3) as child:
        began = time.monotonic()
        with pytest.raises(RetrieverError, match="took more than"):
            read(child, pipe)
        assert time.monotonic() - began < 30
    with Child() as child:
        read(child, page)
        assert child._process is not None
        child._process.kill()
        child._process.wait()
        assert read(child, page).title == "Refunds", "killed by somebody else, not by this file"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_have_the_same_limits(kind: Kind, tmp_path: Path) -> None:
    pipe = tmp_path / f"endless.{kind}"
    os.mkfifo(pipe)
    with Child(wall=0.3) as hasty, pytest.raises(RetrieverError, match="took more than"):
        list(hasty.parse(pipe, kind, "endless"))
    with Child() as child:
        (tmp_path / "a.csv").write_text("question,answer\nOpen?,Yes.\nShut?,\n")
        first, second = child.parse(tmp_path / "a.csv", "csv", "a.csv")
        assert isinstance(first, Document) and (first.question, first.text, first.language) == ("Open?", "Yes.", "en")
        assert second == (3, "no answer; fill it in or remove the row")


def test_what_is_left_of_an_answer_is_not_the_next_one(child: Child, page: Path) -> None:
    (page.parent / "a.csv").write_text("question,answer\n" + "Open?,Yes.\n" * 5_000)
    reading = child.parse(page.parent / "a.csv", "csv", "a.csv")
    assert isinstance(next(reading), Document)
    reading.close()  # type: ignore[attr-defined]
    assert read(child, page).title == "Refunds"


HEAVY_ROBOTS = b"".join(b"User-agent: a%d\n" % n for n in range(12_000)) + b"Disallow: /x\nAllow: /y\n" * 10_000
GREEDY_PAGE = b"<p>" + b"<b>x</b>\n" * 1_000_000
GREEDY_MAP = b"<urlset>" + b"<url/>" * 1_500_000 + b"</urlset>"


@pytest.mark.parametrize(
    "ask",
    [
        lambda child: child.manners(HEAVY_ROBOTS),
        lambda child: child.allowed(HEAVY_ROBOTS, ["https://x.example/a"]),
        lambda child: child.said_by(GREEDY_PAGE, "https://x.example/", {}),
        lambda child: child.locations(GREEDY_MAP, "https://x.example/"),
    ],
)
@pytest.mark.slow
def test_what_a_site_says_has_the_same_limits(ask: Callable[[Child], object]) -> None:
    """12,000 names times 20,000 rules in half a megabyte of robots.txt are more than any machine holds."""
    with Child(cpu=3, memory=150 << 20) as child:
        with pytest.raises(RetrieverError, match=r"150 MB|damaged"):
            ask(child)
        said = child.said_by(b'<a href="b">b</a>', "https://x.example/", {"x-robots-tag": "noindex"})
        assert (said.links, said.canonical, said.kept) == (("https://x.example/b",), "", False)
        robots = b"User-agent: *\nDisallow: /a\nCrawl-delay: 3\nSitemap: https://x.example/map.xml\n"
        assert child.manners(robots) == (3.0, ("https://x.example/map.xml",))
        assert child.allowed(robots, ["https://x.example/a", "https://x.example/b"]) == [False, True]
        listed = b"<urlset><url><loc>https://x.example/c</loc></url></urlset>"
        assert child.locations(listed, "https://x.example/") == (("https://x.example/c",), False)


def test_a_fault_of_ours_in_the_child_is_not_a_bad_page(child: Child) -> None:
    """The planted fault: called as nobody calls it."""
    with pytest.raises(RuntimeError, match="links: TypeError"):
        list(child._ask("links", body=b"<a>"))
    assert child.said_by(b"", "https://x.example/", {}).kept, "and the next is read"


@pytest.mark.slow
def test_processor_time_is_counted_for_each_file_anew(page: Path) -> None:
    heavy = page.parent / "heavy.html"
    heavy.write_text("<p>" + "<b>word</b> " * 60_000)
    with Child(cpu=0.0) as strict:
        assert read(strict, page).title == "Refunds", "a second is the least"
    with Child(cpu=2.0) as child:
        for _ in range(4):
            assert read(child, heavy).text


def test_the_child_ends_with_the_reading(page: Path) -> None:
    mine = os.getpid()
    children = Path(f"/proc/{mine}/task/{mine}/children")
    with Child() as child:
        reading = read_path(page.parent, page.parent, {}, child)
        assert isinstance(next(reading), FileRead)
        before = set(children.read_text().split())
        assert before, "the control: it is there while files are read"
    assert before - set(children.read_text().split())


def test_a_child_may_not_write(child: Child, tmp_path: Path) -> None:
    """RLIMIT_FSIZE of 0: what a parser would unpack to disk fails there."""
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    assert read(child, tmp_path / "a.txt", "text").text == "one\n\ntwo"
    assert child._process is not None
    limits = Path(f"/proc/{child._process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max file size"))
    assert line.split()[3:5] == ["0", "0"]
