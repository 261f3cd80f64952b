"""How the running service logs: one JSON object a line on standard error, nothing a customer wrote.

Owns structlog, which loads at the first line and not before, and what the standard library's loggers may say.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

OURS = ("bot", "finetune", "retriever")
_logger: Any = None
"""Made once: to find processors and make a logger of them for each line takes longer than writing it."""
_request: ContextVar[str | None] = ContextVar("request", default=None)


@contextmanager
def numbered(request: str) -> Iterator[None]:
    """Lines written in this block, or in threads that its request asks for, carry the request's number."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def write(event: str, *, level: int = logging.INFO, **facts: object) -> None:
    """One line. What goes in is named here and now: no request, no body, no exception is passed along."""
    import structlog

    if (request := _request.get()) is not None:
        facts.setdefault("request", request)
    (_logger or structlog.get_logger("frontdesk")).log(level, event, **facts)


def place_of(error: BaseException) -> Sequence[str]:
    """Where an exception comes from, `file:line` of its last frames; not its words, which may quote a customer."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]


def configure_logging(stream: TextIO | None = None) -> None:
    """Send our events and the libraries' warnings to `stream`, standard error when none is given."""
    import structlog

    global _logger
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    _logger = structlog.get_logger("frontdesk").bind()
    root = logging.getLogger()
    root.handlers = [_Bridge(logging.WARNING)]
    root.setLevel(logging.WARNING)


def keep_last_words() -> None:
    """What Python prints of an exception that nobody caught goes to the log, without its words: they may quote a
    customer. For the process of a service, which has nobody before the terminal."""
    threading.excepthook = lambda lost: _lost("thread", lost.exc_type, lost.exc_value)
    sys.unraisablehook = lambda lost: _lost("unraisable", lost.exc_type, lost.exc_value)


class _Bridge(logging.Handler):
    """Hands a library's record on without what may quote a customer: what it says before values are put in, and an
    exception's place. What our own modules say, they say without text of anybody."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        ours = record.name.partition(".")[0] in OURS
        write(
            "library",
            level=record.levelno,
            logger=record.name,
            said=(record.getMessage() if ours else str(record.msg)).partition("\n")[0][:200],
            kind=type(error).__name__ if error else None,
            frames=place_of(error) if error else None,
        )


def _lost(what: str, kind: type[BaseException] | None, error: BaseException | None) -> None:
    write(
        what,
        level=logging.ERROR,
        kind=kind.__name__ if kind else None,
        frames=place_of(error) if error else None,
    )
