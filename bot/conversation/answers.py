"""From decisions to words: text in chunks, citations and suggestions in the customer's language.

Owns composition. Wordings come from the playbook and sentences from passages: nothing here writes facts. Plain text
only, no HTML; channels decide how it looks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import assert_never
from urllib.parse import quote as url_quote

from bot.conversation.messages import (
    Approved,
    AskFor,
    Citation,
    Clarify,
    Decision,
    Grounded,
    HandOver,
    NotKnown,
    Part,
    Reply,
    SmallTalk,
    Status,
)
from bot.conversation.playbook import PLACEHOLDER, TALK_TO_PERSON, Playbook, Texts
from bot.conversation.quotes import Quote, SentenceScorer, choose_quotes
from bot.conversation.state import NEVER_MIND, NO_TEXT, State
from retriever.passages import Hit

Link = Callable[[str, str], str]
"""`(source, passage id) -> address` that opens the article at the passage; the id is empty for a whole article."""

MOST_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True)
class NextTopic:
    """What customers asked next: the intent of that name or, where it is empty, the article of that title."""

    intent: str
    title: str = ""
    language: str = ""


AlsoAsked = Callable[[str], Sequence[NextTopic]]
"""What is asked after a topic (see `topic_of`), the most frequent first."""


def topic_of(decision: Decision) -> str:
    """What an answer was about: `intent:NAME`, `article:SOURCE`, or empty."""
    match decision:
        case Approved(intent=name):
            return f"intent:{name}"
        case Grounded(hits=hits) if hits:
            return f"article:{hits[0].passage.source}"
        case _:
            return ""


# The status of a reply with several parts is the first of these that any part has.
_STATUSES: tuple[Status, ...] = (
    "waiting", "handed_over", "asked", "approved", "grounded", "clarified", "small_talk", "not_known",
)  # fmt: skip


def article_link(source: str, passage: str = "") -> str:
    """Where the service shows its own copy of an article, opened at a passage."""
    return f"/articles/{url_quote(source)}" + (f"#p-{passage}" if passage else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply in the making: its text is the chunks joined."""

    chunks: tuple[str, ...]
    citations: tuple[Citation, ...]
    suggestions: tuple[str, ...]
    status: Status

    def reply(self) -> Reply:
        return Reply("".join(self.chunks), self.citations, self.suggestions, self.status)


