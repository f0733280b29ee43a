"""Every API in every version: what other codecs write is served, and what we answer they read."""

import contextlib
from random import Random
from typing import Any

import pytest

from logbroker.kafka_api.handlers import handlers_on
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker
from tests.kafka_api.raw import RawClient, decoded, request_frame
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


def with_long_texts(value: Any) -> Any:
    """The same with every text as long as the protocol lets it be."""
    if isinstance(value, dict):
        return {name: with_long_texts(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return tuple(with_long_texts(one) for one in value)
    return "\x00é" * 10_900 if isinstance(value, str) else value


@pytest.mark.parametrize(("api", "version"), COLD_VERSIONS, ids=ids)
def test_long_texts_are_answered_too(client: RawClient, api: Api, version: int) -> None:
    client.call(Api.API_VERSIONS, 0)
    for seed in range(3):
        values = with_long_texts(sample(f"{api.message_name}Request", version, Random(seed)))
        answer = client.ask(api, version, kafka_python_encode(f"{api.message_name}Request", version, values))
        assert isinstance(answer, dict)


def test_a_long_client_id_is_not_carried_over_into_longer_names(client: RawClient) -> None:
    fields = {
        "group_id": "g",
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b""}],
    }
    client.socket.sendall(
        request_frame(Api.JOIN_GROUP, 4, 1, kafka_python_encode("JoinGroupRequest", 4, fields), client_id=b"c" * 32_767)
    )
    answer = decoded(Api.JOIN_GROUP, 4, client.receive()[1])
    assert answer["error_code"] == ErrorCode.MEMBER_ID_REQUIRED
    assert len(answer["member_id"]) < 500
