"""Messages that may be delivered now, in the order of delivery.

What lives here: the order (due time, then offset, then source) and the look-up by position. What may not: why a message is
eligible.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from sortedcontainers import SortedList

from logbroker.queues.positions import Position, Source

Item = TypeVar("Item")


class Eligible(Generic[Item]):
    """Positions with what is known of the message there: the whole message, or nothing yet."""

    __slots__ = ("_by_position", "_order")

    def __init__(self) -> None:
        self._by_position: dict[Position, tuple[int, Item]] = {}
        self._order: SortedList[tuple[int, int, Source]] = SortedList()

    def __len__(self) -> int:
        return len(self._by_position)

    def __contains__(self, position: Position) -> bool:
        return position in self._by_position

    def put(self, position: Position, due_ms: int, item: Item) -> None:
        """Add a position."""
        self.discard(position)
        self._by_position[position] = due_ms, item
        self._order.add((due_ms, position.offset, position.source))

    def discard(self, position: Position) -> tuple[int, Item] | None:
        """Remove a position; returns its due time and what was known of it."""
        found = self._by_position.pop(position, None)
        if found is not None:
            self._order.remove((found[0], position.offset, position.source))
        return found

    def in_order(self) -> Iterator[tuple[int, Position]]:
        """(due, position), in the order of delivery. The set must not change while this is read."""
        return ((due, Position(source, offset)) for due, offset, source in self._order)

    def get(self, position: Position) -> Item:
        """What is known of the message at a position that is in the set."""
        return self._by_position[position][1]

    def drop_below(self, source: Source, lowest: int) -> None:
        """Remove every position of ``source`` below ``lowest``."""
        for position in [p for p in self._by_position if p.source is source and p.offset < lowest]:
            self.discard(position)

    def clear(self) -> None:
        """Remove everything."""
        self._by_position.clear()
        self._order.clear()
