"""Deleting payloads whose records are gone, and uploads that never got a record.

What lives here: finding references in the log, and deciding what nobody can need any more. What may not: stores' formats.
Invariant: nothing is deleted before every topic was read to its end in this pass; a payload lives as long as any record
that refers to it, in whichever topic: a retry, a dead letter or a replayed copy keeps it as well as its first record does.

A pass reads on where the last one ended; after a start from the beginning, but only while the store holds something.
Batches are searched as bytes, and decoded only where the mark of a reference occurs or compression hides it. What
compaction has removed is noticed at the next start. Only the broker's own folder is collected: a bucket has rules of its
own for that, and may be shared with others whose records are not here.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from logbroker.broker.claims import LOCAL, Claims
from logbroker.claims.reference import HEADER, decoded, is_claim
from logbroker.claims.stores import Stored
from logbroker.clock import Clock
from logbroker.config import DAY_MS
from logbroker.engine.api import INTERNAL, Buffer, Engine, RawBatches
from logbroker.errors import ClaimInvalid, CorruptMessage, OffsetOutOfRange, PartitionDamaged, UnknownTopicOrPartition
from logbroker.metrics import Metrics
from logbroker.model import StoredRecord, TopicPartition
from logbroker.records.batch import Compression, iter_headers
from logbroker.records.codec import decode

UNREFERRED_MS = DAY_MS
"""How long an upload may stay without a record that refers to it."""
_READ_BYTES = 1 << 20
_MARK = HEADER.encode()


class _Place(NamedTuple):
    """One partition of one topic; a topic of the same name made later is another place."""

    topic_id: UUID
    partition: int


References = Mapping[str, Mapping[_Place, int]]
"""By object, the last offset of each partition that refers to it."""


class ClaimCollector:
    """What is known of references so far, and a pass."""

    def __init__(self, engine: Engine, claims: Claims, clock: Clock, metrics: Metrics) -> None:
        self._engine = engine
        self._claims = claims
        self._clock = clock
        self._positions: dict[_Place, int] = {}
        self._references: dict[str, dict[_Place, int]] = {}
        self._collected = metrics.counter("claims_collected_total", "Stored payloads deleted because no record needs them.")

    async def collect(self) -> int:
        """Delete what nobody can need, and return how many objects that were. Raises StorageError."""
        store = self._claims.store(LOCAL)
        stored = await asyncio.to_thread(store.list)
        if not stored:
            return 0
        now_ms = self._clock.now().wall_ms
        starts: dict[_Place, int] = {}
        whole = True
        for info in list(self._engine.topics()):
            if info.owner == INTERNAL:
                continue
            for number in range(info.partitions):
                place, where = _Place(info.id, number), TopicPartition(info.name, number)
                try:
                    starts[place] = await self._scan(place, where)
                except UnknownTopicOrPartition:
                    continue  # deleted meanwhile
                except PartitionDamaged:
                    whole = False  # what it refers to is not known
        if not whole:
            return 0
        doomed = unneeded(stored, self._references, starts, now_ms)
        for one in doomed:
            await asyncio.to_thread(store.delete, one.id, is_finished=one.is_finished)
            self._references.pop(one.id, None)
        self._positions = {place: at for place, at in self._positions.items() if place in starts}
        self._collected.add(len(doomed))
        return len(doomed)

    async def _scan(self, place: _Place, where: TopicPartition) -> int:
        """Note the references from where the last pass ended; the log start offset."""
        bounds = await self._engine.bounds(where)
        position = max(bounds.log_start_offset, self._positions.get(place, 0))
        while position < bounds.high_watermark:
            try:
                records, position = await self._read(where, position)
            except OffsetOutOfRange as error:
                position = max(position + 1, error.fields["log_start_offset"])
                continue
            for record in records:
                self._note(place, record)
            await asyncio.sleep(0)
        self._positions[place] = position
        return (await self._engine.bounds(where)).log_start_offset

    async def _read(self, where: TopicPartition, position: int) -> tuple[Sequence[StoredRecord], int]:
        """Records among which are all that refer to an object, and where to go on."""
        raw = self._engine.raw
        if raw is not None:
            return await _read_raw(raw, where, position)
        try:
            read = await self._engine.read(where, position, max_bytes=_READ_BYTES)
        except CorruptMessage as error:
            return (), error.fields["next_offset"]
        return read.records, read.next_offset

    def _note(self, place: _Place, record: StoredRecord) -> None:
        if not is_claim(record.headers):
            return
        try:
            claim = decoded(record.value)
        except ClaimInvalid:
            return
        if claim.store == LOCAL:
            self._references.setdefault(claim.id, {})[place] = record.offset


async def _read_raw(raw: RawBatches, where: TopicPartition, position: int) -> tuple[Sequence[StoredRecord], int]:
    read = raw.read(where, position, _READ_BYTES) or await raw.read_cold(where, position, _READ_BYTES)
    records: list[StoredRecord] = []
    for chunk in read.chunks:
        for at, header in iter_headers(chunk):
            position = max(position, header.next_offset)
            if not header.is_control and _may_refer(chunk, at, header.size, header.compression):
                try:
                    records += decode(chunk, at)
                except CorruptMessage:
                    continue
    return records, position if read.chunks else read.bounds.high_watermark


def _may_refer(chunk: Buffer, at: int, size: int, compression: Compression) -> bool:
    return compression is not Compression.NONE or _MARK in bytes(memoryview(chunk)[at : at + size])


def unneeded(stored: Iterable[Stored], references: References, starts: Mapping[_Place, int], now_ms: int) -> list[Stored]:
    """The objects of which every record is gone, and those that never had one and are old enough."""
    return [one for one in stored if _is_unneeded(one, references.get(one.id), starts, now_ms)]


def _is_unneeded(one: Stored, referred: Mapping[_Place, int] | None, starts: Mapping[_Place, int], now_ms: int) -> bool:
    if referred is None or not one.is_finished:
        return one.written_ms + UNREFERRED_MS <= now_ms
    return all(place not in starts or offset < starts[place] for place, offset in referred.items())
