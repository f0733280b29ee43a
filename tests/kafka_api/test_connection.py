"""A connection as a client feels it: order, waiting, half requests, nonsense. The client is a bare socket."""

import re
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from logbroker.clock import ManualClock
from logbroker.errors import InvalidConfig
from logbroker.kafka_api.server import KafkaServer
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.raw import RawClient, batch, connected, decoded, fetch_body, frame, produce_body, request_frame
from tests.wire.peers import kafka_python_encode


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def broker(request: pytest.FixtureRequest) -> Iterator[RunningBroker]:
    """On both loops: they differ in what a closed transport does to who writes to it."""
    loops = pytest.importorskip(request.param)
    with running_broker(new_loop=loops.new_event_loop) as running:
        yield running


VERSIONS_BODY = kafka_python_encode(
    "ApiVersionsRequest", 3, {"client_software_name": "raw", "client_software_version": "1"}
)


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def serves(broker: RunningBroker) -> bool:
    """Whether another client is served."""
    with connected(broker) as other:
        answer = other.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)
        return answer["error_code"] == 0 and len(answer["api_keys"]) == len(Api)


# -- order -----------------------------------------------------------------------------------------------------------


def test_replies_come_in_the_order_of_the_requests_though_some_wait_for_a_flush(broker: RunningBroker) -> None:
    broker.create_topic("order")
    with connected(broker) as client:
        sent = []
        for number in range(200):
            if number % 2:
                sent.append((client.send(Api.PRODUCE, 9, produce_body(9, "order", batch(b"%d" % number))), Api.PRODUCE, 9))
            else:
                sent.append((client.send(Api.API_VERSIONS, 3, VERSIONS_BODY), Api.API_VERSIONS, 3))
        offsets = []
        for correlation_id, api, version in sent:
            answered, rest = client.receive()
            assert answered == correlation_id
            answer = decoded(api, version, rest)
            if api is Api.PRODUCE:
                offsets.append(answer["responses"][0]["partition_responses"][0]["base_offset"])
    assert offsets == list(range(100))


def test_requests_may_come_byte_by_byte(client: RawClient) -> None:
    for byte in request_frame(Api.API_VERSIONS, 3, 7, VERSIONS_BODY):
        client.socket.sendall(bytes((byte,)))
    assert client.receive()[0] == 7


def test_a_produce_without_acks_is_not_answered_and_what_follows_is(broker: RunningBroker, client: RawClient) -> None:
    broker.create_topic("silent")
    client.send(Api.PRODUCE, 9, produce_body(9, "silent", batch(b"x"), acks=0))
    assert client.send(Api.API_VERSIONS, 3, VERSIONS_BODY) == client.receive()[0]
    eventually(lambda: client.ask(Api.FETCH, 12, fetch_body(12, "silent"))["responses"][0]["partitions"][0]["records"])


def test_a_failed_produce_without_acks_closes_the_connection(client: RawClient) -> None:
    client.send(Api.PRODUCE, 9, produce_body(9, "no-such-topic", batch(b"x"), acks=0))
    assert client.is_closed_by_peer()


# -- long polls ------------------------------------------------------------------------------------------------------


def records_of(answer: dict[str, Any]) -> list[bytes]:
    return [partition["records"] for topic in answer["responses"] for partition in topic["partitions"]]


def test_a_parked_fetch_holds_up_its_own_connection_and_no_other(broker: RunningBroker) -> None:
    broker.create_topic("parked")
    with connected(broker) as waiting, connected(broker) as other:
        fetch = waiting.send(Api.FETCH, 12, fetch_body(12, "parked", max_wait_ms=60_000))
        behind = waiting.send(Api.API_VERSIONS, 3, VERSIONS_BODY)
        eventually(lambda: broker.services.waiting.count == 1)
        other.produce("parked", b"wake up")
        answered, rest = waiting.receive()
        assert answered == fetch
        assert b"wake up" in records_of(decoded(Api.FETCH, 12, rest))[0]
        assert waiting.receive()[0] == behind
    eventually(lambda: broker.services.waiting.count == 0)


