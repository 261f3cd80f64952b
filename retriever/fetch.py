"""One request to the public web: a URL is read once, its name resolved once, and the address that was checked is used.

Owns what may be reached and how much of it, in bytes and seconds. Sends nothing that was not asked for: no cookies, no
credentials, no proxies of the environment, no redirects. Knows nothing about links.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

from retriever.passages import RetrieverError

AGENT: Final = "Frontdesk"
MOST_BYTES: Final = 10_000_000
"""Of one answer, packed or unpacked."""
SECONDS: Final = 30.0
"""For one answer from the first byte to the last, however slowly they drip."""
LONGEST_URL: Final = 1_000

_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|\d+)")
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # the wire server of a cloud, in nobody's registry
        # These lead to an IPv4 address (compatible, NAT64, Teredo, 6to4), which could be any.
        *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
        *("100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20"),
        *("5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
"""Networks with a purpose of their own, as IANA's two special-purpose registries list them. Spelt out, because what
`ipaddress` takes for global depends on the Python: 3.11 does so for 192.0.0.192, from which clouds gave out keys."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """A URL taken apart. `host` is lower-case ASCII without a final dot, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as they are sent."""

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def named(self) -> str:
        """The host as a URL and a request name it: its port only where that is not the usual one."""
        usual = self.port == {"http": 80, "https": 443}[self.scheme]
        return self.authority.removesuffix(f":{self.port}") if usual else self.authority

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.named}{self.target}"


def place_of(url: str) -> Place:
    """Raises RetrieverError for what is no plain http or https URL, or is one that parsers read differently."""
    shown = ascii(url[:100])
    if len(url) > LONGEST_URL:
        raise RetrieverError(f"{shown}...: a URL of {len(url):,} characters; at most {LONGEST_URL:,} are followed")
    if any(c <= " " or c == "\x7f" or c in '\\"<>^`{|}' or "\ud800" <= c <= "\udfff" for c in url):
        raise RetrieverError(f"{shown}: holds a blank, a backslash or another character that no URL has; encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").removesuffix(".")
        # Names in other scripts go over the wire in ASCII; what is checked is what is sent.
        host = host if ":" in host else host.encode("idna").decode("ascii").lower()
    except ValueError:
        raise RetrieverError(f"{shown}: not a URL; give one like https://example.com/help") from None
    if parts.scheme not in ("http", "https"):
        raise RetrieverError(f"{shown}: only http and https are followed")
    if "@" in parts.netloc:
        raise RetrieverError(f"{shown}: holds a user name; give the URL without")
    if not _is_host(host):
        raise RetrieverError(f"{shown}: {host!r:.60} is no host name; give one like https://example.com/help")
    if port == 0:
        raise RetrieverError(f"{shown}: there is no port 0")
    target = _escaped(parts.path or "/") + (f"?{_escaped(parts.query)}" if parts.query else "")
    return Place(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], target)


def _is_host(host: str) -> bool:
    """A name, or an address in its usual spelling: 0177.1, 0x7f.1 and 2130706433 are 127.0.0.1 in others."""
    try:
        ipaddress.ip_address(host)
        return "%" not in host
    except ValueError:
        last = host.rpartition(".")[2]
        return _NAME.fullmatch(host) is not None and len(host) < 254 and not _NUMERIC.fullmatch(last)


def _escaped(text: str) -> str:
    return "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet and nowhere else."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. `headers` have lower-case names, of repeated ones the last; `body` is unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TooLarge(RetrieverError):
    """More than `MOST_BYTES` of it came, or it unpacks to more."""


class Fetcher:
    """Gets pages. `private` names the `host:port` that may be reached although they are not public, `setting` where
    such names are set."""

    def __init__(
        self,
        private: Iterable[str] = (),
        seconds: float = SECONDS,
        resolve: Resolve | None = None,
        setting: str = "crawl.private",
    ) -> None:
        self._private = frozenset(private)
        self._setting = setting
        self._seconds = seconds
        self._resolve = resolve or _resolve
        self._trust = ssl.create_default_context()

    def get(self, place: Place, headers: Mapping[str, str] | None = None) -> Answer:
        """One request, one answer. Raises RetrieverError when it is not to be had, or not within the limits."""
        return self._ask("GET", place, headers or {}, None)

    def post(self, place: Place, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends `body`; as `get`."""
        return self._ask("POST", place, {"Content-Length": str(len(body)), **headers}, body)

    def _ask(self, method: str, place: Place, headers: Mapping[str, str], content: bytes | None) -> Answer:
        backend = _Checked(self._addresses(place), time.monotonic() + self._seconds)
        sent = {"Host": place.named, "User-Agent": AGENT}
        sent |= {"Accept-Encoding": "gzip", "Connection": "close", **headers}
        url = httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target)
        try:
            with (
                httpcore.ConnectionPool(self._trust, network_backend=backend) as pool,
                pool.stream(
                    method, url, headers=_as_sent(sent), content=content, extensions={"timeout": _timeouts()}
                ) as answer,
            ):
                fields = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in answer.headers}
                return Answer(answer.status, fields, _body(answer.iter_stream(), fields, place))
        except (httpcore.TimeoutException, TimeoutError):
            raise RetrieverError(f"{place.url}: no whole answer in {self._seconds:.0f} s; try again later") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise RetrieverError(f"{place.url}: {_reason(error)}; check the address and try again") from None

    def _addresses(self, place: Place) -> list[str]:
        """The addresses of the host, all of them checked: one that is not public is enough to stay away."""
        try:
            found = list(dict.fromkeys(self._resolve(place.host, place.port)))
        except (OSError, UnicodeError) as error:
            raise RetrieverError(f"{place.url}: {place.host} is not known ({_reason(error)}); check the name") from None
        if not found:
            raise RetrieverError(f"{place.url}: {place.host} has no address; check the name")
        if place.authority not in self._private:
            for text in found:
                if not is_public(ipaddress.ip_address(text)):
                    raise RetrieverError(
                        f"{place.url}: leads to {text}, which is not on the public internet; if it should be reached "
                        f'all the same, allow it by name: {self._setting} = ["{place.authority}"]'
                    )
        return found


