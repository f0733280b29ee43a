"""Receives that can be repeated: a client whose answer got lost asks again and gets the same leases.

What lives here: which leases an attempt was given. What may not: whether they still stand (the lease machine knows).
Invariant: an attempt is remembered for five minutes (as SQS does), and at most 10,000 of them.
"""

from dataclasses import dataclass, field

from logbroker.config import MINUTE_MS
from logbroker.queues.positions import Receipt

REMEMBERED_MS = 5 * MINUTE_MS
MAX_ATTEMPTS = 10_000


@dataclass(slots=True)
class ReceiveAttempts:
    """The attempts of one queue by their ids, oldest first. Times are monotonic."""

    _given: dict[str, tuple[int, tuple[Receipt, ...]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._given)

    def remember(self, attempt_id: str, receipts: tuple[Receipt, ...], now_ms: int) -> None:
        """An attempt was answered."""
        self._given.pop(attempt_id, None)
        self._given[attempt_id] = now_ms + REMEMBERED_MS, receipts
        while len(self._given) > MAX_ATTEMPTS or next(iter(self._given.values()))[0] <= now_ms:
            del self._given[next(iter(self._given))]

    def given(self, attempt_id: str, now_ms: int) -> tuple[Receipt, ...] | None:
        """What an attempt was given, or None if it is new or too long ago."""
        until, receipts = self._given.get(attempt_id, (now_ms, ()))
        return receipts if until > now_ms else None
