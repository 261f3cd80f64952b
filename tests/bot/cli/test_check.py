"""`frontdesk knowledge check`: what articles contradict or repeat, in lines for a person or as one object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bot.cli.conftest import Run
from tests.bot.cli.test_bad_input import refused

PARCELS = "The courier sends a message with a link that shows where the parcel is and when it will be at the door."
ARTICLES = {
    "returns.md": f"# Returns\n\n## Time\n\nUnused items can be returned within 30 days.\n\n## Parcels\n\n{PARCELS}\n",
    "faq.md": f"# Questions\n\nUnused items can be returned within 14 days.\n\n## Delivery\n\n{PARCELS}\n",
}


@pytest.mark.slow
def test_a_contradiction_and_a_repeat_are_told_with_their_places(frontdesk: Run, tmp_path: Path) -> None:
    folder = tmp_path / "articles"
    folder.mkdir()
    for name, text in ARTICLES.items():
        (folder / name).write_text(text)
    assert frontdesk("ingest", folder).status == 0

    told = frontdesk("knowledge", "check")
    assert told.status == 0, told.err
    assert "1 contradictions, 1 duplicates" in told.out
    assert "contradiction: 14 days / 30 days" in told.out
    assert "faq.md  Questions: Unused items can be returned within 14 days." in told.out
    assert "returns.md  Time: Unused items can be returned within 30 days." in told.out
    assert "duplicate (100% the same): The courier" in told.out and "faq.md  Delivery\n" in told.out

    found = json.loads(frontdesk("knowledge", "check", "--json").out)
    assert set(found) == {"version", "duplicates", "contradictions"}
    assert found["version"] in told.out
    (contradiction,), (duplicate,) = found["contradictions"], found["duplicates"]
    assert contradiction["what"] == ["14 days", "30 days"]
    assert contradiction["second"]["source"] == "returns.md"
    assert duplicate["likeness"] == 1.0

    (folder / "faq.md").unlink()
    assert frontdesk("ingest", folder).status == 0
    assert "0 contradictions, 0 duplicates" in frontdesk("knowledge", "check").out


@pytest.mark.slow
def test_without_knowledge_the_cure_is_named(frontdesk: Run) -> None:
    refused(frontdesk("knowledge", "check"), "frontdesk ingest")
