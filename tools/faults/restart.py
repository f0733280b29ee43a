"""An unclean start of a lot of data: many partitions are filled, the process is killed, and another one opens them.

``python -m tools.faults.restart write DIRECTORY PARTITIONS`` and ``open DIRECTORY`` are the two children.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from logbroker.model import TopicPartition
from tools.bench.log_files import counting
from tools.bench.log_setup import MEBIBYTE, batch_of, engine_on, flushed

TOPIC = "filled"
_EACH = 10 * MEBIBYTE
_AT_ONCE = 50


async def _write(directory: Path, partitions: int) -> None:
    batch = batch_of(MEBIBYTE - 1_000)
    async with engine_on(directory) as engine:
        settings = {"retention_ms": -1, "segment_bytes": 64 * MEBIBYTE, "max_message_bytes": 16 * MEBIBYTE}
        await engine.create_topic(TOPIC, partitions, settings)
        some = [TopicPartition(TOPIC, number) for number in range(partitions)]
        for _ in range(_EACH // MEBIBYTE):  # round and round, so that a partition is flushed over more than a second
            for first in range(0, partitions, _AT_ONCE):
                ends = [(where, engine.raw.append(where, batch).next_offset) for where in some[first : first + _AT_ONCE]]
                for where, end in ends:
                    await flushed(engine.raw, where, end)
        last = batch_of(10_000)
        for where in some:  # what comes in at the end is behind every recovery point
            engine.raw.append(where, last)
        os.kill(os.getpid(), signal.SIGKILL)


async def _open(directory: Path) -> None:
    files, tally = counting(directory)
    begin = time.perf_counter()
    async with engine_on(directory, files) as engine:
        seconds = time.perf_counter() - begin
        count = engine.topic(TOPIC).partitions
        size = sum(engine.storage.size_bytes(TopicPartition(TOPIC, number)) for number in range(count))
        print(json.dumps({"seconds": seconds, "read": tally.read, "mapped": tally.mapped, "bytes": size, "count": count}))


def restart(directory: Path, partitions: int) -> dict[str, float]:
    """Fill, kill, open; what the opening took."""
    command = [sys.executable, "-m", "tools.faults.restart"]
    subprocess.run([*command, "write", str(directory), str(partitions)], check=False)
    done = subprocess.run([*command, "open", str(directory)], stdout=subprocess.PIPE, check=True)
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


if __name__ == "__main__":
    name, where, *rest = sys.argv[1:]
    asyncio.run(_write(Path(where), int(rest[0])) if name == "write" else _open(Path(where)))
