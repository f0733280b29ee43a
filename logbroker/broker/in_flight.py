"""How much memory all connections together hold for their clients: requests that arrive, answers that are not taken.

What lives here: one number, its limit, and who may go on when it is reached. What may not: connections, protocols.
Pure; on the loop's thread.
Invariants: everybody always gets a little (``LEAST``), so nothing stands still for ever; when the limit is reached, one
large request at a time may go on growing, so those that are half there cannot keep each other from getting whole.
"""

from typing import Final

from logbroker.errors import Throttled
from logbroker.metrics import Metrics

LEAST: Final = 64 * 1024
"""Bytes that an answer may have, and a request may grow to, however full it is."""


class InFlight:
    """The bytes that are held, in all connections."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        metrics.gauge("in_flight_bytes", "Bytes of requests and answers that are held.", read=lambda: self.used)
        self.limit = limit
        self.used = 0
        self._growing: object | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more should be taken on."""
        return self.used >= self.limit

    def grant(self, wanted: int) -> int:
        """How large an answer may be that could be ``wanted`` bytes."""
        return max(min(wanted, LEAST), min(wanted, self.limit - self.used))

    def changed(self, before: int, now: int) -> None:
        """A connection that held ``before`` bytes holds ``now``."""
        self.used += now - before

    def take(self, size: int) -> None:
        """So many more bytes of a request have come. Raises Throttled when that is too much in all."""
        if self.is_full:
            raise Throttled(
                f"{self.used} bytes of requests and answers are in flight, max_in_flight_bytes is {self.limit}: try again"
            )
        self.used += size

    def may_grow(self, owner: object) -> bool:
        """Whether the request that ``owner`` is receiving may get larger now. It says ``has_grown`` at the end."""
        if not self.is_full or self._growing is owner:
            return True
        if self._growing is None:
            self._growing = owner
            return True
        return False

    def has_grown(self, owner: object) -> None:
        """What ``owner`` was receiving is whole, or gone."""
        if self._growing is owner:
            self._growing = None
