"""Dates as customers write them, English and Chinese, relative to when they wrote.

Owns reading a written date into a calendar day. Knows nothing about what the date is for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_WEEKDAY = (
    r"(?P<weekday>mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs?(?:day)?)?|fri(?:day)?|sat(?:urday)?"
    r"|sun(?:day)?)\b"
)
_CHINESE_DAYS = "一二三四五六日"
_TENSE = re.compile(
    # "Be delivered" and "have my jacket mended" are still to be, although they end as what has been does.
    r"(?P<ahead>\b(?:be|get|have(?=\s(?:my|the|it|this|that|them)\b))(?:\s\w+){0,3}?\s\w+ed\b"
    r"|\b(?:will|would|can|could|may|shall|like|want|need|book)\b|能|可以|想|会|要)"
    r"|(?P<been>\b(?:bought|ordered|purchased|received|delivered|arrived|shipped|sent|paid|charged|refunded|returned"
    r"|cancelled|canceled|called|dropped|stopped|broke|came|got|was|were|been|had|since)\b|了|过|[买订下到]的)",
    re.IGNORECASE,
)
_AROUND = 40
"""Characters before and after a day of the week in which words tell whether it has been or is to be."""
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WHOLE_WEEKDAY = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_FEW = {"a": 1, "an": 1, "a couple of": 2, "couple of": 2}
_FEW |= {word: number for number, word in enumerate((*_ONES, *_TEENS), start=1)}
_FEW |= {word: 10 * number for number, word in enumerate(_TENS, start=2)}
_CHINESE_NUMBERS = {"一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_RELATIVE = {
    "today": 0, "yesterday": -1, "tomorrow": 1, "the day before yesterday": -2, "day before yesterday": -2,
    "the day after tomorrow": 2, "day after tomorrow": 2, "last night": -1, "this morning": 0, "tonight": 0,
    "今天": 0, "今日": 0, "昨天": -1, "昨日": -1, "昨晚": -1, "前天": -2, "大前天": -3,
    "明天": 1, "后天": 2, "大后天": 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DateRule:
    """`read` turns a match into a day, or None when the calendar has no such day. `score` before any context."""

    name: str
    pattern: re.Pattern[str]
    score: float
    read: Callable[[re.Match[str], date], date | None]


def read_date(match: re.Match[str], rule: DateRule, now: datetime) -> str:
    """ISO day, or empty when there is no such day."""
    try:
        found = rule.read(match, now.date())
    except (ValueError, OverflowError):
        return ""
    return found.isoformat() if found else ""


def _numbers(match: re.Match[str], today: date) -> date | None:
    parts = match.groupdict()
    month = parts["month"]
    number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
    return _nearest(parts.get("year"), number, int(parts["day"]), today)


def _nearest(year: str | None, month: int, day: int, today: date) -> date:
    """Without a year, the one that brings the day closest to today: support talks about days not far away."""
    if year:
        return date(int(year), month, day)
    days = []
    for candidate in (today.year - 1, today.year, today.year + 1):
        try:
            days.append(date(candidate, month, day))
        except ValueError:
            continue
    if not days:
        raise ValueError(f"no day {month}-{day}")
    return min(days, key=lambda found: abs((found - today).days))


def _slashes(match: re.Match[str], today: date) -> date | None:
    """12/03/2026 has two readings; only one that the calendar settles, or that both readings share, is accepted."""
    first, second, year = int(match["first"]), int(match["second"]), match["year"]
    full = (f"20{year}" if len(year) == 2 else year) if year else None
    if first > 12 or first == second:
        return _nearest(full, second, first, today)
    return _nearest(full, first, second, today) if second > 12 else None


def _relative(match: re.Match[str], today: date) -> date | None:
    return today + timedelta(days=_RELATIVE[match["word"].lower()])


def _ago(match: re.Match[str], today: date) -> date | None:
    count = match["count"].lower()
    number = int(count) if count.isdigit() else _FEW.get(count) or _counted(count)
    unit = match["unit"].lower()
    days = 1 if unit[0] in "d天日" else 7 if unit[0] in "w周星" else 30
    return today - timedelta(days=number * days)


def _counted(written: str) -> int:
    """ "twenty-five", "二十五"."""
    if written.isascii():
        return sum(_FEW[word] for word in re.split(r"[\s-]", written))
    tens, ten, ones = written.rpartition("十")
    return (10 * _CHINESE_NUMBERS.get(tens, 1) if ten else 0) + _CHINESE_NUMBERS.get(ones, 0)


def _weekday(match: re.Match[str], today: date) -> date | None:
    """The last such day before today or the first after it, as is said or as the words around it speak of one."""
    weekday, which = match["weekday"], match["which"].lower()
    wanted = _DAYS.index(weekday[:3].lower()) if weekday.isascii() else _CHINESE_DAYS.index(weekday.replace("天", "日"))
    if which == "next" or (which in ("on", "") and _lies_ahead(match)):
        return today + timedelta(days=(wanted - today.weekday() - 1) % 7 + 1)
    return today - timedelta(days=(today.weekday() - wanted - 1) % 7 + 1)


def _lies_ahead(match: re.Match[str]) -> bool:
    """ "It came on Saturday" has been; "can I come on Saturday?" and "Saturday" are still to be."""
    before = list(_TENSE.finditer(match.string, max(0, match.start() - _AROUND), match.start()))
    nearest = before[-1] if before else _TENSE.search(match.string, match.end(), match.end() + _AROUND)
    return nearest is None or nearest["been"] is None


def _chinese_weekday(match: re.Match[str], today: date) -> date | None:
    """Chinese weeks begin on Monday: 上周五 is Friday of the week before this one."""
    wanted = _CHINESE_DAYS.index(match["weekday"].replace("天", "日"))
    weeks = {"上上": -2, "上": -1, "这": 0, "本": 0, "下": 1, "下下": 2}[match["which"]]
    return today - timedelta(days=today.weekday()) + timedelta(days=wanted, weeks=weeks)


def _rule(name: str, pattern: str, score: float, read: Callable[[re.Match[str], date], date | None]) -> DateRule:
    return DateRule(name, re.compile(pattern, re.IGNORECASE), score, read)


_NUMBER = (
    rf"\d{{1,3}}|an?|(?:(?:{'|'.join(_TENS)})[\s-])?(?:{'|'.join(_ONES)})|{'|'.join(_TEENS)}|{'|'.join(_TENS)}"
    r"|a couple of|couple of"
)
_ONE_TO_NINE = "[一两二三四五六七八九]"
_WORDS = "|".join(sorted((re.escape(word) for word in _RELATIVE if word.isascii()), key=len, reverse=True))
_CHINESE_WORDS = "|".join(sorted((word for word in _RELATIVE if not word.isascii()), key=len, reverse=True))

DATE_RULES = (
    _rule("iso", rf"(?<![\d-]){_YEAR}[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})(?![\d-])", 0.95, _numbers),
    _rule(
        "chinese",
        r"(?:(?P<year>(?:19|20)\d\d)\s*年\s*)?(?P<month>\d{1,2})\s*月\s*(?P<day>\d{1,2})\s*[日号號]?(?!\d)",
        0.95,
        _numbers,
    ),
    _rule("day month", rf"(?<!\d){_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?", 0.9, _numbers),
    _rule("month day", rf"\b{_MONTH}\s+{_DAY}\b(?!\s*(?::|%|\.\d))(?:,?\s+{_YEAR})?", 0.85, _numbers),
    _rule(
        "slashes",
        r"(?<![\d/.])(?P<first>\d{1,2})[/.](?P<second>\d{1,2})[/.](?P<year>(?:20)?\d\d)(?![\d/]|\.\d)",
        0.85,
        _slashes,
    ),
    _rule(
        "short slashes", r"(?<![\d/.])(?P<first>\d{1,2})/(?P<second>\d{1,2})(?P<year>)(?![\d/]|\.\d)", 0.35, _slashes
    ),
    _rule("relative", rf"\b(?P<word>{_WORDS})\b", 0.8, _relative),
    _rule("chinese relative", rf"(?P<word>{_CHINESE_WORDS})", 0.8, _relative),
    # Not the end of "5-7 days ago" or of "1.5 weeks ago", which say no day.
    _rule("ago", rf"\b(?<!\d[.,-])(?P<count>{_NUMBER})\s+(?P<unit>days?|weeks?|months?)\s+ago\b", 0.7, _ago),
    _rule(
        "chinese ago",
        rf"(?<![\d一两二三四五六七八九十百])(?<!\d[.,-])"
        rf"(?P<count>\d{{1,3}}|{_ONE_TO_NINE}?十{_ONE_TO_NINE}?|{_ONE_TO_NINE})"
        r"\s*个?(?P<unit>天|日|周|星期|月)(?:之|以)?前",
        0.7,
        _ago,
    ),
    _rule("weekday", rf"\b(?:(?P<which>last|next|this past|on)\s+){_WEEKDAY}", 0.7, _weekday),
    _rule("weekday alone", rf"\b(?P<which>)(?P<weekday>{_WHOLE_WEEKDAY})\b", 0.15, _weekday),
    _rule(
        "chinese weekday alone",
        r"(?<![上下这本每一两二三四五六七八九十几\d])(?P<which>)(?:周|星期|礼拜)(?P<weekday>[一二三四五六日天])",
        0.15,
        _weekday,
    ),
    _rule(
        "chinese weekday",
        r"(?P<which>上上|上|这|本|下下|下)个?(?:周|星期|礼拜)(?P<weekday>[一二三四五六日天])",
        0.8,
        _chinese_weekday,
    ),
)
"""Ordered: where two rules find the same place, the higher score wins, then the longer match."""
