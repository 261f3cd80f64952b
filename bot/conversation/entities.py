"""Typed spans of a message: order numbers, e-mail addresses, dates, amounts, phone numbers.

Recognisers are data: a pattern with a low base score, words nearby that raise or lower it, and a reader that
normalises the value or refuses it. Knows nothing about what a value is for; slots check theirs with `slot_value`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

from bot.conversation.dates import DATE_RULES, read_date
from bot.conversation.messages import Entity
from bot.conversation.words import CJK, folded

EntityKind = Literal["order_number", "email", "date", "amount", "phone"]
KINDS: tuple[EntityKind, ...] = ("order_number", "email", "date", "amount", "phone")

ACCEPTED = 0.5
"""Entities below this score are not reported."""

_NEARBY = 32
"""Characters before and after a match in which context words count."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to find one kind of entity. `read` gives the normalised value, empty to refuse the match."""

    kind: EntityKind
    name: str
    pattern: re.Pattern[str]
    score: float
    read: Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Context:
    """Words near a match: `raising` ones add 0.4 to its score, `lowering` ones take 0.4 away."""

    raising: re.Pattern[str]
    lowering: re.Pattern[str] | None = None


def _whole(match: re.Match[str]) -> str:
    return match.group().upper().lstrip("#").replace(" ", "")


def _email(match: re.Match[str]) -> str:
    name, _, domain = match.group().rpartition("@")
    return "" if ".." in name or name.endswith(".") else f"{name}@{domain.lower()}"


def _phone(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match.group())
    plus = match.group().lstrip(" (").startswith("+")
    return ("+" if plus else "") + digits if 7 <= len(digits) <= 15 else ""


_CURRENCY_NAMES = {
    "USD": ("$", "us$", "usd", "dollar", "dollars", "bucks", "美元", "刀"),
    "EUR": ("€", "eur", "euro", "euros", "欧元"),
    "GBP": ("£", "gbp", "pound", "pounds", "quid", "英镑"),
    "CNY": ("¥", "￥", "rmb", "cny", "yuan", "元", "块", "块钱", "人民币"),
    "CAD": ("ca$", "c$", "cad", "加元", "加币"),
    "AUD": ("a$", "aud"),
    "CHF": ("chf",),
    "HKD": ("hk$", "hkd", "港币"),
    "JPY": ("jpy", "yen", "日元"),
}
_CURRENCIES = {written: code for code, names in _CURRENCY_NAMES.items() for written in names}
_SIGNS = r"us\$|ca?\$|hk\$|a\$|[$€£¥￥]|usd|eur|gbp|rmb|cny|cad|aud|chf|hkd|jpy|人民币"
_UNITS = (
    r"dollars?|bucks|euros?|pounds?|quid|yuan|yen|usd|eur|gbp|rmb|cny|cad|aud|chf|hkd|jpy|€|£|\$"
    r"|块钱|元|块|加元|加币|美元|欧元|英镑|港币|日元|人民币|刀"
)
_NUMBER = r"(?P<number>\d{1,3}(?:[,.' ]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?)"


def _amount(match: re.Match[str]) -> str:
    number = _decimal(match["number"])
    currency = _CURRENCIES[match["currency"].lower()]
    return f"{number} {currency}" if number else ""


def _decimal(written: str) -> str:
    """ "1.200,50" and "1,200.50" are 1200.50: what stands before the last one or two digits is the decimal sign."""
    found = re.fullmatch(r"(\d[\d,.' ]*?)(?:[.,](\d{1,2}))?", written)
    if found is None:
        return ""
    whole, cents = re.sub(r"\D", "", found[1]), found[2]
    if not int(whole) and not int(cents or 0):
        return ""
    return f"{int(whole)}.{cents:0<2}" if cents else str(int(whole))


def _rule(kind: EntityKind, name: str, pattern: str, score: float, read: Callable[[re.Match[str]], str]) -> Rule:
    return Rule(kind, name, re.compile(pattern, re.IGNORECASE), score, read)


_BEFORE_CODE = r"(?<![\w@/.-])"
_BEFORE_NUMBER = r"(?<![\w.,/+@$€£¥#-])"
_DOMAIN = r"(?:[A-Z0-9](?:[A-Z0-9-]{0,61}[A-Z0-9])?\.)+[A-Z]{2,24}(?![\w-])"

