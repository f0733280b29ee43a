"""A tool that believes the description makes requests from it, good ones and bad ones, against a live server."""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from logbroker.broker.queue_sends import QueueMessage
from logbroker.broker.services import services_on
from logbroker.clock import SystemClock
from logbroker.config import TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.http_api.openapi import openapi_document
from logbroker.http_api.requests import NDJSON, RECORD_BATCH
from logbroker.http_api.routes import ROUTES
from logbroker.http_api.server import HttpServer
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from logbroker.queues.settings import QueueSettings
from tests.http_api.conftest import CONFIG

NOT_ENDING = "tail"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

GROUPS = itertools.count()
NAMED_BY_US = {"put_topic", "delete_topic", "put_queue", "delete_queue"}
"""Operations that make or remove topics and queues: they get their own, or others would find what should not be there."""


@schemathesis.serializer(NDJSON)  # type: ignore[untyped-decorator]  # schemathesis is not typed for us
def as_lines(context: Any, value: Any) -> bytes:
    """A stream of one line."""
    return json.dumps(value).encode() + b"\n"


def document() -> dict[str, Any]:
    """The description, but with the topic and the partitions that there are."""
    described = openapi_document(ROUTES)
    for path in described["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                there = {"topic": ["orders"], "partition": [0, 1], "queue": ["jobs"]}.get(parameter["name"])
                if there and parameter["in"] == "path" and operation["operationId"] not in NAMED_BY_US:
                    parameter["schema"] = {"enum": there}
    return described


schema = schemathesis.openapi.from_dict(document()).exclude(operation_id=NOT_ENDING)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server on a loop of its own, with a topic to find things in."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        clock = SystemClock()
        engine = EmbeddedEngine(MemoryFiles(), CONFIG, TopicConfig(), clock)
        await engine.start()
        await engine.create_topic("orders", 2, {})
        await engine.append(TopicPartition("orders", 0), [Record(b"x"), Record(None, b"k")])
        services = services_on(engine, clock, CONFIG, "cluster")
        await services.groups.start()
        await services.transactions.start()
        await services.queues.ensure("jobs", QueueSettings())
        await services.queue_sends.send("jobs", [QueueMessage(Record(b"x"))] * 20)
        server = HttpServer(services)
        await server.start("127.0.0.1", 0)
        started.append(server.url)
        ready.set()
        await stop.wait()
        await server.stop()
        await services.members.close()
        await services.operations.stop()
        await services.queues.stop()
        await services.transactions.stop()
        await services.groups.stop()
        await engine.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="server")
    thread.start()
    assert ready.wait(10)
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@schemathesis.serializer(RECORD_BATCH)  # type: ignore[untyped-decorator]  # schemathesis is not typed for us
def as_bytes(context: Any, value: Any) -> bytes:
    """Bytes that are hardly a record batch."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schema.parametrize()  # type: ignore[untyped-decorator]  # schemathesis is not typed for us
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_door_does_what_its_description_says(case: Any, url: str) -> None:
    named_by_us = case.operation.definition.raw["operationId"] in NAMED_BY_US
    if named_by_us:
        case.path_parameters = dict.fromkeys(case.path_parameters, "made")
    if case.operation.definition.raw["operationId"] == "join_group":
        case.path_parameters["group"] = f"g{next(GROUPS)}"  # a second member would wait for the first, which is silent
    for given in (case.query, case.body):
        if isinstance(given, dict) and isinstance(given.get("wait_ms"), int) and 20 < given["wait_ms"] <= 60_000:
            given["wait_ms"] = 20
    response = case.call(base_url=url, timeout=10)
    nobody_listens = b"NO_RESPONDERS" in response.content  # is a 503, and right: nobody serves
    case.validate_response(response, checks=CHECKS[1:] if nobody_listens else CHECKS)
    if not (named_by_us or case.media_type == NDJSON or response.status_code == 413):
        case.validate_response(response, checks=[negative_data_rejection])
