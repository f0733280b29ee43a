"""What is due when: indexes in memory over deadlines, leases' and waiting messages' alike.

What lives here: the due-time index, the schedule of the retry topic (findable by message id), and the decision which old
records of that topic are worth appending again. What may not: records, clocks.
Invariant: order is by due time, then by identity (an offset or a lease number); an unequal delay never blocks another.

A million messages may wait, so an entry is one integer, ``due << 63 | identity``, in a sorted list; the dictionary by id
shares that integer. Times and identities are not negative; an identity is below 2**63.
"""

from collections.abc import Iterator
from itertools import chain

from sortedcontainers import SortedList

from logbroker.config import MIB
from logbroker.queues.offset_ranges import OffsetRanges

IDENTITY_BITS = 63
_IDENTITY = (1 << IDENTITY_BITS) - 1
WORTH_REWRITING_BYTES = 64 * MIB


class DueIndex:
    """A set of (due, identity), ordered."""

    __slots__ = ("_order",)

    def __init__(self) -> None:
        self._order: SortedList[int] = SortedList()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return map(_unpacked, self._order)

    def add(self, due: int, identity: int) -> int:
        """Add an entry; returns it packed, for whoever wants to share the integer."""
        packed = due << IDENTITY_BITS | identity
        self._order.add(packed)
        return packed

    def discard(self, due: int, identity: int) -> None:
        """Remove an entry, if it is there."""
        self._order.discard(due << IDENTITY_BITS | identity)

    def holds(self, due: int, identity: int) -> bool:
        """Whether the entry is there."""
        return due << IDENTITY_BITS | identity in self._order

    def due(self, now: int) -> Iterator[tuple[int, int]]:
        """The entries due at ``now``, earliest first. The index must not change while this is read."""
        return map(_unpacked, self._order.irange(maximum=now << IDENTITY_BITS | _IDENTITY))

    def after(self, due: int, identity: int) -> Iterator[tuple[int, int]]:
        """The entries after that one, which need not be there, earliest first."""
        return map(_unpacked, self._order.irange(minimum=due << IDENTITY_BITS | identity, inclusive=(False, True)))

    def count_after(self, now: int) -> int:
        """How many entries are not due at ``now``."""
        return len(self._order) - self._order.bisect_right(now << IDENTITY_BITS | _IDENTITY)

    def first_due(self) -> int | None:
        """The earliest due time."""
        return self._order[0] >> IDENTITY_BITS if self._order else None

    def clear(self) -> None:
        """Remove everything."""
        self._order.clear()


class Schedule:
    """The open messages of a retry topic: each is *known* by the index of its id, and *waiting* until it is taken."""

    __slots__ = ("_known", "failed", "waiting")

    def __init__(self) -> None:
        self.waiting = DueIndex()
        self.failed = DueIndex()
        """Those of the waiting that failed before."""
        self._known: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[int]:
        """The id indexes of all messages, in no order."""
        return iter(self._known)

    def put(self, first: int, due: int, offset: int, *, failed: bool = False) -> None:
        """The message with id index ``first`` waits at ``offset`` until ``due``, and nowhere else."""
        self.take(first)
        self._known[first] = self.waiting.add(due, offset)
        if failed:
            self.failed.add(due, offset)

    def know(self, first: int, due: int, offset: int) -> None:
        """The message stands at ``offset`` but does not wait: it is leased or eligible."""
        self.take(first)
        self._known[first] = due << IDENTITY_BITS | offset

    def find(self, first: int) -> tuple[int, int] | None:
        """(due, offset) of the message, waiting or not."""
        packed = self._known.get(first)
        return None if packed is None else _unpacked(packed)

    def take(self, first: int) -> None:
        """The message does not wait any more."""
        found = self.find(first)
        if found is not None:
            self._leave(*found)

    def forget(self, first: int, offset: int) -> None:
        """The message is no longer at ``offset``; nothing happens if it has already been put elsewhere."""
        found = self.find(first)
        if found is not None and found[1] == offset:
            self._leave(*found)
            del self._known[first]

    def _leave(self, due: int, offset: int) -> None:
        self.waiting.discard(due, offset)
        if self.failed:
            self.failed.discard(due, offset)

    def at(self, offset: int) -> list[int]:
        """The id index of the message at ``offset``, if any: a walk over everything, for what is known by nothing else."""
        return [first for first, packed in self._known.items() if packed & _IDENTITY == offset]

    def forget_below(self, offset: int) -> None:
        """Forget all messages below ``offset``: a walk over everything."""
        for first, packed in list(self._known.items()):
            if packed & _IDENTITY < offset:
                self.forget(first, packed & _IDENTITY)

    def clear(self) -> None:
        """Forget everything."""
        self.waiting.clear()
        self.failed.clear()
        self._known.clear()


def worth_rewriting(finished: OffsetRanges, end: int, bytes_per_record: float, limit: int) -> list[int]:
    """The oldest open offsets of a log whose append at its end frees more than 64 MiB; at most ``limit``, or none.

    A long delay pins everything finished behind it: the log is trimmed at its lowest open record only. What is freed is at
    least twice what is written again, so a log is never rewritten over and over for little.
    """
    opened: list[int] = []
    low = finished.frontier
    for start, after in chain(finished, ((end, end),)):
        if len(opened) + start - low > limit:
            return []
        opened.extend(range(low, start))
        low = after
        freed = (low - finished.frontier - len(opened)) * bytes_per_record
        if freed > WORTH_REWRITING_BYTES and freed >= 2 * len(opened) * bytes_per_record:
            return opened
    return []


def _unpacked(packed: int) -> tuple[int, int]:
    return packed >> IDENTITY_BITS, packed & _IDENTITY
