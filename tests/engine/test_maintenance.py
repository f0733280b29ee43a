"""Which time deletions go by, and what is told of them."""

import random

import pytest

from logbroker.clock import ManualClock
from logbroker.config import DAY_MS, HOUR_MS, MINUTE_MS, BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.engine.maintenance import BELIEVED_AFTER_MS, BelievedTime
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Now, Record, TopicPartition

WHERE = TopicPartition("orders", 0)
YEAR_MS = 365 * DAY_MS


def test_time_that_passes_is_believed() -> None:
    believed = BelievedTime()
    for minute in range(10_000):
        now = Now(1_000_000 + minute * MINUTE_MS, minute * MINUTE_MS)
        assert believed.at(now) == now


def test_a_clock_put_forward_is_believed_after_a_day_and_one_put_back_at_once() -> None:
    believed = BelievedTime()
    believed.at(Now(1_000_000, 0))
    assert believed.at(Now(1_000_000 + YEAR_MS, 0)) == Now(1_000_000, 0)
    almost = BELIEVED_AFTER_MS - 1
    assert believed.at(Now(1_000_000 + YEAR_MS + almost, almost)) == Now(1_000_000 + almost, almost)
    a_day = BELIEVED_AFTER_MS
    assert believed.at(Now(1_000_000 + YEAR_MS + a_day, a_day)) == Now(1_000_000 + YEAR_MS + a_day, a_day)
    assert believed.at(Now(5, a_day)) == Now(5, a_day)


def test_the_least_of_several_steps_forward_is_what_is_believed() -> None:
    """Slow drift, or a laptop that is shut every night: each step is believed a day after it was made."""
    believed = BelievedTime()
    for hour in range(100):
        told = believed.at(Now(1_000_000 + hour * 2 * HOUR_MS, hour * HOUR_MS))
        behind = hour * 2 * HOUR_MS - (told.wall_ms - 1_000_000)
        assert behind == min(hour, 24) * HOUR_MS


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(5))
async def test_no_jump_of_the_clock_deletes_early_or_keeps_for_ever(seed: int) -> None:
    """200 jumps, forward and back, each undone within a day, as of a clock that somebody corrects.

    Half of the records carry the time of that clock, the others that of a producer whose clock is right. What
    was stamped or dated by a clock an hour behind looks an hour older.
    """
    rng = random.Random(seed)
    clock = ManualClock()
    engine = EmbeddedEngine(MemoryFiles(), BrokerConfig(), TopicConfig(), clock)
    await engine.start()
    config = {"retention_ms": 2 * DAY_MS, "segment_ms": HOUR_MS, "message_timestamp_after_max_ms": 2**62}
    await engine.create_topic("orders", 1, config)
    appended_at: dict[int, int] = {}
    true_wall = clock.now().wall_ms
    for _ in range(200):
        jump = rng.choice([HOUR_MS, -HOUR_MS, 10 * YEAR_MS, rng.randrange(-HOUR_MS, 20 * DAY_MS), 0])
        clock.set_wall(true_wall + jump)
        stamp = None if rng.random() < 0.5 else true_wall
        appended = await engine.append(WHERE, [Record(b"x" * 20, timestamp_ms=stamp)])
        appended_at[appended.base_offset] = clock.now().mono_ms
        for _ in range(rng.randrange(4)):
            passed = rng.randrange(3 * HOUR_MS)
            clock.advance(passed)
            true_wall += passed
            await engine.maintain()
        start = (await engine.bounds(WHERE)).log_start_offset
        ages = [clock.now().mono_ms - at for offset, at in appended_at.items() if offset < start]
        assert min(ages, default=3 * DAY_MS) > 2 * DAY_MS - HOUR_MS
        clock.set_wall(true_wall)
        await engine.maintain()
    for _ in range(100):
        clock.advance(2 * HOUR_MS)
        await engine.maintain()
    assert (await engine.bounds(WHERE)).log_start_offset == 200
    await engine.stop()
