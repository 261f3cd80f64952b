"""Golden questions: what the whole bot should do with them, how often it does, and the thresholds that follow.

Owns the judging of turns and the choice of thresholds on validation questions. Knows nothing about models, indexes or
files beyond the golden file itself: the assistant comes in as an argument.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, assert_never

from bot import FrontdeskError
from bot.conversation.messages import (
    Approved,
    AskFor,
    Clarify,
    Grounded,
    HandOver,
    Message,
    NotKnown,
    Part,
    Reply,
    SmallTalk,
    Thresholds,
    Turn,
    Versions,
)
from bot.conversation.phrases import PhraseBook

Verdict = Literal["right", "wrong", "abstained", "leaked", "refused"]
"""Answerable: right, wrong (something else was said) or abstained. Unanswerable: leaked (answered) or refused."""

ANSWERING = {"approved", "grounded", "small_talk", "asked"}


class Responder(Protocol):
    def respond(self, message: Message, history: tuple[Turn, ...]) -> Iterator[str | Turn]: ...


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A question with everything that a good agent may do with it; nothing at all when it must not be answered."""

    id: str
    text: str
    history: tuple[tuple[str, str], ...]
    language: str
    answerable: bool
    intents: tuple[str, ...]
    articles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    row: GoldenRow
    turn: Turn
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Score:
    """Counts for one group of questions."""

    answerable: int
    right: int
    wrong: int
    abstained: int
    unanswerable: int
    leaked: int

    @property
    def answered_right(self) -> float:
        return self.right / max(self.answerable, 1)

    @property
    def leak_rate(self) -> float:
        return self.leaked / max(self.unanswerable, 1)


def read_golden(path: Path) -> tuple[GoldenRow, ...]:
    """Raises FrontdeskError with file and line for the first row that cannot be read."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # JSON may hold the other signs that end a line
    except (OSError, UnicodeDecodeError) as error:
        raise FrontdeskError(f"{path}: cannot be read: {error}; give a UTF-8 JSON Lines file") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise FrontdeskError(f"{path}: no questions in it; write one JSON object a line")
    return tuple(rows)


def _row(path: Path, number: int, line: str) -> GoldenRow:
    try:
        raw = json.loads(line)
        lists = [raw.get(name) or [] for name in ("intents", "articles")]
        if not isinstance(raw["answerable"], bool) or not all(isinstance(one, list) for one in lists):
            raise TypeError('"answerable" is true or false, "intents" and "articles" are lists')
        return GoldenRow(
            id=str(raw["id"]),
            text=str(raw["text"]),
            history=tuple((str(turn["speaker"]), str(turn["text"])) for turn in raw.get("history") or ()),
            language=str(raw.get("language", "en")),
            answerable=raw["answerable"],
            intents=tuple(lists[0]) + ((str(raw["intent"]),) if raw.get("intent") else ()),
            articles=tuple(lists[1]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cure = 'a row is {"id", "text", "answerable", "intent", "articles", "language"?, "history"?}'
        raise FrontdeskError(f"{path}:{number}: bad golden row ({error!r}); {cure}") from None


def ask_all(assistant: Responder, rows: Iterable[GoldenRow]) -> tuple[Outcome, ...]:
    """Every question through the whole bot, each in a conversation of its own."""
    return tuple(_ask(assistant, row) for row in rows)


def _ask(assistant: Responder, row: GoldenRow) -> Outcome:
    history = past_turns(row.history)
    for said in assistant.respond(_message(f"golden-{row.id}", row.text), history):
        if isinstance(said, Turn):
            return Outcome(row, said, judge(row, said))
    raise FrontdeskError(f"golden question {row.id}: the assistant ended without a turn; this is a bug")


def judge(row: GoldenRow, turn: Turn) -> Verdict:
    """Right: an accepted intent was acted on, or an accepted article is cited. Offering options answers nothing."""
    status = turn.reply.status
    if not row.answerable:
        return "leaked" if status in ANSWERING else "refused"
    acted = {intent for part in turn.parts if (intent := _acted_on(part)) is not None}
    if status == "handed_over" and not acted & set(row.intents):
        return "abstained"
    if acted & set(row.intents) and status in ANSWERING | {"handed_over"}:
        return "right"
    if status in ANSWERING:
        return "right" if _cited(turn) & set(row.articles) else "wrong"
    return "abstained"


def _acted_on(part: Part) -> str | None:
    """The intent that a part was answered by; one that was only read or offered does not count."""
    match part.decision:
        case Approved(intent=intent) | SmallTalk(intent=intent) | AskFor(intent=intent):
            return intent
        case HandOver():
            return part.understanding.intent
        case Grounded() | Clarify() | NotKnown():
            return None
        case _:
            assert_never(part.decision)


def _cited(turn: Turn) -> set[str]:
    """Sources of the passages that the reply cites."""
    cited = {citation.passage for citation in turn.reply.citations}
    return {hit.passage.source for part in turn.parts for hit in part.hits if hit.passage.id in cited}


def score(outcomes: Iterable[Outcome]) -> Score:
    counts = dict.fromkeys(("right", "wrong", "abstained", "leaked", "refused"), 0)
    for outcome in outcomes:
        counts[outcome.verdict] += 1
    return Score(
        answerable=counts["right"] + counts["wrong"] + counts["abstained"],
        right=counts["right"],
        wrong=counts["wrong"],
        abstained=counts["abstained"],
        unanswerable=counts["leaked"] + counts["refused"],
        leaked=counts["leaked"],
    )


FOREIGN = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9)
CHANCES = (0.15, 0.2, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""Levels that are tried: fine where few strangers are let in, and no answer on a chance of one in ten."""
START = Thresholds(intent=0.6, out_of_scope=0.2, passage=0.25, foreign=0.2)
"""Few questions are taken for ours, and those that are get an answer: from here the search ends highest."""
SHARES = (0.15, 0.3, 0.5)
FOR_THE_MODEL = {
    ("foreign", "out_of_scope"): FOREIGN,
    ("intent",): CHANCES,
    ("passage",): CHANCES,
    ("sentence",): SHARES,
}
FOR_PHRASES = {("phrase",): CHANCES, ("passage_by_words",): CHANCES}
"""Thresholds that move together, and the levels that are tried: what lets strangers in through one door or the other is
one decision."""
ROUNDS = 3
GAIN: dict[Verdict, float] = {"right": 1.0, "wrong": -0.5}
"""A wrong answer shows the customer where it is from: it costs half of what a right one gains."""


