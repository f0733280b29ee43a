"""What the embedded engine adds to the contract: restarts, flushes, files."""

import asyncio

import pytest

from logbroker.clock import ManualClock
from logbroker.engine.api import TopicSpec
from logbroker.errors import DataDirectoryError, FlushFailed, PartitionDamaged
from logbroker.log.files.crashes import flushed_only
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import ProducerStamp, Record, TopicPartition
from tests.engine.conftest import started
from tests.engine.test_contract import WHERE, everything, numbered, values

pytestmark = pytest.mark.asyncio


async def test_everything_is_there_after_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    made = await engine.create_topic("orders", 2, {"segment_bytes": 200})
    for number in range(20):
        await engine.append(WHERE, numbered(1, number))
    await engine.trim(WHERE, 5)
    producer = await engine.allocate_producer_id()
    await engine.stop()

    engine = await started(files, clock)
    assert engine.topic("orders") == made
    assert [int(value or b"") for value in values(await everything(engine))] == list(range(5, 20))
    assert await engine.allocate_producer_id() > producer
    await engine.stop()


async def test_a_deleted_topic_leaves_no_files_and_stays_deleted(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 2, {})
    await engine.append(WHERE, numbered(1))
    await engine.delete_topic("orders")
    assert files.listdir("topics") == []
    await engine.stop()
    engine = await started(files, clock)
    assert engine.topics() == []
    await engine.stop()


async def test_two_engines_never_share_a_directory(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    with pytest.raises(DataDirectoryError):
        await started(files, clock)
    await engine.stop()
    await (await started(files, clock)).stop()


@pytest.mark.parametrize("damage", ["flip", "empty", "remove", "older"])
async def test_a_damaged_catalogue_is_refused_and_never_becomes_an_empty_broker(clock: ManualClock, damage: str) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    older = read(files, "catalog.json")
    await engine.create_topic("orders", 1, {})
    await engine.stop()
    newer = read(files, "catalog.json")
    if damage == "remove":
        files.unlink("catalog.json")
        with pytest.raises(DataDirectoryError):
            await started(files, clock)
        return
    variants = {
        "flip": [newer[:at] + bytes([newer[at] ^ 1]) + newer[at + 1 :] for at in range(len(newer))],
        "empty": [b""],
        "older": [older],
    }[damage]
    for variant in variants:
        write(files, "catalog.json", variant)
        with pytest.raises(DataDirectoryError):
            await started(files, clock)


def read(files: MemoryFiles, path: str) -> bytes:
    file = files.open(path)
    return bytes(file.pread(file.size(), 0))


def write(files: MemoryFiles, path: str, data: bytes) -> None:
    files.unlink(path)
    files.create(path).append([data])


async def test_one_flush_covers_all_producers_of_a_turn(clock: ManualClock) -> None:
    files = FaultFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 1, {})
    await engine.append(WHERE, numbered(1))
    before = files.count("fdatasync")
    await asyncio.gather(*(engine.append(WHERE, numbered(1)) for _ in range(50)))
    assert files.count("fdatasync") - before <= 2
    await engine.stop()


async def test_unflushed_records_are_not_readable_under_fsync_and_are_under_os(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    for durability, readable in (("fsync", 0), ("os", 3)):
        where = TopicPartition(durability, 0)
        await engine.create_topic(durability, 1, {"durability": durability})
        await engine.append(where, numbered(3), durable=False)
        assert (await engine.bounds(where)).high_watermark == readable
    await engine.stop()


async def test_raising_the_durability_never_takes_back_what_was_readable(clock: ManualClock) -> None:
    engine = await started(MemoryFiles(), clock)
    await engine.create_topic("orders", 1, {"durability": "os"})
    await engine.append(WHERE, numbered(3))
    await engine.configure_topic("orders", {"durability": "fsync"})
    assert (await engine.bounds(WHERE)).high_watermark == 3
    await engine.append(WHERE, numbered(1, 3))
    assert len(await everything(engine)) == 4
    await engine.stop()


async def test_a_failed_flush_acknowledges_nothing_and_stops_the_engine(clock: ManualClock) -> None:
    files = FaultFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 1, {})
    await engine.append(WHERE, numbered(1))
    files.fail_next("fdatasync", OSError(5, "Input/output error"))
    with pytest.raises(FlushFailed):
        await engine.append(WHERE, numbered(1))
    assert engine.failed.done()
    with pytest.raises(FlushFailed):
        await engine.append(WHERE, numbered(1))
    assert len(await everything(engine)) == 1
    await engine.stop()


async def test_a_repeated_batch_of_an_idempotent_producer_gets_the_offsets_of_the_original(clock: ManualClock) -> None:
    engine = await started(MemoryFiles(), clock)
    await engine.create_topic("orders", 1, {})
    stamp = ProducerStamp(await engine.allocate_producer_id(), 0, 0)
    first = await engine.append(WHERE, numbered(3), producer=stamp)
    again = await engine.append(WHERE, numbered(3), producer=stamp)
    assert again.duplicate and (again.base_offset, again.next_offset) == (first.base_offset, first.next_offset)
    assert len(await everything(engine)) == 3
    await engine.stop()


