"""What happens when the disk gets full: who is refused, who goes on, and how it ends."""

import pytest

from logbroker.clock import ManualClock
from logbroker.config import KIB, BrokerConfig, TopicConfig
from logbroker.engine.api import INTERNAL
from logbroker.engine.diskspace import DiskSpace
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import DiskFull
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from tests.engine.small_disk import SmallDisk
from tests.engine.test_contract import WHERE, everything, values

RESERVE = 64 * KIB
DISK = 512 * KIB
JOURNAL = TopicPartition("__journal", 0)


def space(files: MemoryFiles, reserve: int = RESERVE) -> DiskSpace:
    disk = DiskSpace(files, reserve)
    disk.look()
    return disk


def is_read_only(disk: DiskSpace) -> bool:
    """Asked anew each time, which a type checker does not think of an attribute."""
    return disk.read_only


def test_on_a_small_disk_the_reserve_is_really_there() -> None:
    files = SmallDisk(DISK)
    disk = space(files)
    assert files.size("reserve") == RESERVE
    assert (disk.free_bytes, disk.read_only, disk.detail) == (DISK - RESERVE, False, "")


def test_while_there_is_plenty_no_file_is_kept() -> None:
    files = MemoryFiles()
    disk = space(files)
    disk.admit(1 << 30)
    assert not files.exists("reserve")
    assert not is_read_only(disk)


def test_clients_are_refused_before_the_disk_is_full_and_come_back_with_a_margin() -> None:
    files = SmallDisk(DISK)
    disk = space(files)
    files.taken = DISK - RESERVE - RESERVE // 4
    disk.look()
    assert not is_read_only(disk)
    files.taken += 1
    disk.look()
    assert is_read_only(disk)
    with pytest.raises(DiskFull, match="reads, offset commits and acknowledgements go on"):
        disk.admit(1)
    files.taken = DISK - RESERVE - RESERVE // 2 + 1
    disk.look()
    assert is_read_only(disk)  # it would only go to and fro
    files.taken -= 1
    disk.look()
    assert not is_read_only(disk)
    disk.admit(1)


def test_writes_between_two_looks_cannot_get_past_the_limit() -> None:
    files = SmallDisk(DISK)
    disk = space(files)
    file = files.create("log")
    written = 0
    with pytest.raises(DiskFull):
        while True:
            disk.admit(1000)
            file.append([bytes(1000)])
            written += 1000
    assert files.free_bytes() >= RESERVE // 4
    assert written > DISK - RESERVE - RESERVE // 4 - 2000


def test_one_write_that_is_too_large_does_not_stop_the_others() -> None:
    disk = space(SmallDisk(DISK))
    with pytest.raises(DiskFull, match="no room for"):
        disk.admit(DISK)
    assert not is_read_only(disk)
    disk.admit(10)


def test_what_must_go_on_takes_the_reserve_and_it_is_taken_again_first() -> None:
    files = SmallDisk(DISK)
    disk = space(files)
    file = files.create("journal")
    files.taken = files.capacity - RESERVE - 1
    disk.insist(lambda: file.append([bytes(500)]))
    assert not files.exists("reserve")
    assert is_read_only(disk)
    files.taken = DISK - RESERVE - 500
    disk.look()
    assert is_read_only(disk)  # the reserve is worth more than clients' writes
    files.taken = 0
    disk.look()
    assert files.size("reserve") == RESERVE
    assert not is_read_only(disk)


def test_when_the_reserve_is_gone_too_the_error_says_so() -> None:
    files = SmallDisk(DISK)
    disk = space(files)
    file = files.create("journal")
    files.taken = DISK
    with pytest.raises(DiskFull):
        disk.insist(lambda: file.append([bytes(RESERVE * 2)]))


def test_the_reserve_is_let_go_when_nothing_is_left_beside_it() -> None:
    files = SmallDisk(DISK)
    disk = space(files)
    files.taken = DISK - RESERVE
    disk.look()
    assert is_read_only(disk)
    assert disk.free_bytes == RESERVE


def test_without_a_reserve_nothing_is_kept_or_refused() -> None:
    files = SmallDisk(DISK)
    disk = space(files, reserve=0)
    files.taken = DISK
    disk.look()
    disk.admit(1 << 40)
    assert not is_read_only(disk)
    assert not files.exists("reserve")


# -- in the engine ---------------------------------------------------------------------------------------------------


async def engine_on(files: MemoryFiles, reserve: int = RESERVE) -> EmbeddedEngine:
    engine = EmbeddedEngine(files, BrokerConfig(disk_reserve_bytes=reserve), TopicConfig(), ManualClock())
    await engine.start()
    return engine


async def filled(engine: EmbeddedEngine) -> int:
    """Append until the disk is full; how many records that were."""
    count = 0
    with pytest.raises(DiskFull):
        while True:
            await engine.append(WHERE, [Record(b"%06d" % count * 100)])
            count += 1
    return count


@pytest.mark.asyncio
async def test_a_full_disk_refuses_records_and_goes_on_with_journals_reads_and_trims() -> None:
    files = SmallDisk(DISK)
    engine = await engine_on(files)
    await engine.create_topic("orders", 1, {"segment_bytes": 20_000})
    await engine.create_topic(JOURNAL.topic, 1, {}, owner=INTERNAL)
    writer = await engine.writer(JOURNAL)
    count = await filled(engine)
    assert is_read_only(engine.disk)
    with pytest.raises(DiskFull):
        await engine.create_topic("more", 1, {})
    for number in range(100):
        await writer.append([Record(b"%d" % number * 100)])
    assert len(await everything(engine)) == count
    await engine.configure_topic("orders", {"retention_ms": 1000})

    await engine.trim(WHERE, count - 100)
    engine.disk.look()
    assert not is_read_only(engine.disk)
    await engine.append(WHERE, [Record(b"again")])
    await engine.stop()

    engine = await engine_on(files)
    assert values(await everything(engine))[-1] == b"again"
    assert (await engine.bounds(JOURNAL)).high_watermark == 100
    await engine.stop()


@pytest.mark.asyncio
async def test_an_engine_starts_on_a_full_disk() -> None:
    files = SmallDisk(DISK)
    engine = await engine_on(files)
    await engine.create_topic("orders", 1, {})
    count = await filled(engine)
    files.taken = files.free_bytes() + files.taken  # somebody else takes the rest; then the power fails
    files = files.after_power_cut()

    again = await engine_on(files)
    assert again.disk.read_only
    assert len(await everything(again)) == count
    await again.stop()


@pytest.mark.asyncio
async def test_control_without_a_reserve_a_full_disk_stops_the_journals_too() -> None:
    files = SmallDisk(DISK)
    engine = await engine_on(files, reserve=0)
    await engine.create_topic("orders", 1, {})
    await engine.create_topic(JOURNAL.topic, 1, {}, owner=INTERNAL)
    writer = await engine.writer(JOURNAL)
    await filled(engine)
    with pytest.raises(DiskFull):
        for number in range(100):
            await writer.append([Record(b"%d" % number * 100)])
