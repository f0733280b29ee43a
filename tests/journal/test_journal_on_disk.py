"""Crashes of the machine below the journal: whatever a disk may keep of what was not flushed, no answer is lost."""

import asyncio
import random

import pytest

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.journal import snapshots
from logbroker.log.files.crashes import crash_states
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from tests.journal.tally import Add, Clear, Command, opened
from tests.journal.test_journal import histories

pytestmark = pytest.mark.asyncio

Answered = list[tuple[int, str, int]]
"""After so many file operations, of that machine, that step was answered."""


def script_of(rng: random.Random) -> list[tuple[str, Command]]:
    commands: list[Command] = [Clear(), *(Add(number) for number in range(1, 12))]
    return [(rng.choice("ab"), rng.choice(commands)) for _ in range(40)]


async def started(files: MemoryFiles, clock: ManualClock) -> EmbeddedEngine:
    engine = EmbeddedEngine(files, BrokerConfig(), TopicConfig(), clock)
    await engine.start()
    return engine


async def play(files: FaultFiles, script: list[tuple[str, Command]], clock: ManualClock) -> tuple[int, Answered]:
    """Run the script, four asking at a time; how many operations the start took, and what was answered when."""
    engine = await started(files, clock)
    journal = await opened(engine, clock)
    founded, answered = len(files.operations), []
    steps = dict.fromkeys("ab", 0)

    async def ask(name: str, command: Command, step: int) -> None:
        await journal.ask(name, command)
        answered.append((len(files.operations), name, step))

    for first in range(0, len(script), 4):
        asks = []
        for name, command in script[first : first + 4]:
            steps[name] += 1
            asks.append(ask(name, command, steps[name]))
        await asyncio.gather(*asks)
    await journal.close()
    await engine.stop()
    return founded, answered


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_disk_kept_no_answer_is_lost(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOT_EVENTS", 9)
    monkeypatch.setattr(snapshots, "PIECE_BYTES", 24)
    monkeypatch.setattr("logbroker.journal.records.PIECE_BYTES", 24)
    rng, clock, files = random.Random(seed), ManualClock(), FaultFiles()
    script = script_of(rng)
    founded, answered = await play(files, script, clock)
    for cut in sorted(rng.sample(range(founded, len(files.operations)), 12)):
        for state in crash_states(files.operations[:cut], rng, subsets=2):
            engine = await started(state.files, clock)
            journal = await opened(engine, clock)
            found = {name: tuple(tally.numbers) for name, tally in journal.machines()}
            await journal.close()
            await engine.stop()
            for name in "ab":
                floor = max((step for at, other, step in answered if other == name and at <= cut), default=0)
                assert found.get(name, ()) in histories(script, name)[floor:], (seed, cut, state.name, name)
