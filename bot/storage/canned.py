"""Canned replies: texts that agents use often, by their titles.

Owns their order and their limits. Knows nothing about who may change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert as insert_or

from bot import FrontdeskError
from bot.conversation.messages import readable
from bot.storage.database import Database
from bot.storage.tables import CannedRow

LONGEST_TITLE = 80
LONGEST_TEXT = 4_000


@dataclass(frozen=True, slots=True)
class Canned:
    id: int
    title: str
    text: str


def all_canned(database: Database) -> Sequence[Canned]:
    """By title."""
    with database.read() as connection:
        rows = connection.execute(
            select(CannedRow.id, CannedRow.title, CannedRow.text).order_by(func.lower(CannedRow.title))
        ).all()
    return [Canned(row.id, row.title, row.text) for row in rows]


def keep_canned(database: Database, title: str, text: str) -> None:
    """Adds a reply, or gives that of the same title another text. Raises FrontdeskError."""
    title, text = " ".join(readable(title).split()), readable(text)
    if not title or len(title) > LONGEST_TITLE or not text or len(text) > LONGEST_TEXT:
        raise FrontdeskError(
            f"a canned reply has a title of 1 to {LONGEST_TITLE} characters and a text of 1 to {LONGEST_TEXT:,}"
        )
    added = insert_or(CannedRow).values(title=title, text=text, created_at=datetime.now(UTC))
    database.write(
        lambda connection: connection.execute(
            added.on_conflict_do_update(index_elements=["title"], set_={"text": text})
        )
    )


def drop_canned(database: Database, number: int) -> None:
    def drop(connection: Connection) -> None:
        connection.execute(delete(CannedRow).where(CannedRow.id == number))

    database.write(drop)
