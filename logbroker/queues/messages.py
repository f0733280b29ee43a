"""A message as the lease machine sees it: a record of the source or retry topic with what its headers say.

What lives here: the message and how it is told from a record. What may not: what is done with it.
"""

from dataclasses import dataclass

from logbroker.model import StoredRecord
from logbroker.queues.headers import TTL_MS, CopyHeader, decoded, integer_header
from logbroker.queues.positions import Position, Source, index_of
from logbroker.queues.rules import LeaseRules


@dataclass(frozen=True, slots=True)
class Message:
    """One message that may be delivered. ``first`` is the index of its id; the counters are those of earlier deliveries."""

    position: Position
    first: int
    due_ms: int
    failures: int
    deliveries: int
    ttl_from_ms: int
    ttl_ms: int | None
    record: StoredRecord

    def expires_ms(self, rules: LeaseRules) -> int | None:
        """When its time to live ends (wall clock), or None: the lower of its own and that of the rules."""
        own = self.ttl_ms if rules.own_ttl else None
        limits = [ttl for ttl in (own, rules.ttl_ms) if ttl is not None]
        return self.ttl_from_ms + min(limits) if limits else None


@dataclass(frozen=True, slots=True)
class FoundCopy:
    """One record read from a retry or dead-letter topic; the key is wanted only where keys are ordered."""

    offset: int
    header: CopyHeader
    key: bytes | None = None

    @property
    def first(self) -> int:
        """The index of its id."""
        return first_index(self.header, self.offset)


def arrived(record: StoredRecord) -> Message:
    """A record of the source topic as a message."""
    position, at = Position(Source.SOURCE, record.offset), max(0, record.timestamp_ms)
    return Message(position, index_of(position), at, 0, 0, at, integer_header(record.headers, TTL_MS), record)


def came_back(record: StoredRecord) -> Message:
    """A record of the retry topic as a message. Raises CorruptMessage when it is not a copy."""
    copy = decoded(record.headers)
    return Message(
        Position(Source.RETRY, record.offset),
        first_index(copy, record.offset),
        copy.due_ms,
        copy.failures,
        copy.deliveries,
        copy.ttl_from_ms,
        integer_header(record.headers, TTL_MS),
        record,
    )


def first_index(copy: CopyHeader, offset: int) -> int:
    """The index of the id of a copy that stands at ``offset`` of the retry topic."""
    return index_of(Position(Source.RETRY, offset)) if copy.id is None else index_of(copy.id.first)
