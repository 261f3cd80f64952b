"""Personal data in what customers and agents write: addresses, numbers, papers, birthdays, and names.

Owns what counts as personal and how it is told from order numbers, prices and model names, which training needs. Names
of people are found by `names`. Knows nothing about conversations or what becomes of what is found.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

from finetune.names import find_names

Kind = Literal["email", "ip", "iban", "card", "id", "date-of-birth", "phone", "address", "name"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In this order: what an earlier kind has taken no later one takes."""

PLACEHOLDER = re.compile(rf"\[({'|'.join(KINDS)})-(\d{{1,6}})\]")
"""What personal values are replaced by; it is no value itself."""


@dataclass(frozen=True, slots=True)
class Personal:
    """A personal value at `start:end` of a text. `value` is one spelling of it: equal for the same person or number."""

    kind: Kind
    start: int
    end: int
    value: str


# ----------------------------------------------------------------------------------------------------- spelling

# Same length, so that places found in the folded text hold in the original.
_FOLD = {0xFF01 + i: 0x21 + i for i in range(94)} | dict.fromkeys(map(ord, "‐‑‒–—−"), ord("-"))
_FOLD |= dict.fromkeys(map(ord, "\u3000\u00a0\u2007\u2009\u202f"), ord(" "))

_REFERENCE = re.compile(
    r"(?:order|tracking|track|parcel|shipment|invoice|ticket|case|serial|sku|ean|upc|isbn|gtin|barcode|item|article|product"
    r"|voucher|coupon|code|reference|ref|customer|member|membership|transaction|booking|confirmation|policy|po"
    r"|订单|单|运单|快递|编号|条码|货号|商品|型号|序列号|发票|工单|优惠码|券码)"
    r"(?:[\s.:#：]*(?:number|numbers|num|no|nr|id|is|code|编号|单号|号码|号|是|为))*[\s.:#：-]*$",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"(?:\bv|version|firmware|software|release|build|app|update|driver|os|ios|android|版本|固件|系统|版)[\s.:]*$",
    re.IGNORECASE,
)


def _is_reference(text: str, start: int) -> bool:
    """Whether a number is introduced as that of an order, a parcel, a product: training needs it, so it stays."""
    return _REFERENCE.search(text[max(0, start - 32) : start]) is not None


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


# ------------------------------------------------------------------------------------------- addresses on the net

_AT = r"(?:\s?@\s?|\s?[(\[]\s?at\s?[)\]]\s?|\s?艾特\s?)"
_DOT = r"(?:\.|\s?[(\[]\s?dot\s?[)\]]\s?|\sdot\s|\s?点\s?)"
_LABEL = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9._%+'-])[A-Za-z0-9][A-Za-z0-9._%+'-]{{0,63}}{_AT}{_LABEL}(?:{_DOT}{_LABEL}){{1,5}}(?![A-Za-z0-9@])"
)
_SPOKEN_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9])(?P<local>[A-Za-z0-9_+-]{{2,40}}(?: dot [A-Za-z0-9_+-]{{1,40}}){{0,3}}) at "
    rf"(?!the\b|a\b|this\b|that\b|my\b|your\b){_LABEL}(?: dot [A-Za-z0-9-]{{2,40}}){{1,3}}(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_NO_MAILBOX = """
