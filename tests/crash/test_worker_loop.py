"""Workers that fail, hang, are killed and are told to stop: no message is lost, none is acknowledged unfinished."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from logbroker import connect, message
from tests.crash.broker import Broker
from tests.crash.worker_program import CONCURRENCY, QUEUE

MESSAGES = int(os.environ.get("LOGBROKER_WORKER_MESSAGES", "10000"))
KEYS = 64


class Note(NamedTuple):
    """One line of the ledger."""

    what: str
    number: int
    key: str
    process: int


def read_ledger(path: Path) -> list[Note]:
    """What happened, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Note(what, int(number), key, int(process)) for what, number, key, process in map(str.split, lines)]


def out_of_order(notes: list[Note]) -> list[Note]:
    """What was begun although an earlier message of its key had not ended."""
    ended: dict[str, set[int]] = {}
    numbers: dict[str, list[int]] = {}
    for note in notes:
        numbers.setdefault(note.key, []).append(note.number)
    smaller = {key: sorted(set(found)) for key, found in numbers.items()}
    wrong = []
    for note in notes:
        done = ended.setdefault(note.key, set())
        if note.what == "end":
            done.add(note.number)
        elif any(number not in done for number in smaller[note.key] if number < note.number):
            wrong.append(note)
    return wrong


@contextmanager
def worker(url: str, ledger: Path) -> "Iterator[subprocess.Popen[str]]":
    """A worker process."""
    command = [sys.executable, "-m", "tests.crash.worker_program", url, str(ledger)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def fill(url: str) -> None:
    """The queue, with its messages."""
    async with connect(url) as lb:
        await lb.queues.create(
            QUEUE,
            partitions=4,
            ordering="key",
            max_attempts=5,
            visibility_timeout="2s",
            retry={"policy": "fixed", "initial": "20ms", "jitter": 0},
        )
        everything = (message(number, key=f"k{number % KEYS}") for number in range(1, MESSAGES + 1))
        await lb.queue(QUEUE).send_many(everything)


async def left(url: str) -> dict[str, int]:
    """How many messages are where."""
    async with connect(url) as lb:
        counts = (await lb.queue(QUEUE).stats()).counts
        return {state: getattr(counts, state) for state in ("ready", "in_flight", "delayed", "retrying", "dead")}


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Return once it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_no_message_is_lost_or_acknowledged_unfinished_and_keys_keep_their_order(tmp_path: Path) -> None:
    broker, ledger = Broker(tmp_path), tmp_path / "ledger"
    broker.start()
    try:
        broker.wait_until_ready()
        url = f"http://127.0.0.1:{broker.port}"
        asyncio.run(fill(url))

        def share(part: float) -> Callable[[], bool]:
            return lambda: sum(note.what == "end" for note in read_ledger(ledger)) >= MESSAGES * part

        with worker(url, ledger) as killed, worker(url, ledger) as stopped:
            until(share(0.3))
            killed.kill()
            with worker(url, ledger):
                until(share(0.6))
                stopped.send_signal(signal.SIGTERM)
                told, _ = stopped.communicate(timeout=30)
                assert stopped.returncode == 0
                assert "'in_flight': 0" in told
                until(lambda: not any(asyncio.run(left(url)).values()))
        notes = read_ledger(ledger)
        ends = Counter(note.number for note in notes if note.what == "end")
        assert set(ends) == set(range(1, MESSAGES + 1)), "a message was acknowledged that no handler has ended"
        again = sum(times - 1 for times in ends.values())
        assert again <= CONCURRENCY, "only what the killed worker had just ended may be done again"
        assert out_of_order(notes) == []
        told_done = [note.process for note in notes if note.process == stopped.pid]
        assert told_done, "the worker that was told to stop had worked"
        last = {note.number: note.what for note in notes if note.process == stopped.pid}
        assert [number for number, what in last.items() if what == "begin" and ends[number] == 0] == []
    finally:
        broker.stop()


def test_a_ledger_out_of_order_is_seen() -> None:
    good = [Note("begin", 1, "k", 1), Note("end", 1, "k", 1), Note("begin", 2, "k", 2), Note("end", 2, "k", 2)]
    assert out_of_order(good) == []
    assert out_of_order([good[0], good[2], good[1], good[3]]) == [good[2]]
