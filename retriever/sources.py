"""Sources: what paths and sites hold now, under which names, and what became of those they held before.

Owns the names, one for each source and the same from ingest to ingest. Knows nothing about how a format is read, about
passages or about versions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from retriever.knowledge import Report
from retriever.passages import Document, RetrieverError
from retriever.readers import FileRead, Known, Site, Skipped, read_path, read_site
from retriever.readers.child import Child


class Item(NamedTuple):
    """A document and where it came from: `root` and `file` are absolute paths, or a site's start and a page's URL."""

    root: str
    file: str
    digest: str
    document: Document | Known

    @property
    def source(self) -> str:
        return self.document.source


def read(
    paths: Sequence[Path],
    sites: Sequence[Site],
    kept: Sequence[Item],
    before: Mapping[tuple[str, str], Sequence[Item]],
    report: Report,
) -> tuple[list[Item], list[Skipped]]:
    """What is there now, and what of it cannot be read; a path inside another is read with that.

    `before` maps `(file, digest)` to what was read from those bytes: it is not read again. Raises RetrieverError for a
    file that was named itself.
    """
    fresh: list[Item] = []
    skipped: list[Skipped] = []
    files = 0

    def take(root: str, found: FileRead | Skipped) -> None:
        nonlocal files
        if isinstance(found, FileRead):
            old = before.get((found.file, found.digest), ())
            if old and old[0].root == root and isinstance(found.documents[0], Known):
                fresh.extend(old)  # a hundred thousand new ones take a third of a second
            else:
                fresh.extend(Item(root, found.file, found.digest, document) for document in found.documents)
            files += 1
            report("reading files", files, 0)
        else:
            skipped.append(found)

    named = set(paths)
    known = {place: [i.document for i in items if isinstance(i.document, Known)] for place, items in before.items()}
    with Child() as child:
        for path in dict.fromkeys(path for path in paths if not _inside(path, named)):
            root = _root(path, kept)
            for found in read_path(path, root, known, child):
                if path.is_file() and not isinstance(found, FileRead):
                    raise RetrieverError(f"{found[0]}: {found[1]}")
                take(str(root), found)
        for site in sites:
            for found in read_site(site, known, child):
                take(site.start, found)
    report("reading files", files, files)
    return fresh, skipped


def of_files(skipped: Sequence[Skipped], items: Iterable[Item]) -> list[Skipped]:
    """The rows, `faq.csv:12` and the reason, of files of which other rows are among `items`."""
    if not skipped:  # of a hundred thousand items even this takes its time
        return []
    files = {item.source.partition("#")[0] for item in items}
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


def _root(path: Path, kept: Sequence[Item]) -> Path:
    """What sources are relative to: a folder ingested before that holds `path`, else `path` or a file's folder."""
    known = {item.root for item in kept if within(str(path), Path(item.root))}
    if known:
        return Path(min(known, key=len))
    return path if path.is_dir() else path.parent


def settle(kept: Sequence[Item], fresh: Sequence[Item], read: Callable[[Known], Document]) -> list[Item]:
    """All documents under unique sources, in order of source; `read` gives one of the version before.

    Where two folders hold the same relative path: an earlier folder that is no longer there gives way (it was moved),
    else the newcomer is named with its folder in front.
    """
    taken = {item.source: item for item in kept}
    moved = {taken[s].root for item in fresh if (s := item.source) in taken}
    moved = {root for root in moved if "://" not in root and not Path(root).exists()}
    taken = {source: item for source, item in taken.items() if item.root not in moved}
    for item in fresh:
        source = item.source
        if source not in taken:
            taken[source] = item
            continue
        for front in (Path(item.root).name, item.root.strip("/").replace("/", "-")):
            if source in taken:
                source = f"{front}/{item.source}"
        number = 2
        while source in taken:
            source, number = f"{item.source} ({number})", number + 1
        whole = item.document if isinstance(item.document, Document) else read(item.document)
        taken[source] = item._replace(document=replace(whole, source=source))
    return [taken[source] for source in sorted(taken)]


def recognised(items: Sequence[Item], old: Sequence[Item], read: Callable[[Known], Document]) -> list[Item]:
    """`items`, with what is word for word in the `old` ones as `Known`."""
    found = list(items)
    new = {item.source: place for place, item in enumerate(items) if isinstance(item.document, Document)}
    for item in old if new else ():
        place, was = new.get(item.document.source), item.document
        if place is not None and isinstance(was, Known) and read(was) == found[place].document:
            found[place] = found[place]._replace(document=was)
    return found


def compare(old: Sequence[Item], new: Sequence[Item]) -> tuple[int, int, int, int]:
    """`(added, changed, removed, unchanged)` sources; of the `new` ones those that are the same are `Known`."""
    before = {item.document.source for item in old}
    both = sum(item.document.source in before for item in new)
    same = sum(isinstance(item.document, Known) for item in new)
    return len(new) - both, both - same, len(old) - both, same
