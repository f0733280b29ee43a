"""Kafka's cleaner and ours leave the same of the same segments: records, markers and offsets."""

import itertools
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from logbroker.log.compaction.cleaner import Cleaner
from logbroker.log.compaction.job import Job, Source
from logbroker.log.files.disk import DiskFiles
from logbroker.records.batch import iter_headers
from logbroker.records.codec import decode
from tools.bench.servers.kafka import kafka

pytestmark = pytest.mark.interop

TOPIC = "compacted"
_MEBIBYTE = 1 << 20
_WAIT_S = 60.0
BROKER = {"log.cleaner.backoff.ms": "100", "log.retention.check.interval.ms": "1000", "log.cleaner.threads": "1"}


class Left(NamedTuple):
    """A record that is there."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    is_marker: bool


def left_in(folder: Path, below: int) -> list[Left]:
    """All records of the segments that begin in front of an offset."""
    found: list[Left] = []
    for path in sorted(folder.glob("*.log")):
        if int(path.stem) < below:
            data = path.read_bytes()
            for at, header in iter_headers(data):
                records = decode(data, at, control=True) if header.record_count else []
                found += [Left(one.offset, one.key, one.value, one.timestamp_ms, header.is_control) for one in records]
    return found


def write(address: str) -> None:
    """Some keys over and over, in several codecs, with tombstones, and with transactions that commit and abort."""
    client = {"bootstrap.servers": address}
    for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        producer = Producer({**client, "compression.type": codec, "linger.ms": 50, "enable.idempotence": number % 2 == 1})
        for one in range(400):
            value = None if one % 50 == number else bytes([number, one % 256]) * 1000
            producer.produce(TOPIC, value, b"key-%d" % (one * (number + 1) % 97), timestamp=1_700_000_000_000 + one)
        producer.flush(30)
        _transactions(client, number)
    producer = Producer(client)
    for one in range(3):
        producer.produce(TOPIC, bytes(600_000 + one), b"large")
        producer.flush(30)


def _transactions(client: dict[str, str], number: int) -> None:
    producer = Producer({**client, "transactional.id": f"writer-{number}"})
    producer.init_transactions(30)
    for commits in (True, False, True):
        producer.begin_transaction()
        for one in range(20):
            producer.produce(TOPIC, b"in a transaction %d" % commits, b"key-%d" % (one * 7 % 97))
        producer.flush(30)
        producer.commit_transaction(30) if commits else producer.abort_transaction(30)


def compact_by_kafka(admin: AdminClient, data: Path, upto: int) -> None:
    """Let Kafka's cleaner go through all that is sealed."""
    resource = ConfigResource(
        ConfigResource.Type.TOPIC,
        TOPIC,
        incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in (("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"))
        ],
    )
    admin.incremental_alter_configs([resource])[resource].result(30)
    deadline = time.monotonic() + _WAIT_S
    checkpoint = data / "cleaner-offset-checkpoint"
    while time.monotonic() < deadline:
        lines = checkpoint.read_text().splitlines() if checkpoint.exists() else []
        if f"{TOPIC} 0 {upto}" in lines:
            return
        time.sleep(0.1)
    raise AssertionError(f"Kafka did not compact up to {upto}")


def compact_by_us(folder: Path, upto: int) -> list[Left]:
    """A pass of our cleaner over the sealed segments in ``folder``; what is left."""
    bases = sorted(int(path.stem) for path in folder.glob("*.log"))
    sources = [
        Source(base, following, (folder / f"{base:020d}.log").stat().st_size)
        for base, following in itertools.pairwise(bases)
    ]
    active = bases[-1]
    job = Job(
        path=folder.name,
        sources=sources,
        deciding=[Source(active, active, (folder / f"{active:020d}.log").stat().st_size)],
        dirty_from=0,
        now_ms=time.time_ns() // 1_000_000,
        delete_retention_ms=86_400_000,
        producers={},
        segment_bytes=_MEBIBYTE,
        index_bytes=10 * _MEBIBYTE,
        index_interval_bytes=4096,
        table_bytes=_MEBIBYTE,
    )
    cleaner = Cleaner(DiskFiles(folder.parent), job)
    for _ in cleaner.run():
        pass
    assert cleaner.result.cleaned_to == upto
    for output in cleaner.result.outputs:
        for source in output.sources:
            (folder / f"{source.base_offset:020d}.log").unlink()
        (folder / f"{output.base_offset:020d}.log.cleaned").rename(folder / f"{output.base_offset:020d}.log")
    return left_in(folder, upto)


def test_kafkas_cleaner_and_ours_leave_the_same(kafka_jars: str, tmp_path: Path) -> None:
    with kafka(tmp_path / "kafka", heap="256m", settings=BROKER) as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        settings = {"segment.bytes": str(_MEBIBYTE), "cleanup.policy": "delete", "retention.ms": "-1"}
        admin.create_topics([NewTopic(TOPIC, 1, 1, config=settings)])[TOPIC].result(30)
        write(server.address)
        theirs = tmp_path / "kafka" / "data" / f"{TOPIC}-0"
        ours = tmp_path / "ours"
        shutil.copytree(theirs, ours)
        active = max(int(path.stem) for path in theirs.glob("*.log"))
        before = left_in(ours, active)
        compact_by_kafka(admin, tmp_path / "kafka" / "data", active)
        expected = left_in(theirs, active)
    found = compact_by_us(ours, active)
    assert found == expected
    assert len(found) < len(before) / 3
    assert any(one.is_marker for one in found) and any(one.value is None for one in found)
