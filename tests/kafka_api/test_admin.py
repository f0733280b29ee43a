"""Administration by real clients: topics, partitions, configurations, records, and what the cluster says of itself."""

import time
import uuid
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from logbroker.config import TOPIC_SETTINGS
from logbroker.log.files.memory import MemoryFiles
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.kafka_python import KafkaAdminClient
from tests.kafka_api.raw import RawClient

TIMEOUT_S = 20


@pytest.fixture(scope="module")
def admin(broker: RunningBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.address})


@pytest.fixture
def topic(broker: RunningBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, 2)
    return name


def outcome(futures: dict[Any, Any]) -> Any:
    """The result of the only future."""
    (future,) = futures.values()
    return future.result(TIMEOUT_S)


def refusal(futures: dict[Any, Any]) -> int:
    """The code with which the only future fails."""
    with pytest.raises(KafkaException) as failed:
        outcome(futures)
    code: int = failed.value.args[0].code()
    return code


# -- topics ----------------------------------------------------------------------------------------------------------


def test_topics_are_created_entryand_deleted(broker: RunningBroker, admin: AdminClient) -> None:
    outcome(admin.create_topics([NewTopic("made", 3, 1, config={"retention.ms": "1000000", "min.insync.replicas": "1"})]))
    described = admin.list_topics("made", TIMEOUT_S)
    assert sorted(described.topics["made"].partitions) == [0, 1, 2]
    assert described.topics["made"].partitions[2].leader == 0
    assert broker.call(lambda: broker.services.topics.get("made").overrides) == {"retention_ms": 1_000_000}
    outcome(admin.delete_topics(["made"]))
    assert "made" not in admin.list_topics(timeout=TIMEOUT_S).topics


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (NewTopic("bad name", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("orders.retry", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("__internal", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("three-replicas", 1, 3), KafkaError.INVALID_REPLICATION_FACTOR),
        (NewTopic("too-many", 100_000, 1), KafkaError.INVALID_PARTITIONS),
        (NewTopic("what", 1, 1, config={"no.such.setting": "1"}), KafkaError.INVALID_CONFIG),
        (NewTopic("what", 1, 1, config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG),
        (NewTopic("what", 1, 1, config={"cleanup.policy": "compact,shred"}), KafkaError.INVALID_CONFIG),
        (NewTopic("elsewhere", 1, replica_assignment=[[7]]), KafkaError.INVALID_REPLICA_ASSIGNMENT),
    ],
    ids=lambda value: value.topic if isinstance(value, NewTopic) else "",
)
def test_a_topic_that_cannot_be_is_refused_with_kafkas_code(admin: AdminClient, new: NewTopic, code: int) -> None:
    assert refusal(admin.create_topics([new])) == code


def test_a_compacted_topic_has_kafkas_settings_and_takes_no_record_without_a_key(
    broker: RunningBroker, admin: AdminClient
) -> None:
    given = {
        "cleanup.policy": "compact,delete",
        "min.cleanable.dirty.ratio": "0.25",
        "min.compaction.lag.ms": "1",
        "max.compaction.lag.ms": "100000",
        "delete.retention.ms": "5",
    }
    outcome(admin.create_topics([NewTopic("compacted", 1, 1, config=given)]))
    resource = ConfigResource(ConfigResource.Type.TOPIC, "compacted")
    described = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    assert {name: described[name].value for name in given} == given
    failures: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce("compacted", b"no key", on_delivery=lambda error, _: failures.append(error))
    producer.produce("compacted", b"v", b"k", on_delivery=lambda error, _: failures.append(error))
    producer.flush(TIMEOUT_S)
    codes = [None if error is None else error.code() for error in failures]
    assert KafkaError.INVALID_RECORD in codes


def test_creating_twice_is_refused(admin: AdminClient, topic: str) -> None:
    assert refusal(admin.create_topics([NewTopic(topic, 1, 1)])) == KafkaError.TOPIC_ALREADY_EXISTS


def test_an_assignment_to_this_broker_is_taken(admin: AdminClient) -> None:
    outcome(admin.create_topics([NewTopic("assigned", 2, replica_assignment=[[0], [0]])]))
    assert len(admin.list_topics("assigned", TIMEOUT_S).topics["assigned"].partitions) == 2


def test_validation_only_creates_nothing(admin: AdminClient) -> None:
    outcome(admin.create_topics([NewTopic("only-checked", 1, 1)], validate_only=True))
    assert refusal(admin.create_topics([NewTopic("a b", 1, 1)], validate_only=True)) == KafkaError.TOPIC_EXCEPTION
    assert "only-checked" not in admin.list_topics(timeout=TIMEOUT_S).topics


def test_deleting_what_is_not_there_is_refused(admin: AdminClient) -> None:
    assert refusal(admin.delete_topics(["never-made"])) == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert refusal(admin.delete_topics(["__consumer_offsets"])) == KafkaError.TOPIC_EXCEPTION


def test_topics_are_deleted_by_id(broker: RunningBroker, client: RawClient, topic: str) -> None:
    topic_id = broker.call(lambda: broker.services.topics.get(topic).id)
    for expected in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_ID):
        answer = client.call(Api.DELETE_TOPICS, 6, topics=[{"name": None, "topic_id": topic_id}], timeout_ms=1000)
        assert answer["responses"][0]["error_code"] == expected


def test_partitions_are_added_and_never_taken_away(admin: AdminClient, topic: str) -> None:
    outcome(admin.create_partitions([NewPartitions(topic, 5)], validate_only=True))
    assert len(admin.list_topics(topic, TIMEOUT_S).topics[topic].partitions) == 2
    outcome(admin.create_partitions([NewPartitions(topic, 5)]))
    assert len(admin.list_topics(topic, TIMEOUT_S).topics[topic].partitions) == 5
    for count in (5, 3, 100_000):
        assert refusal(admin.create_partitions([NewPartitions(topic, count)])) == KafkaError.INVALID_PARTITIONS
    assert refusal(admin.create_partitions([NewPartitions("never-made", 5)])) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_records_are_deleted_up_to_an_offset(broker: RunningBroker, admin: AdminClient, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    for number in range(10):
        producer.produce(topic, b"%d" % number, partition=0)
        producer.flush(TIMEOUT_S)
    assert outcome(admin.delete_records([TopicPartition(topic, 0, 4)])).low_watermark == 4
    earliest = outcome(admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.earliest()}))
    assert earliest.offset == 4
    assert refusal(admin.delete_records([TopicPartition(topic, 0, 11)])) == KafkaError.OFFSET_OUT_OF_RANGE
    assert outcome(admin.delete_records([TopicPartition(topic, 0, -1)])).low_watermark == 10


