"""Reading records: ``GET .../partitions/{p}/records``, ``.../records/{offset}`` and ``POST /v1/fetch``.

What lives here: queries to positions and limits, and what was fetched to JSON, NDJSON, record batches or a raw body.
What may not: reading itself, which is the use case's. Invariant: every answer says where to go on.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.fetch import Fetched, Limits, Start
from logbroker.broker.positions import EARLIEST, AtOffset, AtTime, Last, Position, resolve
from logbroker.broker.services import Services
from logbroker.engine.api import Isolation, RawBatches
from logbroker.errors import InvalidRequest, LogbrokerError, NotSupported, OffsetOutOfRange
from logbroker.http_api.errors import entry
from logbroker.http_api.filters import FilterText, compiled
from logbroker.http_api.payloads import (
    MAX_RECORDS,
    Encoding,
    Offset,
    PartitionNumber,
    RecordOut,
    Timestamp,
    to_payload,
)
from logbroker.http_api.raw import media_type, raw_headers
from logbroker.http_api.requests import (
    JSON,
    NDJSON,
    OCTETS,
    RECORD_BATCH,
    accepts,
    json_answer,
    number_in_path,
    read_json,
)
from logbroker.model import Bounds, TopicPartition
from logbroker.records.batch import iter_headers
from logbroker.records.committed import AbortedBatches

MAX_WAIT_MS = 60_000
MAX_FETCH_BYTES = 16 * 1024 * 1024
MAX_FETCH_PARTITIONS = 1_000
_RECORDS_PER_SLICE = 1_000

MaxRecords = Annotated[int, Meta(ge=1, le=MAX_RECORDS, description="The most records of the answer.")]
MaxBytes = Annotated[
    int, Meta(ge=1, le=MAX_FETCH_BYTES, description="About the most bytes; one record is answered however large.")
]
MinBytes = Annotated[int, Meta(ge=0, le=MAX_FETCH_BYTES, description="Wait for this many bytes of keys and values.")]
WaitMs = Annotated[int, Meta(ge=0, le=MAX_WAIT_MS, description="How long to wait for records.")]
IsolationLevel = Literal["read_uncommitted", "read_committed"]

_encoder = msgspec.json.Encoder()
INERT = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}
"""A record may be a web page by its own account; it must not run as one of ours."""


class FetchQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to read from (one of offset, timestamp_ms, last; without any, from the start) and how much."""

    offset: Annotated[Offset | UnsetType, Meta(description="Read from this offset.")] = UNSET
    timestamp_ms: Annotated[
        Timestamp | UnsetType, Meta(description="Read from the first record at or after this time.")
    ] = UNSET
    last: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_RECORDS)] | UnsetType, Meta(description="Read the last N records.")
    ] = UNSET
    max_records: MaxRecords = 500
    max_bytes: MaxBytes = 1 << 20
    min_bytes: MinBytes = 1
    wait_ms: WaitMs = 0
    filter: FilterText | UnsetType = UNSET
    encoding: Encoding = "auto"
    fields: Annotated[Literal["all", "meta"], Meta(description="meta: sizes instead of headers, keys and values.")] = "all"
    isolation: IsolationLevel = "read_committed"
    on_out_of_range: Annotated[
        Literal["error", "earliest", "latest"], Meta(description="Where to go when the offset is outside the log.")
    ] = "error"


class RecordQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to write one record."""

    encoding: Encoding = "auto"
    isolation: IsolationLevel = "read_committed"


class FetchOut(msgspec.Struct):
    """Records, and where to go on. ``scanned`` counts the records looked at, also those a filter left out."""

    records: list[RecordOut]
    next_offset: int
    log_start_offset: int
    high_watermark: int
    scanned: int
    truncated: bool


class FetchStart(msgspec.Struct, forbid_unknown_fields=True):
    """One partition to read."""

    topic: str
    partition: PartitionNumber
    offset: Offset


class FetchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Partitions to read at once; the limits hold for all together."""

    partitions: Annotated[list[FetchStart], Meta(min_length=1, max_length=MAX_FETCH_PARTITIONS)]
    max_records: MaxRecords = 500
    max_bytes: MaxBytes = 1 << 20
    min_bytes: MinBytes = 1
    wait_ms: WaitMs = 0
    filter: FilterText | UnsetType = UNSET
    encoding: Encoding = "auto"
    isolation: IsolationLevel = "read_committed"


