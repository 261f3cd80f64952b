"""The documentation says what the code does: README's commands run, its tables match, its files exist."""

from __future__ import annotations

import re

from pydantic_core import PydanticUndefined

from bot.settings import all_settings
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def settings_table() -> str:
    """The table of settings as README must show it."""
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for name, field in all_settings().items():
        default = "" if field.default in (PydanticUndefined, None, ()) else f"`{field.default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows)


def section(name: str) -> str:
    found = re.search(rf"<!-- {name}:.*?-->\n(.*?)<!-- /{name} -->", README, re.S)
    assert found, f"README lost its section {name}"
    return found[1].strip()


def test_readme_lists_every_setting_with_its_default() -> None:
    assert section("settings") == settings_table()


def test_every_place_of_the_file_map_exists_and_every_module_has_one() -> None:
    """A folder or file the map names is there; a module of `bot` that it does not name is a stranger."""
    table = section("files")
    places = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    assert len(places) > 8, "the guard must look at the real map"
    for place in places:
        assert (ROOT / place).exists(), f"README names {place}, which is not there"
    for path in [*(ROOT / "bot").glob("*.py"), *(ROOT / "bot").glob("*/")]:
        if not path.name.startswith("__"):
            assert path.name in table, f"README's file map does not mention {path.name}"


def test_every_document_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(((?!http|#)[^)]+)\)", README)
    assert len(links) > 4
    for link in links:
        assert (ROOT / link).exists(), f"README links to {link}, which is not there"


def test_every_make_target_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^[a-z -]*\b{target}\b.*:", makefile, re.M), f"make {target}: no such target"