def test_the_offset_of_the_largest_timestamp_is_found(broker: RunningBroker, admin: AdminClient, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    now_ms = int(time.time() * 1000)
    for number in (0, 5, 3):
        producer.produce(topic, b"x", partition=1, timestamp=now_ms + number)
        producer.flush(TIMEOUT_S)
    found = outcome(admin.list_offsets({TopicPartition(topic, 1): OffsetSpec.max_timestamp()}))
    assert (found.offset, found.timestamp) == (1, now_ms + 5)


# -- configurations --------------------------------------------------------------------------------------------------


def described(admin: AdminClient, kind: ResourceType, name: str) -> dict[str, ConfigEntry]:
    entries: dict[str, ConfigEntry] = outcome(admin.describe_configs([ConfigResource(kind, name)]))
    return entries


def alter(admin: AdminClient, kind: ResourceType, name: str, *entries: ConfigEntry) -> dict[Any, Any]:
    futures: dict[Any, Any] = admin.incremental_alter_configs(
        [ConfigResource(kind, name, incremental_configs=list(entries))]
    )
    return futures


def set_to(name: str, value: str) -> ConfigEntry:
    return ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)


def unset(name: str) -> ConfigEntry:
    return ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE)


def test_the_settings_of_a_topic_are_entryaltered_and_reset(admin: AdminClient, topic: str) -> None:
    before = described(admin, ResourceType.TOPIC, topic)
    assert {setting.kafka_name for setting in TOPIC_SETTINGS.values()} <= before.keys()
    assert before["retention.ms"].source == ConfigSource.DEFAULT_CONFIG.value
    outcome(alter(admin, ResourceType.TOPIC, topic, set_to("retention.ms", "5000"), set_to("compression.type", "zstd")))
    after = described(admin, ResourceType.TOPIC, topic)
    assert (after["retention.ms"].value, after["retention.ms"].source) == ("5000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
    assert after["compression.type"].value == "zstd"
    assert set(after["retention.ms"].synonyms) == {"retention.ms", "log.retention.ms"}
    outcome(alter(admin, ResourceType.TOPIC, topic, unset("retention.ms")))
    reset = described(admin, ResourceType.TOPIC, topic)
    assert reset["retention.ms"].value == before["retention.ms"].value
    assert reset["compression.type"].value == "zstd"


@pytest.mark.parametrize(
    "entry",
    [
        set_to("retention.ms", "soon"),
        set_to("no.such.setting", "1"),
        set_to("min.insync.replicas", "2"),
        ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.APPEND),
    ],
    ids=["value", "name", "fixed", "append"],
)
def test_a_setting_that_cannot_be_is_refused_and_the_others_of_the_request_with_it(
    admin: AdminClient, topic: str, entry: ConfigEntry
) -> None:
    good = set_to("segment.ms", "60000")
    assert refusal(alter(admin, ResourceType.TOPIC, topic, good, entry)) == KafkaError.INVALID_CONFIG
    assert described(admin, ResourceType.TOPIC, topic)["segment.ms"].source == ConfigSource.DEFAULT_CONFIG.value


