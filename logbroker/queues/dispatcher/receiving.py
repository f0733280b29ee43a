"""What a receive asks for and gives, as data.

What lives here: the values and how a delivery is told. What may not: I/O.
"""

from typing import NamedTuple

from logbroker.model import Header
from logbroker.queues.bands import band_of
from logbroker.queues.commands import Delivery
from logbroker.queues.headers import CopyHeader, decoded, plain
from logbroker.queues.positions import MessageId, Place, Receipt, Source, first_of


class Want(NamedTuple):
    """A receive: at most ``limit`` messages, leased for ``lease_ms`` (None: what the queue says) to ``consumer``."""

    limit: int
    lease_ms: int | None = None
    consumer: str = ""
    attempt_id: str | None = None


class Received(NamedTuple):
    """One delivery. ``deliveries`` includes this one; ``failures`` are those before it.

    ``offset`` is that of the message in the queue's topic; None if it was published for later.
    """

    id: MessageId
    receipt: Receipt
    receipt_expires_ms: int
    deliveries: int
    failures: int
    last_error: str | None
    priority: int
    timestamp_ms: int
    partition: int
    offset: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


def told(delivery: Delivery, place: Place, priorities: int) -> Received:
    """A delivery as a consumer gets it."""
    message = delivery.message
    record, first = message.record, first_of(message.first)
    copy: CopyHeader | None = None if message.position.source is Source.SOURCE else decoded(record.headers)
    error = None if copy is None or copy.last_error is None else copy.last_error.decode(errors="replace")
    return Received(
        MessageId(place.incarnation, place.partition, first),
        delivery.receipt,
        delivery.expires_ms,
        delivery.deliveries,
        message.failures,
        error,
        band_of(place.partition, priorities),
        record.timestamp_ms if copy is None else copy.timestamp_ms,
        place.partition,
        first.offset if first.source is Source.SOURCE else None,
        record.key,
        record.value,
        record.headers if copy is None else plain(record.headers),
    )
