"""Which address a request comes from, also behind proxies: the headers of those that the company named are believed.

Owns the reading of X-Forwarded-For. Everybody can write that header, so it is read from the right: each trusted proxy
added the address it saw, and the first one that is no proxy of ours is the client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_HOPS = 16
UNKNOWN = "unknown"


def networks(trusted: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and ranges as networks. Raises ValueError for what is neither."""
    return tuple(ipaddress.ip_network(one, strict=False) for one in trusted)


def client_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """What to count a request under: an IPv4 address, or the /64 of an IPv6 one, which one customer has whole."""
    peer = scope.get("client")
    seen = _address(peer[0]) if peer else None
    if seen is None:
        return str(peer[0]) if peer else UNKNOWN
    if trusted and _is_in(seen, trusted):
        said = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        for hop in reversed(said[-MOST_HOPS:]):
            address = _address(hop.strip())
            if address is None:  # a proxy of ours does not write that: what stands left of it is anybody's
                break
            seen = address
            if not _is_in(address, trusted):
                break
    return _counted(seen)


def comes_through_a_stranger(scope: Scope, trusted: Sequence[Network]) -> bool:
    """Whether a proxy of our own network that nobody named hands the request on: then all customers look like one."""
    peer = scope.get("client")
    seen = _address(peer[0]) if peer else None
    return (
        seen is not None and seen.is_private and not _is_in(seen, trusted) and "x-forwarded-for" in Headers(scope=scope)
    )


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(_without_port(text))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _without_port(text: str) -> str:
    """`1.2.3.4:5678` and `[::1]:5678`, as some proxies write them."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, colon, _ = text.partition(":")
    return host if colon and text.count(":") == 1 else text


def _is_in(address: Address, ranges: Sequence[Network]) -> bool:
    return any(address.version == one.version and address in one for one in ranges)


def _counted(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)
