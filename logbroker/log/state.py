"""What is known of a segment's files up to a position, and its bytes.

What lives here: ``SegmentState`` and its 80-byte form, which stands in two places: in the ``digest`` written beside a
segment when it is sealed, and in the ``checkpoint`` as the recovery point of the active one. What may not: I/O.

Digest file (big endian): magic ``LBDG`` 4, version u16, zero u16, state 80, CRC-32C of all before u32.
Version 1 lacks the last two fields of the state, 8 bytes: there were no transactions.

``header_crc`` runs over the first 21 bytes of every batch: base offset, length, leader epoch, magic and the batch's
own CRC. Kafka's CRC covers a batch from its attributes on and leaves 17 of those bytes open; with this chain over
them, and over the CRCs, every changed byte of a sealed segment is found, and the chain costs the same for a batch of
any size. ``index_crc``, ``time_crc`` and ``aborted_crc`` run over the index entries, so an index is known to be
whole before it is believed.
"""

import struct
from typing import NamedTuple

from crc32c import crc32c

from logbroker.errors import PartitionDamaged
from logbroker.model import NO_TIMESTAMP

_STATE = struct.Struct(">qqqqqqIIIIIIII")
_STATE_V1 = struct.Struct(">qqqqqqIIIIII")
_HEAD = struct.Struct(">4sHxx")
_CRC = struct.Struct(">I")
_MAGIC = b"LBDG"
_VERSION = 2

STATE_SIZE = _STATE.size
STATE_V1_SIZE = _STATE_V1.size
DIGEST_SIZE = _HEAD.size + STATE_SIZE + _CRC.size
_DIGEST_V1_SIZE = _HEAD.size + STATE_V1_SIZE + _CRC.size

COVERED = 21
"""How many bytes of each batch ``header_crc`` runs over."""


class SegmentState(NamedTuple):
    """A segment up to position ``size`` of its log, which is a batch boundary."""

    base_offset: int
    next_offset: int
    size: int
    records: int
    max_timestamp_ms: int = NO_TIMESTAMP
    max_timestamp_offset: int = -1
    """The last offset of the first batch that has the largest timestamp (Kafka's "shallow offset")."""
    since_index: int = 0
    """Bytes since the last index entry, its own batch included."""
    index_entries: int = 0
    time_entries: int = 0
    header_crc: int = 0
    index_crc: int = 0
    time_crc: int = 0
    aborted_entries: int = 0
    aborted_crc: int = 0


def fresh_state(base_offset: int) -> SegmentState:
    """The state of an empty segment."""
    return SegmentState(base_offset, base_offset, 0, 0)


def encode_state(state: SegmentState) -> bytes:
    """``STATE_SIZE`` bytes."""
    return _STATE.pack(*state)


def decode_state(data: bytes, position: int, version: int) -> SegmentState:
    """The state at ``position`` of ``data``, as a digest of ``version`` has it; the caller has checked a CRC over it."""
    return SegmentState(*(_STATE_V1 if version == 1 else _STATE).unpack_from(data, position))


def encode_digest(state: SegmentState) -> bytes:
    """The content of a digest file."""
    body = _HEAD.pack(_MAGIC, _VERSION) + encode_state(state)
    return body + _CRC.pack(crc32c(body))


def decode_digest(data: bytes) -> SegmentState | None:
    """The state in a digest file, or None where it is not whole.

    Raises PartitionDamaged for a digest of a newer version, which must not be written over.
    """
    if (
        len(data) not in (DIGEST_SIZE, _DIGEST_V1_SIZE)
        or crc32c(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]
    ):
        return None
    magic, version = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        return None
    if version > _VERSION:
        raise PartitionDamaged(f"a digest has version {version}, written by a newer logbroker; this one knows {_VERSION}")
    return decode_state(data, _HEAD.size, version)
