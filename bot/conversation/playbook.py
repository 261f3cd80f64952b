"""The playbook: which intents a company answers, in which words, and what it asks for first.

Owns the format of `playbook.toml`, its checks and the frozen values. A support lead edits the file by hand, so every
problem is reported at once, with the key it stands at. Knows nothing about models, articles' contents or channels.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bot import FrontdeskError
from bot.conversation.entities import KINDS, EntityKind, of_format
from bot.conversation.messages import HandOverReason
from bot.conversation.words import content_words

IntentKind = Literal["answer", "small_talk", "hand_over"]

TALK_TO_PERSON = "talk_to_person"
"""The intent whose hand-over was asked for by the customer; every other hand-over intent is the company's policy."""

PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)\}")
_NAME = re.compile(r"[a-z0-9_]+")
_LANGUAGE = re.compile(r"[a-z]{2,3}")

_BUILT_IN = {
    "en": {
        "waiting": "A colleague has been asked to join and will answer here. I am keeping your messages for them.",
        "cancelled": "All right, I have stopped that. What else can I help you with?",
        "no_text": "I could not make out a question in that. What can I help you with?",
        "anything_else": "All right. Is there anything else I can help you with?",
        "not_known_part": "About “{question}”: I did not find that in our help articles.",
        "talk_to_person": "Talk to a person",
    },
    "zh": {
        "waiting": "已经通知同事，他们会在这里回复您。您发的消息我会一并转给他们。",
        "cancelled": "好的，已取消。还有什么可以帮您？",
        "no_text": "我没有看到具体的问题。请问有什么可以帮您？",
        "anything_else": "好的。还有什么可以帮您的吗？",
        "not_known_part": "关于“{question}”：我在帮助文章里没有找到答案。",
        "talk_to_person": "转人工客服",
    },
}
"""Wordings that a playbook may replace but need not write, for the languages that we can write ourselves."""

_REQUIRED_TEXTS = ("not_known", "clarify", "handed_over", "error", "offer_person", "also")
_OPTIONAL_TEXTS = tuple(_BUILT_IN["en"])


@dataclass(frozen=True, slots=True)
class Wording:
    """One thing said in several languages; the company's first language stands first and is the fallback."""

    said: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.said)

    def in_language(self, language: str) -> str:
        """The words in `language`, else in the company's first language, else empty."""
        return next((text for name, text in self.said if name == language), self.said[0][1] if self.said else "")


@dataclass(frozen=True, slots=True)
class Texts:
    """The fixed wordings of one language. `reasons` holds what is said instead of `handed_over` for a reason."""

    language: str
    not_known: str
    clarify: str
    handed_over: str
    error: str
    offer_person: str
    also: str
    waiting: str
    cancelled: str
    no_text: str
    anything_else: str
    not_known_part: str
    talk_to_person: str
    reasons: tuple[tuple[HandOverReason, str], ...] = ()

    def for_reason(self, reason: HandOverReason) -> str:
        """What a customer is told when a person takes over for `reason`."""
        fallback = self.error if reason == "error" else self.handed_over
        return next((text for name, text in self.reasons if name == reason), fallback)


@dataclass(frozen=True, slots=True)
class Slot:
    """Something a customer must tell before an answer is possible. `pattern` is the company's own format, or empty."""

    name: str
    kind: EntityKind
    pattern: str
    ask: Wording
    invalid: Wording


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing customers want and the approved way to meet it. `then` brings a person after the answer."""

    name: str
    kind: IntentKind
    title: Wording
    answer: Wording
    slots: tuple[str, ...]
    article: str
    then: Literal["", "hand_over"]
    suggestions: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    """`(language, text)`."""


@dataclass(frozen=True, slots=True)
class Playbook:
    """Everything the company approved, checked. `version` is a hash of the file, so an answer names its wording."""

    company: str
    languages: tuple[str, ...]
    texts: tuple[Texts, ...]
    slots: tuple[Slot, ...]
    intents: tuple[Intent, ...]
    version: str

    def intent(self, name: str) -> Intent | None:
        """The intent of that name; None for a name that an older playbook or model knew."""
        return next((intent for intent in self.intents if intent.name == name), None)

    def slot(self, name: str) -> Slot | None:
        """The slot of that name, or None."""
        return next((slot for slot in self.slots if slot.name == name), None)

    def is_article(self, source: str, article: str) -> bool:
        """Whether a source of knowledge is the `article` that an intent names, or its copy in another language."""
        return bool(article) and source in (article, *(f"{language}/{article}" for language in self.languages))

    def titled(self, text: str, names: Iterable[str]) -> tuple[Intent, ...]:
        """Those of the intents `names` in whose title a word of `text` stands that carries content."""
        words = set(content_words(text))
        intents = [intent for name in names if (intent := self.intent(name)) is not None]
        return tuple(
            one for one in intents if words.intersection(content_words(" ".join(t for _, t in one.title.said)))
        )

    def value_for(self, slot: Slot, values: Iterable[str], filled: Mapping[str, str]) -> str:
        """The first of `values`, of the slot's kind, that may be the slot's; empty when none may.

        Not what another slot has (`filled`), and not what is of another slot's format, unless it is of this one's too.
        """
        others = [other.pattern for other in self.slots if other.kind == slot.kind and other.name != slot.name]
        for value in values:
            foreign = any(of_format(value, pattern) for pattern in others) and not of_format(value, slot.pattern)
            if value and value not in filled.values() and not foreign:
                return value
        return ""

    def texts_in(self, language: str) -> Texts:
        """The fixed wordings in `language`, else in the company's first language."""
        return next((texts for texts in self.texts if texts.language == language), self.texts[0])

    def patterns(self) -> tuple[tuple[EntityKind, str], ...]:
        """The company's own formats, `(entity kind, regular expression)`, for the entity recognisers."""
        return tuple((slot.kind, slot.pattern) for slot in self.slots if slot.pattern)


