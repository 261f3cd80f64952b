"""Something that failed for a while, tried again a little later.

Owns the waiting: one try at a time, none once closed. Knows nothing about what is tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from bot import FrontdeskError

SECONDS = 5.0


class Retry:
    """Calls `what` a little after `later`, in a thread of its own, and again while it fails. Safe from any thread."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def later(self) -> None:
        """Nothing more if a try is waiting already."""
        with self._lock:
            if self._closed or self._timer is not None:
                return
            self._timer = threading.Timer(SECONDS, self._again)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """No try begins from now on."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _again(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self._what()
        except FrontdeskError:
            self.later()
