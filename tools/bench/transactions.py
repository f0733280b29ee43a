"""What transactions cost: committed reads beside open and aborted transactions, known producers at a start, a commit."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from logbroker.clock import SystemClock
from logbroker.engine.api import Isolation
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.transactions.coordinator import TransactionCoordinator
from logbroker.model import ProducerStamp, Record, TopicPartition
from tools.bench.log_setup import MEBIBYTE, batch_of, engine_on, fill, make_topic
from tools.bench.measure import Figure

READ_BYTES = 64 * 1024
FILL_BYTES = 16 * MEBIBYTE
ROUNDS = 15
READS = 200
ABORTED = 1_000
PRODUCERS = 1_000
COMMITS = 200


def run(directory: Path) -> list[Figure]:
    """All of them."""
    return [
        *asyncio.run(_reads(directory / "reads")),
        *_starts(directory / "starts"),
        *asyncio.run(_commits(directory / "commits")),
    ]


# -- reads -----------------------------------------------------------------------------------------------------------


async def _reads(directory: Path) -> list[Figure]:
    async with engine_on(directory) as engine:
        plain = await make_topic(engine, "plain")
        await fill(engine.raw, plain, batch_of(16_000), FILL_BYTES)
        opened = await make_topic(engine, "opened")
        await fill(engine.raw, opened, batch_of(16_000), FILL_BYTES)
        await _transact(engine, opened, 1)
        behind = (await engine.bounds(opened)).last_stable_offset
        await fill(engine.raw, opened, batch_of(16_000), FILL_BYTES)
        aborted = await make_topic(engine, "aborted")
        for number in range(ABORTED):
            engine.raw.append(aborted, batch_of(16_000))
            await _transact(engine, aborted, number % 10, number // 10)
            await engine.end_transaction(aborted, number % 10, 0, committed=False)
        middle = (await engine.bounds(aborted)).high_watermark // 2
        cases: dict[str, Callable[[], None]] = {
            "read 64 KiB, uncommitted": _reader(engine, plain, 8, Isolation.READ_UNCOMMITTED),
            "read 64 KiB, committed": _reader(engine, plain, 8, Isolation.READ_COMMITTED),
            "read 64 KiB, committed, a transaction open behind": _reader(engine, opened, 8, Isolation.READ_COMMITTED),
            "read at an open transaction (nothing)": _reader(engine, opened, behind, Isolation.READ_COMMITTED),
            "read 64 KiB, uncommitted, among 1,000 aborts": _reader(engine, aborted, middle, Isolation.READ_UNCOMMITTED),
            "read 64 KiB, committed, among 1,000 aborts": _reader(engine, aborted, middle, Isolation.READ_COMMITTED),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, read in cases.items():
                read()
                begin = time.perf_counter()
                for _ in range(READS):
                    read()
                times[name].append((time.perf_counter() - begin) / READS * 1e6)
    return [Figure(name, median(some), "µs", []) for name, some in times.items()]


def _reader(engine: EmbeddedEngine, where: TopicPartition, offset: int, isolation: Isolation) -> Callable[[], None]:
    def read() -> None:
        assert engine.raw.read(where, offset, READ_BYTES, isolation) is not None

    return read


async def _transact(engine: EmbeddedEngine, where: TopicPartition, producer: int, sequence: int = 0) -> None:
    stamp = ProducerStamp(producer, 0, sequence)
    await engine.append(where, [Record(b"x" * 1_000)], producer=stamp, transactional=True)


# -- starts ----------------------------------------------------------------------------------------------------------


def _starts(directory: Path) -> list[Figure]:
    figures = []
    for count in (0, PRODUCERS):
        place = directory / str(count)
        asyncio.run(_known_producers(place, count))
        times = [asyncio.run(_open(place)) for _ in range(5)]
        name = f"start with {count:,} known producers in one partition"
        figures.append(Figure(name, median(times) * 1e3, "ms", []))
    return figures


async def _known_producers(directory: Path, count: int) -> None:
    async with engine_on(directory) as engine:
        where = await make_topic(engine)
        await engine.append(where, [Record(b"x")])
        for number in range(count):
            await engine.append(where, [Record(b"x")], durable=False, producer=ProducerStamp(number, 0, 0))


async def _open(directory: Path) -> float:
    begin = time.perf_counter()
    async with engine_on(directory):
        return time.perf_counter() - begin


# -- commits ---------------------------------------------------------------------------------------------------------


async def _commits(directory: Path) -> list[Figure]:
    clock = SystemClock()
    async with engine_on(directory) as engine:
        groups = GroupCoordinator(engine, clock)
        transactions = TransactionCoordinator(engine, groups, clock)
        await groups.start()
        await transactions.start()
        await engine.create_topic("t", 3, {})
        producer = await transactions.init_producer("bench", 60_000)
        times = []
        for number in range(COMMITS):
            begin = time.perf_counter()
            wheres = [TopicPartition("t", partition) for partition in range(3)]
            await transactions.add("bench", producer, wheres)
            stamp = ProducerStamp(*producer, number)
            await asyncio.gather(
                *(engine.append(where, [Record(b"x" * 100)], producer=stamp, transactional=True) for where in wheres)
            )
            await transactions.end("bench", producer, committed=True)
            times.append(time.perf_counter() - begin)
        await transactions.stop()
        await groups.stop()
    return [Figure("a transaction over 3 partitions, begin to committed", median(times) * 1e3, "ms", [])]
