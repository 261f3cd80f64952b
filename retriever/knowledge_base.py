"""The knowledge base: from files to a version that is searched, touching only what changed.

Owns what an ingest adds, keeps and drops, and which version is loaded when one is damaged. Knows nothing about what a
source holds, how a version gets on disk whole, or how passages are ranked: sources, versions and search do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from retriever.blocks import Blocks
from retriever.contents import Contents, Plan
from retriever.disk import disk_errors
from retriever.embedded import embed, forget, key
from retriever.gpu_index import on_gpu
from retriever.keyword_index import KeywordIndex
from retriever.knowledge import Knowledge, PassageEncoder, Report
from retriever.lines import MANY, Order, in_order
from retriever.marks import Column
from retriever.passages import Document, RetrieverError, Vectors
from retriever.readers import Known, Site, Skipped
from retriever.search import Indexes, Reranker
from retriever.smoothing import filed, joining, smoothed
from retriever.sources import Item, compare, of_files, read, recognised, settle, within
from retriever.split import embedded_text
from retriever.vector_index import VectorIndex, index_of, load_index
from retriever.versions import KEPT, Version, VersionStore

CUT: Final = 2
"""Raised when `split.py` or `keyword_index.py` cut texts otherwise: nothing that was cut before is then taken over."""
KEYWORDS: Final = "keywords"
EMBEDDINGS: Final = "embeddings"
"""What the encoder made of the passages, kept where search sees a smoothed form: it is not made twice."""
NEW: Final = 0.2
"""The share of passages that may come to a large catalogue, or to what is none, before all of them are looked at again:
whether it is one, and what each is drawn towards. Until then that is done for what is new alone."""
BAD_ROWS: Final = "skipped.json"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did, counted in sources. `skipped` holds `(file or file:line, reason)`."""

    added: int
    changed: int
    removed: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    version: str
    embedded: int
    """Passages that went through the encoder; the others kept their vectors."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of one source between two versions; a text is empty in the version that has no such source."""

    source: str
    before: str
    after: str

    @property
    def kind(self) -> str:
        return "added" if not self.before else "removed" if not self.after else "changed"


@dataclass(frozen=True, slots=True)
class _Base:
    """What an ingest builds on, so that it touches only what changed: the newest sound version."""

    version: Version | None = None
    contents: Contents | None = None
    items: Sequence[Item] = ()
    ends: Order = field(default_factory=lambda: np.empty(0, np.int64))
    index: VectorIndex | None = None
    """None when another encoder made its vectors."""
    unsmoothed: Blocks | None = None
    """What the encoder made of the passages, where it is a catalogue whose index holds them smoothed."""
    keywords: KeywordIndex | None = None

    @property
    def keeps(self) -> bool:
        """Whether its passages are what this program would make of its documents."""
        return self.index is not None and self.version is not None and self.version.cut == CUT

    def read(self, known: Known) -> Document:
        assert self.contents is not None
        return self.contents.documents[known.row]

    def embedded(self) -> dict[bytes, int]:
        """By the key of a text that is embedded, a passage with it."""
        if self.contents is None or self.index is None:
            return {}
        return {one.tobytes(): row for row, one in enumerate(self.contents.keys())}

    def embeddings(self, rows: Order) -> Vectors:
        """What the encoder made of these passages."""
        assert self.index is not None
        return self.index.vectors(rows) if self.unsmoothed is None else self.unsmoothed[rows]


@dataclass(frozen=True, slots=True)
class _Searched:
    """The vectors of a version."""

    index: VectorIndex
    unsmoothed: Blocks | None
    """What the encoder made, where the index holds something else."""
    joined: int
    """As in `Version`."""


