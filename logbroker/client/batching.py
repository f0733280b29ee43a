"""What a producer has taken and not yet written: records in their order, cut into requests.

What lives here: the buffer, the cutting, and what becomes of records when a request fails. What may not: waiting, sockets.
Invariants: records leave in the order they came, and one request at a time, so that order and sequence numbers hold;
every record gets exactly one outcome; a record that is refused by itself takes no other with it.
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from logbroker.client.calls.queues import GetQueue
from logbroker.client.calls.records import Outgoing, Produce, ProducerId, RecordMetadata, RegisterProducer
from logbroker.client.calls.topics import GetTopic
from logbroker.client.durations import Instant, instant_ms
from logbroker.client.flows import Flow, do, succeeded
from logbroker.client.payloads import HeadersGiven, Key, record_of
from logbroker.errors import InvalidRequest, LogbrokerError, Throttled
from logbroker.model import ProducerStamp
from logbroker.records.partitioner import partition_for_key

Ticket = TypeVar("Ticket")
Outcome = RecordMetadata | LogbrokerError

MAX_RECORDS = 1_000
MAX_BYTES = 1 << 20
MAX_BUFFERED_BYTES = 64 << 20
_RECORD_OVERHEAD = 64
_MAX_SEQUENCE = 2**31
_POINTER = re.compile(r"#/records/(\d+)")


class Taken(NamedTuple, Generic[Ticket]):
    """A record that was taken, with what its outcome is handed to."""

    record: Outgoing
    ticket: Ticket
    size: int


class Buffer(Generic[Ticket]):
    """Records that wait to be written."""

    def __init__(self) -> None:
        self._waiting: deque[Taken[Ticket]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full_batch(self) -> bool:
        """Whether one request is filled."""
        return len(self._waiting) >= MAX_RECORDS or self._bytes >= MAX_BYTES

    def add(self, record: Outgoing, ticket: Ticket) -> None:
        """Take a record. Raises Throttled when too much waits already."""
        size = _RECORD_OVERHEAD + len(record.record.value or b"") + len(record.record.key or b"")
        if self._waiting and self._bytes + size > MAX_BUFFERED_BYTES:
            raise Throttled(f"{self._bytes} bytes wait to be written: await flush() before more is sent")
        self._waiting.append(Taken(record, ticket, size))
        self._bytes += size

    def cut(self) -> list[Taken[Ticket]]:
        """Take out what goes into one request."""
        batch: list[Taken[Ticket]] = []
        size = 0
        while self._waiting and len(batch) < MAX_RECORDS and (not batch or size + self._waiting[0].size <= MAX_BYTES):
            one = self._waiting.popleft()
            batch.append(one)
            size += one.size
        self._bytes -= size
        return batch


class Batch:
    """Records that are written together, or not at all."""

    def __init__(self, partition: int | None) -> None:
        self._partition = partition
        self.records: list[Outgoing] = []
        self.metadata: list[RecordMetadata] = []
        """Where each record stands, once the context is left."""

    def add(self, value: object, *, key: Key = None, headers: HeadersGiven = (), timestamp: Instant | None = None) -> None:
        """One more record. Raises InvalidRequest."""
        at_ms = None if timestamp is None else instant_ms(timestamp)
        self.records.append(Outgoing(record_of(value, key, headers, at_ms), self._partition))


class Writing:
    """How one producer writes to ``topic``: plainly, or with the sequence numbers of an idempotent producer."""

    def __init__(self, topic: str, *, idempotent: bool) -> None:
        self.topic = topic
        self._idempotent = idempotent
        self._identity: ProducerId | None = None
        self._sequences: dict[int, int] = {}
        self._partitions = 0
        self._priorities = 1
        self._turn = 0

    def write(self, records: Sequence[Outgoing]) -> Flow[list[Outcome]]:
        """Write records; one outcome each. What is refused by itself is left out, and the others are written."""
        if self._idempotent:
            return self._write_in_sequence(records)
        return self._write(records, None)

    def write_atomically(self, records: Sequence[Outgoing]) -> Flow[list[RecordMetadata]]:
        """All records as one batch of one partition, or none. Raises the refusal."""
        if not records:
            return []
        if not self._idempotent:
            return succeeded((yield from do(Produce(self.topic, list(records), atomic=True))))
        yield from self._prepare()
        partitions = set(self._chosen(records))
        if len(partitions) > 1:
            raise InvalidRequest(
                f"an atomic batch goes to one partition, these records go to {len(partitions)}: name the partition"
            )
        return succeeded((yield from self._write_one(partitions.pop(), records)))

    def _write(self, records: Sequence[Outgoing], producer: ProducerStamp | None) -> Flow[list[Outcome]]:
        """Write, again without those that the broker has named as bad; it has written nothing then."""
        outcomes: dict[int, Outcome] = {}
        left = list(range(len(records)))
        while left:
            try:
                answers = yield from do(Produce(self.topic, [records[at] for at in left], producer=producer))
            except LogbrokerError as error:
                bad = bad_records(error, len(left))
                outcomes.update((left[at], error) for at in bad)
                left = [at for number, at in enumerate(left) if number not in bad]
            else:
                outcomes.update(zip(left, answers, strict=True))
                break
        return [outcomes[at] for at in range(len(records))]

    # -- with sequence numbers -----------------------------------------------------------------------------------------

    def _prepare(self) -> Flow[None]:
        if self._identity is None:
            topic = yield from do(GetTopic(self.topic))
            if topic.kind == "queue":
                queue = yield from do(GetQueue(self.topic))
                self._priorities = int(queue.config.get("priorities", 1))
            self._partitions = topic.partitions // self._priorities
            self._identity = yield from do(RegisterProducer())
            self._sequences.clear()

    def _write_in_sequence(self, records: Sequence[Outgoing]) -> Flow[list[Outcome]]:
        try:
            yield from self._prepare()
        except LogbrokerError as error:
            return [error] * len(records)
        places: dict[int, list[int]] = {}
        for at, partition in enumerate(self._chosen(records)):
            places.setdefault(partition, []).append(at)
        outcomes: dict[int, Outcome] = {}
        for partition, chosen in places.items():
            written = yield from self._write_one(partition, [records[at] for at in chosen])
            outcomes.update(zip(chosen, written, strict=True))
        return [outcomes[at] for at in range(len(records))]

    def _write_one(self, partition: int, records: Sequence[Outgoing]) -> Flow[list[Outcome]]:
        """One partition's part. After a failure it is not known what was written, so the producer begins anew."""
        yield from self._prepare()
        assert self._identity is not None, "prepared"
        sequence = self._sequences.get(partition, 0)
        stamp = ProducerStamp(self._identity.producer_id, self._identity.epoch, sequence)
        outcomes = yield from self._write([one._replace(partition=partition) for one in records], stamp)
        written = sum(isinstance(one, RecordMetadata) for one in outcomes)
        if any(isinstance(one, LogbrokerError) and not _was_refused(one) for one in outcomes):
            self._identity = None
        else:
            self._sequences[partition] = (sequence + written) % _MAX_SEQUENCE
        return outcomes

    def _chosen(self, records: Sequence[Outgoing]) -> list[int]:
        """A partition for each record: the given one, else by key as Kafka does it, else one for all, in turn."""
        self._turn += 1
        without_key = self._turn % self._partitions
        return [
            one.partition
            if one.partition is not None
            else self._priorities
            * (without_key if one.record.key is None else partition_for_key(one.record.key, self._partitions))
            for one in records
        ]


def _was_refused(error: LogbrokerError) -> bool:
    """Whether the broker has said that nothing was written, since the request was wrong as it stood."""
    return not error.retriable and "errors" in error.fields


def bad_records(error: LogbrokerError, count: int) -> set[int]:
    """Which of ``count`` records an error is about: those it names by pointer, else all of them."""
    named = {
        int(found[1])
        for problem in error.fields.get("errors", ())
        if (found := _POINTER.match(str(problem.get("pointer", "")))) is not None
    }
    named = {at for at in named if at < count}
    return named or set(range(count))
