"""Commands on the record: why a turn was answered as it was, and copies of everything that can be brought back."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import FrontdeskError
from bot.cli.output import ConfigOption, JsonFlag, emit, note, why_found
from bot.home import Home, running_service
from bot.settings import load_settings

if TYPE_CHECKING:
    from bot.conversation.messages import Part
    from bot.storage.trace import Trace

COPIED = ("knowledge", "models", "transcripts", "proposals", "files")
"""Folders of immutable versions and whole files: a plain copy of them is consistent at any moment."""


def register(commands: typer.Typer) -> None:
    commands.command()(explain)
    commands.command()(backup)
    commands.command()(restore)


def explain(
    turn: Annotated[str, typer.Argument(help="Id of a turn, as every reply carries it.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Why a turn was answered as it was. Example: frontdesk explain 3f9c0e"""
    from bot.storage.database import Database
    from bot.storage.trace import trace

    home = load_settings(config).home_folder
    if not home.database.exists():
        raise FrontdeskError(f"{home.database}: nothing recorded yet; start the service with `frontdesk serve`")
    with Database(home.database) as database:
        found = trace(database, turn)
    emit(json, found, _story(found))


def _story(found: Trace) -> list[str]:
    turn = found.turn
    lines = [f"turn {turn.id}, number {found.sequence} of conversation {found.conversation.id}"]
    lines += [f"  {line.speaker}: {line.text}" for past in found.before[-3:] for line in past.lines]
    lines += [f"asked: {turn.message.text}", f"said ({turn.reply.status}): {turn.reply.text}"]
    for number, part in enumerate(turn.parts, 1):
        lines += _part(number, part)
    limits = turn.thresholds
    lines += [
        f"thresholds: intent {limits.intent:.2f}, clarify {limits.clarify:.2f}, "
        f"out of scope {limits.out_of_scope:.2f}, passage {limits.passage:.2f}, sentence {limits.sentence:.2f}",
        f"versions: model {turn.versions.model}, index {turn.versions.index}, playbook {turn.versions.playbook}",
        "milliseconds: " + ", ".join(f"{step} {ms:.1f}" for step, ms in turn.milliseconds),
    ]
    lines += [f"feedback: {given.verdict} {given.reason} {given.comment}".rstrip() for given in found.feedback]
    return lines


def _part(number: int, part: Part) -> list[str]:
    seen = part.understanding
    runners = ", ".join(f"{c.intent} {c.confidence:.2f}" for c in seen.runners_up)
    lines = [
        f"question {number}: {part.question}",
        f"  decided: {type(part.decision).__name__}",
        f"  intent: {seen.intent or 'none'} at {seen.confidence:.2f}; next: {runners or 'none'}",
        f"  out of scope: {seen.out_of_scope:.2f}; language: {seen.language}"
        + (f"; {seen.sentiment}" if seen.sentiment else "")
        + ("; urgent" if seen.urgent else ""),
    ]
    lines += [f"  {entity.kind}: {entity.value} ({entity.why})" for entity in seen.entities]
    lines += [
        f"  passage {hit.passage.source} [{' > '.join(hit.passage.heading)}] {why_found(hit)}" for hit in part.hits
    ]
    return lines


def backup(
    to: Annotated[Path | None, typer.Argument(help="Folder of the copy; default <home>/backups/<time>.")] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """A checked copy of everything, also while the service runs. Example: frontdesk backup /mnt/copies/today"""
    import shutil

    from bot.storage.backup import backup_database

    home = load_settings(config).home_folder
    to = to or home.backups / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    if to.exists() and any(to.iterdir()):
        raise FrontdeskError(f"{to}: not empty; give a new folder")
    if not home.database.exists():
        raise FrontdeskError(f"{home.database}: nothing recorded yet; there is nothing to copy")
    staging = to.with_name(f".{to.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    target = Home(staging)
    note(f"copying {home.database}")
    backup_database(home.database, target.database)
    for name in COPIED:
        if (home.folder / name).is_dir():
            note(f"copying {home.folder / name}")
            shutil.copytree(home.folder / name, staging / name, ignore=_unfinished)
    if to.exists():
        to.rmdir()
    os.replace(staging, to)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    emit(json, {"backup": str(to), "bytes": size}, [f"copied {size / 1e6:,.1f} MB to {to}"])


def _unfinished(folder: str, names: list[str]) -> list[str]:
    """Locks and versions that are being written; what is hidden inside a whole version belongs to it."""
    inside_a_version = "versions" in Path(folder).parent.parts
    return [] if inside_a_version else [name for name in names if name.startswith(".")]


def restore(
    source: Annotated[Path, typer.Argument(help="Folder that `frontdesk backup` made.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Bring a copy back; what was there is kept beside it. Example: frontdesk restore /mnt/copies/today"""
    import shutil

    from bot.storage.backup import restore_database

    home = load_settings(config).home_folder
    copy = Home(source)
    if not copy.database.is_file():
        raise FrontdeskError(f"{source}: no frontdesk.sqlite3 in it; give a folder that `frontdesk backup` made")
    service = running_service(home.folder)
    if service is not None:
        raise FrontdeskError(f"{home.folder}: a service (process {service.pid}) uses it; stop it first")
    home.folder.mkdir(parents=True, exist_ok=True)
    restore_database(copy.database, home.database)
    kept = home.folder / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for name in COPIED:
        if not (source / name).is_dir():
            continue
        incoming = home.folder / f".{name}.incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        shutil.copytree(source / name, incoming)
        if (home.folder / name).exists():
            kept.mkdir(exist_ok=True)
            os.replace(home.folder / name, kept / name)
        os.replace(incoming, home.folder / name)
    emit(json, {"restored": source, "home": home.folder, "kept": kept}, [f"restored {source} into {home.folder}"])
