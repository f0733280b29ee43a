"""Files on a disk, by plain system calls. See the package for what each call promises.

Where the system lacks a call (macOS: fdatasync, posix_fallocate, RWF_NOWAIT) the nearest that keeps the promise is used.
Descriptors are closed when the last reference goes, so a flush or a cold read in a thread is never left with a number that
meanwhile names another file.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from logbroker.errors import DataDirectoryError
from logbroker.log.files import Buffer, storage_error

_IOV_MAX = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 1024
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_WOULD_BLOCK = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_ZEROS = bytes(64 * 1024)


def _sync_file(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves data in the drive's cache
    if full is not None:
        fcntl.fcntl(descriptor, full)
    else:
        os.fdatasync(descriptor)


class DiskMapping:
    """A file mapped shared."""

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.view = memoryview(mmap.mmap(descriptor, 0, mmap.MAP_SHARED, protection))

    def write(self, position: int, data: Buffer) -> None:
        self.view[position : position + len(data)] = data


class DiskFile:
    """One descriptor, and the length of the file, which only this process changes."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self._nowait = _NOWAIT
        self._size = os.fstat(descriptor).st_size

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def size(self) -> int:
        return self._size

    def append(self, parts: Sequence[Buffer]) -> None:
        start = self._size
        try:
            wanted = sum(map(len, parts))
            # Short writes are legal, but rare: a full disk, a signal. The rest then goes out as one piece.
            written = os.pwritev(self._descriptor, parts, start) if len(parts) <= _IOV_MAX else 0
            if written != wanted:
                self._write_all(memoryview(b"".join(parts))[written:], start + written)
        except OSError as error:
            # Should this fail too, the half-written rest lies past the length we go by, where the next append lands.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
            raise storage_error("append to", self.path, error) from error
        self._size = start + wanted

    def pwrite(self, data: Buffer, position: int) -> None:
        try:
            self._write_all(memoryview(data), position)
        except OSError as error:
            raise storage_error("write to", self.path, error) from error
        self._size = max(self._size, position + len(data))

    def _write_all(self, data: memoryview, position: int) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, position)
            data, position = data[written:], position + written

    def pread(self, size: int, position: int) -> bytes:
        try:
            data = os.pread(self._descriptor, size, position)
            if len(data) == size or not data:
                return data
            pieces = [data]
            while data := os.pread(self._descriptor, size - sum(map(len, pieces)), position + sum(map(len, pieces))):
                pieces.append(data)
            return b"".join(pieces)
        except OSError as error:
            raise storage_error("read of", self.path, error) from error

    def pread_cached(self, size: int, position: int) -> Buffer | None:
        if self._nowait is None:
            return self.pread(size, position)
        data = bytearray(size)
        try:
            count = os.preadv(self._descriptor, [data], position, self._nowait)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return None
            if error.errno in _UNSUPPORTED:
                self._nowait = None
                return self.pread(size, position)
            raise storage_error("read of", self.path, error) from error
        if count == size:
            return data
        if position + count < self._size:
            return None  # the first pages were in memory, the next is not
        return memoryview(data)[:count]

    def fdatasync(self) -> None:
        try:
            _sync_file(self._descriptor)
        except OSError as error:
            raise storage_error("flush of", self.path, error) from error

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise storage_error("truncation of", self.path, error) from error
        self._size = size

    def allocate(self, size: int) -> None:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._descriptor, 0, size)
            else:
                for position in range(self._size, size, len(_ZEROS)):
                    self._write_all(memoryview(_ZEROS)[: size - position], position)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise storage_error("allocation for", self.path, error) from error
        self._size = max(self._size, size)

    def map(self, *, writable: bool = False) -> DiskMapping:
        try:
            if not self._size:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return DiskMapping(self._descriptor, writable=writable)
        except OSError as error:
            raise storage_error("mapping of", self.path, error) from error


class DiskLock:
    """A descriptor with ``flock`` on it; the system lets go when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


class DiskFiles:
    """The files below a directory, which is created if missing. Directories get mode 0700, files 0600."""

    def __init__(self, root: str | Path) -> None:
        self._root = str(root)
        try:
            Path(root).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("creation of", self._root, error) from error

    @property
    def root(self) -> str | None:
        return self._root

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _open(self, path: str, flags: int) -> DiskFile:
        full = self._full(path)
        try:
            return DiskFile(os.open(full, os.O_RDWR | os.O_CLOEXEC | flags, 0o600), full)
        except OSError as error:
            raise storage_error("opening", full, error) from error

    def create(self, path: str) -> DiskFile:
        return self._open(path, os.O_CREAT | os.O_EXCL)

    def open(self, path: str) -> DiskFile:
        return self._open(path, 0)

    def exists(self, path: str) -> bool:
        return os.path.exists(self._full(path))  # noqa: PTH110 - called several times for each partition at start

    def size(self, path: str) -> int:
        try:
            return os.stat(self._full(path)).st_size  # noqa: PTH116 - one of these per segment at start
        except OSError as error:
            raise storage_error("examining", self._full(path), error) from error

    def changed_ms(self, path: str) -> int:
        try:
            return Path(self._full(path)).stat().st_mtime_ns // 1_000_000
        except OSError as error:
            raise storage_error("examining", self._full(path), error) from error

    def date(self, path: str, changed_ms: int) -> None:
        try:
            os.utime(self._full(path), ns=(changed_ms * 1_000_000,) * 2)
        except OSError as error:
            raise storage_error("dating", self._full(path), error) from error

    def listdir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._full(path)))  # noqa: PTH208 - names only, no Path each
        except OSError as error:
            raise storage_error("listing", self._full(path), error) from error

    def mkdir(self, path: str) -> None:
        try:
            Path(self._full(path)).mkdir(mode=0o700)
        except OSError as error:
            raise storage_error("creation of", self._full(path), error) from error

    def rename(self, old: str, new: str) -> None:
        try:
            Path(self._full(old)).replace(self._full(new))
        except OSError as error:
            raise storage_error("renaming", self._full(old), error) from error

    def link(self, old: str, new: str) -> None:
        try:
            Path(self._full(new)).hardlink_to(self._full(old))
        except OSError as error:
            raise storage_error("linking", self._full(old), error) from error

    def unlink(self, path: str) -> None:
        try:
            Path(self._full(path)).unlink()
        except OSError as error:
            raise storage_error("removal of", self._full(path), error) from error

    def rmtree(self, path: str) -> None:
        try:
            shutil.rmtree(self._full(path))
        except OSError as error:
            raise storage_error("removal of", self._full(path), error) from error

    def sync_dir(self, path: str) -> None:
        try:
            descriptor = os.open(self._full(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error("flush of", self._full(path), error) from error

    def lock(self, path: str) -> DiskLock:
        full = self._full(path)
        try:
            descriptor = os.open(full, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error("opening", full, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            if error.errno not in _WOULD_BLOCK:
                raise storage_error("locking", full, error) from error
            raise DataDirectoryError(
                f"{self._root} is in use by the process with id {owner}: stop it first, or choose another data directory"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return DiskLock(descriptor)

    def free_bytes(self) -> int:
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise storage_error("examining", self._root, error) from error
        return found.f_bavail * found.f_frsize
