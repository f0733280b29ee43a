"""Produce (API 0), v0 to v12: the hot path in, by struct over the request's own bytes.

    request    [v3+] transactional id nullable string | acks int16 | timeout int32 | topics [
                   name string | partitions [ index int32 | records nullable bytes ] ]
    response   topics [ name string | partitions [ partition ] ] | [v1+] throttle int32 | [v10+] tag 0: node endpoints
    partition  index int32 | error int16 | base offset int64 | [v2+] append time int64 | [v5+] log start int64 |
                   [v8+] record errors [ batch index int32 | message nullable string ] | [v8+] message nullable string |
                   [v10+] tag 0: current leader
    flexible from v9. v4, 6, 7, 11 and 12 change meanings, not the layout.

What lives here: these layouts. What may not: decisions about what is in them.
Invariant: records are views into the request, never copied here; they are void once the request's handler has returned.

Leader and endpoints tell a client where a partition has moved to; on one node it has not, so they are never sent.
v0 to v2 are decoded only so that they can be refused with an answer the client understands.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from logbroker.wire.apis import Api
from logbroker.wire.primitives import CompactReader, CompactWriter, Reader, Writer

_FLEXIBLE_FROM: Final = Api.PRODUCE.flexible_from
_ACKS_TIMEOUT: Final = Struct(">hi")
_INT32: Final = Struct(">i")
_RESULT_V0: Final = Struct(">ihq")
_RESULT_V2: Final = Struct(">ihqq")
_RESULT_V5: Final = Struct(">ihqqq")


class PartitionRecords(NamedTuple):
    """What is to be appended to one partition: whole record batches, or None (which no valid client sends)."""

    partition: int
    records: memoryview | None


class TopicRecords(NamedTuple):
    """The partitions of one topic in a request."""

    name: str
    partitions: list[PartitionRecords]


class ProduceRequest(NamedTuple):
    """One request. ``acks``: 0 wants no answer at all, 1 and -1 want one when the records are durable."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[TopicRecords]


class PartitionAppended(NamedTuple):
    """The outcome for one partition; ``record_errors`` are (index of the record in its batch, message) pairs (KIP-467)."""

    partition: int
    error_code: int = 0
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    record_errors: Sequence[tuple[int, str | None]] = ()
    error_message: str | None = None


class TopicAppended(NamedTuple):
    """The outcomes for the partitions of one topic."""

    name: str
    partitions: Sequence[PartitionAppended]


def decode_request(version: int, body: memoryview) -> ProduceRequest:
    """Decode the body of a request. Raises InvalidRequest."""
    reader = CompactReader(body) if version >= _FLEXIBLE_FROM else Reader(body)
    transactional_id = reader.nullable_string() if version >= 3 else None
    acks, timeout_ms = reader.unpack(_ACKS_TIMEOUT)
    topics = [_topic(reader) for _ in range(reader.array())]
    reader.end_struct()
    return ProduceRequest(transactional_id, acks, timeout_ms, topics)


def _topic(reader: Reader) -> TopicRecords:
    name = reader.string()
    partitions = [_partition(reader) for _ in range(reader.array())]
    reader.end_struct()
    return TopicRecords(name, partitions)


def _partition(reader: Reader) -> PartitionRecords:
    partition = PartitionRecords(reader.unpack(_INT32)[0], reader.nullable_view())
    reader.end_struct()
    return partition


def encode_response(version: int, topics: Sequence[TopicAppended], throttle_time_ms: int = 0) -> bytearray:
    """Encode the body of a response."""
    writer = CompactWriter() if version >= _FLEXIBLE_FROM else Writer()
    writer.array(len(topics))
    for topic in topics:
        writer.string(topic.name)
        writer.array(len(topic.partitions))
        for partition in topic.partitions:
            _write_partition(writer, version, partition)
        writer.end_struct()
    if version >= 1:
        writer.out += _INT32.pack(throttle_time_ms)
    writer.end_struct()
    return writer.out


def _write_partition(writer: Writer, version: int, partition: PartitionAppended) -> None:
    if version >= 5:
        writer.out += _RESULT_V5.pack(*partition[:5])
    elif version >= 2:
        writer.out += _RESULT_V2.pack(*partition[:4])
    else:
        writer.out += _RESULT_V0.pack(*partition[:3])
    if version >= 8:
        writer.array(len(partition.record_errors))
        for batch_index, message in partition.record_errors:
            writer.out += _INT32.pack(batch_index)
            writer.nullable_string(message)
            writer.end_struct()
        writer.nullable_string(partition.error_message)
    writer.end_struct()
