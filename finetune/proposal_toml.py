"""The file of a proposal: TOML that a person reads from top to bottom, edits and accepts.

Owns that form, both ways, and how an edited file is told from one that was not. Knows nothing about where files lie.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import assert_never, cast

from finetune.examples import MAX_INTENT, OTHERWISE, FinetuneError, clean_speaker, clean_text
from finetune.proposals import (
    ACTIONS,
    AnswerProposal,
    Asked,
    IntentProposal,
    Kind,
    LabelProposal,
    MergeProposal,
    Proposal,
    Words,
)

_WRITTEN = "# written: "

# ------------------------------------------------------------------------------------------------------- writing


def to_toml(proposal: Proposal) -> str:
    """The file of a proposal, to be read from top to bottom; its last line tells whether it was edited since."""
    match proposal:
        case AnswerProposal():
            body = _answer_file(proposal)
        case IntentProposal():
            body = _intent_file(proposal)
        case LabelProposal():
            body = _label_file(proposal)
        case MergeProposal():
            body = _merge_file(proposal)
        case _:
            assert_never(proposal)
    found = ["", "[found]", "# How the program knows this proposal again; leave it.", f"id = {_text(proposal.id)}"]
    if isinstance(proposal, LabelProposal):
        found += [f"row = {_text(proposal.row)}", f"given = {_text(proposal.given)}"]
    text = "\n".join([*body, *found]) + "\n"
    return f"{text}{_WRITTEN}{_digest(text)}\n"


def edited(text: str) -> bool:
    """Whether a person has changed a file that `to_toml` wrote."""
    before, mark, digest = text.rpartition(_WRITTEN)
    return not mark or digest.strip() != _digest(before)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _answer_file(proposal: AnswerProposal) -> list[str]:
    near = (
        [f"The questions resemble the intent {_plain(proposal.near)}: reject this if that one's answer serves them."]
        if proposal.near
        else []
    )
    return [
        *_head(
            proposal,
            f"Proposed answer: agents said this in {proposal.conversations} conversations.",
            *near,
            "",
            "Accepting adds the intent to the end of the playbook, with this answer and the first of these questions",
            "as examples, and labels them all for training. The answer is one agent's own wording: make it yours.",
            "Customers see the title when it is offered as an option. Nothing may be left empty.",
        ),
        f"intent = {_text(proposal.intent)}",
        *(f"title.{language} = {_text(text)}" for language, text in proposal.title),
        *(f"answer.{language} = {_text(text, block=True)}" for language, text in proposal.answer),
        "",
        "# Questions that were answered so, the most typical first. Delete what does not belong.",
        *_asked(proposal.asked),
        "",
        "# Other wordings of the same answer; they change nothing.",
        *_list("wordings", proposal.wordings),
        *_with_history(proposal.asked),
        *_why(conversations=proposal.conversations, cohesion=round(proposal.cohesion, 2), near=proposal.near),
    ]


def _intent_file(proposal: IntentProposal) -> list[str]:
    count = f"{proposal.conversations} conversations"
    first = (
        f"More examples for the intent {_plain(proposal.intent)}: unlabelled messages of {count} ask the same."
        if proposal.existing
        else f"Proposed intent: messages of {count} ask alike, and no intent covers them."
    )
    return [
        *_head(
            proposal,
            first,
            "",
            "Accepting labels these messages with the intent, and `frontdesk train` learns it. Customers get no",
            "approved answer until the playbook has an intent of that name. Rename it as you like: with the name of",
            "another intent the messages go there.",
        ),
        f"intent = {_text(proposal.intent)}",
        "",
        "# The most typical first. Delete what does not belong, add what does.",
        *_asked(proposal.asked),
        *_with_history(proposal.asked),
        *_why(existing=proposal.existing, conversations=proposal.conversations, cohesion=round(proposal.cohesion, 2)),
    ]


def _label_file(proposal: LabelProposal) -> list[str]:
    said = f"{proposal.given_probability:.0%} {_plain(proposal.given)}, {proposal.suggested_probability:.0%} "
    return [
        *_head(
            proposal,
            f"Probably mislabelled as {_plain(proposal.given)}.",
            f"A model that did not see this row says: {said}{_plain(proposal.intent)}.",
            "",
            "Accepting changes nothing in your files; the row is corrected whenever it is read for training.",
        ),
        f"text = {_text(proposal.asked.text, block=True)}",
        *_history(proposal.asked.history),
        "",
        f"# {' | '.join(ACTIONS)}",
        f"action = {_text(proposal.action)}",
        "# what relabel makes of it",
        f"intent = {_text(proposal.intent)}",
        *_why(
            given_probability=round(proposal.given_probability, 3),
            suggested_probability=round(proposal.suggested_probability, 3),
            weight=round(proposal.weight, 3),
        ),
    ]


def _merge_file(proposal: MergeProposal) -> list[str]:
    return [
        *_head(
            proposal,
            f"Perhaps one intent: {_plain(proposal.source)} and {_plain(proposal.into)}.",
            f"A model that has to choose between the two is right {proposal.accuracy:.0%} of the time; a coin would be "
            "50 %.",
            "",
            "Accepting trains all messages of `from` as messages of `into`, wherever they come from. Accept it only if",
            "one answer serves both. The playbook is not changed: remove the block of `from` there by hand afterwards.",
        ),
        f"from = {_text(proposal.source)}",
        f"into = {_text(proposal.into)}",
        "",
        "# Messages that were taken for the other one.",
        "confused = [",
        *(f"  [{_text(label)}, {_text(text)}]," for label, text in proposal.confused),
        "]",
        *_why(accuracy=round(proposal.accuracy, 3), from_rows=proposal.rows[0], into_rows=proposal.rows[1]),
    ]


def _head(proposal: Proposal, *lines: str) -> list[str]:
    commands = [f"  frontdesk proposals {verb} {proposal.id}" for verb in ("accept", "reject")]
    return [*(f"# {line}".rstrip() for line in (*lines, "", *commands)), ""]


def _asked(asked: Sequence[Asked]) -> list[str]:
    return _list("messages", [one.text for one in asked if not one.history])


def _with_history(asked: Sequence[Asked]) -> list[str]:
    lines = []
    for one in asked:
        if one.history:
            lines += ["", "[[in_conversation]]", *_history(one.history), f"text = {_text(one.text)}"]
    return lines


def _history(history: Sequence[tuple[str, str]]) -> list[str]:
    if not history:
        return []
    return ["history = [", *(f"  [{_text(speaker)}, {_text(text)}]," for speaker, text in history), "]"]


def _list(name: str, texts: Sequence[str]) -> list[str]:
    return [f"{name} = [", *(f"  {_text(text)}," for text in texts), "]"] if texts else [f"{name} = []"]


def _why(**values: bool | int | float | str) -> list[str]:
    return ["", "[why]", *(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())]


def _text(text: str, block: bool = False) -> str:
    """A TOML string. What JSON escapes TOML reads alike; DEL it wants escaped as well."""
    lines = [_escaped(line) for line in text.split("\n")]
    return '"""\n' + "\n".join(lines) + '"""' if block and len(lines) > 1 else '"' + "\\n".join(lines) + '"'


def _escaped(line: str) -> str:
    return json.dumps(line.encode("utf-8", "replace").decode(), ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")


def _plain(name: str) -> str:
    """An intent's name for a line of comment, where TOML allows no control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()) or "out of scope"


