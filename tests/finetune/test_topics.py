"""What is asked or said again and again is found, however many rows there are; what only looks so is not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from finetune.calibrate import Floats, Integers
from finetune.clusters import CHUNK, SAMPLE
from finetune.examples import Example
from finetune.topics import LEAST, MOST_LISTED, question_topics, repeated_answers
from tests.finetune.planted import planted


def nothing(rows: Integers) -> Floats:
    """Vectors of replies where there are none."""
    raise AssertionError(f"{len(rows)} rows without a reply were asked for it")


THINGS = ("refund", "parcel", "pin", "invoice", "colour", "opening", "zip", "points", "size", "jobs")


def asked(groups: Integers, answer: str = "") -> list[Example]:
    return [Example(f"{THINGS[g % 10]} question {n}", answer=answer, group=f"c{n}") for n, g in enumerate(groups)]


def test_planted_topics_are_found_with_nothing_else_in_them() -> None:
    vectors, groups = planted([12, 20, 8, 6, *[1] * 40])
    examples = asked(groups)
    topics = question_topics(examples, range(len(examples)), vectors.__getitem__, nothing, seed=0)
    assert {frozenset(topic.rows) for topic in topics} == {
        frozenset(np.flatnonzero(groups == n).tolist()) for n in range(4)
    }
    assert sorted(topic.conversations for topic in topics) == [6, 8, 12, 20]
    assert all(0.5 < topic.cohesion <= 1 and topic.known == "" for topic in topics)
    again = question_topics(examples, range(len(examples)), vectors.__getitem__, nothing, seed=0)
    assert again == topics


def test_the_most_typical_message_stands_first() -> None:
    vectors, _ = planted([30, 10, 10, 10])
    examples = asked(np.repeat(np.arange(4), [30, 10, 10, 10]))
    topics = question_topics(examples, range(60), vectors.__getitem__, nothing, seed=0)
    (largest,) = (topic for topic in topics if len(topic.rows) == 30)
    inside = vectors[:30] - vectors.mean(axis=0)
    middle = inside.mean(axis=0)
    likeness = inside @ middle / np.linalg.norm(inside, axis=1)
    assert np.corrcoef(np.argsort(np.argsort(-likeness))[list(largest.rows)], np.arange(30))[0, 1] > 0.8


def test_labelled_rows_are_no_topic_but_tell_which_intent_a_topic_is() -> None:
    vectors, groups = planted([20, 20, 20])
    examples = [
        Example(e.text, "refund_status" if g == 0 and n % 2 else "pin" if g == 2 else None, group=e.group)
        for n, (e, g) in enumerate(zip(asked(groups), groups.tolist(), strict=True))
    ]
    topics = question_topics(examples, range(60), vectors.__getitem__, nothing, seed=0)
    assert {topic.known: set(topic.rows) for topic in topics} == {
        "refund_status": set(range(0, 20, 2)),
        "": set(range(20, 40)),
    }


def test_one_conversation_or_one_robot_is_no_topic() -> None:
    """Sixty messages of one customer, and one text that a robot sent sixty times in one chat."""
    vectors, groups = planted([60, 60, 60])
    examples = asked(groups)
    examples[:60] = [Example(e.text, group="chat") for e in examples[:60]]
    examples[60:120] = [Example("BUY NOW!!!", group="robot") for _ in range(60)]
    vectors[60:120] = vectors[60]
    (topic,) = question_topics(examples, range(180), vectors.__getitem__, nothing, seed=0)
    assert set(topic.rows) == set(range(120, 180))


def test_the_same_words_from_many_customers_are_one_message_asked_by_many() -> None:
    examples = [Example("Where is my parcel?" if n % 2 else "where is my PARCEL", group=f"c{n}") for n in range(30)]
    vectors = np.tile(planted([1])[0], (30, 1))
    (topic,) = question_topics(examples, range(30), vectors.__getitem__, nothing, seed=0)
    assert (topic.rows, topic.conversations, topic.cohesion) == ((0,), 30, 1.0)


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_very_little_gives_nothing_and_no_error(count: int) -> None:
    vectors = planted([4])[0]
    examples = asked(np.zeros(count, np.int64), "The answer is long enough.")
    assert question_topics(examples, range(count), vectors.__getitem__, nothing, seed=0) == []
    assert repeated_answers(examples, range(count), vectors.__getitem__, vectors.__getitem__, seed=0) == ([], [])


def test_what_was_replied_tells_apart_what_sounds_alike() -> None:
    """Sixty questions that all sound alike, of which twenty each got a refund, a date and a colour for an answer."""
    questions = planted([60, 20, 20], spread=0.6)[0]
    said, replies = planted([20, 20, 20, 20, 20], seed=5)
    examples = asked(np.arange(100) % 10)
    alone = question_topics(examples, range(100), questions.__getitem__, nothing, seed=0)
    assert max(len(topic.rows) for topic in alone) > 50
    examples = [Example(e.text, answer=f"Reply {n}.", group=e.group) for n, e in enumerate(examples)]
    topics = question_topics(examples, range(100), questions.__getitem__, said.__getitem__, seed=0)
    assert {frozenset(topic.rows) for topic in topics} == {
        frozenset(np.flatnonzero(replies == n).tolist()) for n in range(5)
    }


# --------------------------------------------------------------------------------------------------------- answers


def replied(*replies: str, groups: list[int] | None = None) -> tuple[list[Example], Floats, Floats]:
    """Ten conversations a reply, in each the reply with another closing; questions and replies are grouped alike."""
    questions, numbers = planted([10] * len(replies))
    said, _ = planted([10] * len(replies), seed=5)
    examples = [
        Example(f"{THINGS[n]} question {i}", answer=replies[n].replace("*", str(i)), group=f"c{i}")
        for i, n in enumerate(numbers.tolist())
    ]
    if groups is not None:
        questions = questions[groups]
    return examples, questions, said


FAIR = ("Refunds take five days.", "Parcels leave on Monday.", "The PIN is in the app.", "We are closed then.",
        "It comes in blue only.", "Send us the invoice first.")  # fmt: skip


def test_repeated_answers_are_found_and_worded_as_one_agent_did() -> None:
    examples, questions, said = replied(*FAIR)
    fresh, repeated = repeated_answers(examples, range(60), questions.__getitem__, said.__getitem__, seed=0)
    assert repeated == [] and len(fresh) == 6
    for topic in fresh:
        assert topic.conversations == 10 and {i // 10 for i in topic.rows} == {topic.rows[0] // 10}
        assert sorted(topic.replies) == sorted(topic.rows)


def test_the_first_reply_speaks_to_everybody() -> None:
    """A reply with one customer's order number is never the proposed wording while there is another."""
    examples, questions, said = replied(*FAIR)
    examples[:9] = [Example(e.text, answer=f"{e.answer} Your order LM48291{n}.") for n, e in enumerate(examples[:9])]
    fresh, _ = repeated_answers(examples, range(60), questions.__getitem__, said.__getitem__, seed=0)
    (topic,) = (topic for topic in fresh if 0 in topic.rows)
    assert topic.replies[0] == 9 != topic.replies[-1]


