"""What is installed from a wheel can do what a checkout can: pages, built widget, migrations, word lists are in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import ROOT

BESIDE_THE_CODE = (".html", ".css", ".js", ".svg", ".toml", ".LICENSE", ".mako", "NOTICES", "SOURCES")


@pytest.mark.slow
def test_everything_that_is_served_is_in_the_wheel_and_no_source_of_the_widget(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    within = set(ZipFile(wheel).namelist())
    widget = ROOT / "bot/channels/web/widget"
    built = widget / "dist"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("bot", "retriever", "finetune")
        for path in (ROOT / package).rglob("*")
        if path.name.endswith((".py", *BESIDE_THE_CODE)) and (widget not in path.parents or path.parent == built)
    }
    assert {"bot/channels/web/widget/dist/app.js", "bot/console/page/inbox.html"} <= wanted
    assert wanted - within == set()
    assert [name for name in within if name.endswith((".ts", ".tsx")) or "node_modules" in name] == []
