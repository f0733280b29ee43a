"""Reading a topic without a group: where each partition starts and ends, and what comes next.

What lives here: the state of one reader. What may not: waiting, sockets. Invariants: records of a partition come in their
order, each once; a reader that does not follow ends at what there was when it began.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from logbroker.client.calls.records import FetchMany, Position, Record
from logbroker.client.calls.topics import Bounds, FindOffset, ListPartitions
from logbroker.client.durations import instant_ms
from logbroker.client.flows import Flow, all_pages, do
from logbroker.client.positions import Snapshot, Start, position_of
from logbroker.errors import InvalidOffset, LogbrokerError, PartitionDamaged, UnknownTopicOrPartition

WAIT_MS = 10_000
"""How long one fetch waits for more, when following."""
_PARTITIONS_AT_ONCE = 1_000


class TopicReader:
    """Reads ``topic`` from ``start``; ``more`` gives the next records, or None at the end."""

    def __init__(
        self, topic: str, start: Start, *, follow: bool, filter: str | None, partitions: Sequence[int] | None
    ) -> None:
        if isinstance(start, Snapshot):
            raise InvalidOffset("a snapshot is the place of a subscription; a topic is read from an offset or a time")
        position_of(start)
        self._topic = topic
        self._start = start
        self._follow = follow
        self._filter = filter
        self._only = None if partitions is None else frozenset(partitions)
        self._offsets: dict[int, int] | None = None
        self._ends: dict[int, int] = {}
        self._turn = 0

    @property
    def positions(self) -> Mapping[int, int]:
        """The next offset of each partition."""
        return dict(self._offsets or {})

    def more(self) -> Flow[list[Record] | None]:
        """The next records; perhaps none yet, when following. None when all is read."""
        if self._offsets is None:
            self._offsets = yield from self._begin()
        wanted = self._wanted(self._offsets)
        if not wanted:
            return None
        wait_ms = WAIT_MS if self._follow else 0
        answers = yield from do(FetchMany(wanted, wait_ms=wait_ms, filter=self._filter))
        records: list[Record] = []
        failure: LogbrokerError | None = None
        for answer in answers:
            failure = failure or answer.error
            partition = answer.position.partition
            end = self._ends.get(partition)
            records += answer.records if end is None else [one for one in answer.records if one.offset < end]
            self._offsets[partition] = answer.next_offset
        if failure is not None and not records:
            raise failure
        return records

    def _wanted(self, offsets: Mapping[int, int]) -> list[Position]:
        """What to ask for; partitions take turns at the front, where the limits of a fetch do not cut."""
        open_ones = [
            Position(self._topic, partition, offset)
            for partition, offset in sorted(offsets.items())
            if self._follow or offset < self._ends[partition]
        ]
        first = self._turn % len(open_ones) if open_ones else 0
        self._turn += 1
        return (open_ones[first:] + open_ones[:first])[:_PARTITIONS_AT_ONCE]

    def _begin(self) -> Flow[dict[int, int]]:
        found = yield from all_pages(lambda token: ListPartitions(self._topic, token))
        bounds = [one for one in found if self._only is None or one.partition in self._only]
        named = self._start if isinstance(self._start, Mapping) else {}
        missing = sorted({*(self._only or ()), *named} - {one.partition for one in found}, key=str)
        if missing:
            raise UnknownTopicOrPartition(f"topic {self._topic!r} has no partition {missing[0]}", topic=self._topic)
        offsets: dict[int, int] = {}
        for one in bounds:
            if one.log_start_offset is None or one.last_stable_offset is None:
                raise PartitionDamaged(f"{self._topic}-{one.partition} cannot be read", partition=one.partition)
            if not self._follow:
                self._ends[one.partition] = one.last_stable_offset
            offsets[one.partition] = yield from self._first(one, one.log_start_offset, one.last_stable_offset)
        return offsets

    def _first(self, bounds: Bounds, begin: int, end: int) -> Flow[int]:
        start = self._start
        if isinstance(start, datetime):
            found = yield from do(FindOffset(self._topic, bounds.partition, instant_ms(start)))
            return end if found.offset is None else found.offset
        if isinstance(start, Mapping):
            return start.get(bounds.partition, begin)
        if isinstance(start, int):
            return start
        return begin if start == "earliest" else end
