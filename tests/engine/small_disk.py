"""Files in memory on a disk of a certain size, which others can fill too."""

import errno
import os
from collections.abc import Sequence

from logbroker.log.files import Buffer, storage_error
from logbroker.log.files.memory import MemoryContent, MemoryFile, MemoryFiles


class SmallDisk(MemoryFiles):
    """``MemoryFiles`` that are full at ``capacity`` bytes; ``taken`` is what somebody else has of them."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.taken = 0

    def after_power_cut(self) -> "SmallDisk":
        """The same disk, held by nobody."""
        again = SmallDisk(self.capacity)
        again.taken, again.contents, again.directories = self.taken, self.contents, self.directories
        return again

    def free_bytes(self) -> int:
        return max(0, self.capacity - self.taken - sum(len(one.data) for one in self.contents.values()))

    def open(self, path: str) -> MemoryFile:
        return _SmallFile(self, super().open(path).content, path)


class _SmallFile(MemoryFile):
    def __init__(self, disk: SmallDisk, content: MemoryContent, path: str) -> None:
        super().__init__(content, path)
        self._disk = disk

    def _need(self, size: int) -> None:
        if size > self._disk.free_bytes():
            raise storage_error("write to", self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def append(self, parts: Sequence[Buffer]) -> None:
        self._need(sum(map(len, parts)))
        super().append(parts)

    def pwrite(self, data: Buffer, position: int) -> None:
        self._need(position + len(data) - self.size())
        super().pwrite(data, position)

    def allocate(self, size: int) -> None:
        self._need(size - self.size())
        super().allocate(size)
