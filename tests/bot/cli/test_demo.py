"""The demo's shop: a page on another origin than the service, with a site that lets it in."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from bot.cli.demo import SHOP, open_shop
from bot.settings import Settings, load_settings
from bot.storage.database import Database
from bot.storage.sites import Site, all_sites
from tests.conftest import ROOT

SERVICE = "http://127.0.0.1:4321"


@pytest.fixture
def settings(home: Path) -> Settings:
    home.mkdir()
    return load_settings(None)


def shops(settings: Settings) -> list[Site]:
    with Database(settings.home_folder.database) as database:
        return [site for site in all_sites(database) if site.name == SHOP]


@pytest.mark.slow
def test_the_page_names_a_site_that_allows_its_origin(settings: Settings) -> None:
    for _ in range(2):  # a second demo takes the same site to its new origin
        with open_shop(settings, SERVICE, ROOT / "data/shop") as origin:
            page = urlopen(f"{origin}/").read().decode()
            assert urlopen(f"{origin}/shop.css").read() == (ROOT / "data/shop/shop.css").read_bytes()
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"{origin}/../evaluation.jsonl")
        (site,) = shops(settings)
        assert site.origins == (origin,) and origin != SERVICE
        found = re.search(r'<script async src="([^"]+)" data-site="([^"]+)">', page)
        assert found is not None and found.groups() == (f"{SERVICE}/widget.js", site.id)
