"""Fetch (API 1), v4 to v16: the hot path out. The response is a list of buffers, so that large bodies are never copied.

    request    [-v14] replica id int32 | max wait int32 | min bytes int32 | max bytes int32 | isolation int8 |
                   [v7+] session id int32 | [v7+] session epoch int32 | topics [ topic | partitions [ wanted ] ] |
                   [v7+] forgotten [ topic | partitions [ int32 ] ] | [v11+] rack string |
                   [v12+] tag 0: cluster id, [v15+] tag 1: replica state
    topic      [-v12] name string | [v13+] id uuid
    wanted     index int32 | [v9+] leader epoch int32 | offset int64 | [v12+] last fetched epoch int32 |
                   [v5+] log start int64 | max bytes int32
    response   throttle int32 | [v7+] error int16 | [v7+] session id int32 | topics [ topic | partitions [ given ] ] |
                   [v16] tag 0: node endpoints
    given      index int32 | error int16 | high watermark int64 | last stable int64 | [v5+] log start int64 |
                   aborted nullable [ producer id int64 | first offset int64 ] | [v11+] preferred replica int32 |
                   records nullable bytes | [v12+] tag 0: diverging { epoch int32 | end offset int64 },
                   tag 1: current leader, tag 2: snapshot
    flexible from v12. v6, 8, 10 and 14 change meanings, not the layout.

What lives here: these layouts. What may not: reading, waiting, sessions.
Invariant: a piece of records above ``COPY_BELOW`` is handed through as it is; everything between two such is one piece.

There are no fetch sessions: every response says session 0, which makes every client send full requests (KIP-227).
Replica id and replica state are for followers, of which one node has none; leader and endpoints as in `produce`.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple
from uuid import UUID

from logbroker.wire.apis import Api
from logbroker.wire.primitives import NO_UUID, Buffer, CompactReader, CompactWriter, Reader, Writer

COPY_BELOW: Final = 16 * 1024
"""Records of fewer bytes are joined to what stands before them: a copy is cheaper than one more write."""

_FLEXIBLE_FROM: Final = Api.FETCH.flexible_from
_TOPIC_IDS_FROM: Final = 13
_INT32: Final = Struct(">i")
_WAIT_BYTES_ISOLATION: Final = Struct(">iiib")
_SESSION: Final = Struct(">ii")
_PARTITION_V4: Final = Struct(">iqi")
_PARTITION_V5: Final = Struct(">iqqi")
_PARTITION_V9: Final = Struct(">iiqqi")
_PARTITION_V12: Final = Struct(">iiqiqi")
_TOP_V4: Final = Struct(">i")
_TOP_V7: Final = Struct(">ihi")
_RESULT_V4: Final = Struct(">ihqq")
_RESULT_V5: Final = Struct(">ihqqq")
_ABORTED: Final = Struct(">qq")
_DIVERGING: Final = Struct(">BBBiqB")


class PartitionFetch(NamedTuple):
    """What is wanted of one partition. ``-1`` as an epoch means that the client does not know one."""

    partition: int
    offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1


class TopicFetch(NamedTuple):
    """The partitions wanted of one topic: named up to v12, by id from v13 (``name`` is then empty)."""

    name: str
    id: UUID
    partitions: list[PartitionFetch]


class TopicForgotten(NamedTuple):
    """Partitions that leave the client's fetch session."""

    name: str
    id: UUID
    partitions: list[int]


