"""What a sentence says, taken apart so that two can be compared: its amounts, what it denies and what it claims.

Owns how numbers with their units, negation and alternatives are read, in English and in Chinese. Knows nothing about
passages: the words here are those of grammar and of measures, none is about any company's matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from retriever.keyword_index import terms, weighty

CLOCK: Final = "o'clock"

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
_ENGLISH: Final = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_CHINESE: Final = "零一二三四五六七八九"
_TENS: Final = {"十": 10, "百": 100, "千": 1000}
_SAME_UNIT: Final = {"percent": "%", "dollar": "$", "euro": "€", "pound": "£", "块": "元"}
_DIGITS: Final = r"\d+(?:[.,]\d+)*"
# Chinese numbers in words must stand before a measure: 一 also begins 一下 and 一般.
_WORDS: Final = (
    rf"\b(?:{'|'.join(_ENGLISH[1:])})\b|[{_CHINESE[1:]}两十百千]+(?=个?(?:工作日|小时|分钟|[天日周月年元块]))"
)
_NUMBER = re.compile(rf"{_DIGITS}|{_WORDS}", re.IGNORECASE)
_AMOUNT = re.compile(
    rf"""(?<![A-Za-z\d.,:])(?P<hour>\d{{1,2}})
      (?:[:：](?P<minute>[0-5]\d)(?![A-Za-z\d:])(?:\s?(?P<half>[ap])(?:m\b|\.m\.))?|\s?(?P<noon>[ap])(?:m\b|\.m\.))
    | (?P<sign>[$€£¥])\s?(?P<money>{_DIGITS})(?:\s?[-–]\s?(?P<more>{_DIGITS}))?
    | (?<![A-Za-z\d.,/-])(?P<low>{_DIGITS}|{_WORDS})(?:\s?(?:-|–|to|or|至|到)\s?(?P<high>{_DIGITS}|{_WORDS}))?[\s-]?
      (?P<unit>%|°|(?:(?:business|working|calendar)\s)?[a-z]+[²³]?|个?(?:工作日|自然日|小时|分钟|星期|[{_HAN}]))""",
    re.VERBOSE | re.IGNORECASE,
)
_CLAUSE = re.compile(r"(?:[^,;:()|—–，；：、（）.。!?！？]|[.,:](?=\d))+")
_NOT = re.compile(
    r"\b(?:not|cannot|never|no|nor|\w+n['’]t)\b"
    # Not in 不仅, 不同, 没关系, 无论, 未来: words of their own.
    r"|(?:不(?![仅同久过但论管足少断错])|没(?!关系)有?|无(?!论)法?|未(?!来)|勿)[能可以会得被要用再]*",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"\b(?:if|when|whenever|whether|while|once|until|that|which|who|where|how|what|why|though|although"
    r"|because|than|without)\b|如果|若|要是|只要|当|时|的话",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"\b(?:only|unless|except|excluding|other|else|instead)\b|只|仅|除", re.IGNORECASE)
_OPPOSED: Final = (("in", "out"), ("on", "off"), ("before", "after"), ("up", "down"), ("over", "under"))
_EITHER = re.compile(
    r"(?:(?P<between>\bbetween)\s+)?(?P<one>[\w'’ -]+?)\s(?:or|(?(between)and|or))\s(?P<other>[\w'’ -]+)"
)
_EITHER_CHINESE = re.compile(rf"(?P<one>[{_HAN}]{{2}})(?:或者?|还是)(?P<other>[{_HAN}]{{2}})")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w-]*")
_LOWER = re.compile(r"(?<![\w-])[a-z]+(?![\w-])")


@dataclass(frozen=True, slots=True)
class Amount:
    """A value, of what, and how it is written: `30`, `day`, `30 days`."""

    value: float
    unit: str
    wording: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence. `denied` and `claimed` are words, each with the clause that says no or yes to it."""

    text: str
    matter: frozenset[str]
    """Its content words without numbers and single letters: what it is about."""
    amounts: tuple[Amount, ...]
    numbers: frozenset[float]
    """All that it mentions, whatever they count."""
    denied: dict[str, str]
    claimed: dict[str, str]


def statement(text: str, asked: str = "") -> Statement:
    """What `text` says; the question that it answers, if any, belongs to it."""
    row = text.count(" | ")
    content = frozenset(weighty(terms(text)))
    # In a table with columns the head says whose number is whose, and a cell claims nothing.
    amounts = tuple(_amounts(text, content)) if row < 2 else ()
    denied, claimed = _polarity(text) if not row else ({}, {})
    return Statement(
        text=" ".join(f"{asked} {text}".split()),
        matter=frozenset(filter(_wordy, weighty(terms(f"{asked} {text}")))),
        amounts=amounts,
        numbers=frozenset(map(_value, _NUMBER.findall(text))),
        denied=denied,
        claimed=claimed,
    )


