"""One broker for the tests of a module, and what every test of the door demands: nothing is logged as an error."""

import logging
from collections.abc import Iterator

import pytest

from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.raw import RawClient, connected


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with running_broker() as running:
        yield running


@pytest.fixture
def client(broker: RunningBroker) -> Iterator[RawClient]:
    with connected(broker) as raw:
        yield raw


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    # Clients log to the same place; what the door, the engine or the loop say counts.
    ours = [record for record in caplog.records if record.name.partition(".")[0] in ("logbroker", "asyncio")]
    assert [record.getMessage() for record in ours if record.levelno >= logging.WARNING or record.exc_info] == []