@dataclass(frozen=True, slots=True)
class Writer:
    """Says decisions. `scorer` improves the choice of sentences; without it shared words decide. `also_asked` tells
    what other customers asked after a topic."""

    playbook: Playbook
    link: Link = article_link
    scorer: SentenceScorer | None = None
    also_asked: AlsoAsked = lambda topic: ()

    def answer(self, parts: Sequence[Part], state: State) -> Answer:
        """What to say to `parts`, in order, each once. Never empty."""
        language = parts[0].understanding.language
        texts = self.playbook.texts_in(language)
        chunks: list[str] = []
        citations: list[Citation] = []
        for number, part in enumerate(parts):
            if number and self._announced(parts[number - 1]):
                continue
            if (slot := _asked(part.decision)) and slot in map(_asked, (one.decision for one in parts[:number])):
                continue  # one value answers both questions
            text, cited = self._say(part, texts, state, len(parts) > 1, citations)
            if number and not isinstance(part.decision, NotKnown | HandOver):
                text = _after(texts.also, text)
            chunks.append(("\n\n" if chunks else "") + text)
            citations = _listed(citations, cited)
        status = min((_status(part.decision, state) for part in parts), key=_STATUSES.index)
        suggestions = (
            self._suggestions(parts, state, texts, language)
            if status not in ("handed_over", "waiting", "asked")
            else ()
        )
        return Answer(tuple(chunks), tuple(citations), suggestions, status)

    def _announced(self, before: Part) -> bool:
        """Whether the hand-over that follows was announced: an approved answer with `then` is worded to end in it."""
        intent = self.playbook.intent(before.decision.intent) if isinstance(before.decision, Approved) else None
        return intent is not None and intent.then == "hand_over"

    def _say(
        self, part: Part, texts: Texts, state: State, several: bool, before: Sequence[Citation]
    ) -> tuple[str, tuple[Citation, ...]]:
        """The words of a part and what it cites; `before` is what the parts before it cite."""
        decision = part.decision
        match decision:
            case Approved():
                return self._approved(decision, part, texts.language)
            case Grounded():
                return self._grounded(decision, part, state, before)
            case SmallTalk():
                return self._small_talk(decision.intent, texts), ()
            case AskFor():
                return self._ask(decision, texts.language), ()
            case Clarify():
                titles = self._titles(decision.options, texts.language)
                return "\n".join((texts.clarify, *(f"{n}. {title}" for n, title in enumerate(titles, start=1)))), ()
            case HandOver():
                return self._hand_over(decision, part, texts, state), ()
            case NotKnown():
                if several:
                    return texts.not_known_part.replace("{question}", _short(part.question)), ()
                said = texts.not_known
                return said if texts.offer_person in said else _after(said, texts.offer_person), ()
            case _:
                assert_never(decision)

    def _approved(self, decision: Approved, part: Part, language: str) -> tuple[str, tuple[Citation, ...]]:
        intent = self.playbook.intent(decision.intent)
        if intent is None:
            return self.playbook.texts_in(language).not_known, ()
        values = dict(decision.slots)
        text = PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), intent.answer.in_language(language))
        return text, self._article(intent.article, intent.title.in_language(language), part.hits, language)

    def _article(self, article: str, title: str, hits: Sequence[Hit], language: str) -> tuple[Citation, ...]:
        """The article that the playbook names: its copy in the customer's language and its best passage, if found."""
        if not article:
            return ()
        translated = next((hit for hit in hits if hit.passage.source == f"{language}/{article}"), None)
        hit = translated or next((hit for hit in hits if hit.passage.source == article), None)
        if hit is None:
            return (Citation(title, self.link(article, ""), "", ""),)
        return (self._citation(hit, ""),)

    def _citation(self, hit: Hit, quoted: str) -> Citation:
        passage = hit.passage
        return Citation(passage.title, passage.url or self.link(passage.source, passage.id), quoted, passage.id)

    def _grounded(
        self, decision: Grounded, part: Part, state: State, before: Sequence[Citation]
    ) -> tuple[str, tuple[Citation, ...]]:
        asked_before = next((line.text for line in reversed(state.lines) if line.speaker == "customer"), "")
        leans = any(entity.kind == "follow_up" for entity in part.understanding.entities)
        quotes = choose_quotes(part.question, asked_before if leans else "", decision.hits, self.scorer)
        by_passage = {hit.passage.id: hit for hit in decision.hits}
        citations = tuple(self._citation(by_passage[one.passage.id], one.text) for one in quotes)
        listed = _listed(before, citations)
        marks = [f" [{listed.index(one) + 1}]" if len(quotes) > 1 else "" for one in citations]
        return "\n\n".join(_quoted(one) + mark for one, mark in zip(quotes, marks, strict=True)), citations

    def _small_talk(self, name: str, texts: Texts) -> str:
        intent = self.playbook.intent(name)
        if intent is not None:
            return intent.answer.in_language(texts.language)
        return {NEVER_MIND: texts.cancelled, NO_TEXT: texts.no_text}.get(name, texts.anything_else)

    def _ask(self, decision: AskFor, language: str) -> str:
        slot = self.playbook.slot(decision.slot)
        if slot is None:
            return self.playbook.texts_in(language).not_known
        return (slot.invalid if decision.problem else slot.ask).in_language(language)

    def _hand_over(self, decision: HandOver, part: Part, texts: Texts, state: State) -> str:
        # Out of hours nobody is about to join.
        away = dict(texts.reasons).get("hours", "") if state.away else ""
        if state.waiting is not None:
            return away or texts.waiting
        intent = self.playbook.intent(part.understanding.intent or "")
        own = intent.answer if intent is not None and intent.kind == "hand_over" else None
        if own and decision.reason == "policy":  # what is to be done until somebody comes, perhaps
            said = own.in_language(texts.language)
            return f"{said}\n\n{away}" if away else said
        if away and decision.reason != "error":
            return away
        return (
            own.in_language(texts.language) if own and decision.reason == "asked" else texts.for_reason(decision.reason)
        )

    def _suggestions(self, parts: Sequence[Part], state: State, texts: Texts, language: str) -> tuple[str, ...]:
        answered = {part.decision.intent for part in parts if isinstance(part.decision, Approved)}
        found: list[str] = []
        for part in parts:
            names: Sequence[str] = ()
            match part.decision:
                case Clarify(options):
                    names = options
                case Approved(intent=name) | SmallTalk(intent=name):
                    intent = self.playbook.intent(name)
                    names = intent.suggestions if intent else ()
                case NotKnown():
                    names = (TALK_TO_PERSON,)
                case _:
                    pass
            found += self._asked_next(part, state, answered, language)
            found += [self._title(name, texts) for name in names if name not in answered]
            if any(entity.kind == "angry" for entity in part.understanding.entities):
                found.insert(0, texts.talk_to_person)
        return tuple(dict.fromkeys(text for text in found if text))[:MOST_SUGGESTIONS]

    def _asked_next(self, part: Part, state: State, answered: Collection[str], language: str) -> list[str]:
        """What other customers asked after this, in our own words for it, without what was asked here already."""
        topic = topic_of(part.decision)
        asked = {line.text.casefold().strip() for line in state.lines if line.speaker == "customer"}
        texts = []
        for one in self.also_asked(topic) if topic else ():
            intent = self.playbook.intent(one.intent) if one.intent else None
            if intent is not None and intent.kind == "answer" and intent.name not in answered:
                texts.append(intent.title.in_language(language))
            elif not one.intent and one.language in ("", language):
                texts.append(one.title)
        return [text for text in texts if text.casefold() not in asked and text != part.question]

    def _title(self, name: str, texts: Texts) -> str:
        return texts.talk_to_person if name == TALK_TO_PERSON else self._titles((name,), texts.language)[0]

    def _titles(self, names: Sequence[str], language: str) -> tuple[str, ...]:
        intents = (self.playbook.intent(name) for name in names)
        return tuple(intent.title.in_language(language) if intent else "" for intent in intents)


