"""Power cuts under a working queue: whatever the disk kept, nothing is lost, doubled, or delivered after its ack.

A script of sends, receives, acks, nacks, rejects, delays and redrives runs on files that remember every operation; then the
broker is started on what a crash may have left after some of them.
"""

import random
from dataclasses import dataclass, field

import pytest

from logbroker.clock import ManualClock
from logbroker.log.files.crashes import crash_states
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.queues.dispatcher import Received
from logbroker.queues.dispatcher.partition import QueuePartition
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from tests.queues.shell import Shell, running, settled

pytestmark = pytest.mark.asyncio

LONG_MS = 10_000_000


@dataclass
class Ledger:
    """What was answered, and after how many file operations."""

    sent: list[tuple[int, str]] = field(default_factory=list)
    acked: list[tuple[int, str]] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    """Messages whose ack was asked for."""


async def play(shell: Shell, files: FaultFiles, rng: random.Random, ledger: Ledger) -> None:
    held: list[Received] = []
    number = 0
    for _ in range(60):
        match rng.randrange(8):
            case 0 | 1:
                number += 1
                due_ms = shell.clock.now().wall_ms + 50 if rng.random() < 0.3 else None
                await shell.send(f"m{number}", due_ms=due_ms)
                ledger.sent.append((len(files.operations), f"m{number}"))
            case 2 | 3:
                held += await shell.receive(rng.randint(1, 3), lease_ms=1_000)
            case 4 if held:
                received = held.pop(rng.randrange(len(held)))
                text = (received.value or b"").decode()
                ledger.begun.add(text)
                if await shell.ack(received) == [None]:
                    ledger.acked.append((len(files.operations), text))
            case 5 if held:
                await shell.nack(held.pop(rng.randrange(len(held))), rng.choice([0, 30]))
            case 6 if held:
                await shell.reject(held.pop(rng.randrange(len(held))))
            case 7:
                page = await shell.queue.peek.page(MessageState.DEAD, Cursor(), 1)
                if page.items:
                    await shell.queue.letters.redrive(page.items)
                else:
                    await shell.advance(20)
            case _:
                await shell.advance(20)


async def left(files: MemoryFiles, clock: ManualClock) -> tuple[list[str], list[str]]:
    """What can be received in the end, and the dead letters, by value."""
    async with running(files, clock) as shell:
        await shell.advance(LONG_MS)
        await shell.advance(LONG_MS)
        received = []
        while got := await shell.receive(100):
            received += [(one.value or b"").decode() for one in got]
        dead = [letter async for _, letter in shell.queue.peek.walk(MessageState.DEAD, Cursor())]
        return received, [(letter.record.value or b"").decode() for letter in dead if letter is not None]


async def violations(seed: int, cuts: int) -> list[str]:
    """What goes wrong after a run and a power cut at some of its file operations."""
    rng, clock, files, ledger = random.Random(seed), ManualClock(), FaultFiles(), Ledger()
    async with running(files, clock) as shell:
        await shell.create(max_attempts=3, retry={"policy": "none"})
        founded = len(files.operations)
        await play(shell, files, rng, ledger)
        await settled()
    found: list[str] = []
    for cut in sorted(rng.sample(range(founded, len(files.operations)), cuts)):
        for state in crash_states(files.operations[:cut], rng, subsets=2):
            received, dead = await left(state.files, ManualClock(clock.now().wall_ms))
            there = received + dead
            sent = {text for at, text in ledger.sent if at <= cut}
            acked = {text for at, text in ledger.acked if at <= cut}
            problems = {
                "doubled": len(set(there)) < len(there),
                "resurrected": bool(acked & set(there)),
                "lost": bool(sent - ledger.begun - set(there)),
            }
            found += [f"{problem} at {cut}, {state.name}" for problem, is_so in problems.items() if is_so]
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_disk_kept_no_message_is_lost_doubled_or_resurrected(seed: int) -> None:
    assert await violations(seed, cuts=6) == []


async def test_without_reading_the_copies_at_load_the_same_runs_lose_or_double(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        """Take over no copy."""

    monkeypatch.setattr(QueuePartition, "_take_over", nothing)
    assert await violations(0, cuts=3) != []
