"""Opening 10 GB in 80 segments again: after a clean stop, and after a SIGKILL, each in a process of its own.

``python -m tools.bench.log_reopen write DIRECTORY stop|kill`` and ``open DIRECTORY`` are the two children.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.bench.log_files import counting
from tools.bench.log_setup import MEBIBYTE, WHERE, batch_of, engine_on, fill, make_topic
from tools.bench.measure import Figure, at_most

SEGMENTS = 80
SEGMENT_BYTES = 128 * MEBIBYTE
MOST_READ = 2 * 64 * MEBIBYTE
"""The recovery point is stored each 64 MiB; what came in since the last flush is read as well."""


async def _write(directory: Path, ending: str) -> None:
    batch = batch_of(MEBIBYTE - 1000)
    async with engine_on(directory) as engine:
        await make_topic(engine, segment_bytes=SEGMENT_BYTES)
        await fill(engine.raw, WHERE, batch, (SEGMENTS - 1) * SEGMENT_BYTES + SEGMENT_BYTES // 2)
        print(json.dumps({"end": (await engine.bounds(WHERE)).high_watermark}), flush=True)
        if ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


async def _open(directory: Path) -> None:
    files, tally = counting(directory)
    begin = time.perf_counter()
    async with engine_on(directory, files) as engine:
        seconds = time.perf_counter() - begin
        assert engine.storage is not None
        facts = {
            "seconds": seconds,
            "read": tally.read,
            "mapped": tally.mapped,
            "segments": len(engine.storage.segments(WHERE)),
            "bytes": engine.storage.size_bytes(WHERE),
            "end": (await engine.bounds(WHERE)).high_watermark,
        }
    print(json.dumps(facts))


def _child(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tools.bench.log_reopen", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(arguments)} failed")
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def run(directory: Path) -> list[Figure]:
    """Write, end, open; for both endings."""
    figures = []
    for ending, name in (("stop", "a clean stop"), ("kill", "a kill")):
        place = directory / ending
        written = _child("write", str(place), ending)
        opened = _child("open", str(place))
        shutil.rmtree(place)
        if opened["end"] != written["end"]:
            raise RuntimeError(f"{written['end']} records were written, {opened['end']} are there after {name}")
        size = f"{opened['bytes'] / 1e9:.1f} GB in {opened['segments']} segments"
        goals = [at_most(1)] if ending == "stop" else []
        note = f"{size}; {opened['mapped'] / 1e6:.1f} MB were mapped"
        figures.append(Figure(f"reopen after {name}", opened["seconds"], "s", goals, note))
        most = MOST_READ / 1e6 if ending == "kill" else 1
        figures.append(Figure(f"read at reopening after {name}", opened["read"] / 1e6, "MB", [at_most(most)]))
    return figures


def main() -> None:
    children: dict[str, Callable[..., Any]] = {"write": _write, "open": _open}
    name, directory, *rest = sys.argv[1:]
    asyncio.run(children[name](Path(directory), *rest))


if __name__ == "__main__":
    main()
