"""The runs by name: each takes how much is asked of it and a seed, and returns the figures it reached.

What lives here: calling the harnesses of ``tests/crash`` and ``tests/faults``. What may not: harnesses, the report's form.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.stateful import run_state_machine_as_test

from tests.crash.kill_loop import run as kill_loop
from tests.faults.clock import jump
from tests.faults.corruption import WALKS
from tests.faults.disk_full import run as fill_disk
from tests.faults.disk_images import unavailable
from tests.faults.failing_flush import injected, overcommitted
from tests.faults.matrix import in_memory, on_disk
from tests.faults.model import BrokerAgainstModel
from tests.faults.planted import CONTROLS, caught
from tests.faults.power import INTERVAL_MS
from tests.faults.power import run as power_cuts
from tests.faults.replay import replay_random, replay_short
from tests.faults.slow_disk import run as on_slow_disk
from tests.faults.slow_peers import run as trouble
from tests.http_api import fuzzing as http_fuzzing
from tests.kafka_api import fuzzing as kafka_fuzzing
from tools.faults.report import Reached
from tools.faults.restart import restart as unclean_start

GROWTH_BYTES = 50 << 20
"""What a broker's memory may grow by under an attack."""
FLUSH_MS = 100
"""What one flush may take, for the bound on the loss of ``interval``."""
PLANTED = 12
"""How many bugs the list has."""


class Run(NamedTuple):
    """A run, and its sizes: ``asked`` in the long form, ``short`` for a look."""

    call: Callable[[int, int], Sequence[Reached]]
    asked: int
    short: int
    unit: str


@contextmanager
def _directory(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"logbroker-{name}-") as directory:
        yield Path(directory)


def _first(found: Sequence[str]) -> str:
    return f" (first: {found[0]})" if found else ""


_SLOW_STOP = "unclean-stop"
"""Counted and told, but no promise of a figure."""
_COMMITS = {"commit-regress", "commit-ahead", "group-stuck"}
_JOBS = {
    "job-lost",
    "retry-lost",
    "dead-lost",
    "job-invented",
    "job-resurrected",
    "job-doubled",
    "dlq-duplicate",
    "double-lease",
}


def kill(kills: int, seed: int) -> Sequence[Reached]:
    """The kill loop, its anomalies by the figure they belong to."""
    with _directory("kill") as directory:
        done = kill_loop(directory, kills, seed)
    anomalies, told = done.anomalies(), done.told()
    enough = not done.enough() and kills >= 1_000

    def reached(figure: str, names: set[str], value: str) -> Reached:
        found = {name: cases for name, cases in anomalies.items() if name in names}
        what = "; ".join(f"{len(cases)} {name} (first: {cases[0]})" for name, cases in found.items()) or "no anomaly"
        return Reached(figure, f"{what}; {value}", enough and not found, kills)

    stale = sum(told[how, "fail"] for how in ("ack", "nack", "release", "reject"))
    others = anomalies.keys() - _COMMITS - _JOBS - {"duplicate", _SLOW_STOP}
    forced = sum(code != 0 for code in done.nemesis.codes)
    stops = f"{forced} of {len(done.nemesis.codes)} stops by SIGTERM took more than 20 s and were forced"
    return [
        reached("F1", others, f"{done.summary()}; {stops}"),
        reached("F2", {"duplicate"}, f"{done.plain_duplicates()} duplicates of the plain producer"),
        reached("F3", _COMMITS, f"{told['Commit', 'ok']} commits, {told['Commit', 'fail']} refused; {kills} kills"),
        reached("F4", _JOBS, f"{told['Enqueue', 'ok']} sends, {told['ack', 'ok']} acks, {stale} stale receipts refused"),
    ]


