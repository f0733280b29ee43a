"""The runs by name: each takes how much is asked of it and a seed, and returns the figures it reached.

What lives here: calling the harnesses of ``tests/crash`` and ``tests/faults``. What may not: harnesses, the report's form.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.crash.kill_loop import run as kill_loop
from tests.faults.corruption import WALKS
from tests.faults.disk_images import unavailable
from tests.faults.failing_flush import injected, overcommitted
from tests.faults.matrix import in_memory, on_disk
from tests.faults.planted import CONTROLS, caught
from tests.faults.power import INTERVAL_MS
from tests.faults.power import run as power_cuts
from tests.faults.replay import replay_random, replay_short
from tools.faults.report import Reached

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


def _first(found: Sequence[str]) -> str:
    return f" (first: {found[0]})" if found else ""


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
    with tempfile.TemporaryDirectory(prefix="logbroker-kill-") as directory:
        done = kill_loop(Path(directory), kills, seed)
    anomalies, told = done.anomalies(), done.told()
    enough = not done.enough() and kills >= 1_000

    def reached(figure: str, names: set[str], value: str) -> Reached:
        found = {name: cases for name, cases in anomalies.items() if name in names}
        what = "; ".join(f"{len(cases)} {name} (first: {cases[0]})" for name, cases in found.items()) or "no anomaly"
        return Reached(figure, f"{what}; {value}", enough and not found, kills)

    stale = sum(told[how, "fail"] for how in ("ack", "nack", "release", "reject"))
    others = anomalies.keys() - _COMMITS - _JOBS - {"duplicate"}
    return [
        reached("F1", others, done.summary()),
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
    with tempfile.TemporaryDirectory(prefix="logbroker-power-") as directory:
        losses = power_cuts(Path(directory), images, seed)
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
        with tempfile.TemporaryDirectory(prefix="logbroker-flush-") as directory:
            outcome = how(Path(directory))
        told.append(f"{how.__name__}: {outcome.summary()}")
        fine = fine and outcome.stopped_in_time() and not outcome.lost
    return [Reached("F10", "; ".join(told), fine)]


RUNS: dict[str, Run] = {
    "kill": Run(kill, 1_000, 100, "kills"),
    "replay": Run(replay, 100_000, 10_000, "states"),
    "matrix": Run(matrix, 1, 13, "one point of so many"),
    "corruption": Run(corruption, 1, 11, "one damage of so many"),
    "power": Run(power, 1_000, 30, "images"),
    "fsync": Run(fsync, 1, 1, ""),
    "planted": Run(planted, 1, 1, ""),
}
