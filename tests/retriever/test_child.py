"""Whatever a file does to the child that parses it, it is a reason, and the next file is read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retriever.passages import RetrieverError
from retriever.readers import FileRead, read_path
from retriever.readers.child import Child


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "small.html"
    file.write_text("<h1>Refunds</h1><p>They take a week.</p>")
    return file


@pytest.fixture
def child() -> Iterator[Child]:
    with Child() as one:
        yield one


def test_one_child_reads_many_files(child: Child, page: Path) -> None:
    assert child.parse(page, "html").outline.text.endswith("They take a week.")
    process = child._process
    (page.parent / "b.md").write_text("# Titel\n\n## Größe\n\n汉字")
    found = child.parse(page.parent / "b.md", "markdown").outline
    assert (found.title, found.sections[0].heading) == ("Titel", ("Größe",)) and "汉字" in found.text
    assert child._process is process


def test_a_file_that_needs_too_much_memory_is_a_reason_and_the_next_is_read(page: Path) -> None:
    """The control: without the limit the same file is read."""
    greedy = page.parent / "greedy.html"
    greedy.write_text("<p>" + "<b>x</b>\n" * 600_000)
    with Child(memory=150 << 20) as child:
        with pytest.raises(RetrieverError, match=r"150 MB|damaged"):
            child.parse(greedy, "html")
        assert child.parse(page, "html").outline.title == "Refunds"
    with Child() as free:
        assert free.parse(greedy, "html").outline.text.startswith("x x")


def test_a_file_that_needs_too_long_is_a_reason_and_the_next_is_read(page: Path) -> None:
    pipe = page.parent / "endless.html"
    os.mkfifo(pipe)
    with Child(wall=0.3) as child:
        began = time.monotonic()
        with pytest.raises(RetrieverError, match="took more than"):
            child.parse(pipe, "html")
        assert time.monotonic() - began < 5
    with Child() as child:
        child.parse(page, "html")
        assert child._process is not None
        child._process.kill()
        child._process.wait()
        assert child.parse(page, "html").outline.title == "Refunds", "killed by somebody else, not by this file"


def test_processor_time_is_counted_for_each_file_anew(page: Path) -> None:
    heavy = page.parent / "heavy.html"
    heavy.write_text("<p>" + "<b>word</b> " * 60_000)
    with Child(cpu=0.0) as strict:
        assert strict.parse(page, "html").outline.title == "Refunds", "a second is the least"
    with Child(cpu=2.0) as child:
        for _ in range(4):
            assert child.parse(heavy, "html").outline.text


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
    assert child.parse(tmp_path / "a.txt", "text").outline.text == "one\n\ntwo"
    assert child._process is not None
    limits = Path(f"/proc/{child._process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max file size"))
    assert line.split()[3:5] == ["0", "0"]
