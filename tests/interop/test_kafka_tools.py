"""Apache Kafka's own tools (Java clients 4.x) against logbroker as a user starts it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench.servers.kafka import run_tool, tool_command
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST, Server

pytestmark = [pytest.mark.interop, pytest.mark.slow]

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture(scope="module")
def server(kafka_jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"LOGBROKER_GROUP_INITIAL_REBALANCE_DELAY_MS": "0"}
    os.environ.update(settings)
    try:
        with logbroker(tmp_path_factory.mktemp("broker"), kafka=True) as running:
            yield running
            output = running.output.read_text(encoding="utf-8")
    finally:
        for name in settings:
            del os.environ[name]
    assert '"level": "error"' not in output, output
    assert "Traceback" not in output, output


@pytest.fixture
def at(server: Server) -> tuple[str, str]:
    return "--bootstrap-server", f"{HOST}:{server.extra['kafka']}"


@pytest.fixture
def topic(at: tuple[str, str], request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)
    run_tool(TOPICS, *at, "--create", "--topic", name, "--partitions", "2")
    return str(name)


def test_topics_are_created_described_grown_and_deleted(at: tuple[str, str]) -> None:
    run_tool(TOPICS, *at, "--create", "--topic", "made", "--partitions", "3", "--config", "retention.ms=100000")
    described = run_tool(TOPICS, *at, "--describe", "--topic", "made")
    assert "PartitionCount: 3\tReplicationFactor: 1\tConfigs: retention.ms=100000" in described
    assert "Leader: 0\tReplicas: 0\tIsr: 0" in described
    run_tool(TOPICS, *at, "--alter", "--topic", "made", "--partitions", "4")
    assert "PartitionCount: 4" in run_tool(TOPICS, *at, "--describe", "--topic", "made")
    run_tool(TOPICS, *at, "--delete", "--topic", "made")
    assert "made" not in run_tool(TOPICS, *at, "--list").splitlines()
    with pytest.raises(RuntimeError, match="does not exist as expected"):
        run_tool(TOPICS, *at, "--describe", "--topic", "made")


def test_a_second_replica_is_refused(at: tuple[str, str]) -> None:
    with pytest.raises(RuntimeError, match="larger than the number of brokers"):
        run_tool(TOPICS, *at, "--create", "--topic", "two", "--replication-factor", "2")


def test_settings_of_topic_and_broker(at: tuple[str, str], topic: str) -> None:
    run_tool(CONFIGS, *at, "--alter", "--topic", topic, "--add-config", "segment.ms=70000,compression.type=zstd")
    described = run_tool(CONFIGS, *at, "--describe", "--topic", topic)
    assert "segment.ms=70000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.ms=70000" in described
    run_tool(CONFIGS, *at, "--alter", "--topic", topic, "--delete-config", "segment.ms")
    assert "segment.ms" not in run_tool(CONFIGS, *at, "--describe", "--topic", topic)
    run_tool(CONFIGS, *at, "--alter", "--broker", "0", "--add-config", "num.partitions=2")
    assert "num.partitions=2" in run_tool(CONFIGS, *at, "--describe", "--broker", "0")
    run_tool(CONFIGS, *at, "--alter", "--broker-defaults", "--delete-config", "num.partitions")
    assert "num.partitions=1" in run_tool(CONFIGS, *at, "--describe", "--broker", "0", "--all")
    with pytest.raises(RuntimeError, match="InvalidConfigurationException"):
        run_tool(CONFIGS, *at, "--alter", "--topic", topic, "--add-config", "retention.ms=soon")


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_console_producer_and_consumer(at: tuple[str, str], topic: str, compression: str) -> None:
    lines = [f"key{number}:value {number}" for number in range(50)]
    keyed = ["--property", "parse.key=true", "--property", "key.separator=:"]
    run_tool(CONSOLE_PRODUCER, *at, "--topic", topic, "--compression-codec", compression, *keyed, stdin="\n".join(lines))
    shown = ["--property", "print.key=true", "--property", "key.separator=:"]
    told = run_tool(CONSOLE_CONSUMER, *at, "--topic", topic, "--from-beginning", "--max-messages", "50", *shown)
    assert sorted(line for line in told.splitlines() if line.startswith("key")) == sorted(lines)


def test_a_group_is_described_reset_and_deleted(at: tuple[str, str], topic: str) -> None:
    run_tool(CONSOLE_PRODUCER, *at, "--topic", topic, stdin="a\nb\nc\n")
    told = run_tool(
        CONSOLE_CONSUMER, *at, "--topic", topic, "--from-beginning", "--max-messages", "3", "--group", "console"
    )
    assert {"a", "b", "c"} <= set(told.splitlines())
    assert "console" in run_tool(GROUPS, *at, "--list").splitlines()
    described = run_tool(GROUPS, *at, "--describe", "--group", "console")
    lags = [line.split()[3:6] for line in described.splitlines() if line.startswith("console ")]
    assert sorted(int(end) for _, end, _ in lags) in ([0, 3], [1, 2])
    assert [lag for _, _, lag in lags] == ["0", "0"]
    reset = ["--reset-offsets", "--to-earliest", "--execute", "--topic", topic, "--group", "console"]
    run_tool(GROUPS, *at, *reset)
    again = run_tool(GROUPS, *at, "--describe", "--group", "console")
    assert sum(int(line.split()[5]) for line in again.splitlines() if line.startswith("console ")) == 3
    run_tool(GROUPS, *at, "--delete", "--group", "console")
    assert "console" not in run_tool(GROUPS, *at, "--list").splitlines()


def test_the_verifiable_producer_and_consumer_agree(at: tuple[str, str], topic: str) -> None:
    told = run_tool(
        "org.apache.kafka.tools.VerifiableProducer", *at, "--topic", topic, "--max-messages", "1000", "--acks", "-1"
    )
    events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    acknowledged = {
        (event["partition"], event["offset"]): event["value"]
        for event in events
        if event["name"] == "producer_send_success"
    }
    assert len(acknowledged) == 1000
    assert [event["acked"] for event in events if event["name"] == "tool_data"] == [1000]
    command = tool_command(
        "org.apache.kafka.tools.VerifiableConsumer",
        *(*at, "--topic", topic, "--group-id", topic, "--max-messages", "1000", "--verbose", "--reset-policy", "earliest"),
    )
    consumer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    events = [json.loads(line) for line in consumer.stdout.splitlines() if line.startswith("{")]
    consumed = {(event["partition"], event["offset"]): event["value"] for event in events if event["name"] == "record_data"}
    assert consumed == acknowledged
    assert all(event["success"] for event in events if event["name"] == "offsets_committed")


def test_the_perf_tools_run(at: tuple[str, str], topic: str) -> None:
    told = run_tool(
        "org.apache.kafka.tools.ProducerPerformance",
        *("--topic", topic, "--num-records", "50000", "--record-size", "500", "--throughput", "-1"),
        *("--producer-props", f"bootstrap.servers={at[1]}", "compression.type=lz4"),
    )
    assert re.search(r"50000 records sent", told), told
    told = run_tool("org.apache.kafka.tools.ConsumerPerformance", *at, "--topic", topic, "--messages", "50000")
    values = told.strip().splitlines()[-1].split(", ")
    assert int(values[4]) >= 50_000


def test_offsets_records_and_directories(at: tuple[str, str], topic: str, tmp_path: Path) -> None:
    run_tool(CONSOLE_PRODUCER, *at, "--topic", topic, stdin="".join(f"{number}\n" for number in range(30)))
    get_offsets = "org.apache.kafka.tools.GetOffsetShell"
    ends = dict(line.rsplit(":", 1) for line in run_tool(get_offsets, *at, "--topic", topic).splitlines())
    assert sum(map(int, ends.values())) == 30
    largest = run_tool(get_offsets, *at, "--topic", topic, "--time", "max-timestamp")
    assert re.fullmatch(rf"({topic}:\d:\d+\n)+", largest)
    wanted = {"partitions": [{"topic": topic, "partition": number, "offset": -1} for number in (0, 1)], "version": 1}
    file = tmp_path / "delete.json"
    file.write_text(json.dumps(wanted))
    deleted = run_tool("org.apache.kafka.tools.DeleteRecordsCommand", *at, "--offset-json-file", str(file))
    assert deleted.count("low_watermark") == 2
    starts = run_tool(get_offsets, *at, "--topic", topic, "--time", "earliest")
    assert dict(line.rsplit(":", 1) for line in starts.splitlines()) == ends
    told = run_tool("org.apache.kafka.tools.LogDirsCommand", *at, "--describe", "--topic-list", topic)
    (line,) = (line for line in told.splitlines() if line.startswith("{"))
    (directory,) = json.loads(line)["brokers"][0]["logDirs"]
    assert {one["partition"] for one in directory["partitions"]} == {f"{topic}-0", f"{topic}-1"}


def test_the_cluster_tools_find_one_node(at: tuple[str, str], topic: str) -> None:
    assert "Cluster ID: " in run_tool("org.apache.kafka.tools.ClusterTool", "cluster-id", *at)
    versions = run_tool("org.apache.kafka.tools.BrokerApiVersionsCommand", *at)
    assert "Produce(0): 0 to 12" in versions
    assert "(id: 0 rack: null" in versions
    quorum = run_tool("org.apache.kafka.tools.MetadataQuorumCommand", *at, "describe", "--status")
    assert re.search(r"LeaderId:\s+0", quorum)
    elected = run_tool(
        "org.apache.kafka.tools.LeaderElectionCommand",
        *at,
        "--election-type",
        "preferred",
        "--topic",
        topic,
        "--partition",
        "0",
    )
    assert "Valid replica already elected" in elected
    moves = run_tool("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", *at, "--list")
    assert "No partition reassignments found" in moves
    with pytest.raises(RuntimeError, match="SecurityDisabledException"):
        run_tool("org.apache.kafka.tools.AclCommand", *at, "--list")
    producers = run_tool(
        "org.apache.kafka.tools.TransactionsCommand", *at, "describe-producers", "--topic", topic, "--partition", "0"
    )
    assert "ProducerId" in producers
