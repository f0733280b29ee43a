"""The files of a disk with something added: reads that are counted, or flushes left out while a benchmark sets up."""

from pathlib import Path
from typing import Any, cast

from logbroker.log.files import Buffer, File, Files, Mapping
from logbroker.log.files.disk import DiskFiles


class Tally:
    """The bytes that were read, and those that were mapped, touched or not."""

    def __init__(self) -> None:
        self.read = 0
        self.mapped = 0


class _Counting:
    """A file whose reads are counted."""

    def __init__(self, file: File, tally: Tally) -> None:
        self._file = file
        self._tally = tally

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def pread(self, size: int, position: int) -> bytes:
        data = self._file.pread(size, position)
        self._tally.read += len(data)
        return data

    def pread_cached(self, size: int, position: int) -> Buffer | None:
        data = self._file.pread_cached(size, position)
        self._tally.read += len(data or b"")
        return data

    def map(self, *, writable: bool = False) -> Mapping:
        mapping = self._file.map(writable=writable)
        self._tally.mapped += len(mapping.view)
        return mapping


class _Unflushed:
    """A file that is never flushed."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def fdatasync(self) -> None:
        """Do nothing."""


class _Wrapping:
    """Files of a disk, each of them wrapped when it is opened."""

    def __init__(self, directory: Path) -> None:
        self._files = DiskFiles(directory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def wrapped(self, file: File) -> object:
        raise NotImplementedError

    def open(self, path: str) -> object:
        return self.wrapped(self._files.open(path))

    def create(self, path: str) -> object:
        return self.wrapped(self._files.create(path))


class _CountingFiles(_Wrapping):
    def __init__(self, directory: Path, tally: Tally) -> None:
        super().__init__(directory)
        self._tally = tally

    def wrapped(self, file: File) -> object:
        return _Counting(file, self._tally)


class _UnflushedFiles(_Wrapping):
    def wrapped(self, file: File) -> object:
        return _Unflushed(file)

    def sync_dir(self, path: str) -> None:
        """Do nothing."""


def counting(directory: Path) -> tuple[Files, Tally]:
    """Files whose reads are counted, and the count."""
    tally = Tally()
    return cast(Files, _CountingFiles(directory, tally)), tally


def unflushed(directory: Path) -> Files:
    """Files that are never flushed: tens of thousands of them are made quickly."""
    return cast(Files, _UnflushedFiles(directory))
