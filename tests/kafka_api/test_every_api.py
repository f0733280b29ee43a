"""Every API in every version: what other codecs write is served, and what we answer they read."""

import contextlib
from random import Random
from typing import Any

import pytest

from logbroker.kafka_api.handlers import handlers_on
from logbroker.wire.apis import Api
from tests.kafka_api.broker import RunningBroker
from tests.kafka_api.raw import RawClient
from tests.wire.peers import COLD_VERSIONS, ids, kafka_python_encode, sample

SAMPLES = 6


def test_every_api_of_the_table_has_a_handler(broker: RunningBroker) -> None:
    assert broker.call(lambda: set(handlers_on(broker.services))) == set(Api)


def modest(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Random values with a topic that is there now and then, and numbers that do not fill the machine."""
    for name, value in values.items():
        if isinstance(value, dict):
            modest(value, names)
        elif isinstance(value, list | tuple):
            for one in value:
                if isinstance(one, dict):
                    modest(one, names)
        elif isinstance(value, int) and not isinstance(value, bool) and name in ("num_partitions", "count"):
            values[name] = value % 5
        elif isinstance(value, str) and name in ("name", "topic", "resource_name") and len(value) < 3:
            values[name] = names.copy().pop()
    return values


@pytest.mark.parametrize(("api", "version"), COLD_VERSIONS, ids=ids)
def test_random_requests_are_answered(broker: RunningBroker, client: RawClient, api: Api, version: int) -> None:
    with contextlib.suppress(Exception):
        broker.create_topic("known", 2)
    for seed in range(SAMPLES):
        values = modest(sample(f"{api.message_name}Request", version, Random(seed)), {"known"})
        body = kafka_python_encode(f"{api.message_name}Request", version, values)
        answer = client.ask(api, version, body)
        assert isinstance(answer, dict)