class KnowledgeBase:
    """The knowledge of one company, kept as versions under `folder`, in the space of one encoder."""

    def __init__(
        self, folder: Path, encoder: PassageEncoder, reranker: Reranker | None = None, kept: int = KEPT
    ) -> None:
        self._store = VersionStore(folder, kept)
        self._encoder = encoder
        self._reranker = reranker

    def load(self) -> Knowledge:
        """The current version, or the newest sound one before it with the reason in `warning`.

        Every file is compared with its checksum before anything parses it. Raises RetrieverError when there is
        nothing to serve.
        """
        problems: list[str] = []
        for name in self._store.candidates():
            try:
                version = self._check(name)
                contents = self._contents(version)
                return Knowledge(
                    name,
                    contents.documents,
                    self._open(version, contents),
                    self._encoder,
                    warning=f"{problems[0]}; serving version {name} instead" if problems else "",
                    reranker=self._reranker,
                )
            except RetrieverError as error:
                problems.append(str(error))
        if problems:
            raise RetrieverError(problems[0])
        raise RetrieverError(f"{self._store.folder}: the knowledge base is empty; run: frontdesk ingest FOLDER")

    def ingest(
        self, paths: Sequence[Path | str], report: Report | None = None, sites: Sequence[Site] = ()
    ) -> IngestReport:
        """Bring the knowledge base up to date with `paths`, files and folders, and with crawled `sites`.

        Earlier content is replaced: what is gone from a folder or a site is gone from the knowledge, and so is what was
        read from one of `paths` that is not there any more. Files that cannot be read are skipped and reported; a file
        named in `paths` itself is refused instead. No version changes until everything was read and embedded; what was
        embedded before a kill is not embedded again. Raises RetrieverError, and then the old version is still live.
        """
        report = report or _silent
        # Not `Path.resolve`, which raises for a link that leads to itself.
        chosen = [Path(os.path.realpath(Path(path).expanduser())) for path in paths]
        with self._store.locked():
            base = self._base()
            old = base.items
            for given, path in zip(paths, chosen, strict=True):
                if not path.exists() and not any(within(i.file, path) for i in old):
                    raise RetrieverError(f"{given}: no such file or folder")
            starts = {site.start for site in sites}
            anew = {file for file in {i.file for i in old} if any(within(file, path) for path in chosen)}
            kept = [i for i in old if i.root not in starts and i.file not in anew]
            before: dict[tuple[str, str], list[Item]] = {}
            for item in old:
                before.setdefault((item.file, item.digest), []).append(item)
            fresh, skipped = read([path for path in chosen if path.exists()], sites, kept, before, report)
            # Files that did not change were not read again, and their bad rows are as bad as they were.
            bad = self._bad_rows(base)
            skipped += of_files(bad, [i for i in fresh if (i.file, i.digest) in before])
            items = recognised(settle(kept, fresh, base.read), old, base.read)
            if not items:
                reasons = "".join(f"; {source}: {reason}" for source, reason in skipped[:3])
                raise RetrieverError(
                    f"{', '.join(map(str, (*paths, *starts)))}: nothing readable in it{reasons}; give Markdown, HTML, "
                    "text, PDF, Office, CSV or JSONL files (the version in service is unchanged)"
                )
            counts = compare(old, items)
            if base.keeps and base.version is not None and items == old:
                return IngestReport(*counts, tuple(skipped), base.version.version, 0)
            plan = Plan.of(items, base.contents, base.ends, keep=base.keeps)
            texts = [embedded_text(passage) for passage in plan.added]
            vectors, made = self._embed(texts, base, report)
            with disk_errors(self._store.folder):
                bad = of_files([*skipped, *of_files(bad, kept)], items)
                version = self._write(plan, texts, vectors, base, bad, report)
            forget(self._store.folder)
            return IngestReport(*counts, tuple(skipped), version, made)

    def _embed(self, texts: Sequence[str], base: _Base, report: Report) -> tuple[Vectors, int]:
        """The vectors of `texts`, and how many were made now: others were in the version before, or outlived a kill."""
        known = base.embedded() if texts else {}
        rows = [known.get(key(text), -1) for text in texts]
        missing = list(dict.fromkeys(text for text, row in zip(texts, rows, strict=True) if row < 0))
        fresh, made = embed(missing, self._encoder, self._store.folder, partial(report, "embedding"))
        if len(missing) == len(texts):
            return fresh, made
        place = {text: row for row, text in enumerate(missing)}
        old = np.array(rows, np.int64)
        vectors = np.empty((len(texts), self._encoder.dimension), np.float32)
        vectors[old < 0] = fresh[[place[text] for text, row in zip(texts, rows, strict=True) if row < 0]]
        if (old >= 0).any():
            vectors[old >= 0] = base.embeddings(old[old >= 0])
        return vectors, made

    def versions(self) -> list[Version]:
        """What is on disk, newest first."""
        return self._store.list()

    def sites(self) -> tuple[str, ...]:
        """Where the sites begin that the version was read from on which an ingest would build."""
        return tuple(sorted({item.root for item in self._base().items if "://" in item.root}))

    def check(self) -> list[tuple[str, str]]:
        """Every version on disk with what is wrong with it, empty when it is sound; newest first."""
        found = []
        for name in reversed(self._store.names()):
            try:
                self._check(name)
                found.append((name, ""))
            except RetrieverError as error:
                found.append((name, str(error)))
        return found

    def differences(self, old: str, new: str) -> list[Difference]:
        """What differs between two versions on disk, by source. Raises RetrieverError when one is gone or damaged."""
        contents = (self._contents(self._store.check(name)) for name in (old, new))
        before, after = ({document.source: document for document in one.documents} for one in contents)
        found = []
        for source in sorted(before.keys() | after.keys()):
            one, other = before.get(source), after.get(source)
            if one != other:
                found.append(Difference(source, one.text if one else "", other.text if other else ""))
        return found

    def rollback(self, version: str | None = None) -> str:
        """Make this version live, or the newest sound one before the current; returns its name."""
        with self._store.locked():
            return self._store.rollback(version, self._check)

    def _check(self, name: str) -> Version:
        version = self._store.check(name)
        if version.encoder != self._encoder.name or version.dimension != self._encoder.dimension:
            raise RetrieverError(
                f"{self._store.path(name)}: made with encoder {version.encoder}, this is {self._encoder.name}; "
                "ingest the articles again"
            )
        return version

    def _base(self) -> _Base:
        """What to build on."""
        for name in self._store.candidates():
            try:
                version = self._store.check(name)
                contents = self._contents(version)
                base = _Base(version, contents, *contents.items())
                if (version.encoder, version.dimension) != (self._encoder.name, self._encoder.dimension):
                    return base
                index, keywords = self._open_vectors(version), KeywordIndex(self._store.path(name) / KEYWORDS)
                return replace(base, index=index, unsmoothed=self._unsmoothed(version), keywords=keywords)
            except RetrieverError:
                continue
        return _Base()

    def _bad_rows(self, base: _Base) -> list[Skipped]:
        """What could not be read of the files of a version: place (`faq.csv:12`) and reason."""
        if base.version is None:
            return []
        rows = json.loads((self._store.path(base.version.version) / BAD_ROWS).read_bytes())
        return [(place, reason) for place, reason in rows]

    def _unsmoothed(self, version: Version) -> Blocks | None:
        """What the encoder made of each passage, where search sees a smoothed form of it."""
        folder = self._store.path(version.version)
        return Blocks.load(folder, EMBEDDINGS, version.passages, version.dimension) if version.catalogue else None

    def _contents(self, version: Version) -> Contents:
        return Contents(self._store.path(version.version), version.documents, version.passages)

    def _open(self, version: Version, contents: Contents) -> Indexes:
        keywords = KeywordIndex(self._store.path(version.version) / KEYWORDS)
        if keywords.size != len(contents.passages):
            raise RetrieverError(f"{version.version}: keywords and passages differ in number; ingest again")
        vectors = on_gpu(self._open_vectors(version))
        return Indexes.of(contents.passages, vectors, keywords, marks=contents.marks, catalogue=version.catalogue)

    def _open_vectors(self, version: Version) -> VectorIndex:
        folder = self._store.path(version.version)
        return load_index(folder, version.index, rows=version.passages, dimension=version.dimension)

    def _write(
        self, plan: Plan, texts: Sequence[str], added: Vectors, base: _Base, bad: Sequence[Skipped], report: Report
    ) -> str:
        """`texts` and their vectors `added` are those of the passages that the plan adds."""
        step = partial(_step, report, len(plan.order))
        with self._store.staging() as folder:
            (folder / BAD_ROWS).write_text(json.dumps(bad, ensure_ascii=False), encoding="utf-8")
            plan.write(folder, texts)
            with step("building the vector index"):
                searched = _searched(plan, added, base)
                searched.index.save(folder)
                if searched.unsmoothed is not None:
                    searched.unsmoothed.save(folder, EMBEDDINGS)
            with step("building the keyword index"):
                KeywordIndex.grown(folder / KEYWORDS, texts, plan.order, base.keywords if plan.keep else None)
            facts = {
                "encoder": self._encoder.name,
                "dimension": self._encoder.dimension,
                "documents": len(plan.items),
                "passages": len(plan.order),
                "index": dict(searched.index.facts),
                "catalogue": searched.unsmoothed is not None,
                "joined": searched.joined,
                "cut": CUT,
            }
            with step("checking what was written"):
                return self._store.publish(folder, facts, base.version.version if base.version is not None else None)


