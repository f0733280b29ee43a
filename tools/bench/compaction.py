"""Compacting ten million records of a million keys: time, space, memory of the cleaner, and what others notice of it."""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from logbroker.clock import SystemClock
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.model import Record
from logbroker.records.codec import encode
from tools.bench.log_setup import MEBIBYTE, WHERE, batch_of, engine_on, flushed, make_topic
from tools.bench.measure import Figure, at_most

RECORDS = 10_000_000
KEYS_PART = 10
"""One key for so many records."""
BATCH = 1000
VALUE_BYTES = 100
SECONDS = 5.0
"""How long produce and fetch are timed before the compaction."""
PROBE = "probe"


def run(directory: Path) -> list[Figure]:
    """Fill, time produce and fetch, compact, and time them again meanwhile."""
    return asyncio.run(measure(directory, RECORDS))


async def measure(directory: Path, records: int) -> list[Figure]:
    """The same for so many records."""
    async with engine_on(directory) as engine:
        await make_topic(engine, cleanup_policy="compact", segment_bytes=128 * MEBIBYTE)
        await make_topic(engine, PROBE)
        await _fill(engine, records)
        before = await _probe(engine, until=time.perf_counter() + SECONDS)
        compaction = asyncio.create_task(engine.compact())
        peak = asyncio.create_task(_peak_bytes(engine, compaction))
        during = await _probe(engine, done=compaction)
        done = await compaction
        assert done is not None, "there is much to compact"
        size = f"{records / 1e6:.1f} M records of {records // KEYS_PART / 1e6:.2f} M keys"
        slower = [at_most(1.3)]
        return [
            Figure("compaction", done.seconds, "s", note=f"{size}; {done.records_dropped / 1e6:.1f} M went"),
            Figure("space before", done.bytes_before / 1e6, "MB"),
            Figure("space after", done.bytes_after / 1e6, "MB"),
            Figure("memory of the cleaner", await peak / 1e6, "MB", [at_most(256)], "peak resident set"),
            Figure("produce meanwhile", during[0] / before[0], "x", slower, f"median of before {before[0] * 1e3:.2f} ms"),
            Figure("fetch meanwhile", during[1] / before[1], "x", slower, f"median of before {before[1] * 1e3:.2f} ms"),
        ]


async def _fill(engine: EmbeddedEngine, records: int) -> None:
    rng = random.Random(1)
    now_ms = SystemClock().now().wall_ms
    keys = records // KEYS_PART
    for number in range(records // BATCH):
        made = [Record(rng.randbytes(VALUE_BYTES), key=b"key-%d" % rng.randrange(keys)) for _ in range(BATCH)]
        appended = engine.raw.append(WHERE, encode(made, now_ms=now_ms))
        if number % 500 == 499:
            await flushed(engine.raw, WHERE, appended.next_offset)
    await flushed(engine.raw, WHERE, appended.next_offset)


async def _probe(
    engine: EmbeddedEngine, *, until: float = 0.0, done: "asyncio.Task[object] | None" = None
) -> tuple[float, float]:
    """The median seconds of producing 16 KiB durably, and of fetching 64 KiB, one after the other."""
    where = WHERE._replace(topic=PROBE)
    batch = batch_of(16 * 1024)
    produced: list[float] = []
    fetched: list[float] = []
    while not done.done() if done is not None else time.perf_counter() < until:
        begin = time.perf_counter()
        appended = engine.raw.append(where, batch)
        await flushed(engine.raw, where, appended.next_offset)
        produced.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        at = max(0, appended.next_offset - 64)
        if engine.raw.read(where, at, 64 * 1024) is None:
            await engine.raw.read_cold(where, at, 64 * 1024)
        fetched.append(time.perf_counter() - begin)
        await asyncio.sleep(0.002)
    return statistics.median(produced), statistics.median(fetched)


async def _peak_bytes(engine: EmbeddedEngine, compaction: "asyncio.Task[object]") -> int:
    """The largest resident set that the cleaner's process has had."""
    peak = 0
    while not compaction.done():
        process = engine._compactor.process
        if process is not None:
            peak = max([peak, *_high_water(process.pid)])
        await asyncio.sleep(0.05)
    return peak


def _high_water(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                yield int(line.split()[1]) * 1024
