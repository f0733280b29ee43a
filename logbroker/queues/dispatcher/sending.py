"""What a send leads to, and which sends were made before.

What lives here: the deduplication of one queue: its window, rebuilt from the log when it is first asked for, and waiting
for sends of the same id that are under way. What may not: writing.
Invariants: an id counts from when it was first accepted; only a durable send makes an id known.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import CorruptMessage, PartitionDamaged, UnknownTopicOrPartition
from logbroker.model import Header, StoredRecord, TopicPartition
from logbroker.queues.dedup import Accepted, DedupWindow
from logbroker.queues.dispatcher.partition import READ_BYTES, QueuePartition
from logbroker.queues.headers import DEDUP_ID, decoded
from logbroker.queues.positions import MessageId, Position, Source


class Sent(NamedTuple):
    """A message is durable. ``offset`` is None for one that is kept back: it is not in the queue's topic."""

    id: MessageId
    partition: int
    offset: int | None
    duplicate: bool = False


class Deduplication:
    """The sends of one queue that carry an id."""

    def __init__(self, engine: Engine, clock: Clock, partitions: Sequence[QueuePartition], window_ms: int) -> None:
        self._engine = engine
        self._clock = clock
        self._partitions = partitions
        self._window: DedupWindow[Sent] = DedupWindow(window_ms)
        self._under_way: dict[str, asyncio.Event] = {}
        self._loading = asyncio.Lock()
        self._is_loaded = False
        self._kept_back: dict[int, deque[tuple[int, int]]] = {}
        """By partition, the retry offsets of messages with an id that were published for later, and since when."""
        self._ends_at_start: dict[int, int] = {}

    def configure(self, window_ms: int) -> None:
        """Another window from now on."""
        self._window.window_ms = window_ms

    async def begin(self, ids: Sequence[str]) -> dict[str, Sent]:
        """Begin the sends of these ids that are new; for the others, the original. ``end`` has to follow."""
        await self._load()
        while busy := [self._under_way[one] for one in ids if one in self._under_way]:
            await busy[0].wait()
        now_ms = self._clock.now().wall_ms
        known = {one: found.place for one in ids if (found := self._window.original(one, now_ms)) is not None}
        for one in set(ids) - known.keys():
            self._window.begin(one)
            self._under_way[one] = asyncio.Event()
        return known

    def end(self, dedup_id: str, sent: Sent | None) -> None:
        """A send that was begun is durable, or has failed and may be tried again."""
        now_ms = self._clock.now().wall_ms
        self._window.end(dedup_id, None if sent is None else Accepted(sent, now_ms))
        if sent is not None:
            self._keep_back(sent, now_ms)
        self._under_way.pop(dedup_id).set()

    def _keep_back(self, sent: Sent, at_ms: int) -> None:
        if sent.id.first.source is Source.RETRY:
            self._kept_back.setdefault(sent.partition, deque()).append((sent.id.first.offset, at_ms))

    async def floor(self, partition: QueuePartition, source: Source) -> int | None:
        """The lowest offset of a topic whose id may still be asked for after a restart.

        Copies are no sends, so of the retry topic only messages that were published for later are needed; before the window
        was loaded, whatever was there at the start and is young enough may be one.
        """
        since = self._clock.now().wall_ms - self._window.window_ms
        kept = self._kept_back.get(partition.number, deque())
        while kept and kept[0][1] < since:
            kept.popleft()
        young = await self._first_since(partition, source, since)
        if source is Source.SOURCE:
            return young
        end = self._ends_at_start.setdefault(partition.number, (await partition.bounds(source)).high_watermark)
        if not self._is_loaded and young is not None and young < end:
            return young
        return kept[0][0] if kept else None

    async def _first_since(self, partition: QueuePartition, source: Source, since_ms: int) -> int | None:
        try:
            found = await self._engine.offset_at(partition.place.topic(source), since_ms)
        except (UnknownTopicOrPartition, PartitionDamaged):
            return None
        return None if found is None else found.offset

    # -- loading ---------------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        async with self._loading:
            if not self._is_loaded:
                for partition in self._partitions:
                    await self._read(partition, Source.SOURCE)
                    await self._read(partition, Source.RETRY)
                self._is_loaded = True

    async def _read(self, partition: QueuePartition, source: Source) -> None:
        """Read what was appended since the window began."""
        where = partition.place.topic(source)
        since = self._clock.now().wall_ms - self._window.window_ms
        offset = await self._first_since(partition, source, since)
        while offset is not None:
            records, offset = await self._slice(where, offset)
            for record in records:
                self._remember(partition, source, record)
            await asyncio.sleep(0)

    async def _slice(self, where: TopicPartition, offset: int) -> tuple[list[StoredRecord], int | None]:
        try:
            read = await self._engine.read(where, offset, max_bytes=READ_BYTES)
        except CorruptMessage as error:
            return [], error.fields["next_offset"]
        return read.records, read.next_offset if read.next_offset > offset else None

    def _remember(self, partition: QueuePartition, source: Source, record: StoredRecord) -> None:
        dedup_id = _dedup_id(record.headers)
        if dedup_id is None or (source is Source.RETRY and not _is_first(record)):
            return
        place = partition.place
        message_id = MessageId(place.incarnation, place.partition, Position(source, record.offset))
        sent = Sent(message_id, place.partition, record.offset if source is Source.SOURCE else None)
        self._window.remember(dedup_id, Accepted(sent, record.timestamp_ms))
        self._keep_back(sent, record.timestamp_ms)


def _dedup_id(headers: Sequence[Header]) -> str | None:
    value = next((value for name, value in headers if name == DEDUP_ID), None)
    return None if value is None else value.decode(errors="replace")


def _is_first(record: StoredRecord) -> bool:
    """Whether a record of the retry topic is a message that was published for later, and no copy."""
    try:
        return decoded(record.headers).replaces is None
    except CorruptMessage:
        return False