class FetchManyOut(msgspec.Struct):
    """An answer for each partition, in order: as of a single fetch, or with ``error``."""

    partitions: list[dict[str, Any]]


_many_decoder = msgspec.json.Decoder(FetchIn)


# -- one partition ---------------------------------------------------------------------------------------------------


async def fetch(services: Services, request: web.Request, query: FetchQuery) -> web.StreamResponse:
    """Read records of one partition."""
    where = services.topics.partition(request.match_info["topic"], number_in_path(request, "partition"))
    start = _position(query)
    media = accepts(request, JSON, NDJSON, RECORD_BATCH)
    if media == RECORD_BATCH:
        if query.filter is not UNSET:
            raise InvalidRequest("record batches are answered as they are stored: a filter needs JSON or NDJSON")
        return await _fetch_batches(services, where, start, query)
    fetched = await services.fetch.fetch(where, start, limits_of(services, query), query.on_out_of_range)
    meta = query.fields == "meta"
    records = await _payloads(fetched, query.encoding, meta=meta)
    if media == JSON:
        return json_answer(_page(fetched, records))
    headers = _page_headers(fetched.next_offset, fetched.bounds, fetched.truncated)
    headers["Logbroker-Scanned"] = str(fetched.scanned)
    return web.Response(body=_encoder.encode_lines(records), content_type=NDJSON, headers=headers)


async def fetch_one(services: Services, request: web.Request, query: RecordQuery) -> web.StreamResponse:
    """Read one record by its offset."""
    where = services.topics.partition(request.match_info["topic"], number_in_path(request, "partition"))
    isolation = Isolation[query.isolation.upper()]
    record = await services.fetch.one(where, number_in_path(request, "offset"), isolation)
    if accepts(request, JSON, OCTETS) == JSON:
        return json_answer(to_payload(where.partition, record, query.encoding))
    headers = raw_headers(where.partition, record)
    headers["Content-Type"] = media_type(record.headers)
    headers.update(INERT)
    return web.Response(body=record.value or b"", headers=headers)


def _position(query: FetchQuery) -> Position:
    given = [name for name in ("offset", "timestamp_ms", "last") if getattr(query, name) is not UNSET]
    if len(given) > 1:
        raise InvalidRequest(f"both {given[0]} and {given[1]} given: a read starts at one place")
    if query.offset is not UNSET:
        return AtOffset(query.offset)
    if query.timestamp_ms is not UNSET:
        return AtTime(query.timestamp_ms)
    return Last(query.last) if query.last is not UNSET else EARLIEST


def limits_of(services: Services, query: FetchQuery | FetchIn) -> Limits:
    """How much a fetch may give, and what it is to find. Raises FilterInvalid."""
    isolation = Isolation[query.isolation.upper()]
    wanted = compiled(query.filter)
    return Limits(
        query.max_records, services.in_flight.grant(query.max_bytes), query.min_bytes, query.wait_ms, isolation, wanted
    )


async def _payloads(fetched: Fetched, encoding: Encoding, *, meta: bool) -> list[RecordOut]:
    """The records as they are written in JSON, made in slices so that a large page does not hold the loop."""
    payloads: list[RecordOut] = []
    partition = fetched.where.partition
    for begin in range(0, len(fetched.records), _RECORDS_PER_SLICE):
        if begin:
            await asyncio.sleep(0)
        part = fetched.records[begin : begin + _RECORDS_PER_SLICE]
        payloads += [to_payload(partition, record, encoding, meta=meta) for record in part]
    return payloads


def _page(fetched: Fetched, records: list[RecordOut]) -> FetchOut:
    bounds = fetched.bounds
    return FetchOut(
        records,
        fetched.next_offset,
        bounds.log_start_offset,
        bounds.high_watermark,
        fetched.scanned,
        fetched.truncated,
    )


