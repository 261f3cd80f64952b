"""From files to documents: Markdown, HTML, text, PDF, Office files, and question-and-answer rows in CSV or JSON Lines.

Owns which files of a folder are read and why the others are not. Knows nothing about passages or indexes. A file that
cannot be read never stops the others: it becomes a reason.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from retriever.passages import Document, RetrieverError
from retriever.readers.child import Child
from retriever.readers.parsers import Kind

Skipped = tuple[str, str]
"""`(file or file:line, reason with its cure)`."""

MOST_BYTES: Final = 10_000_000
"""Of one article. Files of rows are read line by line and may hold ten times as much."""
TRIES: Final = 3
"""How often a file is read that is written meanwhile."""
_KINDS: Final[dict[str, Kind]] = {
    ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".txt": "text", ".pdf": "pdf",
    ".docx": "docx", ".pptx": "pptx", ".xlsx": "xlsx", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """A crawled site: where the crawl began, and of each page its URL and the file that its body was written to."""

    start: str
    pages: tuple[tuple[str, Path], ...]


class Known(NamedTuple):
    """A document that is in the version before, in that row of it: it is not read again."""

    source: str
    row: int


@dataclass(frozen=True, slots=True)
class FileRead:
    """One file or page that was read: its absolute path or its URL. `digest` is the SHA-256 of its bytes."""

    file: str
    digest: str
    documents: tuple[Document | Known, ...]


def read_path(
    path: Path, root: Path, known: Mapping[tuple[str, str], Sequence[Known]], child: Child
) -> Iterator[FileRead | Skipped]:
    """Every readable file at or under `path`, in order of name; sources are relative to `root`.

    `known` maps `(absolute file, digest)` to the documents read from those bytes before: they are not read again.
    """
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    for file in _walk(path):
        if isinstance(file, tuple):
            yield file
            continue
        yield from _read(file, path, str(file), _relative(file, root), known, child)


def read_site(
    site: Site, known: Mapping[tuple[str, str], Sequence[Known]], child: Child
) -> Iterator[FileRead | Skipped]:
    """As `read_path`, of the pages of a site. A page's source is its URL without `https://`, where it is also cited."""
    for url, body in site.pages:
        source = url.partition("://")[2].rstrip("/")
        for found in _read(body, body.parent, url, source, known, child):
            if isinstance(found, FileRead):
                cited = (d if isinstance(d, Known) else replace(d, url=url) for d in found.documents)
                yield replace(found, documents=tuple(cited))
            else:
                yield found


def _read(
    file: Path,
    path: Path,
    name: str,
    source: str,
    known: Mapping[tuple[str, str], Sequence[Known]],
    child: Child,
) -> Iterator[FileRead | Skipped]:
    """One file, known by `name`, or why it is not read."""
    try:
        digest = _checked_digest(file, path)
        documents = known.get((name, digest), ())
        if documents and all(d.source.partition("#")[0] == source for d in documents):
            yield FileRead(name, digest, tuple(documents))
            return
        for _ in range(TRIES):
            parts = list(child.parse(file, _KINDS[file.suffix.lower()], source))
            # Half of one text and half of the next would be nobody's article.
            before, digest = digest, _checked_digest(file, path)
            if digest == before:
                break
        else:
            raise RetrieverError("changes while it is read; ingest again when it is written")
        read = [part for part in parts if isinstance(part, Document)]
        for part in parts:
            if not isinstance(part, Document):
                yield f"{source}:{part[0]}", part[1]
        if read:
            yield FileRead(name, digest, tuple(read))
        else:
            yield source, "nothing to read in it; add text or remove the file"
    except RetrieverError as error:
        reason = str(error)
        place, _, rest = reason.partition(": ")
        yield (place, rest) if place.startswith(source) else (source, reason)
    except (OSError, RecursionError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        yield source, f"cannot be read ({reason}); check the file and its permissions"


def _walk(path: Path) -> Iterator[Path | Skipped]:
    if not path.is_dir():
        yield path
        return
    unlisted: list[OSError] = []
    for folder, folders, names in os.walk(path, onerror=unlisted.append, followlinks=False):
        for name in sorted(folders):
            linked = Path(folder, name)
            if linked.is_symlink() and not name.startswith("."):
                yield _relative(linked, path), "a link to a folder; ingest that folder itself"
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
    for error in unlisted:
        yield _relative(Path(error.filename), path), f"cannot be listed ({error.strerror}); check its permissions"


def _relative(file: Path, root: Path) -> str:
    """With `/` on every system, and printable whatever bytes the name holds."""
    below = str(file).removeprefix(f"{root}{os.sep}")
    name = below if len(below) < len(str(file)) else os.path.relpath(file, root)
    return name.replace(os.sep, "/").encode("utf-8", "replace").decode("utf-8")


def _checked_digest(file: Path, path: Path) -> str:
    """The digest of a file that may be read; raises RetrieverError with the reason for one that may not."""
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        kinds = " ".join(sorted(_KINDS))
        raise RetrieverError(f"type {file.suffix or 'without a suffix'} is not read; give one of {kinds}")
    # Nothing is resolved without need: of 20,000 files that took three quarters of the time. Folders that are links are
    # not walked into, so only the file itself can lead out.
    target = Path(os.path.realpath(file)) if file.is_symlink() else file
    if target is not file and path.is_dir() and not target.is_relative_to(path.resolve()):
        raise RetrieverError("a link that leads out of the folder; copy the file into it")
    status = target.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RetrieverError("not a regular file; remove it")
    most = MOST_BYTES * (10 if kind not in ("markdown", "html", "text") else 1)
    if status.st_size > most:
        raise RetrieverError(f"{status.st_size / 1e6:.0f} MB is more than {most / 1e6:.0f} MB; split it")
    if not status.st_size:
        raise RetrieverError("empty; add text or remove the file")
    with target.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
