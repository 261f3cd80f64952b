"""Old chats become training rows: what the customer said, and which reply or answer resolved it.

Owns the transcripts contract, the pairing of questions with replies, and the masking of personal data before
anything is stored. Knows nothing about models or where a company keeps its files.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from finetune.examples import (
    MAX_LINE,
    Example,
    FinetuneError,
    Problem,
    clean_speaker,
    clean_text,
    clean_topics,
    example_from,
    parse_object,
    read_lines,
)

Format = Literal["jsonl", "csv"]

HISTORY_LINES = 8
"""Lines of conversation kept with a row; models read fewer."""
MAX_DIALOGUE = 10_000_000


@dataclass(frozen=True, slots=True)
class Spoken:
    """One turn of a transcript; `template` names the canned reply that the agent chose, if any."""

    speaker: str
    text: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Dialogue:
    id: str
    turns: tuple[Spoken, ...]
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `masked` counts personal values by kind; `file` holds the rows."""

    file: Path
    dialogues: int
    turns: int
    labelled: int
    paired: int
    masked: tuple[tuple[str, int], ...]
    problems: tuple[Problem, ...]


# ---------------------------------------------------------------------------------------------------- reading


def read_dialogues(path: Path, file_format: Format) -> Iterator[Dialogue | Problem]:
    """Yield the dialogues of a file in order, and a Problem for each one that cannot be used.

    Raises FinetuneError when the file as a whole cannot be used.
    """
    if file_format == "csv":
        yield from _read_csv(path)
        return
    for number, line in read_lines(path, MAX_DIALOGUE):
        if isinstance(line, Problem):
            yield line
            continue
        try:
            yield _dialogue_from(parse_object(line))
        except ValueError as error:
            yield Problem(number, str(error))


def _dialogue_from(row: Mapping[str, object]) -> Dialogue:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        raise ValueError('"turns" is not a list of {"speaker", "text", "template"?}')
    return Dialogue(
        clean_text(row.get("id"), "id", 200),
        tuple(_spoken_from(turn, index) for index, turn in enumerate(turns)),
        clean_topics(row.get("topics")),
    )


def _spoken_from(turn: object, index: int) -> Spoken:
    if not isinstance(turn, dict):
        raise ValueError(f"turn {index + 1} is not an object")
    try:
        template = clean_text(turn["template"], "template", 100) if turn.get("template") else ""
        return Spoken(clean_speaker(turn.get("speaker")), clean_text(turn.get("text"), "text"), template)
    except ValueError as error:
        raise ValueError(f"turn {index + 1}: {error}") from None


