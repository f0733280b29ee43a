"""What is wrong with records before they are written: partitions, timestamps, sizes.

What lives here: pure functions over records and a topic. What may not: the engine, clocks. Invariant: a record that passes
here, alone in a batch, is accepted by the engine as the topic stood when it was checked.

Layout of a record in a batch v2 (all varints zigzag): length, attributes (1 byte), timestamp delta, offset delta, key
length and key, value length and value, header count; per header: name length and name, value length and value.
"""

from collections.abc import Mapping, Sequence

from logbroker.config import TopicConfig
from logbroker.engine.api import TopicInfo
from logbroker.errors import InvalidTimestamp, KeyRequired, LogbrokerError, MessageTooLarge, UnknownTopicOrPartition
from logbroker.model import Record

BATCH_OVERHEAD = 61
"""Bytes of a record batch v2 before its first record."""
RECORD_OVERHEAD = 36
"""The most bytes a record takes besides key, value and headers: five varints of up to 5 bytes, one of 10, attributes."""
HEADER_OVERHEAD = 10
"""The most bytes of the two lengths of a header."""

Problems = dict[int, LogbrokerError]
"""What is wrong, by the place of the record; each error has a field ``field`` that names the culprit."""


def problems_of(
    info: TopicInfo, records: Sequence[Record], partitions: Sequence[int | None] | None, sizes: Sequence[int], now_ms: int
) -> Problems:
    """The first problem of each record that has one."""
    problems: Problems = {}
    _check_sizes(info.config, records, sizes, problems)
    if info.config.message_timestamp_type == "CreateTime":
        _check_timestamps(info.config, records, now_ms, problems)
    if "compact" in info.config.cleanup_policy:
        _check_keys(records, problems)
    if partitions is not None:
        _check_partitions(info, partitions, problems)
    return problems


def _check_partitions(info: TopicInfo, partitions: Sequence[int | None], problems: Problems) -> None:
    for index, partition in enumerate(partitions):
        if partition is not None and not 0 <= partition < info.partitions:
            problems[index] = UnknownTopicOrPartition(
                f"topic {info.name!r} has partitions 0 to {info.partitions - 1}, not {partition}",
                topic=info.name,
                partition=partition,
                field="partition",
            )


def _check_keys(records: Sequence[Record], problems: Problems) -> None:
    for index, record in enumerate(records):
        if record.key is None:
            problems[index] = KeyRequired("the topic is compacted, so the record needs a key", field="key")


def _check_timestamps(config: TopicConfig, records: Sequence[Record], now_ms: int, problems: Problems) -> None:
    earliest = max(0, now_ms - config.message_timestamp_before_max_ms)
    latest = now_ms + config.message_timestamp_after_max_ms
    times = [record.timestamp_ms for record in records if record.timestamp_ms is not None]
    if not times or (earliest <= min(times) and max(times) <= latest):
        return
    for index, record in enumerate(records):
        timestamp = record.timestamp_ms
        if timestamp is not None and not earliest <= timestamp <= latest:
            problems[index] = InvalidTimestamp(
                f"timestamp {timestamp} is outside {earliest} to {latest}, what the topic accepts now", field="timestamp_ms"
            )


def _check_sizes(config: TopicConfig, records: Sequence[Record], sizes: Sequence[int], problems: Problems) -> None:
    limit = config.max_message_bytes
    if max(sizes, default=0) + BATCH_OVERHEAD <= limit:
        return
    for index, record in enumerate(records):
        size = BATCH_OVERHEAD + exact_size(record)
        if size > limit:
            problems[index] = MessageTooLarge(
                f"the record takes {size} bytes in a batch; max_message_bytes of the topic is {limit}", field="value"
            )


def size_bound(record: Record) -> int:
    """At least the bytes of the record in a batch, cheaply."""
    size = RECORD_OVERHEAD
    if record.value is not None:
        size += len(record.value)
    if record.key is not None:
        size += len(record.key)
    for name, value in record.headers:
        size += HEADER_OVERHEAD + len(name) * 4 + (0 if value is None else len(value))
    return size


def exact_size(record: Record) -> int:
    """The bytes of the record as the first of a batch."""
    body = 3 + _field(record.key) + _field(record.value) + _varint(len(record.headers))
    body += sum(_field(name.encode()) + _field(value) for name, value in record.headers)
    return _varint(body) + body


def _field(value: bytes | None) -> int:
    return 1 if value is None else _varint(len(value)) + len(value)


def _varint(number: int) -> int:
    """Bytes of a zigzag varint of a number that is not negative."""
    return max(1, ((number << 1).bit_length() + 6) // 7)


def refused(problems: Mapping[int, LogbrokerError], member: str = "records") -> LogbrokerError:
    """One error for a request with bad records: that of the first, with ``errors`` naming each by JSON pointer."""
    first = min(problems)
    error = problems[first]
    errors = [
        {"pointer": f"#/{member}/{index}/{problem.fields['field']}", "code": problem.code, "detail": problem.detail}
        for index, problem in sorted(problems.items())
    ]
    return type(error)(f"{member.removesuffix('s')} {first}: {error.detail}", errors=errors)
