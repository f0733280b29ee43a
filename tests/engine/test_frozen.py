"""Frozen copies: one moment of everything, whatever goes on meanwhile."""

import asyncio

import msgspec
import pytest

from logbroker.clock import ManualClock
from logbroker.engine.frozen import FROZEN, FROZEN_DIR, FrozenList
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from tests.engine.conftest import started
from tests.engine.test_contract import WHERE, everything, numbered, values

pytestmark = pytest.mark.asyncio

OTHER = TopicPartition("other", 0)


def copied(files: MemoryFiles, path: str) -> MemoryFiles:
    """A data directory of what a backup would copy."""
    listed = msgspec.json.decode(bytes(files.contents[f"{path}/{FROZEN}"].data), type=FrozenList)
    made = MemoryFiles()
    for one in listed.files:
        directory = ""
        for part in one.path.split("/")[:-1]:
            directory = f"{directory}/{part}".strip("/")
            if not made.exists(directory):
                made.mkdir(directory)
        file = made.create(one.path)
        file.append([files.contents[f"{path}/{one.path}"].data[: one.size]])
    return made


async def test_a_copy_is_of_the_moment_it_was_asked_for(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock, segment_bytes=300)
    for where in (WHERE, OTHER):
        await engine.create_topic(where.topic, 1, {})
        for number in range(10):
            await engine.append(where, numbered(1, number))
    await engine.trim(WHERE, 3)
    freezing = asyncio.ensure_future(engine.storage.freeze())
    await asyncio.sleep(0)
    for number in range(10, 40):
        for where in (WHERE, OTHER):
            await engine.append(where, numbered(1, number))
    await engine.trim(OTHER, 30)
    copy = await freezing
    await engine.append(WHERE, [Record(b"later")])

    again = await started(copied(files, copy.path), clock, segment_bytes=300)
    assert [int(value or b"") for value in values(await everything(again))] == list(range(3, 10))
    bounds = await again.bounds(OTHER)
    assert bounds.high_watermark == 10
    assert (await again.append(WHERE, numbered(1))).base_offset == 10
    await again.stop()
    await engine.storage.release(copy.id)
    await engine.storage.release(copy.id)
    assert files.listdir(FROZEN_DIR) == []
    assert len(await everything(engine)) == 38
    await engine.stop()


async def test_a_log_that_was_deleted_whole_meanwhile_goes_on_behind(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    await engine.create_topic("a", 1, {})
    await engine.create_topic(WHERE.topic, 1, {})
    await engine.append(WHERE, numbered(5))
    freezing = asyncio.ensure_future(engine.storage.freeze())
    await asyncio.sleep(0)  # "a" is linked, the other not yet
    await engine.trim(WHERE, 5)
    files.unlink(f"topics/{engine.topic(WHERE.topic).id}/0/00000000000000000000.log")  # as the next checkpoint would
    copy = await freezing
    again = await started(copied(files, copy.path), clock)
    assert (await again.bounds(WHERE)).high_watermark == 5
    assert await everything(again) == []
    await again.stop()
    await engine.stop()


async def test_what_a_killed_broker_left_is_removed_at_the_next_start(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 1, {})
    await engine.storage.freeze()
    await engine.stop()
    assert files.listdir(FROZEN_DIR)
    await (await started(files, clock)).stop()
    assert not files.exists(FROZEN_DIR)


async def test_control_without_a_mark_the_copy_runs_ahead(clock: ManualClock) -> None:
    files = MemoryFiles()
    engine = await started(files, clock)
    await engine.create_topic("orders", 1, {})
    await engine.append(WHERE, numbered(3))
    copy = await engine.storage.freeze()
    await engine.append(WHERE, numbered(3))
    assert len(await everything(await started(copied(files, copy.path), clock))) == 3
    listed = msgspec.json.decode(bytes(files.contents[f"{copy.path}/{FROZEN}"].data), type=FrozenList)
    unmarked = FrozenList(listed.cluster_id, 0, [msgspec.structs.replace(one, size=1 << 30) for one in listed.files])
    files.contents[f"{copy.path}/{FROZEN}"].data[:] = msgspec.json.encode(unmarked)
    assert len(await everything(await started(copied(files, copy.path), clock))) == 6
    await engine.stop()
