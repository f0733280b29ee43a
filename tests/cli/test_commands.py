"""What the daily commands print, word for word, and what they do."""

import json
from pathlib import Path

import pytest

from logbroker.cli import http_client
from tests.cli.conftest import CommandLine

JSONL = (
    b'{"key": "k", "value": "one", "headers": [["a", "1"], ["a", "2"]], "timestamp_ms": 1700000000000, "partition": 1}\n'
    b'{"key_b64": "/w==", "value": null, "timestamp_ms": 1700000000001, "partition": 1}\n'
    b'{"value": "{\\"a\\": 1.0}", "timestamp_ms": 1700000000002, "partition": 0}\n'
)


def fill(logbroker: CommandLine, topic: str, partitions: int = 2) -> None:
    assert logbroker("topic", "create", topic, "-p", str(partitions), "-c", "retention.ms=-1").code == 0
    assert logbroker("produce", topic, "--input", "jsonl", stdin=JSONL).code == 0


# -- topics ----------------------------------------------------------------------------------------------------------


def test_topic_ls_shows_a_table(logbroker: CommandLine) -> None:
    fill(logbroker, "ls-orders")
    logbroker("topic", "create", "ls-empty", "-p", "1")
    listed = logbroker("topic", "ls", "ls-")
    size = listed.out.split()[-1]
    assert listed.out == (
        "NAME       KIND  PARTITIONS  RECORDS  BYTES\n"
        f"ls-empty   log   1           0        0\n"
        f"ls-orders  log   2           3        {size}\n"
    )
    assert logbroker("topic", "ls", "ls-e", "--no-headers").out == "ls-empty  log  1  0  0\n"


def test_topic_ls_in_json_has_the_fields_of_the_http_api(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "json-orders")
    assert logbroker("topic", "ls", "json-", "-o", "json").json == [
        {"name": "json-orders", "kind": "log", "partitions": 1, "records": 0, "bytes": 0, "damaged_partitions": 0}
    ]
    assert logbroker("topic", "ls", "json-", "-o", "jsonl").rows[0]["name"] == "json-orders"


