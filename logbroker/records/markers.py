"""Transaction markers: the control batches that say how a transaction ended (KIP-98).

A marker is a batch of one record with the transactional and the control bit, without a sequence. Key (big endian): version
i16 = 0, type i16 (0 abort, 1 commit); value: version i16 = 0, coordinator epoch i32.

What lives here: this form. What may not: when a marker is written, what follows from one. Control records of other types
(Kafka's quorum writes some) are no markers.
"""

from struct import Struct
from typing import Final

from logbroker.errors import CorruptMessage
from logbroker.model import Buffer, ProducerStamp, Record
from logbroker.records.batch import CONTROL_BIT, HEADER_SIZE, NO_SEQUENCE, parse_header, sealed_header
from logbroker.records.codec import decode, encode

COORDINATOR_EPOCH: Final = 0
"""The epoch of a coordinator that is alone; no other one could ever be fenced by it."""

_KEY: Final = Struct(">hh")
_VALUE: Final = Struct(">hi")
_ABORT: Final = 0
_COMMIT: Final = 1


def encode_marker(producer_id: int, epoch: int, committed: bool, now_ms: int) -> bytes:
    """The batch that ends the transaction of a producer, with base offset 0."""
    record = Record(_VALUE.pack(0, COORDINATOR_EPOCH), _KEY.pack(0, _COMMIT if committed else _ABORT))
    stamp = ProducerStamp(producer_id, epoch, NO_SEQUENCE)
    plain = memoryview(encode([record], now_ms=now_ms, producer=stamp, transactional=True))
    header = parse_header(plain)
    records = plain[HEADER_SIZE:]
    return sealed_header(header._replace(attributes=header.attributes | CONTROL_BIT), records) + records


def is_commit(buf: Buffer, pos: int) -> bool | None:
    """Whether the control batch at ``pos`` commits (or aborts) a transaction; None where it is no marker."""
    try:
        records = decode(buf, pos, control=True)
    except CorruptMessage:
        return None
    key = records[0].key if records else None
    if key is None or len(key) < _KEY.size:
        return None
    return {_ABORT: False, _COMMIT: True}.get(_KEY.unpack_from(key)[1])
