"""The reserved headers of a copy: how a retry or dead-letter record says where it comes from.

What lives here: their names, their text form, and the bounds on their size. What may not: decisions. All values are text;
numbers are decimal, an incarnation is hexadecimal, a position is a letter (s, r, d) and an offset.
Invariants: reserved headers are believed in retry and dead-letter topics only; a copy *replaces* them, so they do not grow
with the number of copies; all of them together stay below 32 KiB, which the topics' extra allowance covers.

  lb-id            id of the message; absent when the copy is its first position (a delayed publish)
  lb-replaces      the one position this copy takes over; absent for a delayed publish
  lb-incarnation   the life of the queue that wrote it; a copy of another life is void
  lb-generation    how often the queue had been sought by then; a copy of an earlier generation is void
  lb-queue, lb-topic                 the queue or subscription, and the topic the message was first in
  lb-failures, lb-deliveries         the two counters
  lb-due                             when it is to be delivered, in ms since the epoch
  lb-timestamp, lb-ttl-from          time stamp of the message, and from when its time to live counts
  lb-reason, lb-first-error, lb-last-error, lb-history, lb-redriven     what happened to it
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from logbroker.config import KIB
from logbroker.errors import CorruptMessage, MessageNotFound
from logbroker.model import Header
from logbroker.queues.positions import MessageId, Position

RESERVED = "lb-"
TTL_MS = "logbroker-ttl-ms"
"""Header of a message with its own time to live; any producer may set it."""
DEDUP_ID = "logbroker-dedup-id"
"""Header under which a queue send keeps its deduplication id."""

MAX_ERROR_BYTES = 4 * KIB
LEAN_ERROR_BYTES = 256
MAX_HISTORY = 16


class Reason(StrEnum):
    """Why a message was moved."""

    NACK = "nack"
    LEASE_EXPIRED = "lease_expired"
    REJECTED = "rejected"
    MAX_ATTEMPTS = "max_attempts"
    EXPIRED = "expired"
    DELAYED = "delayed"
    REDRIVEN = "redriven"


class Happened(msgspec.Struct, frozen=True):
    """One line of a message's history: how often ``reason`` moved it in ``queue``, first and last."""

    queue: str
    reason: str
    count: int
    first_ms: int
    last_ms: int


class CopyHeader(NamedTuple):
    """The reserved headers of one copy. Errors and history stay encoded until somebody looks."""

    incarnation: int
    generation: int
    replaces: Position | None
    id: MessageId | None
    failures: int
    deliveries: int
    due_ms: int
    timestamp_ms: int
    ttl_from_ms: int
    queue: str
    topic: str
    reason: str
    redriven: int = 0
    first_error: bytes | None = None
    last_error: bytes | None = None
    history: bytes | None = None

    def happened(self) -> list[Happened]:
        """The history, oldest first."""
        return [] if self.history is None else msgspec.json.decode(self.history, type=list[Happened])


_REQUIRED = (
    *("lb-incarnation", "lb-generation", "lb-failures", "lb-deliveries", "lb-due"),
    *("lb-timestamp", "lb-ttl-from", "lb-queue", "lb-topic", "lb-reason"),
)


def encoded(copy: CopyHeader) -> tuple[Header, ...]:
    """The headers of a copy."""
    optional: list[tuple[str, bytes | None]] = [
        ("lb-id", None if copy.id is None else str(copy.id).encode()),
        ("lb-replaces", None if copy.replaces is None else str(copy.replaces).encode()),
        ("lb-redriven", b"%d" % copy.redriven if copy.redriven else None),
        ("lb-first-error", copy.first_error),
        ("lb-last-error", copy.last_error),
        ("lb-history", copy.history),
    ]
    return (
        Header("lb-incarnation", b"%x" % copy.incarnation),
        Header("lb-generation", b"%d" % copy.generation),
        Header("lb-failures", b"%d" % copy.failures),
        Header("lb-deliveries", b"%d" % copy.deliveries),
        Header("lb-due", b"%d" % copy.due_ms),
        Header("lb-timestamp", b"%d" % copy.timestamp_ms),
        Header("lb-ttl-from", b"%d" % copy.ttl_from_ms),
        Header("lb-queue", copy.queue.encode()),
        Header("lb-topic", copy.topic.encode()),
        Header("lb-reason", copy.reason.encode()),
        *(Header(name, value) for name, value in optional if value is not None),
    )


def decoded(headers: Iterable[Header]) -> CopyHeader:
    """The reserved headers of a retry or dead-letter record. Raises CorruptMessage when it is not a copy of ours."""
    found: dict[str, Any] = dict(headers)  # with the others, which nobody looks at: a load does this a million times
    try:
        incarnation, generation, failures, deliveries, due, timestamp, ttl_from, queue, topic, reason = map(
            found.__getitem__, _REQUIRED
        )
        replaces, message_id = found.get("lb-replaces"), found.get("lb-id")
        return CopyHeader(
            int(incarnation, 16),
            int(generation),
            None if replaces is None else Position.parse(replaces.decode()),
            None if message_id is None else MessageId.parse(message_id.decode()),
            int(failures),
            int(deliveries),
            int(due),
            int(timestamp),
            int(ttl_from),
            queue.decode(),
            topic.decode(),
            reason.decode(),
            int(found.get("lb-redriven", b"0")),
            found.get("lb-first-error"),
            found.get("lb-last-error"),
            found.get("lb-history"),
        )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, MessageNotFound) as error:
        raise CorruptMessage(
            f"a record of a retry or dead-letter topic has no readable {RESERVED}* headers: {error}"
        ) from error


def plain(headers: Iterable[Header], *, without: tuple[str, ...] = ()) -> tuple[Header, ...]:
    """The headers that are the message's own."""
    return tuple(header for header in headers if not header.name.startswith(RESERVED) and header.name not in without)


def clipped(error: str | None, limit: int = MAX_ERROR_BYTES) -> bytes | None:
    """An error text as a header value of at most ``limit`` bytes; no character is cut in two."""
    return None if error is None else shortened(error.encode(errors="replace"), limit)


def shortened(text: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes of UTF-8, cut between characters."""
    return text if len(text) <= limit else text[:limit].decode(errors="ignore").encode()


def extended(history: list[Happened], queue: str, reason: Reason, at_ms: int) -> bytes:
    """The history with one more happening, compressed by queue and reason; the oldest lines go beyond the limit."""
    same = next((line for line in history if (line.queue, line.reason) == (queue, reason)), None)
    others = [line for line in history if line is not same]
    line = Happened(queue, reason, 1 if same is None else same.count + 1, at_ms if same is None else same.first_ms, at_ms)
    return msgspec.json.encode([*others, line][-MAX_HISTORY:])


def integer_header(headers: Iterable[Header], name: str) -> int | None:
    """The last header of that name as a whole number of at least 0, or None if there is none or it is not one."""
    value = next((header.value for header in reversed(tuple(headers)) if header.name == name), None)
    return int(value) if value is not None and value.isdigit() and len(value) < 19 else None
