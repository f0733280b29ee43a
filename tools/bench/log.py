"""The engine without any door: append and read beside raw system calls, look-ups, and opening a large log again."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from logbroker.engine.embedded import EmbeddedEngine
from logbroker.model import TopicPartition
from tools.bench import log_lookup, log_reopen
from tools.bench.log_setup import MEBIBYTE, batch_of, engine_on, fill, make_topic
from tools.bench.measure import Figure, at_most, cpu, interleaved

SIZES = {"16 KB": 16_000, "1 MB": 1_000_000}
BYTES_PER_ROUND = 64 * MEBIBYTE


def run(directory: Path) -> list[Figure]:
    """All figures of the log."""
    return [*asyncio.run(_throughput(directory / "throughput")), *log_lookup.run(directory), *log_reopen.run(directory)]


async def _throughput(directory: Path) -> list[Figure]:
    async with engine_on(directory) as engine:
        cases: dict[str, Callable[[], float]] = {}
        for name, size in SIZES.items():
            batch = batch_of(size)
            cases |= await _append_cases(engine, directory, name, batch)
            cases |= await _read_cases(engine, directory, name, batch)
        best = interleaved(cases)
    return _figures(best)


async def _append_cases(
    engine: EmbeddedEngine, directory: Path, name: str, batch: bytes
) -> Mapping[str, Callable[[], float]]:
    where = await make_topic(engine, f"append-{len(batch)}", durability="os", segment_bytes=2**31 - 1)
    count = BYTES_PER_ROUND // len(batch)
    raw_path = directory.parent / f"raw-append-{len(batch)}"

    def append() -> None:
        for _ in range(count):
            engine.raw.append(where, batch)

    def write() -> None:
        for _ in range(count):
            os.write(descriptor, batch)

    descriptor = os.open(raw_path, os.O_RDWR | os.O_CREAT)
    return {f"append {name}": lambda: cpu(append) / count, f"os.write {name}": lambda: cpu(write) / count}


async def _read_cases(
    engine: EmbeddedEngine, directory: Path, name: str, batch: bytes
) -> Mapping[str, Callable[[], float]]:
    where = await make_topic(engine, f"read-{len(batch)}", segment_bytes=2**31 - 1)
    await fill(engine.raw, where, batch, BYTES_PER_ROUND)
    end = (await engine.bounds(where)).high_watermark
    per_batch = end // -(-BYTES_PER_ROUND // len(batch))
    (path,) = _log_files(directory, where, len(batch))
    descriptor = os.open(path, os.O_RDONLY)
    sink = os.memfd_create("sink")  # stands for a socket: a write into it copies as one to a socket does
    count = end // per_batch

    def read() -> None:
        for offset in range(0, end, per_batch):
            found = engine.raw.read(where, offset, len(batch))
            assert found is not None and len(found.chunks[0]) == len(batch)

    def read_and_send() -> None:
        for offset in range(0, end, per_batch):
            found = engine.raw.read(where, offset, len(batch))
            assert found is not None
            os.pwrite(sink, found.chunks[0], 0)

    def pread() -> None:
        for position in range(0, count * len(batch), len(batch)):
            os.pread(descriptor, len(batch), position)

    def pread_and_send() -> None:
        for position in range(0, count * len(batch), len(batch)):
            os.pwrite(sink, os.pread(descriptor, len(batch), position), 0)

    return {
        f"read {name}": lambda: cpu(read) / count,
        f"os.pread {name}": lambda: cpu(pread) / count,
        f"read and send {name}": lambda: cpu(read_and_send) / count,
        f"os.pread and send {name}": lambda: cpu(pread_and_send) / count,
    }


def _log_files(directory: Path, where: TopicPartition, size: int) -> list[Path]:
    """The log file of a topic that this benchmark has just filled: the one whose batches have this size."""
    found = sorted((directory / "topics").rglob("*.log"), key=lambda path: path.stat().st_mtime)
    return found[-1:]


def _figures(best: Mapping[str, float]) -> list[Figure]:
    figures = []
    for case, baseline, most in (
        ("append", "os.write", 1.5),
        ("read", "os.pread", 1.3),
        ("read and send", "os.pread and send", 1.3),
    ):
        for name in SIZES:
            cost, raw = best[f"{case} {name}"], best[f"{baseline} {name}"]
            note = f"{cost * 1e6:.1f} us of CPU a call, {baseline} {raw * 1e6:.1f} us"
            figures.append(Figure(f"{case} {name} / {baseline}", cost / raw, "x", [at_most(most)], note))
    return figures
