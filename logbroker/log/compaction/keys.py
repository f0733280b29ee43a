"""The last offset of each key, in a table of fixed size.

What lives here: a flat open-addressing table of 128-bit hashes and offsets, 24 bytes a slot. What may not: records.
Invariants: it never grows, and says when it is full. Two keys with the same BLAKE2b-128 hash would count as one (Kafka
takes MD5); of 2^40 keys that happens with a chance below 10^-14.
"""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Final

SLOT_BYTES: Final = 24
LOAD: Final = 0.75
"""How much of the table is filled at most; beyond, each look-up would search for long."""
_HALVES: Final = Struct("<QQ")


class KeyTable:
    """Offsets by key."""

    def __init__(self, most_bytes: int, most_keys: int) -> None:
        self._slots = max(2, min(most_bytes // SLOT_BYTES, int(most_keys / LOAD) + 2))
        self._room = max(1, int(self._slots * LOAD))
        self._low = array("Q", [0]) * self._slots
        self._high = array("Q", [0]) * self._slots
        self._above = array("q", [0]) * self._slots
        """Offset + 1; 0 where the slot is free."""

    def put_all(self, entries: Iterable[tuple[bytes, int]]) -> int | None:
        """Remember the offsets, which ascend, of the keys. Returns the offset for whose key there was no room, if any."""
        low, high, above, slots = self._low, self._high, self._above, self._slots
        for key, offset in entries:
            first, second = _HALVES.unpack(blake2b(key, digest_size=16).digest())
            at = first % slots
            while above[at]:
                if low[at] == first and high[at] == second:
                    break
                at = at + 1 if at + 1 < slots else 0
            else:
                if not self._room:
                    return offset
                self._room -= 1
                low[at], high[at] = first, second
            above[at] = offset + 1
        return None

    def last(self, key: bytes) -> int:
        """The last offset of ``key``; -1 if it is not known."""
        first, second = _HALVES.unpack(blake2b(key, digest_size=16).digest())
        at = first % self._slots
        while self._above[at]:
            if self._low[at] == first and self._high[at] == second:
                return int(self._above[at]) - 1
            at = at + 1 if at + 1 < self._slots else 0
        return -1
