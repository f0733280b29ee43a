"""``logbroker segment`` on the files of a data directory that a broker wrote."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.local_broker import local_broker
from logbroker.cli.main import run
from tests.cli.conftest import Ran

Segment = Callable[..., Ran]

RECORDS = 60


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a topic of two partitions; the records of partition 1 lie in several segments."""
    directory = tmp_path_factory.mktemp("segment") / "data"
    with local_broker(directory) as url, HttpClient(url) as client:
        client.request(
            "PUT", path("topics", "orders"), body={"partitions": 2, "config": {"segment_bytes": 2_000, "retention_ms": -1}}
        )
        for number in range(RECORDS):
            record = {"key": "k", "value": f"value {number}", "partition": 1, "timestamp_ms": 1_700_000_000_000 - number}
            client.request("POST", path("topics", "orders", "records"), body={"records": [record]})
    return directory


@pytest.fixture
def segment(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Segment:
    def command(*arguments: str) -> Ran:
        code = run(["segment", *arguments, "--data-dir", str(data_dir)])
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return command


@pytest.fixture
def bases(segment: Segment) -> list[int]:
    return [row["base_offset"] for row in segment("ls", "orders/1", "-o", "jsonl").rows]


@pytest.fixture
def first_log(segment: Segment) -> Path:
    return Path(segment("ls", "orders/1", "-o", "jsonl").rows[0]["path"])


@pytest.fixture
def flipped(first_log: Path) -> Iterator[Path]:
    """The first segment with one bit changed in the middle of its first batch."""
    whole = first_log.read_bytes()
    first_log.write_bytes(whole[:70] + bytes([whole[70] ^ 1]) + whole[71:])
    yield first_log
    first_log.write_bytes(whole)


def test_ls_lists_every_segment_by_topic_and_partition(segment: Segment, bases: list[int]) -> None:
    rows = segment("ls", "-o", "jsonl").rows
    assert {row["partition"] for row in rows} >= {"orders/0", "orders/1"}
    assert {row["partition"] for row in segment("ls", "orders", "-o", "jsonl").rows} == {"orders/0", "orders/1"}
    assert len(bases) > 2
    assert bases == sorted(bases)
    ones = [row for row in rows if row["partition"] == "orders/1"]
    assert [row["sealed"] for row in ones] == [True] * (len(ones) - 1) + [False]
    assert segment("ls", "orders/1").out.splitlines()[0].split()[:3] == ["PARTITION", "BASE", "OFFSET"]


def test_dump_shows_batches_and_records(segment: Segment) -> None:
    batches = segment("dump", "orders/1", "-o", "jsonl").rows
    assert [batch["base_offset"] for batch in batches] == list(range(RECORDS))
    records = segment("dump", "orders/1", "--print-data", "--offsets", "10:12", "-o", "jsonl").rows
    assert [(record["offset"], record["key"], record["value"]) for record in records] == [
        (10, "k", "value 10"),
        (11, "k", "value 11"),
    ]
    deep = segment("dump", "orders/1", "--deep", "-o", "jsonl").rows
    assert len(deep) == RECORDS
    assert "value" not in deep[0]


def test_one_segment_can_be_named_by_its_base_offset_or_its_path(
    segment: Segment, bases: list[int], first_log: Path
) -> None:
    by_offset = segment("dump", f"orders/1/{bases[1]}", "-o", "jsonl").rows
    assert by_offset[0]["base_offset"] == bases[1]
    by_path = segment("dump", str(first_log), "-o", "jsonl").rows
    assert [row["base_offset"] for row in by_path] == list(range(bases[1]))
    whole_directory = segment("dump", str(first_log.parent), "-o", "jsonl").rows
    assert len(whole_directory) == RECORDS


def test_index_entries_point_at_batches(segment: Segment, data_dir: Path) -> None:
    positions = {row["position"]: row["last_offset"] for row in segment("dump", "orders/1", "-o", "jsonl").rows}
    for row in segment("index", "orders/1", "-o", "jsonl").rows:
        if "position" in row:
            assert positions[row["position"]] is not None


def test_find_names_file_batch_and_position(segment: Segment, bases: list[int]) -> None:
    found = segment("find", "orders/1", "--offset", str(bases[1] + 1), "-o", "json").json
    assert found["offset"] == bases[1] + 1
    assert found["file"].endswith(f"{bases[1]:020d}.log")
    assert found["position"] > 0
    by_time = segment("find", "orders/1", "--timestamp", "1699999999999", "-o", "json").json
    assert (by_time["offset"], by_time["timestamp_ms"]) == (0, 1_700_000_000_000)
    assert segment("find", "orders/1", "--offset", "9999").code == 4
    assert segment("find", "orders", "--offset", "1").code == 2
    assert segment("find", "orders/1").code == 2


def test_targets_that_are_not_there_are_told(segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert segment("dump", "nowhere").code == 4
    assert segment("dump", "orders/7").code == 4
    assert segment("dump", "orders/1/7777").code == 4
    assert segment("dump", "a b").code == 2
    assert run(["segment", "ls", "-d", str(tmp_path)]) == 1
    assert "no catalog.json" in capsys.readouterr().err
    assert run(["segment", "ls", "-d", str(tmp_path / "missing")]) == 1
    assert not (tmp_path / "missing").exists()


def test_dump_stops_at_damage_and_says_where(segment: Segment, flipped: Path) -> None:
    done = segment("dump", str(flipped), "-o", "jsonl")
    assert done.code == 8
    assert done.out == ""
    assert f"{flipped} holds no further whole batch from byte 0: " in done.err


def test_verify_finds_nothing_in_what_a_broker_left(segment: Segment) -> None:
    done = segment("verify", "-o", "json")
    assert (done.code, done.json) == (0, [])
    assert done.err.startswith("no damage in ")


def test_verify_names_file_position_and_offsets_of_damage(segment: Segment, flipped: Path) -> None:
    for target in ([], ["orders"], ["orders/1"], ["orders/1/0"], [str(flipped)]):
        done = segment("verify", *target, "-o", "jsonl")
        assert done.code == 8
        damage = next(row for row in done.rows if row["severity"] == "damage")
        assert damage["file"] == str(flipped)
        assert (damage["position"], damage["first_offset"], damage["last_offset"]) == (0, 0, 0)
    assert segment("verify", "orders/0").code == 0


def test_a_wrong_index_is_told_but_is_no_damage(segment: Segment, first_log: Path) -> None:
    index = first_log.with_suffix(".timeindex")
    whole = index.read_bytes()
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        done = segment("verify", "orders/1", "-o", "jsonl")
    finally:
        index.write_bytes(whole)
    assert done.code == 0
    assert {(row["severity"], row["file"]) for row in done.rows} == {("derived", str(index))}


def test_nothing_is_changed_by_looking(segment: Segment, data_dir: Path) -> None:
    def state() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in data_dir.rglob("*") if file.is_file()}

    before = state()
    for line in (
        ["ls"],
        ["dump", "orders", "--deep"],
        ["index", "orders"],
        ["find", "orders/1", "--offset", "5"],
        ["verify"],
    ):
        assert segment(*line).code == 0
    assert state() == before


def test_json_output_is_one_value(segment: Segment) -> None:
    assert isinstance(json.loads(segment("ls", "-o", "json").out), list)
