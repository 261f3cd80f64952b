"""`frontdesk ingest URL`: a site becomes articles, and what is not on the public internet only where it is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bot.cli.conftest import Run
from tests.bot.cli.test_bad_input import left_behind, refused
from tests.retriever.site import page, status, website


@pytest.mark.slow
def test_a_site_is_read_as_settings_name_it_and_found(frontdesk: Run, tmp_path: Path) -> None:
    with website({"/help/": page("Warranty", "claims", "gone"), "/help/claims": page("Claims")}) as web:
        settings = f'sites = ["{web.url("/help/")}"]\n[crawl]\ndelay = 0\nprivate = ["{web.authority}"]\n'
        (tmp_path / "frontdesk.toml").write_text(settings)
        ran = frontdesk("ingest", "--json")
        assert ran.status == 0, ran.err
        assert json.loads(ran.out)["added"] == 2
        assert f"skipped {web.url('/help/gone')}: answers 404" in ran.err and "2 pages read" in ran.err
        again = frontdesk("ingest", web.url("/help/"), "--json")
        assert json.loads(again.out)["unchanged"] == 2 and "2 as before" in again.err
        found = json.loads(frontdesk("search", "claims", "-k", "1", "--json").out)["hits"][0]["passage"]
        assert found["url"] == web.url("/help/claims")


@pytest.mark.slow
def test_a_site_that_is_down_keeps_what_was_read_and_holds_nobody_up(frontdesk: Run, tmp_path: Path) -> None:
    (tmp_path / "articles").mkdir()
    with website({"/": page("Warranty")}) as web, website({"/": page("Shipping")}) as other:
        (tmp_path / "frontdesk.toml").write_text(
            f'knowledge = ["articles"]\nsites = ["{web.url()}", "{other.url()}"]\n[crawl]\ndelay = 0\n'
            f'private = ["{web.authority}", "{other.authority}"]\n'
        )
        (tmp_path / "articles" / "hours.md").write_text("# Hours\n\nOpen from nine.\n")
        assert json.loads(frontdesk("ingest", "--json").out)["added"] == 3
        web.pages["/"] = status(404)
        other.pages["/"] = page("Shipping by ship")
        (tmp_path / "articles" / "hours.md").write_text("# Hours\n\nOpen from ten.\n")
        ran = frontdesk("ingest", "--json")
        assert ran.status == 0, ran.err
        told = json.loads(ran.out)
        assert (told["changed"], told["removed"], told["unchanged"]) == (2, 0, 1)
        assert f"skipped {web.url()}: answers 404" in ran.err
        refused(frontdesk("ingest", web.url()), "answers 404")


@pytest.mark.slow
def test_a_site_is_taken_out_when_nothing_names_it_any_more(frontdesk: Run, tmp_path: Path) -> None:
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "hours.md").write_text("# Hours\n\nOpen from nine.\n")
    with website({"/": page("Warranty")}) as web:
        rules = f'[crawl]\ndelay = 0\nprivate = ["{web.authority}"]\n'
        (tmp_path / "frontdesk.toml").write_text(f'knowledge = ["articles"]\nsites = ["{web.url()}"]\n{rules}')
        assert json.loads(frontdesk("ingest", "--json").out)["added"] == 2
        refused(frontdesk("knowledge", "remove", web.url()), "`sites`", "remove it there")
        (tmp_path / "frontdesk.toml").write_text(f'knowledge = ["articles"]\n{rules}')
        refused(frontdesk("knowledge", "remove", web.url("/other")), "nothing was read from it", web.url())
        assert json.loads(frontdesk("knowledge", "remove", web.url(), "--json").out)["removed"] == 1
        assert "Warranty" not in frontdesk("search", "warranty").out
        assert frontdesk("knowledge", "list").out.split() == ["1", "hours.md"]


@pytest.mark.slow
def test_what_changed_on_a_site_is_told_line_by_line(frontdesk: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with website({"/": page("Warranty of two years")}) as web:
        monkeypatch.setenv("FRONTDESK_CRAWL_PRIVATE", web.authority)
        monkeypatch.setenv("FRONTDESK_CRAWL_DELAY", "0")
        frontdesk("ingest", web.url())
        refused(frontdesk("knowledge", "diff"), "only one version")
        web.pages["/"] = page("Warranty of three years")
        frontdesk("ingest", web.url())
        told = frontdesk("knowledge", "diff").out
        assert ": 1 differing" in told and f"changed: {web.authority}" in told
        assert "- All about Warranty of two years." in told and "+ All about Warranty of three years." in told
        refused(frontdesk("knowledge", "diff", "000001-nonsense"), "000001-nonsense", "knowledge versions")


@pytest.mark.slow
def test_a_private_site_is_refused_with_the_setting_that_allows_it(frontdesk: Run, home: Path) -> None:
    with website({"/": page("Secret")}) as web:
        refused(frontdesk("ingest", web.url()), web.authority, "crawl.private")
        assert web.asked == []
    refused(frontdesk("ingest", "http://user@example.com/"), "user name")
    refused(frontdesk("ingest", "https://"), "https://")
    assert [path for path in left_behind(home) if path.suffix in (".page", ".html")] == []
