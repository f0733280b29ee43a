"""Search, below any door: against a plain list, in both directions, in parts of any size."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.broker import search as module
from logbroker.broker.filtering import Filtering
from logbroker.broker.search import Direction, Ended, Found, Left, Progress, Reach, Search
from logbroker.broker.waiting import Waiting
from logbroker.clock import ManualClock
from logbroker.filters import compile_filter
from logbroker.metrics import Metrics
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine

EVEN = compile_filter("int(key) % 2 == 0")


def searching(engine: FakeEngine, direction: Direction, left: Left, closing: asyncio.Event | None = None) -> Search:
    waiting = Waiting(engine, closing or asyncio.Event(), Metrics())
    return Search(Filtering(engine, Metrics()), waiting, "t", EVEN, direction, left)


async def filled(sizes: list[int], partitions: int, gap: int) -> FakeEngine:
    engine = FakeEngine(ManualClock(), gap=gap)
    await engine.create_topic("t", partitions, {})
    for number, size in enumerate(sizes):
        await engine.append(TopicPartition("t", number % partitions), [Record(b"x" * size, b"%d" % number)])
    return engine


async def part(search: Search, reach: Reach) -> tuple[list[tuple[int, int]], Ended]:
    """What one part of a search finds: partition and number; and its end."""
    found: list[tuple[int, int]] = []
    async for events in search.events(reach):
        for event in events:
            if isinstance(event, Found):
                found.append((event.partition, int(event.record.key or b"")))
            elif isinstance(event, Ended):
                return found, event
    raise AssertionError("a search has an end")


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=25),
    partitions=st.integers(1, 3),
    gap=st.integers(0, 2),
    direction=st.sampled_from(["forward", "back"]),
    limit=st.integers(1, 5),
    budget=st.integers(1, 100),
    sized=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 8)),
    cut=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_the_parts_of_a_search_find_everything_in_the_range_once_and_in_order(
    sizes: list[int],
    partitions: int,
    gap: int,
    direction: Any,
    limit: int,
    budget: int,
    sized: tuple[int, int, int],
    cut: tuple[int, int],
) -> None:
    async def scenario() -> None:
        engine = await filled(sizes, partitions, gap)
        left: Left = {}
        wanted: list[tuple[int, int]] = []
        for number in range(partitions):
            where = TopicPartition("t", number)
            end = (await engine.bounds(where)).high_watermark
            left[number] = min(cut[0], end), min(cut[1], end)
            inside = [
                int(one.key or b"")
                for one in (await engine.read(where, 0, max_bytes=1 << 20)).records
                if left[number][0] <= one.offset < left[number][1] and int(one.key or b"") % 2 == 0
            ]
            wanted += [(number, one) for one in (inside if direction == "forward" else inside[::-1])]
        found: list[tuple[int, int]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("logbroker.broker.filtering.READ_BYTES", sized[0])
            patch.setattr(module, "READ_BYTES", sized[0])
            patch.setattr(module, "_WINDOW_BYTES", sized[1])
            patch.setattr(module, "_FIRST_SPAN", sized[2])
            for _ in range(200):
                some, end_of = await part(search := searching(engine, direction, left), Reach(limit, budget))
                assert len(some) <= limit
                found += some
                left = search.left
                assert (end_of.reason == "complete") == (not left)
                if not left:
                    break
        assert not left
        for number in range(partitions):
            assert [one for one in found if one[0] == number] == [one for one in wanted if one[0] == number]
        assert len(found) == len(wanted)

    asyncio.run(scenario())


@pytest.mark.asyncio
@pytest.mark.parametrize("direction", ["forward", "back"])
async def test_what_was_trimmed_is_told(direction: Any) -> None:
    engine = await filled([1] * 20, 1, 0)
    await engine.trim(TopicPartition("t", 0), 12)
    found, end = await part(searching(engine, direction, {0: (0, 20)}), Reach(100, 1_000))
    assert sorted(number for _, number in found) == [12, 14, 16, 18]
    assert (end.reason, end.progress.trimmed) == ("complete", 12)


@pytest.mark.asyncio
async def test_progress_is_told_and_the_end_of_the_broker_stops_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_BYTES", 10)
    monkeypatch.setattr(module, "READ_BYTES", 10)
    monkeypatch.setattr("logbroker.broker.filtering.READ_BYTES", 10)
    engine = await filled([9] * 20, 1, 0)
    closing = asyncio.Event()
    search = searching(engine, "forward", {0: (0, 20)}, closing)
    seen: list[Progress | Ended] = []
    async for events in search.events(Reach(100, 1_000)):
        seen += [event for event in events if not isinstance(event, Found)]
        if len(seen) == 2:
            closing.set()
    assert [type(one) for one in seen] == [Progress, Progress, Ended]
    assert isinstance(seen[-1], Ended)
    assert seen[-1].reason == "stopping"
    assert search.left[0][0] == seen[-1].progress.scanned


@pytest.mark.asyncio
@pytest.mark.parametrize("direction", ["forward", "back"])
async def test_a_search_that_finds_nothing_lets_others_work(direction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BYTES", 100)
    monkeypatch.setattr("logbroker.broker.filtering.READ_BYTES", 100)
    engine = await filled([99] * 60, 1, 0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(other())
    search = searching(engine, direction, {0: (0, 60)})
    search._wanted = compile_filter("false")
    await part(search, Reach(10, 1 << 20))
    working.cancel()
    assert turns >= 50
