"""Partitions: their bounds, offsets by time, trim.

What lives here: questions and changes that name partitions, but for records. Invariant: a trim is checked whole before any
partition is trimmed; a damaged partition never hides the others of a list.
"""

from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.positions import LATEST, AtTime, resolve
from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.engine.api import Isolation
from logbroker.errors import InvalidOffset, InvalidRequest, LogbrokerError, PartitionDamaged
from logbroker.http_api.errors import entry
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.payloads import Offset, PartitionNumber, Timestamp
from logbroker.http_api.requests import NoQuery, json_answer, number_in_path, read_json
from logbroker.model import TopicPartition


class PartitionOut(msgspec.Struct):
    """A partition; null where the engine cannot tell or there are no records. ``error`` says why it cannot be read."""

    partition: int
    log_start_offset: int | None = None
    high_watermark: int | None = None
    last_stable_offset: int | None = None
    segments: int | None = None
    bytes: int | None = None
    first_timestamp_ms: int | None = None
    max_timestamp_ms: int | None = None
    error: dict[str, Any] | UnsetType = UNSET


class PartitionsOut(msgspec.Struct):
    """A page of partitions."""

    items: list[PartitionOut]
    next_page_token: str | None


class OffsetQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which offset: one of the two."""

    timestamp_ms: Annotated[Timestamp | UnsetType, Meta(description="The first record at or after this time.")] = UNSET
    at: Annotated[
        Literal["earliest", "latest", "max_timestamp"] | UnsetType,
        Meta(description="The log start, the end, or the record with the largest timestamp."),
    ] = UNSET


class OffsetOut(msgspec.Struct):
    """An offset, null when no record is that late; and the timestamp of the record there, where one was looked at."""

    offset: int | None
    timestamp_ms: int | None


class TrimPartition(msgspec.Struct, forbid_unknown_fields=True):
    """What to trim: everything before an offset or before a time."""

    partition: PartitionNumber
    before_offset: Offset | None = None
    before_ms: Timestamp | None = None


class TrimIn(msgspec.Struct, forbid_unknown_fields=True):
    """A trim, or with ``dry_run`` what it would do."""

    partitions: Annotated[list[TrimPartition], Meta(min_length=1, max_length=20_000)]
    dry_run: bool = False


class TrimOut(msgspec.Struct):
    """The log start of each partition after the trim (``low_watermark``), or its ``error``."""

    dry_run: bool
    partitions: list[dict[str, Any]]


_trim_decoder = msgspec.json.Decoder(TrimIn)


async def list_partitions(services: Services, request: web.Request, query: PageQuery) -> web.Response:
    """List the partitions of a topic."""
    info = services.topics.get(request.match_info["topic"])
    numbers, token = page_of(range(info.partitions), lambda number: number, query)
    items = [await partition_or_damage(services, TopicPartition(info.name, number)) for number in numbers]
    return json_answer(PartitionsOut(items, token))


async def partition_or_damage(services: Services, where: TopicPartition) -> PartitionOut:
    """A partition as it is told, although it may be damaged."""
    try:
        return await _partition(services, where)
    except PartitionDamaged as damage:
        return PartitionOut(where.partition, error=entry(damage))


async def get_partition(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a partition."""
    return json_answer(await _partition(services, where_of(services, request)))


async def get_offset(services: Services, request: web.Request, query: OffsetQuery) -> web.Response:
    """Find an offset by time or by place."""
    where = where_of(services, request)
    if (query.timestamp_ms is UNSET) == (query.at is UNSET):
        raise InvalidRequest("give one of timestamp_ms and at")
    if query.timestamp_ms is not UNSET:
        found = await services.engine.offset_at(where, query.timestamp_ms)
    elif query.at == "max_timestamp":
        found = await services.engine.max_timestamp(where)
    else:
        bounds = await services.engine.bounds(where)
        edge = bounds.log_start_offset if query.at == "earliest" else bounds.high_watermark
        return json_answer(OffsetOut(edge, None))
    return json_answer(OffsetOut(None, None) if found is None else OffsetOut(*found))


async def trim(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Move the log start of partitions: what is before it can no longer be read."""
    name = request.match_info["topic"]
    info = services.topics.changeable(name)
    wanted = await read_json(request, _trim_decoder)
    if len({one.partition for one in wanted.partitions}) < len(wanted.partitions):
        raise InvalidRequest("a partition is named twice")
    plan = [(partition_of(info, one.partition), await _before(services, info.name, one)) for one in wanted.partitions]
    results: list[dict[str, Any]] = []
    failures: list[LogbrokerError] = []
    for where, before in plan:
        result: dict[str, Any] = {"partition": where.partition}
        try:
            result["low_watermark"] = await _trim_one(services, where, before, dry_run=wanted.dry_run)
        except LogbrokerError as error:
            failures.append(error)
            result["error"] = entry(error)
        results.append(result)
    if len(failures) == len(results) and len({failure.code for failure in failures}) == 1:
        raise failures[0]
    return json_answer(TrimOut(wanted.dry_run, results), 207 if failures else 200)


async def _before(services: Services, topic: str, one: TrimPartition) -> int:
    """The offset before which to trim. Raises InvalidOffset above the high watermark."""
    where = TopicPartition(topic, one.partition)
    if (one.before_offset is None) == (one.before_ms is None):
        raise InvalidRequest(f"partition {one.partition}: give one of before_offset and before_ms")
    if one.before_ms is not None:
        return await resolve(services.engine, where, AtTime(one.before_ms), Isolation.READ_UNCOMMITTED)
    assert one.before_offset is not None, "one of the two is given"
    end = await resolve(services.engine, where, LATEST, Isolation.READ_UNCOMMITTED)
    if one.before_offset > end:
        raise InvalidOffset(f"{where} ends at {end}: nothing can be trimmed before {one.before_offset}")
    return one.before_offset


async def _trim_one(services: Services, where: TopicPartition, before: int, *, dry_run: bool) -> int:
    if not dry_run:
        return await services.engine.trim(where, before)
    return max(before, (await services.engine.bounds(where)).log_start_offset)


def where_of(services: Services, request: web.Request) -> TopicPartition:
    """The partition that the path names. Raises UnknownTopicOrPartition."""
    return services.topics.partition(request.match_info["topic"], number_in_path(request, "partition"))


async def _partition(services: Services, where: TopicPartition) -> PartitionOut:
    engine, storage = services.engine, services.engine.storage
    bounds = await engine.bounds(where)
    newest = await engine.max_timestamp(where)
    first = None
    if newest is not None:
        read = await engine.read(where, bounds.log_start_offset, max_bytes=1, max_records=1)
        first = read.records[0].timestamp_ms if read.records else None
    return PartitionOut(
        partition=where.partition,
        log_start_offset=bounds.log_start_offset,
        high_watermark=bounds.high_watermark,
        last_stable_offset=bounds.last_stable_offset,
        segments=len(storage.segments(where)) if storage is not None else None,
        bytes=storage.size_bytes(where) if storage is not None else None,
        first_timestamp_ms=first,
        max_timestamp_ms=newest.timestamp_ms if newest is not None else None,
    )
