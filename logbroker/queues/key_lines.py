"""One line of messages for each key, for queues that keep the order of keys.

What lives here: who is at the head of a key's line and who waits behind. What may not: why a line moves on.
Invariants: only the head of a line may be leased, moved or waiting out a backoff; the others wait, oldest first, and are
not eligible. A message without a key stands in no line.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from logbroker.queues.positions import Position


class Behind(NamedTuple):
    """A message that waits for its turn; ``due_ms`` is its place in the order of delivery once it is at the head."""

    due_ms: int
    position: Position


@dataclass(slots=True)
class _Line:
    head: Position
    behind: deque[Behind] = field(default_factory=deque)


@dataclass(slots=True)
class KeyLines:
    """The lines of one partition."""

    _lines: dict[bytes, _Line] = field(default_factory=dict)
    _keys: dict[Position, bytes] = field(default_factory=dict)
    parked: int = 0
    """How many messages wait behind a head."""

    def __len__(self) -> int:
        """The number of keys that have a line."""
        return len(self._lines)

    def is_behind(self, position: Position) -> bool:
        """Whether the message stands in a line, but not at its head."""
        key = self._keys.get(position)
        return key is not None and self._lines[key].head != position

    def join(self, key: bytes, position: Position, due_ms: int) -> bool:
        """Stand in the line of ``key``; whether that is at its head. Who stands in it already stays where he is."""
        line = self._lines.get(key)
        if position in self._keys:
            return line is not None and line.head == position
        self._keys[position] = key
        if line is None:
            self._lines[key] = _Line(position)
            return True
        line.behind.append(Behind(due_ms, position))
        self.parked += 1
        return False

    def replace(self, old: Position, new: Position) -> bool:
        """``new`` takes the place of ``old``, if that is the head of a line; whether it is."""
        key = self._keys.get(old)
        if key is None or self._lines[key].head != old:
            return False
        del self._keys[old]
        self._keys[new] = key
        self._lines[key].head = new
        return True

    def leave(self, position: Position) -> Behind | None:
        """Leave the line; returns who comes to its head by that."""
        key = self._keys.pop(position, None)
        if key is None:
            return None
        line = self._lines[key]
        if line.head != position:
            line.behind = deque(other for other in line.behind if other.position != position)
            self.parked -= 1
            return None
        if not line.behind:
            del self._lines[key]
            return None
        self.parked -= 1
        behind = line.behind.popleft()
        line.head = behind.position
        return behind

    def standing(self, chosen: Callable[[Position], bool]) -> list[Position]:
        """The positions in any line that are ``chosen``."""
        return [position for position in self._keys if chosen(position)]

    def clear(self) -> None:
        """Dissolve all lines."""
        self._lines.clear()
        self._keys.clear()
        self.parked = 0
