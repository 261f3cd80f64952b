"""A trained model and a knowledge base as the reader and the searcher that the conversation asks for.

Owns that the questions of concurrent turns are read together. Loads nothing: the wiring hands in what is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bot import FrontdeskError
from bot.conversation.messages import Candidate, Sentiment
from bot.conversation.understanding import UNAVAILABLE, Reader, Reading
from retriever.passages import Hit, Query

if TYPE_CHECKING:
    from finetune.model import QuestionModel
    from finetune.tone import Tones
    from retriever.encoders import FrozenEncoder
    from retriever.knowledge import Knowledge
    from retriever.passages import Vectors

_CANDIDATES = 10
_MOST_PER_BATCH = 64


class ModelReader:
    """A trained model as the conversation's reader. `version` is its name in the registry."""

    def __init__(self, model: QuestionModel, version: str) -> None:
        self._model = model
        self.version = version

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        import numpy as np

        readings = self._model.read([(question.text, question.history) for question in questions])
        best = np.argsort(-readings.probabilities, axis=1)[:, :_CANDIDATES]
        sentiments, urgent = _tones(readings.tones, len(questions))
        return [
            Reading(
                tuple(Candidate(readings.labels[i], float(readings.probabilities[row, i])) for i in best[row]),
                float(readings.out_of_scope[row]),
                tuple(v[row : row + 1] for v in (readings.last, readings.window, readings.expected)),
                sentiments[row],
                urgent[row],
            )
            for row in range(len(questions))
        ]


def _tones(tones: Tones | None, count: int) -> tuple[list[Sentiment], list[bool]]:
    if tones is None:
        return [""] * count, [False] * count
    names: tuple[Sentiment, ...] = ("negative", "neutral", "positive")
    return [names[i] for i in tones.sentiment.argmax(axis=1)], (tones.urgency >= 0.5).tolist()


class BatchingReader:
    """Reads the questions of concurrent turns in one call of the reader behind it.

    Whoever comes while the reader is idle reads at once, alone; whoever comes while it is busy joins the next batch,
    which the first of them leads. So nobody waits for a timer.
    """

    def __init__(self, reader: Reader, told: Callable[[int], None] | None = None) -> None:
        """`told` gets the number of questions of each batch."""
        self._reader = reader
        self._told = told
        self._lock = threading.Lock()
        self._waiting: list[_Asked] = []
        self._busy = False

    @property
    def version(self) -> str:
        return self._reader.version

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        asked = _Asked(questions)
        with self._lock:
            self._waiting.append(asked)
            leads = not self._busy
            self._busy = True
        if not leads:
            asked.woken.wait()
        if asked.outcome is None:
            self._lead()
        if isinstance(asked.outcome, list):
            return asked.outcome
        assert asked.outcome is not None
        raise asked.outcome

    def _lead(self) -> None:
        """Reads what waits, and leaves the lead to the first who came meanwhile."""
        with self._lock:
            batch, self._waiting = self._waiting[:_MOST_PER_BATCH], self._waiting[_MOST_PER_BATCH:]
        if self._told is not None:
            self._told(sum(len(asked.questions) for asked in batch))
        try:
            self._read(batch)
        finally:
            with self._lock:
                self._busy = bool(self._waiting)
                following = self._waiting[0] if self._waiting else None
            for asked in batch:
                asked.woken.set()
            if following is not None:
                following.woken.set()

    def _read(self, batch: Sequence[_Asked]) -> None:
        try:
            readings = self._reader.read([question for asked in batch for question in asked.questions])
            rest = iter(readings)
            for asked in batch:
                asked.outcome = [next(rest) for _ in asked.questions]
        except Exception as error:
            if len(batch) == 1:
                batch[0].outcome = error
                return
            for asked in batch:  # one question that cannot be read must not cost the others their answers
                self._read([asked])


class _Asked:
    def __init__(self, questions: Sequence[Query]) -> None:
        self.questions = questions
        self.woken = threading.Event()
        self.outcome: list[Reading] | Exception | None = None


class KnowledgeSearcher:
    """A loaded version of the knowledge base as the conversation's searcher."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    @property
    def version(self) -> str:
        return self._knowledge.version

    def mended(self, text: str) -> str:
        return self._knowledge.mended(text)

    def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
        """With the vectors of the reading; without one the knowledge base encodes the question itself."""
        if reading is None or not isinstance(reading.vectors, tuple):
            return tuple(self._knowledge.search(query, None, k))
        return tuple(self._knowledge.search(query, reading.vectors, k, known=1 - reading.out_of_scope))


class TrainedQuestions:
    """Passages as the frozen encoder sees them, questions as a trained version reads them, as a service does."""

    def __init__(self, frozen: FrozenEncoder, model: QuestionModel) -> None:
        self._frozen = frozen
        self._model = model
        self.name, self.dimension = frozen.name, frozen.dimension

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        return self._frozen.encode(texts, progress)

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, ...]:
        readings = self._model.read([(query.text, query.history) for query in queries])
        return readings.last, readings.window, readings.expected

    def knows(self, word: str) -> bool:
        return self._frozen.knows(word)

    def known(self, query: Query) -> float:
        """How sure the version is that somebody can answer, 0 to 1: a passage's own chance is given that one does."""
        return 1 - float(self._model.read([(query.text, query.history)]).out_of_scope[0])


class Absent:
    """Stands in for a model or a knowledge base that a company does not have yet; the turn is answered without it."""

    version = UNAVAILABLE

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        raise FrontdeskError(self._problem)

    def mended(self, text: str) -> str:
        return text

    def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
        raise FrontdeskError(self._problem)
