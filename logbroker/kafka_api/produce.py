"""Produce, v3 to v12 (v0 to v2 are refused with error 35 per partition): the hot path in.

Intended deviations: acks 1 and all are the same, as there are no replicas, and acks 0 is written and flushed alike; the
request's timeout is not used, since a flush either comes or ends the broker. A batch of a transaction is taken only into a
partition that was added to it (KIP-890), for a batch nobody knows of would stop committed readers for ever.

What lives here: from a request to appends and from flushes to the answer. What may not: layouts (``wire.produce``), the
check of a batch (the engine's). Invariants: an append is answered when it is flushed, a duplicate too; the records are
read before the handler returns and never copied; partitions fail one by one.
"""

import logging
from functools import partial
from typing import Final

from logbroker.broker.produce import LARGE_RECORD_BYTES, large_records
from logbroker.broker.services import Services
from logbroker.broker.topics import check_changeable, is_reserved
from logbroker.engine.api import RawBatches
from logbroker.errors import (
    CorruptMessage,
    InvalidProducerEpoch,
    InvalidTransactionState,
    LogbrokerError,
    NotSupported,
    ProducerFenced,
)
from logbroker.groups.transactions.messages import Producer
from logbroker.kafka_api.answers import Answer, Context, Disconnect, Done, Reply
from logbroker.kafka_api.errors import Refused, code_of, message_of
from logbroker.metrics import Family
from logbroker.model import TopicPartition
from logbroker.records.batch import BatchHeader, Compression, parse_header
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from logbroker.wire.produce import (
    PartitionAppended,
    ProduceRequest,
    TopicAppended,
    decode_request,
    encode_response,
)

log = logging.getLogger("logbroker.kafka")

_ZSTD_FROM: Final = 7


class Produce:
    """The handler. It is made once per door, so that counters are looked up once."""

    def __init__(self, services: Services) -> None:
        if services.engine.raw is None:
            raise NotSupported("the Kafka door needs an engine that takes record batches as bytes")
        self._raw: RawBatches = services.engine.raw
        self._transactions = services.transactions
        metrics = services.metrics
        self._large = large_records(metrics)
        self._records_in: Family = metrics.counter("topic_records_in_total", "Records appended.", ("topic",))
        self._bytes_in: Family = metrics.counter(
            "topic_bytes_in_total", "Bytes of records appended, before compression.", ("topic",)
        )

    def __call__(self, services: Services, body: memoryview, context: Context) -> Answer:
        """Serve one request."""
        version = context.version
        request = decode_request(version, body)
        appends = _Appends(version, request)
        refusal = _refusal(request, version)
        for topic in request.topics:
            results = appends.add_topic(topic.name)
            problem = refusal or _topic_refusal(topic.name) or services.queues.kafka_refusal(topic.name)
            for partition, records in topic.partitions:
                if problem is None:
                    self._append(appends, TopicPartition(topic.name, partition), records, results, request)
                else:
                    results.append(_failed(partition, problem))
        return appends.answer()

    def _append(
        self,
        appends: "_Appends",
        where: TopicPartition,
        records: memoryview | None,
        results: list[PartitionAppended],
        request: ProduceRequest,
    ) -> None:
        try:
            if records is None:
                raise CorruptMessage("there are no records")
            header = _check_form(records, appends.version)
            if header.is_transactional:
                self._check_transaction(request.transactional_id, Producer(*header[9:11]), where)
            appended = self._raw.append(where, records, transactional=header.is_transactional)
        except Exception as error:
            if not isinstance(error, LogbrokerError):
                log.exception("an append to %s failed", where)
            results.append(_failed(where.partition, error))
            return
        results.append(
            PartitionAppended(where.partition, 0, appended.base_offset, appended.append_time_ms, appended.log_start_offset)
        )
        if not appended.duplicate:
            count = appended.next_offset - appended.base_offset
            self._records_in.add(count, where.topic)
            if len(records) > count * LARGE_RECORD_BYTES:
                self._large.add(count, where.topic)
            self._bytes_in.add(len(records), where.topic)
        appends.left += 1
        done = partial(appends.flushed, results, len(results) - 1)
        try:
            self._raw.when_flushed(where, appended.next_offset, done)
        except LogbrokerError as error:
            done(error)

    def _check_transaction(self, transactional_id: str | None, producer: Producer, where: TopicPartition) -> None:
        if transactional_id is None:
            raise InvalidTransactionState("the batch is of a transaction, but the request names no transactional id")
        try:
            self._transactions.check(transactional_id, producer, where)
        except ProducerFenced as fenced:
            raise InvalidProducerEpoch(fenced.detail) from None