def _read_csv(path: Path) -> Iterator[Dialogue | Problem]:
    """Columns conversation_id, speaker, text and, if you have it, template; rows of a conversation in order."""
    dialogues: dict[str, list[Spoken]] = {}
    before = csv.field_size_limit(MAX_LINE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = {"conversation_id", "speaker", "text"} - set(rows.fieldnames or ())
            if missing:
                raise FinetuneError(
                    f"{path} line 1: no column {', '.join(sorted(missing))}; "
                    "the columns are conversation_id, speaker, text and template"
                )
            for row in rows:
                try:
                    name = clean_text(row["conversation_id"], "conversation_id", 200)
                    template = clean_text(row["template"], "template", 100) if row.get("template") else ""
                    spoken = Spoken(clean_speaker(row["speaker"]), clean_text(row["text"], "text"), template)
                except ValueError as error:
                    yield Problem(rows.line_num, str(error))
                    continue
                dialogues.setdefault(name, []).append(spoken)
    except OSError as error:
        raise FinetuneError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except csv.Error as error:
        raise FinetuneError(f"{path}: not a CSV table ({error}); export it again") from error
    finally:
        csv.field_size_limit(before)
    yield from (Dialogue(name, tuple(turns)) for name, turns in dialogues.items())


# ---------------------------------------------------------------------------------------------------- pairing

_ASKS = re.compile(
    r"\?|^(who|what|when|where|why|which|how|can|could|do|does|did|is|are|will|would|should|may|am|have|has)\b",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"^\W*(hi|hello|hey|good (morning|afternoon|evening)|thanks?|thank you|welcome|you'?re welcome|bye|goodbye"
    r"|ok|okay|sure|great|one moment|please wait|anything else|is there anything else|how (can|may) i help)\b",
    re.IGNORECASE,
)
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def examples_from(dialogue: Dialogue) -> Iterator[Example]:
    """One row per agent reply that a bot could have given in answer to the customer's last message.

    `intent` is the template, if the agent chose one; `answer` is the reply when it answers a question. Replies that
    follow another reply are joined to it: a bot answers a message once.
    """
    group = f"conversation:{dialogue.id}"
    lines: list[tuple[str, str]] = []
    index = 0
    while index < len(dialogue.turns):
        asked, index = _run(dialogue.turns, index, customer=True)
        replies, index = _run(dialogue.turns, index, customer=False)
        text = "\n".join(turn.text for turn in asked)
        reply = "\n".join(turn.text for turn in replies)
        template = next((turn.template for turn in replies if turn.template), None)
        if asked and replies:
            answer = reply if answers(text, reply) else ""
            if template or answer:
                yield Example(text, template, tuple(lines[-HISTORY_LINES:]), answer, dialogue.topics, group)
        lines += [(turn.speaker, turn.text) for turn in (*asked, *replies)]


def _run(turns: tuple[Spoken, ...], start: int, customer: bool) -> tuple[tuple[Spoken, ...], int]:
    end = start
    while end < len(turns) and (turns[end].speaker == "customer") is customer:
        end += 1
    return turns[start:end], end


_TOLD = 6
"""Words from which a message without any question is taken to tell of a problem ("my card was charged twice ...")."""


def answers(question: str, reply: str) -> bool:
    """Whether the reply plausibly answers a question or a problem: no greeting, no counter-question, long enough."""
    asks = _ASKS.search(question.strip()) is not None and _length(question) >= 4
    tells = _length(question) >= _TOLD and _CHATTER.match(question) is None
    return (
        (asks or tells)
        and _length(reply) >= 5
        and _CHATTER.match(reply) is None
        and not reply.rstrip().endswith(("?", "？"))
    )


def _length(text: str) -> int:
    """Words, a CJK character counting as half a word."""
    return len(text.split()) + len(_CJK.findall(text)) // 2


# ---------------------------------------------------------------------------------------------------- masking

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+|00|\(?0)\d?[\d ()./-]{6,17}\d(?![\w-])|(?<![\w.-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b"
)


def mask(text: str) -> tuple[str, dict[str, int]]:
    """The text with e-mail addresses, IBANs, card and phone numbers replaced by their kind, and how many of each.

    Only what checks out is masked (Luhn for cards, mod 97 for IBANs), so that order numbers stay. Masking twice
    changes nothing.
    """
    found: dict[str, int] = {}

    def put(kind: str, holds: Callable[[str], bool], match: re.Match[str]) -> str:
        if not holds(match.group()):
            return match.group()
        found[kind] = found.get(kind, 0) + 1
        return f"[{kind}]"

    for kind, pattern, holds in _PERSONAL:
        text = pattern.sub(partial(put, kind, holds), text)
    return text, found


def luhn(value: str) -> bool:
    """Whether the digits of a card number check out."""
    digits = [int(c) for c in value if c.isdigit()][::-1]
    total = sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return total % 10 == 0


def iban(value: str) -> bool:
    """Whether an international account number checks out."""
    compact = value.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _phone(value: str) -> bool:
    return 8 <= sum(c.isdigit() for c in value) <= 15


_PERSONAL: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", _EMAIL, bool),
    ("iban", _IBAN, iban),
    ("card", _CARD, luhn),
    ("phone", _PHONE, _phone),
)


# ---------------------------------------------------------------------------------------------------- storing


def import_transcripts(source: Path, file_format: Format, folder: Path) -> Imported:
    """Turn a file of transcripts into masked training rows in `folder`, written whole or not at all.

    The name of the rows' file comes from the content of the source, so importing the same file twice is the same as
    once. Bad dialogues are skipped and reported. Raises FinetuneError when nothing usable is found.
    """
    counts: dict[str, int] = {}
    problems: list[Problem] = []
    examples: list[Example] = []
    dialogues = turns = 0
    for dialogue in read_dialogues(source, file_format):
        if isinstance(dialogue, Problem):
            problems.append(dialogue)
            continue
        dialogues += 1
        turns += len(dialogue.turns)
        examples.extend(examples_from(_masked(dialogue, counts)))
    if not examples:
        reason = f"{problems[0]}" if problems else "no agent reply follows a customer message"
        raise FinetuneError(f"{source} {reason}; nothing was imported")
    lines = [json.dumps(_row(example), ensure_ascii=False) for example in examples]
    content = ("\n".join(lines) + "\n").encode()
    file = folder / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', source.stem)}-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"
    _write_whole(file, content)
    return Imported(
        file,
        dialogues,
        turns,
        sum(e.intent is not None for e in examples),
        sum(bool(e.answer) for e in examples),
        tuple(sorted(counts.items())),
        tuple(problems),
    )


def read_imported(folder: Path) -> tuple[Example, ...]:
    """All rows imported so far, in the order of the file names."""
    rows: list[Example] = []
    for file in sorted(folder.glob("*.jsonl")):
        for number, line in read_lines(file):
            try:
                if isinstance(line, Problem):
                    raise ValueError(line.reason)
                rows.append(example_from(parse_object(line)))
            except ValueError as error:
                raise FinetuneError(f"{file} line {number}: {error}; delete the file and import again") from error
    return tuple(rows)


def _masked(dialogue: Dialogue, counts: dict[str, int]) -> Dialogue:
    turns = []
    for turn in dialogue.turns:
        text, found = mask(turn.text)
        for kind, number in found.items():
            counts[kind] = counts.get(kind, 0) + number
        turns.append(Spoken(turn.speaker, text, turn.template))
    return Dialogue(dialogue.id, tuple(turns), dialogue.topics)


def _row(example: Example) -> dict[str, object]:
    row: dict[str, object] = {"text": example.text, "group": example.group}
    if example.intent is not None:
        row["intent"] = example.intent
    if example.answer:
        row["answer"] = example.answer
    if example.topics:
        row["topics"] = list(example.topics)
    if example.history:
        row["history"] = [{"speaker": speaker, "text": text} for speaker, text in example.history]
    return row


def _write_whole(file: Path, content: bytes) -> None:
    staged = file.with_name(f".{file.name}.{os.getpid()}.staged")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(staged, file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise FinetuneError(
            f"{file.parent}: cannot be written ({error.strerror}); free space or fix its rights"
        ) from error
