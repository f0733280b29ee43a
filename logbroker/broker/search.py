"""Search: the records of a topic that match, in a range, forward or back, as far as one is willing to look.

What lives here: what is left to look at, and the walk over it. What may not: formats of a door, waiting for new records.
Invariants: ``left`` always says what was not looked at yet, so that a search can stop anywhere and go on from there; each
record of the range is looked at once over all parts of a search; a search looks at no more than its budget, exceeded by
what is read at once. Partitions take turns; within one, records come in the order of the direction.
"""

from collections.abc import AsyncIterator
from typing import Literal, NamedTuple, TypeAlias

from logbroker.broker.filtering import READ_BYTES, Extent, Filtering, Scanned
from logbroker.broker.waiting import Waiting
from logbroker.config import MIB
from logbroker.engine.api import Isolation
from logbroker.errors import OffsetOutOfRange
from logbroker.filters import Filter
from logbroker.model import StoredRecord, TopicPartition

PROGRESS_BYTES = 4 * MIB
"""After how much looked at there is word of it."""
_WINDOW_BYTES = 4 * MIB
_FIRST_SPAN, _MAX_SPAN = 64, 1 << 20
_ALL = 1 << 62

Direction: TypeAlias = Literal["forward", "back"]
Left: TypeAlias = dict[int, tuple[int, int]]
"""By partition, the offsets that are to be looked at: from the first up to, not including, the second."""


class Reach(NamedTuple):
    """How far one part of a search goes."""

    limit: int
    """The most records found."""
    budget_bytes: int
    """About the most bytes of keys and values looked at."""


class Found(NamedTuple):
    """A record that matches."""

    partition: int
    record: StoredRecord


class Progress(NamedTuple):
    """How far a search is."""

    matched: int
    scanned: int
    scanned_bytes: int
    trimmed: int
    """Offsets that were deleted before they were looked at."""
    offsets_left: int


Reason: TypeAlias = Literal["complete", "limit", "budget", "stopping"]


class Ended(NamedTuple):
    """Why a search stops here."""

    reason: Reason
    progress: Progress


Event: TypeAlias = Found | Progress | Ended


class Search:
    """One search of a topic, over what is ``left``."""

    def __init__(
        self, filtering: Filtering, waiting: Waiting, topic: str, wanted: Filter | None, direction: Direction, left: Left
    ) -> None:
        self.left = {partition: (low, high) for partition, (low, high) in left.items() if low < high}
        self._filtering = filtering
        self._waiting = waiting
        self._topic = topic
        self._wanted = wanted
        self._step = self._forward if direction == "forward" else self._back
        self._spans: dict[int, int] = {}
        self._matched = self._scanned = self._scanned_bytes = self._trimmed = 0

    async def events(self, reach: Reach) -> AsyncIterator[list[Event]]:
        """What is found, and how far it is; the last is an ``Ended``. Often nothing, so that a caller can stop.

        With each list, ``left`` is what is to be looked at after it. Raises UnknownTopicOrPartition, PartitionDamaged,
        CorruptMessage.
        """
        told = 0
        while (reason := self._reason(reach)) is None:
            for partition in list(self.left):
                if self._reason(reach) is not None:
                    break
                events: list[Event] = [*await self._turn(partition, reach.limit - self._matched)]
                if self._scanned_bytes - told >= PROGRESS_BYTES:
                    told = self._scanned_bytes
                    events.append(self._progress())
                yield events
        yield [Ended(reason, self._progress())]

    def _reason(self, reach: Reach) -> Reason | None:
        if not self.left:
            return "complete"
        if self._matched >= reach.limit:
            return "limit"
        if self._scanned_bytes >= reach.budget_bytes:
            return "budget"
        return "stopping" if self._waiting.closing else None

    def _progress(self) -> Progress:
        left = sum(high - low for low, high in self.left.values())
        return Progress(self._matched, self._scanned, self._scanned_bytes, self._trimmed, left)

    async def _turn(self, partition: int, room: int) -> list[Found]:
        try:
            found = await self._step(partition, room)
        except OffsetOutOfRange as error:
            self._skip_trimmed(partition, error.fields["log_start_offset"])
            return []
        self._matched += len(found)
        return [Found(partition, record) for record in found]

    def _skip_trimmed(self, partition: int, log_start: int) -> None:
        low, high = self.left[partition]
        inside = min(max(low, log_start), high)
        self._trimmed += inside - low
        self._leave(partition, inside if inside > low else high, high)  # what cannot be read at all is not left

    def _leave(self, partition: int, low: int, high: int) -> None:
        """From now on only that is left of a partition."""
        if low < high:
            self.left[partition] = low, high
        else:
            del self.left[partition]

    def _count(self, scanned: Scanned) -> None:
        self._scanned += scanned.scanned
        self._scanned_bytes += scanned.scanned_bytes

    async def _forward(self, partition: int, room: int) -> list[StoredRecord]:
        low, high = self.left[partition]
        extent = Extent(room, READ_BYTES, READ_BYTES, Isolation.READ_COMMITTED, high)
        scanned = await self._filtering.scan(TopicPartition(self._topic, partition), low, self._wanted, extent)
        self._count(scanned)
        self._leave(partition, scanned.next_offset if scanned.next_offset > low else high, high)
        return scanned.records

    async def _back(self, partition: int, room: int) -> list[StoredRecord]:
        """The last records of what is left, the latest first: a window of offsets, as large as one read would be."""
        low, high = self.left[partition]
        span = self._spans.get(partition, _FIRST_SPAN)
        begin = max(low, high - span)
        extent = Extent(_ALL, _WINDOW_BYTES, _WINDOW_BYTES, Isolation.READ_COMMITTED, high)
        scanned = await self._filtering.scan(TopicPartition(self._topic, partition), begin, self._wanted, extent)
        if begin < scanned.next_offset < high and span > 1:  # larger than what is kept in memory
            self._spans[partition] = max(1, span // 8)
            return []
        self._count(scanned)
        if scanned.scanned_bytes < READ_BYTES // 2:
            self._spans[partition] = min(_MAX_SPAN, span * 2)
        elif scanned.scanned_bytes > READ_BYTES * 2:
            self._spans[partition] = max(1, span // 2)
        latest = scanned.records[::-1]
        found = latest[:room]
        self._leave(partition, low, found[-1].offset if len(latest) > room else begin)
        return found
