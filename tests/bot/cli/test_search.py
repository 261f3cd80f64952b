"""`frontdesk search`: only what may be seen and was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bot.cli.conftest import Run


@pytest.mark.slow
def test_filters_choose_before_the_search(frontdesk: Run, tmp_path: Path) -> None:
    rows = [
        {"id": f"s{n}", "question": "What is the deposit?", "answer": f"Staff note {n}.", "audience": "staff"}
        for n in range(12)
    ]
    rows.append({"id": "p", "question": "Deposit?", "answer": "A small sum is held.", "entity": "Kayak 2"})
    (tmp_path / "faq.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert frontdesk("ingest", "faq.jsonl").status == 0

    def found(*options: str) -> list[str]:
        hits = json.loads(frontdesk("search", "what is the deposit?", "-k", "3", "--json", *options).out)["hits"]
        return [hit["passage"]["source"] for hit in hits]

    assert found() == ["faq.jsonl#p"]
    assert found("--entity", "Kayak 2") == ["faq.jsonl#p"]
    assert found("--entity", "Canoe 1") == []
    assert found("--language", "zh") == []
    assert len(found("--audience", "staff")) == 3