def replay(states: int, seed: int) -> Sequence[Reached]:
    """Crash states: all short workloads, then random ones up to the number asked for."""
    short = replay_short(3 if states >= 100_000 else 2, seed)
    everything = replay_random(max(1, states - short.states.total()), seed)
    everything.add(short)
    return [
        Reached(
            "F5",
            everything.summary() + _first(everything.violations),
            not everything.violations and everything.states.total() >= 100_000,
            everything.distinct,
        ),
        Reached("F6", short.summary() + _first(short.violations), not short.violations and states >= 100_000),
    ]


def matrix(share: int, _: int) -> Sequence[Reached]:
    """The fault matrix; one of ``share`` points."""
    memory, disk = in_memory(share), on_disk(share)
    violations = [*memory.violations, *disk.violations]
    value = f"recorded files: {memory.summary()}. Real files: {disk.summary()}{_first(violations)}"
    return [Reached("F11", value, not violations and share == 1)]


def corruption(share: int, _: int) -> Sequence[Reached]:
    """The walks over damaged files; one of ``share`` damages."""
    walks = {figure: walk(share) for figure, walk in WALKS.items()}
    return [
        Reached(figure, walk.summary() + _first(walk.violations), not walk.violations and share == 1)
        for figure, walk in walks.items()
    ]


def planted(_: int, __: int) -> Sequence[Reached]:
    """The controls."""
    missed = [name for name in CONTROLS if not caught(name)]
    value = f"{len(CONTROLS) - len(missed)} of {PLANTED}{': missed ' + ', '.join(missed) if missed else ''}"
    return [Reached("F9", value, not missed and len(CONTROLS) == PLANTED)]


def power(images: int, seed: int) -> Sequence[Reached]:
    """Power-loss images."""
    if why := unavailable():
        return [Reached(figure, f"not run: {why}", False) for figure in ("F7", "F8")]
    with _directory("power") as directory:
        losses = power_cuts(directory, images, seed)
    fine = not losses.violations
    interval = losses.worst_ms["interval"]
    value = f"flush_ms = {INTERVAL_MS}: at most {losses.lost['interval']} records, {interval:.0f} ms lost"
    return [
        Reached("F7", losses.summary() + _first(losses.violations), fine and images >= 1_000, images),
        Reached(
            "F8",
            f"{value}; os: {losses.lost['os']} records, {losses.worst_ms['os']:.0f} ms",
            fine and interval <= INTERVAL_MS + FLUSH_MS,
        ),
    ]


def fsync(_: int, __: int) -> Sequence[Reached]:
    """Failing flushes under a real process."""
    told, fine = [], True
    for how in (injected, overcommitted):
        with _directory("flush") as directory:
            outcome = how(directory)
        told.append(f"{how.__name__}: {outcome.summary()}")
        fine = fine and outcome.stopped_in_time() and not outcome.lost
    return [Reached("F10", "; ".join(told), fine)]


