"""Who waits for messages: long polls, first come first served.

What lives here: the waiting. What may not: what is waited for.
Invariant: no ring is lost: one that comes while somebody looks for messages makes his next wait return at once, and one
that was given to somebody who left goes to the next.
"""

import asyncio
from collections import deque


class Bell:
    """Rung when there may be something to receive; each ring wakes one waiter."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.rings = 0
        """How often it rang: to be noted before looking, and handed to ``wait``."""
        self.somebody = asyncio.Event()
        """Set while anybody waits."""

    def __len__(self) -> int:
        return len(self._waiting)

    def ring(self) -> None:
        """Wake whoever waits longest."""
        self.rings += 1
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                break
        self._note()

    def ring_all(self) -> None:
        """Wake everybody."""
        self.rings += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        self._note()

    async def wait(self, noted: int, timeout_s: float) -> None:
        """Return at the next ring after ``noted``, or when the time is over."""
        if self.rings != noted or timeout_s <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._note()
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        except asyncio.CancelledError:
            if future.done():
                self.ring()
            raise
        finally:
            if not future.done():
                future.cancel()
                self._waiting.remove(future)
            self._note()

    def _note(self) -> None:
        if self._waiting:
            self.somebody.set()
        else:
            self.somebody.clear()
