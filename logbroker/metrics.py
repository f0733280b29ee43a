"""Counters, gauges and histograms by name: plain numbers that the hot paths add to.

What lives here: the values and their names. What may not: an exposition format, locks, clocks, I/O; the HTTP door turns
this into Prometheus' text at scrape time. Everything is touched on the event loop's thread only.
Names carry no prefix here; units are base units and are part of the name (``_seconds``, ``_bytes``), counters end in
``_total``. A family keeps at most ``max_series`` label sets and counts what it dropped beyond them.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TypeVar

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
MAX_SERIES = 20_000

Labels = tuple[str, ...]


class Family:
    """Values of one name, one per set of label values."""

    kind = "counter"

    def __init__(self, name: str, doc: str, labels: Labels = (), max_series: int = MAX_SERIES) -> None:
        self.name = name
        self.doc = doc
        self.labels = labels
        self.values: dict[Labels, float] = {}
        self.dropped = 0
        self._max_series = max_series

    def add(self, amount: float, *labels: str) -> None:
        """Add ``amount`` to the value under ``labels``, given in the order of the declaration."""
        try:
            self.values[labels] += amount
        except KeyError:
            self._start(labels, amount)

    def _start(self, labels: Labels, amount: float) -> None:
        if len(self.values) >= self._max_series:
            self.dropped += 1
        else:
            self.values[labels] = amount


class Gauge(Family):
    """A value that goes up and down: set, or read at scrape time from whoever knows it."""

    kind = "gauge"

    def __init__(self, name: str, doc: str, labels: Labels = (), read: Callable[[], float] | None = None) -> None:
        super().__init__(name, doc, labels)
        self._readers: dict[Labels, Callable[[], float]] = {}
        if read is not None:
            self._readers[()] = read

    def read_from(self, read: Callable[[], float], *labels: str) -> None:
        """Ask ``read`` for the value under ``labels`` at each scrape."""
        self._readers[labels] = read

    def set(self, value: float, *labels: str) -> None:
        """Replace the value under ``labels``."""
        if labels in self.values or len(self.values) < self._max_series:
            self.values[labels] = value
        else:
            self.dropped += 1

    def samples(self) -> dict[Labels, float]:
        """The values now."""
        return {**self.values, **{labels: read() for labels, read in self._readers.items()}}


class Histogram:
    """How often values fell into buckets; ``series`` holds per label set the counts per bucket and the sum."""

    kind = "histogram"

    def __init__(self, name: str, doc: str, labels: Labels = (), buckets: tuple[float, ...] = LATENCY_BUCKETS) -> None:
        self.name = name
        self.doc = doc
        self.labels = labels
        self.buckets = buckets
        self.series: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count ``value`` under ``labels``."""
        found = self.series.get(labels)
        if found is None:
            found = self.series[labels] = ([0] * (len(self.buckets) + 1), [0.0])
        found[0][bisect_left(self.buckets, value)] += 1
        found[1][0] += value


Metric = Family | Gauge | Histogram
_Metric = TypeVar("_Metric", Family, Gauge, Histogram)


class Metrics:
    """All families of one broker. Declaring a name twice gives the same family."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def counter(self, name: str, doc: str, labels: Labels = ()) -> Family:
        """A family of counters."""
        return self._declare(Family(name, doc, labels))

    def gauge(self, name: str, doc: str, labels: Labels = (), read: Callable[[], float] | None = None) -> Gauge:
        """A family of gauges, or one gauge that is read at scrape time."""
        return self._declare(Gauge(name, doc, labels, read))

    def histogram(self, name: str, doc: str, labels: Labels = ()) -> Histogram:
        """A family of histograms over ``LATENCY_BUCKETS``, in seconds."""
        return self._declare(Histogram(name, doc, labels))

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def _declare(self, metric: _Metric) -> _Metric:
        present = self._families.setdefault(metric.name, metric)
        if type(present) is not type(metric) or present.labels != metric.labels:
            raise ValueError(f"metric {metric.name} is declared twice, differently")
        return present
