"""The reader batches what comes at once, gives everybody their own, and one bad question costs nobody else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from bot import FrontdeskError
from bot.conversation.messages import Candidate
from bot.conversation.understanding import Reading
from bot.readers import Absent, BatchingReader, KnowledgeSearcher, ModelReader
from finetune.model import Readings
from retriever.passages import Hit, Line, Passage, Query, Why

SOON = 10.0


class Slow:
    """A reader that is busy until the test lets it go on; a reading tells which question it is of."""

    version = "model-1"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        self.batches.append([question.text for question in questions])
        self.begun.release()
        assert self.go_on.acquire(timeout=SOON)
        if any(question.text == "poison" for question in questions):
            raise ValueError("cannot read poison")
        return [Reading((Candidate(question.text, 1.0),), 0.0) for question in questions]


def intents(readings: list[Reading]) -> list[str]:
    return [reading.candidates[0].intent for reading in readings]


def queries(*texts: str) -> list[Query]:
    return [Query(text) for text in texts]


def test_who_comes_alone_is_read_alone_and_at_once() -> None:
    slow = Slow()
    slow.go_on.release(2)
    reader = BatchingReader(slow)
    assert intents(reader.read(queries("a", "b"))) == ["a", "b"]
    assert intents(reader.read(queries("c"))) == ["c"]
    assert slow.batches == [["a", "b"], ["c"]] and reader.version == "model-1"


def waiting(reader: BatchingReader, count: int) -> None:
    """Until `count` callers have joined the next batch."""
    for _ in range(10_000_000):
        if len(reader._waiting) == count:
            return
    raise AssertionError("nobody came")


def test_who_comes_while_it_is_busy_shares_the_next_batch() -> None:
    slow = Slow()
    reader = BatchingReader(slow)
    with ThreadPoolExecutor(30) as threads:
        first = threads.submit(reader.read, queries("first"))
        assert slow.begun.acquire(timeout=SOON)
        others = [threads.submit(reader.read, queries(f"{n}a", f"{n}b")) for n in range(20)]
        waiting(reader, 20)
        slow.go_on.release(2)
        assert intents(first.result(SOON)) == ["first"]
        assert [intents(other.result(SOON)) for other in others] == [[f"{n}a", f"{n}b"] for n in range(20)]
    assert [len(batch) for batch in slow.batches] == [1, 40]


def test_a_question_that_cannot_be_read_costs_the_others_nothing() -> None:
    slow = Slow()
    reader = BatchingReader(slow)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(reader.read, queries("first"))
        assert slow.begun.acquire(timeout=SOON)
        others = [threads.submit(reader.read, queries(text)) for text in ("a", "poison", "b")]
        waiting(reader, 3)
        slow.go_on.release(5)  # the first, the batch that fails, and each of the three alone
        assert intents(first.result(SOON)) == ["first"]
        assert intents(others[0].result(SOON)) == ["a"] and intents(others[2].result(SOON)) == ["b"]
        with pytest.raises(ValueError, match="cannot read poison"):
            others[1].result(SOON)
    slow.go_on.release()
    assert intents(reader.read(queries("after"))) == ["after"]


def test_many_threads_each_get_their_own() -> None:
    slow = Slow()
    slow.go_on.release(100_000)
    reader = BatchingReader(slow)

    def ask(person: int) -> bool:
        return all(intents(reader.read(queries(f"{person}-{n}"))) == [f"{person}-{n}"] for n in range(100))

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(16)))
    assert sum(map(len, slow.batches)) == 1600


class Model:
    """Three questions, three intents; remembers what it was asked."""

    def read(self, batch: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> Readings:
        self.batch = batch
        return Readings(
            labels=("a", "b", "c"),
            probabilities=np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]]),
            out_of_scope=np.array([0.1, 0.9]),
            last=np.eye(2, 4, dtype=np.float32),
            window=np.eye(2, 4, 1, dtype=np.float32),
            expected=np.eye(2, 4, 2, dtype=np.float32),
        )


def test_a_models_readings_become_candidates_best_first() -> None:
    model = Model()
    reader = ModelReader(model, "version-7")  # type: ignore[arg-type]
    history = (Line("customer", "hello"), Line("bot", "hi"))
    first, second = reader.read([Query("one", history), Query("two")])
    assert reader.version == "version-7"
    assert list(model.batch) == [("one", history), ("two", ())]
    assert first.candidates == (Candidate("b", 0.7), Candidate("a", 0.2), Candidate("c", 0.1))
    assert second.candidates[0] == Candidate("a", 0.5)
    assert (first.out_of_scope, second.out_of_scope) == (0.1, 0.9)
    assert all(type(candidate.confidence) is float for candidate in first.candidates)
    last, window, expected = second.vectors  # type: ignore[misc]
    assert last.tolist() == [[0, 1, 0, 0]] and window.tolist() == [[0, 0, 1, 0]] and expected.tolist() == [[0, 0, 0, 1]]


@dataclass
class Shelf:
    """A knowledge base that remembers what it was asked."""

    version: str = "index-3"
    asked: tuple[object, ...] = ()

    def mended(self, text: str) -> str:
        return text.replace("qq", "q")

    def search(self, query: Query, vectors: object, k: int, known: float | None = None) -> list[Hit]:
        self.asked = (query, vectors, k, known)
        return [Hit(Passage("p", "s", "t", (), "x", 0, 1), 1.0, 0.5, Why(0.1, 0.2, 0.3))]


def test_a_search_uses_the_readings_vectors_and_does_without() -> None:
    shelf = Shelf()
    searcher = KnowledgeSearcher(shelf)  # type: ignore[arg-type]
    vectors = (np.zeros((1, 4)), np.zeros((1, 4)))
    hits = searcher.search(Query("q"), Reading((), 0.25, vectors), 5)
    assert isinstance(hits, tuple) and hits[0].passage.id == "p" and searcher.version == "index-3"
    assert shelf.asked == (Query("q"), vectors, 5, 0.75)
    assert searcher.mended("qq") == "q" and Absent("no knowledge").mended("qq") == "qq"
    searcher.search(Query("q"), None, 5)
    assert shelf.asked == (Query("q"), None, 5, None)


def test_what_is_absent_says_why() -> None:
    absent = Absent("models: no model yet; run `frontdesk train`")
    assert absent.version == "unavailable"
    for ask in (lambda: absent.read([Query("q")]), lambda: absent.search(Query("q"), None, 5)):
        with pytest.raises(FrontdeskError, match="run `frontdesk train`"):
            ask()  # type: ignore[no-untyped-call]
