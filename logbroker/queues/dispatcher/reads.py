"""Records that were decoded with others and are kept, because the others are often wanted next.

What lives here: the keeping. What may not: what a record means.
A record can only be decoded with the whole batch it was sent in. Messages of a key that are delivered one after the other,
and messages that fail together, would pay for their batch each time.
Invariants: a kept record is what the log holds, since records never change; about ``MAX_BYTES`` are kept.
"""

from collections import OrderedDict

from logbroker.config import MIB
from logbroker.engine.api import Engine, Isolation
from logbroker.model import StoredRecord, TopicPartition

MAX_BYTES = 4 * MIB
_OVERHEAD = 200
"""About what a record takes besides its key and value."""


class KeptReads:
    """The reads of single records of one queue."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._records: dict[tuple[TopicPartition, int], StoredRecord] = {}
        self._reads: OrderedDict[tuple[TopicPartition, int], tuple[list[int], int]] = OrderedDict()
        self._size = 0

    async def one(self, where: TopicPartition, offset: int) -> StoredRecord | None:
        """The record at an offset, or None where none stands. Raises as ``Engine.read``."""
        kept = self._records.get((where, offset))
        if kept is not None:
            return kept
        read = await self._engine.read(where, offset, max_bytes=1, isolation=Isolation.READ_COMMITTED)
        self._keep(where, offset, read.records)
        return read.records[0] if read.records and read.records[0].offset == offset else None

    def _keep(self, where: TopicPartition, offset: int, records: list[StoredRecord]) -> None:
        size = sum(len(record.key or b"") + len(record.value or b"") + _OVERHEAD for record in records)
        if len(records) < 2 or size > MAX_BYTES:
            return
        self._records.update(((where, record.offset), record) for record in records)
        self._reads[where, offset] = [record.offset for record in records], size
        self._size += size
        while self._size > MAX_BYTES:
            (oldest, _), (offsets, freed) = self._reads.popitem(last=False)
            self._size -= freed
            for gone in offsets:
                self._records.pop((oldest, gone), None)
