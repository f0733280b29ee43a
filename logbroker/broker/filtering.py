"""Reading with a filter: which records match, and how far one request may look for them.

What lives here: filters applied to what is read, and the read that goes on until it has found enough. What may not: formats
of a door, waiting. Invariants: judging does not hold the loop (``pubsub.judging``); a scan ends at its limits whatever
matches, and ``next_offset`` says where to go on, so that nothing is looked at twice or passed over.
"""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from logbroker.config import MIB
from logbroker.engine.api import Engine, Isolation
from logbroker.filters import Filter, Verdict
from logbroker.metrics import Metrics
from logbroker.model import Bounds, StoredRecord, TopicPartition
from logbroker.pubsub.judging import judged

READ_BYTES = 256 * 1024
"""How much is read and decoded at once."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a scan may find and look at. ``end`` is the offset where it stops, None for the end of the log."""

    max_records: int
    max_bytes: int
    """Of keys and values found; one record is found however large."""
    budget_bytes: int = 8 * MIB
    """Of keys and values looked at; exceeded by what is read at once."""
    isolation: Isolation = Isolation.READ_UNCOMMITTED
    end: int | None = None


class Scanned(NamedTuple):
    """What a scan found: the records that match, where to go on, and how much was looked at."""

    records: list[StoredRecord]
    next_offset: int
    bounds: Bounds
    scanned: int
    scanned_bytes: int


class Filtering:
    """Filters over the records of topics."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._errors = metrics.counter("filter_errors_total", "Records on which a filter failed, so no match.", ("topic",))

    async def select(self, wanted: Filter | None, where: TopicPartition, records: list[StoredRecord]) -> list[StoredRecord]:
        """Those of the records that match, in order; without a filter all of them."""
        if wanted is None:
            return records
        verdicts = await judged(lambda record: wanted.verdict(record, where), records, heavy=wanted.heavy)
        if errors := verdicts.count(Verdict.ERROR):
            self._errors.add(errors, where.topic)
        return [one for one, verdict in zip(records, verdicts, strict=True) if verdict is Verdict.MATCH]

    async def scan(self, where: TopicPartition, offset: int, wanted: Filter | None, extent: Extent) -> Scanned:
        """Look from ``offset`` on for records that match, until one of the limits is reached.

        Raises OffsetOutOfRange, UnknownTopicOrPartition, PartitionDamaged, CorruptMessage.
        """
        found: list[StoredRecord] = []
        size = scanned = scanned_bytes = 0
        while True:
            await asyncio.sleep(0)  # a read of what is cached does not wait, and neither may whoever scans on and on
            read = await self._engine.read(where, offset, max_bytes=READ_BYTES, isolation=extent.isolation)
            records = read.records if extent.end is None else [one for one in read.records if one.offset < extent.end]
            for record in await self.select(wanted, where, records):
                more = size_of(record)
                if len(found) >= extent.max_records or (found and size + more > extent.max_bytes):
                    passed = [one for one in records if one.offset < record.offset]
                    counted = scanned_bytes + sum(map(size_of, passed))
                    return Scanned(found, record.offset, read.bounds, scanned + len(passed), counted)
                found.append(record)
                size += more
            stands, offset = offset, read.next_offset
            scanned, scanned_bytes = scanned + len(records), scanned_bytes + sum(map(size_of, records))
            full = len(found) >= extent.max_records or size >= extent.max_bytes or scanned_bytes >= extent.budget_bytes
            if extent.end is not None and offset >= extent.end:
                return Scanned(found, max(stands, extent.end), read.bounds, scanned, scanned_bytes)
            if full or offset == stands:
                return Scanned(found, offset, read.bounds, scanned, scanned_bytes)


def size_of(record: StoredRecord) -> int:
    """Bytes of key and value."""
    return len(record.key or b"") + len(record.value or b"")
