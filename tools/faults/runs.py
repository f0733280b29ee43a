"""The runs by name: each takes how much is asked of it and a seed, and returns the figures it reached.

What lives here: calling the harnesses of ``tests/crash`` and ``tests/faults``. What may not: harnesses, the report's form.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.crash.checker import check
from tests.crash.kill_loop import run as kill_loop
from tests.faults.corruption import WALKS
from tests.faults.matrix import in_memory, on_disk
from tests.faults.planted import CONTROLS, caught
from tests.faults.replay import replay_random, replay_short
from tools.faults.report import Reached

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


def kill(kills: int, seed: int) -> Sequence[Reached]:
    """The kill loop."""
    with tempfile.TemporaryDirectory(prefix="logbroker-kill-") as directory:
        done = kill_loop(Path(directory), kills, seed)
    anomalies = check(done.history)
    found = "; ".join(f"{len(cases)} {name} ({cases[0]})" for name, cases in anomalies.items()) or "no anomaly"
    fine = not anomalies and done.exit_code == 0
    value = f"{kills} kills: {found}; exit code {done.exit_code}; {done.summary()}"
    return [Reached("F1", value, fine and kills >= 1_000, kills)]


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


RUNS: dict[str, Run] = {
    "kill": Run(kill, 1_000, 100, "kills"),
    "replay": Run(replay, 100_000, 10_000, "states"),
    "matrix": Run(matrix, 1, 13, "one point of so many"),
    "corruption": Run(corruption, 1, 11, "one damage of so many"),
    "planted": Run(planted, 1, 1, ""),
}
