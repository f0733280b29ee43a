"""Producing: check everything, choose partitions, append, answer for each record.

What lives here: the use case of a produce, for doors that bring records (the Kafka door brings batches as bytes). What may
not: JSON, waiting beyond the engine's own. Invariants: nothing is written before every record of the request has passed
every check; records of one partition are appended in the order they came; records of one append stand side by side.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec

from logbroker.broker.checks import BATCH_OVERHEAD, Problems, problems_of, refused, size_bound
from logbroker.broker.topics import Topics
from logbroker.clock import Clock
from logbroker.engine.api import NO_PRODUCER, Engine, TopicInfo
from logbroker.errors import InvalidRequest, LogbrokerError
from logbroker.metrics import Family, Metrics
from logbroker.model import ProducerStamp, Record, TopicPartition
from logbroker.records.partitioner import partition_for_key

LARGE_RECORD_BYTES = 256 * 1024


class Produced(msgspec.Struct, frozen=True, gc=False):
    """Where a record stands now. ``timestamp_ms`` is its stored timestamp.

    A msgspec struct because a request makes them by the hundred: they cost a third of a named tuple.
    """

    partition: int
    offset: int
    timestamp_ms: int


Outcome: TypeAlias = Produced | LogbrokerError


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request wants to be written."""

    atomic: bool = False
    """All records as one batch of one partition, or none."""
    each: bool = False
    """Bad records answer their error and the others are written (streams); otherwise one bad record refuses all."""
    producer: ProducerStamp = NO_PRODUCER
    """An idempotent producer's batch; atomic."""


DEFAULT_TERMS = Terms()


class _Group(NamedTuple):
    """The records of one partition, their sizes (upper bounds) and their places in the request."""

    where: TopicPartition
    records: Sequence[Record]
    sizes: Sequence[int]
    places: Sequence[int]

    def part(self, begin: int, end: int) -> "_Group":
        if begin == 0 and end == len(self.records):
            return self
        return _Group(self.where, self.records[begin:end], self.sizes[begin:end], self.places[begin:end])


def _one(topic: str) -> int:
    return 1


