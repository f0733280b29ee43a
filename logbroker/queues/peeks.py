"""A message as somebody sees it who does not receive it, and which of them are meant.

What lives here: the values, and simple filters on them. What may not: where messages are found.
Invariant: looking at a message changes nothing about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from logbroker.filters import DeadLetterFacts, Filter, Verdict
from logbroker.model import Header, StoredRecord, TopicPartition
from logbroker.queues.bands import band_of
from logbroker.queues.headers import CopyHeader, Happened, decoded, plain
from logbroker.queues.messages import first_index
from logbroker.queues.positions import MessageId, Place, Position, Source, first_of


class MessageState(StrEnum):
    """Where a message is on its way."""

    READY = "ready"
    IN_FLIGHT = "in_flight"
    DELAYED = "delayed"
    RETRYING = "retrying"
    DEAD = "dead"


class Peeked(NamedTuple):
    """One message. ``copy`` holds the reserved headers of a retry or a dead letter; ``headers`` are the message's own."""

    id: MessageId
    state: MessageState
    position: Position
    priority: int
    record: StoredRecord
    headers: tuple[Header, ...]
    copy: CopyHeader | None
    deliveries: int
    failures: int
    consumer: str | None = None
    lease_ends_ms: int | None = None

    @property
    def timestamp_ms(self) -> int:
        """When it was sent."""
        return self.record.timestamp_ms if self.copy is None else self.copy.timestamp_ms

    @property
    def due_ms(self) -> int | None:
        """When it is to be delivered, where that was said."""
        return None if self.copy is None else self.copy.due_ms

    @property
    def reason(self) -> str | None:
        """Why it stands where it stands, unless it stands where it was sent to."""
        return None if self.copy is None else self.copy.reason

    @property
    def first_error(self) -> str | None:
        """The error of its first failure."""
        return None if self.copy is None else _text(self.copy.first_error)

    @property
    def last_error(self) -> str | None:
        """The error of its last failure."""
        return None if self.copy is None else _text(self.copy.last_error)

    @property
    def history(self) -> list[Happened]:
        """What happened to it."""
        return [] if self.copy is None else self.copy.happened()


def peeked(record: StoredRecord, source: Source, state: MessageState, place: Place, priorities: int) -> Peeked:
    """The message in a record. Raises CorruptMessage for a record of a copy topic that is none."""
    copy = None if source is Source.SOURCE else decoded(record.headers)
    position = Position(source, record.offset)
    return Peeked(
        MessageId(
            place.incarnation, place.partition, position if copy is None else first_of(first_index(copy, record.offset))
        ),
        state,
        position,
        band_of(place.partition, priorities),
        record,
        record.headers if copy is None else plain(record.headers),
        copy,
        0 if copy is None else copy.deliveries,
        0 if copy is None else copy.failures,
    )


@dataclass(frozen=True, slots=True)
class PeekFilter:
    """Which messages are meant: those that match every part given. ``error`` is a part of the last error.

    ``expression`` sees the message as it was sent: its own headers, topic, time stamp, and the offset that its id names.
    """

    key: bytes | None = None
    headers: Mapping[str, bytes] | None = None
    reason: str | None = None
    error: str | None = None
    ids: frozenset[str] | None = None
    expression: Filter | None = None

    def verdict(self, message: Peeked, queue: str) -> Verdict:
        """Whether this one is, of a queue."""
        if not self._matches(message):
            return Verdict.NO_MATCH
        return Verdict.MATCH if self.expression is None else self._asked(self.expression, message, queue)

    @staticmethod
    def _asked(expression: Filter, message: Peeked, queue: str) -> Verdict:
        stands = message.record
        record = StoredRecord(message.id.first.offset, message.timestamp_ms, stands.key, stands.value, message.headers)
        where = TopicPartition(queue if message.copy is None else message.copy.topic, message.id.partition)
        letter = DeadLetterFacts(message.last_error, message.failures, message.reason or "")
        return expression.verdict(record, where, letter)

    def _matches(self, message: Peeked) -> bool:
        return (
            (self.key is None or message.record.key == self.key)
            and (self.reason is None or message.reason == self.reason)
            and (self.error is None or self.error in (message.last_error or ""))
            and (self.ids is None or str(message.id) in self.ids)
            and (not self.headers or self._has_headers(message))
        )

    def _has_headers(self, message: Peeked) -> bool:
        assert self.headers is not None, "asked only then"
        last = dict(message.headers)
        return all(last.get(name) == value for name, value in self.headers.items())


EVERYTHING = PeekFilter()


def _text(error: bytes | None) -> str | None:
    return None if error is None else error.decode(errors="replace")
