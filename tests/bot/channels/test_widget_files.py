"""The widget's files as they leave the service, how large they are, and that they are what the source says."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from bot.channels.web.widget_files import FOLDER, load_widget

SOURCE = FOLDER.parent
ALL = 45_000
LOADER = 2_048
"""Bytes after gzip: what a page pays for the button, and at most for everything, all languages included."""


def test_the_loader_is_public_and_lasts_five_minutes(client: TestClient) -> None:
    answer = client.get("/widget.js", headers={"Origin": "https://shop.example"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    assert "__FRONTDESK" not in answer.text


def test_it_comes_small_to_whoever_can_read_it_so(client: TestClient) -> None:
    small = client.get("/widget.js", headers={"Accept-Encoding": "gzip, br"})
    plain = client.get("/widget.js", headers={"Accept-Encoding": "identity"})
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) <= LOADER < int(plain.headers["content-length"])
    assert "content-encoding" not in plain.headers
    assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert small.content == plain.content


def test_what_the_loader_names_is_there_and_lasts_for_ever(client: TestClient) -> None:
    version = re.search(r"/widget/([0-9a-f]{12})/app\.js", client.get("/widget.js").text)
    assert version
    names = sorted(path.name for path in FOLDER.glob("*.js") if path.name != "widget.js")
    assert names == ["app.js", *(f"words-{code}.js" for code in ("ar", "de", "es", "fr", "ja", "pt", "zh"))]
    for name in names:
        answer = client.get(f"/widget/{version[1]}/{name}", headers={"Origin": "https://shop.example"})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["access-control-allow-origin"] == "*", "modules of another origin need it"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


def test_an_older_address_gives_todays_file_and_is_not_kept(client: TestClient) -> None:
    answer = client.get("/widget/000000000000/app.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "name", ["widget.js", "SOURCES", "package.json", "..%2Fpackage.json", "%2e%2e/package.json", "app.js.map"]
)
def test_nothing_else_is_given_out(client: TestClient, name: str) -> None:
    assert client.get(f"/widget/{load_widget().version}/{name}").status_code == 404


def test_a_new_build_has_a_new_address(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "dist")
    (tmp_path / "dist" / "app.js").write_text("export const start = 1;")
    assert load_widget(tmp_path / "dist").version != load_widget().version
    (tmp_path / "dist" / "app.js").unlink()
    with pytest.raises(FileNotFoundError, match="make widget"):
        load_widget(tmp_path / "dist")


def test_the_files_are_small() -> None:
    files = load_widget()
    sizes = {name: len(gzip.compress(content, 9)) for name, content in files.modules.items()}
    loader = len(gzip.compress(files.loader, 9))
    assert loader <= LOADER
    assert loader + sum(sizes.values()) <= ALL
    assert sizes["app.js"] > 10_000, "the guard must look at the real files"


def test_the_files_hold_no_address_but_our_own() -> None:
    for content in [load_widget().loader, *load_widget().modules.values()]:
        text = content.decode()
        found = set(re.findall(r"https?://[a-z0-9.-]+", text)) - {"http://www.w3.org"}
        assert found == set()
        assert not re.search(r"innerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_what_is_committed_was_built_from_what_is_committed() -> None:
    """Without Node: the build leaves the hash of its sources."""
    names = sorted(
        [
            "package-lock.json",
            "build.mjs",
            *(str(p.relative_to(SOURCE)) for p in (SOURCE / "src").rglob("*") if p.is_file()),
        ]
    )
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode() + (SOURCE / name).read_bytes() + b"\0")
    assert len(names) > 20
    assert (FOLDER / "SOURCES").read_text().strip() == digest.hexdigest(), "dist/ is stale; run: make widget"


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not (SOURCE / "node_modules").is_dir():
        pytest.fail("the parts of the widget's build are missing; fetch them: make widget-parts")
    return subprocess.run(arguments, cwd=SOURCE, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_new_build_gives_the_same_bytes(tmp_path: Path) -> None:
    done = node("node", "build.mjs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert built == {path.name: path.read_bytes() for path in FOLDER.iterdir()}, "dist/ is stale; run: make widget"


@pytest.mark.slow
def test_the_logic_holds_its_own_tests_and_types() -> None:
    for task in ("check", "test"):
        done = node("npm", "run", "--silent", task)
        assert done.returncode == 0, done.stdout[-4_000:] + done.stderr
    assert int(re.findall(r"# pass (\d+)", done.stdout)[0]) >= 28
