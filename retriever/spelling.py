"""Slips of the keyboard in a question, mended as the passages spell the word.

Owns what a slip is: a word that neither the passages hold nor the encoder reads whole, one key away from one that the
passages hold. Knows nothing about what the mended question is used for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from retriever.keyword_index import KeywordIndex

SHORTEST: Final = 5
"""Letters of a word that may be a slip of another one: of shorter ones too many are words themselves."""
MOST: Final = 40
"""Words of a text that are looked at: each slip costs a third of a millisecond once."""
_WORD = re.compile(rf"(?<![\w@./-])[A-Za-z]{{{SHORTEST},30}}(?![\w@/-]|\.\w)")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class Spelling:
    """The words of one version of the knowledge. Read-only, so threads may share it."""

    def __init__(self, keywords: KeywordIndex, knows: Callable[[str], bool]) -> None:
        """`knows` says of a word in small letters whether the encoder reads it whole, as a word of its language."""
        self._keywords = keywords
        self._knows = knows
        # Conversations repeat their words.
        self._respelled = lru_cache(maxsize=20_000)(self._respell)

    def mended(self, text: str) -> str:
        """`text` with each slip replaced by the word that most passages hold, in small letters; all else as it was."""
        return _WORD.sub(lambda word: self._respelled(word.group()), text, MOST)

    def _respell(self, word: str) -> str:
        small = word.lower()
        if self._knows(small) or self._keywords.forms([small]):
            return word
        # An ending can make a form of a stem out of anything: such a word must be one that the encoder reads whole.
        near = self._keywords.forms(dict.fromkeys(_one_key_away(small)))
        words = [(self._knows(other), rows, other) for rows, ending, other in near if ending < 2 or self._knows(other)]
        return max(words)[-1] if words else word


def _one_key_away(word: str) -> Iterator[str]:
    """Every string one slip from `word`: a letter too many, one missing, two swapped, or another one hit. The first is
    seldom missed, and a word with another first letter is most often another word."""
    for i in range(1, len(word) + 1):
        before, after = word[:i], word[i:]
        yield before + after[1:]
        yield before + after[1:2] + after[:1] + after[2:]
        for letter in _LETTERS:
            yield before + letter + after[1:]
            yield before + letter + after
