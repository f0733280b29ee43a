"""Compaction in a running engine: the worker process, holds, several topics, deletion under way."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any

import pytest

from logbroker.clock import ManualClock
from logbroker.config import INT64_MAX, BrokerConfig, TopicConfig
from logbroker.engine.api import Isolation
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import FlushFailed
from logbroker.log.compaction.worker import paced
from logbroker.log.files import Files
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.partition import PartitionLog
from logbroker.model import ProducerStamp, Record, TopicPartition

pytestmark = pytest.mark.asyncio
WHERE = TopicPartition("prices", 0)
SETTINGS = {"cleanup_policy": "compact", "segment_bytes": 2000}


async def started(files: Files, clock: ManualClock, rate: int = INT64_MAX) -> EmbeddedEngine:
    config = BrokerConfig(compaction_io_bytes_per_second=rate)
    engine = EmbeddedEngine(files, config, TopicConfig(), clock)
    await engine.start()
    return engine


@pytest.fixture(params=["disk", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return DiskFiles(tmp_path) if request.param == "disk" else MemoryFiles()


async def filled(engine: EmbeddedEngine, where: TopicPartition = WHERE, count: int = 100) -> None:
    for number in range(count):
        await engine.append(where, [Record(b"v%d" % number, key=b"k%d" % (number % 7))])


async def left(engine: EmbeddedEngine, where: TopicPartition = WHERE) -> list[tuple[int, bytes | None]]:
    found: list[tuple[int, bytes | None]] = []
    bounds = await engine.bounds(where)
    offset = bounds.log_start_offset
    while offset < bounds.high_watermark:
        read = await engine.read(where, offset, max_bytes=500)
        assert read.next_offset > offset
        found += [(record.offset, record.key) for record in read.records]
        offset = read.next_offset
    return found


async def test_what_is_left_can_be_read_and_is_there_after_a_restart(files: Files, clock: ManualClock) -> None:
    engine = await started(files, clock)
    await engine.create_topic("prices", 1, SETTINGS)
    await filled(engine)
    sealed = engine.storage.segments(WHERE)[-1].base_offset
    done = await engine.compact()
    assert done is not None and done.where == WHERE and done.end == sealed
    assert done.bytes_after < done.bytes_before / 4 and done.records_dropped == sealed - 7
    expected = [(number, b"k%d" % (number % 7)) for number in range(sealed - 7, 100)]
    assert await left(engine) == expected
    assert await engine.compact() is None
    await engine.stop()
    again = await started(files, clock)
    assert await left(again) == expected
    await filled(again)
    assert await again.compact() is not None
    await again.stop()


async def test_what_is_held_is_not_compacted_unless_the_topic_says_so(clock: ManualClock) -> None:
    engine = await started(MemoryFiles(), clock)
    await engine.create_topic("prices", 1, SETTINGS)
    await filled(engine)
    engine.hold(WHERE, "queue", 30)
    done = await engine.compact()
    assert done is not None and done.end <= 30
    assert [one[0] for one in await left(engine)][-70:] == list(range(30, 100))
    assert await engine.compact() is None
    await engine.configure_topic("prices", {"compact_unread": True})
    done = await engine.compact()
    assert done is not None and done.end > 30
    await engine.stop()


async def test_transactions_read_the_same_before_and_after_to_those_who_see_only_what_is_committed(
    files: Files, clock: ManualClock
) -> None:
    engine = await started(files, clock)
    await engine.create_topic("prices", 1, SETTINGS)
    writers = [await engine.allocate_producer_id() for _ in range(3)]
    sequences = dict.fromkeys(writers, 0)
    for number in range(90):
        writer = writers[number % 3]
        record = Record(b"v%d" % number, key=b"k%d" % (number % 5))
        stamp = ProducerStamp(writer, 0, sequences[writer])
        await engine.append(WHERE, [record], producer=stamp, transactional=True)
        sequences[writer] += 1
        if number % 9 > 5:
            await engine.end_transaction(WHERE, writer, 0, committed=number % 2 == 0)
    for writer in writers:
        await engine.end_transaction(WHERE, writer, 0, committed=True)
    await filled(engine, count=40)

    async def last_values() -> dict[bytes | None, tuple[int, bytes | None]]:
        seen: dict[bytes | None, tuple[int, bytes | None]] = {}
        bounds, offset = await engine.bounds(WHERE), 0
        while offset < bounds.high_watermark:
            read = await engine.read(WHERE, offset, max_bytes=300, isolation=Isolation.READ_COMMITTED)
            seen.update({one.key: (one.offset, one.value) for one in read.records})
            offset = read.next_offset
        return seen

    before = await last_values()
    done = await engine.compact()
    assert done is not None and done.records_dropped > 60
    assert await last_values() == before
    await engine.stop()
    engine = await started(files, clock)
    assert await last_values() == before
    await engine.stop()


async def test_the_dirtiest_partition_comes_first(clock: ManualClock) -> None:
    engine = await started(MemoryFiles(), clock)
    await engine.create_topic("prices", 1, {**SETTINGS, "min_cleanable_dirty_ratio": 0.1})
    await engine.create_topic("stock", 1, SETTINGS)
    for number in range(40):
        await engine.append(WHERE, [Record(bytes(300), key=b"%d" % number)])
    assert await engine.compact() is not None
    for number in range(40):
        await engine.append(WHERE, [Record(bytes(300), key=b"%d" % number)])
    await filled(engine, TopicPartition("stock", 0))
    done = [await engine.compact() for _ in range(3)]
    assert [one.where.topic if one else None for one in done] == ["stock", "prices", None]
    await engine.stop()


async def test_appends_and_reads_go_on_meanwhile_and_the_loop_is_not_held(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: list[float] = []
    for step in (PartitionLog.compaction_job, PartitionLog.begin_swap, PartitionLog.swap_in, PartitionLog.finish_swap):
        monkeypatch.setattr(PartitionLog, step.__name__, timed(step, took))
    engine = await started(DiskFiles(tmp_path), clock)
    await engine.create_topic("prices", 1, {**SETTINGS, "segment_bytes": 50_000})
    await filled(engine, count=1500)
    compaction = asyncio.create_task(engine.compact())
    number = 0
    while not compaction.done():
        await engine.append(WHERE, [Record(b"more", key=b"m%d" % number)])
        assert (await engine.read(WHERE, 1499 + number, max_bytes=1)).records
        number += 1
    done = await compaction
    assert done is not None and number > 5
    assert len(took) >= 4 and max(took) < 0.01
    assert [one[0] for one in await left(engine)] == [*range(done.end - 7, 1500 + number)]
    await engine.stop()


def timed(step: Callable[..., Any], took: list[float]) -> Callable[..., Any]:
    """``step``, with the time that it takes of the loop's thread noted."""

    def wrapper(*given: Any) -> Any:
        before = thread_time()
        try:
            return step(*given)
        finally:
            took.append(thread_time() - before)

    return wrapper


