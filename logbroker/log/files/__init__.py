"""The one file layer: every byte logbroker keeps goes through these two interfaces.

What lives here: the interfaces and the helpers that hold for every implementation. ``disk`` is the real one, ``memory`` the
same behaviour without a disk (the memory broker is the embedded broker on it), ``faults`` records operations, makes chosen
ones fail, and builds the states a crash may leave. What may not live here: any knowledge of what the files contain.
Invariants: paths are relative to the root, with ``/``; errors of the operating system leave as StorageError or DiskFull and
name the file; an append that raises has left the file as it was.
"""

import errno
from collections.abc import Sequence
from typing import Protocol

from logbroker.errors import DiskFull, StorageError
from logbroker.model import Buffer as Buffer

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_error(action: str, path: str, error: OSError) -> StorageError:
    """``error`` as logbroker says it; DiskFull where more space would help."""
    kind = DiskFull if error.errno in _FULL else StorageError
    return kind(f"{action} {path} failed: {error.strerror or error}", path=path, errno=error.errno)


class Mapping(Protocol):
    """A file in memory. ``view`` is as long as the file was; it stays valid while anyone holds it, also after an unlink."""

    view: memoryview

    def write(self, position: int, data: Buffer) -> None:
        """Change the file through a writable map; durable only by a later ``fdatasync`` of the file."""
        ...


class File(Protocol):
    """An open file. Dropping the last reference closes it, so whoever still holds it may go on using it."""

    path: str

    def size(self) -> int:
        """The length in bytes."""
        ...

    def append(self, parts: Sequence[Buffer]) -> None:
        """Write ``parts`` one after another at the end, all or nothing. Raises DiskFull, StorageError."""
        ...

    def pwrite(self, data: Buffer, position: int) -> None:
        """Overwrite at ``position``. Raises DiskFull, StorageError; the file may then hold part of ``data``."""
        ...

    def pread(self, size: int, position: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file. Waits for the disk."""
        ...

    def pread_cached(self, size: int, position: int) -> Buffer | None:
        """As ``pread``, but None where some of it would have to come from the disk."""
        ...

    def fdatasync(self) -> None:
        """Make content and length durable. After a failure what is on disk is unknown: never try again."""
        ...

    def truncate(self, size: int) -> None:
        """Cut or extend (with zeros) to ``size``. Never below the end of a live map."""
        ...

    def allocate(self, size: int) -> None:
        """Extend with zeros to ``size``, with the space really there, so that a write through a map cannot fail."""
        ...

    def map(self, *, writable: bool = False) -> Mapping:
        """The whole file, which must not be empty, in memory."""
        ...

    def close(self) -> None:
        """Close now. Maps stay valid."""
        ...


class Lock(Protocol):
    """An exclusive hold on a data directory."""

    def release(self) -> None:
        """Let go."""
        ...


class Files(Protocol):
    """A directory tree."""

    @property
    def root(self) -> str | None:
        """Where another process finds it; None where it cannot."""
        ...

    def create(self, path: str) -> File:
        """A new, empty file. Its name is durable after ``sync_dir`` of its directory. Raises StorageError if it exists."""
        ...

    def open(self, path: str) -> File:
        """An existing file, for reading and writing. Raises StorageError."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory."""
        ...

    def size(self, path: str) -> int:
        """The length of a file in bytes, without opening it."""
        ...

    def changed_ms(self, path: str) -> int:
        """When the content of a file was last changed, by the wall clock of then."""
        ...

    def date(self, path: str, changed_ms: int) -> None:
        """Let a file say that it was last changed then; no crash harms by taking that back."""
        ...

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted. Raises StorageError if it is missing."""
        ...

    def mkdir(self, path: str) -> None:
        """A new directory below an existing one. Raises StorageError if it exists."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in the same directory, replacing what has it; durable after ``sync_dir``."""
        ...

    def link(self, old: str, new: str) -> None:
        """Give a file one more name, which keeps it when the other is removed or replaced. Raises StorageError."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file; durable after ``sync_dir``."""
        ...

    def rmtree(self, path: str) -> None:
        """Remove a directory with all it holds; durable after ``sync_dir`` of its parent."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable."""
        ...

    def lock(self, path: str) -> Lock:
        """Hold ``path`` (created if missing) exclusively. Raises DataDirectoryError naming the process that holds it."""
        ...

    def free_bytes(self) -> int:
        """Space that can still be written."""
        ...


def parent(path: str) -> str:
    """The directory a path is in; the root is the empty path."""
    return path.rpartition("/")[0]


def make_dirs(files: Files, path: str) -> None:
    """Create ``path`` and what is missing above it, durably."""
    if path and not files.exists(path):
        make_dirs(files, parent(path))
        files.mkdir(path)
        files.sync_dir(parent(path))


def replace_atomically(files: Files, path: str, data: bytes) -> None:
    """Make ``data`` the content of ``path``, durably: after a crash it holds the old content or the new, never a mixture.

    Raises StorageError, and then the old content stands.
    """
    temporary = f"{path}.tmp"
    if files.exists(temporary):
        files.unlink(temporary)
    file = files.create(temporary)
    try:
        file.append([data])
        file.fdatasync()
    finally:
        file.close()
    files.rename(temporary, path)
    files.sync_dir(parent(path))