def _resolve(host: str, port: int) -> list[str]:
    # An address with a zone (fe80::1%eth0) keeps to one interface and is never public.
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]).partition("%")[0] for info in infos]


def _as_sent(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """In the letters in which they came: a server's ETag may hold any, and goes back to it."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def _timeouts() -> dict[str, float]:
    return dict.fromkeys(("connect", "read", "write", "pool"), 10.0)


def _body(pieces: Iterable[bytes], headers: Mapping[str, str], place: Place) -> bytes:
    packing = headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip", ""):
        raise RetrieverError(f"{place.url}: is packed as {packing!r:.40}, which was not asked for; try again later")
    inflate = zlib.decompressobj(31) if "gzip" in packing else None
    body = bytearray()
    read = 0
    try:
        for piece in pieces:
            read += len(piece)
            body += inflate.decompress(piece, MOST_BYTES + 1 - len(body)) if inflate is not None else piece
            if max(len(body), read) > MOST_BYTES:
                raise TooLarge(f"{place.url}: is larger than {MOST_BYTES / 1e6:.0f} MB; it is not read")
        # A stream that ends early would pass for a whole page.
        if inflate is not None and read and not inflate.eof:
            raise RetrieverError(f"{place.url}: ends in the middle; try again later")
    except zlib.error:
        raise RetrieverError(f"{place.url}: is damaged (not gzip as it says); try again later") from None
    return bytes(body)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0][:120]


class _Checked(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, whatever the name would resolve to by now, and in time."""

    def __init__(self, addresses: list[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        failed: Exception | None = None
        for address in self._addresses[:4]:
            try:
                left = _left(self._deadline, timeout)
                return _Timed(self._backend.connect_tcp(address, port, left, None, socket_options), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError(f"no address of {host}")


class _Timed(httpcore.NetworkStream):
    """A connection that ends at its deadline, though each byte may come in time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline, timeout))
        return _Timed(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("out of time")
    return left if timeout is None else min(left, timeout)
