"""What a conversation has come to: computed from its turns each time, never stored beside them.

Owns what the next decision must remember. Knows nothing about intents' meaning or wording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.conversation.messages import (
    Approved,
    AskFor,
    Clarify,
    Decision,
    Entity,
    Grounded,
    HandOver,
    HandOverReason,
    NotKnown,
    SmallTalk,
    Turn,
)
from retriever.passages import Line

RESUMED_WITHIN = 4
"""Turns for which a question that the customer left unanswered can still be answered."""

NEVER_MIND = "never_mind"
NO_TEXT = "no_text"
ANYTHING_ELSE = "anything_else"
"""Small talk that every playbook has: see `playbook.Texts` for the words."""


@dataclass(frozen=True, slots=True)
class State:
    """The conversation before the message at hand."""

    lines: tuple[Line, ...] = ()
    language: str = ""
    """Of the customer's last message; empty when there is none."""
    waiting: HandOverReason | None = None
    """Why a person was asked for, while none has returned the conversation."""
    pending: AskFor | None = None
    """What the bot asked for in its last reply."""
    interrupted: AskFor | None = None
    """What it asked for earlier and was not told, because the customer changed the topic."""
    refused_values: int = 0
    """How often in a row a value for `pending` was not accepted."""
    offered: tuple[str, ...] = ()
    """Intents offered as options in the last reply."""
    offered_again: bool = False
    """Whether the reply before the last offered the same."""
    misses: int = 0
    """Turns in a row, up to the last, in which nothing was known."""
    was_angry: bool = False
    answered: tuple[str, ...] = ()
    """Intents whose approved answer was given in the last reply."""
    quoted: tuple[str, ...] = ()
    """Sources quoted in the last reply."""
    told: tuple[tuple[str, str], ...] = ()
    """Slot values that the customer gave, `(slot, value)`, latest last."""
    entities: tuple[Entity, ...] = ()
    """Everything recognised in earlier messages, latest last."""


def state_of(turns: Sequence[Turn], returned_at: datetime | None = None) -> State:
    """The state after `turns` (oldest first).

    `returned_at` is when a person last gave the conversation back to the bot: hand-overs before it are over.
    """
    if not turns:
        return State()
    last = turns[-1]
    decisions = [[part.decision for part in turn.parts] for turn in turns]
    asked = next((one for one in decisions[-1] if isinstance(one, AskFor)), None)
    offers = [_offered(turn) for turn in decisions[-2:]]
    spoken = [part.understanding.language for turn in turns for part in turn.parts[-1:]]
    return State(
        lines=tuple(line for turn in turns for line in turn.lines if line.text.strip()),
        language=spoken[-1] if spoken else "",
        waiting=_waiting(last, returned_at),
        pending=asked,
        interrupted=None if asked else _interrupted(decisions),
        refused_values=_refused(decisions, asked),
        offered=offers[-1],
        offered_again=len(offers) == 2 and offers[0] == offers[1] != (),
        misses=_misses(turns),
        was_angry=any(_strongly(entity) for part in last.parts for entity in part.understanding.entities),
        answered=tuple(one.intent for one in decisions[-1] if isinstance(one, Approved)),
        quoted=tuple(hit.passage.source for one in decisions[-1] if isinstance(one, Grounded) for hit in one.hits),
        told=tuple(
            pair for turn in decisions for one in turn if isinstance(one, AskFor | Approved) for pair in _told(one)
        ),
        entities=tuple(entity for turn in turns for part in turn.parts for entity in part.understanding.entities),
    )


def _waiting(last: Turn, returned_at: datetime | None) -> HandOverReason | None:
    """A failure of ours brings a person too, but must not silence the bot once it works again."""
    if last.returned or (returned_at is not None and last.message.received_at <= returned_at):
        return None
    reasons = [part.decision.reason for part in last.parts if isinstance(part.decision, HandOver)]
    return next((reason for reason in reasons if reason != "error"), None)


def _interrupted(decisions: Sequence[Sequence[Decision]]) -> AskFor | None:
    """The latest slot asked for, unless it was told since, or the customer dropped it, or a hand-over ended it."""
    answered: set[str] = set()
    for turn in reversed(decisions[-RESUMED_WITHIN:]):
        for decision in turn:
            if isinstance(decision, AskFor):
                return None if decision.intent in answered else decision
            if isinstance(decision, Approved):
                answered.add(decision.intent)
            if isinstance(decision, HandOver) or _dropped(decision):
                return None
    return None


def _dropped(decision: Decision) -> bool:
    return isinstance(decision, SmallTalk) and decision.intent == NEVER_MIND


def _offered(turn: Sequence[Decision]) -> tuple[str, ...]:
    return next((one.options for one in turn if isinstance(one, Clarify)), ())


def _refused(decisions: Sequence[Sequence[Decision]], asked: AskFor | None) -> int:
    count = 0
    for turn in reversed(decisions):
        again = next((one for one in turn if isinstance(one, AskFor)), None)
        if asked is None or again is None or (again.intent, again.slot) != (asked.intent, asked.slot):
            break
        count += bool(again.problem)
        if not again.problem:
            break
    return count


def _misses(turns: Sequence[Turn]) -> int:
    """Options offered neither count nor break the row: the customer may not have found theirs among them."""
    count = 0
    for turn in reversed(turns):
        if not turn.parts or any(not isinstance(part.decision, NotKnown | Clarify) for part in turn.parts):
            break
        count += all(isinstance(part.decision, NotKnown) for part in turn.parts)
    return count


def _strongly(entity: Entity) -> bool:
    return entity.kind == "angry" and entity.value == "strong"


def _told(decision: AskFor | Approved) -> tuple[tuple[str, str], ...]:
    return decision.filled if isinstance(decision, AskFor) else decision.slots
