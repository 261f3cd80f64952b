"""Words, names and sentences of plain text, English and Chinese, with their places.

Owns cutting text into words, sentences and lines that belong together, which words carry no content, and which are
written as names. Knows nothing about questions, passages or intents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CJK_RUN = re.compile(f"[{CJK}]+")
_TOKEN = re.compile(rf"[{CJK}]+|[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
_LETTER = re.compile(r"[^\W\d_]")

_STOP = """
advise assist assistance check confirm happen happened happening
a about actually again all also always am an and another any anyone anything anyway are as ask at back be
because been being but by bye can cannot can't could couldn't did didn't do does doesn't doing don't done each
else even ever every for from get gets getting give go going gonna got guys had has have haven't having hello
help helps her here hey hi him his how how's i i'd i'll i'm i've if in into is isn't it it's its just kindly
know let let's like looking maybe me mean might more most much must my need needs no not now of off ok okay on
once one only or other our out over please pls plz possible question questions quick really right said same say
see shall she should sir so some somebody someone something soon sorry still such tell than thank thanks that
that's the their them then there there's these they they're thing things think this those though to told too try
trying u until up ur us use very wanna want wanted wants was wasn't way we we're well were what what's when
where where's whether which while who whose why will with won't wonder wondering would wouldn't ya yes yet you
you're your yours
"""
STOP_WORDS = frozenset(_STOP.split())
CHINESE_GRAMMAR = frozenset("的了吗呢吧啊呀么是我你您他她它们在有和与也都就很这那个请问想要能会可以怎什么")
_ENDINGS = ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly")

_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|mr|mrs|ms|dr|st|no|nr|fig|approx|incl|max|min|dept|est|inc|ltd|co|a\.m|p\.m"
    r"|[A-Z])\.$",
    re.IGNORECASE,
)
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？；]+[”’」』）]*|\n+")
_ITEM = re.compile(r"\s*(?:[-*•·▪]\s|\d{1,2}[.)、]\s*(?=\D)|[（(]?[一二三四五六七八九十][)）、]|\|)")
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_LINE = re.compile(r"\s*[^\n]*")

_NAME = re.compile(r"(?<![\w@./&-])[A-Z](?:[A-Za-z]|['’](?=[A-Z]))+(?![\w@&]|[.'’-]\w)")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n\"“”(*])[\s\"“(]*$")
_PLACE = re.compile(r"\b(?:in|to|from|at|near|over|into|of|around)\s+(?:the\s+|downtown\s+)?(?:[A-Z][\w'’-]*\s+)*$")
_CALENDAR = re.compile(
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|satur|sun)(?:days?)?|january|february|march|april|may|june|july|august"
    r"|september|october|november|december|christmas|easter",
    re.IGNORECASE,
)
_SHOUTED = 0.5
"""Share of capital letters from which writing no longer tells names."""


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` of what was cut; `item` is true for a list item or a table row, which is never cut inside."""

    start: int
    end: int
    item: bool = False


def tokens(text: str) -> list[str]:
    """Lower-case words; a run of Chinese becomes its overlapping pairs of characters."""
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        word = match.group()
        if _CJK_RUN.fullmatch(word):
            found.extend(word[i : i + 2] for i in range(max(len(word) - 1, 1)))
        else:
            found.append(word.lower().replace("’", "'"))
    return found


def content_words(text: str) -> list[str]:
    """The tokens that carry content, English ones without their ending, so that "refunds" meets "refunded"."""
    return [stem(token) for token in tokens(text) if token not in STOP_WORDS and not CHINESE_GRAMMAR.issuperset(token)]


def stem(token: str) -> str:
    """Crude on purpose: cuts one common English ending where at least three letters stay."""
    if not token.isascii():
        return token
    if _ORDINAL.fullmatch(token):
        return token[:-2]
    token = token.removesuffix("'s")
    for ending in _ENDINGS:
        if token.endswith(ending) and len(token) - len(ending) >= 3 and not token.endswith("ss"):
            cut = token[: -len(ending)]
            cut = cut + "y" if ending == "ies" else cut
            # "shipped" and "shipping" meet "ship", "planned" meets "plan".
            return cut[:-1] if len(cut) > 3 and cut[-1] == cut[-2] and cut[-1] not in "lsz" else cut.removesuffix("e")
    return token.removesuffix("e") if len(token) > 3 else token


def chinese_share(text: str) -> float:
    """Chinese characters among all letters, 0 to 1; 0 for a text without letters."""
    letters = len(_LETTER.findall(text))
    return sum(map(len, _CJK_RUN.findall(text))) / letters if letters else 0.0


def sentences(text: str) -> tuple[Span, ...]:
    """Spans of the sentences, list items and table rows of `text`, without surrounding space, in order.

    A line break ends a sentence unless the next line goes on in lower case, as wrapped text does. An item or a row is
    its whole line.
    """
    found: list[Span] = []
    start = 0
    for match in _END.finditer(text):
        if match.group()[0] == "\n":
            wrapped = len(match.group()) == 1 and text[match.end() : match.end() + 1].islower()
            listed = _is_item(text, start) or _is_item(text, match.end())
            if wrapped and not listed and not text[: match.start()].endswith((":", ";", ",")):
                continue
        elif _is_item(text, start) or _ABBREVIATION.search(text, max(start, match.end() - 12), match.end()):
            continue
        _add(found, text, start, match.end())
        start = match.end()
    _add(found, text, start, len(text))
    return tuple(found)


def _is_item(text: str, start: int) -> bool:
    """Whether the line at `start` is a list item or a table row."""
    match = _LINE.match(text, start)
    return bool(_ITEM.match(text, start)) or (match is not None and " | " in match.group())


def _add(found: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if any(character.isalnum() for character in stripped):
        begin = start + len(piece) - len(piece.lstrip())
        found.append(Span(begin, begin + len(stripped), _is_item(text, begin)))
    elif found and stripped:
        # Stray punctuation such as a second "!" belongs to what it follows.
        last = found[-1]
        found[-1] = Span(last.start, start + len(piece.rstrip()), last.item)


def names_in(text: str) -> list[tuple[str, int]]:
    """Words written as English names, with their places: capitals inside a sentence, and abbreviations anywhere.

    Not names: days and months, codes with digits, and what follows "to" or "in", which is where things are sent.
    """
    letters = [character for character in text if character.isalpha()]
    if not letters or sum(character.isupper() for character in letters) >= _SHOUTED * len(letters):
        return []
    found = []
    for match in _NAME.finditer(text):
        word, before = match.group(), text[: match.start()]
        abbreviation = word.isupper() and len(word) <= 5
        inside = abbreviation or not _SENTENCE_START.search(before)
        if inside and not _CALENDAR.fullmatch(word) and not _PLACE.search(before):
            found.append((word, match.start()))
    return found
