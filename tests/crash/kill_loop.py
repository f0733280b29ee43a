"""The nemesis of the crash tests: a broker under load, killed again and again, and the history its clients recorded.

What lives here: the run, used by the test and by ``python -m tools.faults``. What may not: the verdict (``checker``).
"""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.crash.broker import Broker
from tests.crash.clients import create_topic, read, read_everything, write
from tests.crash.history import Operation, Outcome, Send, read_history

WRITERS = 3
LONGEST_LIFE = 0.35
KILLED_IN_RECOVERY = 0.2
"""The share of kills that do not wait until the broker is ready again."""
LONGEST_RECOVERY = 0.6


@contextmanager
def _clients(port: int, directory: Path) -> Iterator[None]:
    """Writers and a reader at work, each with a history file in ``directory``."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    jobs = [(write, number) for number in range(WRITERS)] + [(read, 0)]
    processes = [
        spawn.Process(target=job, args=(port, number, directory / f"{job.__name__}-{number}.history", stop), daemon=True)
        for job, number in jobs
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def _kill_again_and_again(broker: Broker, kills: int, chance: random.Random) -> list[float]:
    """The nemesis; returns how long each start took that was let through."""
    starts = []
    for _ in range(kills):
        if chance.random() < KILLED_IN_RECOVERY:
            time.sleep(chance.uniform(0, LONGEST_RECOVERY))
        else:
            starts.append(broker.wait_until_ready())
            time.sleep(chance.uniform(0, LONGEST_LIFE))
        broker.kill()
        broker.start()
    starts.append(broker.wait_until_ready())
    return starts


@dataclass(frozen=True, slots=True)
class Run:
    """What one run left behind."""

    history: list[Operation]
    starts: list[float]
    """Seconds from spawning the broker until it served, for each start that was not killed before."""
    exit_code: int
    output: str

    @property
    def sends(self) -> Mapping[Outcome, int]:
        """How many batches were acknowledged, refused, or left unanswered."""
        return Counter(one.outcome for one in self.history if isinstance(one.action, Send))

    def summary(self) -> str:
        """The run in one line."""
        mean = sum(self.starts) / len(self.starts)
        counts = ", ".join(f"{count} {outcome.value}" for outcome, count in self.sends.items())
        return f"batches: {counts}; a start took {mean:.2f} s in the mean, {max(self.starts):.2f} s at most"


def run(directory: Path, kills: int, seed: int) -> Run:
    """Kill the broker ``kills`` times under load, stop the load, read everything, and stop the broker with SIGTERM."""
    broker = Broker(directory)
    broker.start()
    try:
        broker.wait_until_ready()
        create_topic(broker.port)
        with _clients(broker.port, directory):
            starts = _kill_again_and_again(broker, kills, random.Random(seed))
        read_everything(broker.port, directory / "final.history")
    finally:
        exit_code = broker.stop()
    output = broker.output.read_text(encoding="utf-8", errors="replace")
    return Run(read_history(directory.glob("*.history")), starts, exit_code, output)
