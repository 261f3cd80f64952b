"""The values of retrieval: what a source says (`Document`), the piece that is found (`Passage`), and why (`Hit`).

Owns the shape of knowledge and the stable ids. Knows nothing about files, vectors, indexes or conversations; the
conversation imports this module and no other of the retriever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"


class RetrieverError(Exception):
    """What a person can act on: names the file or value and the cure. Anything else that escapes is a bug."""


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a document under one heading path; `start:end` are character offsets in `Document.text`."""

    heading: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """One source after reading: only the text a person would see.

    `source` is stable across ingests (path relative to the ingested folder, or `file.csv#row-id`); `url` is where a
    citation leads, empty when the service should show its own copy.
    """

    source: str
    title: str
    text: str
    sections: tuple[Section, ...]
    language: str = "en"
    url: str = ""
    question: str = ""
    entity: str = ""
    domain: str = ""
    audience: str = "public"


@dataclass(frozen=True, slots=True)
class Passage:
    """What search finds and answers quote. `text` equals `Document.text[start:end]`; `id` is a content hash."""

    id: str
    source: str
    title: str
    heading: tuple[str, ...]
    text: str
    start: int
    end: int
    language: str = "en"
    url: str = ""
    question: str = ""
    entity: str = ""
    domain: str = ""
    audience: str = "public"


@dataclass(frozen=True, slots=True)
class Why:
    """Why a passage was found: each signal on its own scale, and what each added to the score. Kept so that an answer
    can be explained later."""

    meaning: float
    """Cosine between the question and the passage, -1 to 1."""
    words: float
    """Share of the question's word weight (inverse document frequency) that the passage contains, 0 to 1."""
    subject: float
    """How well the passage fits what the conversation is about, 0 to 1."""
    margin: float = 0.0
    """How much higher it scores than the best passage of another source; negative behind it."""
    precedent: float = 0.0
    """How well it fits what resolved past questions of the kind, -1 to 1; 0 where none are known."""
    judged: float = 0.0
    """What the cross-encoder thinks of it, 0 to 1; 0 where none is set or it was not among the best."""
    window: float = 0.0
    """Cosine between the passage and the question together with the lines before it, -1 to 1."""
    earlier: float = 0.0
    """How strongly it holds the words of the lines before the question, 0 to 1: BM25 as a share of the most."""
    codes: tuple[str, ...] = ()
    """Product codes and numbers of the question that it holds, as the keyword index spells them: `sr17`."""
    moved: int = 0
    """Places that the cross-encoder moved it up; negative: down."""
    points: tuple[tuple[str, float], ...] = ()
    """What each signal added to the score, the largest first; they sum to it. Those that added nothing are left out."""
    anything: float = 1.0
    """How likely anything answers the question at all, 0 to 1; 1 where that was not fitted. Of all hits the same."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A found passage. `score` ranks; `answers` is the calibrated chance, 0 to 1, that the passage answers."""

    passage: Passage
    score: float
    answers: float
    why: Why


class Line(NamedTuple):
    """One utterance of a conversation, as every package sees it."""

    speaker: Literal["customer", "bot", "agent"]
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, in its conversation. `history` is oldest first and excludes `text`."""

    text: str
    history: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which passages a search may see. None does not choose; an empty set sees nothing."""

    audiences: frozenset[str] | None = frozenset({"public"})
    languages: frozenset[str] | None = None
    entities: frozenset[str] | None = None
    """Products, branches, plans: whatever passages are filed under."""


class QueryEncoder(Protocol):
    """How a query becomes vectors. The frozen encoder and every trained question side satisfy it."""

    @property
    def name(self) -> str:
        """Identity of the *passage* space that the vectors live in; an index made in another space is refused."""

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, Vectors]:
        """`(last, window)`, each float32 `[n, d]` with unit rows: the last message, and it with its conversation."""
