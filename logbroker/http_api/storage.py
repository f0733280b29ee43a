"""The files below the log: segments, what is in them, looking for damage, copies for a backup.

What lives here: questions and acts that name files. What may not: paths that a client has chosen.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.engine.api import FrozenCopy, SegmentCheck, Storage
from logbroker.errors import InvalidRequest, NotSupported
from logbroker.http_api.operations import BegunOut, operation_out
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.partitions import where_of
from logbroker.http_api.payloads import PartitionNumber
from logbroker.http_api.requests import NoQuery, json_answer, number_in_path, read_json
from logbroker.model import SegmentInfo, TopicPartition

MAX_BATCHES = 1_000


class DamageOut(msgspec.Struct):
    """Bytes that are not what was written, and the offsets that cannot be read for it."""

    file: str
    position: int
    first_offset: int
    last_offset: int
    message: str


class SegmentOut(msgspec.Struct):
    """A segment file; ``next_offset`` is one past its last record.

    ``checked_ms`` is when it was last read and checked whole, since the broker started; ``damages`` is what that found.
    """

    base_offset: int
    next_offset: int
    size_bytes: int
    max_timestamp_ms: int | None
    active: bool
    checked_ms: int | None
    damages: list[DamageOut]


class SegmentsOut(msgspec.Struct):
    """A page of segments, by base offset."""

    items: list[SegmentOut]
    next_page_token: str | None


class SegmentQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which batches."""

    position: Annotated[int, Meta(ge=0, le=2**31 - 1, description="The byte where the first batch starts.")] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_BATCHES, description="At most this many batches.")] = 100


class BatchOut(msgspec.Struct):
    """A batch as it lies in its file; its CRC was right just now."""

    position: int
    base_offset: int
    last_offset: int
    records: int
    bytes: int
    compression: str
    max_timestamp_ms: int
    producer_id: int
    transactional: bool
    control: bool
    crc: str


class OffsetEntryOut(msgspec.Struct):
    """An entry of the offset index: the batch at ``position`` ends with ``offset``."""

    offset: int
    position: int


class TimeEntryOut(msgspec.Struct):
    """An entry of the time index: up to ``offset`` no record is later than ``timestamp_ms``."""

    timestamp_ms: int
    offset: int


class SegmentPageOut(msgspec.Struct):
    """A segment, some of its batches, and the index entries about them.

    ``next_position`` is where the next page starts; ``bad`` says why no batch could be read there, where that is so.
    """

    segment: SegmentOut
    batches: list[BatchOut]
    index: list[OffsetEntryOut]
    time_index: list[TimeEntryOut]
    next_position: int | None
    bad: str | None


class VerifyIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to read and check: a topic, one of its partitions, or everything; and how fast."""

    topic: str | UnsetType = UNSET
    partition: PartitionNumber | UnsetType = UNSET
    bytes_per_second: Annotated[int, Meta(ge=1, le=2**40)] | UnsetType = UNSET


class FrozenOut(msgspec.Struct):
    """A copy of everything as of one moment, in ``directory`` of the broker's machine."""

    id: str
    directory: str
    created_ms: int
    files: int
    bytes: int


_verify_decoder = msgspec.json.Decoder(VerifyIn)


def storage_of(services: Services) -> Storage:
    """The files of the engine. Raises NotSupported where it has none of its own."""
    storage = services.engine.storage
    if storage is None:
        raise NotSupported("the engine of this broker has no files of its own")
    return storage


async def list_segments(services: Services, request: web.Request, query: PageQuery) -> web.Response:
    """List the segments of a partition."""
    where, storage = where_of(services, request), storage_of(services)
    segments, token = page_of(storage.segments(where), lambda segment: segment.base_offset, query)
    checks = storage.checks(where)
    return json_answer(SegmentsOut([_segment(one, checks.get(one.base_offset)) for one in segments], token))


async def get_segment(services: Services, request: web.Request, query: SegmentQuery) -> web.Response:
    """Look into a segment: its batches, what its indexes say, whether it is damaged."""
    where, storage = where_of(services, request), storage_of(services)
    base_offset = number_in_path(request, "offset")
    page = await storage.look_into(where, base_offset, query.position, query.limit)
    segment = next(one for one in storage.segments(where) if one.base_offset == base_offset)
    return json_answer(
        SegmentPageOut(
            _segment(segment, storage.checks(where).get(base_offset)),
            [BatchOut(*one) for one in page.batches],
            [OffsetEntryOut(*one) for one in page.entries.offsets],
            [TimeEntryOut(*one) for one in page.entries.times],
            page.next_position,
            page.bad,
        )
    )


def _segment(segment: SegmentInfo, check: SegmentCheck | None) -> SegmentOut:
    return SegmentOut(
        segment.base_offset,
        segment.next_offset,
        segment.size_bytes,
        segment.max_timestamp_ms if segment.max_timestamp_ms >= 0 else None,
        segment.active,
        check.checked_ms if check is not None else None,
        [DamageOut(*one) for one in check.damages] if check is not None else [],
    )


async def verify(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Read and check sealed segments now, as an operation."""
    wanted = await read_json(request, _verify_decoder)
    rate = None if wanted.bytes_per_second is UNSET else wanted.bytes_per_second
    return json_answer(BegunOut(operation_out(await services.verifications.begin(_targets(services, wanted), rate))), 202)


def _targets(services: Services, wanted: VerifyIn) -> list[TopicPartition]:
    if wanted.topic is UNSET:
        if wanted.partition is not UNSET:
            raise InvalidRequest("partition is a part of a topic: name that too")
        infos = services.engine.topics()
        return [TopicPartition(info.name, number) for info in infos for number in range(info.partitions)]
    info = services.topics.get(wanted.topic)
    if wanted.partition is not UNSET:
        return [partition_of(info, wanted.partition)]
    return [TopicPartition(info.name, number) for number in range(info.partitions)]


async def freeze(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Keep all files as they are now, for a backup to copy."""
    copy = await storage_of(services).freeze()
    return json_answer(FrozenOut(copy.id, _directory_of(services, copy), copy.created_ms, copy.files, copy.bytes), 201)


def _directory_of(services: Services, copy: FrozenCopy) -> str:
    return str(Path(services.config.data_dir).absolute() / copy.path)


async def release(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Let such a copy go."""
    await storage_of(services).release(request.match_info["id"])
    return web.Response(status=204)
