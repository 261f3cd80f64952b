"""What customers ask again and again, and what agents say to it again and again.

Owns the grouping of unlabelled rows, by question and by answer, and which known intent a group is more of. Knows
nothing about names, proposals or files. Only samples and chunks of the vectors are read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from finetune.calibrate import Floats, Integers
from finetune.clusters import CHUNK, CUT, SAMPLE, centroids, cluster, fit_space, place, sampled
from finetune.examples import Example, approvable, normalised

LEAST = 4
"""Conversations in which something must have been asked or said."""
MOST_LISTED = 200
ANSWER_CUT, QUESTION_SHARE = 0.35, 0.5
"""Replies are one answer when the replies are alike and, at this weight, what they reply to: a phrase that is said to
anything answers nothing."""
REPLIED_CUT = 0.4
"""For questions that were replied to, both counting the same: what an agent said tells what was asked. The numbers
behind all three are in docs/decisions.md."""
SAME_ANSWER = 0.9
"""Cosine from which a reply is the approved answer itself."""
KNOWN = 0.7
NEIGHBOURS = 3
"""A group is more of an intent when its messages are, in the mean, so like the nearest three of the intent's."""
LABELLED_EACH = 30

LONG_NUMBER = 5
"""Digits from which a number belongs to one customer: an order, a phone, a card."""
_DIGITS = re.compile(r"\d+(?:[.,:]\d+)*")

Lookup = Callable[[Integers], Floats]
"""Unit rows `[k, d]` for k numbers of examples."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Examples that belong together, by number, the most typical question first, at most MOST_LISTED.

    `conversations` counts all of them; `cohesion` is the mean likeness of two; `known` the intent that they resemble,
    or empty; `replies` the same numbers, the most typical reply first, where the replies are what is alike.
    """

    rows: tuple[int, ...]
    conversations: int
    cohesion: float
    known: str = ""
    replies: tuple[int, ...] = ()


def repeated_answers(
    examples: Sequence[Example], rows: Sequence[int], question: Lookup, answer: Lookup, seed: int
) -> tuple[list[Topic], list[Topic]]:
    """Unlabelled rows whose replies say the same to the same; `question` reads messages in their conversations.

    The second list holds those whose reply is an approved answer in all but its label: more examples of that intent.
    """
    pairs = np.array([i for i in rows if examples[i].intent is None and examples[i].answer], np.int64)
    if len(pairs) < LEAST:
        return [], []
    sample = pairs[sampled(len(pairs), SAMPLE, seed)]
    said, known = fit_space(answer(sample)), _Known(examples, rows, question, sample, seed)

    def both(some: Integers) -> Floats:
        return _both(said.project(answer(some)), known.space.project(question(some)), QUESTION_SHARE)

    def words(row: int) -> tuple[str, ...]:
        return examples[row].text, examples[row].answer

    approved = _approved(examples, rows)
    fresh, repeated = [], []
    for topic in _topics(examples, pairs, sample, both, words, ANSWER_CUT):
        replies = [examples[i].answer for i in topic.rows]
        if 2 * sum(map(_asks_back, replies)) >= len(replies) or not _agree(replies):
            continue
        members = np.array(topic.rows)
        order = _by_reply(examples, topic.rows, said.project(answer(members)))
        topic = replace(topic, rows=_by_question(topic.rows, known.space.project(question(members))), replies=order)
        likeness = answer(approved) @ answer(np.array(order[:1]))[0] if len(approved) else np.zeros(1)
        if likeness.max() >= SAME_ANSWER:
            repeated.append(replace(topic, known=examples[int(approved[likeness.argmax()])].intent or ""))
        else:
            fresh.append(replace(topic, known=known.nearest(topic)))
    return fresh, repeated


def _approved(examples: Sequence[Example], rows: Sequence[int]) -> Integers:
    """One row for each wording of an answer that carries a label, at most LABELLED_EACH of an intent."""
    wordings: dict[str, dict[str, int]] = {}
    for i in rows:
        intent, answer = examples[i].intent, examples[i].answer
        if answer and intent is not None and approvable(intent):
            known = wordings.setdefault(intent, {})
            if len(known) < LABELLED_EACH:
                known.setdefault(answer, i)
    return np.array([i for known in wordings.values() for i in known.values()], np.int64)


def question_topics(
    examples: Sequence[Example], rows: Sequence[int], question: Lookup, answer: Lookup, seed: int
) -> list[Topic]:
    """Unlabelled rows whose messages ask alike; those that were replied to are judged by the replies as well."""
    found = []
    for replied in (True, False):
        pool = np.array(
            [i for i in rows if examples[i].intent is None and bool(examples[i].answer) is replied], np.int64
        )
        if len(pool) >= LEAST:
            found += _questions(examples, rows, pool, question, answer if replied else None, seed)
    return found


def _questions(
    examples: Sequence[Example],
    rows: Sequence[int],
    pool: Integers,
    question: Lookup,
    answer: Lookup | None,
    seed: int,
) -> list[Topic]:
    sample = pool[sampled(len(pool), SAMPLE, seed)]
    known = _Known(examples, rows, question, sample, seed)
    said = None if answer is None else fit_space(answer(sample))

    def read(some: Integers) -> Floats:
        asked = known.space.project(question(some))
        return asked if answer is None or said is None else _both(asked, said.project(answer(some)), 1)

    def words(row: int) -> tuple[str, ...]:
        return (examples[row].text,)

    topics = _topics(examples, pool, sample, read, words, CUT if answer is None else REPLIED_CUT)
    return [replace(topic, known=known.nearest(topic)) for topic in topics]


