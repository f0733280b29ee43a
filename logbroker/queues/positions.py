"""Names of places: where a message stands, who it is, and which lease is meant.

What lives here: positions, message ids and receipts with their texts. What may not: what is done with them.
Invariants: a message id never changes, however often the message is copied; a receipt names one delivery only, also after
a crash that forgot the lease, because ``run`` is new with every start of a broker.

The text of an id is readable (``1f-0-s42``: incarnation in hexadecimal, partition, s for the source or r for the retry
topic, offset). A receipt is opaque: base64 of version, incarnation, partition, source, offset, lease number and run, all
big-endian.
"""

import base64
import binascii
import re
import struct
from enum import IntEnum
from typing import NamedTuple

from logbroker.errors import InvalidRequest, MessageNotFound
from logbroker.model import TopicPartition

RECEIPT_VERSION = 1
_RECEIPT = struct.Struct(">BQIBQQQ")
_ID = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,10})-([sr])([0-9]{1,19})")


class Source(IntEnum):
    """The three topics a queue reads; the numbers are journalled."""

    SOURCE = 0
    RETRY = 1
    DEAD = 2

    @property
    def letter(self) -> str:
        """The letter that stands for it in texts."""
        return "srd"[self]


class Position(NamedTuple):
    """One record of one of the three topics, in the partition at hand."""

    source: Source
    offset: int

    def __str__(self) -> str:
        return f"{self.source.letter}{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position of such a text. Raises ValueError."""
        return cls(Source("srd".index(text[0])), int(text[1:]))


class Place(NamedTuple):
    """What a machine stands on: a partition of a queue or subscription, in one life of it and one run of the broker."""

    queue: str
    incarnation: int
    """Chosen at creation, so that whatever belongs to an earlier queue of that name is told apart."""
    partition: int
    run: int
    """Chosen when the machine is loaded; no two runs of one queue share it."""
    source: TopicPartition
    retry: TopicPartition
    dead: TopicPartition

    def topic(self, source: Source) -> TopicPartition:
        """The partition that ``source`` means here."""
        return (self.source, self.retry, self.dead)[source]


class MessageId(NamedTuple):
    """The incarnation of a queue and the first position of a message in it."""

    incarnation: int
    partition: int
    first: Position

    def __str__(self) -> str:
        return f"{self.incarnation:x}-{self.partition}-{self.first}"

    @classmethod
    def parse(cls, text: str) -> "MessageId":
        """The id of such a text. Raises MessageNotFound."""
        found = _ID.fullmatch(text)
        if found is None:
            raise MessageNotFound(f"{text!r} is not the id of a message; an id looks like 1f-0-s42")
        incarnation, partition, letter, offset = found.groups()
        return cls(int(incarnation, 16), int(partition), Position.parse(letter + offset))


def index_of(first: Position) -> int:
    """A first position as one integer, the key of the indexes in memory."""
    return first.offset << 1 | first.source


def first_of(index: int) -> Position:
    """The first position of such an integer."""
    return Position(Source(index & 1), index >> 1)


class Receipt(NamedTuple):
    """One lease: ``number`` counts the deliveries of a partition, ``run`` tells apart what a power cut made equal."""

    incarnation: int
    partition: int
    position: Position
    number: int
    run: int

    def __str__(self) -> str:
        packed = _RECEIPT.pack(
            RECEIPT_VERSION,
            self.incarnation,
            self.partition,
            self.position.source,
            self.position.offset,
            self.number,
            self.run,
        )
        return base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def parse(cls, text: str) -> "Receipt":
        """The receipt of such a text. Raises InvalidRequest."""
        try:
            version, incarnation, partition, source, offset, number, run = _RECEIPT.unpack(
                base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
            )
            position = Position(Source(source), offset)
        except (binascii.Error, struct.error, ValueError):
            version = None
        if version != RECEIPT_VERSION:
            raise InvalidRequest(f"{text[:80]!r} is not a receipt; take it as it came with the message")
        return cls(incarnation, partition, position, number, run)
