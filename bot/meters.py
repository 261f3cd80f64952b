"""What the running service counts of itself, in the form that Prometheus reads.

Owns names, labels and buckets, in a registry of its own. Bounded, however long the service runs: a label is the
template of a route, a status, a step, a reason or a version, never an id and nothing that anybody wrote. Knows neither
the web nor the record: who has something to count calls, who has something to read is asked when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from bot.conversation.messages import HandOver, Turn

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
PARTS = ("playbook", "knowledge", "model", "record")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

Kind = Literal["gauge", "counter"]
Values = Mapping[tuple[str, ...], float]
"""What is read when somebody looks: a number for each tuple of label values, `()` alone where there are no labels."""


class Meters:
    """Counts from any thread. Loads prometheus-client, which nothing but a running service needs."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

        # A time of birth for each row would be as many rows again.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: CollectorRegistry = CollectorRegistry()
        self._watched: list[_Watched] = []
        self._requests = Histogram(
            "frontdesk_request_seconds",
            "Time until the answer to a request begins, by the template of its route.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._steps = Histogram(
            "frontdesk_step_seconds",
            "Time of each step of a turn.",
            ("step",),
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        self._whole = Histogram(
            "frontdesk_turn_seconds",
            "Time from a message's arrival at the desk, waiting included, to its stored turn.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._turns = Counter("frontdesk_turns", "Stored turns by their status.", ("status",), registry=self.registry)
        self._handovers = Counter(
            "frontdesk_handovers",
            "Times the bot gave over to a person, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._refused = Counter(
            "frontdesk_refused", "Requests refused because there was too much to do.", ("what",), registry=self.registry
        )
        self._batches = Histogram(
            "frontdesk_reader_batch_questions",
            "Questions that the reader was given at once.",
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the template; what matched none is called "none"."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).observe(seconds)

    def turn(self, turn: Turn, store_seconds: float, seconds: float) -> None:
        """A turn that was made and stored; `seconds` is all of it, from its arrival on."""
        for step, milliseconds in turn.milliseconds:
            self._steps.labels(step).observe(milliseconds / 1000)
        self._steps.labels("store").observe(store_seconds)
        self._whole.observe(seconds)
        self._turns.labels(turn.reply.status).inc()
        reasons = [part.decision.reason for part in turn.parts if isinstance(part.decision, HandOver)]
        # Whatever is said while a person is awaited, or there, names the reason again.
        if reasons and turn.reply.status == "handed_over":
            self._handovers.labels(reasons[0]).inc()

    def refused(self, what: str) -> None:
        self._refused.labels(what).inc()

    def batch(self, questions: int) -> None:
        self._batches.observe(questions)

    def watch(
        self,
        name: str,
        help: str,
        read: Callable[[], Values | float],
        labels: tuple[str, ...] = (),
        kind: Kind = "gauge",
    ) -> None:
        """Shows what `read` gives whenever somebody looks. It must not wait for anything."""
        self._watched.append(_Watched(name, help, read, labels, kind))

    def collect(self) -> Iterator[Metric]:
        """What is watched, read now: the library's form of a collector."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        for each in self._watched:
            family = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}[each.kind]
            shown = family(each.name, each.help, labels=each.labels)
            values = each.read()
            for labels, value in (values if isinstance(values, Mapping) else {(): values}).items():
                shown.add_metric(labels, value)
            yield shown

    def render(self) -> bytes:
        """All of it as text."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


class _Watched:
    def __init__(
        self, name: str, help: str, read: Callable[[], Values | float], labels: tuple[str, ...], kind: Kind
    ) -> None:
        self.name, self.help, self.read, self.labels, self.kind = name, help, read, labels, kind
