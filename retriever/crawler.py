"""A site read politely: a page at a time, as its robots.txt allows, and only what changed since the last time.

Owns the order, the manners and the limits of a crawl. What may be reached at all is for `fetch` to say, what a page
says of others for `links`, and what is on disk for `mirror`. Knows nothing about passages or indexes.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from retriever.charsets import meant
from retriever.fetch import MOST_BYTES, Answer, Place, TooLarge, place_of
from retriever.links import MOST_RULES, is_trap, may_be_kept, normal, normal_ones
from retriever.mirror import Mirror, Page
from retriever.passages import RetrieverError
from retriever.readers.child import Child

MOST_REDIRECTS: Final = 5
REDIRECTS: Final = (301, 302, 303, 307, 308)
TRIES: Final = 3
"""For an answer that says the server is out of order; it may be well in a moment."""
LONGEST_WAIT: Final = 60.0
MOST_QUERIES: Final = 50
"""Pages that differ in their query alone: a calendar or a filter has them without end."""
MOST_SITEMAPS: Final = 50
_SUFFIXES: Final = {
    "text/html": ".html", "application/xhtml+xml": ".html", "text/plain": ".txt", "text/markdown": ".md",
    "application/pdf": ".pdf", "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}  # fmt: skip
_OF_PYTHON: Final = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"))
"""Encodings that no browser knows; ten megabytes of punycode take this process days."""

Get = Callable[[Place, Mapping[str, str]], Answer]
"""How a page is had; `fetch.Fetcher.get` is one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a crawl ends, whatever the site offers."""

    pages: int = 2_000
    depth: int = 10
    """Links from the start."""
    bytes: int = 500_000_000
    """Of all answers, and of the pages that are kept as they were."""
    seconds: float = 3_600
    delay: float = 0.5
    """Between two requests, or longer when robots.txt asks for it."""


@dataclass(frozen=True, slots=True)
class Crawled:
    """What a crawl found. `pages` are all that are there now, each a URL and the file of its body; of the counts
    `kept` were as before."""

    start: str
    pages: tuple[tuple[str, Path], ...]
    fetched: int
    kept: int
    gone: int
    skipped: tuple[tuple[str, str], ...]
    """`(URL, reason)`."""


def crawl(
    start: str,
    folder: Path,
    get: Get,
    limits: Limits,
    report: Callable[[int, int], None] = lambda done, total: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Crawled:
    """Bring the mirror in `folder` up to date with the site at `start`, a page or a site map, and below its folder.

    A page that cannot be had for now stays as it was; one that is gone, or that nothing leads to any more, goes. A
    killed crawl goes on where it stood. Raises RetrieverError when nothing can be had; the mirror is then as before.
    """
    mirror = Mirror(folder)
    with mirror.locked(), Child() as child:
        return _Crawl(normal(start), mirror, child, get, limits, report, sleep, clock).run()


class _Crawl:
    """The state of one crawl: what waits, what was met, and what is known of the site."""

    def __init__(
        self,
        start: str,
        mirror: Mirror,
        child: Child,
        get: Get,
        limits: Limits,
        report: Callable[[int, int], None],
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._start, self._mirror, self._child, self._get, self._limits = start, mirror, child, get, limits
        self._report, self._sleep, self._clock = report, sleep, clock
        self._site = place_of(start)
        self._folder = self._site.target.partition("?")[0].rpartition("/")[0] + "/"
        self._waiting: deque[tuple[str, int]] = deque()
        self._known: set[str] = set()
        self._queries: Counter[str] = Counter()
        self._bodies: dict[str, str] = {}
        self._met: set[str] = set()
        self._left: set[str] = set()
        """Gone, or another page by now: what goes even when the crawl is cut short."""
        self._leads: dict[str, str] = {}
        """Where a URL says that its page lives: it redirects there, or names it as canonical."""
        self._named: list[str] = []
        """The pages that name another as canonical."""
        self._skipped: dict[str, str] = {}
        self._fetched = self._kept = self._gone = self._bytes = 0
        self._robots: bytes | None = None
        self._delay = limits.delay
        self._asked_at = self._started = 0.0

    def run(self) -> Crawled:
        started = self._started = self._clock()
        named = self._read_robots()
        for urls, depth in self._listed(named):
            self._add(urls, depth)
        began = self._mirror.begin(started)
        visited = 0
        while self._waiting and not self._reached(visited):
            self._visit(*self._waiting.popleft(), began)
            visited += 1
            self._report(visited, min(self._limits.pages, visited + len(self._waiting)))
        cut_short = (
            f"stopped after {visited} pages and {self._bytes / 1e6:,.0f} MB, {len(self._waiting)} more pages were "
            f"waiting; start at a deeper folder or raise {self._reached(visited)}"
        )
        for url in self._named:
            self._stand_in(url)
        if not self._met:
            self._mirror.finish()
            ended = cut_short if self._waiting or self._reached(visited) else "nothing to read there"
            reason = self._skipped.get(self._start) or next(iter(self._skipped.values()), ended)
            raise RetrieverError(f"{self._start}: {reason}")
        if self._waiting:
            self._skipped[self._start] = cut_short
        old = self._mirror.pages.keys()
        for url in (old & self._left if self._waiting else old) - self._met:
            self._mirror.drop(url)
            self._gone += 1
        self._mirror.finish()
        pages = tuple((url, self._mirror.body(p)) for url, p in sorted(self._mirror.pages.items()) if p.kept)
        return Crawled(self._start, pages, self._fetched, self._kept, self._gone, tuple(sorted(self._skipped.items())))

    def _reached(self, visited: int) -> str:
        """The setting whose limit the crawl has reached; empty while it has reached none."""
        if visited >= self._limits.pages:
            return "crawl.pages"
        if self._bytes >= self._limits.bytes:
            return "crawl.megabytes"
        return "crawl.minutes" if self._clock() - self._started >= self._limits.seconds else ""

    # ------------------------------------------------------------------------------------------------- what to read

    def _read_robots(self) -> tuple[str, ...]:
        """Heeds robots.txt from here on, and returns the site maps that it names.

        Raises RetrieverError when the server is out of order (RFC 9309, 2.3.1), or robots.txt itself.
        """
        robots = Place(self._site.scheme, self._site.host, self._site.port, "/robots.txt")
        # It is obeyed wherever it lies (RFC 9309, 2.3.1.2); `fetch` checks each address.
        place, answer = self._redirected(robots, {}, lambda to: True)
        if answer.status >= 500:
            raise RetrieverError(
                f"{place.url}: answers {answer.status}, so nothing may be read for now; try again later (what was read "
                "before is unchanged)"
            )
        if answer.status != 200:  # nothing is forbidden
            return ()
        self._robots = answer.body[:MOST_RULES]
        try:
            delay, named = self._child.manners(self._robots)
        except RetrieverError as error:
            raise RetrieverError(f"{place.url}: {error} (until then nothing of the site is read)") from None
        self._delay = min(LONGEST_WAIT, max(self._delay, delay))
        return named

    def _listed(self, named: Iterable[str]) -> list[tuple[list[str], int]]:
        """Where to begin, at which depth: the start, or what its site map lists; and what robots.txt named."""
        if self._site.target.partition("?")[0].endswith((".xml", ".xml.gz")):
            found = self._sitemap([self._start], strict=True)
            self._folder = "/"
            return [(found, self._limits.depth)]
        return [([self._start], 0), (self._sitemap(normal_ones(named, self._start), strict=False), 1)]

    def _sitemap(self, maps: Iterable[str], strict: bool) -> list[str]:
        waiting, read = deque(url for url in maps if self._same_site(url)), 0
        found: list[str] = []
        while waiting and read < MOST_SITEMAPS and not self._reached(0):
            url, read = waiting.popleft(), read + 1
            try:
                place, answer = self._redirected(place_of(url), {}, self._same_site)
                if answer.status != 200:
                    raise RetrieverError(f"{url}: answers {answer.status}; check the address of the site map")
                urls, more = self._child.locations(answer.body, place.url)
            except RetrieverError as error:
                if strict and read == 1:
                    raise
                self._skipped[url] = str(error).removeprefix(f"{url}: ")
                continue
            (waiting if more else found).extend(url for url in urls if self._same_site(url))
        return found

    def _add(self, urls: Iterable[str], depth: int) -> None:
        """Let URLs wait their turn, each once, if they are ours and no traps."""
        if depth > self._limits.depth:
            return
        fresh = [url for url in dict.fromkeys(urls) if url not in self._known]
        self._known.update(fresh)
        ours = []
        for url in filter(self._within, fresh):
            path = url.partition("?")[0]
            self._queries[path] += 1
            if is_trap(url) or self._queries[path] > MOST_QUERIES:
                self._skipped[url] = "looks like a page that a machine makes without end; it is not read"
            else:
                ours.append(url)
        for url, may in zip(ours, self._allowed(ours), strict=True):
            if may:
                self._waiting.append((url, depth))
            else:
                self._skipped[url] = "robots.txt asks not to read it"

    def _same_site(self, url: str) -> bool:
        try:
            other = place_of(url)
        except RetrieverError:
            return False
        # A site that moved to https is still itself.
        secured = (self._site.scheme, other.scheme, self._site.port, other.port) == ("http", "https", 80, 443)
        return other.host == self._site.host and (secured or other.authority == self._site.authority)

    def _allowed(self, urls: Sequence[str]) -> list[bool]:
        return [True] * len(urls) if not urls or self._robots is None else self._child.allowed(self._robots, urls)

    def _within(self, url: str) -> bool:
        return url == self._start or (self._same_site(url) and place_of(url).target.startswith(self._folder))

    # --------------------------------------------------------------------------------------------------- one page

    def _visit(self, url: str, depth: int, began: float) -> None:
        old = self._mirror.page(url)
        if old is not None and old.seen >= began:  # a killed crawl has been here
            self._keep(old, depth)
            return
        try:
            self._fetch(url, depth, old)
        except RetrieverError as error:  # anything else is a fault of ours and no reason to skip a page
            self._skipped[url] = str(error).removeprefix(f"{url}: ")
            if old is not None:
                self._keep(old, depth)

    def _fetch(self, url: str, depth: int, old: Page | None) -> None:
        since = {} if old is None else {"If-None-Match": old.etag, "If-Modified-Since": old.modified}
        place, answer = self._followed(url, {name: value for name, value in since.items() if value})
        if answer.status in (404, 410):
            self._skipped[url] = f"answers {answer.status}: it is gone"
            self._left |= {url, place.url}
            return
        if answer.status == 304 and old is not None and place.url == url:
            self._mirror.met(old, self._clock())
            self._keep(old, depth)
            return
        if answer.status != 200:
            raise RetrieverError(f"{url}: answers {answer.status}; check it in a browser")
        if place.url != url:
            # The page lives at another URL; it is read there, and this one is only a way to it.
            self._leads[url] = place.url
            self._left.add(url)
            if place.url in self._known:
                back = self._mirror.page(place.url)
                if back is not None and self._leads.get(place.url) == url:
                    self._skipped.pop(back.url, None)  # it named this URL, which is no other page after all
                    self._accept(back, depth)
                return
            self._known.add(place.url)
            old = self._mirror.page(place.url)
            url = place.url
        content_type = answer.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
        suffix = _SUFFIXES.get(content_type)
        if suffix is None:
            raise RetrieverError(f"{url}: is {content_type[:60]!r}, which is not read")
        body = _as_utf8(answer) if suffix in (".html", ".txt", ".md") else answer.body
        said = self._child.said_by(answer.body, url, answer.headers) if suffix == ".html" else None
        page = Page(
            url,
            suffix,
            sha256(body).hexdigest(),
            self._clock(),
            answer.headers.get("etag", "")[:200],
            answer.headers.get("last-modified", "")[:100],
            tuple(link for link in said.links if self._same_site(link)) if said is not None else (),
            said.canonical if said is not None else "",
            said.kept if said is not None else may_be_kept(answer.headers.get("x-robots-tag", "")),
        )
        changed = old is None or old.digest != page.digest
        self._fetched += changed
        self._kept += not changed
        self._mirror.keep(page, body)
        self._accept(page, depth)

    def _keep(self, page: Page, depth: int) -> None:
        """The page as it was."""
        self._kept += 1
        self._bytes += self._mirror.body(page).stat().st_size
        self._accept(page, depth)

    def _accept(self, page: Page, depth: int) -> None:
        """The page is one of the site's: what it links to is next. The same words under two URLs are one page."""
        # Where the URL that it names leads back to it, one of the two has to be the page.
        back = self._leads.get(page.canonical) == page.url
        if page.canonical not in ("", page.url) and not back and self._within(page.canonical):
            self._leads[page.url] = page.canonical
            self._named.append(page.url)
            self._left.add(page.url)
            self._skipped[page.url] = f"says that it is {page.canonical}"
            self._add([page.canonical], depth)
        else:
            self._take(page)
        self._add(page.links, depth + 1)

    def _take(self, page: Page) -> None:
        # What is not kept must not stand for a page with the same words that is.
        if page.kept and (twin := self._bodies.setdefault(page.digest, page.url)) != page.url:
            self._left.add(page.url)
            self._skipped[page.url] = f"the same as {twin}"
        else:
            self._met.add(page.url)

    def _stand_in(self, url: str) -> None:
        """A page that names another as canonical is read itself where that one could not be."""
        page, other, seen = self._mirror.page(url), self._leads.get(url, ""), {url}
        while other in self._leads and other not in seen and not self._is_there(other):
            seen.add(other)
            other = self._leads[other]
        if page is not None and not self._is_there(url) and not self._is_there(other):
            self._skipped.pop(url, None)
            self._left.discard(url)
            self._take(page)

    def _is_there(self, url: str) -> bool:
        # Of a crawl that is cut short, what it has not come to is as it was.
        as_before = bool(self._waiting) and url in self._mirror.pages and url not in self._left
        return url in self._met or as_before

    def _followed(self, url: str, headers: Mapping[str, str]) -> tuple[Place, Answer]:
        """The answer behind all redirects, and where it was had. What they lead to is judged like a link."""
        place, answer = self._redirected(
            place_of(url), headers, lambda to: self._within(to) and all(self._allowed([to]))
        )
        if answer.status not in REDIRECTS:
            return place, answer
        if not self._same_site(place.url):
            raise RetrieverError(f"{url}: leads to another site, {place.url}; give that URL instead")
        if not self._within(place.url):
            raise RetrieverError(f"{url}: leads to {place.url}, which is not below {self._start}; it is not read")
        if not all(self._allowed([place.url])):
            raise RetrieverError(f"{url}: leads to {place.url}, which robots.txt asks not to read")
        raise RetrieverError(f"{url}: leads on and on, last to {place.url}; check it in a browser")

    def _redirected(self, place: Place, headers: Mapping[str, str], may: Callable[[str], bool]) -> tuple[Place, Answer]:
        """The answer behind redirects; or the redirect to what may not be read, or one too many, and where it leads."""
        for _ in range(1 + MOST_REDIRECTS):
            answer = self._polite(place, headers)
            target = answer.headers.get("location", "")
            if answer.status not in REDIRECTS or not target:
                return place, answer
            place, headers = place_of(normal(target, place.url)), {}  # what was known is known of the first page
            if not may(place.url):
                break
        return place, answer

    def _polite(self, place: Place, headers: Mapping[str, str]) -> Answer:
        """An answer, after the pause the site is owed; asked again when the server is out of order."""
        for trial in range(TRIES):
            self._sleep(max(0.0, self._asked_at + self._delay - self._clock()))
            self._asked_at = self._clock()
            try:
                answer = self._get(place, headers)
            except TooLarge:
                self._bytes += MOST_BYTES
                raise
            except RetrieverError:
                if trial + 1 == TRIES:
                    raise
                continue
            self._bytes += len(answer.body)
            if answer.status not in (429, 500, 502, 503, 504) or trial + 1 == TRIES:
                return answer
            self._sleep(_asked_wait(answer.headers.get("retry-after", ""), self._clock(), 2.0**trial))
        raise AssertionError("unreachable")


def _asked_wait(said: str, now: float, otherwise: float) -> float:
    """Seconds that a server asks to be left alone (RFC 9110, 10.2.3), or `otherwise`; never more than a minute."""
    if said.strip().isdecimal():
        wait = float(said)
    else:
        try:
            date = parsedate_to_datetime(said)
            wait = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            wait = otherwise
    return min(LONGEST_WAIT, max(0.0, wait))


def _as_utf8(answer: Answer) -> bytes:
    """The body in UTF-8 with its mark where the header names another encoding: on disk there is no header."""
    charset = answer.headers.get("content-type", "").lower().partition("charset=")[2].partition(";")[0].strip("\"' ")
    if not charset or answer.body.startswith(b"\xef\xbb\xbf"):
        return answer.body
    try:
        encoding = meant(charset)
        if encoding in _OF_PYTHON:
            return answer.body
        return b"\xef\xbb\xbf" + answer.body.decode(encoding, "replace").encode()
    except (LookupError, ValueError):  # no such name, or one that is none of text
        return answer.body


def folder_of(start: str, home: Path) -> Path:
    """Where the mirror of a start lies under `home`."""
    return home / sha256(normal(start).encode()).hexdigest()[:16]
