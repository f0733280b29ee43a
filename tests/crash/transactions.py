"""Judges transactions: ``check_transactions(history)`` names every anomaly. After Jepsen's tests/kafka.clj.

What lives here: pure functions of a history whose polls are committed reads. What may not: I/O, knowledge of any client.

================== ====================================================================================================
aborted-read       a value was read whose transaction was certainly aborted (G1a)
precommitted-read  a value was read before its transaction was asked to commit, or by that transaction itself
torn-transaction   some values of a transaction were read and others never, though somebody read past where they belong
lost-transaction   a transaction was acknowledged as committed, and none of its values was ever read
duplicate          a value stands at more than one offset
G1c                transactions read each other's values in a circle
================== ====================================================================================================
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from tests.crash.history import Operation, Outcome, Partition, Poll, Transact

Anomaly: TypeAlias = tuple[str, str]
Value: TypeAlias = tuple[Partition, int]


class _Read(NamedTuple):
    """A value as it was read, in which operation."""

    offset: int
    by: Operation


_Reads: TypeAlias = Mapping[Value, Sequence[_Read]]


def check_transactions(history: Sequence[Operation]) -> dict[str, list[str]]:
    """The occurrences of every anomaly in ``history``; empty when all is well."""
    reads: dict[Value, list[_Read]] = defaultdict(list)
    for one in history:
        if isinstance(one.action, Poll | Transact) and (one.outcome is Outcome.OK or isinstance(one.action, Transact)):
            records = one.action.records if isinstance(one.action, Poll) else one.action.polled
            for partition, seen in records.items():
                for offset, value in seen:
                    reads[partition, value].append(_Read(offset, one))
    found: dict[str, list[str]] = defaultdict(list)
    for part in (_visibility, _wholeness, _placement, _circles):
        for name, occurrence in part(history, reads):
            found[name].append(occurrence)
    return dict(found)


def _transactions(history: Sequence[Operation]) -> Iterator[tuple[Operation, Transact, list[Value]]]:
    for one in history:
        if isinstance(one.action, Transact):
            yield one, one.action, [(at, value) for at, values in one.action.sent.items() for value in values]


def _visibility(history: Sequence[Operation], reads: _Reads) -> Iterator[Anomaly]:
    for one, action, sent in _transactions(history):
        for value in sent:
            for read in reads.get(value, ()):
                if one.outcome is Outcome.FAIL:
                    yield "aborted-read", f"{value} was read by {read.by.process}, its transaction was aborted"
                elif read.by is one or (action.asked_ns and read.by.completed_ns < action.asked_ns):
                    yield "precommitted-read", f"{value} was read by {read.by.process} before its transaction was committed"


def _wholeness(history: Sequence[Operation], reads: _Reads) -> Iterator[Anomaly]:
    for one, _, sent in _transactions(history):
        missing = [value for value in sent if value not in reads]
        if one.outcome is Outcome.FAIL or not missing:
            continue
        if len(missing) < len(sent):
            yield "torn-transaction", f"{one.process}: {missing} of {sent} are missing"
        elif one.outcome is Outcome.OK:
            yield "lost-transaction", f"{one.process}: {sent} was committed and is nowhere"


def _placement(history: Sequence[Operation], reads: _Reads) -> Iterator[Anomaly]:
    for value, seen in reads.items():
        if len(offsets := {read.offset for read in seen}) > 1:
            yield "duplicate", f"{value} stands at {sorted(offsets)}"


def _circles(history: Sequence[Operation], reads: _Reads) -> Iterator[Anomaly]:
    """Transactions that read from one another, by taking out, again and again, those that read from nobody left."""
    reads_from: dict[int, set[int]] = defaultdict(set)
    names: dict[int, str] = {}
    for one, _, sent in _transactions(history):
        names[id(one)] = f"{one.process} at {one.invoked_ns}"
        for value in sent:
            for read in reads.get(value, ()):
                if isinstance(read.by.action, Transact) and read.by is not one:
                    reads_from[id(read.by)].add(id(one))
    left = set(reads_from)
    while done := {one for one in left if not reads_from[one] & left}:
        left -= done
    if left:
        yield "G1c", f"in or behind a circle: {sorted(names[one] for one in left)}"
