"""The home folder and the service that says it serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot import FrontdeskError
from bot.home import home_folder, running_service

ROOT = Path(__file__).parents[2]


def test_home_comes_from_environment_then_file_then_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_folder(None, {}) == ".frontdesk"
    (tmp_path / "frontdesk.toml").write_text('home = "state"')
    assert home_folder(None, {}) == "state"
    assert home_folder(None, {"FRONTDESK_HOME": "/srv/desk"}) == "/srv/desk"
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "other.toml").write_text('home = "../state"')
    assert home_folder("shop/other.toml", {}) == "shop/../state", "relative to the file"


def test_a_settings_file_with_the_mark_of_windows_editors_is_read(tmp_path: Path) -> None:
    written = tmp_path / "frontdesk.toml"
    written.write_text('home = "state"\r\n', "utf-8-sig")
    assert home_folder(str(written), {}) == str(tmp_path / "state")


def test_a_settings_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(FrontdeskError, match=r"/proc/self/mem: cannot be read \("):
        home_folder("/proc/self/mem", {})


def test_a_named_settings_file_must_exist() -> None:
    with pytest.raises(FrontdeskError, match="no such settings file"):
        home_folder("nowhere.toml", {})


@pytest.mark.parametrize("said", ["", "not json", "[]", '{"url": "http://x"}', '{"url": "http://x", "pid": 0.5e99}'])
def test_a_damaged_service_file_means_no_service(tmp_path: Path, said: str) -> None:
    (tmp_path / "service.json").write_text(said)
    assert running_service(tmp_path) is None


def test_a_dead_process_is_no_service(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": gone.pid}))
    assert running_service(tmp_path) is None


def test_a_living_process_is_found(tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    found = running_service(tmp_path)
    assert found is not None and (found.url, found.pid) == ("http://127.0.0.1:1", os.getpid())


def test_a_process_that_has_the_number_of_a_dead_service_is_none(tmp_path: Path) -> None:
    """After a power cut numbers are given out anew, and a service that never said goodbye must not bar the next one."""
    written = tmp_path / "service.json"
    written.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    os.utime(written, (0, 0))
    assert running_service(tmp_path) is None


def test_asking_waits_for_no_import_it_can_do_without() -> None:
    """Each costs a warm question milliseconds; the whole of `bot.ask` takes some twenty."""
    slow = {"pathlib", "typing", "dataclasses", "http.client", "urllib.request", "tomllib", "asyncio", "logging"}
    program = f"import sys, bot.ask; print(sorted({slow!r} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert said.stdout.strip() == "[]"