async def test_retention_removes_old_segments_but_nothing_that_is_held(clock: ManualClock) -> None:
    engine = await started(MemoryFiles(), clock)
    await engine.create_topic("orders", 1, {"segment_bytes": 200, "retention_ms": 1000})
    for number in range(20):
        await engine.append(WHERE, [Record(b"%d" % number)])
    engine.hold(WHERE, "queue", 10)
    clock.advance(5000)
    await engine.maintain()
    low = (await engine.bounds(WHERE)).log_start_offset
    assert 0 < low <= 10
    engine.hold(WHERE, "queue", None)
    await engine.maintain()
    assert await everything(engine) == []
    assert (await engine.bounds(WHERE)).high_watermark == 20
    await engine.stop()


@pytest.mark.parametrize("action", ["trim", "maintain", "roll"])
async def test_a_flush_that_fails_outside_of_the_flusher_stops_the_engine_too(clock: ManualClock, action: str) -> None:
    files = FaultFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 1, {"segment_bytes": 200, "retention_ms": 1000})
    for number in range(5):
        await engine.append(WHERE, [Record(b"%d" % number)])
    clock.advance(5000)
    kind = "sync_dir" if action == "roll" else "fdatasync"
    files.fail_next(kind, OSError(5, "Input/output error"), for_good=True)
    with pytest.raises(FlushFailed):
        if action == "trim":
            await engine.trim(WHERE, 3)
        elif action == "maintain":
            await engine.maintain()
        else:
            await engine.append(WHERE, [Record(bytes(300))])
    assert engine.failed.done()
    await engine.stop()


async def test_upkeep_goes_on_past_a_partition_where_it_fails(clock: ManualClock) -> None:
    files = FaultFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 2, {"segment_bytes": 200, "retention_ms": 1000})
    other = TopicPartition("orders", 1)
    for where in (WHERE, other):
        await engine.append(where, numbered(3))
    clock.advance(5000)
    files.fail_next("create", OSError(28, "No space left on device"))
    await engine.maintain()
    assert [(await engine.bounds(where)).log_start_offset for where in (WHERE, other)] == [0, 3]
    assert not engine.failed.done()
    await engine.stop()


async def test_a_byte_that_changed_under_a_running_broker_is_found_when_it_is_read(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    info = await engine.create_topic("orders", 1, {})
    for number in range(3):
        await engine.append(WHERE, numbered(1, number))
    file = files.open(f"topics/{info.id}/0/00000000000000000000.log")
    middle = file.size() // 2
    file.pwrite(bytes([file.pread(1, middle)[0] ^ 1]), middle)
    before = await engine.read(WHERE, 0, max_bytes=1 << 20)
    assert ([one.offset for one in before.records], before.next_offset) == ([0], 1)
    with pytest.raises(PartitionDamaged, match="orders-0: the batch at offsets 1 to 1"):
        await engine.read(WHERE, 1, max_bytes=1 << 20)
    assert [one.offset for one in (await engine.read(WHERE, 2, max_bytes=1 << 20)).records] == [2]
    await engine.stop()


async def test_a_damaged_partition_leaves_the_others_alone(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    info = await engine.create_topic("orders", 2, {})
    other = TopicPartition("orders", 1)
    for where in (WHERE, other):
        for number in range(3):
            await engine.append(where, numbered(1, number))
    files = files.crashed() if hasattr(files, "crashed") else files
    await engine.stop()
    path = f"topics/{info.id}/0/00000000000000000000.log"
    data = bytearray(read(files, path))
    data[90] ^= 0xFF
    write(files, path, bytes(data))
    files.unlink(f"topics/{info.id}/0/checkpoint")
    engine = await started(files, clock)
    with pytest.raises(PartitionDamaged):
        await engine.append(WHERE, numbered(1))
    assert len(await everything(engine, other)) == 3
    await engine.append(other, numbered(1))
    await engine.stop()


async def test_a_definition_and_its_topics_are_there_after_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    await engine.define("queue:orders", {"n": 1}, create=[TopicSpec("orders", 2, {})])
    await engine.stop()
    engine = await started(files, clock)
    assert engine.definitions() == {"queue:orders": {"n": 1}}
    assert (engine.topic("orders").partitions, engine.topic("orders").owner) == (2, "queue:orders")
    await engine.stop()


async def test_records_under_os_survive_a_power_cut_once_they_were_made_durable(clock: ManualClock) -> None:
    files = FaultFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 1, {"durability": "os"})
    kept = await engine.append(WHERE, numbered(1))
    await engine.flushed(WHERE, kept.next_offset)
    await engine.append(WHERE, numbered(1, 1))
    engine = await started(flushed_only(files.operations), clock)
    assert values(await everything(engine))[:1] == [b"0"]
    await engine.stop()
