"""The scrubber: damage is found before it is read, and what it means for readers."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.engine.scrubber import Scrubber
from logbroker.errors import PartitionDamaged, Recovering, StorageError
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import TopicPartition
from tests.engine.conftest import started
from tests.engine.test_contract import WHERE, everything, numbered

pytestmark = pytest.mark.asyncio

OTHER = TopicPartition("orders", 1)
FAST = 1 << 40
BATCHES = 30


@dataclass
class Scrubbed:
    engine: EmbeddedEngine
    files: MemoryFiles
    clock: ManualClock

    @property
    def path(self) -> str:
        return f"topics/{self.engine.topic('orders').id}/0"

    def log(self, base: int = 0) -> bytearray:
        return self.files.contents[f"{self.path}/{base:020d}.log"].data

    @property
    def bases(self) -> list[int]:
        return [one.base_offset for one in self.engine.storage.segments(WHERE)]

    async def check_all(self) -> None:
        for base in self.bases[:-1]:
            await self.engine.storage.check(WHERE, base, FAST)


@pytest_asyncio.fixture
async def scrubbed(clock: ManualClock) -> AsyncIterator[Scrubbed]:
    files = MemoryFiles()
    engine = await started(files, clock, segment_bytes=1_000)
    await engine.create_topic("orders", 2, {})
    for where in (WHERE, OTHER):
        for number in range(BATCHES):
            await engine.append(where, numbered(1, number))
    yield Scrubbed(engine, files, clock)
    await engine.stop()


async def test_what_is_found_damaged_cannot_be_read_and_everything_else_can(scrubbed: Scrubbed) -> None:
    size = int.from_bytes(scrubbed.log()[8:12], "big") + 12
    scrubbed.log()[3 * size + 65] ^= 1
    check = await scrubbed.engine.storage.check(WHERE, 0, FAST)
    assert check is not None
    assert [(one.position, one.first_offset, one.last_offset) for one in check.damages] == [(3 * size, 3, 3)]
    for offset in range(BATCHES):
        read = scrubbed.engine.read(WHERE, offset, max_bytes=1 << 20)
        if offset == 3:
            with pytest.raises(PartitionDamaged) as raised:
                await read
            assert raised.value.fields["position"] == 3 * size
            assert (raised.value.fields["first_offset"], raised.value.fields["last_offset"]) == (3, 3)
            assert raised.value.fields["file"] in raised.value.detail
            with pytest.raises(PartitionDamaged):
                scrubbed.engine.raw.read(WHERE, offset, 1 << 20)
        else:
            assert (await read).records[0].offset == offset
    assert len(await everything(scrubbed.engine, OTHER)) == BATCHES
    await scrubbed.engine.append(WHERE, numbered(1))


async def test_control_a_changed_epoch_is_read_without_complaint_until_the_scrubber_has_seen_it(scrubbed: Scrubbed) -> None:
    scrubbed.log()[12] ^= 1
    assert len(await everything(scrubbed.engine)) == BATCHES
    await scrubbed.check_all()
    with pytest.raises(PartitionDamaged):
        await scrubbed.engine.read(WHERE, 0, max_bytes=1 << 20)


async def test_a_segment_that_is_right_again_or_gone_is_readable_again(scrubbed: Scrubbed) -> None:
    scrubbed.log()[70] ^= 1
    await scrubbed.check_all()
    assert scrubbed.engine.partition(WHERE).damages
    scrubbed.log()[70] ^= 1
    await scrubbed.check_all()
    assert len(await everything(scrubbed.engine)) == BATCHES

    scrubbed.log()[70] ^= 1
    await scrubbed.check_all()
    second = scrubbed.bases[1]
    await scrubbed.engine.trim(WHERE, second)
    task = asyncio.ensure_future(scrubbed.engine.scrubber.run(FAST, 1_000))
    await until_round(scrubbed)
    task.cancel()
    assert scrubbed.engine.partition(WHERE).damages == []
    assert 0 not in scrubbed.engine.storage.checks(WHERE)


async def until_round(scrubbed: Scrubbed) -> None:
    scrubbed.engine.scrubber.last_round_ms = 0
    async with asyncio.timeout(20):
        while not scrubbed.engine.scrubber.last_round_ms:  # noqa: ASYNC110 - threads have no event to wait for
            await asyncio.sleep(0.005)


async def test_a_round_checks_every_sealed_segment_once_in_the_interval(scrubbed: Scrubbed) -> None:
    counted = [0.0]
    damages = [0.0]
    scrubber = scrubbed.engine.scrubber
    scrubber.tell_bytes = lambda count: counted.__setitem__(0, counted[0] + count)
    scrubber.tell_damages = lambda count: damages.__setitem__(0, damages[0] + count)
    scrubbed.log()[70] ^= 1
    task = asyncio.ensure_future(scrubber.run(FAST, 60_000))
    await until_round(scrubbed)
    assert sorted(scrubbed.engine.storage.checks(WHERE)) == scrubbed.bases[:-1]
    once = counted[0]
    sealed = sum(one.size_bytes for where in (WHERE, OTHER) for one in scrubbed.engine.storage.segments(where)[:-1])
    assert sealed <= once <= sealed + 2 * len(scrubbed.log())  # a damaged one is read twice
    assert damages[0] == 1
    task.cancel()
    task = asyncio.ensure_future(scrubber.run(FAST, 60_000))
    await until_round(scrubbed)
    assert counted[0] == once
    scrubbed.clock.advance(60_000)
    task.cancel()
    task = asyncio.ensure_future(scrubber.run(FAST, 60_000))
    await until_round(scrubbed)
    assert counted[0] > once
    assert damages[0] == 1  # it was told
    task.cancel()


async def test_a_segment_that_goes_while_it_is_read_is_not_called_damaged(
    scrubbed: Scrubbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    verified = Scrubber._verified

    async def and_trimmed(scrubber: Scrubber, *arguments: object) -> object:
        found = await verified(scrubber, *arguments)  # type: ignore[arg-type]  # as it was called
        await scrubbed.engine.trim(WHERE, scrubbed.bases[1])
        return found

    scrubbed.log()[70] ^= 1
    monkeypatch.setattr(Scrubber, "_verified", and_trimmed)
    assert await scrubbed.engine.storage.check(WHERE, 0, FAST) is None
    assert scrubbed.engine.partition(WHERE).damages == ()
    assert loop.is_running()


async def test_a_read_error_of_the_disk_is_damage(scrubbed: Scrubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = scrubbed.files.open

    def failing(path: str) -> object:
        if path.endswith(f"{0:020d}.log"):
            raise StorageError(f"read of {path} failed: Input/output error", path=path)
        return opened(path)

    monkeypatch.setattr(scrubbed.files, "open", failing)
    check = await scrubbed.engine.storage.check(WHERE, 0, FAST)
    assert check is not None
    assert check.damages[0].first_offset == 0
    assert "Input/output error" in check.damages[0].message


async def test_the_rate_is_kept_and_a_stop_does_not_wait_for_it(scrubbed: Scrubbed) -> None:
    size = len(scrubbed.log())
    began = time.perf_counter()
    pending = asyncio.ensure_future(scrubbed.engine.storage.check(WHERE, 0, size * 4))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(pending), 0.1)
    scrubbed.engine.scrubber.close()
    with pytest.raises(Recovering):
        await pending
    assert time.perf_counter() - began < 2