look looked looking order ordered buy bought shop shopped found find saw see seen it them this that here there price
prices available is was us me you him her item sold only cheaper checked page site
"""
_SPOKEN_AT = frozenset(_NO_MAILBOX.split())
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:.]*::|(?:[0-9A-Fa-f]+:){7})[0-9A-Fa-f:]{3,39}(?![\w:])", re.ASCII)
_OWN_NETWORKS = tuple(ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"))
"""Addresses that every router has name nobody."""


def _emails(text: str) -> Iterator[Personal]:
    if "@" in text or "艾特" in text or re.search(r"[(\[]\s?at\s?[)\]]", text, re.IGNORECASE):
        for match in _EMAIL.finditer(text):
            yield Personal("email", *match.span(), _email_key(match.group()))
    if " dot " in text.lower():
        for match in _SPOKEN_EMAIL.finditer(text):
            if match["local"].lower() not in _SPOKEN_AT:
                yield Personal("email", *match.span(), _email_key(match.group()))


def _email_key(written: str) -> str:
    spoken = re.sub(rf"{_AT}|\sat\s", "@", written.lower(), count=1)
    return re.sub(r"\s?[(\[]\s?dot\s?[)\]]\s?|\sdot\s|\s?点\s?", ".", spoken).replace(" ", "")


def _ips(text: str) -> Iterator[Personal]:
    for match in (*_IPV4.finditer(text), *(_IPV6.finditer(text) if "::" in text or text.count(":") > 6 else ())):
        try:
            address = ipaddress.ip_address(match.group())
        except ValueError:
            continue
        own = address.is_unspecified or address.is_loopback or any(address in network for network in _OWN_NETWORKS)
        if not own and not _VERSION.search(text[max(0, match.start() - 16) : match.start()]):
            yield Personal("ip", match.start(), match.end(), str(address))


# --------------------------------------------------------------------------------------------- numbers with checks

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}", re.IGNORECASE | re.ASCII)
_IBANS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27
GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27
MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23
TN24 TR26 UA29 VA22 VG24 XK20
"""
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBANS.split()}
"""Characters of an account number by country: https://www.swift.com/resource/iban-registry-pdf."""
_CARD = re.compile(r"(?<![A-Za-z0-9.-])\d(?:[ -]?\d){12,24}(?![A-Za-z0-9])", re.ASCII)
_ISSUED = tuple(
    (re.compile(first), lengths)
    for first, lengths in (
        (r"4", (16, 13, 19)),
        (r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)", (16,)),
        (r"3[47]", (15,)),
        (r"3(?:0[0-5]|[689])", (14, 16)),
        (r"35|6|5[0678]", (16, 19, 18, 17)),
    )
)
"""First digits that card networks give out, and how many follow (ISO/IEC 7812)."""


def luhn(value: str) -> bool:
    """Whether the digits of a card number check out."""
    digits = [int(c) for c in value if c.isdigit()][::-1]
    total = sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return total % 10 == 0


