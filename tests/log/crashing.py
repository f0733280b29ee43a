"""Cutting the power after every operation, and judging what a start finds.

A ``Workload`` runs on recorded files and writes down what it was promised when; ``violations`` opens the states a crash may
leave and says which promise was broken in which state. The judging knows nothing of how the log works.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from logbroker.errors import LogbrokerError
from logbroker.log.files.crashes import CrashState, crash_states
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.partition import PartitionLog
from logbroker.model import Now, ProducerStamp
from tests.log.helpers import NOW, batch, flush, open_log, read_all

PRODUCER = 7
SETTINGS: dict[str, Any] = {"index_interval_bytes": 200, "segment_bytes": 2500}


class Promised(NamedTuple):
    """What was known when so many operations had been done."""

    operations: int
    flushed: int
    written: int
    log_start: int


@dataclass
class Workload:
    """A log that is written to, and what it has promised."""

    files: FaultFiles = field(default_factory=FaultFiles)
    values: dict[int, bytes | None] = field(default_factory=dict)
    sequences: list[tuple[int, int]] = field(default_factory=list)
    """Of the idempotent producer: next sequence, and one past the offset of the batch, for each of its batches."""
    promised: list[Promised] = field(default_factory=list)
    now: Now = NOW
    most_trimmed: int = 0

    def __post_init__(self) -> None:
        self.log = open_log(self.files, NOW, **SETTINGS)
        self._promise()

    def _promise(self) -> None:
        log = self.log
        self.promised.append(Promised(len(self.files.operations), log.flushed_offset, log.end_offset, log.log_start_offset))

    # -- steps -------------------------------------------------------------------------------------------------------

    def small(self) -> None:
        """One batch that fits a sector several times."""
        self._append(b"small %d" % self.log.end_offset, b"x")

    def large(self) -> None:
        """One batch of several sectors."""
        self._append(bytes([1 + self.log.end_offset % 250]) * 1300)

    def idempotent(self) -> None:
        """One batch of an idempotent producer."""
        first = self.sequences[-1][0] if self.sequences else 0
        self._append(b"once", b"only", producer=ProducerStamp(PRODUCER, 0, first))
        self.sequences.append((first + 2, self.log.end_offset))

    def _append(self, *values: bytes, producer: ProducerStamp | None = None) -> None:
        base = self.log.end_offset
        for number, value in enumerate(values):
            self.values[base + number] = value
        self.log.append(batch(*values, producer=producer), self.now)
        self._promise()

    def flush(self) -> None:
        """A group commit, a good second after the last one, so that the recovery point is stored."""
        self.now = Now(self.now.wall_ms + 1100, self.now.mono_ms + 1100)
        flush(self.log)
        self._promise()

    def roll(self) -> None:
        self.log.roll(self.now)
        self._promise()

    def trim(self) -> None:
        """Drop half of what is flushed."""
        target = (self.log.log_start_offset + self.log.flushed_offset) // 2
        self.most_trimmed = max(self.most_trimmed, target)
        self.log.trim(target, self.now)
        self._promise()

    def trim_all(self) -> None:
        """Drop all that is flushed."""
        self.most_trimmed = max(self.most_trimmed, self.log.flushed_offset)
        self.log.trim(self.log.flushed_offset, self.now)
        self._promise()

    def reopen(self) -> None:
        """A clean stop and start."""
        self.log.close()
        self.log = open_log(self.files, self.now, **SETTINGS)
        assert self.log.recovery.clean
        self._promise()

    def kill(self) -> None:
        """The process ends and starts again; the system goes on."""
        self.log = open_log(self.files, self.now, **SETTINGS)
        self._promise()


STEPS: tuple[Callable[[Workload], None], ...] = (
    Workload.small,
    Workload.large,
    Workload.idempotent,
    Workload.flush,
    Workload.roll,
    Workload.trim,
    Workload.trim_all,
    Workload.reopen,
    Workload.kill,
)


def run(steps: tuple[Callable[[Workload], None], ...]) -> Workload:
    """A workload that has done these steps."""
    workload = Workload()
    for step in steps:
        step(workload)
    return workload


class Tally(NamedTuple):
    """How many states were looked at, and what was wrong with them."""

    states: int
    violations: list[str]


def judge(
    workload: Workload,
    *,
    seed: int = 1,
    subsets: int = 2,
    first: int = 0,
    every_byte: bool = False,
    reopened: bool = True,
    stop_at_first: bool = False,
) -> Tally:
    """Cut the power after every operation from number ``first`` on."""
    rng = random.Random(seed)
    states = 0
    found: list[str] = []
    for count in range(first, len(workload.files.operations) + 1):
        promised = _promised_at(workload, count)
        for state in crash_states(workload.files.operations[:count], rng, subsets=subsets, every_byte=every_byte):
            states += 1
            found += [
                f"after {count} operations, {state.name}: {why}"
                for why in violations(workload, promised, state, reopened=reopened)
            ]
            if found and stop_at_first:
                return Tally(states, found)
    return Tally(states, found)


def _promised_at(workload: Workload, count: int) -> Promised:
    """What was promised before operation ``count``, and what may have been written by then."""
    before = [one for one in workload.promised if one.operations <= count]
    after = [one for one in workload.promised if one.operations > count]
    if not before:
        return Promised(count, 0, after[0].written, 0)
    # Steps that changed no file come with the same number of operations: the last of them counts.
    written = max(one.written for one in [*before, *after[:1]])
    return Promised(count, before[-1].flushed, written, before[-1].log_start)


def violations(workload: Workload, promised: Promised, state: CrashState, *, reopened: bool) -> Iterator[str]:
    """Which promises a start after the crash breaks."""
    try:
        log = open_log(state.files, workload.now, **SETTINGS)
        yield from _content(workload, promised, log)
        yield from _producers(workload, log)
        if reopened:
            yield from _goes_on(state.files, log, workload.now)
    except (LogbrokerError, AssertionError) as error:
        yield f"{type(error).__name__}: {error}"


def _content(workload: Workload, promised: Promised, log: PartitionLog) -> Iterator[str]:
    if log.end_offset < promised.flushed:
        yield f"{promised.flushed} were flushed, the log ends at {log.end_offset}"
    if log.end_offset > max(promised.written, promised.log_start):
        yield f"{promised.written} were written, the log ends at {log.end_offset}"
    if not promised.log_start <= log.log_start_offset <= max(workload.most_trimmed, promised.log_start):
        yield f"the log started at {promised.log_start}, now at {log.log_start_offset}"
    if log.flushed_offset != log.end_offset:
        yield f"after recovery {log.flushed_offset} of {log.end_offset} are flushed"
    records = read_all(log)
    offsets = [record.offset for record in records]
    if offsets != list(range(log.log_start_offset, log.end_offset)):
        yield f"offsets {offsets} in a log from {log.log_start_offset} to {log.end_offset}"
    for record in records:
        if record.value != workload.values[record.offset]:
            yield f"offset {record.offset} holds {record.value!r}, {workload.values[record.offset]!r} was written"


def _producers(workload: Workload, log: PartitionLog) -> Iterator[str]:
    """A retry of the producer's last batch that is in the log must be recognised, and the one behind it accepted."""
    there = [sequence for sequence, next_offset in workload.sequences if next_offset <= log.end_offset]
    gone = [sequence for sequence, next_offset in workload.sequences if next_offset <= log.log_start_offset]
    known = {state.producer_id: state.last_sequence + 1 for state in log.producers()}
    expected = {PRODUCER: there[-1]} if there else {}
    if known != expected and not (there == gone and not known):
        yield f"the producer's next sequences are {known}, {expected} should be remembered"


def _goes_on(files: MemoryFiles, log: PartitionLog, now: Now) -> Iterator[str]:
    """The recovered log takes records, closes, and opens clean with all of them."""
    before = [(record.offset, record.value) for record in read_all(log)]
    appended = log.append(batch(b"afterwards"), now)
    flush(log)
    log.close()
    again = open_log(files, now, **SETTINGS)
    if not again.recovery.clean:
        yield "a log that was closed is recovered"
    after = [(record.offset, record.value) for record in read_all(again)]
    if after != [*before, (appended.base_offset, b"afterwards")]:
        yield f"{before} became {after} over a stop"
