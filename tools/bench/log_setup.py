"""The embedded engine on files of this machine, and the batches the log benchmarks write."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from logbroker.clock import SystemClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import RawBatches
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.log.files import Files
from logbroker.log.files.disk import DiskFiles
from logbroker.model import Record, TopicPartition
from logbroker.records.codec import encode

TOPIC = "bench"
WHERE = TopicPartition(TOPIC, 0)
MEBIBYTE = 1 << 20


def batch_of(size: int, record_bytes: int = 1000) -> bytes:
    """A valid, uncompressed batch of about ``size`` bytes and never more."""
    now_ms = SystemClock().now().wall_ms
    count = max(1, size // (record_bytes + 20))
    return encode([Record(os.urandom(record_bytes)) for _ in range(count)], now_ms=now_ms)


@contextlib.asynccontextmanager
async def engine_on(directory: Path, files: Files | None = None) -> AsyncIterator[EmbeddedEngine]:
    """A started engine, stopped cleanly at the end."""
    engine = EmbeddedEngine(files or DiskFiles(directory), BrokerConfig(), TopicConfig(), SystemClock())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def make_topic(engine: EmbeddedEngine, name: str = TOPIC, **settings: object) -> TopicPartition:
    """A topic of one partition that keeps everything."""
    await engine.create_topic(name, 1, {"retention_ms": -1, "max_message_bytes": 16 * MEBIBYTE, **settings})
    return TopicPartition(name, 0)


async def fill(raw: RawBatches, where: TopicPartition, batch: bytes, total: int) -> None:
    """Append ``batch`` until ``total`` bytes are there, waiting for the flush of every 64 MiB."""
    written = unflushed = 0
    while written < total:
        appended = raw.append(where, batch)
        written += len(batch)
        unflushed += len(batch)
        if unflushed >= 64 * MEBIBYTE or written >= total:
            unflushed = 0
            await flushed(raw, where, appended.next_offset)


async def flushed(raw: RawBatches, where: TopicPartition, next_offset: int) -> None:
    """Return when everything below ``next_offset`` is acknowledged."""
    reached = asyncio.Event()
    raw.when_flushed(where, next_offset, lambda _: reached.set())
    await reached.wait()
