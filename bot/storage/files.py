"""Files that a customer sends to a person: a row in the record, the content beside it under a name nobody can guess.

Owns what may be stored, judged by its content and not by what it calls itself, and that forgetting a conversation
deletes its files. The folder is no part of any web root: channels serve what is in it, as attachments.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from bot import FrontdeskError
from bot.conversation.messages import readable
from bot.storage.conversations import require_conversation
from bot.storage.database import Database
from bot.storage.faults import DiskFault, RecordUnavailable
from bot.storage.tables import FileRow, MessageRow

LARGEST_FILE = 10 * 2**20
"""Bytes."""

MOST_FILES = 20
"""In one conversation."""

LONGEST_NAME = 80

TYPES = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "application/pdf": (".pdf",),
    "text/plain": (".txt", ".log"),
}
"""What may be sent, with the endings a name of it may have. Nothing a browser or a desktop would run."""

_ON_ITS_WAY_SECONDS = 3600
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class FileRefused(FrontdeskError):
    """The file is not stored; the message says why, and what would be."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`after` is the place of the message it comes behind; `type` is what the content is."""

    id: str
    conversation: str
    after: int
    name: str
    bytes: int
    type: str
    created_at: datetime


class Files:
    """The files of all conversations, contents in `folder`, which is made when the first one comes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def keep(self, conversation: str, name: str, content: bytes) -> StoredFile:
        """Stores a file for good. Raises FileRefused, UnknownConversation, RecordUnavailable."""
        kind = type_of(content)
        if len(content) > LARGEST_FILE:
            raise FileRefused(f"the file has {len(content):,} bytes; send one of at most {LARGEST_FILE:,}")
        if not content:
            raise FileRefused("the file is empty; send one with something in it")
        if kind is None:
            raise FileRefused(f"files of this kind are not taken; send one of {', '.join(TYPES)}")
        file = secrets.token_urlsafe(16)
        now = datetime.now(UTC)

        def keep(connection: Connection) -> StoredFile:
            require_conversation(connection, conversation)
            of_it = FileRow.conversation_id == conversation
            if (connection.scalar(select(func.count()).where(of_it)) or 0) >= MOST_FILES:
                raise FileRefused(f"this conversation has {MOST_FILES} files already; send the rest by mail")
            after = connection.scalar(
                select(func.max(MessageRow.sequence)).where(MessageRow.conversation_id == conversation)
            )
            stored = StoredFile(file, conversation, after or 0, safe_name(name, kind), len(content), kind, now)
            connection.execute(
                insert(FileRow),
                {
                    "id": stored.id,
                    "conversation_id": conversation,
                    "after": stored.after,
                    "name": stored.name,
                    "bytes": stored.bytes,
                    "type": kind,
                    "created_at": now,
                },
            )
            return stored

        try:
            self._write(file, content)
            return self._database.write(keep)
        except DiskFault:  # the row may turn up when the record is opened anew
            raise
        except FrontdeskError:
            self._delete([file])
            raise
        except OSError as error:
            with suppress(OSError):
                self._delete([file])
            raise RecordUnavailable(
                f"{self._folder} cannot be written ({error.strerror}), the file is not stored; "
                "free some space, or give this user write access"
            ) from error

    def find(self, file: str) -> StoredFile | None:
        with self._database.read() as connection:
            row = connection.execute(select(FileRow.__table__).where(FileRow.id == file)).one_or_none()
        if row is None:
            return None
        return StoredFile(row.id, row.conversation_id, row.after, row.name, row.bytes, row.type, row.created_at)

    def of(self, conversation: str) -> tuple[StoredFile, ...]:
        """The files of a conversation in the order they came."""
        rows_of = select(FileRow.__table__).where(FileRow.conversation_id == conversation)
        with self._database.read() as connection:
            rows = connection.execute(rows_of.order_by(FileRow.created_at, FileRow.id)).all()
        return tuple(StoredFile(r.id, r.conversation_id, r.after, r.name, r.bytes, r.type, r.created_at) for r in rows)

    def path(self, file: StoredFile) -> Path:
        """Where the content lies."""
        return self._folder / file.id

    def sweep(self) -> int:
        """Deletes every content without a row: what a dying process had not yet recorded, or not yet deleted. Returns
        how many there were. What is younger than an hour may be on its way into the record and stays."""
        if not self._folder.is_dir():
            return 0
        before = time.time() - _ON_ITS_WAY_SECONDS
        found = {path.name for path in self._folder.iterdir() if path.stat().st_mtime < before}
        with self._database.read() as connection:
            known = set(connection.scalars(select(FileRow.id)))
        return self._delete(found - known)

    def forget(self, files: Iterable[StoredFile]) -> None:
        """Deletes the contents of files whose conversation is forgotten."""
        self._delete(file.id for file in files)

    def _write(self, file: str, content: bytes) -> None:
        """On the disk before its row is: a row never leads to nothing."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())

    def _delete(self, names: Iterable[str]) -> int:
        gone = 0
        for name in names:
            if _ID.fullmatch(name):
                (self._folder / name).unlink(missing_ok=True)
                gone += 1
        return gone


def type_of(content: bytes) -> str | None:
    """What the content is, by its first bytes; None for what is not taken."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(content) else "text/plain"


def safe_name(name: str, kind: str) -> str:
    """The name without folders and control characters, ending as its content does: no `invoice.png.exe` is saved."""
    endings = TYPES[kind]
    last = readable(name).replace("\\", "/").rpartition("/")[2]
    plain = re.sub(r'[<>:"|?*\x00-\x1f]+', "_", last).strip(" .") or "file"
    stem, dot, ending = plain.rpartition(".")
    if dot and f".{ending.lower()}" in endings and stem.strip(" ."):
        return f"{stem[:LONGEST_NAME]}.{ending.lower()}"
    return plain[:LONGEST_NAME] + endings[0]