class FetchRequest(NamedTuple):
    """One request. ``isolation``: 0 read uncommitted, 1 read committed. Sizes are bytes."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    isolation: int
    session_id: int
    session_epoch: int
    topics: list[TopicFetch]
    forgotten: list[TopicForgotten]
    rack: str


class PartitionFetched(NamedTuple):
    """What one partition gives. ``records`` are whole batches in any number of pieces.

    ``aborted`` are (producer id, first offset) pairs for a committed reader, None for the others. ``diverging`` is the
    (epoch, end offset) to which a client must truncate when its log and ours part (KIP-595); sent from v12 on.
    """

    partition: int
    error_code: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    records: Sequence[Buffer] = ()
    aborted: Sequence[tuple[int, int]] | None = None
    diverging: tuple[int, int] | None = None
    preferred_read_replica: int = -1


class TopicFetched(NamedTuple):
    """What the partitions of one topic give. The id goes out from v13 on, the name before."""

    name: str
    id: UUID
    partitions: Sequence[PartitionFetched]


def decode_request(version: int, body: memoryview) -> FetchRequest:
    """Decode the body of a request. Raises InvalidRequest."""
    reader = CompactReader(body) if version >= _FLEXIBLE_FROM else Reader(body)
    if version < 15:
        reader.unpack(_INT32)
    max_wait_ms, min_bytes, max_bytes, isolation = reader.unpack(_WAIT_BYTES_ISOLATION)
    session_id, session_epoch = reader.unpack(_SESSION) if version >= 7 else (0, -1)
    topics = [_topic(reader, version) for _ in range(reader.array())]
    forgotten = [_forgotten(reader, version) for _ in range(reader.array())] if version >= 7 else []
    rack = reader.string() if version >= 11 else ""
    reader.end_struct()
    return FetchRequest(max_wait_ms, min_bytes, max_bytes, isolation, session_id, session_epoch, topics, forgotten, rack)


def _topic(reader: Reader, version: int) -> TopicFetch:
    name, topic_id = _topic_key(reader, version)
    partitions = [_partition(reader, version) for _ in range(reader.array())]
    reader.end_struct()
    return TopicFetch(name, topic_id, partitions)


def _topic_key(reader: Reader, version: int) -> tuple[str, UUID]:
    return ("", reader.uuid()) if version >= _TOPIC_IDS_FROM else (reader.string(), NO_UUID)


def _partition(reader: Reader, version: int) -> PartitionFetch:
    """The log start offset that stands in it is a follower's."""
    if version >= 12:
        partition, leader_epoch, offset, fetched_epoch, _, max_bytes = reader.unpack(_PARTITION_V12)
        reader.end_struct()
        return PartitionFetch(partition, offset, max_bytes, leader_epoch, fetched_epoch)
    if version >= 9:
        partition, leader_epoch, offset, _, max_bytes = reader.unpack(_PARTITION_V9)
        return PartitionFetch(partition, offset, max_bytes, leader_epoch)
    if version >= 5:
        partition, offset, _, max_bytes = reader.unpack(_PARTITION_V5)
        return PartitionFetch(partition, offset, max_bytes)
    return PartitionFetch(*reader.unpack(_PARTITION_V4))


def _forgotten(reader: Reader, version: int) -> TopicForgotten:
    name, topic_id = _topic_key(reader, version)
    partitions = [reader.unpack(_INT32)[0] for _ in range(reader.array())]
    reader.end_struct()
    return TopicForgotten(name, topic_id, partitions)


def encode_response(
    version: int, topics: Sequence[TopicFetched], error_code: int = 0, throttle_time_ms: int = 0
) -> list[Buffer]:
    """Encode the body of a response in pieces, to be written one after the other. ``error_code`` is dropped before v7."""
    writer = CompactWriter() if version >= _FLEXIBLE_FROM else Writer()
    pieces: list[Buffer] = []
    writer.out += _TOP_V7.pack(throttle_time_ms, error_code, 0) if version >= 7 else _TOP_V4.pack(throttle_time_ms)
    writer.array(len(topics))
    for topic in topics:
        if version >= _TOPIC_IDS_FROM:
            writer.out += topic.id.bytes
        else:
            writer.string(topic.name)
        writer.array(len(topic.partitions))
        for partition in topic.partitions:
            _write_partition(writer, version, partition)
            _write_records(writer, pieces, partition.records)
            _end_partition(writer, version, partition.diverging)
        writer.end_struct()
    writer.end_struct()
    pieces.append(writer.out)
    return pieces


def _write_partition(writer: Writer, version: int, partition: PartitionFetched) -> None:
    writer.out += _RESULT_V5.pack(*partition[:5]) if version >= 5 else _RESULT_V4.pack(*partition[:4])
    if partition.aborted is None:
        writer.array(-1)
    else:
        writer.array(len(partition.aborted))
        for aborted in partition.aborted:
            writer.out += _ABORTED.pack(*aborted)
            writer.end_struct()
    if version >= 11:
        writer.out += _INT32.pack(partition.preferred_read_replica)


def _write_records(writer: Writer, pieces: list[Buffer], records: Sequence[Buffer]) -> None:
    """Like Kafka, no records are an empty field, not null."""
    writer.bytes_length(sum(map(len, records)))
    for piece in records:
        if len(piece) < COPY_BELOW:
            writer.out += piece
        else:
            pieces += (writer.out, piece)
            writer.out = bytearray()


def _end_partition(writer: Writer, version: int, diverging: tuple[int, int] | None) -> None:
    if diverging is None or version < 12:
        writer.end_struct()
    else:
        one_tag, tag, size, no_tags = 1, 0, 13, 0
        writer.out += _DIVERGING.pack(one_tag, tag, size, *diverging, no_tags)
