"""The nemesis of the crash tests: a broker under mixed load, killed again and again, and what its clients recorded.

Over HTTP: writers and a reader of a topic, workers of a queue. By a real Kafka client: an idempotent producer, members of
a group on its topic, and a plain producer. What lives here: the run, used by the test and by ``python -m
tools.faults``. What may not: the verdicts on parts of a history (``checker``, ``jobs``).
"""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import clients, group_clients, queue_clients
from tests.crash.broker import Broker
from tests.crash.checker import check
from tests.crash.history import Action, Operation, Settle, read_history
from tests.crash.jobs import check_jobs
from tests.crash.points import KILL, LOG_POINTS
from tests.crash.queue_broker import POINTS

SETTINGS = f"""
group_min_session_timeout_ms = {group_clients.SESSION_MS}
group_initial_rebalance_delay_ms = 100
group_consumer_session_timeout_ms = {group_clients.SESSION_MS}
group_consumer_heartbeat_interval_ms = 200
compaction_check_ms = 200
"""
LONGEST_LIFE = 0.5
LONGEST_RECOVERY = 0.8
LONGEST_WAIT = 3.0
"""How long a named point is waited for once the broker serves; then it is killed where it is."""
LONG_LIFE = 3.0
LONG_LIVES = 0.05
"""How many lives are long enough for a group to settle and work."""
LONGEST_PAUSE = 1.5


