"""What agents answered, as training rows with the origin `staff`.

Owns turning the record into one file beside the imported chats, personal data masked as there, made anew before each
training: what a customer had deleted is gone from it then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from bot.settings import Settings
from bot.storage.conversations import UnknownConversation, find_conversation
from bot.storage.database import Database
from bot.storage.people import all_people
from bot.storage.staff_answers import StaffAnswer, staff_answers
from bot.storage.visitors import find_visitor
from finetune.dialogues import tidied
from finetune.masking import mask_texts

FILE = "staff.jsonl"


def keep_staff_rows(settings: Settings) -> int:
    """Writes the file, whole or not at all, and takes it away when there is nothing; how many rows it holds."""
    home = settings.home_folder
    file = home.transcripts / FILE
    if not home.database.exists():
        return 0
    with Database(home.database) as database:
        names = [person.name for person in all_people(database)]
        rows = (_row(answer, [*names, *_customer(database, answer.conversation)]) for answer in staff_answers(database))
        lines = [json.dumps(row, ensure_ascii=False) for row in rows if row is not None]
    if not lines:
        file.unlink(missing_ok=True)
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f".{FILE}.{os.getpid()}.staged")
    try:
        with staged.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            out.flush()
            os.fsync(out.fileno())
        os.replace(staged, file)
    finally:
        staged.unlink(missing_ok=True)
    return len(lines)


def _customer(database: Database, conversation: str) -> Sequence[str]:
    """The name that the customer is known by, which nothing in a text like "Hi Kari" gives away as one."""
    try:
        visitor = find_visitor(database, find_conversation(database, conversation).visitor)
    except UnknownConversation:  # deleted meanwhile
        return ()
    return () if visitor is None or not visitor.name else (visitor.name,)


def _row(answer: StaffAnswer, names: Sequence[str]) -> dict[str, object] | None:
    """A row as the importer writes them: a question, what came before it, and what the agent replied.

    None when nothing is left of either. Tidied last: a placeholder may be longer than what it stands for, and a row
    that cannot be read again would stop every training.
    """
    before = [text for _, text in answer.history]
    masked, _ = mask_texts((*before, answer.question, answer.reply), names)
    *history, question, reply = map(tidied, masked)
    if not question or not reply:
        return None
    row: dict[str, object] = {
        "text": question,
        "group": answer.conversation,
        "origin": "staff",
        "consent": True,
        "answer": reply,
    }
    if history:
        speakers: Iterator[str] = (speaker for speaker, _ in answer.history)
        row["history"] = [{"speaker": s, "text": t} for s, t in zip(speakers, history, strict=True) if t]
    return row