def test_a_list_is_read_over_all_of_its_pages(logbroker: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_PAGE_SIZE", 2)
    names = [f"paged-{number}" for number in range(5)]
    for name in names:
        logbroker("topic", "create", name)
    assert [row["name"] for row in logbroker("topic", "ls", "paged-", "-o", "jsonl").rows] == names


def test_topic_describe_shows_the_topic_and_its_partitions(logbroker: CommandLine) -> None:
    fill(logbroker, "described")
    lines = logbroker("topic", "describe", "described").out.splitlines()
    assert lines[0].split() == ["name", "described"]
    assert [line.split()[0] for line in lines[-3:]] == ["PARTITION", "0", "1"]
    assert lines[-1].split()[-1] == "2023-11-14T22:13:20.001Z"


def test_creating_a_topic_twice_is_fine_and_differently_is_a_conflict(logbroker: CommandLine) -> None:
    assert logbroker("topic", "create", "twice", "-p", "2").code == 0
    assert logbroker("topic", "create", "twice", "-p", "2").code == 0
    refused = logbroker("topic", "create", "twice", "-p", "3")
    assert refused.code == 5
    assert refused.err.startswith("error[CONFIG_CONFLICT]: ")
    assert "hint: 'logbroker topic|queue|sub describe NAME' shows it" in refused.err


def test_a_topic_that_is_not_there_is_exit_code_4(logbroker: CommandLine) -> None:
    for line in (["topic", "describe", "nowhere"], ["topic", "delete", "nowhere", "-y"], ["consume", "nowhere"]):
        refused = logbroker(*line)
        assert refused.code == 4
        assert refused.err.startswith("error[UNKNOWN_TOPIC_OR_PARTITION]: there is no topic 'nowhere'")


def test_settings_are_altered_unset_and_explained(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "altered", "-c", "retention_ms=1000000")
    assert logbroker("topic", "alter", "altered", "-c", "segment.bytes=1000000", "--unset", "retention_ms").code == 0
    rows = {row["name"]: row for row in logbroker("topic", "config", "altered", "-o", "jsonl").rows}
    assert (rows["segment_bytes"]["value"], rows["segment_bytes"]["source"]) == (1_000_000, "topic")
    assert rows["retention_ms"]["source"] == "default"
    assert logbroker("topic", "alter", "altered", "-c", "nonsense=1").code == 2
    assert logbroker("topic", "alter", "altered", "-c", "retention_ms=soon").code == 2
    assert logbroker("topic", "alter", "altered").code == 2


def test_a_topic_grows(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "growing")
    assert logbroker("topic", "add-partitions", "growing", "3", "-o", "json").json["partitions"] == 3
    assert logbroker("topic", "add-partitions", "growing", "2").code == 2


def test_trim_and_delete_show_a_plan_and_demand_yes(logbroker: CommandLine) -> None:
    fill(logbroker, "trimmed")
    asked = logbroker("topic", "trim", "trimmed", "-p", "1", "--before-offset", "1")
    assert asked.code == 2
    assert "partition 1: below offset 1" in asked.err
    assert "--yes" in asked.err
    done = logbroker("topic", "trim", "trimmed", "-p", "1", "--before-offset", "1", "--yes")
    assert done.out == "PARTITION  LOW WATERMARK\n1          1\n"
    assert [row["offset"] for row in logbroker("consume", "trimmed", "-p", "1", "-o", "jsonl").rows] == [1]
    assert logbroker("topic", "delete", "trimmed").code == 2
    assert logbroker("topic", "delete", "trimmed", "-y").err == "deleted topic 'trimmed'\n"
    assert logbroker("topic", "describe", "trimmed").code == 4


def test_reserved_names_are_refused(logbroker: CommandLine) -> None:
    refused = logbroker("topic", "create", "orders.dlq")
    assert refused.code == 6
    assert refused.err.startswith("error[TOPIC_RESERVED]: ")


# -- records ---------------------------------------------------------------------------------------------------------


def test_lines_become_records_and_a_summary(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "lines")
    done = logbroker("produce", "lines", "-k", "key", "-H", "a:b:c", stdin=b"one\r\ntwo\n\nfour")
    assert done.out == "PARTITION  RECORDS  FIRST OFFSET  LAST OFFSET\n0          4        0             3\n"
    rows = logbroker("consume", "lines", "-o", "jsonl").rows
    assert [row["value"] for row in rows] == ["one", "two", "", "four"]
    assert {row["key"] for row in rows} == {"key"}
    assert rows[0]["headers"] == [["a", "b:c"]]


def test_consume_prints_tab_separated_columns(logbroker: CommandLine) -> None:
    fill(logbroker, "columns")
    assert logbroker("consume", "columns", "-p", "1").out == (
        "PARTITION\tOFFSET\tTIMESTAMP\tKEY\tVALUE\n"
        "1\t0\t2023-11-14T22:13:20.000Z\tk\tone\n"
        "1\t1\t2023-11-14T22:13:20.001Z\t\\xff\t-\n"
    )


def test_consume_feeds_produce_without_loss(logbroker: CommandLine) -> None:
    fill(logbroker, "source")
    consumed = logbroker("consume", "source", "-o", "jsonl")
    logbroker("topic", "create", "copy", "-p", "2")
    assert logbroker("produce", "copy", "--input", "jsonl", stdin=consumed.out.encode()).code == 0
    copied = logbroker("consume", "copy", "-o", "jsonl").rows
    assert copied == [{**row, "topic": "copy"} for row in consumed.rows]
    given = [json.loads(line) for line in JSONL.splitlines()]
    assert sorted(row["timestamp_ms"] for row in copied) == [row["timestamp_ms"] for row in given]


def test_a_file_of_any_bytes_is_one_raw_record(logbroker: CommandLine, tmp_path: Path) -> None:
    logbroker("topic", "create", "raw")
    content = bytes(range(256)) * 10
    (tmp_path / "blob").write_bytes(content)
    assert logbroker("produce", "raw", "--input", "raw", "--file", str(tmp_path / "blob"), "-o", "json").code == 0
    (row,) = logbroker("consume", "raw", "-o", "json").json
    assert row["value_b64"]
    assert (row["offset"], row["key"]) == (0, None)


def test_many_short_lines_are_cut_into_requests_the_broker_takes(logbroker: CommandLine, tmp_path: Path) -> None:
    logbroker("topic", "create", "many")
    (tmp_path / "lines").write_bytes(b"x\n" * 30_000)
    done = logbroker("produce", "many", "--file", str(tmp_path / "lines"), "-o", "jsonl")
    assert [row["offset"] for row in done.rows] == list(range(30_000))
    assert logbroker("consume", "many", "--format", "%v").out == "x" * 30_000


@pytest.mark.parametrize(
    ("positions", "offsets"),
    [
        (["--from", "earliest"], [0, 1, 2, 3, 4]),
        (["--from", "latest"], []),
        (["--from", "3"], [3, 4]),
        (["--from", "+1"], [1, 2, 3, 4]),
        (["--from", "-2"], [3, 4]),
        (["--from", "-20"], [0, 1, 2, 3, 4]),
        (["--from", "2023-11-14T22:13:22"], [2, 3, 4]),
        (["--from", "2023-11-14T23:13:22+01:00"], [2, 3, 4]),
        (["--from", "10m"], []),
        (["--to", "2"], [0, 1]),
        (["--from", "1", "--to", "2023-11-14T22:13:23Z"], [1, 2]),
        (["-n", "2"], [0, 1]),
        (["--from", "4", "--to", "2"], []),
    ],
    ids=lambda given: " ".join(map(str, given)),
)
def test_reading_starts_and_stops_at_any_position(logbroker: CommandLine, positions: list[str], offsets: list[int]) -> None:
    if logbroker("topic", "describe", "positions").code:
        logbroker("topic", "create", "positions", "-c", "retention.ms=-1")
        lines = [json.dumps({"value": str(at), "timestamp_ms": 1_700_000_000_000 + at * 1000}) for at in range(5)]
        assert logbroker("produce", "positions", "--input", "jsonl", stdin="\n".join(lines).encode()).code == 0
    read = logbroker("consume", "positions", "--format", r"%o\n", *positions)
    assert (read.code, [int(line) for line in read.out.split()]) == (0, offsets)


def test_a_position_that_is_none_is_a_usage_error(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "lines")
    refused = logbroker("consume", "lines", "--from", "yesterday")
    assert refused.code == 2
    assert refused.err.startswith("error[INVALID_OFFSET]: 'yesterday' is no position")


def test_partitions_take_turns(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "turns", "-p", "2")
    for partition in ("0", "1"):
        logbroker("produce", "turns", "-p", partition, stdin=b"x\n" * 3_000)
    partitions = logbroker("consume", "turns", "--format", "%p").out
    assert sorted(partitions) == ["0"] * 3_000 + ["1"] * 3_000
    assert partitions.index("1") < partitions.rindex("0")


def test_a_bad_line_says_what_was_written_before_it(logbroker: CommandLine, tmp_path: Path) -> None:
    logbroker("topic", "create", "partly")
    lines = b'{"value": "x"}\n' * 6_000 + b"nonsense\n"
    (tmp_path / "lines").write_bytes(lines)
    refused = logbroker("produce", "partly", "--input", "jsonl", "--file", str(tmp_path / "lines"))
    assert refused.code == 2
    assert refused.err.splitlines()[0] == "5000 records were written before this:"
    assert refused.err.splitlines()[1].startswith("error[INVALID_REQUEST]: line 6001 is no JSON")


def test_what_the_broker_refuses_is_told(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "small", "-c", "max_message_bytes=1000")
    refused = logbroker("produce", "small", stdin=b"x" * 5_000)
    assert (refused.code, refused.err.split(":")[0]) == (1, "error[MESSAGE_TOO_LARGE]")


# -- filters -----------------------------------------------------------------------------------------------------------


def test_consume_prints_what_matches(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "sifted", "-p", "2")
    lines = [{"key": f'k"{n}', "value": f'{{"n":{n}}}', "headers": [["to", "x:y" if n % 2 else "z"]]} for n in range(20)]
    logbroker("produce", "sifted", "--input", "jsonl", stdin="\n".join(map(json.dumps, lines)).encode())

    def found(*options: str) -> list[int]:
        ran = logbroker("consume", "sifted", "-o", "jsonl", *options)
        assert ran.code == 0, ran
        return sorted(int(row["value"][5:-1]) for row in ran.rows)

    assert found("--filter", "value.n >= 18") == [18, 19]
    assert found("--key", 'k"3') == [3]
    assert found("-H", "to:x:y", "--filter", "value.n < 4 || value.n == 7") == [1, 3, 7]
    assert len(found("--filter", "value.n > 2", "-n", "5")) == 5
    assert found("--filter", "false", "--from", "-3") == []


def test_a_bad_filter_is_told_with_its_column(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "refusing")
    logbroker("produce", "refusing", stdin=b"one")
    refused = logbroker("consume", "refusing", "--filter", "key == nix")
    assert refused.code == 2
    assert refused.err.startswith("error[FILTER_INVALID]: the filter is not accepted at column 8: ")
    assert logbroker("consume", "refusing", "--filter", "true", "--group", "g").code == 2


def test_a_search_finds_records_and_says_how_to_go_on(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "sought")
    lines = [{"key": f"k{n % 2}", "value": f'{{"n":{n}}}', "timestamp_ms": 1_000 * n} for n in range(10)]
    logbroker("produce", "sought", "--input", "jsonl", stdin="\n".join(map(json.dumps, lines)).encode())
    found = logbroker("topic", "search", "sought", "-k", "k1", "--filter", "value.n > 2", "--format", "%o ")
    assert (found.code, found.out, found.err) == (0, "3 5 7 9 ", "found 4 of 10 records looked at\n")
    assert logbroker("topic", "search", "sought", "--back", "-n", "2", "--format", "%o ").out == "9 8 "
    assert (
        logbroker("topic", "search", "sought", "--from", "1970-01-01T00:00:07", "--to", "9", "--format", "%o ").out
        == "7 8 "
    )
    first = logbroker("topic", "search", "sought", "-k", "k0", "-n", "3", "-o", "jsonl")
    assert [row["offset"] for row in first.rows] == [0, 2, 4]
    cursor = first.err.split("--cursor ")[1].strip()
    rest = logbroker("topic", "search", "sought", "-k", "k0", "--cursor", cursor, "-o", "json")
    assert [row["offset"] for row in rest.json] == [6, 8]
    assert logbroker("topic", "search", "sought", "--cursor", cursor).code == 2
    assert "error[FILTER_INVALID]" in logbroker("topic", "search", "sought", "--filter", "nix").err


def test_a_replay_is_followed_to_its_end(logbroker: CommandLine) -> None:
    logbroker("topic", "create", "played")
    logbroker("topic", "create", "copied")
    logbroker("queue", "create", "playing")
    logbroker("produce", "played", "-k", "k", stdin=b"0\n1\n2\n3\n4")
    done = logbroker(
        "topic",
        "replay",
        "played",
        "--from",
        "1",
        "--to",
        "4",
        "--filter",
        "value != 2",
        "--into-queue",
        "playing",
        "-o",
        "json",
    )
    assert (done.code, done.json["state"], done.json["done"]) == (0, "done", 2)
    assert [row["value"] for row in logbroker("queue", "receive", "playing", "-n", "9", "-o", "jsonl").rows] == ["1", "3"]
    assert logbroker("topic", "replay", "played", "--into-topic", "copied", "--rate", "1000").code == 0
    assert logbroker("consume", "copied", "--format", "%v").out == "01234"
    assert logbroker("topic", "replay", "played", "--go-on", done.json["id"]).code == 0
    assert logbroker("topic", "replay", "played").code == 2
    assert logbroker("topic", "replay", "played", "--into-queue", "nowhere").code == 4
