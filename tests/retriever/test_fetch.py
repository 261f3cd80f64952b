"""Only the public internet is reached, by the address that was checked, and never more of it than the limits say."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import time
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import fetch
from retriever.fetch import Fetcher, is_public, place_of
from retriever.passages import RetrieverError
from tests.retriever.site import Asked, status, website

PRIVATE = (
    *(
        "127.0.0.1",
        "127.8.9.1",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
    ),
    *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "2002:7f00:1::", "2001::1"),
    *("64:ff9b:1::a00:1", "::127.0.0.1", "100::1"),
)
SPECIAL = (
    *("192.0.0.192", "192.0.0.9", "168.63.129.16", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1"),
    *("100.100.100.200", "::ffff:168.63.129.16", "64:ff9b:1::808:808", "100:0:0:1::1", "2001:1::1", "2001:20::1"),
    *("2001:30::1", "2002:a00:1::", "2002:c0a8:101::1", "2620:4f:8000::1", "3ffe::1", "3fff::1", "3fff:fff::1"),
    *("5f00::1", "fd00:ec2::254"),
)
"""Of networks with a purpose of their own, some of which the `ipaddress` of Python 3.11 takes for public ones."""
PUBLIC = (
    *("8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"),
    *("168.63.129.17", "192.0.1.1", "2001:200::1", "3fff:1000::1"),
)


@pytest.mark.parametrize("text", [*PRIVATE, *SPECIAL])
def test_no_other_than_public_addresses_are_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


SPELLINGS = (
    *("127.1", "127.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.0x1"),
    *("127.000.000.001", "0", "0x0", "[::ffff:127.0.0.1]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::1%25lo]", "127.0.0.1."),
    *(
        "localhost",
        "localhost.",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127．0．0．1",
        "ｌｏｃａｌｈｏｓｔ",
        "lоcalhost",
    ),
)
AROUND = ("http://{}/", "https://{}/", "http://{}:80/", "http://{}:8080/x?y=z", "HTTP://{}", "http://{}/#@8.8.8.8/")
USERS = (
    *("http://8.8.8.8@127.0.0.1/", "http://127.0.0.1@8.8.8.8/", "http://a:b@8.8.8.8/", "http://8.8.8.8:80@127.0.0.1/"),
    *("http://127.0.0.1\\@8.8.8.8/", "http://8.8.8.8\\@127.0.0.1/", "http:\\\\127.0.0.1/", "http:///127.0.0.1/"),
    *(
        "http:127.0.0.1/",
        "//127.0.0.1/",
        "http://8.8.8.8 @127.0.0.1/",
        "http://8.8.8.8\t@127.0.0.1/",
        "http://\n127.0.0.1/",
    ),
    *("file:///etc/passwd", "ftp://8.8.8.8/", "gopher://127.0.0.1:25/", "data:text/html,x", "javascript:alert(1)"),
    *(
        "jar:http://8.8.8.8!/",
        "http://",
        "https://:443/",
        "http://[/",
        "http://[::1/",
        "http://]/",
        "http://8.8.8.8:99999/",
    ),
    *(
        "http://8.8.8.8:0/",
        "http://8.8.8.8:-1/",
        "http://8.8.8.8:x/",
        "http://a..b/",
        "http://-a/",
        "http://a_b/",
        "http://*/",
    ),
    *(
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1%2f@8.8.8.8/",
        "http://127.0.0.1%00.example.com/",
        "http://x/" + "y" * 2000,
    ),
    *("http://user@[::1]/", "http://{}/", "http://a|b/", "http://`id`/", "http://a^b/", "http://<a>/", 'http://"a"/'),
)


@pytest.mark.slow
@pytest.mark.parametrize("url", [*(shape.format(host) for shape, host in product(AROUND, SPELLINGS)), *USERS])
def test_no_spelling_of_a_url_reaches_what_is_not_public(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch at the socket: whatever was made of the URL, nothing is connected."""
    tried: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: tried.append(address))
    monkeypatch.setattr(socket, "create_connection", lambda address, *a, **k: tried.append(address))

    def resolve(host: str, port: int) -> list[str]:
        """As a careless resolver would: numbers in any spelling, everything else at home."""
        try:
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except OSError:
            return [host] if ":" in host else ["127.0.0.1"]

    with pytest.raises(RetrieverError) as refused:
        Fetcher(resolve=resolve).get(place_of(url))
    assert tried == []
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "found", [["8.8.8.8", "127.0.0.1"], ["10.0.0.1"], ["::ffff:10.0.0.1"], [], ["169.254.169.254"]]
)
def test_one_address_that_is_not_public_is_enough_to_stay_away(found: list[str]) -> None:
    with pytest.raises(RetrieverError, match=r"not on the public internet|has no address"):
        Fetcher(resolve=lambda host, port: found).get(place_of("http://example.com/"))