RULES = (
    _rule(
        "order_number", "letters and digits", rf"{_BEFORE_CODE}#?[A-Z]{{1,4}}-?\d{{4,12}}(?![\w@]|[.-]\w)", 0.4, _whole
    ),
    _rule("order_number", "hash and digits", r"(?<![\w&])#\s?\d{4,12}(?![\w.-])", 0.55, _whole),
    _rule("order_number", "digits", rf"{_BEFORE_NUMBER}\d{{5,12}}(?![\w@%]|[.,/-]\d)", 0.2, _whole),
    _rule("order_number", "digits", rf"(?<=[{CJK}:：])\d{{5,12}}(?![\dA-Za-z@%元块年月日]|[.,/-]\d)", 0.2, _whole),
    _rule(
        "email",
        "address",
        rf"(?<![A-Za-z0-9._+%-])[A-Z0-9](?:[A-Z0-9._+%-]{{0,62}}[A-Z0-9_+%-])?@{_DOMAIN}",
        0.95,
        _email,
    ),
    _rule("phone", "international", r"(?<![\w+])\+\d{1,3}(?:[\s.-]?\(?\d{1,4}\)?){2,5}(?!\w)", 0.85, _phone),
    _rule("phone", "chinese mobile", r"(?<![A-Za-z0-9.+-])1[3-9]\d[\s-]?\d{4}[\s-]?\d{4}(?![A-Za-z0-9-])", 0.6, _phone),
    _rule(
        "phone",
        "grouped",
        r"(?<![\w.+/-])(?:\(\d{2,4}\)\s?|0?\d{2,4}[\s.-])\d{3,4}[\s.-]\d{3,4}(?![\w/-]|\.\d)",
        0.55,
        _phone,
    ),
    _rule("phone", "area and number", r"(?<![\w.+/-])\(?0\d{1,4}\)?[\s/-]?\d{5,8}(?![\w/-]|\.\d)", 0.35, _phone),
    _rule("phone", "digits", rf"{_BEFORE_NUMBER}0?\d{{9,11}}(?![\w@%]|[.,/-]\d)", 0.15, _phone),
    _rule("amount", "sign first", rf"(?<!\w)(?P<currency>{_SIGNS})\s?{_NUMBER}(?![\d%]|[.,]\d)", 0.9, _amount),
    _rule("amount", "unit last", rf"(?<![A-Za-z0-9.,]){_NUMBER}\s?(?P<currency>{_UNITS})(?![A-Za-z])", 0.85, _amount),
)
"""Where two rules find the same place, the higher score wins, then the longer match."""

CONTEXT: dict[EntityKind, Context] = {
    "order_number": Context(
        re.compile(
            r"\border\b|\border[- ]?(?:no|nr|num|number|id)\b|purchase|confirmation|订单|单号|编号", re.IGNORECASE
        ),
        re.compile(
            r"\bmodel\b|\bsku\b|version|\bserial\b|phone|call me|\bzip\b|postcode|型号|电话|手机|邮编|版本",
            re.IGNORECASE,
        ),
    ),
    "email": Context(re.compile(r"e-?mail|邮箱|邮件", re.IGNORECASE)),
    "date": Context(
        re.compile(
            r"\bon\b|\bsince\b|\bby\b|order|bought|deliver|arriv|receiv|\bdate\b|ship|日期|下单|购买|买的|收到|送达|到货",
            re.IGNORECASE,
        )
    ),
    "amount": Context(re.compile(r"charg|paid|pay|cost|price|refund|total|扣|付|价格|退款|金额", re.IGNORECASE)),
    "phone": Context(
        re.compile(r"phone|call|mobile|\bcell\b|\btel\b|whatsapp|number is|reach me|电话|手机|联系", re.IGNORECASE),
        re.compile(r"\border\b|tracking|serial|\bcard\b|invoice|订单|单号|卡号|快递|运单", re.IGNORECASE),
    ),
}


