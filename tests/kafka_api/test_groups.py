"""Consumer groups of real clients: 1, 3 and 5 members that join, leave and die; positions committed and resumed."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from logbroker.log.files.memory import MemoryFiles
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.group_members import PARTITIONS, TIMEOUT_S, Member, is_split, send, until
from tests.kafka_api.kafka_python import KafkaConsumer
from tests.kafka_api.member import consumer_settings
from tests.kafka_api.raw import RawClient
from tests.wire.peers import kafka_python_encode

ROOT = Path(__file__).parents[2]
STRATEGIES = ["range", "roundrobin", "cooperative-sticky", "consumer"]


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with running_broker() as running:
        yield running


@pytest.fixture
def topic(broker: RunningBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, PARTITIONS)
    return name


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def admin(broker: RunningBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.address})


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_members_share_the_partitions_and_process_every_record_once(
    broker: RunningBroker, topic: str, group: str, strategy: str, count: int
) -> None:
    members = [Member(broker, group, topic, strategy) for _ in range(count)]
    try:
        until(lambda: is_split(members), f"{[member.assigned for member in members]}")
        values = [f"{number}" for number in range(120)]
        send(broker, topic, values)
        until(lambda: sum(len(member.seen) for member in members) >= len(values))
    finally:
        for member in members:
            member.leave()
    seen = [value for member in members for _, _, value in member.seen]
    assert sorted(seen, key=int) == values
    for member in members:
        for number in range(PARTITIONS):
            offsets = [offset for partition, offset, _ in member.seen if partition == number]
            assert offsets == sorted(offsets)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky", "consumer"])
def test_members_join_and_leave_and_no_record_is_missed(
    broker: RunningBroker, topic: str, group: str, strategy: str
) -> None:
    values = [f"{number}" for number in range(360)]
    first = Member(broker, group, topic, strategy)
    members = [first]
    try:
        until(lambda: is_split([first]))
        send(broker, topic, values[:120])
        members += [Member(broker, group, topic, strategy) for _ in range(2)]
        until(lambda: is_split(members))
        send(broker, topic, values[120:240])
        first.leave()
        until(lambda: is_split(members[1:]))
        send(broker, topic, values[240:])
        until(lambda: {value for member in members for _, _, value in member.seen} >= set(values))
    finally:
        for member in members:
            member.leave()


@pytest.mark.parametrize("strategy", ["range", "consumer"])
def test_a_member_that_dies_is_replaced_after_its_session(
    broker: RunningBroker, topic: str, group: str, strategy: str
) -> None:
    command = [sys.executable, "-m", "tests.kafka_api.member", broker.address, group, topic, strategy]
    doomed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    survivor = Member(broker, group, topic, strategy)
    try:
        until(lambda: len(survivor.assigned) == PARTITIONS // 2)
        values = [f"{number}" for number in range(240)]
        send(broker, topic, values)
        assert doomed.stdout is not None
        lines = (line.split() for line in doomed.stdout)
        processed = [next(words for words in lines if len(words) == 3) for _ in range(20)]
        doomed.send_signal(signal.SIGKILL)
        processed += [words for words in lines if len(words) == 3]
        until(lambda: is_split([survivor]))
        committed = {value for _, _, value in processed}
        # One record may have been committed by the dead member without its having come to print it.
        until(lambda: len({value for _, _, value in survivor.seen} | committed) >= len(values) - 1)
        assert not {value for _, _, value in survivor.seen} & committed
    finally:
        doomed.kill()
        doomed.communicate()
        survivor.leave()


@pytest.mark.parametrize(
    "strategies", [("range", "range"), ("consumer", "consumer"), ("range", "consumer"), ("consumer", "range")]
)
def test_a_group_goes_on_where_it_has_committed(
    broker: RunningBroker, topic: str, group: str, strategies: tuple[str, str]
) -> None:
    send(broker, topic, [f"{number}" for number in range(60)])
    first = Member(broker, group, topic, strategies[0])
    until(lambda: len(first.seen) == 60)
    first.leave()
    send(broker, topic, [f"{number}" for number in range(60, 84)])
    second = Member(broker, group, topic, strategies[1])
    try:
        until(lambda: len(second.seen) >= 24)
    finally:
        second.leave()
    assert sorted(int(value) for _, _, value in second.seen) == list(range(60, 84))


def test_committed_offsets_and_groups_survive_a_restart(group: str) -> None:
    files = MemoryFiles()
    with running_broker(files) as broker:
        broker.create_topic("kept", PARTITIONS)
        consumer = Consumer(consumer_settings(broker.address, group, "range"))
        consumer.commit(offsets=[TopicPartition("kept", 3, 17, "a note")], asynchronous=False)
        consumer.close()
    with running_broker(files) as broker:
        consumer = Consumer(consumer_settings(broker.address, group, "range"))
        (found,) = consumer.committed([TopicPartition("kept", 3)], TIMEOUT_S)
        assert (found.offset, found.metadata) == (17, "a note")
        consumer.close()


def test_a_consumer_seeks_to_a_time_within_its_group(broker: RunningBroker, topic: str, group: str) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    now_ms = int(time.time() * 1000)
    for number in range(10):
        producer.produce(topic, f"{number}", partition=0, timestamp=now_ms - 10_000 + number * 1000)
        producer.flush(TIMEOUT_S)
    consumer = Consumer(consumer_settings(broker.address, group, "range"))
    consumer.subscribe([topic])
    while consumer.poll(0.1) is None:
        pass
    (position,) = consumer.offsets_for_times([TopicPartition(topic, 0, now_ms - 4_500)], TIMEOUT_S)
    consumer.seek(position)
    message = None
    while message is None or message.error():
        message = consumer.poll(0.1)
    assert message.value() == b"6"
    consumer.close()


@pytest.mark.parametrize("strategy", ["range", "consumer"])
def test_static_members_come_back_without_a_rebalance(broker: RunningBroker, topic: str, group: str, strategy: str) -> None:
    def member(instance: str) -> Consumer:
        consumer = Consumer({**consumer_settings(broker.address, group, strategy), "group.instance.id": instance})
        consumer.subscribe([topic])
        return consumer

    def poll_until_assigned(*consumers: Consumer) -> None:
        def assigned() -> bool:
            for consumer in consumers:
                consumer.poll(0.02)
            return sorted(len(consumer.assignment()) for consumer in consumers) == [PARTITIONS // 2] * 2

        until(assigned)

    first, second = member("one"), member("two")
    poll_until_assigned(first, second)
    generation = broker.do(broker.services.groups.describe(group)).generation
    before = sorted(one.partition for one in second.assignment())
    second.close()
    again = member("two")
    poll_until_assigned(first, again)
    assert sorted(one.partition for one in again.assignment()) == before
    assert broker.do(broker.services.groups.describe(group)).generation == generation
    first.close()
    again.close()


# -- other clients ---------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_aiokafka_members_share_and_process_everything(broker: RunningBroker, topic: str, group: str) -> None:
    values = [f"{number}" for number in range(120)]
    seen: list[str] = []

    async def consume() -> None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=broker.address,
            group_id=group,
            auto_offset_reset="earliest",
            session_timeout_ms=2_000,
            heartbeat_interval_ms=200,
            enable_auto_commit=False,
        )
        await consumer.start()
        while not complete():
            for messages in (await consumer.getmany(timeout_ms=100)).values():
                seen.extend(message.value.decode() for message in messages)
                with contextlib.suppress(CommitFailedError):
                    await consumer.commit()
        await consumer.stop()

    def complete() -> bool:
        return set(seen) >= set(values)

    await asyncio.to_thread(send, broker, topic, values)
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(consume() for _ in range(3)))
    committed = await asyncio.to_thread(broker.do, broker.services.groups.fetch_offsets(group))
    assert 0 < sum(one.offset for one in committed.values()) <= len(values)


def test_a_kafka_python_group_processes_everything(broker: RunningBroker, topic: str, group: str) -> None:
    values = [f"{number}" for number in range(60)]
    send(broker, topic, values)
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.address,
        group_id=group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=15_000,
        enable_auto_commit=False,
    )
    seen = []
    for message in consumer:
        seen.append(message.value.decode())
        if len(seen) == len(values):
            break
    consumer.commit()
    consumer.close()
    assert sorted(seen, key=int) == values
    committed = broker.do(broker.services.groups.fetch_offsets(group))
    assert sum(one.offset for one in committed.values()) == len(values)


# -- administration --------------------------------------------------------------------------------------------------


def test_groups_are_listed_described_altered_and_deleted(
    broker: RunningBroker, admin: AdminClient, topic: str, group: str
) -> None:
    member = Member(broker, group, topic)
    until(lambda: is_split([member]))
    listed = {one.group_id: one for one in admin.list_consumer_groups().result(TIMEOUT_S).valid}
    assert listed[group].state is ConsumerGroupState.STABLE
    described = admin.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert described.partition_assignor == "range"
    assert [len(one.assignment.topic_partitions) for one in described.members] == [PARTITIONS]
    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    member.leave()
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 1, 42)])
    (altered,) = admin.alter_consumer_group_offsets([asked]).values()
    assert altered.result(TIMEOUT_S).topic_partitions[0].error is None
    (listed_offsets,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    assert [(one.partition, one.offset) for one in listed_offsets.result(TIMEOUT_S).topic_partitions] == [(1, 42)]
    admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
    assert group not in {one.group_id for one in admin.list_consumer_groups().result(TIMEOUT_S).valid}


def test_what_is_asked_of_groups_that_are_not_there_is_answered_as_kafka_does(client: RawClient, topic: str) -> None:
    described = client.call(Api.DESCRIBE_GROUPS, 5, groups=["nobody"], include_authorized_operations=True)
    assert [(one["group_state"], one["error_code"]) for one in described["groups"]] == [("Dead", 0)]
    deleted = client.call(Api.DELETE_GROUPS, 2, groups_names=["nobody"])
    assert deleted["results"][0]["error_code"] == ErrorCode.GROUP_ID_NOT_FOUND
    fetched = client.call(
        Api.OFFSET_FETCH,
        8,
        groups=[{"group_id": "nobody", "topics": [{"name": topic, "partition_indexes": [0, 1]}]}],
        require_stable=True,
    )
    assert [one["committed_offset"] for one in fetched["groups"][0]["topics"][0]["partitions"]] == [-1, -1]
    beat = client.call(Api.HEARTBEAT, 4, group_id="nobody", generation_id=1, member_id="m", group_instance_id=None)
    assert beat["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID
    committed = client.call(
        Api.OFFSET_COMMIT,
        8,
        group_id="nobody",
        generation_id_or_member_epoch=7,
        member_id="m",
        group_instance_id=None,
        topics=[
            {
                "name": topic,
                "partitions": [
                    {"partition_index": 0, "committed_offset": 1, "committed_leader_epoch": -1, "committed_metadata": ""}
                ],
            }
        ],
    )
    codes = [one["error_code"] for one in committed["topics"][0]["partitions"]]
    assert codes in ([ErrorCode.UNKNOWN_MEMBER_ID], [ErrorCode.ILLEGAL_GENERATION])


def test_closing_the_broker_sends_a_member_that_waits_in_a_join_away() -> None:
    with running_broker(group_initial_rebalance_delay_ms=60_000) as broker:
        client = RawClient(broker)
        fields = {
            "group_id": "g",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b""}],
            "group_instance_id": None,
            "reason": None,
        }
        first = client.call(Api.JOIN_GROUP, 9, member_id="", **fields)
        assert first["error_code"] == ErrorCode.MEMBER_ID_REQUIRED
        client.send(
            Api.JOIN_GROUP, 9, kafka_python_encode("JoinGroupRequest", 9, {"member_id": first["member_id"], **fields})
        )
        until(lambda: broker.do(broker.services.groups.describe("g")).state.value == "PreparingRebalance")
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    assert client.answer(Api.JOIN_GROUP, 9)["error_code"] == ErrorCode.COORDINATOR_NOT_AVAILABLE
    client.close()
