"""Work is done when it is due, a job that fails stops nothing, and a signal ends it in order."""

from __future__ import annotations

import signal
import threading

from bot.worker import STOPPING, Job, Worker

SOON = 0.01 / 3600
"""Hours."""


def test_a_job_runs_at_once_and_again() -> None:
    times: list[str] = []

    def work() -> None:
        times.append(threading.current_thread().name)
        if len(times) == 3:
            worker.stop()

    worker = Worker([Job("count", SOON, work)], print)
    worker.run()
    assert len(times) >= 3 and threading.main_thread().name not in times


def test_a_job_that_fails_is_told_and_tried_again_and_the_others_go_on() -> None:
    told: list[str] = []
    done: list[str] = []

    def bad() -> None:
        done.append("bad")
        raise ValueError("the site is away")

    def good() -> None:
        done.append("good")
        if done.count("bad") > 1 and done.count("good") > 1:
            worker.stop()

    worker = Worker([Job("bad", SOON, bad), Job("good", SOON, good)], told.append)
    worker.run()
    *failures, last = told
    assert len(failures) >= 2 and {line.partition("; again")[0] for line in failures} == {"bad: the site is away"}
    assert last.startswith("stopping")


def test_two_jobs_never_run_at_the_same_time() -> None:
    """The barrier would let both through if they did; alone each waits in vain."""
    together = threading.Barrier(2)
    met: list[bool] = []

    def work() -> None:
        try:
            together.wait(0.05)
            met.append(True)
        except threading.BrokenBarrierError:
            together.reset()
            met.append(False)
        if len(met) == 4:
            worker.stop()

    worker = Worker([Job("a", SOON, work), Job("b", SOON, work)], print)
    worker.run()
    assert not any(met)


def test_a_signal_lets_the_work_in_hand_end_and_is_not_held_back_afterwards() -> None:
    finished = threading.Event()

    def work() -> None:
        worker.stop()
        finished.wait(0.05)
        finished.set()

    worker = Worker([Job("last", 1.0, work)], print)
    worker.run()
    assert finished.is_set()
    assert not STOPPING & signal.pthread_sigmask(signal.SIG_BLOCK, ())
