"""Scheduled work in a process of its own: each job when it is due, one at a time, until a signal comes.

Owns the clock, and that a job that fails is told and tried again at its next time. Knows nothing about what the jobs
do: the wiring hands them in.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

STOPPING = frozenset({signal.SIGINT, signal.SIGTERM})


@dataclass(frozen=True, slots=True)
class Job:
    """What is done every `hours`, the first time at once."""

    name: str
    hours: float
    work: Callable[[], None]


class Worker:
    """Runs jobs. `run` returns after `stop`, or a signal, when the job in hand has ended."""

    def __init__(self, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._say = say
        self._thread = threading.get_ident()

    def run(self) -> None:
        """Call from the main thread: signals are waited for, not handled, so none comes at a bad moment."""
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        self._thread = threading.get_ident()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            # One thread: two jobs at a time would fight for the same two cores and the same locks.
            scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(1)}, timezone=UTC)
            for job in self._jobs:
                scheduler.add_job(
                    self._do, "interval", (job,), hours=job.hours, next_run_time=datetime.now(UTC),
                    # A machine that slept does once what became due meanwhile, however long ago.
                    coalesce=True, max_instances=1, misfire_grace_time=None,
                )  # fmt: skip
            scheduler.start()
            signal.sigwait(STOPPING)
        finally:
            # A second signal ends the process at once.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        self._say("stopping when the work in hand is done")
        scheduler.shutdown(wait=True)

    def stop(self) -> None:
        """As a signal would; from any thread."""
        signal.pthread_kill(self._thread, signal.SIGTERM)

    def _do(self, job: Job) -> None:
        try:
            job.work()
        except Exception as error:  # nobody is there to see it fail, and the next time may be better
            self._say(f"{job.name}: {error or type(error).__name__}; again in {job.hours:g} hours")
