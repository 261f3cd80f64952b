"""A child process in which what strangers wrote is parsed, within limits of processor time, memory and patience.

Owns the process: it is started when something needs it, serves one thing after another, and is replaced when one has
killed it. Knows nothing about formats: `parsers` does, on the other side of the pipe.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retriever.passages import Document, RetrieverError, Section
from retriever.readers.languages import language_of
from retriever.readers.parsers import Kind
from retriever.readers.rows import Problem

if TYPE_CHECKING:
    from retriever.links import Said

CPU_SECONDS: Final = 30
MEMORY: Final = 1 << 30
WALL_SECONDS: Final = 90
A_FILE_OF_ROWS: Final = 10_000_000
"""Bytes of rows that have the time of one file: there may be ten times as many."""


class Child:
    """Parses. Use as a context; not for several threads at a time. What cannot be had within the limits, or is not what
    it says, is a RetrieverError with the reason."""

    def __init__(self, *, cpu: float = CPU_SECONDS, memory: int = MEMORY, wall: float = WALL_SECONDS) -> None:
        self._limits = (cpu, memory, wall)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def parse(self, path: Path, kind: Kind, source: str) -> Iterator[Document | Problem]:
        """What is visible in `path`: an article, or rows and what is wrong with some."""
        size = path.stat().st_size if kind in ("csv", "jsonl") else 0
        for part in self._ask(kind, str(path), source, share=max(1.0, size / A_FILE_OF_ROWS)):
            yield _document(part) if isinstance(part, dict) else (int(part[0]), str(part[1]))

    def said_by(self, body: bytes, url: str, headers: Mapping[str, str]) -> Said:
        """As `links.said_by`."""
        from retriever.links import Said

        ((links, canonical, kept),) = self._ask("links", url, dict(headers), body=body)
        return Said(tuple(links), canonical, kept)

    def locations(self, body: bytes, url: str) -> tuple[tuple[str, ...], bool]:
        """As `links.locations`."""
        ((urls, more),) = self._ask("locations", url, body=body)
        return tuple(urls), more

    def manners(self, robots: bytes) -> tuple[float, tuple[str, ...]]:
        """As `links.manners`."""
        ((delay, sitemaps),) = self._ask("manners", body=robots)
        return delay, tuple(sitemaps)

    def allowed(self, robots: bytes, urls: Sequence[str]) -> list[bool]:
        """As `links.allowed`."""
        (found,) = self._ask("allowed", list(urls), body=robots)
        return [bool(may) for may in found]

    def _ask(self, kind: str, *arguments: object, body: bytes = b"", share: float = 1.0) -> Iterator[Any]:
        """The parts of an answer, as they come. `share` is what of the time for one file is given."""
        cpu, memory, wall = self._limits
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it ended after what was asked before, whose fault this need not bear
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        answer: dict[str, Any] = {}
        whole = False
        try:
            process.stdin.write(json.dumps([kind, arguments, len(body), cpu * share]).encode() + b"\n" + body)
            process.stdin.flush()
            for line in _lines(process, wall * share):
                answer = json.loads(line)
                if "part" not in answer:
                    break
                yield answer["part"]
            whole = not answer.get("spent")
        except TimeoutError:
            raise RetrieverError(f"took more than {wall * share:.0f} s to read; save it anew or as text") from None
        except (OSError, ValueError):
            raise RetrieverError(
                f"too large or damaged: its parser needed more than {cpu * share:.0f} s or {memory >> 20} MB; split it"
            ) from None
        finally:
            if not whole:
                self._end()
        if problem := answer.get("problem"):
            raise RetrieverError(str(problem))
        if bug := answer.get("bug"):
            raise RuntimeError(f"{kind}: {bug}")

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "retriever.readers.parsers", str(self._limits[1])],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _lines(process: subprocess.Popen[bytes], wall: float) -> Iterator[bytearray]:
    assert process.stdout is not None
    until, rest = time.monotonic() + wall, bytearray()
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise TimeoutError
        piece = os.read(process.stdout.fileno(), 1 << 20)
        if not piece:
            raise OSError("the child is gone")
        rest += piece
        if b"\n" in piece:
            *lines, rest = rest.split(b"\n")
            yield from lines


def _document(part: dict[str, Any]) -> Document:
    # Only here: the detector looks for a folder that it may write to.
    language = part["language"] or language_of(f"{part['question']}\n{part['text']}")
    sections = tuple(Section(tuple(heading), start, end) for heading, start, end in part["sections"])
    return Document(**{**part, "language": language, "sections": sections})