def iban(value: str) -> bool:
    """Whether an international account number checks out (ISO 13616, mod 97)."""
    compact = re.sub(r"[ -]", "", value)
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def resident_id(value: str) -> bool:
    """Whether a Chinese resident identity number checks out: its date of birth and its last character.

    GB 11643-1999, ISO 7064 MOD 11-2.
    """
    compact = re.sub(r"[ -]", "", value).upper()
    try:
        born = date(int(compact[6:10]), int(compact[10:12]), int(compact[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * (1 << (17 - place)) for place, digit in enumerate(compact[:17]))
    return 1900 <= born.year <= date.today().year and "10X98765432"[total % 11] == compact[17]


def _take(written: str, characters: int) -> str:
    """The first so many letters and digits with what separates them; empty when the group goes on after them."""
    places = [place for place, character in enumerate(written) if character.isalnum()]
    if len(places) < characters or (len(places) > characters and places[characters] == places[characters - 1] + 1):
        return ""
    return written[: places[characters - 1] + 1]


def _ibans(text: str) -> Iterator[Personal]:
    for match in _IBAN.finditer(text):
        found = _take(match.group(), _IBAN_LENGTHS.get(match.group()[:2].upper(), 99))
        if found and iban(found):
            yield Personal("iban", match.start(), match.start() + len(found), re.sub(r"[ -]", "", found).upper())


def _cards(text: str) -> Iterator[Personal]:
    for match in _CARD.finditer(text):
        digits = _digits(match.group())
        lengths = next((lengths for first, lengths in _ISSUED if first.match(digits)), ())
        for length in () if _is_reference(text, match.start()) else lengths:
            found = _take(match.group(), length)
            if found and luhn(found):
                yield Personal("card", match.start(), match.start() + len(found), _digits(found))
                break


# ----------------------------------------------------------------------------------------- papers and birthdays

_RESIDENT_ID = re.compile(r"(?<![A-Za-z0-9])\d{6}[ -]?\d{8}[ -]?\d{3}[\dXx](?![A-Za-z0-9])", re.ASCII)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII)
_PAPER = re.compile(
    r"(?:passport|national id(?:entity)?(?: card)?|identity card|id card|national insurance|\bni\b|\bssn\b"
    r"|social security|driv(?:er'?s?|ing) licen[cs]e|residence permit|护照|身份证|驾照|驾驶证|通行证|居留证)"
    r"(?:[\s.:#：=]*(?:number|no|nr|card|id|is|was|号码|号|是|为))*[\s.:#：=]*"
    r"(?P<value>[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"
    r"|(?!\d{4}-\d\d?-\d|\d\d?[/.-]\d\d?[/.-])[A-Z0-9](?:-?[A-Z0-9]){4,20})"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE | re.ASCII,
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = (
    r"(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b\.?(?:,?\s+\d{{4}})?"
    rf"|{_MONTH}\b\.?\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?"
    r"|\d{2,4}年\d{1,2}月\d{1,2}[日号]?|\d{1,2}月\d{1,2}[日号]|(?:19|20)\d{6})"
)
_BORN = (
    re.compile(
        r"(?:date of birth|\bd\.?o\.?b\b\.?|\bborn(?: on| at)?|birth ?dates?|birthday"
        r"|出生日期|出生年月日?|生日|出生于|生于)"
        rf"(?:\s*(?:is|was|on|the|是|为))*[\s:：=-]*(?P<value>{_DATE})",
        re.IGNORECASE | re.ASCII,
    ),
    re.compile(rf"(?P<value>{_DATE})(?:出生|生日|生人)", re.IGNORECASE | re.ASCII),
)


def _ids(text: str) -> Iterator[Personal]:
    for match in _RESIDENT_ID.finditer(text):
        if resident_id(match.group()):
            yield Personal("id", *match.span(), re.sub(r"[ -]", "", match.group()).upper())
    for match in _SSN.finditer(text):
        if not _is_reference(text, match.start()):
            yield Personal("id", *match.span(), _digits(match.group()))
    for match in _PAPER.finditer(text):
        if sum(character.isdigit() for character in match["value"]) >= 4:
            yield Personal("id", *match.span("value"), re.sub(r"[ -]", "", match["value"]).upper())


def _births(text: str) -> Iterator[Personal]:
    for pattern in _BORN:
        for match in pattern.finditer(text):
            yield Personal("date-of-birth", *match.span("value"), re.sub(r"\W+", " ", match["value"].lower()))


# --------------------------------------------------------------------------------------------------- telephones

_PHONES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"(?<![\w+])(?<!\d[ -])(?:\+|00)[1-9]\d{0,2}(?:[\s./-]{0,2}\(?\d{1,5}\)?){2,6}(?![\w-])",
        r"(?<![A-Za-z0-9_.+/-])(?<!\d )\(?0[1-9]\d{0,4}\)?(?:[\s./-]{0,2}\d{2,8}){1,4}(?![A-Za-z0-9_-])",
        r"(?<![A-Za-z0-9_.+/-])(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]{1,2}\d{3}[ .-]\d{4}(?![A-Za-z0-9_-])",
        r"(?<![A-Za-z0-9_.+/-])1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![A-Za-z0-9_-])",
    )
)
_SAID_PHONE = re.compile(
    r"(?:phone|cell|mobile|\btel\b|telephone|call me|text me|ring me|whatsapp|reach me|my number|电话|手机|微信)"
    r"(?:[\s.:：]*(?:number|numbers|no|is|on|at|under|号码|号|是|为))*[\s.:：-]*"
    r"(?P<value>\(?\d(?:[ .()/-]{0,2}\d){6,13})(?![A-Za-z0-9_-])",
    re.ASCII | re.IGNORECASE,
)
_NOBODYS = re.compile(r"(?:00?1|1)?8(?:00|33|44|55|66|77|88)\d{7}|0?080[08]\d{5,7}|(?:400|800)\d{7}|0?0800\d{5,7}")
"""Numbers free of charge belong to companies, and which one to call may be the answer."""
_LOOKS_LIKE_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:\s.*)?")


