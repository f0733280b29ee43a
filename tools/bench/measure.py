"""How everything here is timed, and how a figure is told.

Costs are taken in one interleaved run: every case once per round, the first rounds as warm-up, and the best of the others,
because cold memory costs five times warm memory, and a noisy neighbour slows single rounds and never speeds one up.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.table import Table

ROUNDS = 5
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure; with ``of``, ``bound`` times what is measured for that server."""

    sign: str
    bound: float
    of: str = ""

    def met(self, value: float, beside: Mapping[str, float]) -> bool:
        """Whether ``value`` keeps to the bound."""
        bound = self.bound * beside[self.of] if self.of else self.bound
        return value >= bound if self.sign == ">=" else value <= bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:,g}" + (f" x {self.of}" if self.of else "")


def at_least(bound: float, of: str = "") -> Goal:
    """The goal of a value that should be high."""
    return Goal(">=", bound, of)


def at_most(bound: float, of: str = "") -> Goal:
    """The goal of a value that should be low."""
    return Goal("<=", bound, of)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value of logbroker, and ``beside`` it the same of other servers by their names."""

    name: str
    value: float
    unit: str
    goals: Sequence[Goal] = ()
    note: str = ""
    beside: Mapping[str, float] = field(default_factory=dict)

    def missed(self) -> list[Goal]:
        """The goals that are not met. One of a server that was not measured is left out."""
        held = [goal for goal in self.goals if not goal.of or goal.of in self.beside]
        return [goal for goal in held if not goal.met(self.value, self.beside)]

    def verdict(self) -> str:
        """The goals and how they stand, for a reader."""
        missed = self.missed()
        parts = []
        for goal in self.goals:
            if goal.of and not self.beside.get(goal.of):
                continue
            ratio = f" ({self.value / self.beside[goal.of]:.2g})" if goal.of else ""
            parts.append(f"{'MISSED' if goal in missed else 'met'} {goal}{ratio}")
        return "; ".join(parts)


def interleaved(cases: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, warm_up: int = WARM_UP) -> dict[str, float]:
    """The lowest cost of each case; a case does its work once and returns what it cost."""
    best: dict[str, float] = {}
    for number in range(warm_up + rounds):
        for name, case in cases.items():
            cost = case()
            if number >= warm_up:
                best[name] = min(cost, best.get(name, cost))
    return best


def cpu(work: Callable[[], object]) -> float:
    """Processor seconds of this thread, user and system, that ``work`` takes."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` of 100 of ``values`` lie."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def cores() -> list[int]:
    """The processors this process may use."""
    return sorted(os.sched_getaffinity(0))


def _told(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the figures as a table, and their notes below."""
    others = list(dict.fromkeys(name for one in figures for name in one.beside))
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for name in ("logbroker" if others else "value", *others):
        table.add_column(name, justify="right")
    table.add_column("unit")
    table.add_column("goal")
    for one in figures:
        values = [_told(one.value), *(_told(one.beside.get(name)) for name in others)]
        table.add_row(one.name, *values, one.unit, one.verdict())
    Console(width=160).print(table)
    for one in figures:
        if one.note:
            print(f"{one.name}: {one.note}")


def write_json(path: Path, title: str, figures: Sequence[Figure]) -> None:
    """Write the figures to a file."""
    rows = [
        {
            "name": one.name,
            "value": one.value,
            "unit": one.unit,
            "beside": dict(one.beside),
            "goals": one.verdict(),
            "note": one.note,
        }
        for one in figures
    ]
    path.write_text(json.dumps({"title": title, "cores": len(cores()), "figures": rows}, indent=1) + "\n", encoding="utf-8")
