"""`frontdesk knowledge list|versions|rollback`: what is live, what else is on disk, and going back to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bot.cli.conftest import Run
from tests.bot.cli.test_bad_input import refused


@pytest.mark.slow
def test_what_is_live_is_listed_and_any_version_can_be_again(frontdesk: Run, tmp_path: Path) -> None:
    refused(frontdesk("knowledge", "list"), "frontdesk ingest")
    assert "none yet" in frontdesk("knowledge", "versions").out
    article = tmp_path / "articles" / "hours.md"
    article.parent.mkdir()
    names = []
    for number in range(3):
        article.write_text(f"# Hours\n\nOpen from {number}.\n\n## Sundays\n\nClosed on Sundays since {number}.\n")
        names.append(json.loads(frontdesk("ingest", "articles", "--json").out)["version"])
    listed = json.loads(frontdesk("knowledge", "list", "--json").out)
    assert listed == {"version": names[2], "sources": [{"source": "hours.md", "passages": 2}]}
    assert frontdesk("knowledge", "list").out.split() == ["2", "hours.md"]
    shown = json.loads(frontdesk("knowledge", "versions", "--json").out)["versions"]
    assert [(one["version"], one["current"]) for one in shown] == [(n, n == names[2]) for n in reversed(names)]
    assert json.loads(frontdesk("knowledge", "rollback", names[0], "--json").out) == {"version": names[0]}
    marked = frontdesk("knowledge", "versions").out.splitlines()
    assert [line.split()[1] for line in marked if line.startswith("*")] == [names[0]]
    assert f"live: {names[2]}" in frontdesk("knowledge", "rollback").out, "the one before"
    refused(frontdesk("knowledge", "rollback", "000099-nothing"), "000099-nothing", "knowledge versions")
