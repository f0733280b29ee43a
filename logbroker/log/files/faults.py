"""Files in memory that remember what was done to them, fail where told to, and can be cut off from power.

What lives here: the record of operations, planned failures, and (``crashes``) the states a crash may leave. What may
not: any knowledge of what the files contain.

``FaultFiles`` counts every call that a disk could fail. A failed call changes nothing and is not recorded, except for a
failed flush of a file: what it should have covered is marked clean, as Linux does, and no later flush makes it durable.
"""

import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from logbroker.errors import StorageError
from logbroker.log.files import Buffer, storage_error
from logbroker.log.files.memory import MemoryContent, MemoryFile, MemoryFiles, MemoryLock, MemoryMapping

CREATE = "create"
MKDIR = "mkdir"
RENAME = "rename"
UNLINK = "unlink"
WRITE = "write"
TRUNCATE = "truncate"
SYNC = "fdatasync"
SYNC_FAILED = "failed fdatasync"
SYNC_DIR = "sync_dir"
READS = frozenset({"open", "pread", "map", "listdir", "size"})


class Operation(NamedTuple):
    """One change, or one flush. ``inode`` stays the same however the file is called."""

    kind: str
    path: str
    inode: int = 0
    position: int = 0
    """Where a write goes, or the length a file is cut or extended to."""
    data: bytes = b""
    new_path: str = ""


@dataclass
class Plan:
    """Which calls fail: those of ``kind`` (None: any), ``after`` so many that succeed, once or from then on."""

    error: OSError
    kind: str | None = None
    after: int = 0
    for_good: bool = False

    def strikes(self, kind: str) -> bool:
        """Whether this call fails; counts it."""
        if self.after < 0 or (self.kind is not None and kind != self.kind) or (self.kind is None and kind in READS):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if not self.for_good:
            self.after = -1
        return True


class FaultFiles(MemoryFiles):
    """``MemoryFiles`` with a record and a plan of failures. It starts with what ``found`` holds, which is durable."""

    def __init__(self, found: MemoryFiles | None = None) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.calls: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.plans: list[Plan] = []
        self._inodes: dict[MemoryContent, int] = {}
        if found is not None:
            self._take_over(found)

    def _take_over(self, found: MemoryFiles) -> None:
        for directory in sorted(found.directories - {""}):
            self.mkdir(directory)
        for path, content in found.contents.items():
            file = self.create(path)
            file.append([content.data])
            file.fdatasync()
        for directory in found.directories:
            self.sync_dir(directory)

    def count(self, kind: str) -> int:
        """How many calls of a kind succeeded so far."""
        return self.calls[kind]

    @property
    def changes(self) -> int:
        """How many calls that change or flush something succeeded so far."""
        return sum(count for kind, count in self.calls.items() if kind not in READS)

    def fail_next(self, kind: str | None, error: OSError, *, after: int = 0, for_good: bool = False) -> None:
        """Let the next call of ``kind`` (None: any that changes or flushes something) fail, after so many that do not."""
        self.plans.append(Plan(error, kind, after, for_good))

    def heal(self) -> None:
        """Nothing fails any more."""
        self.plans.clear()

    def call(self, kind: str, action: str, path: str) -> None:
        """A call is about to be made. Raises StorageError or DiskFull where it is planned to fail."""
        for plan in self.plans:
            if plan.strikes(kind):
                self.failures[kind] += 1
                raise storage_error(action, path, plan.error)
        self.calls[kind] += 1

    def inode(self, content: MemoryContent) -> int:
        """The number of a file, whatever its name."""
        return self._inodes.setdefault(content, len(self._inodes) + 1)

    # -- Files -------------------------------------------------------------------------------------------------------

    def create(self, path: str) -> "FaultFile":
        self.call(CREATE, "opening", path)
        super().create(path)
        content = self.contents[path]
        self.operations.append(Operation(CREATE, path, self.inode(content)))
        return FaultFile(self, content, path)

    def open(self, path: str) -> "FaultFile":
        self.call("open", "opening", path)
        return FaultFile(self, super().open(path).content, path)

    def size(self, path: str) -> int:
        self.call("size", "examining", path)
        return super().size(path)

    def listdir(self, path: str) -> list[str]:
        self.call("listdir", "listing", path)
        return super().listdir(path)

    def mkdir(self, path: str) -> None:
        self.call(MKDIR, "creation of", path)
        super().mkdir(path)
        self.operations.append(Operation(MKDIR, path))

    def rename(self, old: str, new: str) -> None:
        self.call(RENAME, "renaming", old)
        super().rename(old, new)
        self.operations.append(Operation(RENAME, old, self.inode(self.contents[new]), new_path=new))

    def unlink(self, path: str) -> None:
        self.call(UNLINK, "removal of", path)
        super().unlink(path)
        self.operations.append(Operation(UNLINK, path))

    def rmtree(self, path: str) -> None:
        self.call(UNLINK, "removal of", path)
        for below in [one for one in self.contents if one.startswith(f"{path}/")]:
            self.operations.append(Operation(UNLINK, below))
        for directory in sorted((one for one in self.directories if f"{one}/".startswith(f"{path}/")), reverse=True):
            self.operations.append(Operation(UNLINK, directory))
        super().rmtree(path)

    def sync_dir(self, path: str) -> None:
        self.call(SYNC_DIR, "flush of", path)
        super().sync_dir(path)
        self.operations.append(Operation(SYNC_DIR, path))

    def lock(self, path: str) -> MemoryLock:
        self.call("lock", "locking", path)
        return super().lock(path)


