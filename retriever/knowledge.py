"""One version of the knowledge, loaded: what is in it, and the search through it.

Owns that vectors and index are of one space. Knows nothing about files or versions on disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from retriever.answer_score import AnswerScore
from retriever.passages import Document, Filter, Hit, Passage, Query, RetrieverError, Vectors
from retriever.search import EVERYBODY, Indexes, Reranker, search
from retriever.spelling import Spelling

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
Report = Callable[[str, int, int], None]
"""Called with the step an ingest is at, what of it is done, and of how much: 0 where nobody knows yet. A step that
nobody can count is told twice, with nothing and with all of it done."""


class PassageEncoder(Protocol):
    """What ingest and search need of an encoder; `retriever.encoders.FrozenEncoder` is one."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors: ...

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, ...]: ...

    def knows(self, word: str) -> bool:
        """Whether it reads a word in small letters whole: such a word is no slip of another one."""


class Knowledge:
    """One loaded version, immutable: threads may share it, and it serves on while newer versions are made."""

    def __init__(
        self,
        version: str,
        documents: Sequence[Document],
        indexes: Indexes,
        encoder: PassageEncoder,
        *,
        score: AnswerScore | None = None,
        warning: str = "",
        reranker: Reranker | None = None,
    ) -> None:
        self.version = version
        self.encoder = encoder.name
        self.documents = documents
        """In order of source. Of a version on disk they and the passages are read when they are asked for."""
        self.passages = indexes.passages
        self.warning = warning
        """Why an older version than the current one was loaded; empty when all is well."""
        self._indexes = indexes
        self._encoder = encoder
        self._score = score
        self._reranker = reranker
        self._spelling = Spelling(indexes.keywords, encoder.knows)

    @property
    def vectors(self) -> Vectors:
        """Of `passages`, in their order: float32 `[n, d]`, in the space of `encoder`."""
        return self._indexes.vectors.vectors(range(len(self.passages)))

    def document(self, source: str) -> Document | None:
        """The whole text of `source`, for its page; None when this version has no such source."""
        row = bisect_left(self.documents, source, key=lambda document: document.source)
        found = self.documents[row] if row < len(self.documents) else None
        return found if found is not None and found.source == source else None

    def passages_of(self, source: str) -> tuple[Passage, ...]:
        """The passages of one document, in its order."""
        sources = self._indexes.marks.source
        if source not in sources.names:
            return ()
        rows = np.flatnonzero(sources.numbers == sources.names.index(source))
        return tuple(self.passages[row] for row in rows.tolist())

    def mended(self, text: str) -> str:
        """`text` without slips of the keyboard, as far as these passages know what was meant."""
        return self._spelling.mended(text)

    def search(
        self,
        query: Query,
        vectors: tuple[Vectors, ...] | None = None,
        k: int = 5,
        *,
        only: Filter = EVERYBODY,
        known: float | None = None,
    ) -> list[Hit]:
        """The best `k` passages for `query`, slips mended, among those that `only` lets through, best first.

        `vectors` and `known` are those of `retriever.search`, in the space of `encoder`; None encodes the query here.
        Raises RetrieverError when they are of another size.
        """
        query = Query(self.mended(query.text), query.history)
        if vectors is None:
            vectors = self._encoder.encode_queries([query])
        if any(v.shape != (1, self._encoder.dimension) for v in vectors):
            raise RetrieverError(
                f"query vectors of shape {[v.shape for v in vectors]} do not fit the index of {self.encoder}; "
                "search with the encoder that made it"
            )
        return search(
            query, vectors, self._indexes, k, score=self._score, known=known, only=only, reranker=self._reranker
        )

    def calibrated(self, score: AnswerScore | None) -> Knowledge:
        """The same version, judging answers by `score`; by the built-in weights where that is None."""
        return Knowledge(
            self.version, self.documents, self._indexes, self._encoder,
            score=score, warning=self.warning, reranker=self._reranker,
        )  # fmt: skip
