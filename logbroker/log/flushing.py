"""What must be flushed, and how far a flush has come.

What lives here: the files written since the last flush, and the ticket that a thread takes away to flush them. What
may not: threads, and what follows from a flush (``partition``).
Invariants: files are flushed in the order they were first written, so a segment is never durable before the one in
front of it; a ticket covers exactly what was written when it was made. A flush that fails is never repeated.
"""

from dataclasses import dataclass

from logbroker.log.descriptors import FlushesData, OpenFile
from logbroker.log.state import SegmentState


@dataclass(frozen=True, slots=True)
class FlushTicket:
    """What one flush covers. ``sync`` may run in any thread, once."""

    files: tuple[FlushesData, ...]
    state: SegmentState
    """The active segment at the time; everything before its ``next_offset`` is durable after ``sync``."""
    checkpoint_due: bool
    """Whether the recovery point is to be stored when this flush is done."""
    producers: bytes | None
    """The snapshot of producer windows that belongs to that recovery point, if there are any."""
    snapshot_offset: int | None
    """The offset of a snapshot of producer windows that is among the files."""

    def sync(self) -> None:
        """Make it durable. Raises StorageError; what is on disk is then unknown and nothing may be acknowledged."""
        for file in self.files:
            file.fdatasync()


class Dirty:
    """Files written since they were last part of a ticket, in the order of their first write."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[OpenFile, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._files)

    def add(self, file: OpenFile, *, done: bool = False) -> None:
        """``file`` was written; if ``done``, for the last time, so it need not stay open."""
        self._files[file.path] = file, done

    def discard(self, path: str) -> None:
        """The file is gone."""
        self._files.pop(path, None)

    def take(self) -> tuple[FlushesData, ...]:
        """Hand over what is dirty. Of files that are not open now, however many, one at a time will be."""
        files = tuple([file.to_flush() for file, _ in self._files.values()])
        for file, done in self._files.values():
            if done:
                file.let_go()
        self._files.clear()
        return files