def test_settings_of_topics_that_are_not_there_or_reserved_are_refused(admin: AdminClient) -> None:
    with pytest.raises(KafkaException) as failed:
        described(admin, ResourceType.TOPIC, "never-made")
    assert failed.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    retention = set_to("retention.ms", "1000")
    assert refusal(alter(admin, ResourceType.TOPIC, "__consumer_offsets", retention)) == KafkaError.TOPIC_EXCEPTION


def test_alterconfigs_replaces_everything_that_was_set(client: RawClient, broker: RunningBroker, topic: str) -> None:
    def altered(*configs: tuple[str, str]) -> int:
        resource = {
            "resource_type": 2,
            "resource_name": topic,
            "configs": [{"name": name, "value": value} for name, value in configs],
        }
        answer = client.call(Api.ALTER_CONFIGS, 2, resources=[resource], validate_only=False)
        code: int = answer["responses"][0]["error_code"]
        return code

    assert altered(("retention.ms", "5000"), ("segment.ms", "60000")) == 0
    assert altered(("segment.ms", "70000")) == 0
    assert broker.call(lambda: broker.services.topics.get(topic).overrides) == {"segment_ms": 70_000}


def test_the_settings_of_the_broker_are_described(broker: RunningBroker, admin: AdminClient) -> None:
    entries = described(admin, ResourceType.BROKER, "0")
    assert entries["advertised.listeners"].value == f"PLAINTEXT://{broker.address}"
    assert entries["auto.create.topics.enable"].value == "true"
    assert entries["group.initial.rebalance.delay.ms"].source == ConfigSource.STATIC_BROKER_CONFIG.value
    assert entries["group.min.session.timeout.ms"].value == "100"
    assert entries["node.id"].is_read_only
    assert not entries["num.partitions"].is_read_only
    assert entries["log.retention.ms"].value == str(7 * 24 * 3600 * 1000)


def test_what_is_altered_on_the_broker_holds_at_once_and_after_a_restart() -> None:
    files = MemoryFiles()
    with running_broker(files) as broker:
        admin = AdminClient({"bootstrap.servers": broker.address})
        outcome(alter(admin, ResourceType.BROKER, "0", set_to("num.partitions", "4")))
        outcome(alter(admin, ResourceType.BROKER, "0", set_to("group.max.session.timeout.ms", "9000")))
        outcome(alter(admin, ResourceType.BROKER, "0", set_to("auto.create.topics.enable", "false")))
        assert refusal(alter(admin, ResourceType.BROKER, "0", set_to("node.id", "4"))) == KafkaError.INVALID_CONFIG
        assert refusal(alter(admin, ResourceType.BROKER, "0", set_to("num.partitions", "0"))) == KafkaError.INVALID_CONFIG
        outcome(admin.create_topics([NewTopic("four", -1, 1)]))
    with running_broker(files) as broker:
        admin = AdminClient({"bootstrap.servers": broker.address})
        assert len(admin.list_topics("four", TIMEOUT_S).topics["four"].partitions) == 4
        entries = described(admin, ResourceType.BROKER, "0")
        assert (entries["num.partitions"].value, entries["num.partitions"].source) == (
            "4",
            ConfigSource.DYNAMIC_BROKER_CONFIG.value,
        )
        assert broker.services.settings.broker.group_max_session_timeout_ms == 9000
        missing = admin.list_topics("not-made", TIMEOUT_S).topics["not-made"]
        assert missing.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        outcome(alter(admin, ResourceType.BROKER, "0", unset("num.partitions")))
        assert described(admin, ResourceType.BROKER, "0")["num.partitions"].value == "1"


def test_what_was_altered_is_entryas_the_default_of_all_brokers(admin: AdminClient, client: RawClient) -> None:
    outcome(alter(admin, ResourceType.BROKER, "0", set_to("group.max.size", "77")))
    answer = client.call(
        Api.DESCRIBE_CONFIGS, 4, resources=[{"resource_type": 4, "resource_name": "", "configuration_keys": None}]
    )
    (entry,) = answer["results"][0]["configs"]
    assert (entry["name"], entry["value"], entry["config_source"]) == ("group.max.size", "77", 3)
    outcome(alter(admin, ResourceType.BROKER, "0", unset("group.max.size")))


