"""A group of 3 members over 12 partitions under load, while members and the broker are killed in turn.

Every record is processed, in the order of its partition; commits never move back and never run ahead; the idempotent
producer writes nothing twice. LOGBROKER_GROUP_KILLS sets the number of kills.
"""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import cycle
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from tests.crash.broker import Broker
from tests.crash.checker import check
from tests.crash.group_clients import SESSION_MS, Watcher, consume, create_topic, produce
from tests.crash.history import Commit, Outcome, Poll, Send, read_history

KILLS = int(os.environ.get("LOGBROKER_GROUP_KILLS") or (16 if os.environ.get("CI") == "true" else 4))
MEMBERS = 3
PAUSE = (0.5, 2.5)
SETTINGS = f"""
group_min_session_timeout_ms = {SESSION_MS}
group_initial_rebalance_delay_ms = 100
group_consumer_session_timeout_ms = {SESSION_MS}
group_consumer_heartbeat_interval_ms = 200
"""


class Clients:
    """The producer and the members, as processes that can be killed and replaced."""

    def __init__(self, port: int, directory: Path, protocols: Sequence[str]) -> None:
        self._port = port
        self._protocols = cycle(protocols)
        self._directory = directory
        self._spawn = multiprocessing.get_context("spawn")
        self._stop_members = self._spawn.Event()
        self._stop_producer = self._spawn.Event()
        self._started = 0
        self._producer = self._start_producer()
        self._members = [self._start_member() for _ in range(MEMBERS)]

    def _start_producer(self) -> SpawnProcess:
        arguments = (self._port, 0, self._directory / "producer.history", self._stop_producer)
        process = self._spawn.Process(target=produce, args=arguments, daemon=True)
        process.start()
        return process

    def _start_member(self) -> SpawnProcess:
        self._started += 1
        path = self._directory / f"member-{self._started}.history"
        arguments = (self._port, self._started, path, self._stop_members, next(self._protocols))
        process = self._spawn.Process(target=consume, args=arguments, daemon=True)
        process.start()
        return process

    def kill_member(self, number: int) -> None:
        """SIGKILL a member in the middle of whatever it does; another takes its place."""
        self._members[number].kill()
        self._members[number].join()
        self._members[number] = self._start_member()

    def stop_producer(self) -> None:
        """Let the producer finish what it has begun."""
        self._stop_producer.set()
        self._producer.join(60)
        assert self._producer.exitcode == 0

    def stop(self) -> None:
        """End everybody."""
        self._stop_producer.set()
        self._stop_members.set()
        for process in (self._producer, *self._members):
            process.join(20)
            process.kill()


@contextmanager
def clients(port: int, directory: Path, protocols: Sequence[str]) -> Iterator[Clients]:
    working = Clients(port, directory, protocols)
    try:
        yield working
    finally:
        working.stop()


def kill_in_turn(broker: Broker, working: Clients, watcher: Watcher, chance: random.Random) -> None:
    """The nemesis."""
    for number in range(KILLS):
        time.sleep(chance.uniform(*PAUSE))
        if number % 2:
            broker.kill()
            broker.start()
            broker.wait_until_ready()
        else:
            working.kill_member(chance.randrange(MEMBERS))
        watcher.committed()


@pytest.mark.slow
@pytest.mark.timeout(180 + 10 * KILLS)
@pytest.mark.parametrize("protocols", [["classic"], ["consumer"], ["classic", "consumer"]], ids="+".join)
def test_a_group_processes_every_record_while_its_members_and_the_broker_are_killed(
    tmp_path: Path, protocols: Sequence[str]
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    (tmp_path / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    broker = Broker(tmp_path, ["--config", str(tmp_path / "settings.toml")], kafka=True)
    broker.start()
    try:
        broker.wait_until_ready()
        create_topic(broker.kafka_port)
        with (
            clients(broker.kafka_port, tmp_path, protocols) as working,
            closing(Watcher(broker.kafka_port, tmp_path / "watcher.history")) as watcher,
        ):
            kill_in_turn(broker, working, watcher, random.Random(seed))
            working.stop_producer()
            watcher.wait_until_done(60)
            done = watcher.is_done()
    finally:
        code = broker.stop()

    history = read_history(tmp_path.glob("*.history"))
    told = f"seed {seed}, {KILLS} kills, {Counter((type(one.action).__name__, one.outcome.value) for one in history)}"
    assert check(history) == {}, told
    assert done, f"the group did not get to the end: {told}"
    assert code == 0, broker.tail()
    assert "Traceback" not in broker.output.read_text(encoding="utf-8")
    outcomes = Counter((type(one.action), one.outcome) for one in history)
    assert outcomes[Send, Outcome.OK] > 20 * KILLS, f"hardly anything was sent, so this shows nothing: {told}"
    assert outcomes[Commit, Outcome.OK] > 2 * KILLS, f"hardly anything was committed, so this shows nothing: {told}"
    deliveries = Counter(value for one in history if isinstance(one.action, Poll) for value in _values(one.action))
    assert deliveries.keys() == {value for one in history if isinstance(one.action, Send) for value in one.action.values}


def _values(poll: Poll) -> Iterator[int]:
    for records in poll.records.values():
        yield from (value for _, value in records)
