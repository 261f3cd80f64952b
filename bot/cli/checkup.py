"""What `frontdesk doctor` looks at: machine, weights, settings and home, each with what was found or the cure."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot import FrontdeskError
from bot.cli import assembly
from bot.cli.output import recorded
from bot.settings import Settings, load_settings
from finetune.examples import FinetuneError
from retriever.passages import RetrieverError

SPACE_NEEDED = 1_000_000_000
"""Bytes: a version of a large knowledge base beside the live one."""


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    found: str = ""
    problem: str = ""


def examine(config: str | None) -> list[Finding]:
    """Every check, none of which stops the others."""
    findings = [_check("python", _python), _check("sqlite", _sqlite)]
    try:
        settings = load_settings(config)
    except FrontdeskError as error:
        return [*findings, Finding("settings", problem=str(error).replace("\n", "; "))]
    checks: dict[str, Callable[[Settings], str]] = {
        "weights": _weights,
        "home": _home,
        "disk": _disk,
        "playbook": lambda s: f"{len(assembly.open_playbook(s).intents)} intents in {s.playbook}",
        "examples": lambda s: f"{sum(1 for _ in assembly.labelled_rows(s))} labelled messages",
        "validation": _validation,
        "tone": _tone,
        "articles": _articles,
        "knowledge": _knowledge,
        "model": _model,
        "record": _record,
    }
    return [*findings, *(_check(name, partial(look, settings)) for name, look in checks.items())]


def _check(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, found=look())
    except (FrontdeskError, RetrieverError, FinetuneError, OSError) as error:
        return Finding(what, problem=str(error))


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _sqlite() -> str:
    from pysqlite3 import dbapi2

    from bot.storage.database import check_sqlite

    check_sqlite(tuple(dbapi2.sqlite_version_info))
    return str(dbapi2.sqlite_version)


def _weights(settings: Settings) -> str:
    return str(assembly.base_folder(settings))


def _home(settings: Settings) -> str:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise FrontdeskError(f"{folder}: not writable; choose another `home` or change the rights of the folder")
    return str(settings.home)


def _disk(settings: Settings) -> str:
    folder = settings.home if settings.home.exists() else Path()
    free = shutil.disk_usage(folder).free
    if free < SPACE_NEEDED:
        raise FrontdeskError(f"{folder}: only {free / 1e6:,.0f} MB free; free some space, a new version needs room")
    return f"{free / 1e9:,.0f} GB free"


def _validation(settings: Settings) -> str:
    from bot.golden import read_golden

    return f"{len(read_golden(settings.validation))} questions" if settings.validation else "none set"


def _tone(settings: Settings) -> str:
    from finetune.tone import read_tones

    return f"{len(read_tones(settings.tone))} messages" if settings.tone else "none set"


def _articles(settings: Settings) -> str:
    if gone := [str(path) for path in settings.knowledge if not path.exists()]:
        raise FrontdeskError(f"{', '.join(gone)}: no such file or folder; correct `knowledge` of the settings")
    return ", ".join(map(str, settings.knowledge)) or "none set"


def _knowledge(settings: Settings) -> str:
    knowledge = assembly.open_knowledge_base(settings).load()
    if knowledge.warning:
        raise FrontdeskError(knowledge.warning)
    return f"{len(knowledge.passages)} passages in version {knowledge.version}"


def _model(settings: Settings) -> str:
    _, manifest = assembly.open_model(settings)
    return f"{manifest.kind} {manifest.version}, {len(manifest.labels)} intents"


def _record(settings: Settings) -> str:
    from bot.storage.conversations import count
    from bot.storage.database import Database

    path = settings.home_folder.database
    if not path.exists():
        return "nothing recorded yet"
    with Database(path) as database:
        return recorded(count(database))
