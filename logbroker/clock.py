"""Where the time comes from.

The shells read a ``Clock`` once per turn and pass ``Now`` down; nothing below them asks for the time. Tests own a
``ManualClock`` and never sleep. Waiting for a time is the shell's business as well (``asyncio``), so a clock only tells.
"""

import time
from typing import Protocol

from logbroker.model import Now


class Clock(Protocol):
    """Tells the wall-clock and the monotonic time."""

    def now(self) -> Now:
        """The present instant."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Now:
        return Now(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)


class ManualClock:
    """A clock that moves only when told to; both of its times advance together unless the wall clock is set."""

    def __init__(self, wall_ms: int = 1_700_000_000_000, mono_ms: int = 0) -> None:
        self._now = Now(wall_ms, mono_ms)

    def now(self) -> Now:
        return self._now

    def advance(self, ms: int) -> None:
        """Move both times forward by ``ms``."""
        self._now = Now(self._now.wall_ms + ms, self._now.mono_ms + ms)

    def set_wall(self, wall_ms: int) -> None:
        """Set the wall clock, as an administrator or NTP would; the monotonic time stays."""
        self._now = Now(wall_ms, self._now.mono_ms)