def opposed(one: str, other: str) -> bool:
    """Whether two texts differ by a small word that turns a matter round: check in, check out."""
    first, second = (frozenset(re.findall("[a-z]+", text.casefold())) for text in (one, other))
    return any({a, b} <= first ^ second and (a in first) != (b in first) for a, b in _OPPOSED)


def alternatives(text: str) -> Iterator[frozenset[str]]:
    """Pairs of words that `text` sets against each other: `a replacement or a full refund`, 退款或换货.

    Lin, Zhao, Qin and Zhou 2003, "Identifying synonyms among distributionally similar words": what stands in
    `either X or Y` is alike and yet not the same.
    """
    for match in _EITHER_CHINESE.finditer(text):
        yield frozenset(match.groups())
    for match in _EITHER.finditer(text):
        # The word before `or`, and what follows it with an adjective at most.
        for pair in product(_ordered(match["one"])[-1:], _ordered(match["other"])[:2]):
            yield frozenset(pair)


def names(text: str) -> Iterator[str]:
    """Words that are written as names are: with a capital inside a sentence."""
    return (term for name in _NAME.findall(text) for term in terms(name) if len(term) > 1 and not term.isdigit())


def plain(text: str) -> Iterable[str]:
    """Words that are written without a capital."""
    return terms(" ".join(_LOWER.findall(text)))


def _wordy(term: str) -> bool:
    return len(term) > 1 and not term[0].isdigit() and term not in _ENGLISH


def _amounts(text: str, content: frozenset[str]) -> Iterator[Amount]:
    for match in _AMOUNT.finditer(text):
        wording = " ".join(match.group().split())
        if match["hour"]:
            afternoon = (match["half"] or match["noon"] or "").lower() == "p" and int(match["hour"]) < 12
            yield Amount(int(match["hour"]) + 12 * afternoon + int(match["minute"] or 0) / 60, CLOCK, wording)
        elif unit := match["sign"] or _unit(match["unit"], content):
            for value in filter(None, match.group("money", "more", "low", "high")):
                yield Amount(_value(value), unit, wording)


def _unit(written: str, content: frozenset[str]) -> str:
    """One spelling of a unit; empty where the number counts nothing (`90 for members`)."""
    unit = written.casefold().removeprefix("个")
    if unit[0].isascii() and unit[0].isalpha():
        if terms(unit)[-1] not in content:
            return ""
        unit = unit.removesuffix("s")
    return _SAME_UNIT.get(unit, unit)


def _value(written: str) -> float:
    if written[0].isdigit():
        whole = re.sub(r",(?=\d{3}\b)", "", written)
        return float(re.sub(r"[.,](?=.*[.,])", "", whole).replace(",", "."))
    if (word := written.casefold()).isascii():  # `ſix`, with a long s, is matched as six too
        return _ENGLISH.index(word)
    value, digit = 0, 0
    for character in written:
        if character in _TENS:
            value, digit = value + (digit or 1) * _TENS[character], 0
        else:
            digit = 2 if character == "两" else _CHINESE.index(character)
    return value + digit


def _polarity(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """`(denied, claimed)`. A clause with a condition says neither, and a sentence with an exception nothing."""
    denied: dict[str, str] = {}
    claimed: dict[str, str] = {}
    if _EXCEPTION.search(text):
        return denied, claimed
    for match in _CLAUSE.finditer(text):
        clause = " ".join(match.group().split()).removeprefix("- ")
        if _CONDITION.search(clause):
            continue
        if no := _NOT.search(clause):
            # What a negation stands before is what it denies: in `cannot be returned to a store`, the returning.
            for word in _ordered(clause[no.end() :])[:1]:
                denied.setdefault(word, clause)
        else:
            for word in _ordered(clause):
                claimed.setdefault(word, clause)
    # Which of its words a sentence still claims when it also denies something is beyond this reading.
    return denied, {} if _NOT.search(text) else claimed


def _ordered(clause: str) -> list[str]:
    """Content words without numbers, in order; of Chinese the pairs of characters."""
    content = set(weighty(terms(clause)))
    found: list[str] = []
    for word in re.findall(rf"[{_HAN}]+|[^\W{_HAN}]+", clause):
        pairs = [word[i : i + 2] for i in range(len(word) - 1)]
        found += pairs if re.match(f"[{_HAN}]", word) else [term for term in terms(word) if term in content]
    return [word for word in found if not word[0].isdigit()]
