"""How much one address, visitor, conversation or site may ask for, in requests and in work; the rest gets a 429.

Owns the token buckets, which live in memory and are bounded in number, and when to come back. Each process counts for
itself, and a restart forgives. Knows nothing about what is asked.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from bot.channels.web.addresses import Network, client_of, comes_through_a_stranger
from bot.channels.web.logbook import write
from bot.channels.web.problems import Problem

API = "/api/v1/"
OPENING = "/api/v1/conversations"
MOST_BUCKETS = 50_000
"""Some ten megabytes. Beyond it the bucket that was not touched for the longest time goes: it is full, or nearly."""

MINUTE = 60.0
Bucket = tuple[str, str]
"""The name of an allowance, and whose it is."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """Per minute; that much at once after a minute of silence. Work is milliseconds of answering.

    Many customers can share one address (an office, a phone network), so an address may do more than a visitor.
    """

    requests_per_address: float = 900
    conversations_per_address: float = 60
    conversations_per_site: float = 600
    messages_per_address: float = 120
    messages_per_visitor: float = 30
    messages_per_conversation: float = 20
    messages_per_site: float = 3_000
    work_per_address: float = 20_000
    work_per_visitor: float = 10_000
    work_per_conversation: float = 10_000
    work_per_site: float = 90_000
    files_per_visitor: float = 10
    files_per_address: float = 30
    files_per_site: float = 300
    handovers_per_address: float = 10
    handovers_per_site: float = 60
    streams_per_visitor: int = 8
    """Open event streams at a time."""
    streams: int = 2_000
    """Open event streams at a time, of everybody."""


class Limits:
    """Counts what comes. `spend` and its relatives raise a 429 Problem when too much came. Safe from any thread."""

    def __init__(self, allowance: Allowance | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.allowance = allowance or Allowance()
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Bucket, tuple[float, float]] = OrderedDict()
        self._speakers: OrderedDict[str, tuple[Bucket, ...]] = OrderedDict()

    @property
    def buckets(self) -> int:
        return len(self._buckets)

    def request(self, address: str) -> None:
        """A request of any kind."""
        self._spend(_buckets("requests", address=address))

    def opening(self, address: str) -> None:
        """A conversation is to be opened: asked before anything of the request is read."""
        self._spend(_buckets("conversations", address=address))

    def opening_at(self, site: str) -> None:
        self._spend(_buckets("conversations", site=site))

    def file(self, address: str, visitor: str, site: str) -> None:
        """A file is to be uploaded."""
        self._spend(_buckets("files", visitor=visitor, address=address, site=site))

    def handover(self, address: str, site: str) -> None:
        """A person is asked for, which notifies the team."""
        self._spend(_buckets("handovers", address=address, site=site))

    def message(self, address: str, visitor: str, conversation: str, site: str) -> None:
        """A message is to be answered. None of these may be out of messages, or have used up its work."""
        whose = {"conversation": conversation, "visitor": visitor, "address": address, "site": site}
        workers = _buckets("work", **whose)
        self._spend(_buckets("messages", **whose), workers)
        with self._lock:
            self._speakers[conversation] = workers
            self._speakers.move_to_end(conversation)
            while len(self._speakers) > MOST_BUCKETS:
                self._speakers.popitem(last=False)

    def worked(self, conversation: str, milliseconds: float) -> None:
        """An answer took that long. It was begun already, so it may leave a debt, which time pays off."""
        with self._lock:
            for key in self._speakers.get(conversation, ()):
                # A debt of more than a minute would shut somebody out for one slow answer of ours.
                self._set(key, max(-self._capacity(key), self._level(key) - milliseconds))

    def _spend(
        self,
        counted: Sequence[Bucket],
        above_zero: Sequence[Bucket] = (),
    ) -> None:
        """Takes one from each of `counted`, or from none and raises, if one has none left or one of `above_zero` has
        nothing left."""
        with self._lock:
            levels = {key: self._level(key) for key in (*counted, *above_zero)}
            empty = [key for key in counted if levels[key] < 1] + [key for key in above_zero if levels[key] <= 0]
            lacking = [(1 - levels[key]) * MINUTE / self._capacity(key) for key in empty]
            if not lacking:
                for key in counted:
                    self._set(key, levels[key] - 1)
        if lacking:
            raise too_many(max(lacking))

    def _capacity(self, key: Bucket) -> float:
        return float(getattr(self.allowance, key[0]))

    def _level(self, key: Bucket) -> float:
        known, capacity = self._buckets.get(key), self._capacity(key)
        if known is None:
            return capacity
        level, at = known
        return min(capacity, level + (self._clock() - at) * capacity / MINUTE)

    def _set(self, key: Bucket, level: float) -> None:
        self._buckets[key] = (level, self._clock())
        self._buckets.move_to_end(key)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)


def _buckets(what: str, **whose: str) -> tuple[Bucket, ...]:
    return tuple((f"{what}_per_{kind}", name) for kind, name in whose.items())


def too_many(seconds: float) -> Problem:
    """429, with the time to come back."""
    wait = max(1, math.ceil(seconds))
    return Problem(
        429,
        "Too many requests",
        f"That was a lot at once. Try again in {wait} {'second' if wait == 1 else 'seconds'}.",
        {"Retry-After": str(wait)},
    )


class Turnstile:
    """Passes the API's requests of an address as long as there are not too many: before anything of them is read."""

    def __init__(self, app: ASGIApp, limits: Limits, trusted: Sequence[Network]) -> None:
        self.app = app
        self.limits = limits
        self.trusted = trusted
        self.warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            address = client_of(scope, self.trusted)
            if not self.warned and comes_through_a_stranger(scope, self.trusted):
                self.warned = True
                write(
                    "untrusted_proxy", level=logging.WARNING, cure="name it in `trusted_proxies`; till then all is one"
                )
            scope.setdefault("state", {})["address"] = address
            if scope["path"].startswith(API) and scope["method"] != "OPTIONS":
                try:
                    self.limits.request(address)
                    if scope["path"] == OPENING and scope["method"] == "POST":
                        self.limits.opening(address)
                except Problem as problem:
                    await problem.response()(scope, receive, send)
                    return
        await self.app(scope, receive, send)
