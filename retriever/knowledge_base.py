"""The knowledge base: from files to a version that is searched, touching only what changed.

Owns what an ingest adds, keeps and drops, and which version is loaded when one is damaged. Knows nothing about what a
source holds, how a version gets on disk whole, or how passages are ranked: sources, versions and search do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from retriever.disk import disk_errors
from retriever.embedded import embed, forget
from retriever.gpu_index import on_gpu
from retriever.keyword_index import KeywordIndex, term_lines
from retriever.knowledge import Knowledge, PassageEncoder, Report
from retriever.passages import Document, Passage, RetrieverError, Section, Vectors
from retriever.readers import Site, Skipped
from retriever.search import Indexes, Reranker
from retriever.smoothing import smoothed
from retriever.sources import Stored, compare, of_files, read, settle, within
from retriever.split import embedded_text, split
from retriever.vector_index import VectorIndex, index_of, load_index
from retriever.versions import KEPT, Version, VersionStore

CUT: Final = 1
"""Raised when `split.py` or `keyword_index.py` cut texts otherwise: nothing that was cut before is then taken over."""
MANY: Final = 20_000
"""Passages of which indexes take long enough for a word."""
KEYWORDS: Final = "keywords"
EMBEDDINGS: Final = "embeddings.npy"
"""What the encoder made of the passages, kept where search sees a smoothed form: it is not made twice."""
BAD_ROWS: Final = "skipped.jsonl"


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
    """What an ingest builds on, so that it touches only what changed. By the text that is embedded: its vector, and, if
    this program cuts texts as the one that made the version, its terms; by source: the document and its passages."""

    version: Version | None = None
    stored: Sequence[Stored] = ()
    vector_of: Mapping[str, Vectors] = field(default_factory=dict)
    index: VectorIndex | None = None
    terms_of: Mapping[str, str] = field(default_factory=dict)
    passages_of: Mapping[str, tuple[Document, list[Passage]]] = field(default_factory=dict)


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
                stored, passages = self._read(version)
                return Knowledge(
                    name,
                    (item.document for item in stored),
                    self._open(version, passages),
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
        chosen = [Path(path).expanduser().resolve() for path in paths]
        with self._store.locked():
            base = self._base()
            old, vector_of = base.stored, base.vector_of
            for given, path in zip(paths, chosen, strict=True):
                if not path.exists() and not any(within(i.file, path) for i in old):
                    raise RetrieverError(f"{given}: no such file or folder")
            starts = {site.start for site in sites}
            kept = [i for i in old if i.root not in starts and not any(within(i.file, path) for path in chosen)]
            before: dict[tuple[str, str], list[Document]] = {}
            for item in old:
                before.setdefault((item.file, item.digest), []).append(item.document)
            fresh, skipped = read([path for path in chosen if path.exists()], sites, kept, before, report)
            # Files that did not change were not read again, and their bad rows are as bad as they were.
            bad = self._bad_rows(base)
            skipped += of_files(bad, [i for i in fresh if (i.file, i.digest) in before])
            items = settle(kept, fresh)
            if not items:
                reasons = "".join(f"; {source}: {reason}" for source, reason in skipped[:3])
                raise RetrieverError(
                    f"{', '.join(map(str, (*paths, *starts)))}: nothing readable in it{reasons}; give Markdown, HTML, "
                    "text, PDF, Office, CSV or JSONL files (the version in service is unchanged)"
                )
            counts = compare(old, items)
            if base.version is not None and items == list(old) and vector_of and base.version.cut == CUT:
                return IngestReport(*counts, tuple(skipped), base.version.version, 0)
            passages = tuple(chain.from_iterable(_cut(item.document, base) for item in items))
            texts = [embedded_text(passage) for passage in passages]
            missing = list(dict.fromkeys(text for text in texts if text not in vector_of))
            vectors, made = embed(missing, self._encoder, self._store.folder, partial(report, "embedding"))
            vector_of = {**vector_of, **dict(zip(missing, vectors, strict=True))}
            with disk_errors(self._store.folder):
                bad = [*skipped, *of_files(bad, kept)]
                version = self._write(items, passages, texts, vector_of, base, bad, report)
            forget(self._store.folder)
            return IngestReport(*counts, tuple(skipped), version, made)

    def versions(self) -> list[Version]:
        """What is on disk, newest first."""
        return self._store.list()

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
        stored = (self._read(self._store.check(name))[0] for name in (old, new))
        before, after = ({item.document.source: item.document for item in items} for items in stored)
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
        """What to build on: the newest sound version."""
        for name in self._store.candidates():
            try:
                version = self._store.check(name)
                stored, passages = self._read(version)
                if version.encoder != self._encoder.name:
                    return _Base(version, stored)
                index = self._open_vectors(version)
                embeddings, texts = self._embeddings(version, index), [embedded_text(p) for p in passages]
                vector_of = {text: embeddings[i] for i, text in enumerate(texts)}
                if version.cut != CUT:
                    return _Base(version, stored, vector_of, index)
                lines = term_lines(self._store.path(name) / KEYWORDS)
                # As many as there are texts, or none: what does not fit together is cut anew.
                terms = dict(zip(texts, lines, strict=True)) if len(lines) == len(texts) else {}
                passages_of = {item.document.source: (item.document, list[Passage]()) for item in stored}
                for passage in passages:
                    passages_of[passage.source][1].append(passage)
                return _Base(version, stored, vector_of, index, terms, passages_of)
            except RetrieverError:
                continue
        return _Base()

    def _bad_rows(self, base: _Base) -> list[Skipped]:
        """What could not be read of the files of a version: place (`faq.csv:12`) and reason."""
        path = self._store.path(base.version.version) / BAD_ROWS if base.version is not None else None
        if path is None or not path.exists():  # made before these were kept
            return []
        return [(place, reason) for place, reason in map(json.loads, _lines(path))]

    def _embeddings(self, version: Version, index: VectorIndex) -> Vectors:
        """What the encoder made of each passage; search may see a smoothed form of it."""
        path = self._store.path(version.version) / EMBEDDINGS
        if not path.exists():
            return index.vectors(range(index.size))
        try:
            found: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:
            raise RetrieverError(f"{path}: not a table of vectors; ingest again or roll back") from None
        if found.shape != (version.passages, version.dimension):
            raise RetrieverError(f"{path}: holds {found.shape} vectors; ingest again or roll back")
        return found

    def _read(self, version: Version) -> tuple[list[Stored], tuple[Passage, ...]]:
        folder = self._store.path(version.version)
        try:
            stored = [_stored(json.loads(line)) for line in _lines(folder / "documents.jsonl")]
            passages = tuple(_passage(json.loads(line)) for line in _lines(folder / "passages.jsonl"))
        except (ValueError, TypeError, KeyError) as error:
            raise RetrieverError(f"{folder}: not readable by this program ({error}); ingest again") from None
        if (len(stored), len(passages)) != (version.documents, version.passages):
            raise RetrieverError(f"{folder}: holds another number of passages than it says; ingest again or roll back")
        return stored, passages

    def _open(self, version: Version, passages: tuple[Passage, ...]) -> Indexes:
        keywords = KeywordIndex(self._store.path(version.version) / KEYWORDS)
        if keywords.size != len(passages):
            raise RetrieverError(f"{version.version}: keywords and passages differ in number; ingest again")
        # Only a catalogue keeps its embeddings beside what is searched.
        catalogue = (self._store.path(version.version) / EMBEDDINGS).exists()
        return Indexes.of(passages, on_gpu(self._open_vectors(version)), keywords, catalogue=catalogue)

    def _open_vectors(self, version: Version) -> VectorIndex:
        folder = self._store.path(version.version)
        return load_index(folder, version.index, rows=version.passages, dimension=version.dimension)

    def _write(
        self,
        items: Sequence[Stored],
        passages: Sequence[Passage],
        texts: Sequence[str],
        vector_of: Mapping[str, Vectors],
        base: _Base,
        skipped: Sequence[Skipped],
        report: Report,
    ) -> str:
        step = partial(_step, report, len(texts))
        with self._store.staging() as folder:
            _write_lines(folder / BAD_ROWS, of_files(skipped, items))
            _write_lines(folder / "documents.jsonl", items)
            _write_lines(folder / "passages.jsonl", passages)
            embeddings = np.stack([vector_of[text] for text in texts])
            vectors = smoothed(embeddings, [passage.entity for passage in passages])
            if vectors is not embeddings:
                np.save(folder / EMBEDDINGS, embeddings)
            with step("building the vector index"):
                index = index_of(vectors, base.index)
                index.save(folder)
            with step("building the keyword index"):
                KeywordIndex.build(folder / KEYWORDS, texts, base.terms_of)
            facts = {
                "encoder": self._encoder.name,
                "dimension": self._encoder.dimension,
                "documents": len(items),
                "passages": len(passages),
                "index": dict(index.facts),
                "cut": CUT,
            }
            with step("checking what was written"):
                return self._store.publish(folder, facts)


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


def _cut(document: Document, base: _Base) -> Sequence[Passage]:
    before = base.passages_of.get(document.source)
    return before[1] if before is not None and before[0] == document else split(document)


def _lines(path: Path) -> list[str]:
    # Not splitlines: a text may hold other characters that Unicode calls line breaks.
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _write_lines(path: Path, rows: Iterable[Stored | Passage | Skipped]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=_by_name) + "\n")


def _by_name(value: Any) -> dict[str, object]:
    # Eight times as fast as dataclasses.asdict, which copies every string.
    return {name: getattr(value, name) for name in value.__slots__}


def _stored(row: dict[str, Any]) -> Stored:
    value = row["document"]
    value["sections"] = tuple(Section(tuple(s["heading"]), s["start"], s["end"]) for s in value["sections"])
    return Stored(row["root"], row["file"], row["digest"], Document(**value))


def _passage(value: dict[str, Any]) -> Passage:
    value["heading"] = tuple(value["heading"])
    return Passage(**value)