def gain(counts: Score, max_error_rate: float) -> tuple[float, float]:
    """What answering so is worth: first that the leak rate stays under the dial, then what is answered.

    The bound is the finite-sample one of conformal risk control for a 0/1 loss (Angelopoulos et al. 2022,
    arXiv 2208.02814): (leaked + 1) / (unanswerable + 1) <= max_error_rate.
    """
    bound = (counts.leaked + 1) / (counts.unanswerable + 1)
    gained = GAIN["right"] * counts.right + GAIN["wrong"] * counts.wrong
    return (min(0.0, max_error_rate - bound), gained) if counts.unanswerable else (0.0, gained)


def as_good(counts: Score, others: Score, max_error_rate: float) -> bool:
    """Whether answering so is worth as much as the other way, within one standard error of that."""
    (bound, gained), (other_bound, other_gained) = gain(counts, max_error_rate), gain(others, max_error_rate)
    return gained >= other_gained - _standard_error(others) if bound == other_bound else bound > other_bound


def _standard_error(counts: Score) -> float:
    """Of what is gained on the answerable questions."""
    n = max(counts.answerable, 1)
    mean = (GAIN["right"] * counts.right + GAIN["wrong"] * counts.wrong) / n
    square = (GAIN["right"] ** 2 * counts.right + GAIN["wrong"] ** 2 * counts.wrong) / n
    return math.sqrt(n * (square - mean**2))


def choose_thresholds(
    build: Callable[[Thresholds], Responder], rows: Sequence[GoldenRow], max_error_rate: float
) -> tuple[Thresholds, Score]:
    """The thresholds that answer most while the leak rate stays under the dial, by coordinate search on `rows`. `build`
    should answer from recorded readings: the search asks every question some hundred times.

    The bound of `gain` is for one threshold and the search chooses several, so the strictest scope within one standard
    error of the best gain is taken (Breiman et al. 1984): what a handful of questions seem to allow, others may not.
    """

    def value(outcomes: Iterable[Outcome]) -> tuple[float, float]:
        return gain(score(outcomes), max_error_rate)

    # Each threshold is asked of the questions that it can change.
    by_phrases = [row for row in rows if PhraseBook.reads(row.text)]
    by_model = [row for row in rows if not PhraseBook.reads(row.text)]
    best = START
    known = {True: ask_all(build(best), by_phrases), False: ask_all(build(best), by_model)}
    for _ in range(ROUNDS):
        before = best
        for names, levels in (FOR_THE_MODEL | FOR_PHRASES).items():
            phrases = names in FOR_PHRASES
            for level in levels:
                candidate = replace(best, **dict.fromkeys(names, level))
                outcomes = ask_all(build(candidate), by_phrases if phrases else by_model)
                if value((*outcomes, *known[not phrases])) > value((*known[True], *known[False])):
                    best, known[phrases] = candidate, outcomes
        if best == before:
            break
    enough = value((*known[True], *known[False]))[1] - _standard_error(score(known[False]))
    for level in (level for level in FOREIGN if level < best.foreign):
        strict = replace(best, foreign=level, out_of_scope=level)
        outcomes = ask_all(build(strict), by_model)
        if value((*known[True], *outcomes)) >= (0.0, enough):
            return strict, score((*known[True], *outcomes))
    return best, score((*known[True], *known[False]))


def past_turns(lines: Sequence[tuple[str, str]]) -> tuple[Turn, ...]:
    """A written history as turns: each customer line with what was replied to it."""
    turns: list[Turn] = []
    for speaker, text in lines:
        if speaker == "customer":
            turns.append(_past_turn(len(turns), text, ""))
        elif turns:
            said = "\n".join(line for line in (turns[-1].reply.text, text) if line)
            turns[-1] = _past_turn(len(turns) - 1, turns[-1].message.text, said)
        else:
            turns.append(_past_turn(0, "", text))
    return tuple(turns)


def _past_turn(number: int, asked: str, said: str) -> Turn:
    return Turn(
        id=f"past-{number}",
        message=_message(f"past-{number}", asked),
        parts=(),
        reply=Reply(said, (), (), "grounded"),
        versions=Versions("", "", ""),
        thresholds=Thresholds(),
    )


def _message(name: str, text: str) -> Message:
    return Message(name, f"golden-{name}", "golden", "api", text, datetime(2026, 1, 5, 9, tzinfo=UTC))
