"""The phrase book: what customers are known to say, judged by characters instead of by an encoder.

Owns intents for languages that the encoder cannot read (Chinese, with the default English weights) and the exact
match that settles any language. Knows nothing about models or conversations.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.conversation.messages import Candidate, Entity
from bot.conversation.playbook import TALK_TO_PERSON, Playbook
from bot.conversation.words import CHINESE_GRAMMAR, CJK, chinese_share, names_in, sentences, tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Numbers = NDArray[np.float64]

OUT_OF_SCOPE = ""
"""The intent of a phrase that is nobody's business here."""

UNKNOWN_NAME = "unknown_name"
"""The kind of an entity that is a name nobody here has heard: the customer may be asking about another company."""

CHINESE_FROM = 0.3
"""Share of Chinese letters from which a message is read by the phrase book."""

MOST_PHRASES = 2000
"""Chinese phrases that are learnt from, spread evenly when there are more: the cost grows with their cube."""

MOSTLY_NEW = 0.3
"""Share of a text's weight that must be known before its chance counts in full."""

_RIDGE = 1.0
_ANSWER_WEIGHT = 0.5
"""A sentence of an approved answer counts half a phrase: it has the topic's words, but no customer wrote it."""

_RUN = re.compile(rf"[{CJK}]+|[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A known message; `intent` is a name or OUT_OF_SCOPE."""

    text: str
    intent: str


def phrase_book(playbook: Playbook, messages: Iterable[Phrase] = ()) -> PhraseBook:
    """The book of a playbook's titles, examples, answers and button for a person, and of labelled messages."""
    titles = [Phrase(text, intent.name) for intent in playbook.intents for _, text in intent.title.said]
    examples = [Phrase(text, intent.name) for intent in playbook.intents for _, text in intent.examples]
    answers = [
        Phrase(text[span.start : span.end], intent.name)
        for intent in playbook.intents
        if intent.kind == "answer"
        for _, text in intent.answer.said
        for span in sentences(text)
    ]
    known = {plain(phrase.text) for phrase in (*titles, *examples)}
    # The button that offers a person comes back as a message; a title or an example of the same words goes before.
    buttons = [Phrase(texts.talk_to_person, TALK_TO_PERSON) for texts in playbook.texts]
    asked = [button for button in buttons if plain(button.text) not in known]
    return PhraseBook((*titles, *examples, *asked, *messages), answers)


class PhraseBook:
    """Phrases with their intents, ready to be matched. Not changed once made, so threads share it.

    Method: ridge regression to one score an intent on rarity-weighted characters and pairs of characters; the scores'
    errors on phrases left out (known in closed form, Rifkin and Lippert 2007, MIT-CSAIL-TR-2007-025) calibrate them.
    """

    def __init__(self, phrases: Iterable[Phrase], answers: Iterable[Phrase] = ()) -> None:
        self._exact: dict[str, str | None] = {}
        self._names: set[str] = set()
        chinese: dict[str, str] = {}
        answers = tuple(answers)
        phrases = tuple(phrases)
        for phrase in (*phrases, *answers):
            if phrase.intent != OUT_OF_SCOPE:
                self._names.update(name for name, _ in names_in(phrase.text))
        for phrase in phrases:
            key = plain(phrase.text)
            if self._exact.setdefault(key, phrase.intent) != phrase.intent:
                self._exact[key] = None
            if self.reads(phrase.text):
                chinese.setdefault(phrase.text, phrase.intent)
        self._exact.pop("", None)
        known = [Phrase(text, intent) for text, intent in chinese.items()]
        known = known[:: math.ceil(len(known) / MOST_PHRASES) or 1]
        self._learn(known, [answer for answer in answers if self.reads(answer.text)] if known else [])

    def exact(self, text: str) -> str | None:
        """The intent of a phrase that says the same, letter case and punctuation aside; None when unknown or torn."""
        return self._exact.get(plain(text))

    @staticmethod
    def reads(text: str) -> bool:
        """Whether the phrase book, not the encoder, judges this text."""
        return chinese_share(text) >= CHINESE_FROM

    def unknown_names(self, text: str) -> tuple[Entity, ...]:
        """Names in `text` that no example and no approved answer holds, as entities."""
        return tuple(
            Entity(UNKNOWN_NAME, name, start, start + len(name), 1.0, "a name that no example holds")
            for name, start in names_in(text)
            if name not in self._names
        )

    def match(self, text: str) -> tuple[tuple[Candidate, ...], float]:
        """Intents that `text` may mean, best first with their chance, and the out-of-scope score.

        Nothing at all when no part of the text is known.
        """
        import numpy as np

        known = [
            (self._places[feature], weight) for feature, weight in self._vector(text).items() if feature in self._places
        ]
        if not known:
            return (), 0.0
        weights = np.asarray([weight for _, weight in known])
        scores = weights @ self._weights[[place for place, _ in known]]
        order = np.argsort(-scores, kind="stable")
        best, second = scores[order[0]], scores[order[1]] if len(order) > 1 else 0.0
        # Of a text that is mostly new, the known rest cannot tell what it means.
        trust = min(1.0, float(weights @ weights) / MOSTLY_NEW)
        first = trust * self._chance(best, best - second)
        # A runner-up leads by less than nothing, and has at most what the best leaves.
        chances = [first, *(min(1 - first, trust * self._chance(scores[i], scores[i] - best)) for i in order[1:])]
        named = [(self._intents[i], chance) for i, chance in zip(order, chances, strict=True)]
        out_of_scope = next((chance for intent, chance in named if intent == OUT_OF_SCOPE), 0.0)
        return tuple(Candidate(intent, chance) for intent, chance in named if intent != OUT_OF_SCOPE), out_of_scope

    def _learn(self, phrases: Sequence[Phrase], answers: Sequence[Phrase]) -> None:
        import numpy as np

        rows = (*phrases, *answers)
        seen = Counter(feature for row in rows for feature in set(_features(row.text)))
        self._rarity = {feature: math.log((1 + len(rows)) / (1 + count)) + 0.3 for feature, count in seen.items()}
        self._unseen = math.log(1 + len(rows)) + 0.3
        self._places = {feature: place for place, feature in enumerate(self._rarity)}
        self._intents = sorted({row.intent for row in rows})
        table = np.zeros((len(rows), len(self._places)), dtype=np.float32)
        for number, row in enumerate(rows):
            for feature, weight in self._vector(row.text).items():
                table[number, self._places[feature]] = weight
        meant = np.array([self._intents.index(row.intent) for row in rows], dtype=np.intp)
        wanted = np.full((len(rows), len(self._intents)), -1 / max(len(self._intents), 1))
        wanted[np.arange(len(rows)), meant] += 1
        trust = np.array([1.0] * len(phrases) + [_ANSWER_WEIGHT] * len(answers))
        inverse = np.linalg.inv((table @ table.T).astype(np.float64) + np.diag(_RIDGE / trust))
        solution = inverse @ wanted
        self._weights: _Numbers = table.T.astype(np.float64) @ solution
        left_out = (wanted - solution / np.diag(inverse)[:, None])[: len(phrases)]
        self._curve = _calibrated(left_out, meant[: len(phrases)])

    def _vector(self, text: str) -> dict[str, float]:
        """Unit length; features that the book does not know take their share of it."""
        counts = Counter(_features(text))
        weights = {
            feature: (1 + math.log(count)) * self._rarity.get(feature, self._unseen)
            for feature, count in counts.items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {feature: weight / length for feature, weight in weights.items()}

    def _chance(self, score: float, lead: float) -> float:
        """That the intent of this score is meant, given its lead over the next."""
        by_score, by_lead, offset = self._curve
        return 1 / (1 + math.exp(-(by_score * score + by_lead * lead + offset)))


def plain(text: str) -> str:
    """A text as it is compared: lower case, words only."""
    return " ".join(tokens(text))


def _features(text: str) -> list[str]:
    """Chinese characters and pairs of them, but for pure grammar; words and numbers of other scripts."""
    found: list[str] = []
    for run in _RUN.findall(text.lower()):
        if run.isascii():
            found.append(run)
        else:
            pieces = (*run, *(run[i : i + 2] for i in range(len(run) - 1)))
            found.extend(piece for piece in pieces if not CHINESE_GRAMMAR.issuperset(piece))
    return found


_CURVE = (6.0, 4.0, -3.0)
_CURVE_WEIGHT = 2.0
"""Before any phrase is seen, a score of 0.3 with a lead of as much is even odds. A book of a few dozen phrases stays
near that: its phrases resemble one another, and what else customers ask is not among them."""


def _calibrated(scores: _Numbers, meant: NDArray[np.intp]) -> tuple[float, float, float]:
    """Logistic regression, by Newton's method, of "the best intent is right" on its score and its lead."""
    import numpy as np

    curve = np.array(_CURVE)
    if not len(scores) or scores.shape[1] < 2:
        return _CURVE
    ranked = np.sort(scores, axis=1)
    facts = np.column_stack([ranked[:, -1], ranked[:, -1] - ranked[:, -2], np.ones(len(scores))])
    right = (scores.argmax(axis=1) == meant).astype(np.float64)
    for _ in range(25):
        chance = 1 / (1 + np.exp(-(facts @ curve)))
        slope = facts.T @ (right - chance) - _CURVE_WEIGHT * (curve - np.array(_CURVE))
        bend = facts.T @ (facts * (chance * (1 - chance))[:, None]) + _CURVE_WEIGHT * np.eye(3)
        curve = curve + np.linalg.solve(bend, slope)
    return float(curve[0]), float(curve[1]), float(curve[2])
