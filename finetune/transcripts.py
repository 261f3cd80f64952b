"""Old chats become training rows on disk, personal data masked.

Owns the import from file to rows and the reading back. What the formats are, what is personal and which reply answered
what is said elsewhere (`dialogues`, `helpdesks`, `slack_export`, `masking`, `pairing`). Knows nothing about models.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from finetune.dialogues import MAX_ID, Dialogue, read_csv, read_jsonl
from finetune.examples import (
    OUT_OF_SCOPE,
    Example,
    FinetuneError,
    Problem,
    each_row,
    example_from,
    parse_object,
    read_lines,
)
from finetune.helpdesks import read_intercom, read_zendesk
from finetune.masking import Masked, MaskingReport, mask_texts
from finetune.names import party_pattern
from finetune.pairing import examples_from
from finetune.personal import find_personal
from finetune.slack_export import read_slack

Format = Literal["jsonl", "csv", "slack", "zendesk", "intercom"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `file` holds the rows; `withheld` of them are without consent."""

    file: Path
    dialogues: int
    turns: int
    rows: int
    labelled: int
    paired: int
    withheld: int
    masked: tuple[Masked, ...]
    problems: tuple[Problem, ...]


# --------------------------------------------------------------------------------------------------------- reading

_READERS: Mapping[Format, Callable[[Path], Iterator[Dialogue | Problem]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "slack": read_slack,
    "zendesk": read_zendesk,
    "intercom": read_intercom,
}


def read_dialogues(path: Path, file_format: Format) -> Iterator[Dialogue | Problem]:
    """Yield the conversations of an export in order, and a Problem for each one that cannot be used.

    Raises FinetuneError when the export as a whole cannot be used.
    """
    return _READERS[file_format](path)


_SIGNS: tuple[tuple[Format, re.Pattern[bytes]], ...] = (
    ("slack", re.compile(rb"PK\x03\x04")),
    ("intercom", re.compile(rb'[\s\S]*"conversation_parts"')),
    ("zendesk", re.compile(rb'[\s\S]*"(?:requester_id|requester|tickets)"\s*:')),
    ("jsonl", re.compile(rb'[\s\S]*"turns"\s*:')),
    ("slack", re.compile(rb'\s*\[[\s\S]*"(?:ts|real_name)"\s*:')),
    ("csv", re.compile(rb"[^\n{\[]*\bconversation_id\b[^\n]*\n")),
)


def likely_format(path: Path) -> Format | None:
    """The format that a file looks like by its first 64 kB; None when it looks like none."""
    try:
        if path.is_dir():
            return "slack" if any(path.glob("*users.json")) or any(path.glob("*/*users.json")) else None
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError:
        return None
    return next((name for name, sign in _SIGNS if sign.match(head)), None)


# --------------------------------------------------------------------------------------------------------- storing


def import_transcripts(source: Path, file_format: Format, folder: Path) -> Imported:
    """Turn an export into masked training rows in `folder`, written whole or not at all, a conversation at a time.

    The name of the rows' file comes from its content, so importing the same export twice is the same as once. Bad
    conversations are skipped and reported. Raises FinetuneError when nothing usable is found, and then names the
    format that the file looks like.
    """
    hint = _hint(source, file_format)
    importing = _Import(mistaken=bool(hint))
    try:
        file = _write_whole(folder, source.stem, importing.lines(read_dialogues(source, file_format)))
    except FinetuneError as error:
        raise FinetuneError(f"{error}{hint}") from error
    if file is None:
        reason = f"{importing.problems[0]}" if importing.problems else "no agent reply answers a customer message"
        raise FinetuneError(f"{source} {reason}; nothing was imported{hint}")
    return Imported(
        file,
        importing.dialogues,
        importing.turns,
        importing.rows,
        importing.labelled,
        importing.paired,
        importing.withheld,
        importing.report.kinds(),
        tuple(importing.problems),
    )


def _hint(source: Path, file_format: Format) -> str:
    likely = likely_format(source)
    return f"; it looks like {likely}: give --format {likely}" if likely and likely != file_format else ""


class _Import:
    """The rows of an import as lines, and what they add up to; `mistaken` if the file looks like another format: then
    a refusal of which nothing else could be read is no row, or the mistake would pass for an import."""

    def __init__(self, *, mistaken: bool) -> None:
        self._mistaken = mistaken
        self.dialogues = self.turns = self.rows = self.labelled = self.paired = self.withheld = 0
        self.report = MaskingReport()
        self.problems: list[Problem] = []

    def lines(self, dialogues: Iterable[Dialogue | Problem]) -> Iterator[str]:
        for dialogue in dialogues:
            if isinstance(dialogue, Problem):
                self.problems.append(dialogue)
                continue
            if self._mistaken and not dialogue.turns:
                continue
            self.dialogues += bool(dialogue.turns)
            self.turns += len(dialogue.turns)
            masked = self._masked(dialogue)
            for example in list(examples_from(masked)) or _refusals(masked):
                self.rows += 1
                self.labelled += bool(example.intent)
                self.paired += bool(example.answer)
                self.withheld += not example.consent
                yield json.dumps(_row(example), ensure_ascii=False)

    def _masked(self, dialogue: Dialogue) -> Dialogue:
        """The conversation without personal data. An id that is personal, such as an address, becomes its hash."""
        texts = (*(turn.text for turn in dialogue.turns), *dialogue.topics)
        masked, counts = mask_texts(texts, dialogue.names)
        self.report.add(counts)
        # Of a turn that was nothing but characters without width nothing is left.
        turns = (replace(turn, text=text) for turn, text in zip(dialogue.turns, masked, strict=False) if text.strip())
        topics = tuple(topic[:MAX_ID] for topic in masked[len(dialogue.turns) :] if topic.strip())
        name = dialogue.id
        if find_personal(name, party_pattern(dialogue.names)):
            name = hashlib.sha256(name.encode()).hexdigest()[:16]
        return replace(dialogue, id=name, turns=tuple(turns), topics=topics)


def _refusals(dialogue: Dialogue) -> list[Example]:
    """What keeps the refusal of a conversation without rows: an older import may hold rows of it."""
    if dialogue.consent:
        return []
    group = f"conversation:{dialogue.id}"
    return [Example("(no consent)", OUT_OF_SCOPE, group=group, origin=dialogue.origin, consent=False)]


def _row(example: Example) -> dict[str, object]:
    row: dict[str, object] = {
        "text": example.text,
        "group": example.group,
        "origin": example.origin,
        "consent": example.consent,
    }
    if example.intent is not None:
        row["intent"] = example.intent or None
    if example.answer:
        row["answer"] = example.answer
    if example.topics:
        row["topics"] = list(example.topics)
    if example.history:
        row["history"] = [{"speaker": speaker, "text": text} for speaker, text in example.history]
    return row


def read_imported(folder: Path) -> Iterator[Example]:
    """All rows imported so far, one by one, in the order of the file names.

    Consent that was withdrawn in any of the files is withdrawn in all: a newer export lies beside the older ones. Who
    consents again is believed once those files are deleted.
    """
    files = sorted(folder.glob("*.jsonl"))
    withheld = _withheld(files)
    for file in files:
        for row in each_row(file):
            if isinstance(row, Problem):
                raise FinetuneError(f"{file} {row}; delete the file and import again")
            yield replace(row, consent=False) if row.group in withheld else row


def _withheld(files: Iterable[Path]) -> set[str]:
    """The conversations with a row without consent."""
    found = set()
    for file in files:
        for _, line in read_lines(file):
            # Reading a million rows as JSON twice takes as long as it sounds; few of them say "false" at all.
            if isinstance(line, str) and "false" in line:
                with suppress(ValueError):
                    row = example_from(parse_object(line))
                    if row.group and not row.consent:
                        found.add(row.group)
    return found


def _write_whole(folder: Path, stem: str, lines: Iterable[str]) -> Path | None:
    """A file of the lines, named after its content, there whole or not at all; None, and no file, without any line."""
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return None
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60]
    staged = folder / f".{stem}.{os.getpid()}.staged"
    content = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with staged.open("wb") as out:
                for line in chain((first,), lines):
                    raw = line.encode() + b"\n"
                    content.update(raw)
                    out.write(raw)
                out.flush()
                os.fsync(out.fileno())
            file = folder / f"{stem}-{content.hexdigest()[:12]}.jsonl"
            os.replace(staged, file)
        finally:
            staged.unlink(missing_ok=True)
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
    except OSError as error:
        raise FinetuneError(f"{folder}: cannot be written ({error.strerror}); free space or fix its rights") from error
    return file