def test_a_client_that_leaves_while_its_fetch_is_parked_leaves_nothing_behind(broker: RunningBroker) -> None:
    broker.create_topic("left")
    before = broker.connections
    leaving = RawClient(broker)
    leaving.send(Api.FETCH, 12, fetch_body(12, "left", max_wait_ms=60_000))
    eventually(lambda: broker.services.waiting.count == 1)
    leaving.close()
    eventually(lambda: broker.services.waiting.count == 0 and broker.connections == before)
    with connected(broker) as other:
        assert other.produce("left", b"nobody waits") == 0


def test_a_fetch_returns_when_its_time_is_up(broker: RunningBroker, client: RawClient) -> None:
    broker.create_topic("timely")
    began = time.monotonic()
    answer = client.ask(Api.FETCH, 12, fetch_body(12, "timely", max_wait_ms=60))
    assert records_of(answer) == [b""]
    assert 0.05 <= time.monotonic() - began < 5


def test_a_fetch_for_many_bytes_waits_for_them_or_takes_what_there_is(broker: RunningBroker) -> None:
    broker.create_topic("many")
    with connected(broker) as waiting, connected(broker) as other:
        waiting.send(Api.FETCH, 12, fetch_body(12, "many", max_wait_ms=60_000, min_bytes=500))
        other.produce("many", b"a" * 100)
        assert serves(broker)
        assert broker.services.waiting.count == 1
        other.produce("many", b"b" * 400)
        (records,) = records_of(waiting.answer(Api.FETCH, 12))
        assert len(records) >= 500
        answer = waiting.ask(Api.FETCH, 12, fetch_body(12, "many", max_wait_ms=50, min_bytes=1 << 20))
        assert records_of(answer) == [records]


def test_closing_the_broker_answers_who_waits() -> None:
    with running_broker() as broker:
        broker.create_topic("closing")
        client = RawClient(broker)
        client.send(Api.FETCH, 12, fetch_body(12, "closing", max_wait_ms=600_000))
        eventually(lambda: broker.services.waiting.count == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert records_of(client.answer(Api.FETCH, 12)) == [b""]
    assert client.is_closed_by_peer()
    client.close()


def send_what_is_taken(client: RawClient, data: bytes) -> int:
    """Send until nothing is taken for a while; how much was."""
    client.socket.setblocking(False)
    taken = 0
    deadline = time.monotonic() + 0.3
    while taken < len(data) and time.monotonic() < deadline:
        try:
            taken += client.socket.send(data[taken : taken + (1 << 16)])
            deadline = time.monotonic() + 0.3
        except BlockingIOError:
            time.sleep(0.005)
    return taken


def test_a_client_that_does_not_read_is_not_served_further_and_costs_no_other(broker: RunningBroker) -> None:
    broker.create_topic("deaf", max_message_bytes=1 << 22)
    with connected(broker) as writer:
        writer.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)
        writer.produce("deaf", b"x" * (1 << 20))
    served = broker.services.metrics.counter("requests_total", "", ("protocol", "api", "code")).values
    before = served["kafka", "Fetch", "NONE"]
    with connected(broker) as deaf:
        send_what_is_taken(deaf, request_frame(Api.FETCH, 12, 1, fetch_body(12, "deaf")) * 2_000)
        for _ in range(100):  # as many turns for the fetches
            assert serves(broker)
        assert served["kafka", "Fetch", "NONE"] - before < 60


def test_many_large_fetches_at_once_are_all_answered(broker: RunningBroker) -> None:
    broker.create_topic("bulky", max_message_bytes=1 << 22)
    with connected(broker) as client:
        client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)
        client.produce("bulky", b"x" * (1 << 20))
        body = fetch_body(12, "bulky")
        client.socket.sendall(b"".join(request_frame(Api.FETCH, 12, number, body) for number in range(60)))
        assert [client.receive()[0] for _ in range(60)] == list(range(60))


