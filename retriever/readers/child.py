"""A child process in which untrusted files are parsed, within limits of processor time, memory and patience.

Owns the process: it is started when a file needs it, serves one file after another, and is replaced when a file has
killed it. Knows nothing about formats: `parsers` does, on the other side of the pipe.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from retriever.passages import RetrieverError, Section
from retriever.readers.outline import Outline
from retriever.readers.parsers import Kind, Parsed

CPU_SECONDS: Final = 30
MEMORY: Final = 1 << 30
WALL_SECONDS: Final = 90


class Child:
    """Parses files. Use as a context; not for several threads at a time."""

    def __init__(self, *, cpu: float = CPU_SECONDS, memory: int = MEMORY, wall: float = WALL_SECONDS) -> None:
        self._limits = (cpu, memory, wall)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def parse(self, path: Path, kind: Kind) -> Parsed:
        """What is visible in `path`. Raises RetrieverError with the reason when it cannot be had within the limits."""
        cpu, memory, wall = self._limits
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it ended after the file before, whose fault this file need not bear
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([kind, str(path)]).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(process, wall))
        except TimeoutError:
            self._end()
            raise RetrieverError(f"took more than {wall:.0f} s to read; save it anew or as text") from None
        except (OSError, ValueError):
            self._end()
            raise RetrieverError(
                f"too large or damaged: its parser needed more than {cpu:.0f} s or {memory >> 20} MB; split it"
            ) from None
        if problem := answer.get("problem"):
            raise RetrieverError(str(problem))
        return _parsed(answer)

    def _start(self) -> subprocess.Popen[bytes]:
        cpu, memory, _ = self._limits
        return subprocess.Popen(
            [sys.executable, "-m", "retriever.readers.parsers", str(cpu), str(memory)],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def _line(self, process: subprocess.Popen[bytes], wall: float) -> bytes:
        assert process.stdout is not None
        until, parts = time.monotonic() + wall, list[bytes]()
        while not parts or not parts[-1].endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            parts.append(os.read(process.stdout.fileno(), 1 << 20))
            if not parts[-1]:
                raise OSError("the child is gone")
        return b"".join(parts)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _parsed(answer: dict[str, Any]) -> Parsed:
    found = answer["outline"]
    sections = tuple(Section(tuple(heading), int(start), int(end)) for heading, start, end in found["sections"])
    outline = Outline(str(found["title"]), str(found["text"]), sections, dict(found["facts"]))
    return Parsed(outline, tuple((int(number), dict(row)) for number, row in answer["rows"]))
