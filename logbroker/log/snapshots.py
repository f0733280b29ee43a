"""Snapshots of producer windows on disk: ``NNN.producers``, named after the offset they are valid at.

What lives here: which to write, keep, load and remove. What may not: what is in them (``producers``). Invariants: one
that is not whole counts as missing; then an older one is taken and the log replayed from there. Two are kept beside
the one written when the active segment began, which was flushed with it, so a power cut costs one segment of reading
at most.
"""

from logbroker.log.names import PRODUCERS, file_name
from logbroker.log.place import Place
from logbroker.log.producers import Producers, decode_producers

_KEPT = 2


class Snapshots:
    """The snapshots of one partition; ``offsets`` are those there are."""

    def __init__(self, place: Place, offsets: list[int]) -> None:
        self._place = place
        self._offsets = sorted(offsets)

    def store(self, offset: int, snapshot: bytes, segment_base: int) -> list[str]:
        """Write ``snapshot``, valid at ``offset``, and remove those no longer needed, whose paths are returned.

        ``segment_base`` is where the active segment begins. Raises StorageError.
        """
        self.remove(offset)
        file = self._place.files.create(self._path(offset))
        try:
            file.append([snapshot])
        finally:
            file.close()
        self._offsets = sorted({*self._offsets, offset})
        surplus = [old for old in self._offsets[:-_KEPT] if old != segment_base]
        for old in surplus:
            self.remove(old)
        return [self._path(old) for old in surplus]

    def remove(self, offset: int) -> None:
        """Remove one, if it is there."""
        if offset in self._offsets:
            self._place.files.unlink(self._path(offset))
            self._offsets.remove(offset)

    def load_newest(self, at_most: int) -> tuple[Producers, int] | None:
        """The newest whole one at or before an offset, with its offset."""
        for offset in reversed([one for one in self._offsets if one <= at_most]):
            file = self._place.files.open(self._path(offset))
            try:
                loaded = decode_producers(file.pread(file.size(), 0))
            finally:
                file.close()
            if loaded is not None and loaded[1] == offset:
                return loaded
        return None

    def remove_after(self, end: int) -> bool:
        """Remove those of offsets that do not exist (any more). Returns whether there were any."""
        beyond = [one for one in self._offsets if one > end]
        for offset in beyond:
            self.remove(offset)
        return bool(beyond)

    def _path(self, offset: int) -> str:
        return self._place.at(file_name(offset, PRODUCERS))