def test_a_name_that_changes_its_address_between_check_and_connection_gains_nothing() -> None:
    """DNS rebinding: it is resolved once, and that address is connected."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.2"] if len(asked) == 1 else ["127.0.0.1"]

    with website({"/": "secret"}) as site, pytest.raises(RetrieverError, match="try again"):
        Fetcher([f"example.com:{site.port}"], resolve=resolve).get(place_of(f"http://example.com:{site.port}/"))
    assert asked == ["example.com"] and site.asked == []


def test_what_is_allowed_by_name_is_reached_and_nothing_beside_it() -> None:
    with website({"/a?b=%C3%A9": "hello"}) as site, website({"/": "other"}) as other:
        fetcher = Fetcher(private=[site.authority])
        answer = fetcher.get(place_of(site.url("/a?b=é")))
        assert (answer.status, answer.body) == (200, b"hello")
        sent = site.headers[0]
        assert sent["host"] == site.authority and sent["user-agent"] == fetch.AGENT
        assert not {"cookie", "authorization", "referer"} & sent.keys()
        with pytest.raises(RetrieverError, match=r"crawl\.private"):
            fetcher.get(place_of(other.url()))
        with pytest.raises(RetrieverError, match=r"crawl\.private"):
            fetcher.get(place_of(f"http://localhost:{site.port}/"))
        assert other.asked == []


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/wiki/Help:Start?a=b:c", "example.com"),
        ("http://example.com:8080/wiki/Help:Start", "example.com:8080"),
        ("http://[::1]/", "[::1]"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_a_host_is_named_with_its_port_only_where_that_is_not_the_usual_one(
    url: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, connect = place_of(url), socket.create_connection
    with website({place.target: "hello"}) as site:
        monkeypatch.setattr(socket, "create_connection", lambda _, *a, **k: connect(("127.0.0.1", site.port), *a, **k))
        assert Fetcher([place.authority], resolve=lambda host, port: ["127.0.0.1"]).get(place).status == 200
        assert site.headers[0]["host"] == host


def test_redirects_are_answers_and_the_environments_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with website({"/": status(302, {"Location": "http://169.254.169.254/"})}) as site, website({}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        monkeypatch.setenv("http_proxy", proxy.url())
        answer = Fetcher(private=[site.authority]).get(place_of(site.url()))
        assert answer.status == 302 and answer.headers["location"] == "http://169.254.169.254/"
        assert proxy.asked == []


def drip(seconds: float, piece: bytes) -> Callable[[Asked], None]:
    def answer(asked: Asked) -> None:
        asked.send_response(200)
        asked.end_headers()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            asked.wfile.write(piece)
            asked.wfile.flush()
            time.sleep(0.01)

    return answer


def packed(body: bytes) -> Callable[[Asked], None]:
    return status(200, {"Content-Encoding": "gzip"}, body)


HOSTILE = {
    "too large": (status(200, {}, b"x" * 200_001), "larger than"),
    "says too large": (status(200, {"Content-Length": "99999999"}, b"x" * 300_000), "larger than"),
    "a bomb": (packed(gzip.compress(b"\0" * 50_000_000)), "larger than"),
    "a bomb in a bomb": (packed(gzip.compress(gzip.compress(b"\0" * 50_000_000) * 300)), "larger than"),
    "drips": (drip(60.0, b"x"), "no whole answer"),
    "not gzip": (packed(b"hello, no gzip"), "damaged"),
    "half gzip": (packed(gzip.compress(b"hello" * 1000)[:-9]), "ends in the middle"),
    "another packing": (status(200, {"Content-Encoding": "br"}, b"xx"), "packed as 'br'"),
    "hangs up": (lambda asked: asked.connection.close(), "try again"),
    "no HTTP": (lambda asked: asked.wfile.write(b"\x00\x01 nothing\r\n\r\n"), "try again"),
    "endless head": (lambda asked: asked.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000), "try again"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_a_reason_in_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 200_000)
    answer, reason = HOSTILE[name]
    start, used = time.monotonic(), time.process_time()
    with website({"/": answer}) as site, pytest.raises(RetrieverError, match=reason):  # type: ignore[dict-item]
        Fetcher([site.authority], seconds=0.5 if name == "drips" else 20.0).get(place_of(site.url()))
    assert time.process_time() - used < 4
    assert time.monotonic() - start < 30, "a minute's drip was not waited for"


def test_packed_answers_are_unpacked() -> None:
    body = "ölfarbe ".encode() * 10_000
    with website({"/": packed(gzip.compress(body))}) as site:
        assert Fetcher([site.authority]).get(place_of(site.url())).body == body


def test_nobody_there_is_a_reason() -> None:
    with website({}) as site:
        gone = site.authority
    with pytest.raises(RetrieverError, match="try again"):
        Fetcher([gone]).get(place_of(f"http://{gone}/"))


@given(st.text(max_size=60) | st.from_regex(r"https?://[\x20-\x7e]{0,40}"))
def test_any_text_is_a_place_or_a_reason_and_a_place_is_itself_again(text: str) -> None:
    try:
        place = place_of(text)
    except RetrieverError:
        return
    assert place_of(place.url) == place
