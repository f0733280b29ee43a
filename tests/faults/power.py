"""Power-loss images: a broker writes to a real file system that is copied at random instants, and each copy is recovered.

What lives here: the writer, the instants, what a recovery must show. What may not: the disks (``disk_images``). It is the
check that the model of crash states is no fantasy; and it measures what ``interval`` and ``os`` lose.

Progress is shared memory: for each lane how much was begun and how much was answered, read on the safe side of a copy.
"""

import asyncio
import contextlib
import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import msgspec

from logbroker.broker.queue_sends import QueueMessage
from logbroker.broker.services import services_on
from logbroker.clock import SystemClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.log.files.disk import DiskFiles
from logbroker.model import Record, TopicPartition
from logbroker.queues.dispatcher import Dispatcher, Sent, Want
from logbroker.queues.settings import QueueSettings
from tests.faults.disk_images import Disk, disk, mounted
from tests.faults.life import Running

MODES = ("fsync", "interval", "os")
INTERVAL_MS = 100
LANES = (*MODES, "commit", "send", "ack")
GROUP = "g"
QUEUE = "work"
_TAIL = 400
"""How many records before the end are read back."""
_TIMES = 1 << 18
_PAUSE_S = 0.001


@dataclass(frozen=True)
class Shared:
    """What writer and judge both see. ``times`` has the instant of each answer of a lane, round and round."""

    begun: Any
    answered: Any
    times: Any

    @classmethod
    def make(cls) -> "Shared":
        """All at nothing."""
        context = multiprocessing.get_context("spawn")
        count = len(LANES)
        return cls(
            context.Array("q", count, lock=False),
            context.Array("q", count, lock=False),
            context.Array("q", _TIMES * len(MODES), lock=False),
        )


# -- the writer ------------------------------------------------------------------------------------------------------


def write(directory: str, shared: Shared, stop: Event) -> None:
    """In a process: a broker on the disk, with a producer per mode, a committer and a worker."""
    asyncio.run(_write(directory, shared, stop))


async def _write(directory: str, shared: Shared, stop: Event) -> None:
    clock, config = SystemClock(), BrokerConfig()
    engine = EmbeddedEngine(DiskFiles(directory), config, TopicConfig(), clock)
    await engine.start()
    services = services_on(engine, clock, config, engine.cluster_id)
    await services.groups.start()
    await services.queues.start()
    running = Running(engine, services, clock)  # type: ignore[arg-type]  # it is not moved by hand here
    for mode in MODES:
        settings = {"durability": mode, "flush_ms": INTERVAL_MS, "segment_bytes": 1 << 20, "retention_bytes": 8 << 20}
        await engine.create_topic(mode, 1, settings)
    await services.queues.ensure(QUEUE, msgspec.convert({"partitions": 1}, QueueSettings))
    work = [_produce(running, mode, shared, stop) for mode in MODES]
    await asyncio.gather(*work, _commit(running, shared, stop), _work(running, shared, stop), _keep_up(engine, stop))


@contextmanager
def _step(shared: Shared, lane: str, to: int) -> Iterator[None]:
    number = LANES.index(lane)
    shared.begun[number] = to
    yield
    if lane in MODES:
        shared.times[number * _TIMES + to % _TIMES] = time.monotonic_ns()
    shared.answered[number] = to


async def _produce(running: Running, mode: str, shared: Shared, stop: Event) -> None:
    where, number = TopicPartition(mode, 0), 0
    while not stop.is_set():
        number += 1
        with _step(shared, mode, number):
            await running.engine.append(where, [Record(b"%d." % number + bytes(200))])
        await asyncio.sleep(_PAUSE_S)


async def _commit(running: Running, shared: Shared, stop: Event) -> None:
    where, number = TopicPartition("fsync", 0), 0
    while not stop.is_set():
        reached = (await running.engine.bounds(where)).high_watermark
        if reached > number:
            number = reached
            with _step(shared, "commit", number):
                command = CommitOffsets(MemberClaim("", -1), (OffsetToCommit(where, number),))
                await running.services.groups.commit(GROUP, command)
        await asyncio.sleep(_PAUSE_S)


async def _work(running: Running, shared: Shared, stop: Event) -> None:
    queue, number = running.services.queues.get(QUEUE), 0
    while not stop.is_set():
        number += 1
        with _step(shared, "send", number):
            [sent] = await running.services.queue_sends.send(QUEUE, [QueueMessage(Record(b"%d" % number))])
            assert isinstance(sent, Sent)
        received = await queue.receive(Want(1, lease_ms=60_000), 1_000)
        with _step(shared, "ack", number):
            assert await queue.settle.ack([one.receipt for one in received]) == [None]


async def _keep_up(engine: EmbeddedEngine, stop: Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(0.2)
        await engine.maintain()


# -- the judge -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """One copy: what had been answered before it, what may have been written by its end, and when it was."""

    image: Path
    answered: dict[str, int]
    begun: dict[str, int]
    at_ns: int
    ended_ns: int
    times: dict[str, list[int]]


@dataclass
class Losses:
    """What the images showed."""

    images: int = 0
    violations: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODES, 0))
    """Acknowledged records that were gone, in the worst image."""
    worst_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MODES, 0.0))
    """How long before the cut the oldest lost record had been acknowledged, in the worst image."""

    def summary(self) -> str:
        """In one line."""
        told = ", ".join(f"{mode} {self.lost[mode]} records, {self.worst_ms[mode]:.0f} ms" for mode in MODES)
        return f"{self.images} images: {len(self.violations)} violations; worst loss by durability: {told}"