def _phones(text: str) -> Iterator[Personal]:
    for match in _SAID_PHONE.finditer(text):
        if 7 <= len(_digits(match["value"])) <= 15 and not _NOBODYS.fullmatch(_digits(match["value"])):
            yield Personal("phone", *match.span("value"), _phone_key(match["value"]))
    for number, pattern in enumerate(_PHONES):
        for match in pattern.finditer(text):
            written = match.group()
            digits = _digits(written)
            least = 10 if number == 0 and written.startswith("00") else 8 if number == 0 else 9
            if (
                least <= len(digits) <= 15
                and not _NOBODYS.fullmatch(digits)
                and not _LOOKS_LIKE_DATE.fullmatch(written)
                and (written.startswith("+") or not _is_reference(text, match.start()))
            ):
                yield Personal("phone", *match.span(), _phone_key(written))


def _phone_key(written: str) -> str:
    return _digits(written).removeprefix("00").removeprefix("0")


# ------------------------------------------------------------------------------------------------ postal addresses

_STREET = (
    r"(?:street|str|st|road|rd|avenue|ave|boulevard|blvd|lane|ln|crescent|cres|highway|hwy|parkway|pkwy|mews|alley"
    r"|gardens|terrace)"
)
_WIDE_STREET = r"(?:drive|dr|court|ct|way|place|pl|close|square|sq|row|walk|hill|park|green|quay)"
_HOUSE = r"(?<![\w.,$€£#-])\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"
_UNIT = r"(?i:,?\s+(?:apt|apartment|unit|suite|ste|flat|floor|fl|room|#)\b\.?\s?#?[a-z]?\d{0,4}[a-z]?\b)?"
_POSTCODE = (
    r"(?:(?:[A-Z]{2} )?(?:\d{5}(?:-\d{4})?|[A-Z]\d[A-Z] ?\d[A-Z]\d)|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{4} [A-Z]{2})\b"
)
_TOWN = rf"(?:,\s?[A-Z][\w'-]+(?: [A-Z][a-z'-]+){{0,2}}(?![\w@])){{0,2}}(?:,?\s{_POSTCODE})?"
_WORD = (
    r"(?!(?:days?|hours?|minutes?|weeks?|months?|years?|miles?|km|new|more|of|on|in|the|a|an|person|people|x|by|inch"
    r"|star|for|at|to|and|per)\b)"
)
_ADDRESSES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_HOUSE},? (?:(?:[NSEW]|North|South|East|West)\.? )?"
        r"(?:(?:[A-Z][\w'’-]*|St\.|\d{1,3}(?:st|nd|rd|th)) ){1,3}"
        rf"(?i:(?:{_STREET}|{_WIDE_STREET})\b(?! (?:met(?:er|re)s?|feet|foot)\b)\.?){_UNIT}{_TOWN}",
        rf"(?i:(?<=\bat )|(?<=\bto )|(?<=\bis )|(?<=\bfrom )|(?<=address )|(?<=\bnear )|(?<=: )|^){_HOUSE} "
        rf"(?i:(?:{_WORD}[a-z'’-]{{2,20}} ){{1,3}}{_STREET}\b\.?){_UNIT}{_TOWN}",
        r"\b[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|gasse|allee|weg|platz|ufer|gracht|straat|laan|plein|gatan|vägen|gata"
        r"|veien|vej)\s\d{1,4}\s?[a-z]?\b"
        r"(?:,\s?(?:[A-Z]{1,2}-)?\d{4,5}(?: [A-Z]{2})?\s[A-ZÄÖÜ][\wäöüß-]+)?",
        rf"{_HOUSE},? (?:bis |ter )?(?:rue|avenue|boulevard|place|impasse|chemin|via|calle) "
        r"(?:[\w'’-]+ ){0,3}[A-Z][\w'’-]+(?:,\s?\d{5}\s[A-Z][\w-]+)?",
        r"(?i:\bP\.?\s?O\.?\s?Box)\s\d{1,6}\b" + _TOWN,
    )
)
_CJK = "\u3400-\u9fff"
_CHINESE_NUMBER = r"[\d一二三四五六七八九十百零〇]{1,6}"
_CHINESE_ADDRESS = re.compile(
    rf"(?P<head>[{_CJK}]{{2,30}})(?:(?<=路)|(?<=街)|(?<=大道)|(?<=巷)|(?<=弄)|(?<=胡同)|(?<=道)|(?<=村)|(?<=里))"
    rf"{_CHINESE_NUMBER}(?:号|弄)(?:院|楼)?"
    rf"(?:[{_CJK}]{{0,8}}?[A-Za-z]?{_CHINESE_NUMBER}(?:号楼|栋|幢|座|单元|层|楼|室|号|户)){{0,4}}"
)
_ESTATE = re.compile(
    rf"(?P<head>[{_CJK}]{{2,20}}(?:小区|花园|家园|公寓|大厦|苑|公馆|新村)){_CHINESE_NUMBER}(?:号楼|栋|幢|座|号)"
    rf"(?:[A-Za-z]?{_CHINESE_NUMBER}(?:单元|层|楼|室|号|户)?){{0,3}}"
)
_LEADS_TO = re.compile(r".*(?:[到至在住是为给寄送址叫去往于改成]|我家|公司|我们)")
"""Before an address in a Chinese sentence: its words are not divided, so the head is cut after the last of these."""


