"""Cursors: what of a topic is done for a subscription, as a value that can be kept and gone back to.

What lives here: the value and its short form. What may not: machines, storage.
Invariant: ``done`` are ascending, disjoint spans above ``offset``.
"""

from collections.abc import Iterable

import msgspec

from logbroker.queues.events import Skipped, Span


class Cursor(msgspec.Struct, frozen=True):
    """In one partition everything below ``offset`` is done, and above it ``runs``: lengths, in turn, of open and done."""

    offset: int
    runs: tuple[int, ...] = ()

    @classmethod
    def of(cls, offset: int, done: Iterable[Span]) -> "Cursor":
        """The cursor at an offset, with what is done above it."""
        return cls(offset, Skipped.over(offset, done).runs)

    @property
    def done(self) -> tuple[Span, ...]:
        """What is done above the offset."""
        return tuple(Skipped(self.offset, self.runs).spans())

    def without(self, opened: Iterable[int]) -> "Cursor":
        """The same, but for these offsets, which are not done."""
        again = sorted(set(opened))
        if not again:
            return self
        start = min(self.offset, again[0])
        spans: list[Span] = []
        for low, end in ((start, self.offset), *self.done):
            for offset in again:
                if low <= offset < end:
                    spans.append((low, offset))
                    low = offset + 1
            spans.append((low, end))
        return Cursor.of(start, _joined(spans)).normal()

    def not_below(self, start: int) -> "Cursor":
        """The same in a log that begins at ``start``: what is gone is done."""
        if start <= self.offset:
            return self
        return Cursor.of(start, ((max(low, start), end) for low, end in self.done if end > start)).normal()

    def normal(self) -> "Cursor":
        """The same with the offset at the first that is not done."""
        offset, done = self.offset, self.done
        while done and done[0][0] <= offset:
            offset, done = max(offset, done[0][1]), done[1:]
        return Cursor.of(offset, done)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Ascending spans without the empty ones, those that touch made one."""
    joined: list[Span] = []
    for low, end in spans:
        if low >= end:
            continue
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((low, end))
    return joined
