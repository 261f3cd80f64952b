"""What a person sees of work that takes its time: on stderr, a rate that was measured, and no guess where none is."""

from __future__ import annotations

import re

import pytest

from bot.cli.output import Progress, Steps


def test_steps_are_told_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    for number in range(1, 4):
        steps("reading files", number, 0)
    steps("reading files", 3, 3)
    steps("embedding", 64, 200)
    steps("embedding", 200, 200)
    steps("building the vector index", 0, 30_000)
    steps("building the vector index", 30_000, 30_000)
    said = capsys.readouterr()
    assert said.out == ""
    assert re.sub(r"[\d,]+/s", "N/s", said.err).splitlines() == [
        "reading files: 3/3, N/s, 0 s left",
        "embedding: 200/200, N/s, 0 s left",
        "building the vector index: 30000",
        "building the vector index: 30000/30000, N/s, 0 s left",
    ]


def test_each_step_has_its_own_rate(capsys: pytest.CaptureFixture[str]) -> None:
    counter = Progress("embedding")
    counter.began -= 10  # ten seconds ago
    counter.said -= 10
    counter(50, 200)
    counter(60, 200)
    assert capsys.readouterr().err == "embedding: 50/200, 5/s, 30 s left\n", "and again in five seconds"
    files = Progress("reading files")
    files.began -= 10
    files.said -= 10
    files(40, 0)
    assert capsys.readouterr().err == "reading files: 40, 4/s\n", "no end is known, and none is told"


def test_on_a_terminal_a_line_is_written_over_until_its_step_ends(capsys: pytest.CaptureFixture[str]) -> None:
    counter = Progress("embedding")
    counter.live = True
    counter(0, 20)
    counter.said -= 1
    counter(10, 20)
    counter(20, 20)
    first, second, third = capsys.readouterr().err.split("\r")[1:]
    assert [line.split(",")[0].rstrip(" ") for line in (first, second, third)] == [
        "embedding: 20", "embedding: 10/20", "embedding: 20/20"
    ]  # fmt: skip
    assert third.endswith("\n") and "\n" not in first + second and len(first) == 78
