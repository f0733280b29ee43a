"""What ``logbroker sub`` prints and does, against a broker."""

import re

from logbroker.cli.http_client import HttpClient, path
from tests.cli.conftest import CommandLine


def golden(text: str) -> str:
    """The text with ages and message ids made the same, and columns one space apart."""
    text = re.sub(r"\b\d+(ms|s)\b", "AGE", re.sub(r"[0-9a-f]+-(\d+-[sr]\d+)", r"ID-\1", text))
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines())


def fill(logbroker: CommandLine, topic: str, *values: str) -> None:
    assert logbroker("topic", "create", topic, "--partitions", "1").code == 0
    assert logbroker("produce", topic, stdin="\n".join(values).encode()).code == 0


def test_subscriptions_are_created_listed_and_described(logbroker: CommandLine) -> None:
    fill(logbroker, "news", "a", "b", "a")
    made = logbroker(
        *("sub", "create", "audit", "news", "--filter", 'value == "a"', "--start", "earliest", "-c", "max_attempts=9")
    )
    assert (made.code, made.err) == (0, "")
    listed = golden(logbroker("sub", "ls", "aud").out)
    assert listed == ('NAME TOPIC FILTER BACKLOG IN FLIGHT DEAD OLDEST CONSUMERS\naudit news value == "a" 3 0 0 AGE 0\n')
    described = logbroker("sub", "describe", "audit").out
    for line in ("max_attempts +9", 'filter +value == "a"', "unread +3", "PARTITION +FRONTIER +READ +END", r"0 +0 +0 +3"):
        assert re.search(line, described), (line, described)
    assert logbroker("sub", "describe", "audit", "-o", "json").json["config"]["ack_deadline_ms"] == 30_000
    conflict = logbroker("sub", "create", "audit", "news")
    assert conflict.code == 5
    assert logbroker("sub", "alter", "audit", "--unset", "filter", "-o", "json").json["config"]["filter"] is None
    missing = logbroker("sub", "describe", "none")
    assert (missing.code, "logbroker sub ls" in missing.err) == (4, True)


def test_messages_are_pulled_and_acknowledged_once_they_are_printed(logbroker: CommandLine) -> None:
    fill(logbroker, "pulled", "a", "b", "c")
    logbroker("sub", "create", "puller", "pulled", "--start", "earliest")
    shown = logbroker("sub", "pull", "puller", "-n", "2", "--ack", "--format", r"%o %v\n")
    assert (shown.code, shown.out) == (0, "0 a\n1 b\n")
    held = logbroker("sub", "pull", "puller")
    assert golden(held.out) == "ID DELIVERIES FAILURES KEY VALUE\nID-0-s2 1 0 - c\n"
    assert "--ack would settle them" in held.err
    assert logbroker("sub", "pull", "puller", "-o", "jsonl").rows == []


def test_a_seek_shows_its_plan_and_does_it_when_told(logbroker: CommandLine) -> None:
    fill(logbroker, "sought", "a", "b")
    logbroker("sub", "create", "seeker", "sought", "--start", "earliest")
    logbroker("sub", "pull", "seeker", "-n", "2", "--ack")
    plan = logbroker("sub", "seek", "seeker", "--to", "earliest")
    assert golden(plan.out) == "PARTITION FROM OFFSET TO OFFSET END OFFSET VOIDED LEASES VOIDED RETRIES\n0 2 0 2 0 0\n"
    assert "--execute" in plan.err
    assert logbroker("sub", "seek", "seeker", "--to", "1", "--execute").code == 0
    assert logbroker("sub", "pull", "seeker", "--ack", "--format", "%v").out == "b"
    assert logbroker("sub", "seek", "seeker", "--to", "snapshot:none").code == 4
    assert logbroker("sub", "seek", "seeker", "--to", "whenever").code == 2


def test_a_filter_is_tried_on_a_record(logbroker: CommandLine) -> None:
    fill(logbroker, "tried", "a")
    assert logbroker("sub", "test-filter", 'value == "a"', "--value", "a").code == 0
    assert logbroker("sub", "test-filter", 'headers.region == "eu"', "--value", "a", "-H", "region:us").code == 1
    assert logbroker("sub", "test-filter", "value.n == 1", "--at", "tried/0@0", "-o", "json").json["result"] == "error"
    wrong = logbroker("sub", "test-filter", "value ==", "--value", "a")
    assert (wrong.code, "FILTER_INVALID" in wrong.err) == (2, True)
    assert logbroker("sub", "test-filter", "true", "--at", "tried").code == 2


def test_a_deletion_is_confirmed(logbroker: CommandLine) -> None:
    fill(logbroker, "gone", "a")
    logbroker("sub", "create", "goner", "gone", "--start", "earliest")
    refused = logbroker("sub", "delete", "goner")
    assert refused.code == 2
    assert "deletes subscription 'goner': 1 records of 'gone'" in refused.err
    assert logbroker("sub", "delete", "goner", "--yes").code == 0
    assert logbroker("sub", "describe", "goner").code == 4


def test_the_demo_checks_ten_filters_and_a_replay_from_a_time(logbroker: CommandLine) -> None:
    done = logbroker("demo", "fanout", "--flights", "2000", "--topic", "fanout", "-o", "json")
    assert (done.code, done.err) == (0, "")
    result = done.json
    assert (result["each_got_exactly_its_own"], result["since_equal"]) == (True, True)
    assert len(result["subscriptions"]) == 10
    assert 0 < result["read_again"] < {one["subscription"]: one["received"] for one in result["subscriptions"]}["united"]


def test_dead_letters_of_a_subscription_are_treated_as_those_of_queues(logbroker: CommandLine) -> None:
    fill(logbroker, "failing", "a", "b")
    logbroker("sub", "create", "failer", "failing", "--start", "earliest")
    with HttpClient(logbroker.url) as client:
        pulled = client.request("POST", path("subscriptions", "failer:pull"), body={"max": 2})["messages"]
        entries = [{"receipt": message["receipt"], "reason": "no good"} for message in pulled]
        client.request("POST", path("subscriptions", "failer:reject"), body={"entries": entries})
    assert [row["value"] for row in logbroker("dlq", "ls", "failer", "-o", "jsonl").rows] == ["a", "b"]
    assert {row["name"]: row["counts"]["dead"] for row in logbroker("dlq", "ls", "-o", "jsonl").rows}["failer"] == 2
    assert logbroker("dlq", "redrive", "failer", "--execute").code == 0
    assert logbroker("sub", "pull", "failer", "-n", "2", "--ack", "--format", "%v").out == "ab"
    missing = logbroker("dlq", "ls", "none")
    assert (missing.code, "QUEUE_NOT_FOUND" in missing.err) == (4, True)