# ------------------------------------------------------------------------------------------------------- reading


def from_toml(text: str, kind: Kind, place: str) -> Proposal:
    """Read a proposal's file, edited or not. Raises FinetuneError with every problem, one a line: file, field, cure."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FinetuneError(f"{place}: not valid TOML: {error}; correct that line") from None
    fields = _Fields(table)
    match kind:
        case "answers":
            proposal: Proposal = _answer_from(fields)
        case "intents":
            proposal = _intent_from(fields)
        case "labels":
            proposal = _label_from(fields)
        case "merges":
            proposal = _merge_from(fields)
        case _:
            assert_never(kind)
    if fields.problems:
        raise FinetuneError("\n".join(f"{place}: {problem}" for problem in fields.problems))
    return proposal


def _answer_from(fields: _Fields) -> AnswerProposal:
    fields.known("intent", "title", "answer", "messages", "wordings", "in_conversation", "why", "found")
    why = fields.table("why")
    return AnswerProposal(
        fields.id("answers"),
        fields.intent("intent"),
        fields.words("title"),
        fields.words("answer"),
        fields.asked(),
        fields.texts("wordings"),
        int(why.number("conversations")),
        why.number("cohesion"),
        why.optional("near"),
    )


def _intent_from(fields: _Fields) -> IntentProposal:
    fields.known("intent", "messages", "in_conversation", "why", "found")
    why = fields.table("why")
    return IntentProposal(
        fields.id("intents"),
        fields.intent("intent"),
        bool(why.number("existing")),
        fields.asked(),
        int(why.number("conversations")),
        why.number("cohesion"),
    )


def _label_from(fields: _Fields) -> LabelProposal:
    fields.known("text", "history", "action", "intent", "why", "found")
    found, why = fields.table("found"), fields.table("why")
    action = next((one for one in ACTIONS if one == fields.optional("action")), None)
    if action is None:
        fields.report("action", f"is {fields.optional('action')!r:.40}; write one of {', '.join(ACTIONS)}")
    return LabelProposal(
        fields.id("labels"),
        found.text("row"),
        Asked(fields.text("text"), fields.lines("history")),
        found.optional("given"),
        action or "leave_out",
        fields.intent("intent") if action == "relabel" else fields.optional("intent"),
        why.number("given_probability"),
        why.number("suggested_probability"),
        why.number("weight"),
    )


def _merge_from(fields: _Fields) -> MergeProposal:
    fields.known("from", "into", "confused", "why", "found")
    why = fields.table("why")
    source, into = fields.intent("from"), fields.intent("into")
    if source and source == into:
        fields.report("into", f"is {into!r:.40} like `from`; name another intent")
    return MergeProposal(
        fields.id("merges"),
        source,
        into,
        (int(why.number("from_rows")), int(why.number("into_rows"))),
        why.number("accuracy"),
        fields.pairs("confused"),
    )


class _Fields:
    """Reads typed values out of one TOML table and collects what is wrong; what is wrong reads as empty."""

    def __init__(self, table: Mapping[str, object], key: str = "", problems: list[str] | None = None) -> None:
        self._table = table
        self._key = f"{key}." if key else ""
        self.problems: list[str] = [] if problems is None else problems

    def report(self, name: str, problem: str) -> None:
        self.problems.append(f"{self._key}{name}: {problem}")

    def known(self, *names: str) -> None:
        for name in self._table:
            if name not in names:
                self.report(name, f"unknown; known here are {', '.join(names)}")

    def table(self, name: str) -> _Fields:
        value = self._table.get(name, {})
        if not isinstance(value, dict):
            self.report(name, f"is {value!r:.40}, not a table; write [{name}]")
            value = {}
        return _Fields(cast(dict[str, object], value), name, self.problems)

    def id(self, kind: Kind) -> str:
        found = self.table("found")
        name = found.text("id")
        if name and not re.fullmatch(rf"{kind}/[\w-]+", name):
            found.report("id", f"is {name!r:.60}, not of the form {kind}/name-0123abcd; take it from the file's name")
        return name

    def text(self, name: str) -> str:
        return self._clean(self._table.get(name), name)

    def optional(self, name: str) -> str:
        value = self._table.get(name, "")
        return value if isinstance(value, str) else self._clean(value, name)

    def intent(self, name: str) -> str:
        value = self._clean(self._table.get(name), name, MAX_INTENT)
        if value.startswith(OTHERWISE):
            self.report(name, f"is {value!r:.40}; give it a name that does not begin with {OTHERWISE}")
        return value

    def number(self, name: str) -> float:
        """A number of [why], which explains and decides nothing: 0 where a person deleted it."""
        value = self._table.get(name, 0)
        if isinstance(value, int | float):
            return float(value)
        self.report(name, f"is {value!r:.40}, not a number")
        return 0.0

    def words(self, name: str) -> Words:
        value = self._table.get(name)
        if not isinstance(value, dict) or not value:
            self.report(name, f'is missing; write {name}.en = "..."')
            return ()
        words = cast(dict[str, object], value)
        return tuple((one, text if text == "" else self._clean(text, f"{name}.{one}")) for one, text in words.items())

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._clean(value, f"{name}[{n}]") for n, value in enumerate(self._items(name), 1))

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        found = []
        for number, pair in enumerate(self._items(name), 1):
            match pair:
                case [str(first), str(second)]:
                    found.append((first, second))
                case _:
                    self.report(f"{name}[{number}]", f'is {pair!r:.40}; write ["...", "..."]')
        return tuple(found)

    def lines(self, name: str) -> tuple[tuple[str, str], ...]:
        found = []
        for number, (speaker, text) in enumerate(self.pairs(name), 1):
            try:
                found.append((clean_speaker(speaker), clean_text(text, "text")))
            except ValueError as error:
                self.report(f"{name}[{number}]", str(error))
        return tuple(found)

    def asked(self) -> tuple[Asked, ...]:
        alone = [Asked(text) for text in self.texts("messages")]
        inside = []
        for number, item in enumerate(self._items("in_conversation"), 1):
            if isinstance(item, dict):
                table = _Fields(cast(dict[str, object], item), f"in_conversation[{number}]", self.problems)
                table.known("history", "text")
                inside.append(Asked(table.text("text"), table.lines("history")))
            else:
                self.report(f"in_conversation[{number}]", f"is {item!r:.40}; write [[in_conversation]]")
        if not alone and not inside and not self.problems:
            self.report("messages", "is empty; keep or write a message, or reject the proposal")
        return (*alone, *inside)

    def _items(self, name: str) -> list[object]:
        value = self._table.get(name, [])
        if isinstance(value, list):
            return cast(list[object], value)
        self.report(name, f"is {value!r:.40}, not a list; write {name} = [...]")
        return []

    def _clean(self, value: object, name: str, limit: int = 8_000) -> str:
        try:
            return clean_text(value, name, limit)
        except ValueError as error:
            # The reason begins with the name in quotes; the key says it already.
            self.report(name, str(error).removeprefix(f'"{name}" ') + "; correct it")
            return ""