def _addresses(text: str) -> Iterator[Personal]:
    for pattern in _ADDRESSES:
        for match in pattern.finditer(text):
            yield _address(text, *match.span())
    for pattern in (_CHINESE_ADDRESS, _ESTATE):
        for match in pattern.finditer(text):
            lead = _LEADS_TO.match(match["head"])
            start = match.start() + (lead.end() if lead else 0)
            if re.search(rf"[{_CJK}]{{2}}", text[start : match.end()]):
                yield _address(text, start, match.end())


def _address(text: str, start: int, end: int) -> Personal:
    return Personal("address", start, end, re.sub(r"\W+", " ", text[start:end].casefold()).strip())


# ------------------------------------------------------------------------------------------------------- together

_FINDERS = (_emails, _ips, _ibans, _cards, _ids, _births, _phones, _addresses)
_NUMBER = re.compile(r"[\d一二三四五六七八九十]|::")
"""Every kind but two has a number in it."""


def find_personal(text: str, parties: re.Pattern[str] | None = None) -> tuple[Personal, ...]:
    """Personal values of `text` in order of place, none overlapping another. Placeholders are no values."""
    folded = text if text.isascii() else text.translate(_FOLD)
    taken = [match.span() for match in PLACEHOLDER.finditer(folded)] if "[" in folded else []
    chosen: list[Personal] = []

    def choose(found: Iterable[Personal]) -> None:
        for one in sorted(found, key=lambda one: (one.start, one.start - one.end)):
            # Places taken are in order and apart, so only the neighbours can be in the way.
            place = bisect(taken, (one.start, one.end))
            free_before = place == 0 or taken[place - 1][1] <= one.start
            if free_before and (place == len(taken) or one.end <= taken[place][0]):
                taken.insert(place, (one.start, one.end))
                chosen.append(one)

    for find in _FINDERS if _NUMBER.search(folded) else (_emails,):
        choose(find(folded))
    names = find_names(folded, parties, [one.start for one in chosen])
    choose(Personal("name", start, end, folded[start:end]) for start, end in names)
    return tuple(sorted(chosen, key=lambda one: one.start))