def refuse(body: memoryview, context: Context, error: Exception) -> Reply:
    """Say of every partition that it failed. Raises InvalidRequest, and Disconnect where no answer is wanted."""
    request = decode_request(context.version, body)
    if request.acks == 0:
        raise Disconnect(f"a Produce with acks = 0 failed with {code_of(error).name}")
    topics = [
        TopicAppended(topic.name, [_failed(one.partition, error) for one in topic.partitions]) for topic in request.topics
    ]
    return Reply([encode_response(context.version, topics)], code_of(error))


class _Appends:
    """The partitions of one request, and how many of them still wait for their flush. It is the answer that comes later."""

    __slots__ = ("_acks", "_done", "_topics", "left", "version")

    blocks = False

    def __init__(self, version: int, request: ProduceRequest) -> None:
        self.version = version
        self.left = 0
        self._acks = request.acks
        self._topics: list[TopicAppended] = []
        self._done: Done | None = None

    def add_topic(self, name: str) -> list[PartitionAppended]:
        """The list that takes the outcomes of a topic."""
        results: list[PartitionAppended] = []
        self._topics.append(TopicAppended(name, results))
        return results

    def answer(self) -> Answer:
        """Once everything is appended: the reply, or this if it has to wait."""
        if self._acks == 0:
            return self._unanswered()
        return self if self.left else self._reply()

    def flushed(self, results: list[PartitionAppended], index: int, error: LogbrokerError | None) -> None:
        """One partition is durable, or never will be."""
        if error is not None:
            results[index] = _failed(results[index].partition, error)
        self.left -= 1
        if not self.left and self._done is not None:
            self._done(self._reply())

    def then(self, done: Done) -> None:
        self._done = done

    def hasten(self) -> None:
        """A flush comes when it comes."""

    def cancel(self) -> None:
        self._done = None

    def _reply(self) -> Reply:
        return Reply([encode_response(self.version, self._topics)], self._first_error())

    def _unanswered(self) -> Reply:
        """As Kafka does, close the connection to tell a client that wants no answers that something went wrong."""
        code = self._first_error()
        if code is not ErrorCode.NONE:
            raise Disconnect(f"a Produce with acks = 0 failed with {code.name}")
        return Reply(None)

    def _first_error(self) -> ErrorCode:
        for topic in self._topics:
            for result in topic.partitions:
                if result.error_code:
                    return ErrorCode(result.error_code)
        return ErrorCode.NONE


def _refusal(request: ProduceRequest, version: int) -> LogbrokerError | None:
    """Why nothing of the request can be taken."""
    if version < Api.PRODUCE.min_served:
        return Refused(ErrorCode.UNSUPPORTED_VERSION, f"Produce v{version} is not served, only v3 and later")
    if request.acks not in (-1, 0, 1):
        return Refused(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {request.acks}, it can be -1, 0 or 1")
    return None


def _topic_refusal(name: str) -> LogbrokerError | None:
    if not is_reserved(name):
        return None
    try:
        check_changeable(name)
    except LogbrokerError as error:
        return error
    return None


def _check_form(records: memoryview, version: int) -> BatchHeader:
    """What the protocol asks of a batch beyond its being whole: the checks of Kafka's ProduceRequest and LogValidator."""
    header = parse_header(records)
    if header.size < len(records):
        raise Refused(ErrorCode.INVALID_RECORD, "there is more than one record batch for a partition")
    if header.is_control:
        raise Refused(ErrorCode.INVALID_RECORD, "clients do not write control records")
    if header.is_append_time:
        raise Refused(ErrorCode.INVALID_TIMESTAMP, "append time is for the broker to set")
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        raise Refused(ErrorCode.INVALID_RECORD, "a batch with a producer id needs an epoch and a sequence")
    if header.compression is Compression.ZSTD and version < _ZSTD_FROM:
        raise Refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd is for Produce v{_ZSTD_FROM} and later")
    return header


def _failed(partition: int, error: Exception) -> PartitionAppended:
    return PartitionAppended(partition, code_of(error), error_message=message_of(error))