def _status(decision: Decision, state: State) -> Status:
    match decision:
        case Approved():
            return "approved"
        case Grounded():
            return "grounded"
        case SmallTalk():
            return "small_talk"
        case AskFor():
            return "asked"
        case Clarify():
            return "clarified"
        case HandOver():
            return "waiting" if state.waiting is not None else "handed_over"
        case NotKnown():
            return "not_known"
        case _:
            assert_never(decision)


def _listed(before: Sequence[Citation], cited: Sequence[Citation]) -> list[Citation]:
    """All that a reply cites, each once, in the order in which readers number it."""
    return list(dict.fromkeys((*before, *cited)))


def _asked(decision: Decision) -> str:
    """The slot that is asked for, or empty."""
    return decision.slot if isinstance(decision, AskFor) else ""


def _quoted(one: Quote) -> str:
    if not one.heading:
        return one.text
    return f"{one.heading}:" + ("\n" if one.spans[0].item else " ") + one.text


def _after(first: str, second: str) -> str:
    """Two sentences in a row, with a space where their writing has one."""
    return first + ("" if first.endswith(("。", "！", "？", "：")) else " ") + second


def _short(question: str) -> str:
    line = " ".join(question.split())
    return line if len(line) <= 100 else line[:99].rstrip() + "…"
