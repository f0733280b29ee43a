"""A disk whose content can be copied at any instant: ext4 in a file on a file system that shares blocks (XFS).

What lives here: making, copying and mounting such disks, by the system's own tools. What may not: what is written on them.
A copy is what a power cut would leave of a disk without a cache of its own: everything the file system had sent to it by
then, in the order in which it was sent, and nothing that was still in memory.
"""

import fcntl
import gc
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FICLONE = 0x40049409
_TOOLS = ("mkfs.ext4", "mkfs.xfs", "mount", "umount", "losetup")
_POOL_BYTES = 8 << 30
_UNMOUNTS = 20
DISK_BYTES = 512 << 20


def unavailable() -> str:
    """Why there can be no such disks here; empty if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can mount"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode:
        return "there is no loop device"
    return ""


def call(*command: str | Path) -> None:
    """Run one of the system's tools. Raises OSError with what it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """``image`` as a file system, its journal replayed."""
    where.mkdir(exist_ok=True)
    call("mount", "-o", "loop", image, where)
    try:
        yield where
    finally:
        _unmount(where)


def _unmount(where: Path) -> None:
    """A broker that has just ended in this process may be held by cycles, and hold maps of files."""
    for _ in range(_UNMOUNTS):
        gc.collect()
        try:
            return call("umount", where)
        except OSError:
            time.sleep(0.1)
    return call("umount", "-l", where)


class Disk:
    """The disk that is written to, and copies of it."""

    def __init__(self, pool: Path, mount: Path) -> None:
        self.mount = mount
        self._image = pool / "disk.img"
        self._pool = pool
        self._descriptor = os.open(self._image, os.O_RDONLY)
        self._copies = 0

    def copy(self) -> Path:
        """What is on the disk at this instant, as an image."""
        self._copies += 1
        path = self._pool / f"copy-{self._copies}.img"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.ioctl(descriptor, _FICLONE, self._descriptor)
        finally:
            os.close(descriptor)
        return path

    def close(self) -> None:
        """Let the image go."""
        os.close(self._descriptor)


@contextmanager
def disk(directory: Path) -> Iterator[Disk]:
    """A disk of ``DISK_BYTES``, mounted. Raises OSError where that cannot be."""
    pool_image, pool = directory / "pool.img", directory / "pool"
    _make(pool_image, _POOL_BYTES, "mkfs.xfs", "-q", "-m", "reflink=1")
    with mounted(pool_image, pool):
        _make(pool / "disk.img", DISK_BYTES, "mkfs.ext4", "-q")
        with mounted(pool / "disk.img", directory / "disk") as mount:
            made = Disk(pool, mount)
            try:
                yield made
            finally:
                made.close()


def _make(image: Path, size: int, *command: str) -> None:
    with image.open("wb") as file:
        file.truncate(size)
    call(*command, image)
