"""What a journal writes: events and snapshots of machines as records.

What lives here: the codec. What may not: I/O, the order in which records are written (``journal``).
Layout of one record: the key is the machine's name in UTF-8; the value is

    version byte (1) | kind byte | msgpack array of hard events

Kind 0 holds the events of one decision. A snapshot of a machine is one or more records of kind SNAPSHOT, of which the first
has the bit FIRST and the last the bit LAST; only the whole of it counts. The first record ever written of a machine is
therefore an empty snapshot: what comes before it in the log belongs to an earlier life and is skipped by a reader who
starts in the middle.
Rule: a change that an older logbroker would misread raises the version; a new field at the end does not need to.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from logbroker.errors import DataDirectoryError, PartitionDamaged
from logbroker.machine import HardEvent
from logbroker.model import Record, StoredRecord, TopicPartition

VERSION = 1

EVENTS = 0
SNAPSHOT = 1
FIRST = 2
LAST = 4

PIECE_BYTES = 256 * 1024
"""A snapshot record is closed when it reaches this, so that no record takes long to make or to read."""


class JournalRecord(NamedTuple):
    """One record, decoded."""

    name: str
    kind: int
    events: Sequence[HardEvent]


class EventCodec:
    """Encodes and decodes the events of one kind of machine. ``event_type`` is the union of its hard events."""

    def __init__(self, event_type: Any) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[list[HardEvent]] = msgspec.msgpack.Decoder(list[event_type])

    def events(self, name: str, events: Sequence[HardEvent]) -> Record:
        """The record of one decision."""
        return self._record(name, EVENTS, self._encoder.encode(events))

    def snapshot(self, name: str, events: Iterable[HardEvent]) -> Iterator[Record]:
        """The records of a snapshot, at least one."""
        kind = SNAPSHOT | FIRST
        piece: list[bytes] = []
        size = 0
        for event in events:
            if size >= PIECE_BYTES:
                yield self._record(name, kind, _array(piece))
                kind, piece, size = SNAPSHOT, [], 0
            piece.append(self._encoder.encode(event))
            size += len(piece[-1])
        yield self._record(name, kind | LAST, _array(piece))

    def _record(self, name: str, kind: int, events: bytes) -> Record:
        return Record(bytes((VERSION, kind)) + events, name.encode())

    def decode(self, where: TopicPartition, record: StoredRecord) -> JournalRecord:
        """A record read back. Raises DataDirectoryError for a newer version, PartitionDamaged for what is no record."""
        value = record.value or b""
        if value[:1] > bytes((VERSION,)):
            raise DataDirectoryError(
                f"{where} holds records of version {value[0]} and this logbroker reads up to {VERSION}: use a newer one"
            )
        try:
            return JournalRecord((record.key or b"").decode(), value[1], self._decoder.decode(value[2:]))
        except (IndexError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise PartitionDamaged(f"offset {record.offset} of {where} is not a journal record: {error}") from error


def _array(items: Sequence[bytes]) -> bytes:
    """A msgpack array (format array 32) of items that are encoded already."""
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)