def _searched(plan: Plan, added: Vectors, base: _Base) -> _Searched:
    """The vectors of a version whose new passages are embedded as `added`."""
    order, entities = plan.order, plan.marks.entity
    if base.index is None or base.version is None or not plan.keep:
        return _drawn_anew(added, entities)
    joined, may_be = base.version.joined + len(added), filed(entities)
    grows = len(order) > MANY and joined <= NEW * len(order)
    if base.unsmoothed is None and (grows or not may_be):
        return _Searched(index_of(added, order, base.index), None, joined)
    if base.unsmoothed is None or not grows or not may_be:
        return _drawn_anew(in_order(base.embeddings, base.index.size, added, order), entities)
    drawn = joining(added, order, entities, base.index, base.unsmoothed)
    return _Searched(index_of(drawn, order, base.index), base.unsmoothed.then(added, order).packed(), joined)


def _drawn_anew(embeddings: Vectors, entities: Column) -> _Searched:
    vectors = smoothed(embeddings, entities)
    return _Searched(index_of(vectors), None if vectors is embeddings else Blocks([embeddings]), 0)


def current_version(folder: Path) -> str | None:
    """The name of the live version under `folder` without loading it; None when there is none."""
    return VersionStore(folder).current()


def _silent(step: str, done: int, total: int) -> None:
    pass


@contextmanager
def _step(report: Report, passages: int, name: str) -> Iterator[None]:
    """Something that is done with all passages at once."""
    if passages < MANY:
        report = _silent
    report(name, 0, passages)
    yield
    report(name, passages, passages)
