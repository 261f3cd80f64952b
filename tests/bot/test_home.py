"""The home folder and the service that says it serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot import FrontdeskError
from bot.home import Home, RunningService, find_home, running_service


def test_home_comes_from_environment_then_file_then_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_home(None, {}).folder == Path(".frontdesk")
    (tmp_path / "frontdesk.toml").write_text('home = "state"')
    assert find_home(None, {}).folder == Path("state")
    assert find_home(None, {"FRONTDESK_HOME": "/srv/desk"}).folder == Path("/srv/desk")


def test_a_named_settings_file_must_exist() -> None:
    with pytest.raises(FrontdeskError, match="no such settings file"):
        find_home("nowhere.toml", {})


@pytest.mark.parametrize("said", ["", "not json", "[]", '{"url": "http://x"}', '{"url": "http://x", "pid": 0.5e99}'])
def test_a_damaged_service_file_means_no_service(tmp_path: Path, said: str) -> None:
    (tmp_path / "service.json").write_text(said)
    assert running_service(Home(tmp_path)) is None


def test_a_dead_process_is_no_service(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": gone.pid}))
    assert running_service(Home(tmp_path)) is None


def test_a_living_process_is_found(tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    assert running_service(Home(tmp_path)) == RunningService("http://127.0.0.1:1", os.getpid())
