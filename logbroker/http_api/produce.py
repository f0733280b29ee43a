"""``POST /v1/topics/{topic}/records`` and ``.../batches``: JSON batches, raw bodies, record batches; producer ids.

What lives here: how a body of each kind becomes records, and outcomes become answers. The NDJSON stream has its own file.
"""

import asyncio
import re
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from logbroker.broker.claims import claiming
from logbroker.broker.produce import Outcome, Produced, Terms
from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.engine.api import NO_PRODUCER
from logbroker.errors import (
    InvalidRequest,
    LogbrokerError,
    NotSupported,
    TransactionsUnsupported,
    UnsupportedMediaType,
)
from logbroker.http_api.objects import body_or_claim
from logbroker.http_api.payloads import MAX_RECORDS, RecordIn, Result, result_of, to_records
from logbroker.http_api.raw import raw_record
from logbroker.http_api.requests import (
    JSON,
    NDJSON,
    OCTETS,
    RECORD_BATCH,
    NoQuery,
    decode_json,
    is_json,
    json_answer,
    number_in_path,
    read_body,
    read_json,
)
from logbroker.http_api.stream_in import produce_stream
from logbroker.model import Header, ProducerStamp

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


class ProducerIn(msgspec.Struct, forbid_unknown_fields=True):
    """An idempotent producer's identity, and the sequence number of the first record."""

    id: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    epoch: Annotated[int, Meta(ge=0, le=2**15 - 1)]
    base_sequence: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class ProduceIn(msgspec.Struct, forbid_unknown_fields=True):
    """Records to append."""

    records: Annotated[list[RecordIn], Meta(max_length=MAX_RECORDS)]
    producer: ProducerIn | None = None


class ProduceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to produce."""

    atomic: Annotated[bool, Meta(description="All records as one batch of one partition, or none.")] = False


class ProduceOut(msgspec.Struct):
    """One result for each record, in order."""

    results: list[Result]


class RawOut(msgspec.Struct):
    """Where the record stands."""

    partition: int
    offset: int
    timestamp_ms: int


class BatchesOut(msgspec.Struct):
    """The offsets the batches took."""

    base_offset: int
    last_offset: int


class ProducersIn(msgspec.Struct, forbid_unknown_fields=True):
    """What producer to register."""

    transactional_id: str | None = None


class ProducersOut(msgspec.Struct):
    """The identity of an idempotent producer."""

    producer_id: int
    epoch: int


_batch_decoder = msgspec.json.Decoder(ProduceIn)
_producers_decoder = msgspec.json.Decoder(ProducersIn)


async def produce(services: Services, request: web.Request, query: ProduceQuery) -> web.StreamResponse:
    """Append what the body holds."""
    topic = request.match_info["topic"]
    content_type = request.content_type
    if is_json(content_type):
        return await _produce_json(services, request, topic, query)
    services.topics.changeable(topic)
    if content_type == NDJSON:
        return await produce_stream(services, request, topic, trace_headers(request))
    if content_type == RECORD_BATCH:
        raise UnsupportedMediaType(f"record batches go to /v1/topics/{topic}/partitions/N/batches")
    if content_type in FORMS:
        raise UnsupportedMediaType(
            f"{content_type} is what a form (or curl -d) sends: give content-type {JSON} for a batch, text/plain or "
            f"{OCTETS} for one record as it is"
        )
    return await _produce_raw(services, request, topic)


async def _produce_json(services: Services, request: web.Request, topic: str, query: ProduceQuery) -> web.Response:
    batch = decode_json(_batch_decoder, await read_body(request))
    given = batch.records
    records = to_records(given, services.clock.now().wall_ms, trace_headers(request))
    partitions = [one.partition for one in given]
    terms = Terms(atomic=query.atomic, producer=_stamp(batch.producer))
    named = partitions.count(None) < len(partitions)
    outcomes = await services.produce.produce(topic, records, partitions if named else None, terms)
    return _answer(outcomes)


def _stamp(producer: ProducerIn | None) -> ProducerStamp:
    return NO_PRODUCER if producer is None else ProducerStamp(producer.id, producer.epoch, producer.base_sequence)


def _answer(outcomes: list[Outcome]) -> web.Response:
    results = [result_of(index, outcome) for index, outcome in enumerate(outcomes)]
    if set(map(type, outcomes)) <= {Produced}:
        return json_answer(ProduceOut(results))
    failures = [outcome for outcome in outcomes if isinstance(outcome, LogbrokerError)]
    if len(failures) == len(outcomes) and len({failure.code for failure in failures}) == 1:
        raise failures[0]
    return json_answer(ProduceOut(results), 207)


async def _produce_raw(services: Services, request: web.Request, topic: str) -> web.Response:
    headers, body, claim = await body_or_claim(services, request)
    record, partition = raw_record(headers, body, trace_headers(request))
    if claim is not None:
        record = claiming(record, claim)
    partitions = None if partition is None else [partition]
    [outcome] = await services.produce.produce(topic, [record], partitions)
    if isinstance(outcome, LogbrokerError):
        raise outcome
    return json_answer(RawOut(outcome.partition, outcome.offset, outcome.timestamp_ms))


async def produce_batches(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Append Kafka record batches as they are."""
    if request.content_type not in (RECORD_BATCH, OCTETS):
        raise UnsupportedMediaType(f"give record batches as content-type: {RECORD_BATCH}")
    info = services.topics.changeable(request.match_info["topic"])
    where = partition_of(info, number_in_path(request, "partition"))
    raw = services.engine.raw
    if raw is None:
        raise NotSupported("the engine of this broker takes no record batches as bytes: produce records instead")
    body = await read_body(request)
    if not body:
        raise InvalidRequest("the body holds no record batch")
    flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(failure: LogbrokerError | None) -> None:
        if failure is None:
            flushed.set_result(None)
        else:
            flushed.set_exception(failure)

    appended = raw.append(where, body)
    raw.when_flushed(where, appended.next_offset, done)
    await flushed
    return json_answer(BatchesOut(appended.base_offset, appended.next_offset - 1))


async def register_producer(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Give out the identity of an idempotent producer."""
    wanted = await read_json(request, _producers_decoder)
    if wanted.transactional_id is not None:
        raise TransactionsUnsupported
    return json_answer(ProducersOut(await services.engine.allocate_producer_id(), 0))


def trace_headers(request: web.Request) -> tuple[Header, ...]:
    """The W3C trace context of the request, as record headers."""
    traceparent = request.headers.get("traceparent")
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return ()
    return (Header("traceparent", traceparent.encode()),)