def test_what_comes_behind_a_parked_fetch_is_not_served_before_it(broker: RunningBroker) -> None:
    broker.create_topic("ahead")
    with connected(broker) as client, connected(broker) as other:
        client.send(Api.FETCH, 12, fetch_body(12, "ahead", max_wait_ms=60_000))
        body = {"topics": [{"name": "behind", "num_partitions": 1, "replication_factor": 1}], "timeout_ms": 1}
        client.send(Api.CREATE_TOPICS, 5, kafka_python_encode("CreateTopicsRequest", 5, body))
        eventually(lambda: broker.services.waiting.count == 1)
        assert serves(broker)
        assert "behind" not in {info.name for info in broker.services.engine.topics()}
        other.produce("ahead", b"x")
        client.answer(Api.FETCH, 12)
        assert client.answer(Api.CREATE_TOPICS, 5)["topics"][0]["error_code"] == 0


def test_a_client_behind_a_parked_fetch_is_held_back(broker: RunningBroker) -> None:
    broker.create_topic("dam")
    with connected(broker) as client:
        client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)
        client.send(Api.FETCH, 12, fetch_body(12, "dam", max_wait_ms=60_000))
        eventually(lambda: broker.services.waiting.count == 1)
        flood = request_frame(Api.API_VERSIONS, 3, 1, VERSIONS_BODY) * 1_000_000
        assert send_what_is_taken(client, flood) < 16 << 20
        assert serves(broker)


# -- nonsense --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
        struct.pack(">i", -1),
        struct.pack(">i", 2**31 - 1) + b"x",
        struct.pack(">i", 64 * 1024 + 1),
        frame(b""),
        frame(b"\0"),
        frame(struct.pack(">hhih", 999, 0, 1, -1)),
        frame(struct.pack(">hhih", Api.METADATA.key, 99, 1, -1)),
        frame(struct.pack(">hhih", Api.METADATA.key, 12, 1, 500)),
        frame(struct.pack(">hhih", Api.METADATA.key, 12, 1, -1)),
        request_frame(Api.PRODUCE, 9, 1, b"\xff" * 20),
        request_frame(Api.FETCH, 12, 1, b"\0" * 5),
    ],
    ids=[
        "http",
        "tls",
        "negative",
        "huge",
        "large-first",
        "empty",
        "short",
        "api",
        "version",
        "header",
        "body",
        "produce",
        "fetch",
    ],
)
def test_nonsense_closes_the_connection_and_nothing_else(broker: RunningBroker, client: RawClient, garbage: bytes) -> None:
    client.socket.sendall(garbage)
    assert client.is_closed_by_peer()
    assert serves(broker)


def test_a_body_that_cannot_be_read_is_answered_where_the_protocol_has_a_place(client: RawClient) -> None:
    client.socket.sendall(request_frame(Api.HEARTBEAT, 4, 5, b"\x7f"))
    answered, rest = client.receive()
    assert answered == 5
    assert decoded(Api.HEARTBEAT, 4, rest)["error_code"] == ErrorCode.INVALID_REQUEST


def test_half_a_request_harms_nobody(broker: RunningBroker) -> None:
    halves = []
    for _ in range(50):
        half = RawClient(broker)
        half.socket.sendall(request_frame(Api.API_VERSIONS, 3, 1, VERSIONS_BODY)[:9])
        halves.append(half)
    assert serves(broker)
    for half in halves:
        half.close()
    assert serves(broker)


def test_a_large_frame_is_taken_once_the_client_has_shown_that_it_speaks_kafka(broker: RunningBroker) -> None:
    broker.create_topic("large", max_message_bytes=1 << 23)
    with connected(broker) as client:
        assert client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)["error_code"] == 0
        assert client.produce("large", b"x" * (5 << 20)) == 0


def test_apiversions_of_a_later_version_is_answered_in_v0_with_the_table(client: RawClient) -> None:
    client.socket.sendall(request_frame(Api.API_VERSIONS, 3, 9, VERSIONS_BODY).replace(b"\0\x12\0\x03", b"\0\x12\0\x63", 1))
    answered, rest = client.receive()
    assert answered == 9
    answer = decoded(Api.API_VERSIONS, 0, rest)
    assert answer["error_code"] == ErrorCode.UNSUPPORTED_VERSION
    ranges = {one["api_key"]: (one["min_version"], one["max_version"]) for one in answer["api_keys"]}
    assert ranges == {api.key: (api.min_version, api.max_version) for api in Api}


