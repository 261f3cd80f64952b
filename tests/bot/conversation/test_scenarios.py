"""Whole conversations from tests/scenarios/*.toml through the Assistant, compared to the last character."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.conversation.assistant import Assistant
from bot.conversation.messages import Turn
from tests.bot.conversation.fakes import BrokenReader, BrokenSearcher, assistant, say

FOLDER = Path(__file__).parents[2] / "scenarios"
KEYS = {"customer", "status", "reply", "citations", "suggestions", "broken"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message and what must come back. `broken` names the parts that fail: "reader", "search" or both."""

    customer: str
    status: str
    reply: str
    citations: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    broken: str = ""


def scenarios() -> list[tuple[str, tuple[Exchange, ...]]]:
    found = []
    for path in sorted(FOLDER.glob("*.toml")):
        for scenario in tomllib.loads(path.read_text("utf-8"))["scenario"]:
            assert scenario.keys() <= {"name", "why", "turn"}, f"{path}: unknown key in {scenario['name']}"
            found.append(
                (f"{path.stem}: {scenario['name']}", tuple(_exchange(turn, path) for turn in scenario["turn"]))
            )
    return found


def _exchange(turn: dict[str, object], path: Path) -> Exchange:
    assert turn.keys() <= KEYS, f"{path}: unknown key in {turn}"
    lists = {key: tuple(turn[key]) for key in ("citations", "suggestions") if key in turn}  # type: ignore[arg-type]
    return Exchange(**{**turn, **lists})  # type: ignore[arg-type]


def assistant_for(exchange: Exchange) -> Assistant:
    return assistant(
        reader=BrokenReader() if "reader" in exchange.broken else None,
        searcher=BrokenSearcher() if "search" in exchange.broken else None,
    )


def differences(turn: Turn, exchange: Exchange) -> list[str]:
    reply = turn.reply
    seen = {
        "status": (reply.status, exchange.status),
        "reply": (reply.text, exchange.reply),
        "citations": (tuple(f"{one.title} {one.url}" for one in reply.citations), exchange.citations),
        "suggestions": (reply.suggestions, exchange.suggestions),
    }
    return [f"{name}: {got!r} is not {wanted!r}" for name, (got, wanted) in seen.items() if got != wanted]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exchanges"), scenarios(), ids=lambda value: value if isinstance(value, str) else "")
def test_scenario(name: str, exchanges: tuple[Exchange, ...]) -> None:
    history: tuple[Turn, ...] = ()
    for exchange in exchanges:
        turn = say(assistant_for(exchange), exchange.customer, history)
        assert differences(turn, exchange) == [], f"{name}, at {exchange.customer!r}"
        history = (*history, turn)


def test_there_are_scenarios_for_every_status() -> None:
    exchanges = [exchange for _, exchanges in scenarios() for exchange in exchanges]
    assert len(scenarios()) >= 40
    assert {exchange.status for exchange in exchanges} == {
        "approved", "grounded", "small_talk", "asked", "clarified", "not_known", "handed_over", "waiting",
    }  # fmt: skip


def test_a_wrong_expectation_is_red() -> None:
    """The comparison itself: one word changed in a scenario that passes must be reported."""
    exchange = scenarios()[0][1][0]
    turn = say(assistant(), exchange.customer)
    changed = Exchange(exchange.customer, "grounded", exchange.reply.replace("lamp", "lump"), ("none /x",), ("maybe",))
    assert len(differences(turn, changed)) == 4
