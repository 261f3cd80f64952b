"""What the program proposes to people: an answer, an intent, another label, or that two intents are one.

Owns the four kinds of proposals and what makes two of them the same. Knows nothing about how they were found, their
files or what accepting one changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

from finetune.examples import Example, normalised

Kind = Literal["answers", "intents", "labels", "merges"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Action = Literal["relabel", "out_of_scope", "leave_out"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Words = tuple[tuple[str, str], ...]
"""`(language, text)`; an empty text is one that a person has to write."""

_FILE_NAME = re.compile(r"[^\w-]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A customer's message, and the `(speaker, text)` lines before it."""

    text: str
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerProposal:
    """An answer that agents gave again and again, word for word as one of them wrote it, for the playbook.

    `asked` are questions it was given to and become examples of the intent; `wordings` other replies that say the
    same; `conversations` how many it was found in; `cohesion` the mean likeness of two of them, 1 for copies, 0 for any
    two; `near` an intent that the questions resemble, or empty.
    """

    id: str
    intent: str
    title: Words
    answer: Words
    asked: tuple[Asked, ...]
    wordings: tuple[str, ...]
    conversations: int
    cohesion: float
    near: str


@dataclass(frozen=True, slots=True)
class IntentProposal:
    """Messages that ask alike and carry no label; `existing` when they are more of an intent that is known."""

    id: str
    intent: str
    existing: bool
    asked: tuple[Asked, ...]
    conversations: int
    cohesion: float


@dataclass(frozen=True, slots=True)
class LabelProposal:
    """A row (by its `row_key`) whose label `given` is probably wrong, and what to do with it: `action`.

    `intent` is what "relabel" makes of it. The probabilities are those of a model that did not see the row; `weight`
    orders proposals, the surest first.
    """

    id: str
    row: str
    asked: Asked
    given: str
    action: Action
    intent: str
    given_probability: float
    suggested_probability: float
    weight: float


@dataclass(frozen=True, slots=True)
class MergeProposal:
    """Two intents that are confused so often that they may be one: all rows of `source` become rows of `into`.

    `accuracy` is how often a model chooses rightly between the two (.5 is chance); `confused` are `(label, message)`.
    """

    id: str
    source: str
    into: str
    rows: tuple[int, int]
    accuracy: float
    confused: tuple[tuple[str, str], ...]


Proposal = AnswerProposal | IntentProposal | LabelProposal | MergeProposal


def kind_of(proposal: Proposal) -> Kind:
    match proposal:
        case AnswerProposal():
            return "answers"
        case IntentProposal():
            return "intents"
        case LabelProposal():
            return "labels"
        case MergeProposal():
            return "merges"
        case _:
            assert_never(proposal)


def row_key(row: Example | Asked) -> str:
    """What makes a row the same row in every file: its words and those before it, whatever their punctuation."""
    lines = [row.text, *(text for _, text in row.history)]
    plain = json.dumps([normalised(line) for line in lines], ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def evidence(proposal: Proposal) -> frozenset[str]:
    """What a proposal is about, whatever it is called: two proposals that share half of it are the same."""
    match proposal:
        case AnswerProposal(asked=asked) | IntentProposal(asked=asked):
            return frozenset(map(row_key, asked))
        case LabelProposal():
            return frozenset({f"{proposal.row} {proposal.given}"})
        case MergeProposal():
            return frozenset({" ".join(sorted((proposal.source, proposal.into)))})
        case _:
            assert_never(proposal)


def new_id(kind: Kind, name: str, about: Sequence[str]) -> str:
    """An id that a person can type: the same for the same name and evidence."""
    digest = hashlib.sha256("\n".join(sorted(about)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    slug = _FILE_NAME.sub("-", name).strip("-")[:40] or "proposal"
    return f"{kind}/{slug}-{digest}"
