"""The consumer protocol (KIP-848) at the Kafka door: on the wire, and by librdkafka in groups of up to 50."""

import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupType, TopicPartition
from confluent_kafka.admin import AdminClient

from logbroker.groups.messages import GroupKind
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker
from tests.kafka_api.group_members import PARTITIONS, TIMEOUT_S, Member, is_split, send, until
from tests.kafka_api.member import consumer_settings
from tests.kafka_api.raw import RawClient


@pytest.fixture
def topic(broker: RunningBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, PARTITIONS)
    return name


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def members(broker: RunningBroker) -> Iterator[list[Member]]:
    """Members that a test starts; those that have not left leave at its end."""
    started: list[Member] = []
    yield started
    for member in started:
        member.leave()


# -- on the wire ---------------------------------------------------------------------------------------------------------


def beat(client: RawClient, group: str, member_id: str, epoch: int, version: int = 1, **said: Any) -> dict[str, Any]:
    fields = {"group_id": group, "member_id": member_id, "member_epoch": epoch, **said}
    return client.call(Api.CONSUMER_GROUP_HEARTBEAT, version, **fields)


def join(client: RawClient, group: str, member_id: str, topic: str, version: int = 1, **said: Any) -> dict[str, Any]:
    wish = {"subscribed_topic_names": (topic,), "rebalance_timeout_ms": 1_000, "topic_partitions": (), **said}
    return beat(client, group, member_id, 0, version, **wish)


