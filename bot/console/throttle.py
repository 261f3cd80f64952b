"""How often a password may be tried: each name and each address has a few tries, then must wait longer and longer.

Owns the counting, in memory and bounded. Knows nothing about passwords: a try counts when it begins, so that many at
once count too.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_FOR_A_NAME = 5
FREE_FOR_AN_ADDRESS = 20
"""More than for a name: a whole office may sit behind one."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
FORGOTTEN_AFTER = 1800.0
MOST_KEPT = 10_000


@dataclass(slots=True)
class _Tries:
    count: int = 0
    last: float = 0.0
    until: float = 0.0
    """When the next one may begin."""


class Throttle:
    """Safe from any thread. `clock` gives seconds that only rise."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def begin(self, name: str, address: str) -> float:
        """0 when the password may be tried now, and then it counts; else the seconds to wait."""
        now = self._clock()
        with self._lock:
            both = [
                (self._of(f"name {name.strip().casefold()}", now), FREE_FOR_A_NAME),
                (self._of(f"address {address}", now), FREE_FOR_AN_ADDRESS),
            ]
            wait = max(tries.until - now for tries, _ in both)
            if wait > 0:
                return wait
            for tries, free in both:
                tries.count += 1
                tries.last = now
                beyond = tries.count - free
                if beyond >= 0:
                    tries.until = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(beyond, 10))
        return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """The name starts anew; the address only gets this one try back."""
        with self._lock:
            self._tries.pop(f"name {name.strip().casefold()}", None)
            tries = self._tries.get(f"address {address}")
            if tries is not None:
                tries.count = max(0, tries.count - 1)

    def _of(self, key: str, now: float) -> _Tries:
        tries = self._tries.get(key)
        if tries is None or now - tries.last > FORGOTTEN_AFTER:
            tries = self._tries[key] = _Tries()
        self._tries.move_to_end(key)
        while len(self._tries) > MOST_KEPT:
            self._tries.popitem(last=False)
        return tries
