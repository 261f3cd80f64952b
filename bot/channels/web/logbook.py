"""How the running service logs: one JSON object a line on standard error, nothing a customer wrote.

Owns the configuration of structlog and of the standard library's loggers. Called once by the service, never at import.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import TextIO

import structlog


def configure_logging(stream: TextIO = sys.stderr) -> None:
    """Send our events and the libraries' warnings to `stream`."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge(logging.WARNING)]
    root.setLevel(logging.WARNING)


class _Bridge(logging.Handler):
    """Hands a library's record on without what may quote a customer: only its first line, and an exception's place."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        frames = traceback.extract_tb(error.__traceback__)[-8:] if error else []
        structlog.get_logger(record.name).log(
            record.levelno,
            "library",
            logger=record.name,
            said=record.getMessage().partition("\n")[0][:200],
            kind=type(error).__name__ if error else None,
            frames=[f"{Path(f.filename).name}:{f.lineno}" for f in frames] or None,
        )
