"""Plain counters: what is added is there, and a flood of label sets is cut and counted."""

import pytest

from logbroker.metrics import Family, Histogram, Metrics


def test_a_name_is_one_family_however_often_it_is_declared() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.", ("x",)).add(2, "one")
    metrics.counter("a_total", "A.", ("x",)).add(3, "one")
    [family] = metrics
    assert isinstance(family, Family)
    assert family.values == {("one",): 5}


def test_a_name_declared_differently_is_a_mistake() -> None:
    metrics = Metrics()
    metrics.counter("a", "A.")
    with pytest.raises(ValueError, match="declared twice"):
        metrics.gauge("a", "A.")
    with pytest.raises(ValueError, match="declared twice"):
        metrics.counter("a", "A.", ("x",))


def test_series_beyond_the_limit_are_dropped_and_counted() -> None:
    family = Family("a_total", "A.", ("x",), max_series=2)
    for name in ("one", "two", "three", "four", "one"):
        family.add(1, name)
    assert (family.values, family.dropped) == ({("one",): 2, ("two",): 1}, 2)


def test_gauges_are_set_or_read() -> None:
    gauge = Metrics().gauge("open", "Open.", ("protocol",))
    gauge.set(1, "http")
    gauge.read_from(lambda: 7, "kafka")
    assert gauge.samples() == {("http",): 1, ("kafka",): 7}


def test_a_histogram_counts_a_value_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram("h", "H.", buckets=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.series == {(): ([2, 1, 1], [12.0])}
