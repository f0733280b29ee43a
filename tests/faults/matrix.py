"""The fault matrix: the n-th call on the files fails, for every n, with each error a disk knows, once and for good.

What lives here: the life in which calls fail, in memory (killed, and power lost) and on a disk, where system calls fail or
come back short. What may not: judging (``verdict``). SQLite's scheme. Each point must end in a clean error or a stop, never
in an acknowledgement that does not hold, never in a wrong read.
"""

import errno
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from logbroker.log.files.crashes import everything, flushed_only
from logbroker.log.files.disk import DiskFiles
from tests.faults.life import LONG, Life, recorded
from tests.faults.simulation import attempted, simulate
from tests.faults.verdict import violations, wrong_reads

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR)
SHORT = "short write"
STEPS: Sequence[str] = (
    *("produce", "commit", "ack", "produce large", "produce once", "reject", "checkpoint", "roll", "produce", "create"),
    *("nack", "retain", "produce once", "delete", "commit", "ack", "produce"),
)
_CALLS = (
    "pwritev",
    "pwrite",
    "fdatasync",
    "fsync",
    "ftruncate",
    "posix_fallocate",
    "open",
    "rename",
    "replace",
    "unlink",
    "mkdir",
)
_WRITES = frozenset({"pwritev", "pwrite"})
os_pwrite = os.pwrite


@dataclass
class Points:
    """What was tried, by call and by error."""

    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    stopped: int = 0
    """Points at which the broker could not go on, as after a failed flush."""
    violations: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """In one line."""
        calls = ", ".join(f"{name} {count}" for name, count in self.calls.most_common())
        errors = ", ".join(f"{name} {count}" for name, count in self.errors.most_common())
        return (
            f"{self.calls.total()} points: {len(self.violations)} false acknowledgements or wrong reads, "
            f"{self.stopped} stops; by call {calls}; by error {errors}"
        )


async def go_through(life: Life) -> None:
    """The steps, as far as the broker comes; what is refused is refused cleanly, or this raises."""
    for name in STEPS:
        if life.running.engine.failed.done():
            return
        await attempted(LONG[name](life))


# -- in memory -------------------------------------------------------------------------------------------------------


async def _calls_in_memory() -> tuple[int, int]:
    """How many changing calls there are when nothing fails, before the steps and after them."""
    life, files = await recorded()
    before = files.changes
    await go_through(life)
    assert not any(fact.refused for fact in life.ledger.facts)
    return before, files.changes


async def _point_in_memory(number: int, error: int, for_good: bool, points: Points) -> None:
    life, files = await recorded()
    files.fail_next(None, OSError(error, os.strerror(error)), after=number, for_good=for_good)
    await go_through(life)
    when = f"call {number} fails with {errno.errorcode[error]} {'for good' if for_good else 'once'}"
    points.errors[errno.errorcode[error]] += 1
    points.calls[next(iter(files.failures))] += 1
    points.stopped += life.running.engine.failed.done()
    points.violations += [f"{when}, alive: {why}" for why in await wrong_reads(life.ledger, life.moment(), life.running)]
    operations, wall_ms = files.operations, life.running.clock.now().wall_ms
    for end, state in (("killed", everything(operations)), ("power lost", flushed_only(operations))):
        found = await violations(life.ledger, life.moment(), state, wall_ms, goes_on=True)
        points.violations += [f"{when}, {end}: {why}" for why in found]


def in_memory(every: int = 1) -> Points:
    """Every ``every``-th point of the matrix on the recorded files."""
    points = Points()
    before, after = simulate(_calls_in_memory())
    at = 0
    for number in range(after - before):
        for error in ERRORS:
            for for_good in (False, True):
                at += 1
                if at % every == 0:
                    simulate(_point_in_memory(number, error, for_good, points))
    return points


# -- on a disk -------------------------------------------------------------------------------------------------------


class FailingCalls:
    """The system's calls, of which one is to fail."""

    def __init__(self) -> None:
        self.count = 0
        self.fail_at = -1
        self.error: int | str = 0
        self.for_good = False
        self.struck: list[str] = []

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Count, and fail, the calls made meanwhile."""
        with ExitStack() as patches:
            for name in _CALLS:
                patches.enter_context(patch.object(os, name, self._failing(name, getattr(os, name))))
            yield

    def _failing(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if self.fail_at < 0 or number < self.fail_at or (number > self.fail_at and not self.for_good):
                return original(*arguments, **named)
            if self.error != SHORT:
                self.struck.append(name)
                raise OSError(self.error, os.strerror(int(self.error)))
            if name in _WRITES:
                self.struck.append(name)
                return self._half(name, original, *arguments)
            return original(*arguments, **named)

        return call

    def _half(self, name: str, original: Callable[..., int], descriptor: int, data: Any, position: int) -> int:
        """Write the first half. One byte always is, or the caller would never come to an end."""
        whole = b"".join(data) if name == "pwritev" else bytes(data)
        return os_pwrite(descriptor, whole[: max(1, len(whole) // 2)], position)


async def _point_on_disk(directory: Path, calls: FailingCalls) -> tuple[Life, list[str]]:
    """A life in which calls fail, and what was wrong while it lasted."""
    life = await Life.begin(DiskFiles(directory), itertools.count(1).__next__)
    with calls.in_force():
        await go_through(life)
    return life, await wrong_reads(life.ledger, life.moment(), life.running)


async def _judge_on_disk(directory: Path, points: Points, calls: FailingCalls, when: str) -> None:
    life, found = await _point_on_disk(directory / "lived", calls)
    points.violations += [f"{when}, alive: {why}" for why in found]
    points.stopped += life.running.engine.failed.done()
    shutil.copytree(directory / "lived", directory / "left")
    found = await violations(
        life.ledger, life.moment(), DiskFiles(directory / "left"), life.running.clock.now().wall_ms, goes_on=True
    )
    points.violations += [f"{when}, killed: {why}" for why in found]


def on_disk(every: int = 1, where: Path | None = None) -> Points:
    """Every ``every``-th point of the matrix on real files."""
    points = Points()
    at = 0
    for number in range(_calls_on_disk(where)):
        for error in (*ERRORS, SHORT):
            for for_good in (False, True):
                at += 1
                if at % every == 0:
                    _one_on_disk(number, error, for_good, points, where)
    return points


def _calls_on_disk(where: Path | None) -> int:
    calls = FailingCalls()
    with tempfile.TemporaryDirectory(dir=where) as directory:
        simulate(_point_on_disk(Path(directory), calls))
    return calls.count


def _one_on_disk(number: int, error: int | str, for_good: bool, points: Points, where: Path | None) -> None:
    calls = FailingCalls()
    calls.fail_at, calls.error, calls.for_good = number, error, for_good
    name = error if isinstance(error, str) else errno.errorcode[error]
    with tempfile.TemporaryDirectory(dir=where) as directory:
        simulate(_judge_on_disk(Path(directory), points, calls, f"system call {number}: {name}{' for good' * for_good}"))
    if calls.struck:  # a short write that meets no write is no point
        points.calls[calls.struck[0]] += 1
        points.errors[name] += 1
