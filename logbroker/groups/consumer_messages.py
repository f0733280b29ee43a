"""What members of the consumer protocol say and hear (KIP-848), and what administrators see of them, as data.

What lives here: the words of that protocol beside those of ``messages``, which both protocols share. What may not:
decisions, wire formats.
"""

from dataclasses import dataclass
from typing import Protocol

from logbroker.groups.consumer_events import TopicFacts
from logbroker.model import TopicPartition


class Catalogue(Protocol):
    """The topics there are. It does not change while a group decides."""

    def facts(self, topic: str) -> TopicFacts | None:
        """Id and number of partitions; None for a topic that does not exist."""
        ...

    def matching(self, pattern: str) -> frozenset[str]:
        """The names that a pattern matches, the broker's own topics left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerHeartbeat:
    """All that a member of the consumer protocol ever says (KIP-848): that it lives, what it wants and what it owns.

    ``epoch`` is the last one it was told; 0 enters, -1 leaves, -2 leaves for a while (static members). ``owned`` None, and
    every other None: as it said before. An empty ``pattern`` is none. ``catalogue`` is the coordinator's.
    """

    member_id: str
    epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int | None = None
    topics: tuple[str, ...] | None = None
    pattern: str | None = None
    assignor: str | None = None
    owned: frozenset[TopicPartition] | None = None
    catalogue: Catalogue | None = None


@dataclass(frozen=True, slots=True)
class Beaten:
    """The answer to a consumer heartbeat. ``assignment`` is all that the member owns now, None where it knows that."""

    member_id: str
    epoch: int
    interval_ms: int
    assignment: tuple[TopicPartition, ...] | None = None


@dataclass(frozen=True, slots=True)
class ConsumerMemberView:
    """What only a member of a consumer group has. ``is_classic``: it speaks the classic protocol to it."""

    epoch: int
    topics: tuple[str, ...]
    pattern: str | None
    rack_id: str | None
    owned: tuple[TopicPartition, ...]
    target: tuple[TopicPartition, ...]
    is_classic: bool


@dataclass(frozen=True, slots=True)
class ConsumerGroupView:
    """What only a group of the consumer protocol has; its group epoch is the ``generation``."""

    assignment_epoch: int
