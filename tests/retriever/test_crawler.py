"""A site is read whole, politely, once, and only as it asks; what stands against that is a reason and harms nothing."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.crawler import MOST_QUERIES, Crawled, Limits, crawl, folder_of
from retriever.fetch import Answer, Fetcher, Place
from retriever.links import DEEPEST_PATH, is_trap, locations, normal, said_by
from retriever.mirror import Mirror
from retriever.passages import RetrieverError
from tests.conftest import ROOT
from tests.retriever.site import Asked, Website, page, status, website


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    time: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def read(
    site: Website, folder: Path, start: str = "/", clock: Clock | None = None, beside: str = "", **limits: float
) -> Crawled:
    clock = clock or Clock()
    rules = Limits(**{"delay": 0, **limits})  # type: ignore[arg-type]
    get = Fetcher([site.authority, beside]).get
    return crawl(site.url(start), folder, get, rules, sleep=clock.sleep, clock=clock)


def paths(found: Crawled, site: Website) -> list[str]:
    return [url.removeprefix(site.url("")) for url, _ in found.pages]


def reasons(found: Crawled, site: Website) -> dict[str, str]:
    return {url.removeprefix(site.url("")): reason for url, reason in found.skipped}


HELP = {
    "/help/": page(
        "Help", "returns", "/help/shipping?utm_source=mail#top", "/shop/", "mailto:a@b.c", "http://8.8.8.8/"
    ),
    "/help/returns": page("Returns", "/help/", "refunds/"),
    "/help/shipping": page("Shipping", "returns#a", "returns?utm_medium=x"),
    "/help/refunds/": page("Refunds", "../returns"),
    "/shop/": page("Shop"),
}


def test_a_folder_of_a_site_is_read_whole_and_each_page_once(tmp_path: Path) -> None:
    with website({**HELP}) as site:
        found = read(site, tmp_path, "/help/")
        assert paths(found, site) == ["/help/", "/help/refunds/", "/help/returns", "/help/shipping"]
        assert sorted(site.asked) == ["/help/", "/help/refunds/", "/help/returns", "/help/shipping", "/robots.txt"]
        assert (found.fetched, found.kept, found.gone, found.skipped) == (4, 0, 0, ())
        assert b"All about Returns" in dict(found.pages)[site.url("/help/returns")].read_bytes()


@pytest.mark.slow
def test_the_next_crawl_asks_what_changed_and_forgets_what_is_gone(tmp_path: Path) -> None:
    with website({**HELP}) as site:
        read(site, tmp_path, "/help/")
        site.pages["/help/returns"] = page("Returns within 60 days", "/help/", "refunds/")
        site.pages["/help/shipping"] = None  # type: ignore[assignment]
        found = read(site, tmp_path, "/help/", Clock(2e6))
        assert (found.fetched, found.kept, found.gone) == (1, 2, 1)
        assert paths(found, site) == ["/help/", "/help/refunds/", "/help/returns"]
        assert b"60 days" in dict(found.pages)[site.url("/help/returns")].read_bytes()
        assert len(list(tmp_path.glob("*.html"))) == len(list(tmp_path.glob("*.page"))) == 3, "no old bodies stay"
        site.pages["/help/"] = page("Help", "/help/returns")
        site.pages["/help/returns"] = page("Returns within 60 days")
        assert read(site, tmp_path, "/help/", Clock(3e6)).gone == 1, "nothing leads to the refunds any more"


def test_dates_do_where_there_are_no_tags(tmp_path: Path) -> None:
    def dated(asked: Asked) -> None:
        if asked.headers.get("If-Modified-Since") == "Tue, 03 Mar 2026 10:00:00 GMT":
            asked.reply(304, b"")
        else:
            asked.reply(200, page("Dated").encode(), {"Last-Modified": "Tue, 03 Mar 2026 10:00:00 GMT"})

    with website({"/": dated}) as site:
        assert read(site, tmp_path).fetched == 1
        assert (again := read(site, tmp_path, clock=Clock(2e6))).kept == 1 and again.fetched == 0


# ------------------------------------------------------------------------------------------------------------ manners


def test_robots_txt_is_obeyed(tmp_path: Path) -> None:
    robots = "User-agent: *\nDisallow: /private/\nDisallow: /*.print$\nAllow: /private/help\nCrawl-delay: 3\n"
    pages = {"/": page("Home", "/private/x", "/private/help", "/a.print", "/a"), "/private/help": page("Open")}
    with website({**pages, "/a": page("A", "/moved"), "/robots.txt": robots, "/private/x": page("no")}) as site:
        site.pages["/moved"] = status(302, {"Location": "/private/x"})
        clock = Clock()
        found = read(site, tmp_path, clock=clock)
        assert paths(found, site) == ["/", "/a", "/private/help"]
        assert not {"/private/x", "/a.print"} & set(site.asked)
        assert "robots.txt" in reasons(found, site)["/private/x"] and "robots.txt" in reasons(found, site)["/moved"]
        assert sum(clock.slept) == pytest.approx(3 * (len(site.asked) - 1)), "its delay, from the first page on"


@pytest.mark.slow
@pytest.mark.parametrize("hops", [1, 5, 6])
def test_robots_txt_that_has_moved_is_obeyed_wherever_it_is(hops: int, tmp_path: Path) -> None:
    pages = {"/": page("Home", "/private"), "/private": page("Private")}
    with website({**pages}) as site, website({"/rules": "User-agent: *\nDisallow: /private\n"}) as other:
        ways = ["/robots.txt", *(f"/r{n}" for n in range(1, hops))]
        for way, to in zip(ways, [*map(site.url, ways[1:]), other.url("/rules")], strict=True):
            site.pages[way] = status(302, {"Location": to})
        found = read(site, tmp_path, beside=other.authority)
        # RFC 9309, 2.3.1.2: after more than five it is as if there were none.
        assert paths(found, site) == (["/"] if hops < 6 else ["/", "/private"])
        other.asked.clear()
        if hops < 6:
            with pytest.raises(RetrieverError, match="not on the public internet"):
                read(site, tmp_path / "unchecked")
        assert other.asked == []


def test_a_mark_before_robots_txt_hides_no_rule(tmp_path: Path) -> None:
    robots = "User-agent: *\nDisallow: /private\n".encode("utf-8-sig")
    with website({"/": page("Home", "/private"), "/private": page("no"), "/robots.txt": robots}) as site:
        assert paths(read(site, tmp_path), site) == ["/"]


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "may"), [(404, True), (403, True), (500, False), (503, False)])
def test_without_robots_txt_all_may_be_read_and_with_a_broken_one_nothing(
    answer: int, may: bool, tmp_path: Path
) -> None:
    with website({"/": page("Home"), "/robots.txt": status(answer)}) as site:
        if may:
            assert paths(read(site, tmp_path), site) == ["/"]
        else:
            with pytest.raises(RetrieverError, match="nothing may be read for now"):
                read(site, tmp_path)
            assert "/" not in site.asked


def test_pages_that_ask_not_to_be_kept_are_only_a_way_to_others(tmp_path: Path) -> None:
    with website(
        {
            "/": page("Home", "/b", head='<meta name="robots" content="noindex">'),
            "/b": page("B", "/c", head='<meta name="ROBOTS" content="nofollow">'),
            "/c": page("C"),
            "/d": status(200, {"X-Robots-Tag": "noindex"}, page("D").encode()),
        }
    ) as site:
        site.pages["/"] = page("Home", "/b", "/d", head='<meta name="robots" content="noindex">')
        assert paths(read(site, tmp_path), site) == ["/b"]
        assert paths(read(site, tmp_path, clock=Clock(2e6)), site) == ["/b"]


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["noindex", "none", "NOARCHIVE, None", "frontdesk: none"])
@pytest.mark.parametrize("content", ["text/plain", "text/html"])
def test_a_header_that_asks_not_to_keep_is_obeyed_for_every_kind(tag: str, content: str, tmp_path: Path) -> None:
    asks = status(200, {"Content-Type": content, "X-Robots-Tag": tag}, b"Asks")
    with website({"/": page("Home", "/a", "/b"), "/a": asks}) as site:
        site.pages["/b"] = status(200, {"Content-Type": content, "X-Robots-Tag": "all; nonesuch"}, b"Does not")
        assert paths(read(site, tmp_path), site) == ["/", "/b"]


def test_there_is_a_pause_between_requests(tmp_path: Path) -> None:
    with website({**HELP}) as site:
        clock = Clock()
        read(site, tmp_path, "/help/", clock, delay=0.5)
        assert sum(clock.slept) == pytest.approx(0.5 * 4), "one between each two of five"


# ----------------------------------------------------------------------------------------------------------- failure


def failing(times: int, then: str, code: int = 500, headers: dict[str, str] | None = None) -> Callable[[Asked], None]:
    left = [times]

    def answer(asked: Asked) -> None:
        left[0] -= 1
        asked.reply(code, b"", headers) if left[0] >= 0 else asked.reply(200, then.encode())

    return answer


def test_a_server_that_is_out_of_order_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    with website({"/": page("Home", "/b"), "/b": failing(2, page("B")), "/robots.txt": "User-agent: *\n"}) as site:
        assert paths(read(site, tmp_path), site) == ["/", "/b"]
        clock = Clock(2e6)
        site.pages["/b"] = failing(1, page("B2"), 429, {"Retry-After": "17"})
        assert read(site, tmp_path, clock=clock).fetched == 1
        assert 17.0 in clock.slept


@pytest.mark.slow
@pytest.mark.parametrize("fault", [status(500), status(503), lambda asked: asked.connection.close()])
def test_a_500_in_the_middle_leaves_that_page_as_it_was(fault: Callable[[Asked], None], tmp_path: Path) -> None:
    with website({**HELP}) as site:
        read(site, tmp_path, "/help/")
        site.pages["/help/returns"] = fault
        found = read(site, tmp_path, "/help/", Clock(2e6))
        assert paths(found, site) == ["/help/", "/help/refunds/", "/help/returns", "/help/shipping"]
        assert found.gone == 0 and list(reasons(found, site)) == ["/help/returns"]


def test_a_start_that_cannot_be_had_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    with website({**HELP}) as site:
        read(site, tmp_path, "/help/")
        before = sorted(path.name for path in tmp_path.iterdir())
        site.pages.clear()
        with pytest.raises(RetrieverError, match="404"):
            read(site, tmp_path, "/help/", Clock(2e6))
        assert sorted(path.name for path in tmp_path.iterdir()) == before


class Killed(BaseException):
    """Stands for SIGKILL: nothing on the way may catch it."""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_killed_crawl_goes_on_where_it_stood(after: int, tmp_path: Path) -> None:
    with website({**HELP}) as site:
        fetcher, asked = Fetcher([site.authority]), 0

        def get(place: Place, headers: Mapping[str, str]) -> Answer:
            nonlocal asked
            asked += 1
            if asked > 1 + after:
                raise Killed
            return fetcher.get(place, headers)

        clock = Clock()
        if after < 4:
            with pytest.raises(Killed):
                crawl(site.url("/help/"), tmp_path, get, Limits(delay=0), sleep=clock.sleep, clock=clock)
        site.asked.clear()
        clock.time += 60
        found = read(site, tmp_path, "/help/", clock)
        assert len(found.pages) == 4
        assert len(site.asked) == 1 + 4 - (after if after < 4 else 0), "robots.txt, and what was not read before"
        site.asked.clear()
        assert read(site, tmp_path, "/help/", Clock(2e6)).kept == 4 and len(site.asked) == 5


def test_one_site_is_read_by_one_crawl_at_a_time(tmp_path: Path) -> None:
    with (
        website({**HELP}) as site,
        Mirror(tmp_path).locked(),
        pytest.raises(RetrieverError, match="being read already"),
    ):
        read(site, tmp_path, "/help/")


def test_a_damaged_mirror_is_fetched_again(tmp_path: Path) -> None:
    with website({**HELP}) as site:
        read(site, tmp_path, "/help/")
        notes = sorted(tmp_path.glob("*.page"))
        notes[0].write_text("{")
        notes[1].write_text(json.dumps({"url": "http://elsewhere/"}))
        next(tmp_path.glob(f"{notes[2].stem}-*")).unlink()
        assert len(read(site, tmp_path, "/help/", Clock(2e6)).pages) == 4


# ------------------------------------------------------------------------------------------------- traps and redirects


@pytest.mark.slow
def test_traps_end(tmp_path: Path) -> None:
    """A calendar without end, a link that goes deeper for ever, and a thousand session ids."""

    def calendar(asked: Asked) -> None:
        month = int(asked.path.rpartition("=")[2] or 0)
        asked.reply(200, page(f"Month {month}", f"/calendar?month={month + 1}").encode())

    class Endless(dict[str, object]):
        def get(self, path: str, default: object = None) -> object:  # type: ignore[override]
            if path in self:
                return self[path]
            if path.startswith("/calendar"):
                return calendar
            if path.startswith("/deep/"):
                return page(f"Deep {path}", f"{path}down/" * 3, f"{path}{len(path)}/")
            return page("Sessions", *(f"/s?sid={n}" for n in range(1000))) if path == "/s" else default

    endless = Endless({"/": page("Home", "/calendar?month=0", "/deep/", "/s")})
    with website(endless) as site:  # type: ignore[arg-type]
        found = read(site, tmp_path, depth=100, pages=200)
        kinds = [path.strip("/").partition("/")[0].partition("?")[0] for path in paths(found, site)]
        assert kinds.count("calendar") == MOST_QUERIES and kinds.count("s") == 1
        assert max(path.count("/") for path in paths(found, site)) == DEEPEST_PATH + 1
        site.asked.clear()
        few = read(site, tmp_path / "few", pages=10)
        assert len(few.pages) == 10 == len(site.asked) - 1
        assert "stopped after 10 pages" in reasons(few, site)["/"]


def test_a_crawl_that_was_cut_short_forgets_nothing(tmp_path: Path) -> None:
    with website({**HELP}) as site:
        read(site, tmp_path, "/help/")
        assert len(read(site, tmp_path, "/help/", Clock(2e6), pages=2).pages) == 4
        assert len(read(site, tmp_path, "/help/", Clock(3e6), delay=10, seconds=25).pages) == 4


@pytest.mark.slow
@pytest.mark.parametrize("answer", [404, 410])
def test_a_crawl_that_was_cut_short_forgets_what_is_gone(answer: int, tmp_path: Path) -> None:
    with website({**HELP}) as site:
        read(site, tmp_path, "/help/")
        site.pages["/help/returns"] = status(answer)
        found = read(site, tmp_path, "/help/", Clock(2e6), pages=2)
        assert paths(found, site) == ["/help/", "/help/refunds/", "/help/shipping"] and found.gone == 1
        site.pages["/help/"] = status(answer)
        with pytest.raises(RetrieverError, match=str(answer)):
            read(site, tmp_path, "/help/", Clock(3e6), pages=1)
        assert len(Mirror(tmp_path).pages) == 3, "a site of which nothing can be had stays as it was"


@pytest.mark.slow
def test_a_crawl_that_was_cut_short_forgets_what_is_another_page(tmp_path: Path) -> None:
    paged = {f"/{n}": page(f"Page {n}") for n in range(9)}
    with website({"/": page("Home", "/a", "/b", "/c", *paged), **paged}) as site:
        site.pages |= {path: page(f"Was {path}") for path in ("/a", "/b", "/c")}
        read(site, tmp_path)
        site.pages |= {"/a": page("New", head='<link rel="canonical" href="/0">'), "/b": page("Home 2")}
        site.pages |= {"/": page("Home", "/a", "/b", "/c", "/d", *paged), "/d": page("Home 2")}
        site.pages["/c"] = status(301, {"Location": "/d"})
        for day in (2, 3):
            found = read(site, tmp_path, clock=Clock(day * 1e6), pages=5)
            assert paths(found, site) == ["/", *paged, "/b"], "of the same words, and where others lead"


@pytest.mark.slow
def test_a_crawl_ends_at_its_size_whatever_it_is_made_of(tmp_path: Path) -> None:
    """Pages that are new, that are as they were, that are none, and site maps: all of it counts."""
    big = "x" * 10_000
    pages = {f"/{n}": page(f"Page {n}") + f"<!-- {big} -->" for n in range(9)}
    with website({"/": page("Home", *pages), **pages}) as site:
        found = read(site, tmp_path, bytes=35_000)
        assert len(found.pages) == 5, "the home page and four of 10 kB: the last one crosses the line"
        assert reasons(found, site) == {
            "/": "stopped after 5 pages and 0 MB, 5 more pages were waiting; start at a deeper folder or raise "
            "crawl.megabytes"
        }
        site.asked.clear()
        again = read(site, tmp_path, clock=Clock(2e6), bytes=35_000)
        assert (again.kept, again.fetched, len(site.asked)) == (5, 0, 6), "the folder does not grow from crawl to crawl"
        whole = read(site, tmp_path, clock=Clock(3e6))
        assert len(whole.pages) == 10 and whole.skipped == ()
        site.pages |= {f"/{n}": status(200, {"Content-Type": "image/png"}, big.encode()) for n in range(9)}
        site.asked.clear()
        pictures = read(site, tmp_path / "pictures", bytes=35_000)
        assert len(site.asked) == 2 + 4 and "crawl.megabytes" in reasons(pictures, site)["/"]
        site.pages["/robots.txt"] = "".join(f"Sitemap: /{n}.xml\n" for n in range(9))
        site.pages |= {f"/{n}.xml": b"<urlset>" + b" " * 10_000 + b"</urlset>" for n in range(9)}
        site.asked.clear()
        with pytest.raises(RetrieverError, match=r"stopped after 0 pages.*raise crawl\.megabytes"):
            read(site, tmp_path / "maps", bytes=35_000)
        assert len(site.asked) == 1 + 4


@pytest.mark.slow
def test_a_page_of_200_megabytes_is_a_reason_asked_for_once_and_counted(tmp_path: Path) -> None:
    sent = [0]

    def huge(asked: Asked) -> None:
        asked.send_response(200)
        asked.send_header("Content-Type", "text/html")
        asked.end_headers()
        for _ in range(200):
            asked.wfile.write(b"<p>more</p>" * 95_325)
            sent[0] += 1

    with website({"/": page("Home", "/huge", "/b"), "/huge": huge, "/b": page("B")}) as site:
        found = read(site, tmp_path)
        assert paths(found, site) == ["/", "/b"] and sent[0] < 30, "megabytes, those on their way included"
        assert reasons(found, site) == {"/huge": "is larger than 10 MB; it is not read"}
        assert site.asked.count("/huge") == 1
        few = read(site, tmp_path / "few", bytes=10_000_000)
        assert paths(few, site) == ["/"] and "raise crawl.megabytes" in reasons(few, site)["/"]


@pytest.mark.slow
def test_the_same_page_under_two_urls_is_one(tmp_path: Path) -> None:
    with website(
        {
            "/": page("Home", "/a", "/b", "/c?x=1", "/old", "/d"),
            "/a": page("Twin"),
            "/b": page("Twin"),
            "/c?x=1": page("C of x", head='<link rel="canonical" href="/c">'),
            "/c": page("C", head='<link rel="canonical" href="/c">'),
            "/d": page("D", head='<link rel="canonical" href="http://8.8.8.8/d">'),
            "/old": status(301, {"Location": "/new?utm_source=x"}),
            "/new": page("New", "/old"),
        }
    ) as site:
        found = read(site, tmp_path)
        assert paths(found, site) == ["/", "/a", "/c", "/d", "/new"]
        assert reasons(found, site)["/b"] == f"the same as {site.url('/a')}"
        assert paths(read(site, tmp_path, clock=Clock(2e6)), site) == ["/", "/a", "/c", "/d", "/new"]


def test_what_is_not_kept_hides_no_page_with_the_same_words(tmp_path: Path) -> None:
    same = page("Same", head='<link rel="canonical" href="/c">')
    asks = status(200, {"X-Robots-Tag": "noindex"}, page("Twin").encode())
    with website({"/": page("Home", "/a", "/b", "/c?x=1"), "/a": asks, "/b": page("Twin")}) as site:
        site.pages |= {"/c": same, "/c?x=1": same}
        for day in (1, 2):
            assert paths(read(site, tmp_path, clock=Clock(day * 1e6)), site) == ["/", "/b", "/c"]


@pytest.mark.slow
@pytest.mark.parametrize("links", [("/a",), ("/a/",), ("/a", "/a/"), ("/a/", "/a")])
def test_a_page_that_names_a_way_to_itself_is_kept(links: tuple[str, ...], tmp_path: Path) -> None:
    with website({"/": page("Home", *links), "/a/": status(301, {"Location": "/a"})}) as site:
        site.pages["/a"] = page("A", "/b", head='<link rel="canonical" href="/a/">')
        site.pages["/b"] = page("B", head='<link rel="canonical" href="/c">')
        site.pages["/c"] = page("C", head='<link rel="canonical" href="/b">')
        for day in (1, 2):
            found = read(site, tmp_path, clock=Clock(day * 1e6))
            assert paths(found, site) == ["/", "/a", "/c"], "of two that name each other, the last"
            assert list(reasons(found, site)) == ["/b"]


@pytest.mark.slow
def test_a_page_whose_other_name_leads_nowhere_is_read_itself(tmp_path: Path) -> None:
    named = {path: f'<link rel="canonical" href="{path}">' for path in ("/gone", "/forbidden", "/moved", "/d", "/a")}
    site_pages = {
        "/": page("Home", "/a", "/a2", "/b", "/e", "/c"),
        "/robots.txt": b"User-agent: *\nDisallow: /forbidden\n",
        "/a": page("A", head=named["/gone"]),
        "/a2": page("A", head=named["/gone"]),
        "/b": page("B", head=named["/forbidden"]),
        "/e": page("E", head=named["/moved"]),
        "/moved": status(301, {"Location": "/nowhere"}),
        "/c": page("C", head=named["/d"]),
        "/d": page("D", head=named["/a"]),
    }
    with website(site_pages) as site:
        for day in (1, 2):
            found = read(site, tmp_path, clock=Clock(day * 1e6))
            assert paths(found, site) == ["/", "/a", "/b", "/e"], "and /c is /d, which is /a"
            assert reasons(found, site)["/a2"] == f"the same as {site.url('/a')}"
            assert not {"/a", "/b", "/e"} & set(reasons(found, site))
        site.pages["/gone"] = page("A", head=named["/gone"])
        assert paths(read(site, tmp_path, clock=Clock(3e6)), site) == ["/", "/b", "/e", "/gone"]


def test_what_a_page_is_asked_for_is_not_asked_of_the_page_it_has_moved_to(tmp_path: Path) -> None:
    """One server tags all pages alike; a page that moved must not pass for unchanged."""

    def tagged(asked: Asked) -> None:
        given = asked.headers.get("If-None-Match")
        asked.reply(304 if given else 200, page(f"At {asked.path}").encode(), {"ETag": '"1"'})

    with website({"/": page("Home", "/a"), "/a": tagged, "/b": tagged}) as site:
        read(site, tmp_path)
        site.pages["/a"] = status(302, {"Location": "/b"})
        found = read(site, tmp_path, clock=Clock(2e6))
        assert paths(found, site) == ["/", "/b"] and found.fetched == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        "http://8.8.8.8/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "//localhost/",
        "/r",
        "http://[::1]/",
    ],
)
def test_redirects_lead_nowhere_else(target: str, tmp_path: Path) -> None:
    with website({"/": page("Home", "/r"), "/r": status(302, {"Location": target})}) as site:
        found = read(site, tmp_path)
        assert paths(found, site) == ["/"] and "/r" in reasons(found, site)


def test_a_start_that_has_moved_elsewhere_says_where(tmp_path: Path) -> None:
    moved = status(301, {"Location": "https://www.example.com/"})
    with (
        website({"/": moved}) as site,
        pytest.raises(RetrieverError, match=r"www\.example\.com/; give that URL instead"),
    ):
        read(site, tmp_path)


def test_what_is_no_text_is_a_reason(tmp_path: Path) -> None:
    with website(
        {
            "/": page("Home", "/x.png", "/x.pdf", "/x.txt", "/latin", "/windows", "/china"),
            "/x.png": status(200, {"Content-Type": "image/png"}, b"\x89PNG"),
            "/x.pdf": status(200, {"Content-Type": "application/pdf"}, b"%PDF-1.4"),
            "/x.txt": status(200, {"Content-Type": "text/plain; charset=UTF-8"}, "Grüße".encode()),
            "/latin": status(200, {"Content-Type": "text/html; charset=latin-1"}, page("Grüße").encode("latin-1")),
            "/windows": status(
                200, {"Content-Type": "text/html; charset=iso-8859-1"}, page("It’s 5 €").encode("cp1252")
            ),
            "/china": status(200, {"Content-Type": "text/html; charset=gb2312"}, page("朱镕基").encode("gbk")),
        }
    ) as site:
        found = read(site, tmp_path)
        assert paths(found, site) == ["/", "/china", "/latin", "/windows", "/x.pdf", "/x.txt"]
        assert "'image/png'" in reasons(found, site)["/x.png"]
        bodies = {path: file for path, file in zip(paths(found, site), dict(found.pages).values(), strict=True)}
        assert [bodies[path].suffix for path in ("/x.pdf", "/x.txt", "/latin")] == [".pdf", ".txt", ".html"]
        for path, text in (("/latin", "Grüße"), ("/windows", "It’s 5 €"), ("/china", "朱镕基")):
            assert text in bodies[path].read_text("utf-8-sig")


def test_what_no_parser_expects_is_a_reason_and_not_the_end(tmp_path: Path) -> None:
    def strange(name: str, **head: str) -> str:
        return page(f"Strange {name}", "good", **head)

    with website(
        {
            "/": page("Home", "base", "idna", "utf-7", "undefined", "wait", "letter"),
            "/base": strange("base", head='<base href="http://[">'),
            **{
                f"/{name}": status(200, {"Content-Type": f"text/html; charset={name}"}, strange(name).encode())
                for name in ("idna", "utf-7", "undefined")
            },
            "/wait": failing(1, strange("wait"), 429, {"Retry-After": "\u00b2"}),
            "/letter": strange("letter").replace("good", "good?\ud800", 1).encode("utf-8", "surrogatepass"),
            "/good": page("Good"),
        }
    ) as site:
        found = read(site, tmp_path)
        assert {"/", "/base", "/good", "/wait", "/letter"} <= set(paths(found, site)), reasons(found, site)


def test_what_servers_write_into_their_headers_is_taken_as_it_is(tmp_path: Path) -> None:
    tagged: list[str] = []

    def letters(asked: Asked) -> None:
        tagged.append(asked.headers.get("If-None-Match", ""))
        asked.reply(304 if tagged[-1] else 200, page("Tagged").encode(), {"ETag": '"gr\xfc\xdfe"'})

    late = "Mon, 01 Jan 2026 00:00:00 +99999999999999999999"
    with website({"/": page("Home", "/tag", "/late"), "/tag": letters}) as site:
        for day in (1, 2):
            site.pages["/late"] = failing(1, page("Late"), 503, {"Retry-After": late})
            found = read(site, tmp_path, clock=Clock(day * 1e6))
            assert paths(found, site) == ["/", "/late", "/tag"] and found.skipped == ()
    assert tagged == ["", '"gr\xfc\xdfe"']


def test_a_fault_of_ours_is_no_bad_page(tmp_path: Path) -> None:
    """The planted fault: a getter that breaks at the second page, as no site makes it."""
    with website({**HELP}) as site:
        fetcher = Fetcher([site.authority])

        def get(place: Place, headers: Mapping[str, str]) -> Answer:
            if place.target == "/help/returns":
                raise ValueError("not a place")
            return fetcher.get(place, headers)

        with pytest.raises(ValueError, match="not a place"):
            crawl(site.url("/help/"), tmp_path, get, Limits(delay=0), sleep=lambda _: None)
        assert len(read(site, tmp_path, "/help/").pages) == 4, "what was read before is kept, and the rest is read"


def test_an_encoding_of_python_alone_is_not_decoded(tmp_path: Path) -> None:
    """Ten megabytes of punycode would take days; a megabyte of it takes a minute."""
    body = b"<p>Help</p><!-- " + b"b" * 200 + b"-" + b"9a" * 300_000
    with website({"/": status(200, {"Content-Type": "text/html; charset=punycode"}, body)}) as site:
        began = time.process_time()
        assert paths(read(site, tmp_path), site) == ["/"]
        assert time.process_time() - began < 5


CRAWL = """
import sys
from pathlib import Path
from retriever.crawler import Limits, crawl
from retriever.fetch import Fetcher
from tests.retriever.site import page, website
robots = "User-agent: *\\nDisallow: /private\\nSitemap: /map.xml\\n"
listed = b"<urlset><url><loc>/listed</loc></url></urlset>"
pages = {"/": page("Home", "/b", "/private"), "/b": page("B"), "/listed": page("Listed"), "/robots.txt": robots}
with website({**pages, "/map.xml": listed}) as site:
    found = crawl(site.url(), Path(sys.argv[1]), Fetcher([site.authority]).get, Limits(delay=0))
