"""What it costs to find a record by offset and by time, with 1 to 10,000 segments in the log."""

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from logbroker.engine.embedded import EmbeddedEngine
from logbroker.model import Record, TopicPartition
from logbroker.records.codec import encode
from tools.bench.log_setup import engine_on, make_topic
from tools.bench.measure import Figure, at_most, cpu, interleaved

SEGMENTS = (1, 10, 100, 1_000, 10_000)
BATCHES_PER_SEGMENT = 8
LOOKUPS = 2_000
FLAT = 2.0
"""How many times the cost with one segment still counts as flat: a few more steps of a binary search, colder caches."""
_FIRST_MS = 1_700_000_000_000


def run(directory: Path) -> list[Figure]:
    """The cost with each number of segments, and the ratio of the last to the first."""
    return asyncio.run(_run(directory / "lookup"))


async def _run(directory: Path) -> list[Figure]:
    async with engine_on(directory) as engine:
        cases: dict[str, Callable[[], float]] = {}
        for count in SEGMENTS:
            cases |= await _cases(engine, count)
        best = interleaved(cases)
    figures = [Figure(name, cost * 1e6, "us") for name, cost in best.items()]
    for kind in ("by offset", "by time"):
        ratio = best[f"look-up {kind}, {SEGMENTS[-1]} segments"] / best[f"look-up {kind}, {SEGMENTS[0]} segments"]
        figures.append(Figure(f"look-up {kind}, {SEGMENTS[-1]} segments / 1", ratio, "x", [at_most(FLAT)]))
    return figures


async def _cases(engine: EmbeddedEngine, segments: int) -> Mapping[str, Callable[[], float]]:
    size = len(encode([Record(bytes(100))], now_ms=_FIRST_MS))
    settings = {"segment_bytes": size * BATCHES_PER_SEGMENT, "segment_ms": 1 << 40, "durability": "os"}
    where = await make_topic(engine, f"segments-{segments}", index_interval_bytes=size, **settings)
    total = segments * BATCHES_PER_SEGMENT
    for number in range(total):
        engine.raw.append(where, encode([Record(bytes(100))], now_ms=_FIRST_MS + number))
        if number % 200 == 0:
            await asyncio.sleep(0)
    assert engine.storage is not None
    assert len(engine.storage.segments(where)) == segments
    drawn = random.Random(1).choices(range(total), k=LOOKUPS)
    return {
        f"look-up by offset, {segments} segments": lambda: cpu(lambda: _by_offset(engine, where, drawn)) / LOOKUPS,
        f"look-up by time, {segments} segments": lambda: cpu(lambda: _by_time(engine, where, drawn)) / LOOKUPS,
    }


def _by_offset(engine: EmbeddedEngine, where: TopicPartition, offsets: list[int]) -> None:
    for offset in offsets:
        found = engine.raw.read(where, offset, 1)
        assert found is not None and len(found.chunks) == 1


def _by_time(engine: EmbeddedEngine, where: TopicPartition, offsets: list[int]) -> None:
    for offset in offsets:
        look_up = engine.offset_at(where, _FIRST_MS + offset)
        try:  # a coroutine that never waits, so no loop is needed to run it
            look_up.send(None)
        except StopIteration as done:
            assert done.value.offset == offset
