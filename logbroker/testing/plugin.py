"""The pytest plugin: brokers as fixtures. Loaded by every pytest run where logbroker is installed, so imports stay cheap.

Fixtures: ``logbroker`` (a broker in memory, served on free ports), ``logbroker_clock`` (the manual clock it runs on, moved
by ``logbroker.advance``), ``logbroker_server`` (one that runs on real time), ``make_logbroker`` (as many as wanted).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from logbroker.clock import ManualClock
    from logbroker.testing.broker import LocalBroker

KEEP = "--logbroker-keep"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's option."""
    parser.getgroup("logbroker").addoption(
        KEEP,
        action="store_true",
        help="Keep the data of test brokers in each test's tmp_path, instead of in memory, to be looked at afterwards. "
        "Faults of the disk have no effect then.",
    )


@pytest.fixture
def make_logbroker(request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[Callable[..., LocalBroker]]":
    """Makes brokers: ``make_logbroker(clock=..., **settings)``. Each serves on free ports and stops with the test."""
    from logbroker.testing.broker import LocalBroker

    made: list[LocalBroker] = []

    def make(clock: "ManualClock | None" = None, **settings: Any) -> LocalBroker:
        path = tmp_path / f"logbroker-{len(made)}" if request.config.getoption(KEEP) else None
        broker = LocalBroker(clock, path, **settings)
        made.append(broker)
        return broker.start()

    yield make
    for broker in reversed(made):
        broker.stop()


@pytest.fixture
def logbroker_clock() -> "ManualClock":
    """The clock of the ``logbroker`` fixture; move it by ``logbroker.advance("15m")``."""
    from logbroker.clock import ManualClock

    return ManualClock()


@pytest.fixture
def logbroker(make_logbroker: "Callable[..., LocalBroker]", logbroker_clock: "ManualClock") -> "LocalBroker":
    """A broker in memory whose time stands still until it is moved."""
    return make_logbroker(clock=logbroker_clock)


@pytest.fixture
def logbroker_server(make_logbroker: "Callable[..., LocalBroker]") -> "LocalBroker":
    """A broker in memory on real time, for clients that have clocks of their own: ``.http_url`` and ``.kafka``."""
    return make_logbroker()
