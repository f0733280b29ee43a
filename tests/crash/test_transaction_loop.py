"""SIGKILL at each point of the two-phase commit, and at random moments: a transaction is whole or gone.

LOGBROKER_TRANSACTION_KILLS sets the number of kills. The control presumes aborts at a start, and is caught.
"""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.broker import Broker
from tests.crash.group_clients import create_topic
from tests.crash.history import Operation, Poll, Transact, read_history
from tests.crash.points import KILL
from tests.crash.transaction_broker import POINTS, PREPARE
from tests.crash.transaction_clients import PARTITIONS, TOPIC, read, write
from tests.crash.transactions import check_transactions

KILLS = int(os.environ.get("LOGBROKER_TRANSACTION_KILLS") or 2 * len(POINTS))
CONTROL_KILLS = 6
CONTROL_RUNS = 4
WRITERS = 3
LONGEST_LIFE = 0.6
LONGEST_WAIT = 4.0
"""How long a named point is waited for; then the broker is killed where it is."""
_NEVER_MET = {"offsets pending", "group told"}
"""The writers commit no offsets; the copy loop does."""


@contextmanager
def at_work(port: int, directory: Path) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    stop, stop_reading = spawn.Event(), spawn.Event()
    writers = [
        spawn.Process(target=write, args=(port, number, directory / f"writer-{number}.history", stop), daemon=True)
        for number in range(WRITERS)
    ]
    reader = spawn.Process(target=read, args=(port, directory / "reader.history", stop_reading), daemon=True)
    for process in (*writers, reader):
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in writers:
            process.join(90)
        time.sleep(6)  # a transaction that its writer left open is past its time-out then, and out of the reader's way
        stop_reading.set()
        reader.join(60)
    assert [process.exitcode for process in (*writers, reader)] == [0] * (WRITERS + 1)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    history: list[Operation]
    met: Counter[str]
    exit_code: int
    output: str

    def told(self) -> Counter[str]:
        """How many transactions had which outcome."""
        return Counter(one.outcome.value for one in self.history if isinstance(one.action, Transact))


def run(directory: Path, chance: random.Random, points: list[str | None], always: Mapping[str, str]) -> Run:
    broker = Broker(directory, kafka=True, module="tests.crash.transaction_broker")
    broker.start(always)
    met: Counter[str] = Counter()
    try:
        broker.wait_until_ready()
        create_topic(broker.kafka_port, TOPIC, PARTITIONS)
        with at_work(broker.kafka_port, directory):
            time.sleep(1)
            broker.kill()
            for point in points:
                broker.start({**always, KILL: f"{point}:{chance.randint(1, 9)}"} if point is not None else always)
                if point is None:
                    broker.wait_until_ready()
                    time.sleep(chance.uniform(0, LONGEST_LIFE))
                    broker.kill()
                elif broker.dies_within(LONGEST_WAIT):
                    met[point] += 1
                else:
                    broker.kill()
            broker.start(always)
            broker.wait_until_ready()
            time.sleep(1)
    finally:
        exit_code = broker.stop()
    output = broker.output.read_text(encoding="utf-8", errors="replace")
    return Run(read_history(directory.glob("*.history")), met, exit_code, output)


@pytest.mark.slow
@pytest.mark.timeout(240 + 10 * KILLS)
def test_every_transaction_of_a_killed_broker_is_whole_or_gone(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    names = [name for name in POINTS if name not in _NEVER_MET]
    points = [names[number // 2 % len(names)] if number % 2 else None for number in range(KILLS)]
    chance.shuffle(points)
    done = run(tmp_path, chance, points, {})
    told = f"seed {seed}, {KILLS} kills, met {dict(done.met)}, transactions {dict(done.told())}"
    (tmp_path / "summary.txt").write_text(told, encoding="utf-8")
    assert check_transactions(done.history) == {}, told
    assert done.exit_code == 0, done.output[-4000:]
    assert "Traceback" not in done.output, done.output[-4000:]
    assert sum(done.met.values()) >= KILLS // 4, f"hardly a point was met, so this shows nothing: {told}"
    assert done.told()["ok"] > KILLS, f"hardly anything was committed, so this shows nothing: {told}"
    polls = [one.action for one in done.history if isinstance(one.action, Poll)]
    assert sum(len(seen) for poll in polls for seen in poll.records.values()) > 6 * done.told()["ok"], told


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_start_that_presumes_an_abort_tears_transactions(tmp_path: Path) -> None:
    for number in range(CONTROL_RUNS):  # whether a kill falls between two markers is chance
        directory = tmp_path / str(number)
        directory.mkdir()
        seed = random.SystemRandom().randrange(1 << 32)
        done = run(directory, random.Random(seed), ["marker appended"] * CONTROL_KILLS, {PREPARE: "presumed-abort"})
        found = check_transactions(done.history)
        if found:
            break
    (tmp_path / "summary.txt").write_text(str({name: len(some) for name, some in found.items()}), encoding="utf-8")
    assert found.keys() & {"torn-transaction", "lost-transaction"}, f"seed {seed}, {done.met}, {done.told()}"