@contextmanager
def _at_work(broker: Broker, directory: Path) -> Iterator[None]:
    """All clients, each with a history file in ``directory``."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    jobs: list[tuple[Callable[..., None], int, int, tuple[str, ...]]] = [
        (clients.write, broker.port, 0, ()),
        (clients.write, broker.port, 1, ()),
        (clients.read, broker.port, 0, ()),
        (queue_clients.work, broker.port, 0, ()),
        (queue_clients.work, broker.port, 1, ()),
        (group_clients.produce, broker.kafka_port, 0, ()),
        (group_clients.produce_plain, broker.kafka_port, 0, ()),
        (group_clients.consume, broker.kafka_port, 0, ("classic",)),
        (group_clients.consume, broker.kafka_port, 1, ("classic",)),
    ]
    processes = [
        spawn.Process(
            target=job,
            args=(port, number, directory / f"{job.__name__}-{number}.history", stop, *more),
            daemon=True,
        )
        for job, port, number, more in jobs
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(90)
    assert [process.exitcode for process in processes] == [0] * len(processes)


@dataclass
class Nemesis:
    """What is done to the broker, by chance; and how often it was done."""

    broker: Broker
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    """Seconds from spawning the broker until it served, for each start that was not killed before."""
    codes: list[int] = field(default_factory=list)
    """What clean stops ended with."""
    kills: int = 0
    _point: str = ""

    def strike(self) -> None:
        """Do one thing to a broker that was started, and start it again."""
        if self._point:
            self._meet_point()
        elif self.chance.random() < 0.15:
            time.sleep(self.chance.uniform(0, LONGEST_RECOVERY))
            self._kill("in recovery")
        else:
            self.starts.append(self.broker.wait_until_ready())
            self._strike_ready()
        self._start()

    def _strike_ready(self) -> None:
        slow = sum(self.starts) / len(self.starts) / 2  # where a start takes long, so does everything else
        longest = LONG_LIFE if self.chance.random() < LONG_LIVES else max(LONGEST_LIFE, slow)
        time.sleep(self.chance.uniform(0, longest))
        kind = self.chance.random()
        if kind < 0.08:
            self.broker.pause(self.chance.uniform(0.1, LONGEST_PAUSE))
            self.done["SIGSTOP and SIGCONT"] += 1
            time.sleep(self.chance.uniform(0, LONGEST_LIFE))
            self._kill("after a pause")
        elif kind < 0.16:
            self.codes.append(self.broker.stop())
            self.done["SIGTERM"] += 1
        else:
            self._kill("at random")

    def _meet_point(self) -> None:
        if not self.broker.becomes_ready() or self.broker.dies_within(LONGEST_WAIT):
            self.done[self._point] += 1
            self.kills += 1
        else:
            self._kill("point not met")

    def _kill(self, how: str) -> None:
        self.broker.kill()
        self.done[how] += 1
        self.kills += 1

    def _start(self) -> None:
        """A third of the lives end at a named point."""
        self._point = self.chance.choice([*LOG_POINTS, *POINTS]) if self.chance.random() < 0.33 else ""
        most = 3 if self._point.startswith(("reco", "swap")) else 40
        environment = {KILL: f"{self._point}:{self.chance.randint(1, most)}"} if self._point else {}
        self.broker.start(environment)

    def leave_in_peace(self) -> None:
        """A last start that nothing is done to."""
        if self._point:
            self.broker.kill()
            self.broker.start()
        self.starts.append(self.broker.wait_until_ready())


@dataclass(frozen=True, slots=True)
class Run:
    """What one run left behind."""

    history: list[Operation]
    nemesis: Nemesis
    group_is_done: bool
    exit_code: int
    output: str

    def told(self) -> Counter[tuple[str, str]]:
        """How many operations of each kind had which outcome."""
        return Counter((_name(one.action), one.outcome.value) for one in self.history)

    def anomalies(self) -> dict[str, list[str]]:
        """Everything that is wrong, but for duplicates of the producer that may write twice."""
        found = {**check(self.history), **check_jobs(self.history)}
        found["duplicate"] = [one for one in found.get("duplicate", []) if not _is_plain(one)]
        if set(self.nemesis.codes) - {0} or self.exit_code:
            found["unclean-stop"] = [f"clean stops ended with {[*self.nemesis.codes, self.exit_code]}"]
        if "Traceback" in self.output:
            found["traceback"] = [self.output[self.output.index("Traceback") :][:2000]]
        if not self.group_is_done:
            found["group-stuck"] = ["the group did not come to the end of its topic"]
        return {name: cases for name, cases in found.items() if cases}

    def plain_duplicates(self) -> int:
        """How many values the producer without idempotence wrote twice."""
        return sum(_is_plain(one) for one in check(self.history).get("duplicate", []))

    def summary(self) -> str:
        """The run in one line."""
        done = ", ".join(f"{count} {how}" for how, count in self.nemesis.done.most_common())
        kinds = ("Send", "Poll", "Commit", "Enqueue", "Receive", "ack", "nack")
        told = self.told()
        counts = "; ".join(
            f"{kind} " + "/".join(str(told[kind, outcome]) for outcome in ("ok", "fail", "unknown")) for kind in kinds
        )
        starts = self.nemesis.starts
        return (
            f"{self.nemesis.kills} kills ({done}); operations ok/fail/unknown: {counts}; "
            f"a start took {sum(starts) / len(starts):.2f} s in the mean, {max(starts):.2f} s at most"
        )

    def enough(self) -> str:
        """Why the run shows nothing, or nothing if it does."""
        told, kills = self.told(), self.nemesis.kills
        least = {("Send", "ok"): 10, ("Enqueue", "ok"): 1, ("Receive", "ok"): 1, ("ack", "ok"): 1, ("Send", "unknown"): 0.2}
        few = [f"{told[key]} {key}" for key, each in least.items() if told[key] < each * kills]
        met = sum(count for how, count in self.nemesis.done.items() if how in {**POINTS, **LOG_POINTS})
        return ", ".join([*few, *([] if met >= kills / 10 else [f"{met} points met"])])


def _name(action: Action) -> str:
    return action.how if isinstance(action, Settle) else type(action).__name__


def _is_plain(duplicate: str) -> bool:
    return duplicate.startswith(f"{group_clients.PLAIN_TOPIC}-")


def run(directory: Path, kills: int, seed: int) -> Run:
    """Kill the broker ``kills`` times under load, let the group finish, read everything, and stop with SIGTERM."""
    (directory / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    arguments = ["--config", str(directory / "settings.toml")]
    broker = Broker(directory, arguments, kafka=True, module="tests.crash.queue_broker")
    nemesis = Nemesis(broker, random.Random(seed))
    broker.start()
    try:
        broker.wait_until_ready()
        clients.create_topic(broker.port)
        group_clients.create_topic(broker.kafka_port)
        group_clients.create_topic(broker.kafka_port, group_clients.PLAIN_TOPIC, group_clients.PLAIN_PARTITIONS)
        queue_clients.create(broker.port)
        is_done = _under_load(broker, nemesis, directory, kills)
        queue_clients.take_inventory(broker.port, directory / "inventory.history")
        clients.read_everything(broker.port, directory / "final.history", _TOPICS)
    finally:
        exit_code = broker.stop()
    output = broker.output.read_text(encoding="utf-8", errors="replace")
    return Run(read_history(directory.glob("*.history")), nemesis, is_done, exit_code, output)


_TOPICS: Mapping[str, int] = {
    clients.TOPIC: clients.PARTITIONS,
    group_clients.TOPIC: group_clients.PARTITIONS,
    group_clients.PLAIN_TOPIC: group_clients.PLAIN_PARTITIONS,
}


def _under_load(broker: Broker, nemesis: Nemesis, directory: Path, kills: int) -> bool:
    """The struggle itself; whether the group then came to the end of what there is."""
    with closing(group_clients.Watcher(broker.kafka_port, directory / "watcher.history")) as watcher:
        with _at_work(broker, directory):
            time.sleep(1)
            while nemesis.kills < kills:
                nemesis.strike()
            nemesis.leave_in_peace()
            watcher.committed()
        return _group_finishes(broker, watcher, directory)


def _group_finishes(broker: Broker, watcher: group_clients.Watcher, directory: Path, seconds: float = 60) -> bool:
    """One more member reads what is left."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    arguments = (broker.kafka_port, 9, directory / "last-member.history", stop, "classic")
    member = spawn.Process(target=group_clients.consume, args=arguments, daemon=True)
    member.start()
    watcher.wait_until_done(seconds)
    done = watcher.is_done()
    stop.set()
    member.join(30)
    return done
