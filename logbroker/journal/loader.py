"""Reads a journal back: from records to machines.

What lives here: which record means what to which machine. What may not: the deciding, the writing.
Invariant: a machine's state is its last whole snapshot and the events after it. Events of a machine of which no snapshot
was seen are skipped (the log was trimmed into the middle of them, and a snapshot follows); a snapshot cut short by a
crash counts as never begun.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from logbroker.engine.api import Engine
from logbroker.journal.log import READ_BYTES
from logbroker.journal.records import EVENTS, FIRST, LAST, EventCodec, JournalRecord
from logbroker.machine import Machine
from logbroker.model import TopicPartition

M = TypeVar("M", bound=Machine[Any, Any])


class Loader(Generic[M]):
    """Machines in the making."""

    def __init__(self, new_machine: Callable[[str], M]) -> None:
        self._new_machine = new_machine
        self._snapshots: dict[str, M] = {}
        self.machines: dict[str, M] = {}
        self.events = 0
        """How many events were read: what a load costs."""

    def take(self, record: JournalRecord) -> None:
        """Take the next record of the log."""
        self.events += len(record.events)
        name = record.name
        if record.kind == EVENTS:
            machine = self.machines.get(name)
        else:
            if record.kind & FIRST:
                self._snapshots[name] = self._new_machine(name)
            machine = self._snapshots.get(name)
        if machine is None:
            return
        for event in record.events:
            machine.apply(event)
        if record.kind & LAST:
            self.machines[name] = self._snapshots.pop(name)


async def load(engine: Engine, where: TopicPartition, codec: EventCodec, loader: Loader[M]) -> int:
    """Read the journal from its start to its end, which is returned. Raises PartitionDamaged, DataDirectoryError."""
    offset, end, _ = await engine.bounds(where)
    while offset < end:
        read = await engine.read(where, offset, max_bytes=READ_BYTES)
        for stored in read.records:
            loader.take(codec.decode(where, stored))
        offset = read.next_offset
        end = read.bounds.high_watermark
    return end