def test_replies_that_state_different_facts_or_ask_back_are_no_answer() -> None:
    other = ("It weighs * grams.", "Which order is it? The number please.", *FAIR[2:])
    examples, questions, said = replied(*other)
    fresh, _ = repeated_answers(examples, range(60), questions.__getitem__, said.__getitem__, seed=0)
    assert {topic.rows[0] // 10 for topic in fresh} == {2, 3, 4, 5}
    stated = ("It takes 5 days, 10 by post.", *FAIR[1:])
    examples, questions, said = replied(*stated)
    assert len(repeated_answers(examples, range(60), questions.__getitem__, said.__getitem__, seed=0)[0]) == 6


def test_an_approved_answer_without_its_label_is_more_of_its_intent() -> None:
    examples, questions, said = replied(*FAIR)
    examples.append(Example("when do I get my money", "refund_time", answer="Refunds take five days."))
    questions, said = np.vstack([questions, questions[:1]]), np.vstack([said, said[:1]])
    fresh, repeated = repeated_answers(examples, range(61), questions.__getitem__, said.__getitem__, seed=0)
    assert [(topic.known, {i // 10 for i in topic.rows}) for topic in repeated] == [("refund_time", {0})]
    assert len(fresh) == 5


# ---------------------------------------------------------------------------------------------------------- memory


NOISE = np.random.default_rng(0).normal(size=(997, 64)) * 0.03


class Counting:
    """Vectors on disk, as it were: made when they are asked for, the largest request remembered."""

    def __init__(self, middles: Floats, groups: Integers) -> None:
        self.middles, self.groups, self.largest, self.read = middles, groups, 0, 0

    def __call__(self, rows: Integers) -> Floats:
        self.largest, self.read = max(self.largest, len(rows)), self.read + len(rows)
        found = self.middles[self.groups[rows]] + NOISE[rows % len(NOISE)]
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
def test_fifty_thousand_rows_pass_through_in_chunks() -> None:
    """Every row is placed, and none of 50,000 vectors is held beside the sample and one chunk."""
    count = 50_000
    middles, _ = planted([1] * 200, seed=2)
    vectors = Counting(middles, np.random.default_rng(0).integers(0, 200, count))
    examples = [Example(f"{THINGS[g % 10]} {g} {n}") for n, g in enumerate(vectors.groups.tolist())]
    tracemalloc.start()
    topics = question_topics(examples, range(count), vectors, nothing, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert vectors.largest <= max(CHUNK, SAMPLE) and vectors.read >= count
    assert len(topics) == 200 and sum(topic.conversations for topic in topics) >= 0.99 * count
    assert all(len(topic.rows) == MOST_LISTED for topic in topics)
    for topic in topics:
        assert len({int(vectors.groups[row]) for row in topic.rows}) == 1
    assert peak < 1_500e6, "the pairs of the sample, not of all rows"
