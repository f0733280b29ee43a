"""Snapshots of producer windows on disk: ``NNN.producers``, named after the offset they are valid at.

What lives here: which to write, keep, load and remove. What may not: what is in them (``producers``).
Invariants: one that is not whole counts as missing; then an older one is taken and the log replayed from there. Most are
written without a flush. The newest that is known to be on disk is kept, and no segment behind it may be deleted, so
whatever a power cut leaves, the windows can be had again.
"""

from logbroker.log.files import File
from logbroker.log.names import PRODUCERS, file_name
from logbroker.log.place import Place
from logbroker.log.producers import Producers, decode_producers

_KEPT = 2


class Snapshots:
    """The snapshots of one partition."""

    def __init__(self, place: Place, offsets: list[int]) -> None:
        self._place = place
        self._offsets = sorted(offsets)
        self._whole: set[int] = set()
        """Those known to be right, because they were written or loaded since the start."""
        self.durable: int | None = None
        """The offset of the newest one that is known to be on disk."""

    def store(self, offset: int, snapshot: bytes, *, durable: bool = False) -> list[str]:
        """Write ``snapshot``, valid at ``offset``, and remove those no longer needed, whose paths are returned.

        One that is known to be right stays as it is. If ``durable``, it is flushed, all but its name. Raises StorageError.
        """
        file = self._place.files.open(self._path(offset)) if offset in self._whole else self._write(offset, snapshot)
        try:
            if durable:
                file.fdatasync()
        finally:
            file.close()
        if durable:
            self.durable = offset
        surplus = [old for old in self._offsets[:-_KEPT] if old != self.durable]
        for old in surplus:
            self.remove(old)
        return [self._path(old) for old in surplus]

    def _write(self, offset: int, snapshot: bytes) -> File:
        self.remove(offset)
        file = self._place.files.create(self._path(offset))
        self._offsets = sorted({*self._offsets, offset})
        file.append([snapshot])
        self._whole.add(offset)
        return file

    def remove(self, offset: int) -> None:
        """Remove one, if it is there."""
        if offset in self._offsets:
            self._place.files.unlink(self._path(offset))
            self._offsets.remove(offset)
            self._whole.discard(offset)

    def load_newest(self, at_most: int) -> tuple[Producers, int] | None:
        """The newest whole one at or before an offset, with its offset."""
        for offset in reversed([one for one in self._offsets if one <= at_most]):
            file = self._place.files.open(self._path(offset))
            try:
                loaded = decode_producers(file.pread(file.size(), 0))
            finally:
                file.close()
            if loaded is not None and loaded[1] == offset:
                self._whole.add(offset)
                return loaded
        return None

    def remove_after(self, end: int) -> None:
        """Remove those of offsets that do not exist (any more)."""
        for offset in [one for one in self._offsets if one > end]:
            self.remove(offset)

    def _path(self, offset: int) -> str:
        return self._place.at(file_name(offset, PRODUCERS))