class Produce:
    """The use case of writing records."""

    def __init__(
        self, engine: Engine, topics: Topics, clock: Clock, metrics: Metrics, priorities_of: Callable[[str], int] = _one
    ) -> None:
        self._engine = engine
        self._priorities_of = priorities_of
        self._topics = topics
        self._clock = clock
        self._turns: dict[str, int] = {}
        self._records_in = metrics.counter("topic_records_in_total", "Records appended.", ("topic",))
        self._large = large_records(metrics)
        self._bytes_in = metrics.counter(
            "topic_bytes_in_total", "Bytes of records appended, before compression.", ("topic",)
        )

    async def produce(
        self,
        topic: str,
        records: Sequence[Record],
        partitions: Sequence[int | None] | None = None,
        terms: Terms = DEFAULT_TERMS,
    ) -> list[Outcome]:
        """Append ``records``; one outcome each, in order. ``partitions`` names where each goes, None leaves it to us.

        Raises InvalidTopic, TopicReserved and UnknownTopicOrPartition; and unless ``terms.each``, before anything is
        written, the first of MessageTooLarge, InvalidTimestamp, UnknownTopicOrPartition with ``errors`` naming each bad
        record. Raises InvalidRequest when an atomic request spans partitions.
        """
        info = self._topics.changeable(topic)
        now_ms = self._clock.now().wall_ms
        records = _stamped(records, now_ms)
        sizes = list(map(size_bound, records))
        problems = problems_of(info, records, partitions, sizes, now_ms)
        if problems and not terms.each:
            raise refused(problems)
        groups = self._groups(info, records, partitions, sizes, problems)
        whole = terms.atomic or terms.producer is not NO_PRODUCER
        if whole and len(groups) > 1:
            raise InvalidRequest(
                f"an atomic batch goes to one partition, these records go to {len(groups)}: name the partition"
            )
        outcomes: list[Outcome] = [_NOT_REACHED] * len(records)
        for index, problem in problems.items():
            outcomes[index] = problem
        limit = None if whole else info.config.max_message_bytes - BATCH_OVERHEAD
        writes = [self._write(group, limit, terms.producer, outcomes) for group in groups]
        if len(writes) == 1:
            await writes[0]
        else:
            await asyncio.gather(*writes)
        return outcomes

    # -- choosing partitions ------------------------------------------------------------------------------------------

    def _groups(
        self,
        info: TopicInfo,
        records: Sequence[Record],
        partitions: Sequence[int | None] | None,
        sizes: Sequence[int],
        problems: Problems,
    ) -> list[_Group]:
        if info.partitions == 1 and not problems:
            return [_Group(TopicPartition(info.name, 0), records, sizes, range(len(records)))] if records else []
        chosen = [None] * len(records) if partitions is None else partitions
        places: dict[int, list[int]] = {}
        for index, partition in enumerate(self._choose(info, records, chosen)):
            if index not in problems:
                places.setdefault(partition, []).append(index)
        return [
            _Group(
                TopicPartition(info.name, partition),
                [records[index] for index in indexes],
                [sizes[index] for index in indexes],
                indexes,
            )
            for partition, indexes in places.items()
        ]

    def _choose(self, info: TopicInfo, records: Sequence[Record], chosen: Sequence[int | None]) -> list[int]:
        """A partition for each record: the given one, else by key, else the same for all of this request, in turn.

        Under a queue with priorities, of the partitions of the lowest one.
        """
        priorities = self._priorities_of(info.name)
        count = info.partitions // priorities
        turn = self._turns.get(info.name, 0) % count
        self._turns[info.name] = turn + 1
        by_key: dict[bytes | None, int] = {None: priorities * turn}
        for key in {record.key for record in records} - by_key.keys():
            assert key is not None, "records without a key take the turn"
            by_key[key] = priorities * partition_for_key(key, count)
        return [
            partition if partition is not None else by_key[record.key]
            for partition, record in zip(chosen, records, strict=True)
        ]

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _write(self, group: _Group, limit: int | None, producer: ProducerStamp, outcomes: list[Outcome]) -> None:
        """Append a group in as few batches as ``limit`` allows; what follows a failed one fails alike, in order."""
        failure: LogbrokerError | None = None
        for begin, end in _batches(group.sizes, limit):
            part = group.part(begin, end)
            if failure is None:
                failure = await self._append(part, producer, outcomes)
            else:
                for place in part.places:
                    outcomes[place] = failure

    async def _append(self, group: _Group, producer: ProducerStamp, outcomes: list[Outcome]) -> LogbrokerError | None:
        try:
            appended = await self._engine.append(group.where, group.records, producer=producer)
        except LogbrokerError as error:
            for place in group.places:
                outcomes[place] = error
            return error
        partition, offset, stamp = group.where.partition, appended.base_offset, appended.append_time_ms
        for place, record in zip(group.places, group.records, strict=True):
            timestamp = stamp if stamp >= 0 or record.timestamp_ms is None else record.timestamp_ms
            outcomes[place] = Produced(partition, offset, timestamp)
            offset += 1
        if not appended.duplicate:
            self._records_in.add(len(group.records), group.where.topic)
            self._bytes_in.add(sum(group.sizes), group.where.topic)
            large = sum(size > LARGE_RECORD_BYTES for size in group.sizes)
            if large:
                self._large.add(large, group.where.topic)
        return None


def large_records(metrics: Metrics) -> Family:
    """What counts the records that a claim check would serve better. Where a door knows batches only: by their mean."""
    doc = f"Records of more than {LARGE_RECORD_BYTES // 1024} KiB appended."
    return metrics.counter("topic_large_records_total", doc, ("topic",))


_NOT_REACHED = LogbrokerError("the record was not reached")


def _stamped(records: Sequence[Record], now_ms: int) -> Sequence[Record]:
    """``records`` with the present time where they carry none, so that the answer can say what was stored."""
    if None not in [record.timestamp_ms for record in records]:
        return records
    return [
        Record(record.value, record.key, record.headers, now_ms) if record.timestamp_ms is None else record
        for record in records
    ]


def _batches(sizes: Sequence[int], limit: int | None) -> Iterator[tuple[int, int]]:
    """Ranges of records that fit into batches of ``limit`` bytes; a single one that does not goes alone."""
    if limit is None or sum(sizes) <= limit:
        yield 0, len(sizes)
        return
    begin = size = 0
    for index, more in enumerate(sizes):
        if index > begin and size + more > limit:
            yield begin, index
            begin, size = index, 0
        size += more
    yield begin, len(sizes)