def _both(rows: Floats, others: Floats, share: float) -> Floats:
    """Unit rows whose cosine is the mean of the two cosines, the second counting `share` as much (squared)."""
    return np.asarray(np.hstack([rows, share * others]) / np.sqrt(np.float32(1 + share**2)))


def _topics(
    examples: Sequence[Example],
    pool: Integers,
    sample: Integers,
    read: Lookup,
    words: Callable[[int], tuple[str, ...]],
    cut: float,
) -> list[Topic]:
    """Clusters of the sample, and everything in the pool put to the nearest of them, chunk by chunk.

    Rows of the same words are one point: what a robot sent a hundred times is not a hundred opinions.
    """
    first = _distinct(sample, words)
    places = {key: place_ for place_, key in enumerate(first)}
    copies = np.bincount([places[_same(words(row))] for row in sample.tolist()])
    points = read(np.array(list(first.values()), np.int64))
    means = centroids(points, cluster(points, cut), copies, LEAST)
    numbers, likeness = np.full(len(pool), -1, np.int64), np.zeros(len(pool), np.float32)
    for start in range(0, len(pool), CHUNK):
        part = slice(start, start + CHUNK)
        numbers[part], likeness[part] = place(read(pool[part]), means, cut)
    order = np.lexsort((pool, -likeness, numbers))
    bounds = np.searchsorted(numbers[order], np.arange(len(means) + 1))
    found = []
    for number in range(len(means)):
        members = pool[order[bounds[number] : bounds[number + 1]]]
        conversations = len({examples[i].group or f"row {i}" for i in members.tolist()})
        if conversations >= LEAST:
            listed = list(_distinct(members, words).values())[:MOST_LISTED]
            found.append(Topic(tuple(listed), conversations, _cohesion(read(np.array(listed)))))
    return found


def _same(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(normalised(text) for text in words)


def _distinct(rows: Integers, words: Callable[[int], tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """The first row of each wording."""
    first: dict[tuple[str, ...], int] = {}
    for row in rows.tolist():
        first.setdefault(_same(words(row)), row)
    return first


def _cohesion(rows: Floats) -> float:
    """Mean cosine of two different rows; 1 for a single one."""
    total, size = rows.sum(axis=0), len(rows)
    return float((total @ total - size) / (size * (size - 1))) if size > 1 else 1.0


# -------------------------------------------------------------------------------------------------------- replies


def _by_question(rows: Sequence[int], questions: Floats) -> tuple[int, ...]:
    likeness = questions @ questions.mean(axis=0)
    return tuple(rows[k] for k in np.argsort(-likeness, kind="stable").tolist())


def _by_reply(examples: Sequence[Example], rows: Sequence[int], replies: Floats) -> tuple[int, ...]:
    """The rows by how typical the reply is (the first is the medoid); those that fit one customer only come last."""
    likeness = replies @ replies.mean(axis=0)
    unfit = [_asks_back(examples[i].answer) or _personal(examples[i].answer) for i in rows]
    return tuple(rows[k] for k in sorted(range(len(unfit)), key=lambda k: (unfit[k], -likeness[k], k)))


def _asks_back(reply: str) -> bool:
    return "?" in reply or "？" in reply


def _agree(replies: Sequence[str]) -> bool:
    """Whether at least half of the replies that state a number share one: "212 g" and "3.1 kg" are not one answer."""
    stated = [{number for number in _DIGITS.findall(reply) if not _long(number)} for reply in replies]
    counts = Counter(number for numbers in stated for number in numbers)
    return not counts or 2 * max(counts.values()) >= sum(map(bool, stated))


def _personal(reply: str) -> bool:
    """Whether the reply seems to speak of one customer's order or account: masked values, long numbers."""
    return "[" in reply or any(map(_long, _DIGITS.findall(reply)))


def _long(number: str) -> bool:
    return sum(c.isdigit() for c in number) >= LONG_NUMBER


# -------------------------------------------------------------------------------------------------- known intents


class _Known:
    """The intents that carry labels, in the space of all questions."""

    def __init__(
        self, examples: Sequence[Example], rows: Sequence[int], question: Lookup, sample: Integers, seed: int
    ) -> None:
        counts: Counter[str] = Counter()
        kept = []
        for number in np.random.default_rng(seed).permutation(len(rows)).tolist():
            intent = examples[rows[number]].intent
            if intent is not None and approvable(intent) and counts[intent] < LABELLED_EACH:
                counts[intent] += 1
                kept.append(rows[number])
        labelled = np.array(kept, np.int64)
        self.space = fit_space(question(np.concatenate([sample, labelled[:SAMPLE]])))
        self._question = question
        self._rows = self.space.project(question(labelled)) if kept else np.zeros((0, 0), np.float32)
        self._columns = {name: [k for k, i in enumerate(kept) if examples[i].intent == name] for name in sorted(counts)}

    def nearest(self, topic: Topic) -> str:
        """The intent whose messages are as near to these as an intent's are to each other; empty without one."""
        if not self._columns:
            return ""
        likeness = self.space.project(self._question(np.array(topic.rows))) @ self._rows.T
        means = {name: _mean_of_best(likeness[:, columns]) for name, columns in self._columns.items()}
        best = max(means, key=lambda name: means[name])
        return best if means[best] >= KNOWN else ""


def _mean_of_best(likeness: Floats) -> float:
    best = min(NEIGHBOURS, likeness.shape[1])
    return float(np.partition(likeness, -best, axis=1)[:, -best:].mean())