@pytest.mark.parametrize(("api", "version"), [(Api.PRODUCE, 9), (Api.FETCH, 12), (Api.LIST_GROUPS, 2), (Api.METADATA, 9)])
def test_a_failure_nobody_foresaw_is_logged_once_and_answered(
    caplog: pytest.LogCaptureFixture, api: Api, version: int
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    bodies = {
        Api.PRODUCE: produce_body(9, "planted", batch(b"x")),
        Api.FETCH: fetch_body(12, "planted"),
        Api.LIST_GROUPS: b"",
        Api.METADATA: kafka_python_encode("MetadataRequest", 9, {"topics": [{"name": "planted"}]}),
    }
    with running_broker() as broker, connected(broker) as client:
        broker.create_topic("planted")
        services: Any = broker.services
        services.queues.kafka_refusal = services.engine.topic = services.groups.list_groups = fail
        answer = client.ask(api, version, bodies[api])
        assert str(int(ErrorCode.UNKNOWN_SERVER_ERROR)) in re.findall(r"'error_code': (-?\d+)", str(answer))
        assert client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)["error_code"] == 0
    planted = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ZeroDivisionError]
    assert len(planted) == 1
    caplog.clear()


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_frame_above_the_limit_closes_the_connection() -> None:
    with running_broker(kafka_max_frame_bytes=100_000) as broker, connected(broker) as client:
        assert client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)["error_code"] == 0
        client.socket.sendall(struct.pack(">i", 100_001))
        assert client.is_closed_by_peer()


def test_connections_above_the_limit_are_closed_at_once() -> None:
    with running_broker(kafka_max_connections=2) as broker:
        with connected(broker) as first, connected(broker) as second:
            for client in (first, second):
                assert client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)["error_code"] == 0
            with connected(broker) as third:
                assert third.is_closed_by_peer()
        eventually(lambda: broker.connections == 0)
        assert serves(broker)


def test_a_connection_that_is_idle_gives_memory_back_and_is_closed_at_last() -> None:
    clock = ManualClock()
    with running_broker(clock=clock, kafka_max_idle_ms=60_000) as broker, connected(broker) as client:
        client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)
        broker.create_topic("waited-for")
        with connected(broker) as waiting:
            waiting.send(Api.FETCH, 12, fetch_body(12, "waited-for", max_wait_ms=600_000))
            eventually(lambda: broker.services.waiting.count == 1)
            clock.advance(59_999)
            broker.call(broker.server.sweep)
            assert client.ask(Api.API_VERSIONS, 3, VERSIONS_BODY)["error_code"] == 0
            clock.advance(60_000)
            broker.call(broker.server.sweep)
            assert client.is_closed_by_peer()
            assert broker.services.waiting.count == 1


def test_what_changes_something_goes_on_although_its_client_has_gone(broker: RunningBroker) -> None:
    with connected(broker) as leaving:
        body = {"topics": [{"name": "left-behind", "num_partitions": 50, "replication_factor": 1}], "timeout_ms": 1}
        leaving.send(Api.CREATE_TOPICS, 5, kafka_python_encode("CreateTopicsRequest", 5, body))
    eventually(lambda: "left-behind" in {info.name for info in broker.services.engine.topics()})
    assert broker.call(lambda: broker.services.topics.get("left-behind").partitions) == 50


def test_every_address_needs_one_that_clients_are_told() -> None:
    with running_broker() as broker:
        with pytest.raises(InvalidConfig, match="kafka_advertised"):
            broker.do(KafkaServer(broker.services).start("0.0.0.0", 0))
        told = KafkaServer(broker.services)
        broker.do(told.start("0.0.0.0", 0, advertised=("broker.example", 9092)))
        port = int(broker.services.facts.listeners["kafka"].rpartition(":")[2])
        broker.address = f"127.0.0.1:{port}"
        with connected(broker) as client:
            (node,) = client.ask(Api.METADATA, 1, kafka_python_encode("MetadataRequest", 1, {"topics": []}))["brokers"]
            assert (node["host"], node["port"]) == ("broker.example", 9092)
        broker.do(told.stop())
