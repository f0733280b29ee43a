"""Changed, cut and missing bytes, all of them: what is detected, what is read, what a start makes of it.

What lives here: exhaustive walks over the files of a log and of a whole broker; each tells how many damages it made and
where the promise was broken. What may not: damage of one kind with its own expectation (``tests/log/test_damage``).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from logbroker.clock import ManualClock
from logbroker.errors import DataDirectoryError, LogbrokerError, PartitionDamaged
from logbroker.log.files.memory import MemoryContent, MemoryFiles
from logbroker.log.names import LOG, file_name
from logbroker.log.verify import DAMAGE, verify_segment
from logbroker.model import TopicPartition
from tests.faults.life import DATA, GROUP, Running, recorded
from tests.faults.simulation import settled, simulate
from tests.log.helpers import NOW, PATH, append, copy_of, flush, open_log, read_all, read_bytes, values

FIRST = f"{PATH}/{file_name(0, LOG)}"


@dataclass
class Walk:
    """How many damages were made, and which of them broke a promise."""

    what: str
    count: int = 0
    violations: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """In one line."""
        return f"{self.what}: {self.count} damages, {len(self.violations)} violations"


# -- the log ---------------------------------------------------------------------------------------------------------


def every_byte_of_a_sealed_segment(least_bytes: int = 66_000, value_bytes: int = 900, every: int = 1) -> Walk:
    """Each byte changed in one random bit, and to another random byte: ``verify`` finds it."""
    files, rng = MemoryFiles(), random.Random(1)
    log = open_log(files)
    while log.size_bytes < least_bytes:
        append(log, rng.randbytes(value_bytes), b"small")
    log.roll(NOW)
    end = log.end_offset
    log.close()
    walk = Walk(f"a sealed segment of {files.size(FIRST)} bytes, verified")
    data = files.contents[FIRST].data
    for position in range(0, len(data), every):
        original = data[position]
        for changed in (original ^ (1 << rng.randrange(8)), (original + rng.randrange(1, 256)) % 256):
            data[position] = changed
            walk.count += 1
            if not any(one.severity == DAMAGE for one in verify_segment(files, PATH, 0, end)):
                walk.violations.append(f"byte {position} as {changed} is not noticed")
        data[position] = original
    return walk


def every_byte_past_the_recovery_point(batches: int = 8, every: int = 1) -> Walk:
    """Each changed byte fails closed, or ends the log where it may pass for a torn tail; no record is skipped or wrong."""
    files = MemoryFiles()
    log = open_log(files)
    for number in range(batches):
        append(log, b"%02d" % number * 300)
    intact = values(read_all(log))
    size = log.size_bytes // batches
    walk = Walk("a killed log with damage in it, opened")
    for position in range(0, batches * size, every):
        copy = copy_of(files)
        copy.contents[FIRST].data[position] ^= 0x55
        walk.count += 1
        where = position // size
        try:
            found = values(read_all(open_log(copy)))
        except PartitionDamaged as error:
            told = {"file", "position", "first_offset", "last_offset"}
            if not told <= error.fields.keys():
                walk.violations.append(f"byte {position}: the error tells {sorted(error.fields)} only")
            continue
        if found != intact and (found != intact[:where] or where < batches - 1):
            walk.violations.append(f"byte {position}: {len(found)} of {batches} records without an error")
    return walk


def every_truncation_of_the_active_segment(batches: int = 60, value_bytes: int = 1_000) -> Walk:
    """Each length of the active segment: all whole batches are there, and the rest is kept."""
    files = MemoryFiles()
    log = open_log(files)
    for number in range(batches):
        append(log, b"%04d" % number * (value_bytes // 4))
    expected = values(read_all(log))
    whole = read_bytes(files, FIRST)
    size = len(whole) // batches
    walk = Walk(f"an active segment of {len(whole)} bytes, cut")
    for length in range(max(0, len(whole) - 65_536), len(whole) + 1):
        copy = MemoryFiles()
        copy.directories = set(files.directories)
        copy.contents[FIRST] = MemoryContent(whole[:length])
        walk.count += 1
        log = open_log(copy)
        kept = b"".join(read_bytes(copy, path) for path in log.recovery.torn_files)
        if values(read_all(log, max(0, length // size - 2))) != expected[max(0, length // size - 2) : length // size]:
            walk.violations.append(f"{length} bytes: wrong records")
        if kept != whole[length // size * size : length] or log.end_offset != length // size:
            walk.violations.append(f"{length} bytes: {len(kept)} bytes kept, the log ends at {log.end_offset}")
    return walk


# -- indexes ---------------------------------------------------------------------------------------------------------

_INDEXED: dict[str, Any] = {"segment_bytes": 1_500, "index_interval_bytes": 150}


def every_damage_of_an_index(every: int = 1) -> Walk:
    """Each byte changed, each length, none, of each index of a closed log: the same reads."""
    files = MemoryFiles()
    log = open_log(files, NOW, **_INDEXED)
    for number in range(40):
        append(log, b"%d" % number, b"y" * 20, timestamp_ms=NOW.wall_ms + number * 10 + number * 37 % 60)
    flush(log)
    expected = _all_reads(files, log.end_offset)
    log.close()
    walk = Walk("indexes of a closed log")
    for path in [one for one in files.contents if one.endswith("index")]:
        for number, damage in enumerate(damages(bytes(files.contents[path].data))):
            if number % every:
                continue
            walk.count += 1
            try:
                same = _all_reads(_with(files, path, damage), log.end_offset) == expected
            except Exception as error:
                walk.violations.append(f"{path}, damage {number}: {error!r}")
            else:
                walk.violations += [] if same else [f"{path}, damage {number}: other reads"]
    return walk


def _all_reads(files: MemoryFiles, end: int) -> list[object]:
    log = open_log(copy_of(files), NOW, **_INDEXED)
    times = range(NOW.wall_ms - 40, NOW.wall_ms + 500, 13)
    reads = [read_all(log, offset, offset + 2 - offset % 2)[0] for offset in range(0, end, 2)]
    return [*reads, *(log.offset_at(time, end) for time in times), log.max_timestamp(end)]


def damages(content: bytes) -> Iterator[bytes | None]:
    """Every byte changed, every length, more than there was, all zeros, and no file."""
    for position in range(len(content)):
        yield content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
    yield from (content[:size] for size in range(len(content)))
    yield content + b"\xff" * 24
    yield b"\0" * len(content)
    yield None


def _with(files: MemoryFiles, path: str, content: bytes | None) -> MemoryFiles:
    copy = copy_of(files)
    if content is None:
        copy.unlink(path)
    else:
        copy.contents[path] = MemoryContent(content)
    return copy


# -- all other files of a broker -------------------------------------------------------------------------------------


def every_damage_of_a_small_file(every: int = 1) -> Walk:
    """Each byte changed, each length, emptied, removed, an older version: of checkpoints, sidecars and the catalogue.

    The broker starts right or refuses, and is never an empty one: a partition that is damaged says so, all others serve.
    """
    return simulate(_small_files(every))


async def _small_files(every: int) -> Walk:
    life, files = await recorded()
    older: dict[str, bytes] = {}
    for step in (life.produce_once, life.commit, life.produce_large, life.roll, life.checkpoint, life.ack):
        await step()
        await settled()
        older |= {path: bytes(content.data) for path, content in files.contents.items() if _is_small(path)}
    await life.running.pass_time(2_000)
    await life.produce_once()
    await life.running.stop()
    expected, walk = await _content(copy_of(files)), Walk("checkpoints, sidecars and the catalogue of a broker")
    for path in [one for one in files.contents if _is_small(one)]:
        content = bytes(files.contents[path].data)
        candidates = [*damages(content), *([older[path]] if path in older and older[path] != content else [])]
        for number, damage in enumerate(candidates):
            if number % every and number < len(candidates) - 3:
                continue
            walk.count += 1
            problem = await _problem(_with(files, path, damage), expected)
            if problem:
                walk.violations.append(f"{path}, damage {number}: {problem}")
    return walk


def _is_small(path: str) -> bool:
    """Whether a file is none of the logs, indexes or locks."""
    return not path.endswith((".log", "index", "lock"))


async def _problem(files: MemoryFiles, expected: dict[str, object]) -> str:
    try:
        found = await _content(files)
    except (DataDirectoryError, LogbrokerError):
        return ""  # a clear refusal to start
    for name, content in expected.items():
        if found.get(name) != content and not isinstance(found.get(name), PartitionDamaged):
            return f"{name} is {found.get(name)!r:.120}, not {content!r:.120}"
    return ""


async def _content(files: MemoryFiles) -> dict[str, object]:
    """What a broker on ``files`` holds: the end of its records, the committed offset, the queue's counts."""
    running = await Running.start(files, ManualClock())
    found: dict[str, object] = {"topics": sorted(info.name for info in running.engine.topics())}
    for name in (DATA.topic, "jobs"):
        where = TopicPartition(name, 0)
        try:
            read = await running.engine.read(
                where, (await running.engine.bounds(where)).log_start_offset, max_bytes=1 << 20
            )
            found[name] = [(one.offset, one.value) for one in read.records]
        except PartitionDamaged as damage:
            found[name] = damage
    committed = await running.services.groups.fetch_offsets(GROUP)
    found["committed"] = committed[DATA].offset if DATA in committed else None
    await running.stop()
    return found


WALKS: dict[str, Callable[[int], Walk]] = {
    "F12": lambda every: every_byte_of_a_sealed_segment(every=every),
    "F13": lambda every: every_byte_past_the_recovery_point(every=every),
    "F14": lambda every: every_damage_of_an_index(every),
    "F15": lambda every: (
        every_truncation_of_the_active_segment() if every == 1 else every_truncation_of_the_active_segment(4)
    ),
    "F16": lambda every: every_damage_of_a_small_file(every),
}
"""The walk behind each figure; the argument takes every so manieth damage only."""
