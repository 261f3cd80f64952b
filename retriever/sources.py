"""Sources: what paths and sites hold now, under which names, and what became of those they held before.

Owns the names, one for each source and the same from ingest to ingest. Knows nothing about how a format is read, about
passages or about versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retriever.knowledge import Report
from retriever.passages import Document, RetrieverError
from retriever.readers import FileRead, Site, Skipped, read_path, read_site
from retriever.readers.child import Child


@dataclass(frozen=True, slots=True)
class Stored:
    """A document and where it came from: `root` and `file` are absolute paths, or a site's start and a page's URL."""

    root: str
    file: str
    digest: str
    document: Document


def read(
    paths: Sequence[Path],
    sites: Sequence[Site],
    kept: Sequence[Stored],
    before: Mapping[tuple[str, str], Sequence[Document]],
    report: Report,
) -> tuple[list[Stored], list[Skipped]]:
    """What is there now, and what of it cannot be read; a path inside another is read with that.

    Raises RetrieverError for a file that was named itself.
    """
    fresh: list[Stored] = []
    skipped: list[Skipped] = []
    files = 0

    def take(root: str, found: FileRead | Skipped) -> None:
        nonlocal files
        if isinstance(found, FileRead):
            fresh.extend(Stored(root, found.file, found.digest, document) for document in found.documents)
            files += 1
            report("reading files", files, 0)
        else:
            skipped.append(found)

    named = set(paths)
    with Child() as child:
        for path in dict.fromkeys(path for path in paths if not _inside(path, named)):
            root = _root(path, kept)
            for found in read_path(path, root, before, child):
                if path.is_file() and not isinstance(found, FileRead):
                    raise RetrieverError(f"{found[0]}: {found[1]}")
                take(str(root), found)
        for site in sites:
            for found in read_site(site, before, child):
                take(site.start, found)
    report("reading files", files, files)
    return fresh, skipped


def of_files(skipped: Iterable[Skipped], items: Iterable[Stored]) -> list[Skipped]:
    """The rows, `faq.csv:12` and the reason, of files of which other rows are among `items`."""
    files = {item.document.source.partition("#")[0] for item in items}
    return [row for row in skipped if row[0].rpartition(":")[0] in files]


def _inside(path: Path, others: Collection[Path]) -> bool:
    """Whether `path` is read with one of the others: a folder is read with all in it that is not hidden."""
    for name, folder in zip(reversed(path.parts), path.parents, strict=False):
        if name.startswith("."):
            return False
        if folder in others:
            return True
    return False


def within(file: str, path: Path) -> bool:
    """Whether `file`, or the page of that URL, is `path` or lies below it."""
    return file == str(path) or file.startswith(f"{path}/")


def _root(path: Path, kept: Sequence[Stored]) -> Path:
    """What sources are relative to: a folder ingested before that holds `path`, else `path` or a file's folder."""
    known = {item.root for item in kept if within(str(path), Path(item.root))}
    if known:
        return Path(min(known, key=len))
    return path if path.is_dir() else path.parent


def settle(kept: Sequence[Stored], fresh: Sequence[Stored]) -> list[Stored]:
    """All documents under unique sources, in order of source.

    Where two folders hold the same relative path: an earlier folder that is no longer there gives way (it was moved),
    else the newcomer is named with its folder in front.
    """
    taken = {item.document.source: item for item in kept}
    moved = {taken[s].root for item in fresh if (s := item.document.source) in taken}
    moved = {root for root in moved if "://" not in root and not Path(root).exists()}
    taken = {source: item for source, item in taken.items() if item.root not in moved}
    for item in fresh:
        source = item.document.source
        if source not in taken:
            taken[source] = item
            continue
        for front in (Path(item.root).name, item.root.strip("/").replace("/", "-")):
            if source in taken:
                source = f"{front}/{item.document.source}"
        number = 2
        while source in taken:
            source, number = f"{item.document.source} ({number})", number + 1
        taken[source] = replace(item, document=replace(item.document, source=source))
    return [taken[source] for source in sorted(taken)]


def compare(old: Sequence[Stored], new: Sequence[Stored]) -> tuple[int, int, int, int]:
    """`(added, changed, removed, unchanged)` sources."""
    before = {item.document.source: item.document for item in old}
    after = {item.document.source: item.document for item in new}
    both = before.keys() & after.keys()
    same = sum(before[source] == after[source] for source in both)
    return len(after) - len(both), len(both) - same, len(before) - len(both), same
