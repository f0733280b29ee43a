"""SIGKILL under a working queue or subscription, at random moments and named points: nothing is lost, doubled, resurrected.

LOGBROKER_QUEUE_KILLS sets the number of kills. The control takes copies for messages of their own, and is caught.
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
from tests.crash.history import Enqueue, Inventory, Operation, Outcome, Receive, Settle, read_history
from tests.crash.jobs import check_jobs
from tests.crash.points import KILL
from tests.crash.queue_broker import POINTS, RECONCILE
from tests.crash.queue_clients import QUEUE, SUBSCRIPTION, View, create, take_inventory, work

KILLS = int(os.environ.get("LOGBROKER_QUEUE_KILLS") or (16 if os.environ.get("CI") == "true" else 6))
CONTROL_KILLS = 6
WORKERS = 4
LONGEST_LIFE = 0.8
LONGEST_WAIT = 3.0
"""How long a named point is waited for; then the broker is killed where it is."""


@contextmanager
def workers(port: int, view: View, directory: Path) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    processes = [
        spawn.Process(target=work, args=(port, number, directory / f"worker-{number}.history", stop, view), daemon=True)
        for number in range(WORKERS)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0] * WORKERS


def kill_again_and_again(broker: Broker, chance: random.Random, points: list[str | None], always: Mapping[str, str]) -> int:
    """Kill at each of the points (None: at a random moment), the first start being the caller's; how many were met."""
    met = 0
    broker.kill()
    for point in points:
        environment = dict(always)
        if point is not None:
            environment[KILL] = f"{point}:{chance.randint(1, 12)}"
        broker.start(environment)
        if point is None:
            broker.wait_until_ready()
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            broker.kill()
        elif broker.dies_within(LONGEST_WAIT):
            met += 1
        else:
            broker.kill()
    broker.start(always)
    broker.wait_until_ready()
    return met


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    history: list[Operation]
    met: int
    peeked: list[int]
    """What was to be seen at the end, before it was received."""
    exit_code: int
    output: str

    def told(self) -> Counter[tuple[str, str]]:
        """How many operations of each kind had which outcome."""
        names = ((one.action.how if isinstance(one.action, Settle) else type(one.action).__name__) for one in self.history)
        return Counter(zip(names, (one.outcome.value for one in self.history), strict=True))


def run(directory: Path, view: View, chance: random.Random, points: list[str | None], always: Mapping[str, str]) -> Run:
    broker = Broker(directory, module="tests.crash.queue_broker")
    broker.start()
    try:
        broker.wait_until_ready()
        create(broker.port, view)
        with workers(broker.port, view, directory):
            time.sleep(1)
            met = kill_again_and_again(broker, chance, points, always)
            time.sleep(0.5)
        peeked = take_inventory(broker.port, directory / "inventory.history", view)
    finally:
        exit_code = broker.stop()
    output = broker.output.read_text(encoding="utf-8", errors="replace")
    return Run(read_history(directory.glob("*.history")), met, peeked, exit_code, output)


@pytest.mark.slow
@pytest.mark.timeout(180 + 10 * KILLS)
@pytest.mark.parametrize("view", [QUEUE, SUBSCRIPTION], ids=["queue", "subscription"])
def test_every_message_of_a_killed_broker_ends_once(tmp_path: Path, view: View) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    names = list(POINTS)
    points = [names[number // 2 % len(names)] if number % 2 else None for number in range(KILLS)]
    chance.shuffle(points)
    done = run(tmp_path, view, chance, points, {})
    told = f"seed {seed}, {KILLS} kills, {done.met} at their point, {done.told()}"
    (tmp_path / "summary.txt").write_text(told, encoding="utf-8")
    assert check_jobs(done.history) == {}, told
    [inventory] = [one.action for one in done.history if isinstance(one.action, Inventory)]
    assert sorted(done.peeked) == sorted(inventory.pending), told
    assert done.exit_code == 0, done.output[-4000:]
    assert "Traceback" not in done.output, done.output[-4000:]
    assert done.met >= KILLS // 3, f"hardly a point was met, so this shows nothing: {told}"
    sent = sum(one.outcome is Outcome.OK for one in done.history if isinstance(one.action, Enqueue))
    received = sum(bool(one.action.values) for one in done.history if isinstance(one.action, Receive))
    assert min(sent, received) > 5 * KILLS, f"hardly anything was done, so this shows nothing: {told}"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_without_reconciliation_the_same_run_doubles(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    done = run(tmp_path, QUEUE, random.Random(seed), ["copy flushed"] * CONTROL_KILLS, {RECONCILE: "off"})
    found = check_jobs(done.history)
    (tmp_path / "summary.txt").write_text(str({name: len(some) for name, some in found.items()}), encoding="utf-8")
    assert found.keys() & {"job-doubled", "dlq-duplicate", "job-resurrected", "double-lease", "job-lost"}, (
        f"seed {seed}, {done.met} at their point, {done.told()}"
    )
