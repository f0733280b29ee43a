"""What ``logbroker group`` prints and does, and ``consume --group``; the lag from the files is that of the broker."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import duration
from tests.cli.conftest import CommandLine
from tests.crash.broker import Broker

HOUR_MS = 3_600_000


def quick_broker(directory: Path) -> Broker:
    """A broker whose groups do not wait for more members to come; it is ready."""
    (directory / "quick.toml").write_text("group_initial_rebalance_delay_ms = 0\n")
    broker = Broker(directory, ["--config", str(directory / "quick.toml")])
    broker.start()
    broker.wait_until_ready()
    return broker


@pytest.fixture(scope="module")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = quick_broker(tmp_path_factory.mktemp("groups"))
    yield f"http://127.0.0.1:{broker.port}"
    assert broker.stop() == 0


def fill(logbroker: CommandLine, topic: str, *, count: int = 5, group: str | None = None) -> None:
    """A topic of two partitions, with records an hour old in partition 1; ``group`` has read two of them."""
    assert logbroker("topic", "create", topic, "-p", "2").code == 0
    then = time.time_ns() // 1_000_000 - HOUR_MS
    lines = [json.dumps({"value": str(at), "partition": 1, "timestamp_ms": then + at}) for at in range(count)]
    assert logbroker("produce", topic, "--input", "jsonl", stdin="\n".join(lines).encode()).code == 0
    if group is not None:
        assert logbroker("group", "seek", group, f"{topic}/0=0", f"{topic}/1=2", "--execute").code == 0


# -- looking -----------------------------------------------------------------------------------------------------------


def test_group_ls_shows_a_table(logbroker: CommandLine) -> None:
    fill(logbroker, "ls", group="ls-a")
    fill(logbroker, "ls2", group="ls-b")
    assert logbroker("group", "ls", "ls-").out == (
        "GROUP  TYPE     STATE  PROTOCOL TYPE  MEMBERS\n"
        "ls-a   classic  Empty                 0\n"
        "ls-b   classic  Empty                 0\n"
    )
    assert logbroker("group", "ls", "ls-", "--state", "stable", "--no-headers").out == ""
    assert [row["group"] for row in logbroker("group", "ls", "ls-", "-o", "jsonl").rows] == ["ls-a", "ls-b"]


def test_group_lag_shows_records_and_time(logbroker: CommandLine) -> None:
    fill(logbroker, "lagged", group="late")
    shown = logbroker("group", "lag", "late")
    assert (shown.code, re.sub(r"1h0\dm", "1h00m", shown.out)) == (
        0,
        "GROUP  TOPIC   PARTITION  COMMITTED  END  LAG  BEHIND  STATUS\n"
        "late   lagged  0          0          0    0    0ms     OK\n"
        "late   lagged  1          2          5    3    1h00m   WARN\n",
    )
    everyone = logbroker("group", "lag", "-o", "jsonl").rows
    (mine,) = [row for row in everyone if row["group"] == "late" and row["partition"] == 1]
    assert (mine["lag"], mine["status"]) == (3, "WARN")
    assert HOUR_MS <= mine["lag_ms"] <= HOUR_MS + 60_000


def test_group_lag_fails_over_a_limit(logbroker: CommandLine) -> None:
    fill(logbroker, "limit", group="limited")
    assert logbroker("group", "lag", "limited", "--fail-over", "3").code == 0
    assert logbroker("group", "lag", "limited", "--fail-over", "2").code == 1


def test_group_lag_is_shown_again_and_again_until_interrupted(
    logbroker: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(logbroker, "watched", group="watched")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    shown = logbroker("group", "lag", "watched", "--watch", "--no-headers")
    assert (shown.code, waits) == (130, [2.0, 2.0, 2.0])
    assert len(shown.out.splitlines()) == 6


def test_group_describe_shows_members_and_offsets(logbroker: CommandLine) -> None:
    fill(logbroker, "described")
    with HttpClient(logbroker.url) as client:
        wish = {"topics": ["described"], "client_id": "app", "auto_offset_reset": "earliest"}
        member = client.request("POST", "/v1/groups/seen/members", body=wish)["member_id"]
        client.request("POST", path("groups", "seen", "members", f"{member}:poll"), body={"max_records": 1})
        members = logbroker("group", "describe", "seen", "--members").out
        width = len(member)
        assert members == (
            f"{'MEMBER ID':<{width}}  CLIENT ID  CLIENT HOST       ASSIGNMENT\n"
            f"{member}  app        http://127.0.0.1  described/0,1\n"
        )
        offsets = logbroker("group", "describe", "seen", "--offsets").out.splitlines()
        assert " ".join(offsets[0].split()) == (
            "TOPIC PARTITION COMMITTED LOG START OFFSET END LAG BEHIND STATUS MEMBER ID"
        )
        assert offsets[1].split() == ["described", "0", "0", "0", "0", "0", "0ms", "OK", member]
        whole = logbroker("group", "describe", "seen").out
        assert re.search(r"^state +Stable$", whole, re.MULTILINE)
        assert member in whole
        assert "described/0,1" in whole
        described = logbroker("group", "describe", "seen", "-o", "json").json
        assert described == client.get("/v1/groups/seen") | {
            "lag_ms": described["lag_ms"],
            "partitions": described["partitions"],
        }
        refused = logbroker("group", "delete", "seen", "-y")
        assert (refused.code, refused.err.startswith("error[NON_EMPTY_GROUP]: ")) == (5, True)
        plan = logbroker("group", "reset", "seen", "--to", "earliest")
        assert plan.err == (
            "nothing was changed: the group has 1 members: stop them, or add --force; --execute carries it out\n"
        )
        assert logbroker("group", "reset", "seen", "--to", "earliest", "--execute").code == 5
        assert logbroker("group", "reset", "seen", "--to", "earliest", "--execute", "--force").code == 0


def test_a_group_that_is_not_there_is_exit_code_4(logbroker: CommandLine) -> None:
    for line in (
        ["describe", "nobody"],
        ["lag", "nobody"],
        ["delete", "nobody", "-y"],
        ["reset", "nobody", "--to", "latest"],
    ):
        refused = logbroker("group", *line)
        assert refused.code == 4
        assert refused.err.startswith("error[GROUP_ID_NOT_FOUND]: ")
        assert "hint: 'logbroker group ls'" in refused.err


# -- moving ------------------------------------------------------------------------------------------------------------


def test_a_reset_is_a_plan_until_execute(logbroker: CommandLine) -> None:
    fill(logbroker, "moved", group="mover")
    plan = logbroker("group", "reset", "mover", "--to", "4")
    assert plan.out == (
        "TOPIC  PARTITION  OLD  NEW  CLAMPED\nmoved  0          0    0    yes\nmoved  1          2    4    no\n"
    )
    assert plan.err == "nothing was changed: --execute carries it out\n"
    assert logbroker("group", "lag", "mover", "-o", "jsonl").rows[1]["committed"] == 2
    done = logbroker("group", "reset", "mover", "--to", "4", "--execute")
    assert (done.out, done.err) == (plan.out, "")
    assert logbroker("group", "lag", "mover", "-o", "jsonl").rows[1]["committed"] == 4


@pytest.mark.parametrize(
    ("options", "new"),
    [
        (["--to", "earliest"], 0),
        (["--to", "latest"], 5),
        (["--to", "current"], 2),
        (["--to", "3"], 3),
        (["--to", "30m"], 5),
        (["--to", "2h"], 0),
        (["--to", "2020-01-01"], 0),
        (["--shift", "-1"], 1),
        (["--like", "example"], 2),
        (["-t", "places", "--shift", "+2"], 4),
    ],
    ids=lambda given: " ".join(map(str, given)) if isinstance(given, list) else str(given),
)
def test_a_group_is_moved_to_any_place(logbroker: CommandLine, options: list[str], new: int) -> None:
    if logbroker("topic", "describe", "places").code:
        fill(logbroker, "places", group="placed")
        fill(logbroker, "places2", group="example")
        logbroker("group", "seek", "example", "places/1=2", "--execute")
    rows = logbroker("group", "reset", "placed", *options, "-o", "json").json
    (row,) = [row for row in rows if (row["topic"], row["partition"]) == ("places", 1)]
    assert (row["old"], row["new"]) == (2, new)


def test_a_seek_names_each_partition(logbroker: CommandLine) -> None:
    fill(logbroker, "sought", group="seeker")
    assert logbroker("group", "seek", "seeker", "sought/1=9", "-o", "json").json == [
        {"topic": "sought", "partition": 1, "old": 2, "new": 5, "clamped": True}
    ]
    assert logbroker("group", "seek", "seeker", "sought/7=0").code == 2
    assert logbroker("group", "seek", "seeker", "sought=0").code == 2
    assert logbroker("group", "seek", "seeker", "nix/0=0").code == 4


def test_a_reset_needs_one_place(logbroker: CommandLine) -> None:
    assert logbroker("group", "reset", "any").code == 2
    assert logbroker("group", "reset", "any", "--to", "latest", "--shift", "1").code == 2
    assert logbroker("group", "reset", "any", "--to", "yesterday").code == 2


def test_a_delete_shows_what_is_lost_and_demands_yes(logbroker: CommandLine) -> None:
    fill(logbroker, "doomed", group="doomed")
    asked = logbroker("group", "delete", "doomed")
    assert asked.code == 2
    assert "group 'doomed': 2 partitions, last commit 20" in asked.err
    assert logbroker("group", "delete", "doomed", "-y").err == "deleted group 'doomed'\n"
    assert logbroker("group", "describe", "doomed").code == 4


def test_a_group_may_have_any_name(logbroker: CommandLine) -> None:
    fill(logbroker, "named", group="team a/b:c%2F")
    assert logbroker("group", "lag", "team a/b:c%2F", "-o", "jsonl").rows[0]["group"] == "team a/b:c%2F"
    assert logbroker("group", "delete", "team a/b:c%2F", "-y").code == 0


# -- reading -----------------------------------------------------------------------------------------------------------


def test_consuming_as_a_group_goes_on_where_it_stopped(logbroker: CommandLine) -> None:
    fill(logbroker, "read")
    assert logbroker("consume", "read", "--group", "reader", "-n", "2", "--format", "%v ").out == "0 1 "
    assert logbroker("consume", "read", "--group", "reader", "--format", "%v ").out == "2 3 4 "
    assert logbroker("consume", "read", "--group", "reader", "--format", "%v ").out == ""
    assert logbroker("consume", "read", "--group", "peeker", "--no-commit", "--format", "%v").out == "01234"
    assert logbroker("consume", "read", "--group", "peeker", "-o", "jsonl").rows[0]["topic"] == "read"
    assert logbroker("group", "describe", "reader", "-o", "json").json["members"] == []
    assert logbroker("group", "lag", "reader", "--fail-over", "0").code == 0


def test_a_member_reads_what_its_group_says(logbroker: CommandLine) -> None:
    for options in (["-p", "0"], ["--to", "5"], ["--from", "5"]):
        assert logbroker("consume", "any", "--group", "g", *options).code == 2


# -- from the files ----------------------------------------------------------------------------------------------------


def test_the_lag_of_a_stopped_broker_is_read_from_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = quick_broker(tmp_path)
    logbroker = CommandLine(f"http://127.0.0.1:{broker.port}", capsys, monkeypatch)
    for topic in ("a", "b"):
        fill(logbroker, topic, count=400, group="g1")
        logbroker("consume", topic, "--group", "g2", "-n", "150", "--format", "")
        logbroker("group", "seek", "gone", f"{topic}/0=0", "--execute")
    logbroker("topic", "trim", "b", "-p", "1", "--before-offset", "100", "-y")
    logbroker("group", "delete", "gone", "-y")
    online = logbroker("group", "lag", "-o", "jsonl").rows
    beside = logbroker("group", "lag", "-o", "jsonl", "-d", str(tmp_path / "data")).rows
    assert broker.stop() == 0
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    offline = logbroker("group", "lag", "-o", "jsonl", "--data-dir", str(tmp_path / "data")).rows
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files

    def comparable(rows: list[dict[str, object]]) -> list[dict[str, object]]:
        return [{name: value for name, value in row.items() if name not in ("lag_ms", "member_id")} for row in rows]

    assert len(online) == 8
    assert [row["lag"] for row in online if row["group"] == "g2"] == [0, 250, 0, 250]
    assert comparable(offline) == comparable(beside) == comparable(online)
    for row, live in zip(offline, online, strict=True):
        assert 0 <= row["lag_ms"] - live["lag_ms"] < 60_000
    assert logbroker("group", "lag", "g1", "-d", str(tmp_path / "data"), "--no-headers").out.count("\n") == 4
    assert logbroker("group", "lag", "gone", "-d", str(tmp_path / "data")).code == 4
    assert logbroker("group", "lag", "-d", str(tmp_path / "nowhere")).code == 1


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(0, "0ms"), (999, "999ms"), (4_250, "4.2s"), (61_000, "1m01s"), (7_500_000, "2h05m"), (None, "-")],
)
def test_durations_are_short(ms: int | None, shown: str) -> None:
    assert duration(ms) == shown