def find_entities(
    text: str,
    now: datetime,
    patterns: Sequence[tuple[EntityKind, str]] = (),
    expected: EntityKind | None = None,
) -> tuple[Entity, ...]:
    """Entities of `text` in order of place, none overlapping another.

    `patterns` are the company's own formats, which replace our rules for their kind. `expected` is the kind that was
    just asked for: being asked is context. Dates are read relative to `now`.
    """
    text = folded(text)
    found: list[Entity] = []
    for match, kind, name, score, value in _matches(text, now, patterns):
        score, because = _in_context(text, match, kind, score, expected)
        if value and score >= ACCEPTED:
            found.append(Entity(kind, value, match.start(), match.end(), round(score, 2), name + because))
    chosen: list[Entity] = []
    for entity in sorted(found, key=lambda one: (-one.score, one.start - one.end, one.start)):
        if all(entity.end <= other.start or entity.start >= other.end for other in chosen):
            chosen.append(entity)
    return tuple(sorted(chosen, key=lambda one: one.start))


def slot_value(text: str, kind: EntityKind, pattern: str, now: datetime) -> str:
    """The value that answers a question for a slot of `kind`; empty when the text holds none.

    More forgiving than `find_entities`, because the question was asked: "nl 204 881" is read as NL-204881 where that
    is the company's format.
    """
    patterns = ((kind, pattern),) if pattern else ()
    for entity in find_entities(text, now, patterns, expected=kind):
        if entity.kind == kind:
            return entity.value
    if kind == "amount" and (alone := re.fullmatch(rf"\W*{_NUMBER}\W*", folded(text))):
        return _decimal(alone["number"])
    return _loosely(text, pattern) if pattern else ""


def of_format(value: str, pattern: str) -> bool:
    """Whether a normalised value is in a company's format; `pattern` is empty where it has none."""
    return bool(pattern) and _company_pattern(pattern).fullmatch(value) is not None


def _matches(
    text: str, now: datetime, patterns: Sequence[tuple[EntityKind, str]]
) -> Iterable[tuple[re.Match[str], EntityKind, str, float, str]]:
    own = {kind for kind, _ in patterns}
    for kind, pattern in patterns:
        for match, value in _company_matches(text, pattern):
            yield match, kind, "company format", 0.95, value
    for rule in RULES:
        if rule.kind not in own:
            for match in rule.pattern.finditer(text):
                yield match, rule.kind, rule.name, rule.score, rule.read(match)
    if "date" not in own:
        for date_rule in DATE_RULES:
            for match in date_rule.pattern.finditer(text):
                yield match, "date", date_rule.name, date_rule.score, read_date(match, date_rule, now)


def _in_context(
    text: str, match: re.Match[str], kind: EntityKind, score: float, expected: EntityKind | None
) -> tuple[float, str]:
    """The score with its context counted, and the words that counted, for `Entity.why`."""
    context = CONTEXT[kind]
    nearby = text[max(0, match.start() - _NEARBY) : match.start()] + "\n" + text[match.end() : match.end() + _NEARBY]
    because = ""
    if kind == expected:
        score, because = score + 0.4, ", asked for"
    elif raised := context.raising.search(nearby):
        score, because = score + 0.4, f", near {raised.group().lower()!r}"
    if context.lowering and (lowered := context.lowering.search(nearby)):
        score, because = score - 0.4, f"{because}, although near {lowered.group().lower()!r}"
    return min(score, 1.0), because


@lru_cache(maxsize=64)
def _company_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _company_matches(text: str, pattern: str) -> Iterable[tuple[re.Match[str], str]]:
    """Matches that stand alone, with their value in one spelling: without spaces and dashes where the format allows."""
    for match in _company_pattern(pattern).finditer(text):
        around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
        if match.group() and not re.search(r"[A-Za-z0-9]", around):
            yield match, _one_spelling(match.group(), pattern)


def _one_spelling(written: str, pattern: str) -> str:
    tight = re.sub(r"[\s-]", "", written).upper()
    return tight if _company_pattern(pattern).fullmatch(tight) else re.sub(r"\s", "", written).upper()


def _loosely(text: str, pattern: str) -> str:
    """A code written with other spaces and dashes than the company's: each run of letters and digits, re-joined."""
    whole = _company_pattern(pattern)
    for match in re.finditer(r"[A-Za-z]{0,5}[\s#:-]{0,2}\d(?:[\s-]?\d){2,}", folded(text)):
        letters, digits = re.sub(r"[^A-Za-z]", "", match.group()), re.sub(r"\D", "", match.group())
        for written in (f"{letters}{digits}", f"{letters}-{digits}", digits):
            if whole.fullmatch(written):
                return written.upper()
    return ""
