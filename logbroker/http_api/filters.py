"""Filters in requests, and ``POST /v1/filters:test``: what a filter says of a record.

What lives here: the text of a filter in queries and bodies, and trying one out. What may not: what a filter means.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest
from logbroker.filters import DeadLetterFacts, Filter, Verdict, compile_filter
from logbroker.http_api.payloads import Offset, PartitionNumber, RecordIn, to_record
from logbroker.http_api.requests import NoQuery, json_answer, read_json
from logbroker.model import StoredRecord, TopicPartition

FilterText: TypeAlias = Annotated[
    str, Meta(description='A CEL expression over key, headers, value, timestamp, offset, as in headers.region == "eu".')
]


class LetterIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a dead letter has besides."""

    error: str | None = None
    failures: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    reason: str = ""


class FilterTestIn(msgspec.Struct, forbid_unknown_fields=True):
    """A filter, and the record to try it on: ``sample``, or the one at ``partition`` and ``offset`` of ``topic``."""

    filter: FilterText
    sample: RecordIn | UnsetType = UNSET
    letter: LetterIn | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    partition: PartitionNumber = 0
    offset: Offset | UnsetType = UNSET


class FilterTestOut(msgspec.Struct):
    """What the filter says; ``error`` is why it failed, and then it does not match."""

    matches: bool
    result: Literal["match", "no_match", "error"]
    error: str | None = None


_decoder = msgspec.json.Decoder(FilterTestIn)


def compiled(text: str | UnsetType) -> Filter | None:
    """The filter of a request, None where it has none. Raises FilterInvalid."""
    return None if text is UNSET else compile_filter(text)


async def test_filter(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Try a filter on a record."""
    given = await read_json(request, _decoder)
    asked = compile_filter(given.filter)
    record, where = await _record(services, given)
    facts = given.letter
    letter = None if facts is UNSET else DeadLetterFacts(facts.error, facts.failures, facts.reason)
    verdict = asked.verdict(record, where, letter)
    error = asked.failure(record, where, letter) if verdict is Verdict.ERROR else None
    return json_answer(FilterTestOut(verdict is Verdict.MATCH, verdict.value, error))


async def _record(services: Services, given: FilterTestIn) -> tuple[StoredRecord, TopicPartition]:
    if given.sample is UNSET:
        if given.topic is UNSET or given.offset is UNSET:
            raise InvalidRequest("give a sample, or topic, partition and offset of a record")
        where = services.topics.partition(given.topic, given.partition)
        return await services.fetch.one(where, given.offset), where
    if given.offset is not UNSET:
        raise InvalidRequest("give a sample or the offset of a record, not both")
    made = to_record(given.sample, services.clock.now().wall_ms)
    assert made.timestamp_ms is not None, "it was given one"
    where = TopicPartition("sample" if given.topic is UNSET else given.topic, given.partition)
    return StoredRecord(0, made.timestamp_ms, made.key, made.value, made.headers), where