async def come_up(engine: EmbeddedEngine) -> asyncio.subprocess.Process:
    """The cleaner, once it runs."""
    for _ in range(1000):
        if engine._compactor.process is not None:
            return engine._compactor.process
        await asyncio.sleep(0.01)
    raise AssertionError("no cleaner came up")


@pytest.mark.parametrize("how", ["killed", "topic deleted", "engine stopped"])
async def test_a_cleaner_that_is_interrupted_changes_nothing(tmp_path: Path, clock: ManualClock, how: str) -> None:
    files = DiskFiles(tmp_path)
    engine = await started(files, clock, rate=1024)
    await engine.create_topic("prices", 1, {**SETTINGS, "segment_bytes": 100_000})
    for number in range(60):
        await engine.append(WHERE, [Record(os.urandom(50_000), key=b"k%d" % (number % 7))])
    expected = await left(engine)
    compaction = asyncio.create_task(engine.compact())
    process = await come_up(engine)
    if how == "killed":
        os.kill(process.pid, signal.SIGKILL)
        assert await compaction is None
        assert await left(engine) == expected
    elif how == "topic deleted":
        await engine.delete_topic("prices")
        assert await compaction is None
        assert [one.name for one in (tmp_path / "topics").iterdir()] == []
    else:
        compaction.cancel()
        await asyncio.wait([compaction])
    assert process.returncode == -signal.SIGKILL
    await engine.stop()
    again = await started(files, clock)
    if how != "topic deleted":
        assert await left(again) == expected
    await again.stop()


async def test_a_swap_that_fails_half_way_stops_the_engine(clock: ManualClock) -> None:
    files = FaultFiles()
    engine = await started(files, clock)
    await engine.create_topic("prices", 1, SETTINGS)
    await filled(engine)
    files.fail_next("rename", OSError(5, "Input/output error"), after=2)
    with pytest.raises(FlushFailed):
        await engine.compact()
    assert engine.failed.done()
    await engine.stop()
    files.heal()
    again = await started(files, clock)
    assert {key for _, key in await left(again)} == {b"k%d" % number for number in range(7)}
    await again.stop()


async def test_where_the_copies_would_not_fit_nothing_is_begun(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    await engine.create_topic("prices", 1, SETTINGS)
    await filled(engine)
    monkeypatch.setattr(files, "free_bytes", lambda: 1000)
    assert await engine.compact() is None
    assert "1000 are free" in caplog.text
    assert not [path for path in files.contents if path.endswith(".cleaned")]
    await engine.stop()


async def test_a_worker_ends_with_its_parent() -> None:
    with pytest.raises(SystemExit):
        paced([1 << 20] * 3, 1 << 40, parent=1 if os.getppid() != 1 else 2)
