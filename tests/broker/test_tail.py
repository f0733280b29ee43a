"""Following a topic, below any door: order, positions and gaps against a plain list."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.broker.services import Services, services_on
from logbroker.broker.tail import Follow, Gap, Sampler, Tail, Thinning
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine


async def collect(services: Services, tail: Tail, until_idle: int = 1) -> list[Follow | Gap]:
    """Everything a tail gives until it has been idle that often."""
    events: list[Follow | Gap] = []
    idle = 0
    async for batch in tail.events(idle_ms=1):
        for event in batch:
            tail.advance(event)
            events.append(event)
        idle += not batch
        if idle == until_idle:
            break
    return events


@given(st.lists(st.integers(0, 2), max_size=12), st.integers(0, 3))
def test_every_partition_is_followed_in_order_from_any_place(writes: list[int], gap: int) -> None:
    async def scenario() -> None:
        engine = FakeEngine(ManualClock(), gap=gap)
        services = services_on(engine, ManualClock(), BrokerConfig(), "cluster")
        await engine.create_topic("t", 3, {})
        written: list[tuple[int, bytes]] = []
        for number, partition in enumerate(writes):
            written.append((partition, b"%d" % number))
            await engine.append(TopicPartition("t", partition), [Record(written[-1][1])])
        tail = Tail(engine, services.waiting, services.clock, "t", {0: 0, 1: 0, 2: 0}, Thinning())
        events = await collect(services, tail)
        found = [(event.partition, event.record.value) for event in events if isinstance(event, Follow)]
        for partition in range(3):
            assert [one for one in found if one[0] == partition] == [one for one in written if one[0] == partition]
        assert len(found) == len(written)

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 900)), max_size=30), st.integers(1, 20))
def test_no_second_lets_more_through_than_the_rate(turns: list[tuple[int, int]], rate: int) -> None:
    sampler = Sampler(rate)
    now, by_window = 0, dict[int, int]()
    for wanted, step in turns:
        now += step
        granted = sampler.take(wanted, now)
        assert 0 <= granted <= wanted
        by_window[sampler.window_ms] = by_window.get(sampler.window_ms, 0) + granted
    assert all(granted <= rate for granted in by_window.values())


@pytest.mark.asyncio
async def test_a_position_past_the_end_waits_at_the_end() -> None:
    engine = FakeEngine(ManualClock())
    services = services_on(engine, ManualClock(), BrokerConfig(), "cluster")
    await engine.create_topic("t", 1, {})
    tail = Tail(engine, services.waiting, services.clock, "t", {0: 99}, Thinning())
    assert await collect(services, tail) == []
    await engine.append(TopicPartition("t", 0), [Record(b"x")])
    [event] = await collect(services, tail)
    assert isinstance(event, Follow)
