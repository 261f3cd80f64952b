"""Training rows: read, checked, and de-duplicated.

Owns `Example` and the rules every data set must pass. Knows nothing about models, files of a company's home or the
bot's database: rows come in as arguments.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

OUT_OF_SCOPE = ""
"""The intent of a row that the company says is nobody's business here; None means the row carries no intent label."""

OTHERWISE = "*"
"""Begins the classes of questions that were answered, but by no approved answer: no intents, yet not out of scope."""

MAX_TEXT = 8_000
MAX_LINE = 1_000_000
MAX_INTENT = 100
SPEAKERS = ("customer", "agent", "bot")

Origin = Literal["import", "playbook", "label", "review", "staff", "slack"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


Question = tuple[str, Sequence[tuple[str, str]]]
"""What is read: the last message, and the `(speaker, text)` lines before it, oldest first."""


class FinetuneError(Exception):
    """What a person can act on: names the file, line or value and the cure. Anything else that escapes is a bug."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled or paired customer message.

    `history` holds `(speaker, text)` oldest first, without `text`. `intent` is a name, `OUT_OF_SCOPE`, or None when
    the row only pairs a question with `answer` (the text of the passage or approved answer that resolved it).
    `topics` are what the company filed the conversation under, such as the articles that were used.
    `group` keeps rows of one conversation (or one near-duplicate cluster) on the same side of every split.
    """

    text: str
    intent: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    topics: tuple[str, ...] = ()
    group: str = ""
    origin: Origin = "import"
    consent: bool = True
    reviewer: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that cannot be used. `line` counts from 1."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file of examples held: the rows that can be used, in file order, and those that cannot."""

    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows ready for training, and what a person should know about them."""

    examples: tuple[Example, ...]
    warnings: tuple[str, ...]


def classed(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The rows, those that an agent answered in their own words with a class that begins with OTHERWISE as intent.

    Each topic is a class of its own. A row that was filed under a topic of some approved answer may be of that intent:
    it stays without a class.
    """
    approved = {topic for e in examples if e.intent for topic in e.topics}
    return tuple(
        replace(e, intent=OTHERWISE + next(iter(e.topics), ""))
        if e.intent is None and not approved.intersection(e.topics)
        else e
        for e in examples
    )


def approvable(label: str | None) -> bool:
    """Whether a class is an intent of the company's."""
    return label is not None and label != OUT_OF_SCOPE and not label.startswith(OTHERWISE)


# ---------------------------------------------------------------------------------------------------- reading


def read_lines(path: Path, max_line: int = MAX_LINE) -> Iterator[tuple[int, str | Problem]]:
    """Yield `(line number, text or Problem)` of a UTF-8 file, blank lines left out, never more than a line in memory.

    Raises FinetuneError when the file cannot be opened or holds nothing.
    """
    found = False
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(max_line + 1):
                number += 1
                if len(raw) > max_line and not raw.endswith(b"\n"):
                    while (rest := file.readline(max_line)) and not rest.endswith(b"\n"):
                        pass
                    found = True
                    yield number, Problem(number, f"longer than {max_line:,} bytes; split or delete it")
                    continue
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    found = True
                    yield number, Problem(number, f"not UTF-8 at byte {error.start}; save the file as UTF-8")
                    continue
                if text:
                    found = True
                    yield number, text
    except OSError as error:
        raise FinetuneError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    if not found:
        raise FinetuneError(f"{path}: is empty; give a file with one JSON object a line")


def parse_json(text: str | bytes) -> object:
    """Any JSON value. Raises ValueError with a reason a person understands."""
    try:
        return cast(object, json.loads(text))
    except RecursionError:
        raise ValueError("JSON nested too deeply; one flat object a line is expected") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON ({error}); fix or delete the line") from None


def parse_object(text: str) -> dict[str, object]:
    """One JSON object. Raises ValueError with a reason a person understands."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}, not an object; write one {{...}} a line")
    return cast(dict[str, object], value)


# Categories Cc and Cs but for tab and line ends. Of Cs: a lone surrogate cannot be written as UTF-8 again.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_text(value: object, name: str, limit: int = MAX_TEXT) -> str:
    """The text in NFC without outer blanks. Raises ValueError with the reason when it cannot be used."""
    if not isinstance(value, str):
        found = "missing" if value is None else f"a {type(value).__name__}"
        raise ValueError(f'"{name}" is {found}, not a text')
    text = unicodedata.normalize("NFC", value).strip()
    if not text:
        raise ValueError(f'"{name}" is empty')
    if len(text) > limit:
        raise ValueError(f'"{name}" has {len(text):,} characters; at most {limit:,} are allowed')
    if control := _CONTROL.search(text):
        raise ValueError(f'"{name}" holds the control character U+{ord(control.group()):04X}; remove it')
    return text


def clean_lines(value: object, name: str) -> tuple[tuple[str, str], ...]:
    """`[{"speaker", "text"}]` as pairs. Raises ValueError with the reason."""
    if not isinstance(value, list):
        raise ValueError(f'"{name}" is a {type(value).__name__}, not a list of {{"speaker", "text"}}')
    lines = []
    for index, line in enumerate(cast(list[object], value)):
        if not isinstance(line, dict):
            raise ValueError(f'"{name}" item {index + 1} is not an object with "speaker" and "text"')
        fields = cast(dict[str, object], line)
        lines.append((clean_speaker(fields.get("speaker")), clean_text(fields.get("text"), f"{name} text")))
    return tuple(lines)


def clean_topics(value: object) -> tuple[str, ...]:
    """A list of names, or nothing at all. Raises ValueError with the reason."""
    if not isinstance(value, list | None):
        raise ValueError(f'"topics" is a {type(value).__name__}, not a list of names')
    return tuple(clean_text(topic, "topics", 200) for topic in cast(list[object], value or []))


def clean_consent(value: object) -> bool:
    """Whether the customer's words may be learnt from; yes where nothing is said. Raises ValueError with the reason."""
    if not isinstance(value, bool | None):
        raise ValueError(f'"consent" is {value!r:.40}; write true or false')
    return value is not False


def clean_origin(value: object) -> Origin:
    """Where a row came from, "import" where nothing is said. Raises ValueError with the reason."""
    for origin in ORIGINS:
        if value == origin:
            return origin
    if value is None:
        return "import"
    raise ValueError(f'"origin" is {value!r:.40}; it is one of {", ".join(ORIGINS)}')


def clean_speaker(value: object) -> str:
    if not isinstance(value, str) or value not in SPEAKERS:
        raise ValueError(f"speaker {value!r:.40} is none of {', '.join(SPEAKERS)}")
    return value


def example_from(row: Mapping[str, object]) -> Example:
    """One row of the intents contract. `intent: null` means out of scope; no `intent` at all needs an `answer`.

    Raises ValueError with the reason.
    """
    text = clean_text(row.get("text"), "text")
    answer = clean_text(row["answer"], "answer") if row.get("answer") is not None else ""
    intent: str | None = None
    if "intent" in row:
        given = row["intent"]
        intent = OUT_OF_SCOPE if given is None else clean_text(given, "intent", MAX_INTENT)
        if intent.startswith(OTHERWISE):
            raise ValueError(f'"intent" is {intent!r:.40}; give it a name that does not begin with {OTHERWISE}')
    elif not answer:
        raise ValueError('has neither "intent" nor "answer"; write "intent": null for out of scope')
    history = clean_lines(row["history"], "history") if row.get("history") is not None else ()
    group = clean_text(row["group"], "group") if row.get("group") else ""
    return Example(
        text,
        intent,
        history,
        answer,
        clean_topics(row.get("topics")),
        group,
        clean_origin(row.get("origin")),
        clean_consent(row.get("consent")),
    )


def read_examples(path: Path, bad_rows: Literal["refuse", "skip"] = "refuse") -> Loaded:
    """Read an intents file: a line holds `text`, `intent`, and if you have them `history`, `answer`, `topics`,
    `group`, `origin` and `consent`.

    Raises FinetuneError on the first bad row when they are refused, and always when no row is usable.
    """
    rows = tuple(each_row(path))
    examples = tuple(row for row in rows if isinstance(row, Example))
    problems = tuple(row for row in rows if isinstance(row, Problem))
    if problems and (bad_rows == "refuse" or not examples):
        raise _refused(path, problems)
    return Loaded(examples, problems)


def each_example(path: Path) -> Iterator[Example]:
    """As `read_examples`, a row at a time; bad rows are told after the last one."""
    problems: list[Problem] = []
    for row in each_row(path):
        if isinstance(row, Problem):
            problems.append(row)
        else:
            yield row
    if problems:
        raise _refused(path, problems)


def each_row(path: Path) -> Iterator[Example | Problem]:
    """The rows of an intents file one by one, what is wrong with a bad one in its place."""
    for number, line in read_lines(path):
        try:
            yield line if isinstance(line, Problem) else example_from(parse_object(line))
        except ValueError as error:
            yield Problem(number, str(error))


def _refused(path: Path, problems: Sequence[Problem]) -> FinetuneError:
    more = f" ({len(problems) - 1} more bad rows)" if len(problems) > 1 else ""
    return FinetuneError(f"{path} {problems[0]}{more}")


# --------------------------------------------------------------------------------------------------- checking


def may_train(example: Example, slack: bool) -> bool:
    """Whether a row may be learnt from: with consent, and from Slack only where the company has decided so.

    Slack's terms of 29 May 2025 forbid training language models on data from its interfaces; whether that reaches this
    use is for the company to decide: https://slack.com/terms-of-service/api and
    https://api.slack.com/changelog/2025-05-terms-rate-limit-update-and-faq.
    """
    return example.consent and (slack or example.origin != "slack")


def normalised(text: str) -> str:
    """Letters with the marks on them and digits, case folded, single blanks: what makes two messages the same to a
    reader. A message of signs alone (a thumb up, a thumb down) is these."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = ""
    for c in folded:
        # Vowels of Hindi and Thai are marks; a mark behind a sign belongs to the sign.
        marks = plain[-1:].strip() and unicodedata.category(c).startswith("M")
        plain += c if c.isalnum() or marks else " "
    return " ".join(plain.split()) or " ".join(folded.split())


def prepare(examples: Sequence[Example]) -> Prepared:
    """Drop exact repeats; report repeats, contradictory labels and intents with a single example.

    Rows without consent are left out. Raises FinetuneError when there is nothing to tell apart.
    """
    allowed = [e for e in examples if e.consent]
    seen: dict[tuple[str, tuple[str, ...], str | None, str], Example] = {}
    labels: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for example in allowed:
        key = (normalised(example.text), tuple(normalised(text) for _, text in example.history))
        seen.setdefault((*key, example.intent, example.answer), example)
        if example.intent is not None:
            labels[key].add(example.intent)
    kept = tuple(seen.values())
    counts = Counter(e.intent for e in kept if e.intent)
    if len(counts) < 2:
        raise FinetuneError(f"training needs rows of at least two intents, found {len(counts)}; label more messages")
    warnings = []
    if len(allowed) < len(examples):
        warnings.append(f"{len(examples) - len(allowed)} rows without consent left out")
    if len(kept) < len(allowed):
        warnings.append(f"{len(allowed) - len(kept)} repeated rows left out")
    torn = sorted((key[0], sorted(found)) for key, found in labels.items() if len(found) > 1)
    for text, found in torn[:5]:
        names = ", ".join(name or "out of scope" for name in found)
        warnings.append(f"contradictory labels for {text[:60]!r}: {names}")
    if len(torn) > 5:
        warnings.append(f"{len(torn) - 5} more messages with contradictory labels")
    single = sorted(name for name, count in counts.items() if count == 1)
    if single:
        shown = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        warnings.append(f"{len(single)} intents with one example are trained but cannot be checked: {shown}")
    return Prepared(kept, tuple(warnings))


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over the canonical rows, independent of their order: equal means trained on the same data."""
    rows = sorted(
        json.dumps([e.text, e.intent, e.history, e.answer, e.topics], ensure_ascii=False, separators=(",", ":"))
        for e in examples
    )
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()
