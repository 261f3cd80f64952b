"""The phrase book: what customers are known to say, matched by characters and words instead of by an encoder.

Owns intents for languages that the encoder cannot read (Chinese, with the default English weights) and the exact
match that settles any language. Knows nothing about models. Pure Python; a few thousand phrases take milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bot.conversation.messages import Candidate
from bot.conversation.playbook import Playbook
from bot.conversation.words import chinese_share, tokens
from retriever.passages import Query

OUT_OF_SCOPE = ""
"""The intent of a phrase that is nobody's business here."""

CHINESE_FROM = 0.3
"""Share of Chinese letters from which a message is read by the phrase book."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A known message; `intent` is a name or OUT_OF_SCOPE."""

    text: str
    intent: str


def phrase_book(playbook: Playbook, messages: Iterable[Phrase] = ()) -> PhraseBook:
    """The book of a playbook's titles and examples, and of labelled messages."""
    own = [Phrase(text, intent.name) for intent in playbook.intents for _, text in intent.examples]
    titles = [Phrase(text, intent.name) for intent in playbook.intents for _, text in intent.title.said]
    return PhraseBook((*titles, *own, *messages))


class PhraseBook:
    """Phrases with their intents, ready to be matched. Immutable once made, so threads share it."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self._exact: dict[str, str | None] = {}
        chinese: dict[str, str] = {}
        for phrase in phrases:
            key = plain(phrase.text)
            if not key:
                continue
            known = self._exact.setdefault(key, phrase.intent)
            if known != phrase.intent:
                self._exact[key] = None
            if self.reads(phrase.text):
                chinese.setdefault(key, phrase.intent)
        self._prepare(tuple(chinese.items()))

    def exact(self, text: str) -> str | None:
        """The intent of a phrase that says the same, letter case and punctuation aside; None when unknown or torn."""
        return self._exact.get(plain(text))

    @staticmethod
    def reads(text: str) -> bool:
        """Whether the phrase book, not the encoder, judges this text."""
        return chinese_share(text) >= CHINESE_FROM

    def match(self, query: Query) -> tuple[tuple[Candidate, ...], float]:
        """Candidates best first, and the out-of-scope score."""
        return (), 1.0

    def _prepare(self, phrases: tuple[tuple[str, str], ...]) -> None:
        self._phrases = phrases


def plain(text: str) -> str:
    """A text as it is compared: lower case, words only."""
    return " ".join(tokens(text))
