"""Copies of messages: how a record of the retry or dead-letter topic is made from the record it takes over.

What lives here: the recipes. What may not: when a copy is made (the lease machine decides), reading and appending.
Invariants: key, value and the message's own headers are copied as they are (a redrive may edit them); the id never
changes; a copy names the one position it takes over. A copy carries no time stamp of its own, the log stamps it.
"""

from dataclasses import dataclass

from logbroker.model import Header, Now, Record, StoredRecord, TopicPartition
from logbroker.queues import headers as h
from logbroker.queues.headers import CopyHeader, Reason
from logbroker.queues.positions import MessageId, Place, Position, Source


@dataclass(frozen=True, slots=True)
class Edit:
    """What a redrive changes; None leaves as it is."""

    value: bytes | None = None
    headers: tuple[Header, ...] | None = None


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The recipe of one copy.

    ``cause`` is what happened (and goes into the history), ``reason`` why the copy stands where it stands: the two differ
    when a failure was the last one. ``lean`` keeps only what the protocol needs, for a copy that was found too large.
    """

    place: Place
    generation: int
    position: Position
    first: Position
    failures: int
    deliveries: int
    due_ms: int
    at_ms: int
    cause: Reason
    reason: Reason
    error: str | None = None
    edit: Edit | None = None
    lean: bool = False

    @property
    def original(self) -> tuple[TopicPartition, int]:
        """Where the record stands that is copied."""
        return self.place.topic(self.position.source), self.position.offset

    def make(self, original: StoredRecord) -> Record:
        """The copy of ``original``."""
        redriven = self.cause is Reason.REDRIVEN
        own = h.plain(original.headers, without=(h.TTL_MS, h.DEDUP_ID) if redriven else ())
        value = original.value
        if self.edit is not None:
            own = own if self.edit.headers is None else h.plain(self.edit.headers)
            value = value if self.edit.value is None else self.edit.value
        return Record(value, original.key, own + h.encoded(self._header(self._before(original))))

    def _before(self, original: StoredRecord) -> CopyHeader:
        if self.position.source is not Source.SOURCE:
            return h.decoded(original.headers)
        at = original.timestamp_ms
        return CopyHeader(
            0, 0, None, None, 0, 0, 0, at, at, queue=self.place.queue, topic=self.place.source.topic, reason=self.reason
        )

    def _header(self, before: CopyHeader) -> CopyHeader:
        redriven = self.cause is Reason.REDRIVEN
        error = h.clipped(self.error)
        header = before._replace(
            incarnation=self.place.incarnation,
            generation=self.generation,
            replaces=self.position,
            id=MessageId(self.place.incarnation, self.place.partition, self.first),
            failures=self.failures,
            deliveries=self.deliveries,
            due_ms=self.due_ms,
            ttl_from_ms=self.due_ms if redriven else before.ttl_from_ms,
            queue=self.place.queue,
            reason=self.reason,
            redriven=before.redriven + redriven,
            first_error=error if before.first_error is None else before.first_error,
            last_error=before.last_error if error is None else error,
        )
        return self._lean(header) if self.lean else self._with_history(header)

    def _with_history(self, header: CopyHeader) -> CopyHeader:
        if self.cause is Reason.DELAYED:
            return header
        return header._replace(history=h.extended(header.happened(), self.place.queue, self.cause, self.at_ms))

    def _lean(self, header: CopyHeader) -> CopyHeader:
        first, last = header.first_error, header.last_error
        return header._replace(
            history=None,
            first_error=None if first is None else h.shortened(first, h.LEAN_ERROR_BYTES),
            last_error=None if last is None else h.shortened(last, h.LEAN_ERROR_BYTES),
        )


def delayed(place: Place, generation: int, record: Record, due_ms: int, now: Now) -> Record:
    """A message that is published for later: it goes to the retry topic at once and takes over nothing.

    Its time to live counts from when it is due.
    """
    header = CopyHeader(
        place.incarnation,
        generation,
        None,
        None,
        failures=0,
        deliveries=0,
        due_ms=due_ms,
        timestamp_ms=now.wall_ms if record.timestamp_ms is None else record.timestamp_ms,
        ttl_from_ms=due_ms,
        queue=place.queue,
        topic=place.source.topic,
        reason=Reason.DELAYED,
    )
    return Record(record.value, record.key, h.plain(record.headers) + h.encoded(header))
