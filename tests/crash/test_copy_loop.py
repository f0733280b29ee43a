"""Exactly once: consume, transform, produce, commit the offsets, all in one transaction; instances and broker are killed.

LOGBROKER_COPY_KILLS sets how often an instance is killed, LOGBROKER_COPY_BROKER_KILLS how often the broker. The control
commits its offsets after the transaction instead of in it, and is caught.
"""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.crash import copy_clients
from tests.crash.broker import Broker
from tests.crash.copy_clients import copied, create_topics, fill
from tests.crash.kill_loop import SETTINGS
from tests.crash.points import KILL
from tests.crash.transaction_broker import POINTS

KILLS = int(os.environ.get("LOGBROKER_COPY_KILLS") or 6)
BROKER_KILLS = int(os.environ.get("LOGBROKER_COPY_BROKER_KILLS") or 3)
INSTANCES = 3
VALUES_PER_KILL = 120
_DRAIN_S = 90.0


@dataclass
class Instances:
    """The copiers, which are killed and started again."""

    port: int
    job: Callable[..., None]
    running: list[BaseProcess] = field(default_factory=list)
    hung: int = 0

    def __post_init__(self) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._stop = self._spawn.Event()
        self.running = [self._start(number) for number in range(INSTANCES)]

    def _start(self, number: int) -> BaseProcess:
        process = self._spawn.Process(target=self.job, args=(self.port, number, self._stop), daemon=True)
        process.start()
        return process

    def kill(self, number: int) -> None:
        self.running[number].kill()
        self.running[number].join()
        self.running[number] = self._start(number)

    def revive(self) -> None:
        """Start those again that hung and ended themselves."""
        for number, process in enumerate(self.running):
            if not process.is_alive():
                assert process.exitcode == copy_clients.HUNG
                self.hung += 1
                self.running[number] = self._start(number)

    def stop(self) -> None:
        self._stop.set()
        for process in self.running:
            process.join(30)
            if process.is_alive():
                process.kill()


def run(directory: Path, chance: random.Random, job: Callable[..., None], kills: int, broker_kills: int) -> Counter[int]:
    """How often each of the values sent was copied, after so many kills in random order."""
    (directory / "quick.toml").write_text(SETTINGS)
    options = ["--config", str(directory / "quick.toml")]
    broker = Broker(directory, options, kafka=True, module="tests.crash.transaction_broker")
    broker.start()
    try:
        broker.wait_until_ready()
        create_topics(broker.kafka_port)
        instances = Instances(broker.kafka_port, job)
        steps = ["instance"] * kills + ["broker"] * broker_kills
        chance.shuffle(steps)
        sent = 0
        for step in steps:
            fill(broker.kafka_port, sent, VALUES_PER_KILL)
            sent += VALUES_PER_KILL
            time.sleep(chance.uniform(0.1, 0.8))
            instances.revive()
            if step == "instance":
                instances.kill(chance.randrange(INSTANCES))
                continue
            broker.kill()
            broker.start({KILL: f"{chance.choice(list(POINTS))}:{chance.randint(1, 9)}"})
            if not broker.dies_within(2.0):
                broker.kill()
            broker.start()
            broker.wait_until_ready()
        deadline = time.monotonic() + _DRAIN_S
        while len(found := copied(broker.kafka_port)) < sent and time.monotonic() < deadline:
            time.sleep(0.5)
            instances.revive()
        instances.stop()
        time.sleep(6)  # what an instance left open is past its time-out then
        found = copied(broker.kafka_port)
    finally:
        broker.stop()
    assert "Traceback" not in broker.output.read_text(encoding="utf-8", errors="replace"), broker.tail()
    for value in range(sent):
        found.setdefault(value, 0)
    (directory / "summary.txt").write_text(f"{instances.hung} clients hung; ", encoding="utf-8")
    return found


@pytest.mark.slow
@pytest.mark.timeout(300 + 15 * (KILLS + BROKER_KILLS))
def test_every_record_is_copied_exactly_once(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    found = run(tmp_path, random.Random(seed), copy_clients.copy, KILLS, BROKER_KILLS)
    told = f"seed {seed}, {KILLS} and {BROKER_KILLS} kills, {len(found)} values: {dict(Counter(found.values()))}"
    with (tmp_path / "summary.txt").open("a", encoding="utf-8") as summary:
        summary.write(told)
    wrong = {value: count for value, count in found.items() if count != 1}
    assert not wrong, f"{told}; copied not exactly once: {dict(list(wrong.items())[:20])}"
    assert len(found) == VALUES_PER_KILL * (KILLS + BROKER_KILLS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_copy_that_commits_its_offsets_afterwards_doubles(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    found = run(tmp_path, random.Random(seed), copy_clients.copy_at_least_once, 8, 0)
    assert any(count > 1 for count in found.values()), f"seed {seed}: {dict(Counter(found.values()))}"
