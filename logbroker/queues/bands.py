"""Priorities as bands of partitions: which partitions a priority owns, and whose turn it is.

What lives here: the arithmetic and the choice. What may not: what stands in a partition.
Invariant: the band of a partition is its number modulo the number of priorities; partition counts are multiples of that and
grow by multiples, so a partition never changes its band, and neither does a message that is retried.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from logbroker.records.partitioner import partition_for_key


class PriorityMode(StrEnum):
    """Strict: the highest priority that has something. Weighted: in proportion, so that none starves."""

    STRICT = "strict"
    WEIGHTED = "weighted"


def band_of(partition: int, priorities: int) -> int:
    """The priority a partition belongs to."""
    return partition % priorities


def partitions_of(priority: int, priorities: int, partitions: int) -> range:
    """The partitions of a priority."""
    return range(priority, partitions, priorities)


def partition_for(key: bytes | None, turn: int, priority: int, priorities: int, partitions: int) -> int:
    """The partition of a message: by its key as every Kafka client has it, within the band; without a key by ``turn``."""
    width = partitions // priorities
    within = turn % width if key is None else partition_for_key(key, width)
    return priorities * within + priority


@dataclass(slots=True)
class BandChoice:
    """Whose turn it is. Weighted is smooth weighted round robin: priority p of P weighs p + 1."""

    mode: PriorityMode
    priorities: int
    _credit: list[int] = field(default_factory=list)

    def choose(self, bands: Collection[int]) -> int:
        """The band to serve, of those that have something (at least one)."""
        if self.mode is PriorityMode.STRICT:
            return max(bands)
        self._credit = self._credit or [0] * self.priorities
        for band in bands:
            self._credit[band] += band + 1
        chosen = max(bands, key=lambda band: (self._credit[band], band))
        self._credit[chosen] -= sum(band + 1 for band in bands)
        return chosen
