"""Numbers for who watches the service, in Prometheus's form. Knows no user: a label is a route, a status, a system, a kind."""

from collections.abc import Callable, Iterator, Mapping

from lifelora.serving.app.web import prometheus_client

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MEDIA = prometheus_client.CONTENT_TYPE_LATEST
GAUGES = {"waiting": "waiting_requests", "warm bytes": "warm_bytes"} | {
    one: one for one in ("trunks", "representations", "couplings")
}
"""What an engine's state tells of now; all else in it counts since the engine was opened."""
State = Callable[[], Mapping[str, int]]


class Metrics:
    """Of one service."""

    def __init__(self, state: State) -> None:
        """``state`` gives the numbers of the engine that answers now."""
        self.registry = prometheus_client.CollectorRegistry()
        labels = ("route", "method", "status")
        self._seconds = prometheus_client.Histogram(
            "lifelora_request_seconds", "Seconds from a request to its answer.", labels, registry=self.registry, buckets=SECONDS
        )
        self._answers = prometheus_client.Counter(
            "lifelora_answers", "Answers by what was asked, by which system answered, and whether it stood in for another.",
            ("kind", "system", "stood_in"), registry=self.registry,
        )  # fmt: skip
        self._events = prometheus_client.Counter(
            "lifelora_events", "Events that were acknowledged: used, not used yet, or there already.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        self.working = prometheus_client.Gauge(
            "lifelora_working_requests", "Requests that are being answered.", registry=self.registry
        )
        self.registry.register(_OfEngine(state))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is its template."""
        self._seconds.labels(route, method, str(status)).observe(seconds)

    def answer(self, kind: str, system: str, stood_in: bool) -> None:
        """An engine answered."""
        self._answers.labels(kind, system, str(stood_in).lower()).inc()

    def events(self, used: int, kept: int, there: int) -> None:
        """Events were acknowledged."""
        for outcome, count in (("used", used), ("kept", kept), ("there", there)):
            self._events.labels(outcome).inc(count)

    def text(self) -> bytes:
        """All of them, as /metrics has them."""
        return prometheus_client.generate_latest(self.registry)


class _OfEngine(prometheus_client.registry.Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[prometheus_client.core.Metric]:
        done = prometheus_client.core.CounterMetricFamily(
            "lifelora_engine_work", "What the engine did since it was opened.", labels=["what"]
        )
        for name, number in self._state().items():
            if name in GAUGES:
                yield prometheus_client.core.GaugeMetricFamily(
                    f"lifelora_engine_{GAUGES[name]}", f"Of the engine, now: {name}.", number
                )
            else:
                done.add_metric([name.replace(" ", "_")], number)
        yield done