def load_playbook(path: Path, articles: Collection[str] | None = None) -> Playbook:
    """Reads and checks a playbook.

    `articles` are the known knowledge sources; None leaves cited articles unchecked (nothing is ingested yet).
    Raises FrontdeskError listing every problem, one a line, each with the file and the key.
    """
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise FrontdeskError(f"{path}: {reason}; name a playbook file that can be read") from error
    except UnicodeDecodeError as error:
        raise FrontdeskError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise FrontdeskError(f"{path}: not valid TOML: {error}; correct that line") from error
    check = _Check()
    playbook = _playbook(table, check, hashlib.sha256(content).hexdigest()[:12])
    _check_references(playbook, articles, check)
    if check.problems:
        raise FrontdeskError("\n".join(f"{path}: {problem}" for problem in check.problems))
    return playbook


class _Check:
    """Reads values out of TOML tables and collects what is wrong; a missing value reads as empty."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def report(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")

    def known(self, table: dict[str, object], key: str, names: Collection[str]) -> None:
        for name in table:
            if name not in names:
                where = f"{key}.{name}" if key else name
                self.report(where, f"unknown key; known here are {', '.join(sorted(names))}")

    def table(self, parent: dict[str, object], name: str, key: str) -> dict[str, object]:
        value = parent.get(name, {})
        if isinstance(value, dict):
            return value
        self.report(key, f"must be a table, not {value!r}")
        return {}

    def text(self, parent: dict[str, object], name: str, key: str, *, required: bool = True) -> str:
        value = parent.get(name, "")
        if not isinstance(value, str):
            self.report(key, f"must be text in quotes, not {value!r}")
            return ""
        if required and not value.strip():
            self.report(key, "is missing or empty; write it")
        return value.strip()

    def names(self, parent: dict[str, object], name: str, key: str) -> tuple[str, ...]:
        value = parent.get(name, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            for item in sorted({item for item in value if value.count(item) > 1}):
                self.report(key, f"{item!r} stands twice; remove one")
            return tuple(value)
        self.report(key, f"must be a list of texts in quotes, not {value!r}")
        return ()

    def wording(
        self, parent: dict[str, object], name: str, key: str, languages: tuple[str, ...], *, required: bool = True
    ) -> Wording:
        if name not in parent and not required:
            return Wording()
        table = self.table(parent, name, key)
        self.known(table, key, languages)
        said = tuple((language, self.text(table, language, f"{key}.{language}")) for language in languages)
        return Wording(tuple((language, text) for language, text in said if text))


def _playbook(table: dict[str, object], check: _Check, version: str) -> Playbook:
    check.known(table, "", ("company", "texts", "slots", "intent"))
    company = check.table(table, "company", "company")
    check.known(company, "company", ("name", "languages"))
    name = check.text(company, "name", "company.name")
    languages = check.names(company, "languages", "company.languages")
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            check.report("company.languages", f'{language!r} is no language code; write one such as "en"')
    if not languages:
        check.report("company.languages", 'is missing or empty; name at least one, such as ["en"]')
        languages = ("en",)
    texts = check.table(table, "texts", "texts")
    check.known(texts, "texts", languages)
    slots = check.table(table, "slots", "slots")
    intents = table.get("intent", [])
    if not isinstance(intents, list) or not intents:
        check.report("intent", "there is no intent; add at least one [[intent]]")
        intents = []
    return Playbook(
        company=name,
        languages=languages,
        texts=tuple(_texts(check.table(texts, one, f"texts.{one}"), one, check) for one in languages),
        slots=tuple(_slot(check.table(slots, one, f"slots.{one}"), one, languages, check) for one in slots),
        intents=tuple(_intent(one, number, languages, check) for number, one in enumerate(intents, start=1)),
        version=version,
    )


def _texts(table: dict[str, object], language: str, check: _Check) -> Texts:
    key = f"texts.{language}"
    reasons = {f"handed_over_{reason}": reason for reason in get_args(HandOverReason)}
    check.known(table, key, (*_REQUIRED_TEXTS, *_OPTIONAL_TEXTS, *reasons))
    built_in = _BUILT_IN.get(language, {})
    said = {name: check.text(table, name, f"{key}.{name}") for name in _REQUIRED_TEXTS}
    for name in _OPTIONAL_TEXTS:
        said[name] = check.text(table, name, f"{key}.{name}", required=name not in built_in) or built_in.get(name, "")
    given = ((reason, check.text(table, name, f"{key}.{name}")) for name, reason in reasons.items() if name in table)
    return Texts(language=language, **said, reasons=tuple(given))


def _slot(table: dict[str, object], name: str, languages: tuple[str, ...], check: _Check) -> Slot:
    key = f"slots.{name}"
    check.known(table, key, ("kind", "pattern", "ask", "invalid"))
    if not _NAME.fullmatch(name):
        check.report(key, "a slot's name has only a-z, 0-9 and _")
    kind = check.text(table, "kind", f"{key}.kind")
    found = next((known for known in KINDS if known == kind), None)
    if kind and found is None:
        check.report(f"{key}.kind", f"{kind!r} is no kind of value; use one of {', '.join(KINDS)}")
    pattern = check.text(table, "pattern", f"{key}.pattern", required="pattern" in table)
    try:
        re.compile(pattern)
    except re.error as error:
        check.report(f"{key}.pattern", f"is no regular expression: {error}; correct it")
        pattern = ""
    return Slot(
        name=name,
        kind=found or "order_number",
        pattern=pattern,
        ask=check.wording(table, "ask", f"{key}.ask", languages),
        invalid=check.wording(table, "invalid", f"{key}.invalid", languages),
    )


_INTENT_KEYS = ("name", "title", "kind", "slots", "answer", "article", "then", "suggestions", "examples")


def _intent(value: object, number: int, languages: tuple[str, ...], check: _Check) -> Intent:
    table: dict[str, object] = value if isinstance(value, dict) else {}
    named = table.get("name")
    key = f"intent[{named if isinstance(named, str) and named else number}]"
    check.known(table, key, _INTENT_KEYS)
    name = check.text(table, "name", f"{key}.name")
    if name and not _NAME.fullmatch(name):
        check.report(f"{key}.name", f"{name!r} must have only a-z, 0-9 and _")
    kind = check.text(table, "kind", f"{key}.kind", required="kind" in table) or "answer"
    found: IntentKind | None = next((known for known in get_args(IntentKind) if known == kind), None)
    if found is None:
        check.report(f"{key}.kind", f"{kind!r} must be one of {', '.join(get_args(IntentKind))}")
    then = check.text(table, "then", f"{key}.then", required="then" in table)
    if then not in ("", "hand_over"):
        check.report(f"{key}.then", f'{then!r} must be "hand_over" or left out')
    examples = check.table(table, "examples", f"{key}.examples")
    check.known(examples, f"{key}.examples", languages)
    return Intent(
        name=name,
        kind=found or "answer",
        title=check.wording(table, "title", f"{key}.title", languages, required=kind == "answer"),
        answer=check.wording(table, "answer", f"{key}.answer", languages, required=kind != "hand_over"),
        slots=check.names(table, "slots", f"{key}.slots"),
        article=check.text(table, "article", f"{key}.article", required="article" in table),
        then="hand_over" if then == "hand_over" else "",
        suggestions=check.names(table, "suggestions", f"{key}.suggestions"),
        examples=tuple(
            (language, text)
            for language in languages
            for text in check.names(examples, language, f"{key}.examples.{language}")
        ),
    )


def _check_references(playbook: Playbook, articles: Collection[str] | None, check: _Check) -> None:
    """What a single table cannot know: names that must exist elsewhere, and names that must not stand twice."""
    names = [intent.name for intent in playbook.intents if intent.name]
    for name in sorted({name for name in names if names.count(name) > 1}):
        check.report(f"intent[{name}]", "there are two intents of this name; rename or merge them")
    slots = {slot.name for slot in playbook.slots}
    for intent in playbook.intents:
        key = f"intent[{intent.name}]"
        for slot in intent.slots:
            if slot not in slots:
                check.report(f"{key}.slots", f"there is no slot {slot!r}; add [slots.{slot}] or remove it")
        for suggestion in intent.suggestions:
            if suggestion not in names:
                check.report(f"{key}.suggestions", f"there is no intent {suggestion!r}; correct or remove it")
        if articles is not None and intent.article and intent.article not in articles:
            check.report(f"{key}.article", f"there is no article {intent.article!r}; correct the path or ingest it")
        for language, answer in intent.answer.said:
            for placeholder in PLACEHOLDER.findall(answer):
                if placeholder not in intent.slots:
                    check.report(
                        f"{key}.answer.{language}",
                        f"{{{placeholder}}} is none of the intent's slots; add it to slots or remove it",
                    )
    _check_examples(playbook, check)


def _check_examples(playbook: Playbook, check: _Check) -> None:
    seen: dict[str, str] = {}
    for intent in playbook.intents:
        key = f"intent[{intent.name}].examples"
        if not intent.examples:
            check.report(key, "has no example; write three or more")
        for _, text in intent.examples:
            first = seen.setdefault(text.casefold().strip(), intent.name)
            if first != intent.name:
                check.report(key, f"{text!r} is also an example of {first}; keep it in one of the two")
