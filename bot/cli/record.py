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
"""Folders of immutable versions and whole files."""

COPIES = 5
"""Times that a folder is copied whose version changes meanwhile."""

SET_ASIDE = ".before-restore"
"""What `restore_database` puts behind the name of the record that was there."""


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
    # Absolute: what is made beside it needs its name, which "." does not have.
    to = (to or home.backups / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")).absolute()
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise FrontdeskError(f"{to}: not empty; give a new folder")
    if not home.database.exists():
        raise FrontdeskError(f"{home.database}: nothing recorded yet; there is nothing to copy")
    staging = to.with_name(f".{to.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        note(f"copying {home.database}")
        backup_database(home.database, Home(staging).database)
        for name in COPIED:
            if (home.folder / name).is_dir():
                note(f"copying {home.folder / name}")
                _copy_folder(home.folder / name, staging / name)
        if to.exists():
            to.rmdir()
        os.replace(staging, to)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)  # half a copy of every night would fill the disk
        raise
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    emit(json, {"backup": str(to), "bytes": size}, [f"copied {size / 1e6:,.1f} MB to {to}"])


def _copy_folder(source: Path, to: Path) -> None:
    """A copy whose `CURRENT`, if it has one, names a version that is in it, whole: while it is the current one, none is
    deleted. Another that came meanwhile is copied anew."""
    import shutil

    for _ in range(COPIES):
        current = _current(source)
        try:
            shutil.copytree(source, to, ignore=_unfinished)
        except shutil.Error as error:
            # What was deleted since it was listed, by a customer or with an old version, is no part of the copy.
            failed = [(path, why) for path, _, why in error.args[0] if Path(path).exists()]
            if failed:
                path, why = failed[0]
                raise FrontdeskError(f"{path}: cannot be copied ({why}); see to it, then try again") from None
        if current == _current(to) == _current(source):
            return
        shutil.rmtree(to)
    raise FrontdeskError(f"{source}: its version changes faster than it can be copied; try again in a while")


def _current(folder: Path) -> bytes | None:
    try:
        return (folder / "CURRENT").read_bytes()
    except FileNotFoundError:
        return None


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
    # Each restore has a folder of its own: the next one must not take the place of what no copy has.
    kept = home.folder / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    incoming = {name: home.folder / f".{name}.incoming" for name in COPIED if (source / name).is_dir()}
    try:
        # First of all, for there may be no room: then everything is as it was.
        for name, folder in incoming.items():
            shutil.rmtree(folder, ignore_errors=True)
            _copy_folder(source / name, folder)
        _keep_record(home, kept, SET_ASIDE)  # of a restore that was killed before it came to that
        restore_database(copy.database, home.database)
    except BaseException:
        for folder in incoming.values():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    _keep_record(home, kept, "")
    for name, folder in incoming.items():
        if (home.folder / name).exists():
            kept.mkdir(exist_ok=True)
            os.replace(home.folder / name, kept / name)
        os.replace(folder, home.folder / name)
    before = kept if kept.exists() else None
    lines = [f"restored {source} into {home.folder}", *([f"what was there before is in {before}"] if before else [])]
    emit(json, {"restored": source, "home": home.folder, "kept": before}, lines)


def _keep_record(home: Home, kept: Path, ending: str) -> None:
    """Moves the record that was set aside, if there is one, into `kept`; `ending` takes the place of SET_ASIDE."""
    for path in home.folder.glob(f"{home.database.name}{SET_ASIDE}*"):
        kept.mkdir(exist_ok=True)
        os.replace(path, kept / path.name.replace(SET_ASIDE, ending))
