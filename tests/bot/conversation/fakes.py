"""Small real parts in place of a model and an index: a keyword table each, read from tests/scenarios/company."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bot.conversation.assistant import Assistant
from bot.conversation.messages import Candidate, Message, Thresholds, Turn
from bot.conversation.phrases import phrase_book
from bot.conversation.playbook import Playbook, load_playbook
from bot.conversation.understanding import Reader, Reading, Searcher
from retriever.passages import Hit, Passage, Query, Why

COMPANY = Path(__file__).parents[2] / "scenarios" / "company"
NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)  # a Sunday


@dataclass(frozen=True, slots=True)
class Meaning:
    """`intent` is empty for what is out of scope; `confidence` is then the out-of-scope score."""

    words: tuple[str, ...]
    intent: str
    confidence: float


class KeywordReader:
    """Knows a meaning by its words in the message, or less surely in the message and the one before."""

    version = "keywords-1"

    def __init__(self, meanings: Iterable[Meaning]) -> None:
        self._meanings = tuple(meanings)

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        return [self._read(question) for question in questions]

    def _read(self, question: Query) -> Reading:
        here = question.text.lower()
        before = [line.text.lower() for line in question.history if line.speaker == "customer"][-1:]
        found: dict[str, float] = {}
        for meaning in self._meanings:
            if all(word in here for word in meaning.words):
                confidence = meaning.confidence
            elif all(word in " ".join((*before, here)) for word in meaning.words):
                confidence = 0.8 * meaning.confidence
            else:
                continue
            found[meaning.intent] = max(confidence, found.get(meaning.intent, 0.0))
        out_of_scope = found.pop("", 0.05)
        ranked = sorted(found.items(), key=lambda one: -one[1])
        return Reading(tuple(Candidate(intent, confidence) for intent, confidence in ranked), out_of_scope)


class KeywordSearcher:
    """Finds passages by the share of their words in the message; a word only in the one before it counts half."""

    version = "words-1"

    def __init__(self, passages: Iterable[tuple[tuple[str, ...], Passage]]) -> None:
        self._passages = tuple(passages)

    def mended(self, text: str) -> str:
        return text

    def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
        before = [line.text for line in query.history if line.speaker == "customer"][-1:]
        here, earlier = query.text.lower(), " ".join(before).lower()
        hits = []
        for words, passage in self._passages:
            share = sum(1.0 if word in here else 0.5 if word in earlier else 0.0 for word in words) / len(words)
            if share:
                hits.append(Hit(passage, share, 0.9 * share, Why(share, share, 0.0)))
        return tuple(sorted(hits, key=lambda hit: -hit.score)[:k])


class BrokenReader:
    """Fails at every call, as a model on a full machine does."""

    version = "broken"

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        raise MemoryError("planted: no memory for the encoder")


class BrokenSearcher:
    version = "broken"

    def mended(self, text: str) -> str:
        raise OSError("planted: the index is gone")

    def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
        raise OSError("planted: the index is gone")


def playbook() -> Playbook:
    return load_playbook(COMPANY / "playbook.toml")


def reader() -> KeywordReader:
    rows = _knowledge()["meaning"]
    return KeywordReader(Meaning(tuple(row["words"]), row["intent"], row["confidence"]) for row in rows)


def searcher() -> KeywordSearcher:
    rows = _knowledge()["passage"]
    return KeywordSearcher((tuple(row["words"]), passage(f"p{n}", **_without_words(row))) for n, row in enumerate(rows))


def passage(
    name: str,
    text: str,
    source: str = "a.md",
    title: str = "A",
    heading: Sequence[str] = (),
    language: str = "en",
) -> Passage:
    return Passage(name, source, title, tuple(heading), text, 0, len(text), language)


def hit(text: str, answers: float = 0.9, *, name: str = "p", source: str = "a.md", heading: Sequence[str] = ()) -> Hit:
    return Hit(passage(name, text, source, heading=heading), answers, answers, Why(answers, answers, 0.0))


def assistant(
    *, reader: Reader | None = None, searcher: Searcher | None = None, thresholds: Thresholds | None = None
) -> Assistant:
    """The lamp shop's assistant; any part can be replaced."""
    book = playbook()
    return Assistant(reader or _READER, searcher or _SEARCHER, book, phrase_book(book), thresholds or Thresholds())


def message(text: str, number: int = 0, at: datetime = NOW) -> Message:
    return Message(f"m{number}", "c1", "customer-1", "api", text, at)


def say(assistant: Assistant, text: str, history: tuple[Turn, ...] = (), at: datetime = NOW) -> Turn:
    """One message answered; checks on the way that the turn's text is what was streamed."""
    *chunks, turn = assistant.respond(message(text, len(history), at), history)
    assert isinstance(turn, Turn)
    assert "".join(str(chunk) for chunk in chunks) == turn.reply.text
    return turn


def talk(assistant: Assistant, *texts: str) -> tuple[Turn, ...]:
    """A conversation: every message answered in turn."""
    turns: tuple[Turn, ...] = ()
    for text in texts:
        turns = (*turns, say(assistant, text, turns))
    return turns


def _knowledge() -> dict[str, list[dict[str, object]]]:
    return tomllib.loads((COMPANY / "knowledge.toml").read_text("utf-8"))


def _without_words(row: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if key != "words"}


_READER = reader()
_SEARCHER = searcher()
