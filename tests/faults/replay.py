"""Crash-state replay: a broker's life is cut off after every operation on its files, in every way a disk may have kept it.

What lives here: workloads, the states by class, the tally. What may not: how a state is built (``log.files.crashes``),
what is wrong with it (``verdict``). Runs by ``python -m tools.faults replay`` as well.

The classes are those of ALICE, CrashMonkey and LazyFS: what is durable, and of the rest (a) everything, (b) nothing, (c)
each single operation, (d) random subsets, (e) the last write torn, (f) lengths without data, (g) data without names, (h)
names without data, (i) each sector as it stood after some other write.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from logbroker.log.files.crashes import CrashState, crash_states
from logbroker.log.files.faults import FaultFiles
from tests.faults.life import LONG, SHORT, Life, recorded
from tests.faults.simulation import settled, simulate
from tests.faults.verdict import violations

_CLASSES = {
    "everything": "a",
    "flushed only": "b",
    "flushed and": "c",
    "subset": "d",
    "write": "e",
    "lengths": "f",
    "data without": "g",
    "names": "h",
    "sectors": "i",
}
GOES_ON_EVERY = 7
"""Of so many states one is also written to after the start."""


def class_of(state: CrashState) -> str:
    """The letter of a state's class."""
    return next(letter for begin, letter in _CLASSES.items() if state.name.startswith(begin))


@dataclass
class Tally:
    """What was looked at, and what was wrong with it."""

    workloads: int = 0
    points: int = 0
    """Operations after which the power was cut."""
    states: Counter[str] = field(default_factory=Counter)
    """By class."""
    distinct: int = 0
    """States that differ from every other of their point; only these are started."""
    violations: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Take over another tally."""
        self.workloads += other.workloads
        self.points += other.points
        self.states += other.states
        self.distinct += other.distinct
        self.violations += other.violations

    def summary(self) -> str:
        """In one line."""
        classes = ", ".join(f"({letter}) {count}" for letter, count in sorted(self.states.items()))
        return (
            f"{self.states.total()} states ({self.distinct} distinct) at {self.points} crash points of {self.workloads} "
            f"workloads: {len(self.violations)} violations; by class {classes}"
        )


async def lived(steps: Sequence[str]) -> tuple[Life, FaultFiles, int]:
    """A life with these steps, and how many operations came before the last of them."""
    life, files = await recorded()
    before = life.moment()
    for name in steps:
        before = life.moment()
        await LONG[name](life)
        await settled()
    return life, files, before


async def judge(
    steps: Sequence[str],
    rng: random.Random,
    *,
    points: int | None = None,
    subsets: int = 2,
    stop_at_first: bool = False,
) -> Tally:
    """Cut a life off after each operation of its last step, or after ``points`` random ones of all."""
    life, files, before = await lived(steps)
    tally = Tally(workloads=1)
    last = life.moment()
    cuts: Sequence[int] = range(before + 1, last + 1)
    if points is not None:
        begun = min(fact.begun for fact in life.ledger.facts)
        cuts = sorted(rng.sample(range(begun, last + 1), min(points, last + 1 - begun)))
    for cut in cuts:
        await _judge_point(life, crash_states(files.operations[:cut], rng, subsets=subsets), cut, tally, steps)
        if tally.violations and stop_at_first:
            break
    return tally


async def _judge_point(life: Life, states: Iterable[CrashState], cut: int, tally: Tally, steps: Sequence[str]) -> None:
    tally.points += 1
    seen: set[int] = set()
    for state in states:
        tally.states[class_of(state)] += 1
        looks = hash(frozenset((path, bytes(one.data)) for path, one in state.files.contents.items()))
        if looks in seen:
            continue
        seen.add(looks)
        tally.distinct += 1
        found = await violations(
            life.ledger,
            cut,
            state.files,
            life.running.clock.now().wall_ms,
            killed=state.name == "everything",
            goes_on=tally.distinct % GOES_ON_EVERY == 0,
        )
        tally.violations += [f"{' '.join(steps)}, cut at {cut}, {state.name}: {why}" for why in found]


def short_workloads(length: int) -> Iterator[tuple[str, ...]]:
    """Every sequence of so many steps. The points of what comes before its last step belong to shorter ones."""
    for steps in itertools.product(SHORT, repeat=length):
        if _does_something(steps):
            yield steps


def _does_something(steps: Sequence[str]) -> bool:
    """Whether no step deletes a topic that is not there, which would be the same as a shorter workload."""
    made = 0
    for name in steps:
        made = made + 1 if name == "create" else made
        if name == "delete":
            if not made:
                return False
            made = 0
    return True


def replay_short(longest: int, seed: int, *, subsets: int = 1) -> Tally:
    """All workloads of up to ``longest`` steps, all crash points."""
    tally, rng = Tally(), random.Random(seed)
    for length in range(1, longest + 1):
        for steps in short_workloads(length):
            tally.add(simulate(judge(steps, rng, subsets=subsets)))
    return tally


def replay_random(states: int, seed: int, *, length: int = 40, points: int = 12) -> Tally:
    """Long random workloads, cut off at random points, until so many states were looked at."""
    tally, rng = Tally(), random.Random(seed)
    names = list(LONG)
    while tally.states.total() < states:
        steps = rng.choices(names, k=length)
        tally.add(simulate(judge(steps, rng, points=points, subsets=3)))
    return tally
