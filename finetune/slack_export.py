"""Slack workspace exports as conversations: one for each thread.

Owns the layout of the export (a zip or the unpacked folder), Slack's markup and who speaks: the one who opened the
thread is the customer, bots are bots, everybody else is an agent. Nothing is unpacked to disk. Knows nothing of rows.

Formats: https://slack.com/help/articles/220556107 (files of an export), https://docs.slack.dev/reference/events/message
(messages and their subtypes), https://docs.slack.dev/messaging/formatting-message-text (markup and escapes).
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from finetune.dialogues import Dialogue, JsonObject, Spoken, as_name, as_object, tidied
from finetune.examples import FinetuneError, Problem, parse_json

MAX_FILE = 100_000_000
"""Bytes of one file of the export, unpacked: a day of a busy channel has some hundred thousand."""
MAX_UNPACKED = 20_000_000_000
"""Bytes read from one export in all."""

_USERS = re.compile(r"(?:[^/]+/)?(?:org_)?users\.json")
_DAY = re.compile(r"([^/\\]+)/\d{4}-\d{2}-\d{2}\.json")
_SPOKEN = frozenset({"", "bot_message", "me_message", "thread_broadcast", "file_share", "file_comment"})
"""Subtypes that carry somebody's words; the others are joins, topics, pins, deletions, and what Slack may add."""
_AT = re.compile(r"(\d{1,12})\.(\d{1,9})")
_MARKUP = re.compile(r"<([@#!]?)([^<>|\n]*)(?:\|([^<>\n]*))?>")


@dataclass(frozen=True, slots=True)
class _User:
    """`shown` is how mentions name a user; `names` are all that the export knows, for masking."""

    shown: str
    names: tuple[str, ...]
    bot: bool


@dataclass(frozen=True, slots=True)
class _Message:
    """`text` is as Slack wrote it, `parent` the opener of the thread if a reply tells it."""

    at: tuple[int, int]
    thread: str
    user: str
    parent: str
    text: str
    bot: bool
    names: tuple[str, ...]


def read_slack(path: Path) -> Iterator[Dialogue | Problem]:
    """The threads of an export with at least one reply, channel by channel; a Problem for each file left out.

    A channel is held in memory at a time, for a thread may go on for days. Raises FinetuneError when it is no export.
    """
    with closing(_Folder(path) if path.is_dir() else _Zip(path)) as export:
        root = min(
            (re.sub(r"(?:org_)?users\.json$", "", name) for name in export.names if _USERS.fullmatch(name)),
            key=len,
            default=None,
        )
        days: dict[str, list[str]] = {}
        for name in sorted(export.names):
            if found := _DAY.fullmatch(name.removeprefix(root or "")):
                days.setdefault(found[1], []).append(name)
        if root is None or not days:
            missing = "users.json" if root is None else "folder of a channel with YYYY-MM-DD.json files"
            raise FinetuneError(f"{path}: no {missing} in it; give the zip that Slack sent, or its folder unpacked")
        files = (root + name for name in ("users.json", "org_users.json") if root + name in export.names)
        try:
            users = {user: known for name in files for user, known in _users(_objects(export, name))}
        except ValueError as error:
            raise FinetuneError(f"{path}: the list of users {error}") from None
        for channel, names in days.items():
            threads: dict[str, dict[tuple[int, int], _Message]] = {}
            for name in names:
                try:
                    rows = _objects(export, name)
                except ValueError as error:
                    yield Problem(1, f"of {as_name(name)}: {error}")
                    continue
                for message in filter(None, map(_message, rows)):
                    # What was edited may stand twice with one time; the later one is how it was left.
                    threads.setdefault(message.thread, {})[message.at] = message
            for thread in sorted(threads):
                messages = [threads[thread][at] for at in sorted(threads[thread])]
                dialogue = _dialogue(f"{channel}/{thread}", messages, users)
                if len(dialogue.turns) > 1:
                    yield dialogue


# ----------------------------------------------------------------------------------------------------- the archive


class _Export(Protocol):
    """The files of an export by their names, and their bytes."""

    names: frozenset[str]

    def read(self, name: str) -> bytes: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self._root = path.resolve()
        files = (file for file in self._root.glob("**/*.json") if file.is_file())
        inside = (file for file in files if file.resolve().is_relative_to(self._root))
        self.names = frozenset(file.relative_to(self._root).as_posix() for file in inside)

    def read(self, name: str) -> bytes:
        try:
            with (self._root / name).open("rb") as file:
                return _whole(file)
        except OSError as error:
            raise ValueError(f"cannot be read ({error.strerror}); check its rights") from None

    def close(self) -> None:
        """Nothing is open between two files."""


