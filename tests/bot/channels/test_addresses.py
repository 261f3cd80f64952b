"""Who a request comes from: the peer, or behind our own proxies the address that the outermost of them saw."""

from __future__ import annotations

import pytest

from bot.channels.web.addresses import client_of, networks

TRUSTED = networks(["10.0.0.0/8", "192.0.2.7", "fd00::/8"])


def client(peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return client_of({"type": "http", "client": (peer, 1) if peer else None, "headers": headers}, TRUSTED)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),  # anybody can write that header
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),  # what stands left was there before the proxy
        ("10.0.0.1", ("6.6.6.6, 198.51.100.1, 10.9.9.9",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6, nonsense, 10.9.9.9",), "10.9.9.9"),
        ("10.0.0.1", ("unknown",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.2, 10.0.0.3",), "10.0.0.2"),
        ("192.0.2.7", ("198.51.100.1:4711",), "198.51.100.1"),
        ("::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("fd00::1", ("[2001:db8:1:2:3::4]:443",), "2001:db8:1:2::"),
        ("2001:db8:1:2:aaaa::1", (), "2001:db8:1:2::"),
        ("2001:db8:1:2:bbbb::2", (), "2001:db8:1:2::"),  # one customer has all of a /64
        ("2001:db8:1:3::2", (), "2001:db8:1:3::"),
        ("testclient", ("198.51.100.1",), "testclient"),
        (None, ("198.51.100.1",), "unknown"),
        ("10.0.0.1", ("198.51.100.1," + "10.0.0.1," * 5_000 + "10.0.0.2",), "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_that_is_no_proxy_of_ours(
    peer: str | None, forwarded: tuple[str, ...], address: str
) -> None:
    assert client(peer, *forwarded) == address


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        networks(["proxy.example"])
