"""Conversations as the importers hand them on, and the two plain formats that a company can write by itself.

Owns `Dialogue` and the reading of JSON Lines and CSV. Knows nothing about help desks, masking or training rows.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from finetune.examples import (
    MAX_INTENT,
    MAX_LINE,
    MAX_TEXT,
    OTHERWISE,
    FinetuneError,
    Origin,
    Problem,
    clean_consent,
    clean_speaker,
    clean_text,
    clean_topics,
    parse_object,
    read_lines,
)

MAX_DIALOGUE = 10_000_000
"""Bytes of one conversation in JSON Lines."""
MAX_ID = 200

JsonObject = dict[str, object]
"""A JSON object as it came, not yet checked; it does not leave the file that reads it."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One turn of a transcript; `template` names the canned reply that the agent chose, if any."""

    speaker: str
    text: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation in order. `names` are those of its parties where the export tells them: they are masked."""

    id: str
    turns: tuple[Spoken, ...]
    topics: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    origin: Origin = "import"
    consent: bool = True


def as_object(value: object) -> JsonObject:
    """The value if it is a JSON object, else an empty one: exports leave out or null what they do not know."""
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    return cast(list[object], value) if isinstance(value, list) else []


def as_name(value: object) -> str:
    """A name or number that identifies something, as text; empty for anything else."""
    if isinstance(value, str):
        return tidied(value)[:MAX_ID]
    return str(value)[:MAX_ID] if isinstance(value, int) and not isinstance(value, bool) else ""


def tidied(text: str) -> str:
    """What was said, as training can read it again: NFC, without control characters, cut at MAX_TEXT.

    Help desks keep what mail programs and scripts put in; one odd character does not cost the conversation.
    """
    plain = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n"))
    kept = "".join(c for c in plain if c in "\t\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    lines = (" ".join(line.split(" ")).strip() for line in kept.replace("\u00a0", " ").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()[:MAX_TEXT].strip()


def read_jsonl(path: Path) -> Iterator[Dialogue | Problem]:
    """`{"id", "turns": [{"speaker", "text", "template"?}], "topics"?, "consent"?}` a line; one line is in memory.

    A Problem for each line that cannot be used. Raises FinetuneError when the file cannot be read or is empty.
    """
    for number, line in read_lines(path, MAX_DIALOGUE):
        if isinstance(line, Problem):
            yield line
            continue
        try:
            row = parse_object(line)
        except ValueError as error:
            yield Problem(number, str(error))
        else:
            yield from read_one(number, row, _dialogue_from)


def read_one(number: int, row: JsonObject, read: Callable[[JsonObject], Dialogue]) -> Iterator[Dialogue | Problem]:
    """The conversation of a row, or what is wrong with it. Whatever that is, consent that the row does not clearly give
    is refused: an older import may hold the conversation."""
    try:
        yield read(row)
    except ValueError as error:
        name, consent = as_name(row.get("id")), row.get("consent")
        if not name or consent is None or consent is True:
            yield Problem(number, str(error))
        else:
            yield Problem(number, f"{error}; its conversation is without consent")
            yield Dialogue(name, (), consent=False)


def _dialogue_from(row: Mapping[str, object]) -> Dialogue:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        raise ValueError('"turns" is not a list of {"speaker", "text", "template"?}')
    return Dialogue(
        clean_text(row.get("id"), "id", MAX_ID),
        tuple(_spoken_from(turn, index) for index, turn in enumerate(cast(list[object], turns))),
        clean_topics(row.get("topics")),
        consent=clean_consent(row.get("consent")),
    )


def _spoken_from(turn: object, index: int) -> Spoken:
    if not isinstance(turn, dict):
        raise ValueError(f"turn {index + 1} is not an object")
    fields = cast(dict[str, object], turn)
    try:
        template = _template(fields["template"]) if fields.get("template") else ""
        return Spoken(clean_speaker(fields.get("speaker")), clean_text(fields.get("text"), "text"), template)
    except ValueError as error:
        raise ValueError(f"turn {index + 1}: {error}") from None


def _template(value: object) -> str:
    """The name of a canned reply: it becomes an intent, so it must be one that training can read again."""
    name = clean_text(value, "template", MAX_INTENT)
    if name.startswith(OTHERWISE):
        raise ValueError(f'"template" is {name!r:.40}; give it a name that does not begin with {OTHERWISE}')
    return name


_CONSENT = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
"""What is written where; an empty cell says nothing, as in JSON Lines. Anything else is no consent."""


def read_csv(path: Path) -> Iterator[Dialogue | Problem]:
    """Columns conversation_id, speaker, text and, if you have them, template and consent (true or false).

    The rows of a conversation stand in order, others may stand between them, so the table is held in memory whole. One
    row without clear consent is a conversation without. Of other conversations with a row that cannot be used nothing
    is, and a Problem names the first such row. Raises FinetuneError when the file is no such table.
    """
    table = _Table()
    before = csv.field_size_limit(MAX_LINE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            # "Consent" is meant as "consent": a column that is overlooked would be a refusal that is overlooked.
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
            missing = {"conversation_id", "speaker", "text"} - set(rows.fieldnames)
            if missing:
                raise FinetuneError(
                    f"{path} line 1: no column {', '.join(sorted(missing))}; "
                    "the columns are conversation_id, speaker, text, template and consent"
                )
            for row in rows:
                try:
                    table.add(row)
                except ValueError as error:
                    yield Problem(rows.line_num, str(error))
    except OSError as error:
        raise FinetuneError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except csv.Error as error:
        raise FinetuneError(f"{path}: not a CSV table ({error}); export it again") from error
    finally:
        csv.field_size_limit(before)
    yield from table.dialogues()


class _Table:
    """The conversations of a table, row by row."""

    def __init__(self) -> None:
        self._turns: dict[str, list[Spoken]] = {}
        self._withheld: set[str] = set()
        self._spoilt: set[str] = set()

    def add(self, row: Mapping[str | None, object]) -> None:
        """Raises ValueError for the first row of a conversation that cannot be used."""
        try:
            name = clean_text(row["conversation_id"], "conversation_id", MAX_ID)
        except ValueError as error:
            raise ValueError(f"{error}; the row is left out") from None
        # Before anything else of the row can be wrong: a refusal counts all the same.
        consent = str(row.get("consent") or "").strip().lower()
        if not _CONSENT.get(consent, False):
            self._withheld.add(name)
        turns = self._turns.setdefault(name, [])
        try:
            if any(as_list(row.get(None))):
                raise ValueError("more fields than columns; put a text with commas in quotes")
            turns.append(_spoken_in(row))
            if consent not in _CONSENT:
                raise ValueError(f'"consent" is {consent!r:.40}; write true or false')
        except ValueError as error:
            if name not in self._spoilt:
                self._spoilt.add(name)
                outcome = "without consent" if name in self._withheld else "left out"
                raise ValueError(f"{error}; its conversation is {outcome}") from None

    def dialogues(self) -> Iterator[Dialogue]:
        for name, turns in self._turns.items():
            # Turns around a gap would make wrong pairs. Those without consent train nothing, but keep the refusal.
            if name in self._withheld or name not in self._spoilt:
                yield Dialogue(name, tuple(turns), consent=name not in self._withheld)


def _spoken_in(row: Mapping[str | None, object]) -> Spoken:
    template = _template(row["template"]) if row.get("template") else ""
    speaker = str(row["speaker"] or "").strip().lower()
    return Spoken(clean_speaker(speaker), clean_text(row["text"], "text"), template)
