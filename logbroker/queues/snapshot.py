"""The hard state of a lease machine as events, for a journal that starts anew.

What lives here: the state told as events of a bounded size. What may not: decisions.
Invariant: applied to an empty machine in order, they give an equal ``Hard``.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

from logbroker.machine import HardEvent
from logbroker.queues import events as e
from logbroker.queues.positions import Source
from logbroker.queues.state import Hard

PER_EVENT = 2_000

Item = TypeVar("Item")


def snapshot(hard: Hard) -> Iterator[HardEvent]:
    """The events; none for a machine to which nothing has happened."""
    if hard == Hard():
        return
    yield e.Base(hard.at, hard.generation, hard.next_number)
    for at_ms, offset in hard.marks:
        yield e.Marked(at_ms, offset)
    for source in Source:
        log = hard.logs[source]
        yield e.Log(source, log.finished.frontier, log.seen, tuple(sorted(log.ahead)))
        for spans in _chunks(log.finished):
            yield e.Done(source, spans)
    for leases in _chunks(hard.leases.values()):
        yield e.Leases(
            tuple(e.LeaseState(one.number, one.run, one.consumer, one.grant, one.deadline, one.received) for one in leases)
        )
    for returned in _chunks(hard.returned.items()):
        yield e.Returned(returned)
    for run, acked in groupby(hard.acked.items(), key=lambda one: one[1]):
        for numbers in _chunks(number for number, _ in acked):
            yield e.Remembered(run, numbers)


def _chunks(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    rest = iter(items)
    while chunk := tuple(islice(rest, PER_EVENT)):
        yield chunk