def test_a_member_gets_partitions_by_topic_id_and_leaves(
    broker: RunningBroker, client: RawClient, topic: str, group: str
) -> None:
    told = join(client, group, "a", topic)
    assert (told["error_code"], told["member_id"], told["member_epoch"]) == (ErrorCode.NONE, "a", 1)
    assert told["heartbeat_interval_ms"] == 200
    topic_id = broker.call(lambda: broker.services.engine.topic(topic).id)
    owned = [{"topic_id": topic_id, "partitions": list(range(PARTITIONS))}]
    assert told["assignment"] == {"topic_partitions": owned}
    assert beat(client, group, "a", 1, topic_partitions=owned)["assignment"] is None
    assert beat(client, group, "a", -1)["member_epoch"] == -1
    assert beat(client, group, "a", 1)["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_broker_makes_the_member_id_in_version_0_only(client: RawClient, topic: str, group: str) -> None:
    assert len(join(client, group, "", topic, version=0)["member_id"]) > 20
    assert join(client, f"{group}-1", "", topic)["error_code"] == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"server_assignor": "mine"}, ErrorCode.UNSUPPORTED_ASSIGNOR),
        ({"subscribed_topic_regex": "(a"}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        ({"instance_id": "i" * 250}, ErrorCode.INVALID_REQUEST),
        ({"rebalance_timeout_ms": -1}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_refusals_carry_kafkas_numbers(
    client: RawClient, topic: str, group: str, said: dict[str, Any], code: ErrorCode
) -> None:
    told = join(client, group, "a", topic, **said)
    assert told["error_code"] == code
    assert told["error_message"]


def test_fencing_carries_kafkas_numbers(client: RawClient, topic: str, group: str) -> None:
    join(client, group, "a", topic, instance_id="i")
    assert beat(client, group, "a", 7)["error_code"] == ErrorCode.FENCED_MEMBER_EPOCH
    assert join(client, group, "b", topic, instance_id="i")["error_code"] == ErrorCode.UNRELEASED_INSTANCE_ID
    assert beat(client, group, "b", 1, instance_id="i")["error_code"] == ErrorCode.FENCED_INSTANCE_ID


def commit(client: RawClient, group: str, member_id: str, epoch: int, topic: str) -> int:
    partitions = [{"partition_index": 0, "committed_offset": 3}]
    told = client.call(
        Api.OFFSET_COMMIT,
        9,
        group_id=group,
        generation_id_or_member_epoch=epoch,
        member_id=member_id,
        topics=[{"name": topic, "partitions": partitions}],
    )
    return int(told["topics"][0]["partitions"][0]["error_code"])


def fetch(client: RawClient, group: str, member_id: str | None, epoch: int, topic: str) -> tuple[int, int]:
    wanted = {"group_id": group, "member_id": member_id, "member_epoch": epoch}
    told = client.call(
        Api.OFFSET_FETCH, 9, groups=[{**wanted, "topics": [{"name": topic, "partition_indexes": [0]}]}], require_stable=True
    )
    (answer,) = told["groups"]
    offsets = [one["committed_offset"] for one in answer["topics"] for one in one["partitions"]]
    return int(answer["error_code"]), offsets[0] if offsets else -2


def test_offsets_are_committed_and_fetched_by_member_epoch(client: RawClient, topic: str, group: str) -> None:
    epoch = join(client, group, "a", topic)["member_epoch"]
    assert commit(client, group, "a", epoch + 1, topic) == ErrorCode.STALE_MEMBER_EPOCH
    assert commit(client, group, "b", epoch, topic) == ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(client, group, "a", epoch, topic) == ErrorCode.NONE
    assert fetch(client, group, "a", epoch, topic) == (ErrorCode.NONE, 3)
    assert fetch(client, group, None, -1, topic) == (ErrorCode.NONE, 3)
    assert fetch(client, group, "a", epoch + 1, topic) == (ErrorCode.STALE_MEMBER_EPOCH, -2)
    assert fetch(client, group, "b", epoch, topic) == (ErrorCode.UNKNOWN_MEMBER_ID, -2)


def listed(client: RawClient, group: str, *kinds: str) -> list[tuple[str, str]]:
    told = client.call(Api.LIST_GROUPS, 5, states_filter=(), types_filter=kinds)
    return [(one["group_type"], one["group_state"]) for one in told["groups"] if one["group_id"] == group]


def test_groups_are_listed_by_type_and_described_by_the_api_of_their_protocol(
    client: RawClient, topic: str, group: str
) -> None:
    join(client, group, "a", topic, rack_id="r1")
    assert listed(client, group) == listed(client, group, "Consumer") == [("consumer", "Stable")]
    assert listed(client, group, "classic") == []
    (classic,) = client.call(Api.DESCRIBE_GROUPS, 5, groups=(group,))["groups"]
    assert (classic["error_code"], classic["group_state"]) == (ErrorCode.NONE, "Dead")
    described = client.call(Api.CONSUMER_GROUP_DESCRIBE, 1, group_ids=(group, "nowhere"))["groups"]
    assert [one["error_code"] for one in described] == [ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND]
    assert (described[0]["group_epoch"], described[0]["assignment_epoch"], described[0]["assignor_name"]) == (
        1,
        1,
        "uniform",
    )
    (member,) = described[0]["members"]
    assert (member["member_id"], member["rack_id"], member["member_epoch"], member["member_type"]) == ("a", "r1", 1, 1)
    assert member["assignment"] == member["target_assignment"]
    assert member["assignment"]["topic_partitions"][0]["topic_name"] == topic


@pytest.mark.parametrize("name", ["", None])
def test_metadata_by_id_needs_no_name(broker: RunningBroker, client: RawClient, topic: str, name: str | None) -> None:
    """Java's consumer asks so for the topics that a pattern brought it."""
    topic_id = broker.call(lambda: broker.services.engine.topic(topic).id)
    unknown = uuid.uuid4()
    wanted = [{"topic_id": one, "name": name} for one in (topic_id, unknown)]
    found, missing = client.call(Api.METADATA, 13, topics=wanted, allow_auto_topic_creation=True)["topics"]
    assert (found["error_code"], found["name"], len(found["partitions"])) == (ErrorCode.NONE, topic, PARTITIONS)
    assert (missing["error_code"], missing["topic_id"]) == (ErrorCode.UNKNOWN_TOPIC_ID, unknown)


# -- librdkafka ----------------------------------------------------------------------------------------------------------


def test_partitions_that_stay_are_read_all_through_a_rebalance(
    broker: RunningBroker, topic: str, group: str, members: list[Member]
) -> None:
    """The first member is never without the partitions that it keeps, while two others come in."""
    first = Member(broker, group, topic, "consumer")
    members.append(first)
    until(lambda: is_split(members))
    kept: list[set[int]] = [set(first.assigned)]
    members += [Member(broker, group, topic, "consumer") for _ in range(2)]
    deadline = time.monotonic() + TIMEOUT_S
    while not is_split(members):
        assert time.monotonic() < deadline
        kept.append(set(first.assigned))
        time.sleep(0.001)
    kept.append(set(first.assigned))
    assert all(later <= earlier for earlier, later in pairwise(kept))
    assert len(kept[-1]) == PARTITIONS // 3


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_group_changes_its_protocol_member_by_member_and_no_record_is_missed(
    broker: RunningBroker, topic: str, group: str, members: list[Member], strategy: str, direction: str
) -> None:
    """Rolling upgrade and downgrade: each step replaces one of three members."""
    before, after = (strategy, "consumer") if direction == "up" else ("consumer", strategy)
    present = [Member(broker, group, topic, before) for _ in range(3)]
    members += present
    until(lambda: is_split(present))
    values: list[str] = []
    for _ in range(3):
        more = [f"{len(values) + number}" for number in range(60)]
        values += more
        send(broker, topic, more)
        present.pop(0).leave()
        present.append(Member(broker, group, topic, after))
        members.append(present[-1])
        until(lambda: is_split(present))
    until(lambda: {value for member in members for _, _, value in member.seen} >= set(values))
    kind = broker.do(broker.services.groups.describe(group)).kind
    assert kind is (GroupKind.CONSUMER if direction == "up" else GroupKind.CLASSIC)


@pytest.mark.slow
def test_fifty_members_share_fifty_partitions_and_read_everything(
    broker: RunningBroker, group: str, members: list[Member]
) -> None:
    name = f"wide-{group}"
    broker.create_topic(name, 50)
    small = {"queued.max.messages.kbytes": 1024, "statistics.interval.ms": 0}
    members += [Member(broker, group, name, "consumer", **small) for _ in range(50)]
    until(lambda: sorted(map(tuple, (member.assigned for member in members))) == [(n,) for n in range(50)], "not even")
    values = [f"{number}" for number in range(500)]
    send(broker, name, values, partitions=50)
    until(lambda: {value for member in members for _, _, value in member.seen} >= set(values), "not all read")


def test_a_pattern_is_matched_by_the_broker_and_finds_topics_made_later(broker: RunningBroker, group: str) -> None:
    prefix = f"re-{uuid.uuid4().hex[:8]}"
    broker.create_topic(f"{prefix}-eu", 2)
    consumer = Consumer(consumer_settings(broker.address, group, "consumer"))
    consumer.subscribe([f"^{prefix}-(eu|us)$"])

    def assigned() -> set[tuple[str, int]]:
        consumer.poll(0.05)
        return {(one.topic.removeprefix(f"{prefix}-"), one.partition) for one in consumer.assignment()}

    until(lambda: assigned() == {("eu", 0), ("eu", 1)})
    broker.create_topic(f"{prefix}-us", 1)
    broker.create_topic(f"{prefix}-asia", 1)
    until(lambda: assigned() == {("eu", 0), ("eu", 1), ("us", 0)})
    consumer.close()


def test_the_admin_client_sees_type_and_target(
    broker: RunningBroker, topic: str, group: str, members: list[Member]
) -> None:
    members.append(Member(broker, group, topic, "consumer"))
    until(lambda: is_split(members))
    admin = AdminClient({"bootstrap.servers": broker.address})
    found = admin.list_consumer_groups(types={ConsumerGroupType.CONSUMER}).result(TIMEOUT_S).valid
    assert [one.type for one in found if one.group_id == group] == [ConsumerGroupType.CONSUMER]
    described = admin.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert described.type is ConsumerGroupType.CONSUMER
    (member,) = described.members
    expected = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    assert sorted(member.assignment.topic_partitions) == sorted(member.target_assignment.topic_partitions) == expected
