"""What it costs to find a record by offset and by time, with 1 to 10,000 segments in the log.

The look-ups go to a few segments that are spread over the log, as those of readers do, so their files are open. What it
costs when every look-up goes to a segment of its own, whose files must be opened first, is a row of its own.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from logbroker.engine.embedded import EmbeddedEngine
from logbroker.model import Record, TopicPartition
from logbroker.records.codec import encode
from tools.bench.log_files import unflushed
from tools.bench.log_setup import engine_on, flushed, make_topic
from tools.bench.measure import Figure, at_most, cpu, interleaved

SEGMENTS = (1, 10, 100, 1_000, 10_000)
VISITED = 50
"""The segments that look-ups go to."""
BATCHES = 8
"""In a segment."""
RECORDS = 4
"""In a batch. Look-ups ask for the second of them: a batch's first may be known as the place where a reader stopped."""
LOOKUPS = 2_000
FLAT = 1.5
"""How many times the cost with one segment still counts as flat: a few more steps of binary search, colder caches."""
_FIRST_MS = 1_700_000_000_000


def run(directory: Path) -> list[Figure]:
    """The cost with each number of segments, and the ratio of the last to the first."""
    return asyncio.run(_run(directory / "lookup"))


async def _run(directory: Path) -> list[Figure]:
    async with engine_on(directory, unflushed(directory)) as engine:
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
    where = await _fill(engine, segments)
    drawn = random.Random(1)
    visited = [number * segments // VISITED for number in range(VISITED)]
    some = [_offset(drawn, drawn.choice(visited)) for _ in range(LOOKUPS)]
    cases = {
        f"look-up by offset, {segments} segments": lambda: cpu(lambda: _by_offset(engine, where, some)) / LOOKUPS,
        f"look-up by time, {segments} segments": lambda: cpu(lambda: _by_time(engine, where, some)) / LOOKUPS,
    }
    if segments == SEGMENTS[-1]:
        each = [_offset(drawn, number) for number in drawn.sample(range(segments), LOOKUPS)]
        name = f"look-up by offset, {segments} segments, each in files not open"
        cases[name] = lambda: cpu(lambda: _by_offset(engine, where, each)) / LOOKUPS
    return cases


def _offset(drawn: random.Random, segment: int) -> int:
    """That of the second record in some batch of a segment."""
    return (segment * BATCHES + drawn.randrange(BATCHES)) * RECORDS + 1


async def _fill(engine: EmbeddedEngine, segments: int) -> TopicPartition:
    size = len(_batch(0))
    settings = {"segment_bytes": size * BATCHES, "segment_ms": 1 << 40, "index_interval_bytes": size}
    where = await make_topic(engine, f"segments-{segments}", **settings)
    total = segments * BATCHES
    for number in range(total):
        appended = engine.raw.append(where, _batch(number))
        if number % 200 == 0 or number == total - 1:
            await flushed(engine.raw, where, appended.next_offset)
    assert engine.storage is not None
    assert len(engine.storage.segments(where)) == segments
    return where


def _batch(number: int) -> bytes:
    """Records whose timestamps go on where those of the batch before end."""
    first_ms = _FIRST_MS + number * RECORDS
    return encode([Record(bytes(100), timestamp_ms=first_ms + one) for one in range(RECORDS)], now_ms=first_ms)


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
