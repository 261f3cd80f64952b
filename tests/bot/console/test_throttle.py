"""Passwords may be tried a few times; then it takes longer and longer."""

from __future__ import annotations

from bot.console.throttle import FREE_FOR_A_NAME, FREE_FOR_AN_ADDRESS, MOST_KEPT, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_ten_thousand_guesses_at_one_name_check_few_passwords() -> None:
    """From as many addresses as they like, over five minutes."""
    clock = Clock()
    throttle = Throttle(clock)
    checked = 0
    for number in range(10_000):
        checked += throttle.begin("Anna", f"10.0.{number // 256}.{number % 256}") == 0
        clock.now += 300 / 10_000
    assert FREE_FOR_A_NAME <= checked <= 20


def test_many_names_from_one_address_check_few_passwords() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    checked = sum(throttle.begin(f"name {number}", "10.0.0.1") == 0 for number in range(1_000))
    assert checked == FREE_FOR_AN_ADDRESS


def test_the_wait_is_told_and_ends() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    while (wait := throttle.begin("Anna", "here")) == 0:
        pass
    clock.now += wait - 0.1
    assert throttle.begin("anna ", "elsewhere") > 0, "the same name, however it is written"
    clock.now += 0.2
    assert throttle.begin("Anna", "here") == 0
    assert throttle.begin("Anna", "here") >= 2 * wait - 0.3, "the next wait is longer"


def test_who_signs_in_starts_anew_and_others_are_not_held_up() -> None:
    throttle = Throttle(Clock())
    for _ in range(10 * FREE_FOR_A_NAME):
        assert throttle.begin("Anna", "office") == 0
        throttle.succeeded("Anna", "office")
    while throttle.begin("Anna", "attacker") == 0:
        pass
    assert throttle.begin("Ben", "office") == 0


def test_a_flood_of_names_does_not_fill_the_memory() -> None:
    throttle = Throttle(Clock())
    for number in range(3 * MOST_KEPT):
        throttle.begin(f"name {number}", f"address {number}")
    assert len(throttle._tries) <= MOST_KEPT