class _Zip:
    """What comes out is counted: the sizes that an archive states may be false. Its names are never paths."""

    # What Python's reader raises on damaged, encrypted or unknown archives.
    _BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError,
               IndexError, OSError)  # fmt: skip

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = MAX_UNPACKED
        try:
            self._archive = zipfile.ZipFile(path)
        except (FileNotFoundError, PermissionError) as error:
            raise FinetuneError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
        except self._BROKEN as error:
            raise FinetuneError(
                f"{path}: not a zip archive ({error}); give the zip that Slack sent, or its folder"
            ) from error
        self.names = frozenset(name for name in self._archive.namelist() if ".." not in name.split("/"))

    def read(self, name: str) -> bytes:
        try:
            with self._archive.open(name) as member:
                content = _whole(member)
        except self._BROKEN as error:
            raise ValueError(f"cannot be unpacked ({error or type(error).__name__}); export it again") from None
        self._left -= len(content)
        if self._left < 0:
            raise FinetuneError(f"{self._path}: more than {MAX_UNPACKED:,} bytes unpacked; export fewer months at once")
        return content

    def close(self) -> None:
        self._archive.close()


def _whole(file: IO[bytes]) -> bytes:
    content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ValueError(f"more than {MAX_FILE:,} bytes unpacked")
    return content


def _objects(export: _Export, name: str) -> list[JsonObject]:
    """The objects of a file that is one JSON list. Raises ValueError with the reason."""
    values = parse_json(export.read(name))
    if not isinstance(values, list):
        raise ValueError(f"is a JSON {type(values).__name__}, not a list; export it again")
    return [as_object(value) for value in values]


# -------------------------------------------------------------------------------------------------------- messages


def _users(rows: Iterable[JsonObject]) -> Iterator[tuple[str, _User]]:
    for row in rows:
        profile = as_object(row.get("profile"))
        names = tuple(sorted(_names(row) + _names(profile), key=lambda name: name.startswith("@")))
        shown = next(iter(names), "user").removeprefix("@")
        yield as_name(row.get("id")), _User(shown, names, row.get("is_bot") is True)


def _names(row: JsonObject) -> tuple[str, ...]:
    """Real names first: they are what a mention shows. Handles ("orders") may be words: they count behind an @ only."""
    keys = ("real_name", "display_name", "first_name", "last_name", "name")
    names = filter(None, (as_name(row.get(key)) for key in keys))
    return tuple(f"@{name}" if name.islower() and " " not in name else name for name in names)


def _message(row: JsonObject) -> _Message | None:
    """A message with words in it; None for everything else that a channel records."""
    at = _AT.fullmatch(as_name(row.get("ts")))
    subtype = as_name(row.get("subtype"))
    text = row.get("text")
    if row.get("type", "message") != "message" or subtype not in _SPOKEN or not at or not isinstance(text, str):
        return None
    user = as_name(row.get("user"))
    return _Message(
        (int(at[1]), int(at[2])),
        as_name(row.get("thread_ts")) or at[0],
        user,
        as_name(row.get("parent_user_id")),
        text,
        subtype == "bot_message" or user == "USLACKBOT" or bool(as_name(row.get("bot_id"))),
        _names(as_object(row.get("user_profile"))),
    )


def _dialogue(name: str, messages: Iterable[_Message], users: Mapping[str, _User]) -> Dialogue:
    turns: list[Spoken] = []
    names: dict[str, None] = {}
    opener: str | None = None
    for message in messages:
        if opener is None:
            # A root that was deleted is no message any more, but replies still name who wrote it.
            opener = message.parent or message.user
        known = users.get(message.user)
        text = tidied(_unmarked(message.text, users))
        names |= dict.fromkeys((*message.names, *(known.names if known else ())))
        for mention in (found for found in _MARKUP.finditer(message.text) if found[1] == "@"):
            names |= dict.fromkeys(users[mention[2]].names if mention[2] in users else (f"@{mention[3] or 'user'}",))
        bot = message.bot or (known is not None and known.bot)
        if text:
            turns.append(Spoken("bot" if bot else "customer" if message.user == opener != "" else "agent", text))
    return Dialogue(as_name(name), tuple(turns), names=tuple(names), origin="slack")


def _unmarked(text: str, users: Mapping[str, _User]) -> str:
    """Slack's markup as a person reads it: names of users and channels, labels of links, characters unescaped."""

    def shown(match: re.Match[str]) -> str:
        sign, target, label = match[1], match[2], match[3]
        if sign == "@":
            return f"@{users[target].shown if target in users else label or 'user'}"
        if sign == "#":
            return f"#{label or 'channel'}"
        if sign == "!":
            return label or f"@{target.partition('^')[0]}"
        return label or target.removeprefix("mailto:").removeprefix("tel:")

    return _MARKUP.sub(shown, text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
