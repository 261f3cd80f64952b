"""Pages of a site on disk, as a crawl left them: what makes the next crawl short, and a killed one go on.

Owns the folder: a body and a note for each page, each there whole or not at all. Knows nothing about the web.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from retriever import disk

_UNFINISHED: Final = "unfinished.json"
RESUMED: Final = 24 * 3600.0
"""Seconds: what a crawl saw before it was killed is news no longer than this."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was fetched. `suffix` says how its body is read; `seen` is when a crawl last met it, in seconds."""

    url: str
    suffix: str
    digest: str
    seen: float
    etag: str = ""
    modified: str = ""
    links: tuple[str, ...] = ()
    canonical: str = ""
    kept: bool = True
    """False for a page that asks not to be: its links are followed all the same."""


class Mirror:
    """The pages under one folder. Hold the lock to write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pages: dict[str, Page] = {}
        for note in sorted(folder.glob("*.page")) if folder.is_dir() else ():
            # A damaged note is a page that was never fetched.
            with suppress(ValueError, TypeError, KeyError, OSError):
                values = json.loads(note.read_text("utf-8"))
                page = Page(**{**values, "links": tuple(values["links"])})
                if note.name == f"{_name(page.url)}.page" and self.body(page).is_file():
                    self._pages[page.url] = page

    def locked(self) -> AbstractContextManager[None]:
        """One crawl at a time, across processes; a killed one lets go."""
        return disk.locked(self.folder, "this site is being read already")

    @property
    def pages(self) -> dict[str, Page]:
        return dict(self._pages)

    def page(self, url: str) -> Page | None:
        return self._pages.get(url)

    def body(self, page: Page) -> Path:
        return self.folder / f"{_name(page.url)}-{page.digest[:16]}{page.suffix}"

    def begin(self, now: float) -> float:
        """When the crawl that is under way began: `now`, or, if one was killed less than RESUMED ago, its beginning."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            began = float(json.loads((self.folder / _UNFINISHED).read_text("utf-8"))["began"])
            if now - RESUMED < began <= now:
                return began
        _replace(self.folder / _UNFINISHED, json.dumps({"began": now}).encode())
        return now

    def keep(self, page: Page, body: bytes) -> None:
        """The body first: a note without one would be no page, and one without a note is nothing."""
        old = self._pages.get(page.url)
        _replace(self.body(page), body)
        self._note(page)
        if old is not None and self.body(old) != self.body(page):
            self.body(old).unlink(missing_ok=True)

    def met(self, page: Page, now: float) -> None:
        """The page is as it was."""
        self._note(replace(page, seen=now))

    def drop(self, url: str) -> None:
        if (page := self._pages.pop(url, None)) is not None:
            (self.folder / f"{_name(url)}.page").unlink(missing_ok=True)
            self.body(page).unlink(missing_ok=True)

    def finish(self) -> None:
        (self.folder / _UNFINISHED).unlink(missing_ok=True)

    def _note(self, page: Page) -> None:
        _replace(self.folder / f"{_name(page.url)}.page", json.dumps(asdict(page)).encode())
        self._pages[page.url] = page


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:24]


def _replace(path: Path, content: bytes) -> None:
    with disk.disk_errors(path):
        disk.replace(path, content)
