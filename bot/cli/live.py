"""What a running service answers from: taken up anew when an ingest, a training, a rollback or an edit changed it.

Owns noticing that, loading beside what serves, and the thread in which the service looks around. Knows nothing about
conversations: the desk swaps assistants while it works, and finds whom an agent left. A part that cannot be loaded
leaves the one before it in service, and says so.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bot.cli import assembly
from bot.cli.assembly import Parts
from bot.conversation.assistant import Assistant
from bot.conversation.understanding import UNAVAILABLE
from bot.serving import Desk
from bot.settings import Settings
from bot.storage.next_questions import NextQuestions
from finetune.examples import FinetuneError
from retriever.passages import Document, Passage

EVERY = 0.5
"""Seconds between two looks at three small files."""

_log = logging.getLogger(__name__)


class Live:
    """The parts in service, and the articles that citations lead to."""

    def __init__(self, settings: Settings, told: Callable[[int], None] | None = None) -> None:
        """`told` gets the size of each batch that the reader reads."""
        self._settings = settings
        self._told = told
        # Before loading: what changes meanwhile is noticed at the next look.
        self._marks = _marks(settings)
        self.parts: Parts = assembly.open_parts(settings)
        assembly.keep_playbook(settings, self.parts)
        settle()
        self.also_asked: NextQuestions | None = None
        """Set once the record is open."""

    def refreshed(self) -> Assistant | None:
        """The assistant of parts of which one is newer than what serves; None when nothing has changed."""
        marks = _marks(self._settings)
        changed = {name for name, mark in marks.items() if mark != self._marks[name]}
        self._marks = marks
        if not changed:
            return None
        # A training has read labelled messages that the phrase book knows too.
        names = changed | {"playbook"} if "model" in changed else changed
        self.parts = assembly.reopened(self._settings, self.parts, names)
        for name in sorted(changed):
            # To the log of the service, one object a line like everything else there.
            if problem := self.parts.problems.get(name):
                _log.warning("degraded: %s", problem)
            else:
                _log.warning("taken up: new %s", name)
        assembly.keep_playbook(self._settings, self.parts)
        settle()
        return self.assistant()

    def assistant(self) -> Assistant:
        """The assistant of the parts in service."""
        also_asked = self.also_asked.after if self.also_asked else lambda topic: ()
        return assembly.assistant_of(self.parts, also_asked, self._told)

    def versions(self) -> Mapping[tuple[str, ...], float]:
        """Model, knowledge and playbook in service, as the meters show it."""
        model = self.parts.manifest.version if self.parts.manifest is not None else UNAVAILABLE
        index = self.parts.knowledge.version if self.parts.knowledge is not None else UNAVAILABLE
        return {(model, index, self.parts.playbook.version): 1.0}

    def degraded(self) -> Mapping[tuple[str, ...], float]:
        """1 for each part that is missing, or older than it should be; 0 for the others."""
        return {(name,): float(name in self.parts.problems) for name in assembly.PART_NAMES}

    def shortcomings(self) -> Sequence[str]:
        return self.parts.shortcomings

    def document(self, source: str) -> Document | None:
        return self.parts.knowledge.document(source) if self.parts.knowledge is not None else None

    def passages_of(self, source: str) -> Sequence[Passage]:
        return self.parts.knowledge.passages_of(source) if self.parts.knowledge is not None else ()


def settle() -> None:
    """Tells Python's collector that what was just loaded stays: looking through 100,000 passages for what may go takes
    a tenth of a second each time, in which nothing is answered."""
    gc.unfreeze()  # what an older version left behind may go now
    gc.collect()
    gc.freeze()


@contextmanager
def followed(live: Live, desk: Desk, every: float = EVERY) -> Iterator[None]:
    """While this lasts, the desk answers from what is newest, and nobody waits for an agent who left."""
    over = threading.Event()

    def take_up() -> None:
        if live.also_asked is not None:
            live.also_asked.learn_if_due()
        if (assistant := live.refreshed()) is not None:
            desk.swap(assistant)

    def look() -> None:
        while not over.wait(every):
            try:
                desk.look_after(datetime.now(UTC))
            except Exception:
                _log.exception("who waits for an agent that left cannot be found out; trying again")
            try:
                take_up()
            except Exception:
                _log.exception("what changed cannot be taken up; the service goes on with what it has")

    thread = threading.Thread(target=look, name="live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _marks(settings: Settings) -> Mapping[str, object]:
    """What tells each part from the one before it."""
    from retriever.knowledge_base import current_version

    home = settings.home_folder
    return {
        "playbook": _mark(Path(settings.playbook)),
        "knowledge": current_version(home.knowledge),
        "model": _live_model(home.models),
    }


def _live_model(models: Path) -> str | None:
    from finetune.registry import Registry

    try:
        return Registry(models).current()
    except FinetuneError as error:  # told when the model is loaded; here it must not hide what else is new
        return str(error)


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
