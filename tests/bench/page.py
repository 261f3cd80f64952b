"""The page of figures, docs/benchmarks.md: a suite owns what stands between its two marks and touches nothing else.

Also says which machine the figures are of.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def put(suite: str, text: str) -> None:
    """`text` between the marks of `suite`; a suite that has none yet comes last, under its name."""
    begin, end = f"<!-- {suite}: begin -->", f"<!-- {suite}: end -->"
    page = PAGE.read_text("utf-8") if PAGE.exists() else ""
    before, mark, rest = page.partition(begin)
    if not mark:
        before = f"{page.rstrip()}\n\n## {suite.capitalize()}\n\n".lstrip()
    after = rest.partition(end)[2] or "\n"
    PAGE.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", "utf-8")


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(": ")[2] if names else "unknown processor"
    return f"{os.cpu_count()} cores of {name}"
