"""The control of the kill loop: the same workload in process, on files that lose what was not flushed.

A power cut after any acknowledgement loses nothing with ``durability = fsync``, and something with ``os``: so it is the
flush that keeps the promise, and a broker that forgot it would be found out.
"""

import asyncio
import random
from collections.abc import Iterator

import pytest

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.log.files import Files
from logbroker.log.files.crashes import CrashState, crash_states, flushed_only
from logbroker.log.files.faults import FaultFiles
from logbroker.model import Record, TopicPartition
from tests.crash.checker import check
from tests.crash.history import Operation, Outcome, Poll, Send

pytestmark = pytest.mark.asyncio

TOPIC = "crash"
PARTITIONS = 2
WRITERS = 3
BATCHES = 10
PADDING = 60
NEVER = 1 << 60
LOSSES = {"unseen", "lost-write"}


async def started(files: Files, durability: str) -> EmbeddedEngine:
    engine = EmbeddedEngine(files, BrokerConfig(), TopicConfig(durability=durability), ManualClock())
    await engine.start()
    return engine


class Workload:
    """Concurrent writers on one engine, and where the files stood at each acknowledgement."""

    def __init__(self, durability: str) -> None:
        self.files = FaultFiles()
        self.history: list[Operation] = []
        self.cuts: list[tuple[int, int]] = []
        """For each acknowledgement: the moment, and how many operations the files had seen by then."""
        self._durability = durability
        self._moments = 0

    async def run(self) -> None:
        """Write everything."""
        engine = await started(self.files, self._durability)
        await engine.create_topic(TOPIC, PARTITIONS, {"segment_bytes": 2_000, "retention_ms": -1})
        await asyncio.gather(*(self._write(engine, number) for number in range(WRITERS)))
        await engine.stop()

    async def _write(self, engine: EmbeddedEngine, writer: int) -> None:
        for batch in range(BATCHES):
            partition = (writer + batch) % PARTITIONS
            values = tuple(writer * 1_000 + batch * 10 + one for one in range(batch % 4 + 1))
            begun = self._moment()
            records = [Record(bytes(PADDING), str(value).encode()) for value in values]
            appended = await engine.append(TopicPartition(TOPIC, partition), records)
            send = Send(f"{TOPIC}-{partition}", values, appended.base_offset)
            self.cuts.append((self._moment(), len(self.files.operations)))
            self.history.append(Operation(f"writer-{writer}", send, Outcome.OK, begun, self._moments))

    def _moment(self) -> int:
        self._moments += 1
        return self._moments

    def history_at(self, moment: int) -> Iterator[Operation]:
        """What the writers knew at a moment: what was under way then has no outcome."""
        for one in self.history:
            assert isinstance(one.action, Send)
            if one.completed_ns <= moment:
                yield one
            elif one.invoked_ns <= moment:
                send = Send(one.action.partition, one.action.values)
                yield Operation(one.process, send, Outcome.UNKNOWN, one.invoked_ns, NEVER)

    async def anomalies(self, moment: int, files: Files) -> dict[str, list[str]]:
        """What the checker says when a broker is started on ``files`` and everything is read."""
        engine = await started(files, self._durability)
        polls = [
            Operation(
                "reader", Poll({f"{TOPIC}-{partition}": await _everything(engine, partition)}), Outcome.OK, NEVER, NEVER
            )
            for partition in range(PARTITIONS)
        ]
        await engine.stop()
        return check([*self.history_at(moment), *polls])


async def _everything(engine: EmbeddedEngine, partition: int) -> tuple[tuple[int, int], ...]:
    where = TopicPartition(TOPIC, partition)
    found: list[tuple[int, int]] = []
    offset, end = 0, (await engine.bounds(where)).high_watermark
    while offset < end:
        read = await engine.read(where, offset, max_bytes=1 << 20)
        found += [(record.offset, int(record.key or b"")) for record in read.records]
        offset = read.next_offset
    return tuple(found)


async def test_a_power_cut_after_any_acknowledgement_loses_nothing_that_was_flushed() -> None:
    workload = Workload("fsync")
    await workload.run()
    assert len(workload.cuts) == WRITERS * BATCHES
    for moment, count in workload.cuts:
        files = flushed_only(workload.files.operations[:count])
        assert await workload.anomalies(moment, files) == {}, f"cut after {count} operations on files"


async def test_whatever_else_a_power_cut_leaves_on_the_disk_nothing_acknowledged_is_lost() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    workload = Workload("fsync")
    await workload.run()
    for moment, count in rng.sample(workload.cuts, 8):
        for state in _some(crash_states(workload.files.operations[:count], rng), rng):
            told = f"seed {seed}, cut after {count} operations, {state.name}"
            assert await workload.anomalies(moment, state.files) == {}, told


def _some(states: Iterator[CrashState], rng: random.Random, count: int = 12) -> list[CrashState]:
    found = list(states)
    return rng.sample(found, min(count, len(found)))


async def test_without_a_flush_the_same_power_cuts_do_lose_acknowledged_records() -> None:
    workload = Workload("os")
    await workload.run()
    lost = 0
    for moment, count in workload.cuts:
        found = await workload.anomalies(moment, flushed_only(workload.files.operations[:count]))
        assert found.keys() <= LOSSES, "a cut may shorten a log, and do nothing else to it"
        lost += bool(found)
    assert lost > len(workload.cuts) / 2
