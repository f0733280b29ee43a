"""The consumer protocol (KIP-848) by Kafka's own Java client: groups of 1, 3, 5 and 50, static members, patterns, tools."""

import os
import re
from collections.abc import Collection, Iterator
from itertools import pairwise

import pytest

from tests.interop.java_members import JavaMembers
from tools.bench.servers.kafka import run_tool
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST, Server

pytestmark = [pytest.mark.interop, pytest.mark.slow]

TOPICS = "org.apache.kafka.tools.TopicCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
PARTITIONS = 12


@pytest.fixture(scope="module")
def server(kafka_jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "LOGBROKER_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS": "300",
        "LOGBROKER_GROUP_CONSUMER_SESSION_TIMEOUT_MS": "6000",
        "LOGBROKER_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
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
def address(server: Server) -> str:
    return f"{HOST}:{server.extra['kafka']}"


@pytest.fixture
def at(address: str) -> tuple[str, str]:
    return "--bootstrap-server", address


@pytest.fixture
def topic(at: tuple[str, str], request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)
    run_tool(TOPICS, *at, "--create", "--topic", name, "--partitions", str(PARTITIONS))
    return str(name)


def send(at: tuple[str, str], topic: str, *values: str) -> None:
    lines = "".join(f"{number}:{value}\n" for number, value in enumerate(values))
    keyed = ["--property", "parse.key=true", "--property", "key.separator=:"]
    run_tool(CONSOLE_PRODUCER, *at, "--topic", topic, *keyed, stdin=lines)


def read(members: JavaMembers) -> list[str]:
    return [one.words[2] for one in list(members.told) if one.what == "read"]


def wait_for(members: JavaMembers, values: Collection[str]) -> None:
    members.until(lambda: set(read(members)) >= set(values), "not everything was read")


@pytest.mark.parametrize("count", [1, 3, 5])
def test_members_come_and_go_and_what_stays_is_read_all_the_while(
    address: str, at: tuple[str, str], topic: str, count: int
) -> None:
    with JavaMembers(address, topic, topic) as members:
        for number in range(count):
            members.start(f"m{number}")
            members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        values = [f"v{number}" for number in range(60)]
        send(at, topic, *values)
        wait_for(members, values)
        for number in range(count - 1):
            members.stop(f"m{number}")
            members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        assert sorted(read(members)) == sorted(values), "a record was read twice"
        losses = [one for one in members.told if one.what == "lost" and one.member == f"m{count - 1}"]
        assert losses == [], "the last member to come had no reason to give anything up"


def test_fifty_members_share_fifty_partitions(address: str, at: tuple[str, str], topic: str) -> None:
    run_tool(TOPICS, *at, "--alter", "--topic", topic, "--partitions", "50")
    with JavaMembers(address, topic, topic, fetch_max_wait_ms="200") as members:
        for number in range(50):
            members.start(f"m{number}")
        members.until(lambda: members.is_split(50), "not shared out")
        values = [f"v{number}" for number in range(100)]
        send(at, topic, *values)
        wait_for(members, values)


def test_members_that_die_are_replaced_after_their_session(address: str, at: tuple[str, str], topic: str) -> None:
    with JavaMembers(address, topic, topic) as survivors:
        survivors.start("survivor")
        survivors.until(lambda: survivors.is_split(PARTITIONS), "not shared out")
        with JavaMembers(address, topic, topic) as doomed:
            doomed.start("doomed")
            doomed.until(lambda: len(doomed.held["doomed"]) == PARTITIONS // 2, "got nothing")
            doomed.kill()
        survivors.until(lambda: survivors.is_split(PARTITIONS), "the dead still hold something")
        send(at, topic, "a", "b", "c")
        survivors.until(lambda: sorted(read(survivors)) == ["a", "b", "c"], "not everything was read")


def test_a_static_member_comes_back_to_what_it_had_and_nobody_notices(address: str, topic: str) -> None:
    with JavaMembers(address, topic, topic) as members:
        members.start("other")
        members.start("static", group_instance_id="i")
        members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        had, events = set(members.held["static"]), len([one for one in members.told if one.member == "other"])
        members.stop("static")
        members.start("again", group_instance_id="i")
        members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        assert members.held["again"] == had
        assert len([one for one in members.told if one.member == "other"]) == events


def test_a_pattern_is_matched_by_the_broker(address: str, at: tuple[str, str], topic: str) -> None:
    with JavaMembers(address, topic, f"/{topic}(-eu|-us)?") as members:
        members.start("m")
        members.until(lambda: members.is_split(PARTITIONS), "not found")
        for ending in ("-us", "-asia"):
            run_tool(TOPICS, *at, "--create", "--topic", topic + ending, "--partitions", "2")
        members.until(lambda: members.is_split(PARTITIONS + 2), "the topic made later was not found")
        members.start("n")
        members.until(lambda: members.is_split(PARTITIONS + 2), "not shared out")


def test_a_group_is_upgraded_member_by_member(address: str, at: tuple[str, str], topic: str) -> None:
    with JavaMembers(address, topic, topic) as members:
        for number in range(2):
            members.start(f"old{number}", group_protocol="classic")
        members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        sent: list[str] = []
        for number in range(2):
            members.start(f"new{number}")
            members.until(lambda: members.is_split(PARTITIONS), "not shared out")
            more = [f"v{number}-{one}" for one in range(24)]
            send(at, topic, *more)
            sent += more
            wait_for(members, sent)
            members.stop(f"old{number}")
            members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        assert re.search(rf"{topic} +Consumer", run_tool(GROUPS, *at, "--list", "--type"))


def test_the_tools_show_members_epochs_and_targets(address: str, at: tuple[str, str], topic: str) -> None:
    with JavaMembers(address, topic, topic) as members:
        for name in ("m", "n"):
            members.start(name)
        members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        shown = run_tool(GROUPS, *at, "--describe", "--group", topic, "--members", "--verbose")
        rows = [line.split() for line in shown.splitlines() if line.startswith(topic)]
        assert [row[4] for row in rows] == ["6", "6"]
        assert all(row[5] == row[7] and row[6] == row[8] for row in rows), "current and target differ"
        state = run_tool(GROUPS, *at, "--describe", "--group", topic, "--state")
        assert re.search(r"uniform +Stable +2", state), state
        assert re.search(rf"{topic} +Consumer +Stable", run_tool(GROUPS, *at, "--list", "--type", "--state"))
        assert "GroupNotEmptyException" in run_tool(GROUPS, *at, "--delete", "--group", topic)
    deleted = run_tool(GROUPS, *at, "--delete", "--group", topic)
    assert "was successful" in deleted


def test_the_console_consumer_reads_as_a_member(at: tuple[str, str], topic: str) -> None:
    send(at, topic, "a", "b", "c")
    told = run_tool(
        *(CONSOLE_CONSUMER, *at, "--topic", topic, "--from-beginning", "--max-messages", "3", "--group", topic),
        *("--consumer-property", "group.protocol=consumer"),
    )
    assert {"a", "b", "c"} <= set(told.splitlines())


def test_kept_partitions_never_pause(address: str, at: tuple[str, str], topic: str) -> None:
    """While a second member comes in, the first reads on from the partitions that it keeps."""
    with JavaMembers(address, topic, topic) as members:
        members.start("first")
        members.until(lambda: members.is_split(PARTITIONS), "not shared out")
        members.start("second")
        sent: list[str] = []
        while not members.is_split(PARTITIONS):
            sent.append(f"v{len(sent)}")
            send(at, topic, *[f"{sent[-1]}.{number}" for number in range(PARTITIONS)])
        members.until(lambda: {value.split(".")[0] for value in read(members)} >= set(sent), "not everything was read")
        lost = {at for one in members.told if (one.member, one.what) == ("first", "lost") for at in one.words}
        assert len(lost) == PARTITIONS // 2
        offsets = [(one.words[0], int(one.words[1])) for one in members.told if one.what == "read"]
        by_partition = {at: [offset for where, offset in offsets if where == at] for at, _ in offsets}
        assert all(later == earlier + 1 for seen in by_partition.values() for earlier, later in pairwise(seen))
