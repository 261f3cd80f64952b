"""What a conversation has come to: computed from its turns each time, never stored beside them.

Owns what the next decision must remember. Knows nothing about intents' meaning or wording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.conversation.entities import KINDS
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
from bot.conversation.playbook import Playbook, Slot
from retriever.passages import Line

RESUMED_WITHIN = 4
"""Turns for which a question that the customer left unanswered can still be answered."""

REMEMBERED_KINDS = ("order_number", "email", "phone")
"""Values that stay the customer's for the whole conversation; dates and amounts belong to one question."""

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
    away: bool = False
    """Whether no person is in at this hour."""
    pending: AskFor | None = None
    """What the bot asked for in its last reply."""
    asked_beside: tuple[AskFor, ...] = ()
    """What else it asked for in that reply, for other questions of the same message."""
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
    """Values that the customer gave, `(slot or kind of entity, value)`, latest last."""

    @property
    def asked_person(self) -> HandOver:
        """What it leads to that the customer asks for a person."""
        return HandOver("hours" if self.away else "asked")

    def remembered(self, slot: Slot, playbook: Playbook, filled: Mapping[str, str]) -> str:
        """What the customer said last for the slot and still holds; `filled` is what other slots have of it."""
        if slot.kind not in REMEMBERED_KINDS:
            return ""
        # Of two slots of one kind, only what was told for this one is surely meant for it.
        alone = all(other.kind != slot.kind or other.name == slot.name for other in playbook.slots)
        names = (slot.name, slot.kind) if alone else (slot.name,)
        return playbook.value_for(slot, (value for name, value in reversed(self.told) if name in names), filled)


def state_of(turns: Sequence[Turn], returned_at: datetime | None = None) -> State:
    """The state after `turns` (oldest first).

    `returned_at` is when a person last gave the conversation back to the bot: hand-overs before it are over.
    """
    if not turns:
        return State()
    last = turns[-1]
    # Once a person has spoken, what the bot asked or offered before is not what the customer answers.
    since = turns[max((number for number, turn in enumerate(turns, start=1) if turn.behind), default=0) :]
    decisions = [[part.decision for part in turn.parts] for turn in since]
    latest = decisions[-1] if decisions else []
    asked = [one for one in latest if isinstance(one, AskFor)]
    pending = asked[0] if asked else None
    offers = [_offered(turn) for turn in decisions[-2:]]
    spoken = [part.understanding.language for turn in turns for part in turn.parts[-1:]]
    return State(
        lines=tuple(line for turn in turns for line in turn.lines if line.text.strip()),
        language=spoken[-1] if spoken else "",
        waiting=_waiting(last, returned_at),
        pending=pending,
        asked_beside=tuple(asked[1:]),
        interrupted=None if pending else _interrupted(decisions),
        refused_values=_refused(decisions, pending),
        offered=offers[-1] if offers else (),
        offered_again=len(offers) == 2 and offers[0] == offers[1] != (),
        misses=_misses(since),
        was_angry=any(_strongly(entity) for part in last.parts for entity in part.understanding.entities),
        answered=tuple(one.intent for one in latest if isinstance(one, Approved)),
        quoted=tuple(hit.passage.source for one in latest if isinstance(one, Grounded) for hit in one.hits),
        told=tuple(pair for turn in turns for pair in _told(turn)),
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


def _told(turn: Turn) -> list[tuple[str, str]]:
    """The values of one message: those recognised, then those that slots took."""
    heard = [one for part in turn.parts for one in part.understanding.entities if one.kind in KINDS]
    told: list[tuple[str, str]] = [(one.kind, one.value) for one in heard]
    for part in turn.parts:
        if isinstance(part.decision, AskFor | Approved):
            told += part.decision.filled if isinstance(part.decision, AskFor) else part.decision.slots
    return told
