"""Judges a history: ``check(history)`` names every anomaly in it. After Jepsen's Kafka workload (tests/kafka.clj).

What lives here: pure functions of a history. What may not: I/O, knowledge of any client or of how faults were made.
The log of a partition is rebuilt from everything that acknowledged sends and polls tell of it; offsets may have gaps
(control records, compaction), so neighbours are neighbours among the offsets that are known to hold a value.

====================== ==============================================================================================
lost-write             an acknowledged value below the highest offset read was read by nobody (prefix, middle, postfix)
unseen                 an acknowledged value above the highest offset read: the tail is lost, if all was polled to the end
torn-batch             some values of one batch were read and others never, though somebody read past them
duplicate              a value stands at more than one offset (no anomaly of a producer that is not idempotent)
inconsistent-offsets   one offset was seen with two values
aborted-read           a value was read whose send certainly failed (G1a)
poll-skip              a process that chose its own partitions jumped over known values between two polls
nonmonotonic-poll      such a process read an offset again, or an earlier one, in a later poll
int-poll-skip          the jump is inside one poll
int-nonmonotonic-poll  the step back is inside one poll
nonmonotonic-send      a process's later acknowledged send stands before an earlier one
commit-regress         a committed offset was read back, or committed, below one acknowledged before
commit-ahead           an offset was committed past a known value that the group had not been given
====================== ==============================================================================================
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from tests.crash.history import Assign, Commit, Committed, Operation, Outcome, Partition, Poll, Send, Subscribe

Anomaly: TypeAlias = tuple[str, str]
"""Its name, and one occurrence told to a person."""


@dataclass(slots=True)
class _Log:
    """Everything known of one partition."""

    values: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """The values seen at each offset."""
    offsets: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """The offsets of each value."""
    read: set[int] = field(default_factory=set)
    """The values that somebody polled."""
    highest_read: int = -1
    known: list[int] = field(default_factory=list)
    """The offsets that hold a value, ascending."""

    def place(self, offset: int, value: int) -> None:
        self.values[offset].add(value)
        self.offsets[value].add(offset)

    def between(self, after: int, before: int) -> list[int]:
        """The known offsets strictly between two."""
        return self.known[bisect_right(self.known, after) : bisect_left(self.known, before)]


_Logs: TypeAlias = Mapping[Partition, _Log]


def check(history: Sequence[Operation]) -> dict[str, list[str]]:
    """The occurrences of every anomaly in ``history`` (operations by invocation); empty when all is well."""
    logs = _rebuild(history)
    found: dict[str, list[str]] = defaultdict(list)
    for part in (_placement, _loss, _sends, _polls, _commits):
        for name, occurrence in part(logs, history):
            found[name].append(occurrence)
    return dict(found)


def _of(history: Iterable[Operation], kind: type, *outcomes: Outcome) -> list[Operation]:
    return [one for one in history if isinstance(one.action, kind) and one.outcome in outcomes]


def _rebuild(history: Sequence[Operation]) -> _Logs:
    logs: dict[Partition, _Log] = defaultdict(_Log)
    for one in history:
        if one.outcome is not Outcome.OK:
            continue
        if isinstance(one.action, Send):
            for offset, value in one.action.placed():
                logs[one.action.partition].place(offset, value)
        elif isinstance(one.action, Poll):
            for partition, records in one.action.records.items():
                log = logs[partition]
                for offset, value in records:
                    log.place(offset, value)
                    log.read.add(value)
                    log.highest_read = max(log.highest_read, offset)
    for log in logs.values():
        log.known = sorted(log.values)
    return logs


def _placement(logs: _Logs, history: Sequence[Operation]) -> Iterator[Anomaly]:
    for partition, log in logs.items():
        for offset, values in log.values.items():
            if len(values) > 1:
                yield "inconsistent-offsets", f"{partition} offset {offset} holds {sorted(values)}"
        for value, offsets in log.offsets.items():
            if len(offsets) > 1:
                yield "duplicate", f"{partition} value {value} stands at {sorted(offsets)}"
    for one in _of(history, Send, Outcome.FAIL):
        assert isinstance(one.action, Send)
        if read := logs[one.action.partition].read.intersection(one.action.values):
            yield "aborted-read", f"{one.action.partition} values {sorted(read)} were read, their send failed"


def _loss(logs: _Logs, history: Sequence[Operation]) -> Iterator[Anomaly]:
    for one in _of(history, Send, Outcome.OK, Outcome.UNKNOWN):
        assert isinstance(one.action, Send)
        log = logs[one.action.partition]
        for offset, value in one.action.placed():
            if value in log.read:
                continue
            where = f"{one.action.partition} value {value} at offset {offset}"
            if offset > log.highest_read:
                yield "unseen", where
            else:
                yield "lost-write", f"{where} ({_position(log, offset)})"
        missing = set(one.action.values) - log.read
        if one.outcome is Outcome.UNKNOWN and 0 < len(missing) < len(one.action.values):
            yield "torn-batch", f"{one.action.partition} values {sorted(missing)} of a batch are missing"


def _position(log: _Log, offset: int) -> str:
    """Where in the log a lost value stood. Loss in the middle is certain; a postfix may be a slow reader."""
    read = [at for at in log.known if log.values[at] & log.read]
    if offset < read[0]:
        return "prefix"
    return "middle" if offset < read[-1] else "postfix"


def _sends(logs: _Logs, history: Sequence[Operation]) -> Iterator[Anomaly]:
    last: dict[tuple[str, Partition], int] = {}
    for one in _of(history, Send, Outcome.OK):
        assert isinstance(one.action, Send)
        offsets = [offset for offset, _ in one.action.placed()]
        key = (one.process, one.action.partition)
        if offsets and offsets[0] <= last.get(key, -1):
            yield "nonmonotonic-send", f"{one.process} sent to {key[1]} at {last[key]}, then at {offsets[0]}"
        if offsets:
            last[key] = offsets[-1]


def _polls(logs: _Logs, history: Sequence[Operation]) -> Iterator[Anomaly]:
    last: dict[str, dict[Partition, int]] = defaultdict(dict)
    subscribed: set[str] = set()
    for one in history:
        if isinstance(one.action, Assign | Subscribe):
            last.pop(one.process, None)
            subscribed.discard(one.process)
            if isinstance(one.action, Subscribe):
                subscribed.add(one.process)
        elif isinstance(one.action, Poll) and one.outcome is Outcome.OK:
            for partition, records in one.action.records.items():
                offsets = [offset for offset, _ in records]
                if not one.action.rebalanced:
                    yield from _steps(logs[partition], f"{one.process} in {partition}", offsets, "int-")
                before = last[one.process].get(partition)
                if before is not None and offsets and one.process not in subscribed:
                    yield from _steps(logs[partition], f"{one.process} in {partition}", [before, offsets[0]], "")
                if offsets:
                    last[one.process][partition] = offsets[-1]


def _steps(log: _Log, who: str, offsets: Sequence[int], prefix: str) -> Iterator[Anomaly]:
    for one, following in pairwise(offsets):
        if following <= one:
            yield f"{prefix}nonmonotonic-poll", f"{who} read {one}, then {following}"
        elif skipped := log.between(one, following):
            yield f"{prefix}poll-skip", f"{who} read {one}, then {following}; skipped {skipped[:10]}"


def _commits(logs: _Logs, history: Sequence[Operation]) -> Iterator[Anomaly]:
    """Commits that move back or run ahead, in one walk over begins and ends in the order of time.

    A commit is compared with those only that were answered before it began: of two at once, either may come last.
    """
    moments = [(one.invoked_ns, 0, one) for one in history] + [(one.completed_ns, 1, one) for one in history]
    acknowledged: dict[tuple[str, Partition], int] = {}
    before: dict[int, dict[tuple[str, Partition], int]] = {}
    delivered: dict[tuple[str, Partition], set[int]] = defaultdict(set)
    for _, is_end, one in sorted(moments, key=lambda moment: moment[:2]):
        if one.outcome is not Outcome.OK:
            continue
        if isinstance(one.action, Poll) and is_end and one.action.group is not None:
            for partition, records in one.action.records.items():
                delivered[one.action.group, partition].update(offset for offset, _ in records)
        elif isinstance(one.action, Commit | Committed) and not is_end:
            keys = [(one.action.group, partition) for partition in one.action.offsets]
            before[id(one)] = {key: acknowledged.get(key, -1) for key in keys}
        elif isinstance(one.action, Commit | Committed):
            for (group, partition), highest in before[id(one)].items():
                offset = one.action.offsets[partition]
                where = f"group {group} in {partition}"
                if offset < highest:
                    yield "commit-regress", f"{where}: {offset} after {highest} was acknowledged"
                passed = logs[partition].between(highest - 1, offset) if partition in logs else []
                if ahead := [at for at in passed if at not in delivered[group, partition]]:
                    yield "commit-ahead", f"{where}: {offset} passes {ahead[:10]}, never delivered"
                if isinstance(one.action, Commit):
                    acknowledged[group, partition] = max(offset, acknowledged.get((group, partition), -1))
