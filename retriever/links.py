"""What a page says about other pages, and when two URLs are one.

Owns links, canonical addresses, what a page and robots.txt ask of crawlers, and sitemaps. Pure: fetches nothing, keeps
nothing. What parses what strangers wrote is called in the child that `readers.child` limits.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from retriever.fetch import AGENT, LONGEST_URL, MOST_BYTES, place_of
from retriever.passages import RetrieverError

MOST_LINKS: Final = 2_000
"""Of one page."""
MOST_LOCATIONS: Final = 50_000
"""Of one site map, as sitemaps.org has it."""
DEEPEST_PATH: Final = 12
MOST_RULES: Final = 500_000
"""Bytes of robots.txt that are heeded (RFC 9309, 2.5)."""
_OF_A_VISIT = re.compile(r"(?:utm_\w+|gclid|fbclid|mc_[ce]id|phpsessid|jsessionid|sessionid|sid)", re.IGNORECASE)
_SESSION = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/?#]*", re.IGNORECASE)
_SLASHES = re.compile(r"/{2,}")


class Said(NamedTuple):
    """What a page says: the URLs it links to, in order; the URL it goes by; whether it may be kept."""

    links: tuple[str, ...]
    canonical: str
    kept: bool


def normal(url: str, base: str = "") -> str:
    """The one spelling of a URL: no fragment, nothing that belongs to a visit, queries in order, no doubled slashes.

    Raises RetrieverError for what is no URL that may be followed.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        queries = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _OF_A_VISIT.fullmatch(k)]
        path = _SLASHES.sub("/", _SESSION.sub("", parts.path)).replace(" ", "%20") or "/"
        bare = urlunsplit((parts.scheme, parts.netloc, "/", "", ""))
        steps = urlsplit(urljoin(bare, path)).path  # without . and ..
        spelt = urlunsplit((parts.scheme, parts.netloc, steps, urlencode(sorted(queries)), ""))
    except ValueError:  # brackets that hold no address, half a character
        raise RetrieverError(f"{url[:100]!a}: not a URL") from None
    return place_of(spelt).url


def normal_ones(urls: Iterable[str], base: str, most: int = MOST_LOCATIONS) -> list[str]:
    """Those of the URLs that may be followed, once each: mailto:, javascript: and what is misspelt lead to no page."""
    found: dict[str, None] = {}
    for url in urls:
        with suppress(RetrieverError):
            found[normal(url, base)] = None
        if len(found) == most:
            break
    return list(found)


def is_trap(url: str) -> bool:
    """Whether a URL looks made up by a machine that never ends: too deep, too long, or going round."""
    steps = [step for step in urlsplit(url).path.split("/") if step]
    round_and_round = any(steps.count(step) > 2 for step in steps)
    return len(steps) > DEEPEST_PATH or len(url) > LONGEST_URL // 2 or round_and_round


def said_by(body: bytes, url: str, headers: Mapping[str, str]) -> Said:
    """What an HTML page says. What it asks of robots is obeyed, in its head or in its headers."""
    page = _parsed(body, headers.get("content-type", ""))
    asked = headers.get("x-robots-tag", "")
    if page is None:
        return Said((), "", may_be_kept(asked))
    for meta in page.iter("meta"):
        if (meta.get("name") or "").lower() in ("robots", "frontdesk"):
            asked += "," + (meta.get("content") or "")
    base = next((tag.get("href") for tag in page.iter("base") if tag.get("href")), "")
    try:
        base = urljoin(url, base)
    except ValueError:  # what is no URL is no base
        base = url
    links = () if _words(asked) & {"nofollow", "none"} else tuple(normal_ones(_links(page), base, MOST_LINKS))
    return Said(links, _canonical(page, base), may_be_kept(asked))


def may_be_kept(asked: str) -> bool:
    """Whether what is asked of robots, as `X-Robots-Tag` has it, leaves the page to be kept."""
    return not _words(asked) & {"noindex", "none"}


def _words(asked: str) -> set[str]:
    return {word.strip() for word in re.split(r"[,:;]", asked.lower())}


def _parsed(body: bytes, content_type: str) -> Any:
    from lxml import etree, html

    found = re.search(r"charset=[\"']?([\w-]+)", content_type, re.IGNORECASE)
    try:
        return html.document_fromstring(body, parser=html.HTMLParser(encoding=found[1] if found else None))
    except etree.XMLSyntaxError as error:
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:  # a page with links must not pass for one without
            raise MemoryError from None
        return None
    except (etree.ParserError, ValueError, LookupError):
        return None


def _links(page: Any) -> Iterator[str]:
    for tag in page.iter("a", "area"):
        if (href := tag.get("href")) and "nofollow" not in (tag.get("rel") or "").lower().split():
            yield href


def _canonical(page: Any, base: str) -> str:
    for tag in page.iter("link"):
        if "canonical" in (tag.get("rel") or "").lower().split() and tag.get("href"):
            return next(iter(normal_ones([tag.get("href")], base)), "")
    return ""


def locations(body: bytes, url: str) -> tuple[tuple[str, ...], bool]:
    """The URLs that a site map lists, and whether these are site maps themselves (sitemaps.org, gzip or not).

    Raises RetrieverError when it is none.
    """
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import ParseError, fromstring  # type: ignore[import-untyped]

    if body.startswith(b"\x1f\x8b"):
        inflate = zlib.decompressobj(31)
        try:
            body = inflate.decompress(body, MOST_BYTES + 1)
        except zlib.error:
            raise RetrieverError(f"{url}: a damaged site map (not gzip); make it anew") from None
        if len(body) > MOST_BYTES:
            raise RetrieverError(f"{url}: a site map of more than {MOST_BYTES // 1_000_000} MB; split it")
    try:
        root = fromstring(body)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last of an unknown encoding
        raise RetrieverError(f"{url}: not a site map ({str(error)[:80]}); give a page or a site map") from None
    kind = root.tag.rpartition("}")[2]
    if kind not in ("urlset", "sitemapindex"):
        raise RetrieverError(f"{url}: an XML file <{kind[:40]}>, not a site map; give a page or a site map")
    named = (element.text for element in root.iter() if element.tag.rpartition("}")[2] == "loc" and element.text)
    return tuple(normal_ones(named, url)), kind == "sitemapindex"


def manners(robots: bytes) -> tuple[float, tuple[str, ...]]:
    """What robots.txt asks of us: seconds between two requests, 0 where it says none; and the site maps it names."""
    rules = _rules(robots)
    return rules.crawl_delay(AGENT) or 0.0, tuple(rules.sitemaps)


def allowed(robots: bytes, urls: Sequence[str]) -> list[bool]:
    """Which of the URLs robots.txt lets us read."""
    rules = _rules(robots)
    return [bool(rules.can_fetch(url, AGENT)) for url in urls]


@lru_cache(maxsize=1)
def _rules(robots: bytes) -> Any:
    from protego import Protego

    return Protego.parse(robots[:MOST_RULES].decode("utf-8-sig", "replace"))  # a mark is no part of a rule
