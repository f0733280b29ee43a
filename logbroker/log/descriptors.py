"""How many files are open at once, over all partitions.

What lives here: a file that is open only while it is used (``OpenFile``), and the shared bound (``Descriptors``). What may
not: what the files are for. A map keeps a descriptor as well, so it is counted and dropped with its file.
Invariant: at most ``limit`` are held here. Letting go only drops a reference: a flush, a cold read or a view that still
uses one keeps it alive until it is done. Used on one thread, but for what ``to_flush`` returns.
"""

from collections import OrderedDict
from typing import Protocol

from logbroker.errors import StorageError
from logbroker.log.files import File, Files, Mapping


class Descriptors:
    """The files in use, least recently used first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: OrderedDict[OpenFile, int] = OrderedDict()
        self.held = 0
        """Descriptors held now: one for each open file and one for each map."""

    def took(self, file: "OpenFile", count: int) -> None:
        """``file`` now holds ``count`` more; others let go where that is too many."""
        self.held += count
        self._open[file] = self._open.pop(file, 0) + count
        while self.held > self.limit and len(self._open) > 1:
            oldest = next(iter(self._open))
            oldest.let_go()

    def used(self, file: "OpenFile") -> None:
        """``file`` was used just now."""
        self._open.move_to_end(file)

    def gave_back(self, file: "OpenFile") -> None:
        """``file`` holds nothing any more."""
        self.held -= self._open.pop(file, 0)


class FlushesData(Protocol):
    """Something that can be made durable, once."""

    def fdatasync(self) -> None:
        """As ``File.fdatasync``."""
        ...


class _Unopened:
    """A written file, opened only to be flushed. Linux tells it of a failed write-back that nobody was told of yet."""

    __slots__ = ("_files", "_path")

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path

    def fdatasync(self) -> None:
        try:
            file = self._files.open(self._path)
        except StorageError:
            if self._files.exists(self._path):
                raise
            return  # its topic was deleted meanwhile
        try:
            file.fdatasync()
        finally:
            file.close()


class OpenFile:
    """A file that is opened on use and closed when others are used more."""

    __slots__ = ("_descriptors", "_file", "_files", "mapped", "path", "view")

    def __init__(self, files: Files, path: str, descriptors: Descriptors) -> None:
        self.path = path
        self._files = files
        self._descriptors = descriptors
        self._file: File | None = None
        self.mapped: Mapping | None = None
        """The map, if there is one now; holding it keeps it valid."""
        self.view: memoryview | None = None
        """What it shows."""

    def create(self) -> File:
        """Create the file, empty. Raises StorageError."""
        return self._took(self._files.create(self.path))

    def get(self) -> File:
        """The open file. Raises StorageError."""
        file = self._file
        if file is None:
            return self._took(self._files.open(self.path))
        self._descriptors.used(self)
        return file

    def mapping(self, *, writable: bool = False, at_least: int = 0) -> Mapping:
        """A map of the file as it was when mapped, at least ``at_least`` bytes of it. Raises StorageError."""
        mapping = self.mapped
        if mapping is not None and len(mapping.view) >= at_least:
            self._descriptors.used(self)
            return mapping
        new = self.get().map(writable=writable)
        if mapping is None:
            self._descriptors.took(self, 1)
        self.mapped = new
        self.view = new.view
        return new

    def unmap(self) -> None:
        """Drop the map, so that the file may be cut."""
        if self.mapped is not None:
            self.mapped = self.view = None
            self._descriptors.took(self, -1)

    def to_flush(self) -> FlushesData:
        """The file, for a thread to flush; it stays closed until then if it is closed now."""
        return self._file or _Unopened(self._files, self.path)

    def let_go(self) -> None:
        """Close, unless somebody still holds the file or the map."""
        self._descriptors.gave_back(self)
        self._file = self.mapped = self.view = None

    def _took(self, file: File) -> File:
        self._file = file
        self._descriptors.took(self, 1)
        return file
