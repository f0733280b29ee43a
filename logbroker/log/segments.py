"""The segments of a partition by base offset. Looking one up costs the same among one and among ten thousand."""

from collections.abc import Iterator, Sequence

from sortedcontainers import SortedDict

from logbroker.log.segment import Segment


class Segments:
    """At least one segment; the last is the active one."""

    def __init__(self, segments: list[Segment]) -> None:
        self._by_base: SortedDict[int, Segment] = SortedDict((one.base_offset, one) for one in segments)
        self.active = segments[-1]
        self.size_bytes = sum(one.size for one in segments[:-1])
        """Bytes of the sealed ones."""
        self.changes = 0
        """Grows whenever a segment comes or goes."""

    def __len__(self) -> int:
        return len(self._by_base)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._by_base.values())

    @property
    def first(self) -> Segment:
        """The one with the lowest offsets."""
        segment: Segment = self._by_base.peekitem(0)[1]
        return segment

    def holding(self, offset: int) -> Segment:
        """The segment ``offset`` belongs to. The offset is not below the first."""
        segment: Segment = self._by_base.peekitem(self._by_base.bisect_right(offset) - 1)[1]
        return segment

    def starting_at_or_after(self, offset: int) -> Iterator[Segment]:
        """The segment ``offset`` belongs to, and those behind it."""
        first = self.holding(max(offset, self.first.base_offset)).base_offset
        return (self._by_base[base] for base in self._by_base.irange(minimum=first))

    def at(self, number: int) -> Segment:
        """The ``number``-th segment; negative numbers count from the end, as in a list."""
        segment: Segment = self._by_base.peekitem(number)[1]
        return segment

    def cool_down(self) -> None:
        """The active segment is about to be sealed; only the newest sealed one is taken to be in memory."""
        if len(self) > 1:
            self.at(-2).cool_down()

    def add(self, segment: Segment) -> None:
        """``segment`` is the active one now, and the one before it sealed."""
        self.size_bytes += self.active.size
        self._by_base[segment.base_offset] = segment
        self.active = segment
        self.changes += 1

    def remove_first(self) -> Segment:
        """Take out the first, which is sealed."""
        segment = self.first
        del self._by_base[segment.base_offset]
        self.size_bytes -= segment.size
        self.changes += 1
        return segment

    def replace(self, old: Sequence[Segment], new: Segment) -> None:
        """``new`` stands for ``old``, which are sealed and follow each other."""
        for segment in old:
            del self._by_base[segment.base_offset]
            self.size_bytes -= segment.size
        self._by_base[new.base_offset] = new
        self.size_bytes += new.size
        self.changes += 1
