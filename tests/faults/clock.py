"""Jumps of the wall clock under a whole broker: leases, retention and offsets go by the time that has really passed.

What lives here: the jumps, and what must hold after each. What may not: how deletions choose the time they believe.
"""

import random
from dataclasses import dataclass, field

from logbroker.broker.queue_sends import QueueMessage
from logbroker.clock import ManualClock
from logbroker.config import DAY_MS, HOUR_MS
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from logbroker.queues.dispatcher import Want
from tests.faults.life import QUEUE, Running, founded
from tests.faults.simulation import settled, simulate

LEASE_MS = 30_000
RETENTION_MS = 2 * DAY_MS
KEPT = TopicPartition("kept", 0)
_YEARS_MS = 10 * 365 * DAY_MS


@dataclass
class Jumps:
    """What the jumps did."""

    count: int = 0
    records: int = 0
    leases: int = 0
    deleted: int = 0
    """Records that retention took, none before its time."""
    violations: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """In one line."""
        return (
            f"{self.count} jumps of -1 h, +1 h, +10 years or any up to 20 days, each undone within a day: "
            f"{len(self.violations)} violations over {self.records} records ({self.deleted} deleted in time) "
            f"and {self.leases} leases"
        )


def jump(count: int, seed: int) -> Jumps:
    """So many jumps."""
    return simulate(_jump(count, random.Random(seed)))


async def _jump(count: int, rng: random.Random) -> Jumps:
    clock, done = ManualClock(), Jumps()
    running = await founded(MemoryFiles(), clock)
    settings = {"retention_ms": RETENTION_MS, "segment_ms": HOUR_MS, "message_timestamp_after_max_ms": 2**62}
    await running.engine.create_topic(KEPT.topic, 1, settings)
    appended_at: dict[int, int] = {}
    true_wall = clock.now().wall_ms
    while done.count < count:
        clock.set_wall(true_wall + rng.choice([HOUR_MS, -HOUR_MS, _YEARS_MS, rng.randrange(-HOUR_MS, 20 * DAY_MS), 0]))
        done.count += 1
        stamp = None if rng.random() < 0.5 else true_wall
        appended = await running.engine.append(KEPT, [Record(b"x" * 20, timestamp_ms=stamp)])
        if appended.base_offset != done.records:
            done.violations.append(f"offset {appended.base_offset} after {done.records - 1}")
        done.records += 1
        appended_at[appended.base_offset] = clock.now().mono_ms
        true_wall += await _lease(running, rng, done)
        passed = rng.randrange(3 * HOUR_MS)
        await running.pass_time(passed)
        true_wall += passed
        await running.engine.maintain()
        await _judge_deletions(running, appended_at, done)
        clock.set_wall(true_wall)
        await running.engine.maintain()
    await running.stop()
    return done


async def _lease(running: Running, rng: random.Random, done: Jumps) -> int:
    """A lease, the clock put anywhere, and time: nobody else gets the message before the lease ends, somebody after it."""
    await running.services.queue_sends.send(QUEUE, [QueueMessage(Record(b"job"))])
    [held] = await running.queue.receive(Want(1, lease_ms=LEASE_MS), 0)
    done.leases += 1
    wall_ms = running.clock.now().wall_ms
    running.clock.set_wall(wall_ms + rng.choice([_YEARS_MS, -HOUR_MS, 0]))
    await running.pass_time(LEASE_MS - 1_000)
    if await running.queue.receive(Want(1, lease_ms=LEASE_MS), 0):
        done.violations.append(f"jump {done.count}: a lease ended early")
    await running.pass_time(2_000)
    again = await running.queue.receive(Want(1, lease_ms=LEASE_MS), 0)
    if len(again) != 1:
        done.violations.append(f"jump {done.count}: a lease did not end")
    if await running.queue.settle.ack([one.receipt for one in again]) != [None] * len(again):
        done.violations.append(f"jump {done.count}: the second holder could not ack")
    if await running.queue.settle.ack([held.receipt]) == [None]:
        done.violations.append(f"jump {done.count}: the first holder could ack after its lease")
    running.clock.set_wall(wall_ms + LEASE_MS + 1_000)
    await settled()
    return LEASE_MS + 1_000


async def _judge_deletions(running: Running, appended_at: dict[int, int], done: Jumps) -> None:
    """What was stamped by a clock that was an hour behind looks an hour older; nothing else goes before its time."""
    start = (await running.engine.bounds(KEPT)).log_start_offset
    done.deleted = start
    now = running.clock.now().mono_ms
    early = [offset for offset, at in appended_at.items() if offset < start and now - at <= RETENTION_MS - HOUR_MS]
    done.violations += [f"jump {done.count}: offset {offset} was deleted early" for offset in early]
    for offset in [one for one in appended_at if one < start]:
        del appended_at[offset]