def _page_headers(next_offset: int, bounds: Bounds, truncated: bool) -> dict[str, str]:
    return {
        "Logbroker-Next-Offset": str(next_offset),
        "Logbroker-Log-Start-Offset": str(bounds.log_start_offset),
        "Logbroker-High-Watermark": str(bounds.high_watermark),
        "Logbroker-Truncated": "true" if truncated else "false",
    }


# -- as record batches -----------------------------------------------------------------------------------------------


async def _fetch_batches(services: Services, where: TopicPartition, start: Position, query: FetchQuery) -> web.Response:
    """The stored batches as they are; the first may start before the offset that was asked for."""
    raw = services.engine.raw
    if raw is None:
        raise NotSupported("the engine of this broker gives no record batches as bytes: accept JSON or NDJSON")
    isolation = Isolation[query.isolation.upper()]
    offset = await resolve(services.engine, where, start, isolation)
    max_bytes = services.in_flight.grant(query.max_bytes)
    try:
        body, following, bounds = await _read_batches(raw, where, offset, max_bytes, isolation)
    except OffsetOutOfRange as error:
        if query.on_out_of_range == "error":
            raise
        edge = "log_start_offset" if query.on_out_of_range == "earliest" else "high_watermark"
        offset = error.fields[edge]
        body, following, bounds = await _read_batches(raw, where, offset, max_bytes, isolation)
    if following == offset and await services.waiting.changed({where: offset}, query.wait_ms, isolation):
        body, following, bounds = await _read_batches(raw, where, offset, max_bytes, isolation)
    headers = _page_headers(following, bounds, following < isolation.end(bounds))
    return web.Response(body=body, content_type=RECORD_BATCH, headers=headers)


async def _read_batches(
    raw: RawBatches, where: TopicPartition, offset: int, max_bytes: int, isolation: Isolation
) -> tuple[bytes, int, Bounds]:
    """The batches, without those of aborted transactions, and where to go on."""
    read = raw.read(where, offset, max_bytes, isolation) or await raw.read_cold(where, offset, max_bytes, isolation)
    body = b"".join(read.chunks)
    following = _offset_after(body, offset)
    if read.aborted:
        dropped = AbortedBatches(read.aborted)
        body = b"".join(body[at : at + one.size] for at, one in iter_headers(body) if not dropped.drops(one))
    return body, following, read.bounds


def _offset_after(batches: bytes, offset: int) -> int:
    """The offset after the last of concatenated batches v2: base offset at byte 0, length at 8, last offset delta at 23."""
    position = 0
    while position + 27 <= len(batches):
        base = int.from_bytes(batches[position : position + 8], "big")
        offset = base + int.from_bytes(batches[position + 23 : position + 27], "big") + 1
        position += 12 + int.from_bytes(batches[position + 8 : position + 12], "big")
    return offset


# -- many partitions -------------------------------------------------------------------------------------------------


async def fetch_many(services: Services, request: web.Request, query: Any) -> web.Response:
    """Read records of many partitions at once."""
    wanted = await read_json(request, _many_decoder)
    starts = [Start(services.topics.partition(one.topic, one.partition), one.offset) for one in wanted.partitions]
    if len({start.where for start in starts}) < len(starts):
        raise InvalidRequest("a partition is named twice")
    answers = await services.fetch.fetch_many(starts, limits_of(services, wanted))
    failures = [answer for answer in answers if isinstance(answer, LogbrokerError)]
    if len(failures) == len(answers) and len({failure.code for failure in failures}) == 1:
        raise failures[0]
    parts = await _parts(starts, answers, wanted.encoding)
    return json_answer(FetchManyOut(parts), 207 if failures else 200)


async def _parts(
    starts: Sequence[Start], answers: Sequence[Fetched | LogbrokerError], encoding: Encoding
) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for index, (start, answer) in enumerate(zip(starts, answers, strict=True)):
        part: dict[str, Any] = {"index": index, **start.where._asdict()}
        if isinstance(answer, LogbrokerError):
            part["error"] = {**answer.fields, **entry(answer)}
        else:
            records = await _payloads(answer, encoding, meta=False)
            part |= msgspec.structs.asdict(_page(answer, records))
        parts.append(part)
    return parts
