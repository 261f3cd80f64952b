"""Words, names and sentences of plain text, English and Chinese, with their places.

Owns cutting text into words, sentences and lines that belong together, which words carry no content, and which are
written as names. Knows nothing about questions, passages or intents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TRADITIONAL = (
    "兩個麼麽買產會價們別剛務勁單嗎員塊媽對導幣幫開當惡擇換無時條極樣歐氣沒滿點煩碼禮種經給編聯脅"
    "話訴語說請談謝貨購費轉邊達過運還這選遞郵錢錯鎊長問項順領題額罵騙裡裏號訂講電機後幾與為闆週繫"
)
_SIMPLIFIED = (
    "两个么么买产会价们别刚务劲单吗员块妈对导币帮开当恶择换无时条极样欧气没满点烦码礼种经给编联胁"
    "话诉语说请谈谢货购费转边达过运还这选递邮钱错镑长问项顺领题额骂骗里里号订讲电机后几与为板周系"
)
"""The characters of our patterns that are written otherwise in Hong Kong and Taiwan."""
_FOLD = (
    {0xFF01 + i: 0x21 + i for i in range(94)}
    | dict.fromkeys(map(ord, "‐‑‒–—−－"), "-")
    | dict.fromkeys(map(ord, "‘’ʼ´`"), "'")
    | {0x3000: " ", ord("ı"): "i", ord("İ"): "I", ord("ſ"): "s", 0x212A: "K"}
    | dict(zip(map(ord, _TRADITIONAL), _SIMPLIFIED, strict=True))
)

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
# Between Chinese characters "?" and "!" need no space behind them.
_END = re.compile(rf"[.!?…]+[\"'”’)\]]*(?=\s|$)|[!?]+(?=[{CJK}])|[。！？；]+[”’」』）]*|\n+")
_ITEM = re.compile(r"\s*(?:[-*•·▪]\s|\d{1,2}[.)、]\s*(?=\D)|[（(]?[一二三四五六七八九十][)）、]|\|)")
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_LINE = re.compile(r"\s*[^\n]*")

_NAME = re.compile(r"(?<![\w@./&-])[A-Z](?:[A-Za-z]|['’](?=[A-Z]))+(?![\w@&]|[.'’-]\w)")
_OPENS_SENTENCE = frozenset('\n"“(')
_ENDS_SENTENCE = frozenset(".!?:;”*")
_PLACE = re.compile(r"\b(?:in|to|from|at|near|over|into|of|around)\s+(?:the\s+|downtown\s+)?(?:[A-Z][\w'’-]*\s+)*$")
_CALENDAR = re.compile(
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|satur|sun)(?:days?)?|january|february|march|april|may|june|july|august"
    r"|september|october|november|december|christmas|easter",
    re.IGNORECASE,
)
_BEFORE_NAME = 80
"""Characters before a name in which a word of place is looked for."""
_SHOUTED = 0.5
"""Share of capital letters from which writing no longer tells names."""


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` of what was cut; `item` is true for a list item or a table row, which is never cut inside."""

    start: int
    end: int
    item: bool = False


def folded(text: str) -> str:
    """`text` as patterns read it, place for place as long: full-width forms, dashes and apostrophes as in ASCII,
    traditional Chinese characters simplified.

    In ASCII are also the four letters that an ASCII letter matches without regard to case; no table of words has them.
    """
    return text.translate(_FOLD)


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
        word, start = match.group(), match.start()
        abbreviation = word.isupper() and len(word) <= 5
        inside = abbreviation or not _begins_sentence(text, start)
        placed = _PLACE.search(text, max(0, start - _BEFORE_NAME), start)
        if inside and not _CALENDAR.fullmatch(word) and not placed:
            found.append((word, start))
    return found


def _begins_sentence(text: str, start: int) -> bool:
    """Read backwards from the word: a pattern would try every quotation mark before it to the end."""
    while start and (text[start - 1].isspace() or text[start - 1] in _OPENS_SENTENCE):
        start -= 1
        if text[start] in _OPENS_SENTENCE:
            return True
    return not start or text[start - 1] in _ENDS_SENTENCE
