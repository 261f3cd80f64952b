"""Where a company's things lie: the settings file that applies and the home folder, with the names inside it.

Standard library only, so that `frontdesk ask` finds the running service in milliseconds. Knows no setting but `home`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bot import FrontdeskError

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS_FILE = "frontdesk.toml"


class Home(NamedTuple):
    """The one folder that holds everything a company's service has learnt and recorded."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "frontdesk.sqlite3"

    @property
    def knowledge(self) -> Path:
        return self.folder / "knowledge"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def transcripts(self) -> Path:
        return self.folder / "transcripts"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def service(self) -> Path:
        return self.folder / "service.json"


def find_settings(option: str | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file: `--config`, else FRONTDESK_CONFIG, else ./frontdesk.toml when it exists."""
    named = option or environ.get("FRONTDESK_CONFIG")
    if named:
        if not Path(named).is_file():
            raise FrontdeskError(f"{named}: no such settings file; give --config the path of a frontdesk.toml")
        return Path(named)
    return Path(SETTINGS_FILE) if Path(SETTINGS_FILE).is_file() else None


def read_settings_file(path: Path | None) -> dict[str, object]:
    """The raw table of the settings file, empty when there is none."""
    if path is None:
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FrontdeskError(f"{path}: not valid TOML: {error}; correct that line") from None


def resolve(value: str, settings_file: Path | None) -> Path:
    """A path as the settings file means it: relative to the folder the file stands in."""
    return (settings_file.parent if settings_file else Path()) / Path(value).expanduser()


def find_home(option: str | None, environ: Mapping[str, str] = os.environ) -> Home:
    """The home folder, without checking any other setting."""
    if environ.get("FRONTDESK_HOME"):
        return Home(Path(environ["FRONTDESK_HOME"]))
    path = find_settings(option, environ)
    return Home(resolve(str(read_settings_file(path).get("home", ".frontdesk")), path))


class RunningService(NamedTuple):
    url: str
    pid: int


def running_service(home: Home) -> RunningService | None:
    """The service that said it serves this home, if its process still lives."""
    try:
        said = json.loads(home.service.read_text("utf-8"))
        service = RunningService(str(said["url"]), int(said["pid"]))
        os.kill(service.pid, 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return service