# -- the cluster -----------------------------------------------------------------------------------------------------


def test_the_cluster_is_this_broker(broker: RunningBroker, admin: AdminClient) -> None:
    cluster = admin.describe_cluster().result(TIMEOUT_S)
    assert cluster.cluster_id == broker.services.facts.cluster_id
    assert [(node.id, f"{node.host}:{node.port}") for node in cluster.nodes] == [(0, broker.address)]
    assert cluster.controller.id == 0


def test_kafka_pythons_admin_works(broker: RunningBroker, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    try:
        assert topic in admin.list_topics()
        (answer,) = admin.describe_topics([topic])
        assert len(answer["partitions"]) == 2
    finally:
        admin.close()


def test_one_node_answers_what_only_clusters_do(client: RawClient, topic: str) -> None:
    partitions = [{"topic": topic, "partitions": [0]}]
    elected = client.call(Api.ELECT_LEADERS, 2, election_type=0, topic_partitions=partitions, timeout_ms=1000)
    assert elected["replica_election_results"][0]["partition_result"][0]["error_code"] == ErrorCode.ELECTION_NOT_NEEDED
    moves = [
        {"partition_index": 0, "replicas": [0]},
        {"partition_index": 1, "replicas": [1, 2]},
        {"partition_index": 9, "replicas": [0]},
    ]
    moved = client.call(Api.ALTER_PARTITION_REASSIGNMENTS, 0, timeout_ms=1, topics=[{"name": topic, "partitions": moves}])
    assert [one["error_code"] for one in moved["responses"][0]["partitions"]] == [
        ErrorCode.NONE,
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert client.call(Api.LIST_PARTITION_REASSIGNMENTS, 0, timeout_ms=1, topics=None)["topics"] == []
    acls = client.call(
        Api.DESCRIBE_ACLS, 3, resource_type_filter=1, resource_name_filter=None, pattern_type_filter=1,
        principal_filter=None, host_filter=None, operation=1, permission_type=1,
    )  # fmt: skip
    assert acls["error_code"] == ErrorCode.SECURITY_DISABLED
    quorum = client.call(
        Api.DESCRIBE_QUORUM, 2, topics=[{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]
    )
    (voters,) = quorum["topics"][0]["partitions"]
    assert (voters["leader_id"], len(voters["current_voters"])) == (0, 1)


def test_the_log_directory_tells_sizes(broker: RunningBroker, client: RawClient, topic: str) -> None:
    client.produce(topic, b"x" * 1000)
    answer = client.call(Api.DESCRIBE_LOG_DIRS, 4, topics=[{"topic": topic, "partitions": [0, 1, 7]}])
    (directory,) = answer["results"]
    sizes = {one["partition_index"]: one["partition_size"] for one in directory["topics"][0]["partitions"]}
    assert sizes.keys() == {0, 1}
    assert sizes[0] > 1000
    assert sizes[1] == 0
    everything = client.call(Api.DESCRIBE_LOG_DIRS, 4, topics=None)
    assert topic in {one["name"] for one in everything["results"][0]["topics"]}


def test_idempotent_producers_are_described(broker: RunningBroker, client: RawClient, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
    producer.produce(topic, b"x", partition=0)
    producer.flush(TIMEOUT_S)
    answer = client.call(Api.DESCRIBE_PRODUCERS, 0, topics=[{"name": topic, "partition_indexes": [0, 5]}])
    there, missing = answer["topics"][0]["partitions"]
    assert [(one["producer_epoch"], one["last_sequence"]) for one in there["active_producers"]] == [(0, 0)]
    assert missing["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_the_end_of_the_leader_epoch_is_the_end_of_the_log(client: RawClient, topic: str) -> None:
    client.produce(topic, b"x", b"y")

    def asked(epoch: int, current: int = -1) -> tuple[int, int, int]:
        wanted = {"partition": 0, "current_leader_epoch": current, "leader_epoch": epoch}
        answer = client.call(
            Api.OFFSET_FOR_LEADER_EPOCH, 4, replica_id=-1, topics=[{"topic": topic, "partitions": [wanted]}]
        )
        (found,) = answer["topics"][0]["partitions"]
        return found["error_code"], found["leader_epoch"], found["end_offset"]

    assert asked(0) == (0, 0, 2)
    assert asked(3) == (0, -1, -1)
    assert asked(0, current=5)[0] == ErrorCode.UNKNOWN_LEADER_EPOCH
