"""Files in memory: the same behaviour as on a disk, for the memory broker and for tests.

Content lives as long as the ``MemoryFiles``; syncs do nothing, because there is no crash to survive (``faults`` adds one).
A map is a view of the content at the time, so a file that grows afterwards must be mapped again, as on a disk.
"""

import errno
import os
import time
from collections.abc import Sequence

from logbroker.errors import DataDirectoryError, StorageError
from logbroker.log.files import Buffer, parent, storage_error


def _refused(action: str, path: str, code: int) -> StorageError:
    return storage_error(action, path, OSError(code, os.strerror(code)))


class MemoryContent:
    """What a file holds, whatever it is called."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.changed_ms = 0
        self.touch()

    def touch(self) -> None:
        """It is changed now."""
        self.changed_ms = time.time_ns() // 1_000_000

    def resize(self, size: int) -> None:
        """Cut or extend with zeros. A content that is mapped cannot change its length in place, so a copy takes over."""
        change = size - len(self.data)
        try:
            if change < 0:
                del self.data[size:]
            else:
                self.data += bytes(change)
        except BufferError:
            self.data = bytearray(memoryview(self.data)[:size]) + bytes(max(change, 0))

    def write(self, data: Buffer, position: int) -> None:
        """Overwrite, extending with zeros up to ``position`` where the content is shorter."""
        if position + len(data) > len(self.data):
            self.resize(position + len(data))
        self.data[position : position + len(data)] = data


class MemoryMapping:
    """A view of the content."""

    def __init__(self, data: bytearray, *, writable: bool) -> None:
        view = memoryview(data)
        self.view = view if writable else view.toreadonly()

    def write(self, position: int, data: Buffer) -> None:
        self.view[position : position + len(data)] = data


class MemoryFile:
    """One open file."""

    def __init__(self, content: MemoryContent, path: str) -> None:
        self.path = path
        self.content = content

    def size(self) -> int:
        return len(self.content.data)

    def append(self, parts: Sequence[Buffer]) -> None:
        self.content.touch()
        try:
            for part in parts:
                self.content.data += part
        except BufferError:
            self.content.data = bytearray(b"".join((self.content.data, *parts)))

    def pwrite(self, data: Buffer, position: int) -> None:
        self.content.touch()
        self.content.write(data, position)

    def pread(self, size: int, position: int) -> bytes:
        return bytes(memoryview(self.content.data)[position : position + size])

    def pread_cached(self, size: int, position: int) -> Buffer | None:
        return self.pread(size, position)

    def fdatasync(self) -> None:
        pass

    def truncate(self, size: int) -> None:
        self.content.resize(size)

    def allocate(self, size: int) -> None:
        if size > len(self.content.data):
            self.content.resize(size)

    def map(self, *, writable: bool = False) -> MemoryMapping:
        if not self.content.data:
            raise _refused("mapping of", self.path, errno.EINVAL)
        return MemoryMapping(self.content.data, writable=writable)

    def close(self) -> None:
        pass


class MemoryLock:
    """A name in the set of those held."""

    def __init__(self, held: set[str], path: str) -> None:
        self._held = held
        self._path = path

    def release(self) -> None:
        self._held.discard(self._path)


class MemoryFiles:
    """A directory tree in memory."""

    root = None

    def __init__(self, free_bytes: int = 1 << 40) -> None:
        self.contents: dict[str, MemoryContent] = {}
        self.directories: set[str] = {""}
        self._free_bytes = free_bytes
        self._held: set[str] = set()

    def create(self, path: str) -> MemoryFile:
        if self.exists(path):
            raise _refused("opening", path, errno.EEXIST)
        self._require_directory("opening", parent(path))
        self.contents[path] = MemoryContent()
        return self.open(path)

    def open(self, path: str) -> MemoryFile:
        return MemoryFile(self._content("opening", path), path)

    def exists(self, path: str) -> bool:
        return path in self.contents or path in self.directories

    def size(self, path: str) -> int:
        return len(self._content("examining", path).data)

    def changed_ms(self, path: str) -> int:
        return self._content("examining", path).changed_ms

    def date(self, path: str, changed_ms: int) -> None:
        self._content("dating", path).changed_ms = changed_ms

    def listdir(self, path: str) -> list[str]:
        self._require_directory("listing", path)
        everything = [*self.contents, *self.directories - {""}]
        return sorted(one.rpartition("/")[2] for one in everything if parent(one) == path)

    def mkdir(self, path: str) -> None:
        if self.exists(path):
            raise _refused("creation of", path, errno.EEXIST)
        self._require_directory("creation of", parent(path))
        self.directories.add(path)

    def rename(self, old: str, new: str) -> None:
        self.contents[new] = self._content("renaming", old)
        del self.contents[old]

    def link(self, old: str, new: str) -> None:
        self._require_directory("linking", parent(new))
        self.contents[new] = self._content("linking", old)

    def unlink(self, path: str) -> None:
        self._content("removal of", path)
        del self.contents[path]

    def rmtree(self, path: str) -> None:
        self._require_directory("removal of", path)
        below = f"{path}/"
        self.contents = {one: content for one, content in self.contents.items() if not one.startswith(below)}
        self.directories = {one for one in self.directories if one != path and not one.startswith(below)}

    def sync_dir(self, path: str) -> None:
        self._require_directory("flush of", path)

    def lock(self, path: str) -> MemoryLock:
        if path in self._held:
            raise DataDirectoryError(f"the data directory is in use by the process with id {os.getpid()}")
        self._held.add(path)
        return MemoryLock(self._held, path)

    def free_bytes(self) -> int:
        return self._free_bytes

    def _content(self, action: str, path: str) -> MemoryContent:
        content = self.contents.get(path)
        if content is None:
            raise _refused(action, path, errno.ENOENT)
        return content

    def _require_directory(self, action: str, path: str) -> None:
        if path not in self.directories:
            raise _refused(action, path, errno.ENOENT)
