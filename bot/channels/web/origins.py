"""Which pages of other origins may use the API: those of a site's list, compared exactly.

Owns the list as it is now, read again at most each second, so that a request costs no read, and the headers by which
browsers learn of it (CORS). Nothing is allowed by pattern, nothing with credentials, and `null` never is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import Scope

from bot.channels.web.problems import Problem
from bot.storage.database import Database, RecordUnavailable
from bot.storage.sites import DEFAULT, Site, all_sites

FRESH_SECONDS = 1.0
METHODS = "GET, POST, DELETE"
HEADERS = "Authorization, Content-Type, Last-Event-ID"
SECONDS_TO_REMEMBER = "600"


class KnownSites:
    """The sites of the record, at most a second old. Safe from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = threading.Lock()
        self._sites: Mapping[str, Site] = {DEFAULT: Site(DEFAULT, "")}
        self._origins: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    @property
    def fresh(self) -> bool:
        """Whether asking now reads nothing."""
        return time.monotonic() - self._read_at < FRESH_SECONDS

    def refresh(self) -> None:
        """Reads the sites now. While the record cannot be read, what was known stays known."""
        with self._reading:
            try:
                sites = all_sites(self._database)
            except RecordUnavailable:
                return
            self._sites = {site.id: site for site in sites}
            self._origins = frozenset(origin for site in sites for origin in site.origins)
            self._read_at = time.monotonic()

    def find(self, site: str) -> Site | None:
        """The site of that id; "" is the default one. One that was made a moment ago is found."""
        if not self.fresh or (site or DEFAULT) not in self._sites:
            self.refresh()
        return self._sites.get(site or DEFAULT)

    def allow_somewhere(self, origin: str) -> bool:
        """Whether any site lists this origin. Does not read: `refresh` first."""
        return origin in self._origins


def mark_foreign(scope: Scope, origin: str) -> None:
    """The request comes from a page of this origin, which is not ours but which some site lists."""
    scope.setdefault("state", {})["foreign_origin"] = origin


def foreign_origin(request: HTTPConnection) -> str | None:
    """The origin of a page that is not ours, None for our own pages and for requests that no page makes."""
    return getattr(request.state, "foreign_origin", None)


def require_origin(request: HTTPConnection, site: Site | None) -> None:
    """The page that asks must be one of this site's. Raises Problem (403), which that page cannot even read."""
    origin = foreign_origin(request)
    if origin is not None and (site is None or origin not in site.origins):
        request.state.foreign_origin = None
        raise wrong_origin()


def wrong_origin() -> Problem:
    return Problem(
        403,
        "Foreign origin",
        "Pages of this origin may not use this site; add it to the site's origins (`frontdesk sites show`).",
    )


def allow(headers: MutableHeaders, origin: str) -> None:
    """Let the page of that origin read the answer."""
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"


def answer_preflight(headers: MutableHeaders) -> None:
    headers["Access-Control-Allow-Methods"] = METHODS
    headers["Access-Control-Allow-Headers"] = HEADERS
    headers["Access-Control-Max-Age"] = SECONDS_TO_REMEMBER
