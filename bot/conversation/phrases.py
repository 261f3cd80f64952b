"""The phrase book: what customers are known to say, matched by characters instead of by an encoder.

Owns intents for languages that the encoder cannot read (Chinese, with the default English weights) and the exact
match that settles any language. Knows nothing about models. Pure Python; a thousand phrases take a millisecond.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.conversation.messages import Candidate
from bot.conversation.playbook import Playbook
from bot.conversation.words import CJK, chinese_share, tokens

OUT_OF_SCOPE = ""
"""The intent of a phrase that is nobody's business here."""

CHINESE_FROM = 0.3
"""Share of Chinese letters from which a message is read by the phrase book."""

_RUN = re.compile(rf"[{CJK}]+|[a-z0-9]+")
_NEAREST = 3
"""Phrases of an intent that are looked at: the nearest weighs most, the others guard against a chance likeness."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A known message; `intent` is a name or OUT_OF_SCOPE."""

    text: str
    intent: str


def phrase_book(playbook: Playbook, messages: Iterable[Phrase] = ()) -> PhraseBook:
    """The book of a playbook's titles and examples, and of labelled messages."""
    titles = [Phrase(text, intent.name) for intent in playbook.intents for _, text in intent.title.said]
    examples = [Phrase(text, intent.name) for intent in playbook.intents for _, text in intent.examples]
    return PhraseBook((*titles, *examples, *messages))


class PhraseBook:
    """Phrases with their intents, ready to be matched. Not changed once made, so threads share it."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self._exact: dict[str, str | None] = {}
        chinese: dict[str, str] = {}
        for phrase in phrases:
            key = plain(phrase.text)
            known = self._exact.setdefault(key, phrase.intent)
            if known != phrase.intent:
                self._exact[key] = None
            if key and self.reads(phrase.text):
                chinese.setdefault(phrase.text, phrase.intent)
        self._exact.pop("", None)
        self._intents = tuple(chinese.values())
        self._index(tuple(chinese))
        self._curve = self._calibrated(tuple(chinese))

    def exact(self, text: str) -> str | None:
        """The intent of a phrase that says the same, letter case and punctuation aside; None when unknown or torn."""
        return self._exact.get(plain(text))

    @staticmethod
    def reads(text: str) -> bool:
        """Whether the phrase book, not the encoder, judges this text."""
        return chinese_share(text) >= CHINESE_FROM

    def match(self, text: str) -> tuple[tuple[Candidate, ...], float]:
        """Intents that `text` resembles, best first with their chance of being meant, and the out-of-scope score.

        The chance is that of a phrase of this very book when it is taken out and matched against the rest.
        """
        ranked = self._ranked(text)
        if not ranked:
            return (), 0.0
        chances = self._chances(ranked)
        out_of_scope = next((chance for chance, (_, intent) in zip(chances, ranked, strict=True) if not intent), 0.0)
        known = (Candidate(intent, chance) for chance, (_, intent) in zip(chances, ranked, strict=True) if intent)
        return tuple(known), out_of_scope

    def _index(self, texts: Sequence[str]) -> None:
        seen = Counter(feature for text in texts for feature in set(_features(text)))
        self._rarity = {feature: math.log((1 + len(texts)) / (1 + count)) + 0.3 for feature, count in seen.items()}
        self._unseen = math.log(1 + len(texts)) + 0.3
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, text in enumerate(texts):
            for feature, weight in self._vector(text).items():
                self._postings[feature].append((number, weight))

    def _vector(self, text: str) -> dict[str, float]:
        """Unit length; features that the book does not know take their share of it."""
        counts = Counter(_features(text))
        weights = {
            feature: (1 + math.log(count)) * self._rarity.get(feature, self._unseen)
            for feature, count in counts.items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {feature: weight / length for feature, weight in weights.items()}

    def _ranked(self, text: str, without: int = -1) -> list[tuple[float, str]]:
        """`(score, intent)`, best first; the phrase numbered `without` is left out."""
        likeness: dict[int, float] = defaultdict(float)
        for feature, weight in self._vector(text).items():
            for number, other in self._postings.get(feature, ()):
                likeness[number] += weight * other
        likeness.pop(without, None)
        by_intent: dict[str, list[float]] = defaultdict(list)
        for number, value in likeness.items():
            by_intent[self._intents[number]].append(value)
        ranked = []
        for intent, values in by_intent.items():
            nearest = sorted(values, reverse=True)[:_NEAREST]
            ranked.append((0.6 * nearest[0] + 0.4 * sum(nearest) / len(nearest), intent))
        return sorted(ranked, key=lambda one: (-one[0], one[1]))

    def _chances(self, ranked: Sequence[tuple[float, str]]) -> list[float]:
        best = ranked[0][0]
        rest = ranked[1][0] if len(ranked) > 1 else 0.0
        chances = [self._chance(best, best - rest)]
        # A runner-up shares what the best leaves, in proportion to its score.
        return chances + [(1 - chances[0]) * score / (score + best) for score, _ in ranked[1:]]

    def _chance(self, score: float, lead: float) -> float:
        slope, lead_slope, offset = self._curve
        return 1 / (1 + math.exp(-(slope * score + lead_slope * lead + offset)))

    def _calibrated(self, texts: Sequence[str]) -> tuple[float, float, float]:
        """Logistic regression of "the best intent is right" on score and lead, over the book's own phrases, each
        matched against the others; a weak prior keeps a small book cautious."""
        rows: list[tuple[float, float, bool]] = []
        for number, text in enumerate(texts):
            ranked = self._ranked(text, without=number)
            if ranked:
                lead = ranked[0][0] - (ranked[1][0] if len(ranked) > 1 else 0.0)
                rows.append((ranked[0][0], lead, ranked[0][1] == self._intents[number]))
        curve = [10.0, 5.0, -4.5]
        prior = tuple(curve)
        for _ in range(300):
            slope = [0.02 * (mean - value) for mean, value in zip(prior, curve, strict=True)]
            for score, lead, right in rows:
                chance = 1 / (1 + math.exp(-(curve[0] * score + curve[1] * lead + curve[2])))
                wrong = float(right) - chance
                slope[0] += wrong * score
                slope[1] += wrong * lead
                slope[2] += wrong
            step = 4.0 / (len(rows) + 10)
            curve = [value + step * one for value, one in zip(curve, slope, strict=True)]
        return curve[0], curve[1], curve[2]


def plain(text: str) -> str:
    """A text as it is compared: lower case, words only."""
    return " ".join(tokens(text))


def _features(text: str) -> list[str]:
    """Chinese characters and pairs of them; words and numbers of other scripts."""
    found: list[str] = []
    for run in _RUN.findall(text.lower()):
        if run.isascii():
            found.append(run)
        else:
            found.extend(run)
            found.extend(run[i : i + 2] for i in range(len(run) - 1))
    return found
