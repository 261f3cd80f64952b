"""The log of the running service: one JSON object a line, and nothing a customer wrote."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bot.channels.web import logbook
from bot.channels.web.logbook import configure_logging


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    monkeypatch.setattr(logbook, "_logger", logbook._logger)  # as the rest, it is put back for the tests behind this
    kept = (root.handlers, root.level, structlog.get_config())
    stream = io.StringIO()
    configure_logging(stream)
    yield stream
    root.handlers, level, config = kept[0], kept[1], kept[2]
    root.setLevel(level)
    structlog.configure(**config)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_whatever_it_holds(stream: io.StringIO) -> None:
    structlog.get_logger("frontdesk.web").info("request", route="/\r\n{}\x1b[31m\u2028", status=200)
    (line,) = lines(stream)
    assert (line["event"], line["route"], line["level"]) == ("request", "/\r\n{}\x1b[31m\u2028", "info")
    assert "timestamp" in line


def test_a_library_is_heard_without_what_it_quotes(stream: io.StringIO) -> None:
    try:
        raise ValueError("the secret of a customer")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\nthe secret of a customer")
    (line,) = lines(stream)
    assert (line["logger"], line["said"], line["kind"]) == (
        "uvicorn.error", "Exception in ASGI application", "ValueError",
    )  # fmt: skip
    assert str(line["frames"]).startswith("['test_logbook.py:")
    assert "secret" not in stream.getvalue()


def test_chatter_below_a_warning_is_not_kept(stream: io.StringIO) -> None:
    logging.getLogger("sse_starlette.sse").debug("chunk: what a customer said")
    logging.getLogger("uvicorn.error").info("Started")
    structlog.get_logger("frontdesk.web").debug("noise")
    assert lines(stream) == []