def disk_full(points: int, seed: int) -> Sequence[Reached]:
    """A disk that somebody else fills: half of the points on a tmpfs, half on ext4."""
    told, fine = [], True
    for kind in ("tmpfs", "ext4"):
        with _directory("full") as directory:
            done = fill_disk(directory, kind, points // 2, seed)
        told.append(f"{kind}: {done.summary()}{_first(done.wrong)}")
        fine = fine and not done.wrong and done.there == done.acknowledged and done.slowest_return_s < 5
    return [Reached("F17", "; ".join(told), fine and points >= 200)]


def slow_disk(seconds: int, _: int) -> Sequence[Reached]:
    """Flushes that take 200 ms."""
    with _directory("slow") as directory:
        done = on_slow_disk(directory, seconds)
    fine = done.grown_bytes < GROWTH_BYTES and not done.refused_acks and done.received > 0
    return [Reached("F19", f"{done.summary()}; the bandwidth was not limited", fine)]


def slow_peers(half_open: int, _: int) -> Sequence[Reached]:
    """Peers that say nothing, half of it, or never read; a tenth as many slow and a fiftieth as many deaf ones."""
    with _directory("peers") as directory:
        done = trouble(directory, half_open, half_open // 10, half_open // 50)
    served = done.rate_during >= 0.9 * done.rate_before
    small = done.per_connection <= 64 * 1024 and done.closed == done.half_open + done.slow
    return [Reached("F23", done.summary(), served and small and half_open >= 5_000)]


def clock(jumps: int, seed: int) -> Sequence[Reached]:
    """Jumps of the wall clock."""
    done = jump(jumps, seed)
    return [Reached("F20", done.summary() + _first(done.violations), not done.violations and jumps >= 1_000)]


def restart(partitions: int, _: int) -> Sequence[Reached]:
    """An unclean start of 10 MB in each of so many partitions."""
    with _directory("restart") as directory:
        facts = unclean_start(directory, partitions)
    value = (
        f"{facts['bytes'] / 1e9:.1f} GB in {facts['count']} partitions: {facts['seconds']:.1f} s; "
        f"{facts['read'] / 1e6:.1f} MB read, {facts['mapped'] / 1e6:.1f} MB mapped"
    )
    return [Reached("F21", value, facts["seconds"] < 30 and facts["bytes"] >= 10e9)]


def kafka_fuzz(frames: int, seed: int) -> Sequence[Reached]:
    """Mutated Kafka frames over sockets."""
    with _directory("fuzz") as directory, kafka_fuzzing.broker(directory) as server:
        done = kafka_fuzzing.attack(server, frames, seed)
    fine = done.is_alive and not done.errors and done.most - done.at_rest < GROWTH_BYTES and done.healthy_slowest_s < 5
    return [Reached("F22", done.summary(), fine and frames >= 1_000_000)]


def http_fuzz(requests: int, seed: int) -> Sequence[Reached]:
    """Mutated HTTP requests over sockets."""
    with _directory("fuzz") as directory, http_fuzzing.broker(directory) as server:
        done = http_fuzzing.attack(server, requests, seed)
    fine = done.is_alive and not done.errors and done.most - done.at_rest < GROWTH_BYTES and done.healthy_slowest_s < 5
    value = done.summary() + _first(done.server_errors)
    return [Reached("F22b", value, fine and not done.server_errors and requests >= 200_000)]


def model(examples: int, seed: int) -> Sequence[Reached]:
    """The broker against its model."""
    lives = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    found = ""
    with redirect_stdout(StringIO()):
        try:
            run_state_machine_as_test(hypothesis_seed(seed)(BrokerAgainstModel), settings=lives)
        except Exception as error:
            found = f"{type(error).__name__}: {error!s:.400}"
    value = f"{examples} lives of up to 50 requests with stops, kills and power cuts: {found or '0 divergences'}"
    return [Reached("F30", value, not found and examples >= 20_000, examples)]


RUNS: dict[str, Run] = {
    "kill": Run(kill, 1_000, 100, "kills"),
    "replay": Run(replay, 100_000, 10_000, "states"),
    "matrix": Run(matrix, 1, 13, "one point of so many"),
    "corruption": Run(corruption, 1, 11, "one damage of so many"),
    "power": Run(power, 1_000, 30, "images"),
    "fsync": Run(fsync, 1, 1, ""),
    "disk-full": Run(disk_full, 200, 20, "points"),
    "slow-disk": Run(slow_disk, 20, 4, "seconds"),
    "slow-peers": Run(slow_peers, 5_000, 500, "half-open peers"),
    "clock": Run(clock, 1_000, 200, "jumps"),
    "restart": Run(restart, 1_000, 20, "partitions"),
    "kafka-fuzz": Run(kafka_fuzz, 1_000_000, 3_000, "frames"),
    "http-fuzz": Run(http_fuzz, 200_000, 2_000, "requests"),
    "model": Run(model, 20_000, 120, "lives"),
    "planted": Run(planted, 1, 1, ""),
}
