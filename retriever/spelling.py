"""Slips of the keyboard in a question, mended as the passages spell the word.

Owns what a slip is: a word that neither the passages hold nor the encoder reads whole, and that hurried fingers make of
one that the passages hold. Knows nothing about what the mended question is used for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from retriever.keyword_index import KeywordIndex, stemmed

SHORTEST: Final = 5
"""Letters of a word that may be a slip of another one: of shorter ones too many are words themselves."""
MOST: Final = 40
"""Words of a text that are looked at: each slip costs a third of a millisecond, once."""
_WORD = re.compile(rf"(?<![\w@./-])[A-Za-z]{{{SHORTEST},30}}(?![\w@/-]|\.\w)")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE: Final = {key: row[max(0, at - 1) : at] + row[at + 1 : at + 2] for row in _ROWS for at, key in enumerate(row)}


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
        if self._is_word(small):
            return word
        # An ending makes a form of a stem out of anything: what has one must be a word that the encoder reads whole.
        near = self._keywords.forms(list(dict.fromkeys(_meant(small))))
        words = [(self._knows(other), rows, other) for rows, ending, other in near if not ending or self._knows(other)]
        return max(words)[-1] if words else word

    def _is_word(self, word: str) -> bool:
        """Whether the passages or the encoder know it, or the word that it is a form of: `stitching` of `stitch`."""
        return self._knows(word) or bool(self._keywords.forms([word])) or self._knows(stemmed(word))


def _meant(word: str) -> Iterator[str]:
    """Every string that one slip of the keyboard makes `word` of: a letter dropped, doubled, swapped or hit beside. The
    first one is seldom missed. A letter that is another one far away on the keyboard is rather another word: `carton`
    is not `carbon`."""
    for i in range(1, len(word) + 1):
        before, after = word[:i], word[i:]
        for letter in _LETTERS:
            yield before + letter + after
        for letter in _BESIDE.get(after[:1], ""):
            yield before + letter + after[1:]
        yield before + after[1:2] + after[:1] + after[2:]
        if after[:1] == before[-1]:
            yield before + after[1:]
