"""Where a company's things lie: the settings file that applies and the home folder, with the names inside it.

Knows no setting but `home`. `frontdesk ask` finds the running service through it and must not wait for imports: it gets
by without `pathlib` and `typing`, which cost eight milliseconds.
"""

from __future__ import annotations

import json
import os
import time

from bot import FrontdeskError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SETTINGS_FILE = "frontdesk.toml"
SERVICE_FILE = "service.json"
ROUNDING = 2.0
"""Seconds by which the clocks of files and processes may differ."""


class Home:
    """The one folder that holds everything a company's service has learnt and recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def database(self) -> Path:
        return self.folder / "frontdesk.sqlite3"

    @property
    def knowledge(self) -> Path:
        return self.folder / "knowledge"

    @property
    def crawl(self) -> Path:
        return self.folder / "crawl"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def transcripts(self) -> Path:
        return self.folder / "transcripts"

    @property
    def proposals(self) -> Path:
        return self.folder / "proposals"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def last_playbook(self) -> Path:
        return self.folder / "playbook.last.toml"

    @property
    def service(self) -> Path:
        return self.folder / SERVICE_FILE


def find_settings(option: str | None, environ: Mapping[str, str]) -> str | None:
    """The settings file: `--config`, else FRONTDESK_CONFIG, else ./frontdesk.toml when it exists."""
    named = option or environ.get("FRONTDESK_CONFIG")
    if named:
        if not os.path.isfile(named):
            raise FrontdeskError(f"{named}: no such settings file; give --config the path of a frontdesk.toml")
        return named
    return SETTINGS_FILE if os.path.isfile(SETTINGS_FILE) else None


def read_settings_file(path: str | None) -> dict[str, object]:
    """The raw table of the settings file, empty when there is none."""
    if path is None:
        return {}
    import tomllib

    try:
        with open(path, encoding="utf-8-sig") as file:  # editors on Windows put a mark before the first line
            return tomllib.loads(file.read())
    except OSError as error:
        raise FrontdeskError(f"{path}: cannot be read ({error.strerror}); give this user read access") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FrontdeskError(f"{path}: not valid TOML: {error}; correct that line") from None


def resolve(value: str, settings_file: str | None) -> str:
    """A path as the settings file means it: relative to the folder the file stands in."""
    return os.path.join(os.path.dirname(settings_file or ""), os.path.expanduser(value))


def home_folder(option: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The home folder, without checking any other setting."""
    if environ.get("FRONTDESK_HOME"):
        return resolve(environ["FRONTDESK_HOME"], None)
    path = find_settings(option, environ)
    return resolve(str(read_settings_file(path).get("home", ".frontdesk")), path)


class RunningService:
    """Where a service listens, and its process."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid


def running_service(home: str | Path) -> RunningService | None:
    """The service that said it serves this home folder, if its process still lives."""
    try:
        with open(os.path.join(home, SERVICE_FILE), encoding="utf-8") as file:
            said = json.load(file)
            written = os.fstat(file.fileno()).st_mtime
        service = RunningService(str(said["url"]), int(said["pid"]))
        os.kill(service.pid, 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    # After a kill or a power cut, another program may have got the number of a service that could not sign off.
    age = _age_of(service.pid)
    return service if age is None or age > time.time() - written - ROUNDING else None


def _age_of(pid: int) -> float | None:
    """Seconds since a process began; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # its name, in the brackets, may hold anything
    except (OSError, ValueError, IndexError):
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
