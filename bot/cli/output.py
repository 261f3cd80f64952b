"""How commands speak: one JSON object or lines for a person on stdout, progress on stderr.

Owns formatting only. Knows nothing about what the commands do.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bot.storage.conversations import Counts
    from finetune.sampling import Sample
    from finetune.train import Progress as Step
    from retriever.passages import Hit

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
ConfigOption = Annotated[
    str | None, typer.Option("--config", help="Settings file; default FRONTDESK_CONFIG, then ./frontdesk.toml.")
]


def emit(as_json: bool, value: object, lines: Sequence[str]) -> None:
    """The result of a command: `value` as one JSON object, or `lines` for a person."""
    if as_json:
        print(json.dumps(plain(value), ensure_ascii=False))
    else:
        print("\n".join(lines))


def plain(value: object) -> object:
    """Values of the packages as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def recorded(counts: Counts) -> str:
    """The record in one line."""
    by_status = ", ".join(f"{number} {status}" for status, number in sorted(counts.conversations.items()))
    words = [
        _many(sum(counts.conversations.values()), "conversation") + (f" ({by_status})" if by_status else ""),
        _many(sum(counts.turns.values()), "turn"),
        f"{_many(counts.unanswered, 'message')} unanswered",
        f"thumbs {counts.thumbs_up} up and {counts.thumbs_down} down",
    ]
    return ", ".join(words)


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def why_found(hit: Hit) -> str:
    """Why a passage was found, as one line: how likely it answers, and what its score is made of."""
    why = hit.why
    sum_of = "".join(f" {'-' if gained < 0 else '+'} {name} {abs(gained):.2f}" for name, gained in why.points)
    words = [f"answers {hit.answers:.2f}, score {hit.score:.2f}" + (f" = {sum_of[3:]}" if sum_of else "")]
    if why.anything < 1:
        words[0] = f"anything answers {why.anything:.2f}, this " + words[0].removeprefix("answers ")
    words.append(f"meaning {why.meaning:.2f}, words {why.words:.2f}, subject {why.subject:.2f}")
    if why.codes:
        words.append(f"holds {', '.join(why.codes)}")
    if why.moved:
        words.append(f"moved {'up' if why.moved > 0 else 'down'} {abs(why.moved)} by the reranker")
    return "; ".join(words)


def note(text: str) -> None:
    """A line of progress; never on stdout, so that `--json` stays one object."""
    print(text, file=sys.stderr, flush=True)


def note_drawn(drawn: Sample) -> None:
    """Says on how many rows a training is, that it is a draw where there are too many, and what may not train."""
    some = "" if len(drawn.examples) == drawn.drawn_from else f", drawn from {drawn.drawn_from}"
    note(f"training on {len(drawn.examples)} rows{some}")
    if drawn.withheld:
        note(f"left out: {drawn.withheld} rows without consent")


class Progress:
    """A counter with rate and time left on stderr, rewritten in place on a terminal, now and then elsewhere."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.began = self.said = time.monotonic()
        self.live = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Of 0 in all where nobody knows how many; nothing done is only the name of what is done now."""
        now = time.monotonic()
        ended, began = done >= total > 0, not done
        if not (ended or began) and now - self.said < (0.1 if self.live else 5.0):
            return
        self.said = now
        rate = done / max(now - self.began, 1e-6)
        text = f"{self.what}: {done}, {rate:,.0f}/s"
        if began:
            text = f"{self.what}: {total}"
        elif total:
            text = f"{self.what}: {done}/{total}, {rate:,.0f}/s, {(total - done) / rate:.0f} s left"
        end = "\n" if ended or not self.live else ""
        print(f"\r{text:<78}" if self.live else text, end=end, file=sys.stderr, flush=True)


class Steps:
    """Progress of work in steps, each counted by itself."""

    def __init__(self) -> None:
        self._now = Progress("")

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._now.what:
            self._now = Progress(step)
        self._now(done, total)


def report_training(step: Step) -> None:
    """Progress of training, some twenty lines in all."""
    if step.stage in ("training", "refitting") and step.step % max(1, step.steps // 10) == 0:
        note(
            f"{step.stage}: step {step.step}/{step.steps}, loss {step.loss:.3f}, accuracy {step.accuracy:.3f}, "
            f"{step.seconds_left:.0f} s left"
        )
    elif (step.stage == "encoding" and (step.step == step.steps or step.step % 6400 == 0)) or (
        step.stage == "conversations" and step.step % max(1, step.steps // 4) == 0
    ):
        note(f"{step.stage}: {step.step}/{step.steps}, {step.seconds_left:.0f} s left")
    elif step.stage in ("baseline", "calibrating", "exporting"):
        note(step.stage)