def _take(made: Disk, shared: Shared) -> Cut:
    """A copy. Answers are read before it and beginnings after it."""
    answered = dict(zip(LANES, list(shared.answered), strict=True))
    at = time.monotonic_ns()
    image = made.copy()
    ended = time.monotonic_ns()
    begun = dict(zip(LANES, list(shared.begun), strict=True))
    times = {
        mode: [
            shared.times[number * _TIMES + one % _TIMES]
            for one in range(max(1, answered[mode] - 20_000), answered[mode] + 1)
        ]
        for number, mode in enumerate(MODES)
    }
    return Cut(image, answered, begun, at, ended, times)


async def _judge(files: DiskFiles, cut: Cut, losses: Losses) -> None:
    clock, config = SystemClock(), BrokerConfig()
    engine = EmbeddedEngine(files, config, TopicConfig(), clock)
    await engine.start()
    services = services_on(engine, clock, config, engine.cluster_id)
    for mode in MODES:
        await _judge_log(engine, mode, cut, losses)
    await services.groups.start()
    await services.queues.start()
    offsets = await services.groups.fetch_offsets(GROUP)
    committed = max((one.offset for one in offsets.values()), default=0)
    if not cut.answered["commit"] <= committed <= cut.begun["commit"]:
        losses.violations.append(f"{committed} committed, {cut.answered['commit']} was answered")
    await _judge_queue(services.queues.get(QUEUE), cut, losses)
    await services.queues.stop()
    await services.groups.stop()
    await engine.stop()


async def _judge_log(engine: EmbeddedEngine, mode: str, cut: Cut, losses: Losses) -> None:
    where = TopicPartition(mode, 0)
    bounds = await engine.bounds(where)
    end, answered = bounds.high_watermark, cut.answered[mode]
    if end > cut.begun[mode]:
        losses.violations.append(f"{mode}: {end} records are there, {cut.begun[mode]} were written")
    if end < answered:
        losses.lost[mode] = max(losses.lost[mode], answered - end)
        times = cut.times[mode]
        acknowledged = times[max(0, len(times) - (answered - end))]
        losses.worst_ms[mode] = max(losses.worst_ms[mode], (cut.ended_ns - acknowledged) / 1e6)
        if mode == "fsync":
            losses.violations.append(f"fsync: {answered} records were acknowledged, {end} are there")
    offset = max(bounds.log_start_offset, end - _TAIL)
    while offset < end:
        read = await engine.read(where, offset, max_bytes=1 << 20)
        for record in read.records:
            if (record.value or b"").partition(b".")[0] != b"%d" % (record.offset + 1):
                losses.violations.append(f"{mode}: offset {record.offset} holds {record.value!r:.40}")
        offset = read.next_offset


async def _judge_queue(queue: Dispatcher, cut: Cut, losses: Losses) -> None:
    """The worker has one message at a time, so at most one is there: ready, or held by a lease that the journal kept."""
    held = (await queue.size.counts()).in_flight
    there = [int(one.value or b"0") for one in await queue.receive(Want(100, lease_ms=60_000), 0)]
    if resurrected := [one for one in there if one <= cut.answered["ack"]]:
        losses.violations.append(f"queue: {resurrected} were acked and are there")
    if made_up := [one for one in there if one > cut.begun["send"]]:
        losses.violations.append(f"queue: {made_up} were not sent")
    if cut.answered["send"] > cut.begun["ack"] and held + len(there) != 1:
        losses.violations.append(f"queue: {cut.answered['send']} was sent; {there} are there, {held} held")


def run(directory: Path, images: int, seed: int, *, batch: int = 25) -> Losses:
    """Write, copy ``images`` times at random instants, and recover each copy. Raises OSError where disks cannot be."""
    chance, losses = random.Random(seed), Losses()
    with disk(directory) as made, _writer(made) as shared:
        while losses.images < images:
            cuts: list[Cut] = []
            for _ in range(min(batch, images - losses.images - len(cuts))):
                time.sleep(chance.uniform(0.002, 0.06))
                cuts.append(_take(made, shared))
            for cut in cuts:
                with mounted(cut.image, directory / "found") as found:
                    asyncio.run(_judge(DiskFiles(found / "data"), cut, losses))
                losses.images += 1
                cut.image.unlink()
    return losses


@contextmanager
def _writer(made: Disk) -> Iterator[Shared]:
    spawn = multiprocessing.get_context("spawn")
    shared, stop = Shared.make(), spawn.Event()
    process = spawn.Process(target=write, args=(str(made.mount / "data"), shared, stop), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 60
        while min(shared.answered) < 20 and time.monotonic() < deadline and process.is_alive():
            time.sleep(0.05)
        assert process.is_alive(), "the writer died"
        yield shared
        assert process.is_alive(), "the writer died"
    finally:
        stop.set()
        process.join(20)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.join()