print(*(url.removeprefix(site.url()) or "/" for url, _ in found.pages), len(found.skipped))
print([name for name in ("lxml", "protego", "defusedxml", "markdown_it") if name in sys.modules])
"""


@pytest.mark.slow
def test_what_a_site_says_is_parsed_in_the_child(tmp_path: Path) -> None:
    """The process that crawls has not even loaded a parser."""
    done = subprocess.run(
        [sys.executable, "-c", CRAWL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["/ b listed 1", "[]"], done.stderr


# ---------------------------------------------------------------------------------------------------------- site maps


def sitemap(*urls: str, kind: str = "urlset") -> bytes:
    item = "sitemap" if kind == "sitemapindex" else "url"
    listed = "".join(f"<{item}><loc>{url}</loc></{item}>" for url in urls)
    return (
        f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</{kind}>'.encode()
    )


@pytest.mark.slow
def test_a_site_map_says_what_to_read(tmp_path: Path) -> None:
    with website({**HELP, "/alone": page("Alone")}) as site:
        listed = sitemap(site.url("/help/returns"), site.url("/alone"), "http://8.8.8.8/")
        site.pages["/map.xml.gz"] = status(200, {"Content-Type": "application/gzip"}, gzip.compress(listed))
        site.pages["/index.xml"] = sitemap(site.url("/map.xml.gz"), site.url("/gone.xml"), kind="sitemapindex")
        found = read(site, tmp_path, "/index.xml")
        assert paths(found, site) == ["/alone", "/help/returns"], "what is listed, and nothing it links to"
        assert "404" in reasons(found, site)["/gone.xml"]
        site.pages["/robots.txt"] = f"Sitemap: javascript:x\nSitemap: {site.url('/index.xml')}\n"
        site.pages["/"] = page("Home")
        whole = paths(read(site, tmp_path / "whole"), site)
        assert whole == sorted(["/", "/alone", *HELP]), "what robots.txt lists, and what that links to"


def test_a_site_map_that_has_moved_within_the_site_is_read(tmp_path: Path) -> None:
    with website({**HELP}) as site, website({"/map.xml": sitemap("/help/returns")}) as other:
        site.pages["/sitemap.xml"] = status(301, {"Location": "/maps/index.xml"})
        site.pages["/maps/index.xml"] = sitemap("one.xml", "/away.xml", kind="sitemapindex")
        site.pages["/maps/one.xml"] = sitemap("/help/returns")
        site.pages["/away.xml"] = status(301, {"Location": other.url("/map.xml")})
        found = read(site, tmp_path, "/sitemap.xml", beside=other.authority)
        assert paths(found, site) == ["/help/returns"] and other.asked == []
        assert "301" in reasons(found, site)["/away.xml"]


def test_the_time_of_a_crawl_holds_for_site_maps_too(tmp_path: Path) -> None:
    robots = "".join(f"Sitemap: /{n}.xml\n" for n in range(40))
    maps = {f"/{n}.xml": sitemap("/help/") for n in range(40)}
    with website({"/": page("Home"), "/robots.txt": robots, **maps}) as site:
        with pytest.raises(RetrieverError, match=r"stopped after 0 pages.*raise crawl\.minutes"):
            read(site, tmp_path, delay=10, seconds=95)
        assert len(site.asked) == 1 + 10
        site.pages["/index.xml"] = sitemap(*maps, kind="sitemapindex")
        with pytest.raises(RetrieverError, match=r"stopped after 0 pages.*raise crawl\.minutes"):
            read(site, tmp_path, "/index.xml", delay=10, seconds=15)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"hello", "not a site map"),
        (b"<rss></rss>", "not a site map"),
        (b'<?xml version="1.0" encoding="klingon"?><urlset/>', "not a site map"),
        (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><urlset>&a;</urlset>', "not a site map"),
        (b'<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><urlset></urlset>', None),
        (b"\x1f\x8bnothing", "damaged site map"),
        (gzip.compress(b"<urlset>" + b" " * 30_000_000 + b"</urlset>"), "more than 10 MB"),
    ],
)
def test_a_hostile_site_map_is_a_reason(body: bytes, reason: str | None) -> None:
    if reason is None:
        assert locations(body, "http://x/") == ((), False)
        return
    with pytest.raises(RetrieverError, match=reason):
        locations(body, "http://x/")


# --------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "one"),
    [
        ("HTTP://Example.COM:80/a/../b/./c#d", "http://example.com/b/c"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com.//a//b", "https://example.com/a/b"),
        ("https://example.com/?b=2&a=1&utm_source=x&gclid=1&sid=9", "https://example.com/?a=1&b=2"),
        ("https://example.com/x;jsessionid=99?y=", "https://example.com/x?y="),
        ("https://bücher.example/ä?ö=ü", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC"),
        ("https://example.com/a b", "https://example.com/a%20b"),
    ],
)
def test_a_url_has_one_spelling(url: str, one: str) -> None:
    assert normal(url, "https://base.example/") == normal(one) == one


LETTERS = st.characters() | st.integers(0xD800, 0xDFFF).map(chr)
BITS = (
    "http://", "https://", "//", "[", "]", "%", "?", "&", "=", "#", "@", ":", "..", "/", "\ud800", "é", "x.y", ";sid=",
    "\x00", "\\", "%zz", "mailto:", "xn--",
)  # fmt: skip


@pytest.mark.slow
@given(st.text(LETTERS, max_size=40) | st.lists(st.sampled_from(BITS), max_size=9).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_url_or_a_reason(text: str) -> None:
    for base in ("", "https://example.com/a"):
        try:
            one = normal(text, base)
        except RetrieverError:
            continue
        assert one.isascii() and normal(one) == one


def test_traps_are_known_by_their_looks() -> None:
    assert (
        is_trap("https://x/" + "/".join("abcdefghijklm"))
        and is_trap("https://x/a/b/a/c/a/")
        and is_trap("https://x/" + "a" * 600)
    )
    assert not is_trap("https://x/help/2026/11/returns-and-refunds/how-to?a=b")


def test_links_are_seen_through_bases_relations_and_rubbish() -> None:
    body = (
        b'<base href="/deep/er/"><a href="x">1</a><a href=" y ">2</a><a href="x#z">3</a>'
        b'<a rel="nofollow" href="z">4</a>'
        b'<a href="javascript:alert(1)">5</a><a href="http://[">6</a><a>7</a><area href="/map">'
    )
    said = said_by(body, "https://example.com/a", {})
    assert said.links == tuple(f"https://example.com{p}" for p in ("/deep/er/x", "/deep/er/y", "/map")) and said.kept
    assert said_by(b"", "https://example.com/", {}).links == ()
    assert said_by(b"\x00\xff" * 100, "https://example.com/", {"content-type": "text/html; charset=nonsense"}).kept


def test_a_start_has_one_folder(tmp_path: Path) -> None:
    assert folder_of("https://Example.com", tmp_path) == folder_of("https://example.com:443/#x", tmp_path)
    assert folder_of("https://example.com/a", tmp_path) != folder_of("https://example.com/b", tmp_path)
