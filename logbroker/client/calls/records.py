"""Writing and reading records."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from logbroker.client.calls.base import Call, Read, Request, path, send
from logbroker.client.calls.wire import WirePayload, headers_from, record_to_wire
from logbroker.client.payloads import Headers, Payload
from logbroker.client.problems import error_of
from logbroker.errors import LogbrokerError
from logbroker.model import ProducerStamp
from logbroker.model import Record as NewRecord

ENCODING = "b64"


class RecordMetadata(msgspec.Struct, frozen=True):
    """Where a record stands. It is durable, as the topic's ``durability`` means it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Record(Payload, msgspec.Struct, frozen=True):
    """A record that was read from a topic. ``value`` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Position(NamedTuple):
    """Where one partition is read on."""

    topic: str
    partition: int
    offset: int


class FetchedPartition(NamedTuple):
    """What was read of one partition, or why it was not; it is read on at ``next_offset``."""

    position: Position
    records: list[Record]
    next_offset: int
    error: LogbrokerError | None = None


# -- writing -----------------------------------------------------------------------------------------------------------


class Outgoing(NamedTuple):
    """A record to be written; without a partition the broker chooses one, by key."""

    record: NewRecord
    partition: int | None = None


class _Result(msgspec.Struct, gc=False):
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1
    error: dict[str, Any] | None = None


class _Results(msgspec.Struct):
    results: list[_Result]


class Produce(Call[list[RecordMetadata | LogbrokerError]], frozen=True):
    """Append records; one outcome each, in order. All or none of one partition where ``atomic``."""

    topic: str
    records: Sequence[Outgoing]
    atomic: bool = False
    producer: ProducerStamp | None = None

    @property
    def may_repeat(self) -> bool:
        return self.producer is not None

    def request(self) -> Request:
        body: dict[str, Any] = {"records": [_outgoing(one) for one in self.records]}
        if self.producer is not None:
            stamp = self.producer
            body["producer"] = {"id": stamp.producer_id, "epoch": stamp.epoch, "base_sequence": stamp.base_sequence}
        return send("POST", path("topics", self.topic, "records"), body, {"atomic": True} if self.atomic else None)

    def answer(self, body: bytes) -> list[RecordMetadata | LogbrokerError]:
        return [
            RecordMetadata(self.topic, one.partition, one.offset, one.timestamp_ms)
            if one.error is None
            else error_of(one.error)
            for one in msgspec.json.decode(body, type=_Results).results
        ]


def _outgoing(one: Outgoing) -> dict[str, Any]:
    wire = record_to_wire(one.record)
    if one.partition is not None:
        wire["partition"] = one.partition
    if one.record.timestamp_ms is not None:
        wire["timestamp_ms"] = one.record.timestamp_ms
    return wire


class ProducerId(msgspec.Struct, frozen=True):
    """The identity of an idempotent producer."""

    producer_id: int
    epoch: int


class RegisterProducer(Call[ProducerId], frozen=True):
    """A new identity for an idempotent producer."""

    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("POST", path("producers"), {})

    def answer(self, body: bytes) -> ProducerId:
        return msgspec.json.decode(body, type=ProducerId)


# -- reading -----------------------------------------------------------------------------------------------------------


class WireRecord(WirePayload, kw_only=True, gc=False):
    """A record as it is read."""

    topic: str = ""
    partition: int
    offset: int
    timestamp_ms: int

    def stored(self, topic: str = "") -> Record:
        """The record."""
        headers = headers_from(self.headers)
        name = self.topic or topic
        return Record(name, self.partition, self.offset, self.timestamp_ms, self.key_b64, self.value_b64, headers)


class _Part(msgspec.Struct):
    records: list[WireRecord] = []
    next_offset: int = -1
    error: dict[str, Any] | None = None


class _Parts(msgspec.Struct):
    partitions: list[_Part]


class FetchMany(Read[list[FetchedPartition]], frozen=True):
    """Records of many partitions, within one budget; waits until any of them has something."""

    positions: Sequence[Position]
    max_records: int = 500
    max_bytes: int = 1 << 20
    wait_ms: int = 0
    isolation: str = "read_committed"
    filter: str | None = None

    def request(self) -> Request:
        body: dict[str, Any] = {
            "partitions": [one._asdict() for one in self.positions],
            "max_records": self.max_records,
            "max_bytes": self.max_bytes,
            "wait_ms": self.wait_ms,
            "isolation": self.isolation,
            "encoding": ENCODING,
        }
        if self.filter is not None:
            body["filter"] = self.filter
        return send("POST", path("fetch"), body, wait_ms=self.wait_ms)

    def answer(self, body: bytes) -> list[FetchedPartition]:
        parts = msgspec.json.decode(body, type=_Parts).partitions
        return [
            FetchedPartition(position, [], position.offset, error_of(part.error))
            if part.error is not None
            else FetchedPartition(position, [one.stored(position.topic) for one in part.records], part.next_offset)
            for position, part in zip(self.positions, parts, strict=True)
        ]
