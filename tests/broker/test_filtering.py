"""Scans with a filter, below any door: against a plain list, at every limit."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.broker import filtering
from logbroker.broker.filtering import Extent, Filtering, size_of
from logbroker.clock import ManualClock
from logbroker.filters import compile_filter
from logbroker.metrics import Metrics
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine

WHERE = TopicPartition("t", 0)
ODD = compile_filter("int(key) % 2 == 1")


async def filled(sizes: list[int], gap: int = 0) -> FakeEngine:
    engine = FakeEngine(ManualClock(), gap=gap)
    await engine.create_topic("t", 1, {})
    for number, size in enumerate(sizes):
        await engine.append(WHERE, [Record(b"x" * size, b"%d" % number)])
    return engine


@given(
    sizes=st.lists(st.integers(0, 30), max_size=20),
    gap=st.integers(0, 2),
    max_records=st.integers(1, 4),
    max_bytes=st.integers(1, 60),
    budget=st.integers(1, 60),
    read_bytes=st.integers(1, 40),
)
def test_scans_one_after_the_other_find_all_that_matches_once(
    sizes: list[int], gap: int, max_records: int, max_bytes: int, budget: int, read_bytes: int
) -> None:
    async def scenario() -> None:
        engine = await filled(sizes, gap)
        scanning = Filtering(engine, Metrics())
        end = (await engine.bounds(WHERE)).high_watermark
        found: list[int] = []
        offset = scanned = scanned_bytes = 0
        for _ in range(100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(filtering, "READ_BYTES", read_bytes)
                part = await scanning.scan(WHERE, offset, ODD, Extent(max_records, max_bytes, budget))
            assert len(part.records) <= max_records
            assert len(part.records) <= 1 or sum(map(size_of, part.records)) <= max_bytes
            assert part.scanned_bytes <= budget + read_bytes + 40
            assert part.next_offset >= offset
            found += [int(record.key or b"") for record in part.records]
            offset, scanned, scanned_bytes = part.next_offset, scanned + part.scanned, scanned_bytes + part.scanned_bytes
            if offset >= end:
                break
        assert found == [number for number in range(len(sizes)) if number % 2]
        assert scanned == len(sizes)
        assert scanned_bytes == sum(size + len(str(number)) for number, size in enumerate(sizes))

    asyncio.run(scenario())


@given(st.integers(0, 12), st.integers(0, 12))
def test_a_scan_stops_before_its_end(start: int, end: int) -> None:
    async def scenario() -> None:
        engine = await filled([5] * 12)
        part = await Filtering(engine, Metrics()).scan(WHERE, start, ODD, Extent(100, 1_000, end=end))
        assert [int(record.key or b"") for record in part.records] == [one for one in range(start, end) if one % 2]
        assert part.next_offset == max(start, end)

    asyncio.run(scenario())


def test_a_heavy_filter_says_the_same() -> None:
    async def scenario() -> None:
        engine = await filled([1] * 100)
        heavy = compile_filter("[1].exists(x, int(key) % 2 == x)")
        assert heavy.heavy
        scanning = Filtering(engine, Metrics())
        extent = Extent(1_000, 10_000)
        assert await scanning.scan(WHERE, 0, heavy, extent) == await scanning.scan(WHERE, 0, ODD, extent)

    asyncio.run(scenario())
