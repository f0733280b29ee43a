"""Replies of one connection in the order of its requests.

What lives here: slots, one per request that is to be answered, and how ready ones are put together for writing. What may
not: sockets. Invariant: nothing is handed out before everything that was asked for earlier.
"""

from collections import deque
from typing import Final

from logbroker.wire.primitives import Buffer

MAX_SLOTS: Final = 1_000
"""How many requests of one connection may be unanswered before no more are served."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""How many bytes of replies may wait for an earlier one before no more requests are served."""
_JOIN_BELOW: Final = 16 * 1024
"""Smaller pieces are joined before they are written: a copy is cheaper than one more write."""


class Slot:
    """The place of one reply. ``pieces`` is None until the reply is there."""

    __slots__ = ("pieces",)

    def __init__(self) -> None:
        self.pieces: list[Buffer] | None = None


class Replies:
    """The slots of one connection."""

    __slots__ = ("_slots", "_waiting_bytes")

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self._waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def is_full(self) -> bool:
        """Whether so much is outstanding that no further request should be served."""
        return len(self._slots) >= MAX_SLOTS or self._waiting_bytes >= MAX_BYTES

    def reserve(self) -> Slot:
        """The next place."""
        slot = Slot()
        self._slots.append(slot)
        return slot

    def fill(self, slot: Slot, pieces: list[Buffer]) -> None:
        """Put a reply into its place."""
        slot.pieces = pieces
        self._waiting_bytes += sum(map(len, pieces))

    def take_ready(self) -> list[Buffer]:
        """What can be written now, in few pieces; the slots of it are gone."""
        slots = self._slots
        ready: list[Buffer] = []
        while slots and (pieces := slots[0].pieces) is not None:
            slots.popleft()
            ready += pieces
        if not slots:
            self._waiting_bytes = 0
        elif ready:
            self._waiting_bytes -= sum(map(len, ready))
        return _joined(ready) if len(ready) > 1 else ready


def _joined(pieces: list[Buffer]) -> list[Buffer]:
    """The same bytes with neighbours below ``_JOIN_BELOW`` put together."""
    out: list[Buffer] = []
    small: list[Buffer] = []
    for piece in pieces:
        if len(piece) < _JOIN_BELOW:
            small.append(piece)
            continue
        if small:
            out.append(b"".join(small))
            small = []
        out.append(piece)
    if small:
        out.append(b"".join(small) if len(small) > 1 else small[0])
    return out
