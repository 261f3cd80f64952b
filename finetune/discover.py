"""Finds in a company's own chats what its playbook and labels lack, and proposes it.

Owns what is worth proposing and in which words. Knows nothing about files or settings; vectors come in as arrays,
which may be memory-mapped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.calibrate import Floats
from finetune.clusters import SAMPLE, sampled
from finetune.examples import OUT_OF_SCOPE, Example
from finetune.label_errors import Judged, confusable, judge, label_errors
from finetune.leaks import leak_groups
from finetune.model import features
from finetune.proposals import (
    AnswerProposal,
    Asked,
    IntentProposal,
    LabelProposal,
    MergeProposal,
    Proposal,
    new_id,
    row_key,
)
from finetune.topic_words import WordVectors, names, unspaced
from finetune.topics import Lookup, Topic, question_topics, repeated_answers

MOST_WORDINGS = 5
MOST_CONFUSED = 20
MOST_LABELLED = 50_000
"""Labelled rows that are judged, drawn by the seed when there are more."""
LONG_TITLE = 100
"""Letters from which a question makes no title."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """What the frozen encoder reads in n examples, unit rows `[n, d]`: message, message in conversation, answer.

    `answer` is zero where a row has none.
    """

    last: Floats
    window: Floats
    answer: Floats


@dataclass(frozen=True, slots=True)
class Found:
    """The proposals of each kind, the strongest first; and what a person should know about the search."""

    proposals: tuple[Proposal, ...]
    notes: tuple[str, ...]


def discover(
    examples: Sequence[Example],
    vectors: Vectors,
    languages: Sequence[str],
    language_of: Callable[[str], str],
    seed: int,
) -> Found:
    """Everything worth proposing in n examples. The same rows in the same order and the same seed find the same.

    `languages` are those that an approved answer must be worded in, the company's first one first.
    """
    answers: list[Topic] = []
    topics: list[Topic] = []
    for rows, question, answer in _by_script(examples, vectors, seed):
        repeated, approved = repeated_answers(examples, rows, question, answer, seed)
        answers += repeated
        topics += [*approved, *question_topics(examples, rows, question, answer, seed)]
    answers = _strongest(answers)
    told = {row for topic in answers for row in topic.rows}
    # What is proposed with its answer need not be proposed as an intent as well.
    topics = _strongest([t for t in topics if t.known or 2 * len(told.intersection(t.rows)) < len(t.rows)])
    called = _names(examples, answers, [topic for topic in topics if not topic.known], seed)
    answered = {e.intent for e in examples if e.intent and (e.answer or e.origin == "playbook")}
    proposals: list[Proposal] = []
    for topic in answers:
        # Labelled messages that nobody has written an answer for: this is it.
        name, new = (topic.known, next(called)) if topic.known not in answered else ("", next(called))
        answered.add(name)
        proposals.append(_answer_proposal(examples, topic, name or _sayable(new), languages, language_of))
    proposals += [_intent_proposal(examples, topic, topic.known or next(called)) for topic in topics]
    judged, notes = _judged(examples, vectors, seed)
    return Found((*proposals, *judged), notes)


def _sayable(name: str) -> str:
    """The name, where the playbook allows it: a-z, 0-9 and _. Names in other letters have to be given by a person."""
    if re.fullmatch("[a-z0-9_]+", name):
        return name
    return f"answer_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def _strongest(topics: Sequence[Topic]) -> list[Topic]:
    return sorted(topics, key=lambda topic: (-topic.conversations, -topic.cohesion, topic.rows))


def _by_script(examples: Sequence[Example], vectors: Vectors, seed: int) -> Iterator[tuple[list[int], Lookup, Lookup]]:
    """The numbers of the rows that the encoder reads, and of those that it does not: these get vectors of words.

    With each how to read its questions (in their conversation: "and how long?" asks nothing by itself) and answers.

    In the space of an English encoder all Chinese messages are one cluster.
    """
    strange = [unspaced(example.text) for example in examples]
    yield [i for i, odd in enumerate(strange) if not odd], vectors.window.__getitem__, vectors.answer.__getitem__
    rows = [i for i, odd in enumerate(strange) if odd]
    if rows:
        places = np.full(len(examples), -1, np.int64)
        places[rows] = np.arange(len(rows))
        words = WordVectors([*(examples[i].text for i in rows), *(examples[i].answer for i in rows)], seed)
        yield rows, lambda some: words[places[some]], lambda some: words[places[some] + len(rows)]


def _names(examples: Sequence[Example], answers: Sequence[Topic], topics: Sequence[Topic], seed: int) -> Iterator[str]:
    """New names for the topics in this order; those of answers speak of what was asked and said."""
    texts = [[f"{examples[i].text} {examples[i].answer}" for i in topic.rows] for topic in answers]
    texts += [[examples[i].text for i in topic.rows] for topic in topics]
    others = [examples[i].text for i in sampled(len(examples), SAMPLE, seed).tolist()]
    return iter(names(texts, others, {e.intent for e in examples if e.intent}))


def _answer_proposal(
    examples: Sequence[Example],
    topic: Topic,
    name: str,
    languages: Sequence[str],
    language_of: Callable[[str], str],
) -> AnswerProposal:
    rows = [examples[i] for i in topic.rows]
    counts = Counter(language_of(row.text) for row in rows)
    spoken = max((one for one in languages if counts[one]), key=lambda one: counts[one], default=languages[0])
    asked = tuple(Asked(row.text, row.history) for row in rows)
    title = min(asked, key=lambda one: (bool(one.history), len(one.text) > LONG_TITLE)).text
    answer, *others = dict.fromkeys(examples[i].answer for i in topic.replies)
    return AnswerProposal(
        new_id("answers", name, [row_key(one) for one in asked]),
        name,
        tuple((one, " ".join(title.split()) if one == spoken else "") for one in languages),
        tuple((one, answer if one == spoken else "") for one in languages),
        asked,
        tuple(others[:MOST_WORDINGS]),
        topic.conversations,
        topic.cohesion,
        topic.known if topic.known != name else "",
    )


def _intent_proposal(examples: Sequence[Example], topic: Topic, name: str) -> IntentProposal:
    asked = tuple(Asked(examples[i].text, examples[i].history) for i in topic.rows)
    about = new_id("intents", name, [row_key(one) for one in asked])
    return IntentProposal(about, name, bool(topic.known), asked, topic.conversations, topic.cohesion)


# ---------------------------------------------------------------------------------------------------------- labels


def _judged(
    examples: Sequence[Example], vectors: Vectors, seed: int
) -> tuple[list[LabelProposal | MergeProposal], tuple[str, ...]]:
    """Labels that look wrong and intents that look like one, among the rows that the encoder reads."""
    labelled = np.array([i for i, e in enumerate(examples) if e.intent is not None and not unspaced(e.text)], np.int64)
    rows = labelled[sampled(len(labelled), MOST_LABELLED, seed)]
    notes = (
        (f"labels: {len(rows):,} of {len(labelled):,} labelled rows were looked at",)
        if len(rows) < len(labelled)
        else ()
    )
    some = [examples[i] for i in rows.tolist()]
    read = features(vectors.last[rows], vectors.window[rows])
    judged = judge(read, [e.intent or OUT_OF_SCOPE for e in some], leak_groups(some), seed) if some else None
    if judged is None:
        return [], (*notes, "labels: too few labelled rows, or of one intent only, to find wrong ones")
    return [*_label_proposals(some, judged), *_merge_proposals(some, judged)], notes


def _label_proposals(rows: Sequence[Example], judged: Judged) -> list[LabelProposal]:
    found: dict[tuple[str, str], LabelProposal] = {}
    for error in label_errors(judged):
        row = rows[error.row]
        # The playbook's own examples are changed in the playbook.
        if row.origin != "playbook":
            key = row_key(row)
            outside = error.suggested == OUT_OF_SCOPE
            about = new_id("labels", f"{error.given}-{error.suggested}", [f"{key} {error.given}"])
            found.setdefault(
                (key, error.given),
                LabelProposal(
                    about,
                    key,
                    Asked(row.text, row.history),
                    error.given,
                    "out_of_scope" if outside else "relabel",
                    error.suggested,
                    error.given_probability,
                    error.suggested_probability,
                    error.weight,
                ),
            )
    return list(found.values())


def _merge_proposals(rows: Sequence[Example], judged: Judged) -> list[MergeProposal]:
    approved = {row.intent for row in rows if row.origin == "playbook"}
    found = []
    for pair in confusable(judged):
        if OUT_OF_SCOPE in (pair.smaller, pair.larger):
            continue
        sides = [(pair.smaller, pair.rows[0]), (pair.larger, pair.rows[1])]
        if pair.smaller in approved and pair.larger not in approved:
            sides.reverse()
        (source, few), (into, many) = sides
        confused = tuple((rows[i].intent or "", rows[i].text) for i in pair.confused[:MOST_CONFUSED])
        about = new_id("merges", f"{source}-{into}", sorted((source, into)))
        found.append(MergeProposal(about, source, into, (few, many), pair.accuracy, confused))
    return found
