"""What a version holds: its documents, where they came from, and their passages. Opened without being read.

Owns these files and how the next version takes over what did not change. Knows nothing about vectors, indexes or how
a version gets on disk whole.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retriever.embedded import KEY, key
from retriever.lines import Lines, Order, Parsed, in_order, write_lines
from retriever.marks import Marks
from retriever.passages import Document, Passage, RetrieverError, Section
from retriever.readers import Known
from retriever.sources import Item
from retriever.split import split

DOCUMENTS: Final = "documents"
PASSAGES: Final = "passages"
SOURCES: Final = "sources.json"
KEYS: Final = "keys.npy"


class Contents:
    """The documents of one version, in order of source, and its passages, in that order."""

    def __init__(self, folder: Path, documents: int, passages: int) -> None:
        """Open what `Plan.write` wrote. Raises RetrieverError when `folder` does not hold so many."""
        self._folder = folder
        self.documents = Parsed(Lines(folder, DOCUMENTS), _document)
        self.passages = Parsed(Lines(folder, PASSAGES), _passage)
        if (len(self.documents), len(self.passages)) != (documents, passages):
            raise RetrieverError(f"{folder}: holds another number of passages than it says; ingest again or roll back")
        self.marks = Marks.load(folder, passages)

    def items(self) -> tuple[list[Item], Order]:
        """Where each document came from, and where its passages end. Only an ingest asks."""
        try:
            held = json.loads((self._folder / SOURCES).read_bytes())
            roots, files, digests = zip(*held["files"], strict=True)
            with _uncollected():
                rows = enumerate(zip(held["sources"], held["file"], strict=True))
                items = [Item(roots[n], files[n], digests[n], Known(source, row)) for row, (source, n) in rows]
            ends = np.array(held["ends"], np.int64)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise RetrieverError(f"{self._folder / SOURCES}: not readable ({error}); ingest again") from None
        return items, ends

    def keys(self) -> NDArray[np.uint8]:
        """Of the text of each passage that is embedded, `[n, KEY]`."""
        try:
            keys: NDArray[np.uint8] = np.load(self._folder / KEYS, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RetrieverError(f"{self._folder / KEYS}: not readable ({error}); ingest again") from None
        return keys


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next version is to hold: what of the one before, and what is new."""

    items: Sequence[Item]
    before: Contents | None
    keep: bool
    """Whether passages are taken over, and not only documents."""
    added: Sequence[Passage]
    order: Order
    """Of the passages: those before, if they are taken over, and then those that are new."""
    marks: Marks
    ends: Sequence[int]
    """Where the passages of each document end."""

    @classmethod
    def of(cls, items: Sequence[Item], before: Contents | None, ends: Order, *, keep: bool) -> Plan:
        """`ends` are those of the version `before`. Without a version before there is nothing to keep."""
        keep = keep and before is not None
        old = len(before.passages) if before is not None and keep else 0
        row = np.array([item.document.row if keep and isinstance(item.document, Known) else -1 for item in items])
        known, starts, stops = row >= 0, np.zeros_like(row), np.zeros_like(row)
        starts[known], stops[known] = np.concatenate([[0], ends])[row[known]], ends[row[known]]
        added: list[Passage] = []
        for place in np.flatnonzero(~known).tolist():
            starts[place] = old + len(added)
            added += split(whole(items[place], before))
            stops[place] = old + len(added)
        last = np.cumsum(stops - starts)
        order, marks = np.arange(last[-1]) + np.repeat(stops - last, stops - starts), Marks.of(added)
        if before is not None and keep:
            marks = before.marks.then(marks, order)
        return cls(items, before, keep, added, order, marks, last.tolist())

    @property
    def kept(self) -> Contents | None:
        """The version before, if its passages are taken over."""
        return self.before if self.keep else None

    def write(self, folder: Path, texts: Sequence[str]) -> None:
        """Into the new `folder`; OSError when the disk refuses. `texts` are what is embedded of the added passages."""
        kept = self.kept
        documents = None if self.before is None else self.before.documents.lines
        passages = None if kept is None else kept.passages.lines
        new = [item.document for item in self.items if isinstance(item.document, Document)]
        place = count(0 if documents is None else len(documents))
        rows = [item.document.row if isinstance(item.document, Known) else next(place) for item in self.items]
        write_lines(folder, DOCUMENTS, np.array(rows), map(_line, new), documents)
        write_lines(folder, PASSAGES, self.order, map(_line, self.added), passages)
        self.marks.save(folder)
        keys = np.frombuffer(b"".join(map(key, texts)), np.uint8).reshape(-1, KEY)
        if kept is not None:
            keys = in_order(kept.keys().__getitem__, len(kept.passages), keys, self.order)
        np.save(folder / KEYS, keys)
        files: dict[tuple[str, str, str], int] = {}
        numbers = [files.setdefault((item.root, item.file, item.digest), len(files)) for item in self.items]
        sources = [item.source for item in self.items]
        held = {"files": list(files), "sources": sources, "file": numbers, "ends": self.ends}
        # The name of a file need not be text: its bytes come as surrogates.
        (folder / SOURCES).write_bytes(json.dumps(held, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@contextmanager
def _uncollected() -> Iterator[None]:
    """For values by the hundred thousand, none of them in a ring: the collector would go through all that there are
    again and again, a fifth of an ingest."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def whole(item: Item, before: Contents | None) -> Document:
    """The document of `item`, which may be one of the version `before`."""
    if isinstance(item.document, Document):
        return item.document
    assert before is not None
    return before.documents[item.document.row]


def _line(value: Document | Passage) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_by_name).encode("utf-8", "surrogatepass")


def _by_name(value: Any) -> dict[str, object]:
    # Eight times as fast as dataclasses.asdict, which copies every string.
    return {name: getattr(value, name) for name in value.__slots__}


def _document(line: bytes) -> Document:
    value = _read(line)
    value["sections"] = tuple(Section(tuple(s["heading"]), s["start"], s["end"]) for s in value["sections"])
    return Document(**value)


def _passage(line: bytes) -> Passage:
    value = _read(line)
    value["heading"] = tuple(value["heading"])
    return Passage(**value)


def _read(line: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line)
    return value
