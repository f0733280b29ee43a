"""What a lease machine must know of its queue's or subscription's configuration."""

from dataclasses import dataclass, field

from logbroker.config import HOUR_MS
from logbroker.queues.redelivery import RetryPolicy

MAX_LEASE_MS = 12 * HOUR_MS
"""The longest a message stays leased, counted from its receive, however often the lease is extended."""
KEY_WINDOW = 20_000
"""With ordered keys, how far the source is read ahead of its first unfinished message."""
REMEMBERED_ACKS = 10_000
"""How many acked receipts are remembered, so that a repeated ack is told from a lost lease."""


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """``max_attempts=None`` never gives up; ``ttl_ms=None`` never expires; ``ordered`` keeps the order of each key."""

    max_attempts: int | None = 10
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    ttl_ms: int | None = None
    ordered: bool = False
    own_ttl: bool = True
    """Whether a message may bring a time to live of its own."""
