"""Attempts at one answer: whoever follows it sees a beginning of one of them, and never one behind the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.events import BLOCK, Event, EventLog, TokenEvent

CHUNKS = st.lists(st.text("ab ", min_size=1, max_size=3), min_size=1, max_size=6)


class Page:
    """A client as the contract wants it; `seen` is every text that stood there."""

    def __init__(self) -> None:
        self.last, self.text = 0, ""
        self.seen: list[str] = []
        self._leave: Callable[[], None] = lambda: None

    def hear(self, event: Event) -> None:
        assert isinstance(event, TokenEvent)
        assert event.id > self.last
        self.last = event.id
        self.text = event.text if event.restart else self.text + event.text
        self.seen.append(self.text)

    def follow(self, log: EventLog) -> None:
        self._leave()
        self._leave = log.attach("c", self.last, self.hear, tuple)

    def cut(self) -> None:
        self._leave()
        self._leave = lambda: None


def beginnings(chunks: list[str]) -> set[str]:
    return {"".join(chunks[:end]) for end in range(1, len(chunks) + 1)}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    attempts=st.lists(st.tuples(CHUNKS, st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=4)
)
@example([(["Let ", "me "], 0, 2, True), (["Let ", "me ", "see"], 0, 3, True)])
@example([(["Let ", "me "], 0, 2, True), (["Let ", "me ", "see"], 1, 3, True)])
@example([(["Let ", "me ", "see"], 0, 3, True), (["Let ", "me ", "see"], 1, 3, True)])
def test_text_never_stands_behind_that_of_another_attempt(attempts: list[tuple[list[str], int, int, bool]]) -> None:
    """Each attempt is another process that dies at its end; the page comes to it after some chunks, is cut after some
    more and comes back at once or not at all. A message of the first attempt is stored by then."""
    page = Page()
    for number, (chunks, comes, cut, back) in enumerate(attempts):
        log = EventLog()
        for place, chunk in enumerate(chunks):
            if place == comes:
                page.follow(log)
            log.token("c", 1, "m", chunk, again=number > 0)
            if place == max(cut, comes):
                page.cut()
                if back:
                    page.follow(log)
        if comes >= len(chunks):
            page.follow(log)
        followed = back or comes >= len(chunks) or max(cut, comes) >= len(chunks)
        if followed:
            assert page.text == "".join(chunks)
        page.cut()
    assert set(page.seen) <= set().union(*(beginnings(chunks) for chunks, *_ in attempts))


def test_a_page_that_heard_of_an_attempt_nobody_stored_is_told_too() -> None:
    """Its message was not durable, so the next process takes its attempt for the first."""
    page, log = Page(), EventLog()
    page.last, page.text = BLOCK + 3, "Let me see"
    log.token("c", 1, "m", "Let ")
    page.follow(log)
    assert page.text == "Let "
    log.token("c", 1, "m", "me ")
    assert page.text == "Let me "


def test_a_second_attempt_of_the_same_process_says_so() -> None:
    page, log = Page(), EventLog()
    log.token("c", 1, "m", "Let ")
    log.error("c", 1, "m", "the disk is full")
    page.last, page.text = BLOCK + 2, "Let "
    page.follow(log)
    log.token("c", 1, "m", "Well")
    assert page.text == "Well"


def test_what_is_in_the_middle_of_a_first_attempt_is_resumed_and_not_repeated() -> None:
    page, log = Page(), EventLog()
    page.follow(log)
    log.token("c", 1, "m", "Let ")
    page.cut()
    log.token("c", 1, "m", "me ")
    page.follow(log)
    assert page.seen == ["Let ", "Let me "]
