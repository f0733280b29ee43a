"""Segments cross between logbroker and Apache Kafka in both directions: each one's own tool reads what the other wrote."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.log.files.disk import DiskFiles
from logbroker.model import Header, ProducerStamp, Record, TopicPartition
from logbroker.records.batch import Compression
from logbroker.records.codec import encode
from tests.interop.broker import WrittenByKafka, write_by_kafka
from tests.interop.dump import dump

pytestmark = pytest.mark.interop

FIRST_MS = ManualClock().now().wall_ms
ROUNDS = 12


# -- ours, read by Kafka's tool --------------------------------------------------------------------------------------


def our_records(codec: Compression, number: int) -> list[Record]:
    """A few records with printable contents; their timestamps go up and down."""
    headers = (Header("codec", codec.kafka_name.encode()), Header("round", b"%d" % number), Header("null", None))
    records = [
        Record(
            f"{codec.kafka_name}/{number}/{one}".encode() * 20, f"key-{one}".encode(), headers, FIRST_MS + one * 7919 % 1000
        )
        for one in range(20)
    ]
    return [*records, Record(None, b"tombstone", (), FIRST_MS - number), Record(b"no key", None, (), FIRST_MS + number)]


async def write_segments(directory: Path) -> tuple[list[Record], Path]:
    """Fill a topic through the engine, stop it cleanly, and return what stands there and the folder of its partition."""
    engine = EmbeddedEngine(DiskFiles(directory), BrokerConfig(), TopicConfig(), ManualClock())
    await engine.start()
    where = TopicPartition("written-by-us", 0)
    info = await engine.create_topic(
        where.topic, 1, {"segment_bytes": 20_000, "index_interval_bytes": 500, "retention_ms": -1}
    )
    written: list[Record] = []
    for number in range(ROUNDS):
        for codec in Compression:
            records = our_records(codec, number)
            stamp = ProducerStamp(7, 0, number * len(records)) if codec is Compression.LZ4 else ProducerStamp()
            appended = engine.raw.append(where, encode(records, now_ms=FIRST_MS, compression=codec, producer=stamp))
            assert appended.base_offset == len(written)
            written += records
    await engine.stop()
    return written, directory / "topics" / str(info.id) / "0"


def files_of(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"*.{kind}"))


@pytest.mark.asyncio
async def test_kafkas_dump_tool_reads_our_segments_without_complaint(kafka_jars: str, tmp_path: Path) -> None:
    written, folder = await write_segments(tmp_path)
    logs = files_of(folder, "log")
    assert len(logs) > 3

    seen = dump(logs, "--deep-iteration", "--print-data-log")

    assert seen.complaints == []
    assert [int(record["offset"] or -1) for record in seen.records] == list(range(len(written)))
    for record, ours in zip(seen.records, written, strict=True):
        assert record["timestamp"] == str(ours.timestamp_ms)
        assert record["key"] == (ours.key.decode() if ours.key is not None else None)
        assert record["value"] == (ours.value.decode() if ours.value is not None else None)
        assert record["headers"] == ",".join(header.name for header in ours.headers)
    assert {batch["compresscodec"] for batch in seen.batches} == {"none", "gzip", "snappy", "lz4", "zstd"}
    assert {batch["producerId"] for batch in seen.batches if batch["compresscodec"] == "lz4"} == {"7"}


@pytest.mark.asyncio
async def test_kafkas_dump_tool_finds_our_indexes_sane_and_true(kafka_jars: str, tmp_path: Path) -> None:
    _, folder = await write_segments(tmp_path)
    offset_indexes, time_indexes = files_of(folder, "index"), files_of(folder, "timeindex")
    logs = files_of(folder, "log")
    assert [path.stem for path in offset_indexes] == [path.stem for path in time_indexes] == [path.stem for path in logs]
    assert all(path.stat().st_size > 0 for path in offset_indexes)

    indexes = offset_indexes + time_indexes

    assert dump(indexes, "--index-sanity-check").complaints == []
    assert dump(indexes, "--verify-index-only").complaints == []


@pytest.mark.asyncio
async def test_kafkas_dump_tool_does_complain_of_a_damaged_segment_and_index(kafka_jars: str, tmp_path: Path) -> None:
    _, folder = await write_segments(tmp_path)
    log, index = files_of(folder, "log")[0], files_of(folder, "index")[0]
    for path, position in ((log, 2000), (index, 3)):
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)

    assert dump([log], "--deep-iteration", "--print-data-log").complaints != []
    assert dump([index], "--verify-index-only").complaints != []


# -- Kafka's, read by our tool ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def from_kafka(kafka_jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WrittenByKafka]:
    yield write_by_kafka(tmp_path_factory.mktemp("kafka"))


def segment_command(*arguments: str) -> list[dict[str, Any]]:
    """The rows that ``logbroker segment`` prints, which must find nothing wrong."""
    command = [sys.executable, "-m", "logbroker", "segment", *arguments, "-o", "jsonl", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_our_dump_reads_every_record_of_kafkas_segments(from_kafka: WrittenByKafka) -> None:
    rows = segment_command("dump", str(from_kafka.folder), "--print-data")

    assert len(files_of(from_kafka.folder, "log")) > 1
    markers = [row["offset"] for row in rows if row["offset"] not in from_kafka.records]
    assert len(markers) == 2, "one commit and one abort marker"
    found = {row["offset"]: row for row in rows}
    for offset, record in from_kafka.records.items():
        row = found[offset]
        assert row.get("key") == (record.key.decode() if record.key is not None else None)
        assert row.get("value") == (record.value.decode() if record.value is not None else None)
        assert [(name, value) for name, value in row["headers"]] == [
            (name, value.decode() if value is not None else None) for name, value in record.headers
        ]
        if record.timestamp_ms is not None:
            assert row["timestamp_ms"] == record.timestamp_ms


def test_our_dump_knows_the_batches_of_kafkas_producers(from_kafka: WrittenByKafka) -> None:
    rows = segment_command("dump", str(from_kafka.folder))

    assert {row["compression"] for row in rows} == {"none", "gzip", "snappy", "lz4", "zstd"}
    assert sum(row["control"] for row in rows) == 2
    transactional = [row for row in rows if row["transactional"] and not row["control"]]
    covered = {offset for row in transactional for offset in range(row["base_offset"], row["last_offset"] + 1)}
    assert from_kafka.aborted < covered
    assert any(row["producer_id"] >= 0 and not row["transactional"] for row in rows), "an idempotent producer wrote"
    assert [row["base_offset"] for row in rows[1:]] == [row["last_offset"] + 1 for row in rows[:-1]]


def test_our_verify_finds_nothing_wrong_with_kafkas_segments_but_that_they_have_no_digest(
    from_kafka: WrittenByKafka,
) -> None:
    rows = segment_command("verify", str(from_kafka.folder))

    assert {row["severity"] for row in rows} == {"note"}
    assert {Path(row["file"]).suffix for row in rows} == {".digest"}


def test_our_verify_finds_a_flipped_byte_in_a_segment_of_kafkas(from_kafka: WrittenByKafka, tmp_path: Path) -> None:
    log = files_of(from_kafka.folder, "log")[0]
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / log.name).write_bytes(data)

    command = [sys.executable, "-m", "logbroker", "segment", "verify", str(tmp_path), "-o", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 8
    assert any(json.loads(line)["severity"] == "damage" for line in done.stdout.splitlines())