class FaultFile(MemoryFile):
    """A file of ``FaultFiles``."""

    def __init__(self, files: FaultFiles, content: MemoryContent, path: str) -> None:
        super().__init__(content, path)
        self._files = files

    def _record(self, kind: str, position: int = 0, data: Buffer = b"") -> None:
        self._files.operations.append(Operation(kind, self.path, self._files.inode(self.content), position, bytes(data)))

    def append(self, parts: Sequence[Buffer]) -> None:
        self._files.call(WRITE, "append to", self.path)
        position = self.size()
        super().append(parts)
        self._record(WRITE, position, b"".join(parts))

    def pwrite(self, data: Buffer, position: int) -> None:
        self._files.call(WRITE, "write to", self.path)
        super().pwrite(data, position)
        self._record(WRITE, position, data)

    def pread(self, size: int, position: int) -> bytes:
        self._files.call("pread", "read of", self.path)
        return super().pread(size, position)

    def fdatasync(self) -> None:
        try:
            self._files.call(SYNC, "flush of", self.path)
        except StorageError:
            self._record(SYNC_FAILED)
            raise
        self._record(SYNC)

    def truncate(self, size: int) -> None:
        self._files.call(TRUNCATE, "truncation of", self.path)
        super().truncate(size)
        self._record(TRUNCATE, size)

    def allocate(self, size: int) -> None:
        self._files.call(TRUNCATE, "allocation for", self.path)
        super().allocate(size)
        self._record(TRUNCATE, self.size())

    def map(self, *, writable: bool = False) -> "FaultMapping":
        self._files.call("map", "mapping of", self.path)
        if not self.content.data:
            raise StorageError(f"mapping of {self.path} failed: {os.strerror(errno.EINVAL)}")
        return FaultMapping(self, writable=writable)

    def record_map_write(self, position: int, data: Buffer) -> None:
        """A write through a map cannot fail, since its space is there, but it is as little durable as any other."""
        self._record(WRITE, position, data)


class FaultMapping(MemoryMapping):
    """A map whose writes are recorded."""

    def __init__(self, file: FaultFile, *, writable: bool) -> None:
        super().__init__(file.content.data, writable=writable)
        self._file = file

    def write(self, position: int, data: Buffer) -> None:
        super().write(position, data)
        self._file.record_map_write(position, data)
