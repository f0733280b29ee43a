"""Refusing writes before the disk is full, and keeping some of it for what must go on.

What lives here: the reserve file, and whether clients may write. What may not: timers (``node`` calls ``look``), doors.

The ``reserve`` file takes up ``disk_reserve_bytes``, so that nobody else can have them. Clients' writes stop while less
than a quarter of that is free beside it; that quarter, and then the reserve itself, is for what makes room or keeps a
promise: acknowledgements, offset commits, leases, trims, the catalogue. Writing begins again by itself once the reserve
is whole and half of it is free beside it. While a gigabyte is free nobody can take that away between two looks, so no
file is needed.

Invariants: while ``read_only``, no write of a client is admitted; a reserve that was given up is taken again before
clients write. Used on the loop's thread.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from logbroker.config import MIB
from logbroker.errors import DiskFull, StorageError
from logbroker.log.files import Files

_log = logging.getLogger(__name__)

_PLENTY: Final = 1024 * MIB
_RESERVE: Final = "reserve"
Result = TypeVar("Result")


class DiskSpace:
    """The space of the disk that holds ``files``. With ``reserve_bytes`` = 0 nothing is kept and nothing refused."""

    def __init__(self, files: Files, reserve_bytes: int) -> None:
        self.reserve_bytes = reserve_bytes
        self.free_bytes = 0
        """As of the last look, beside the reserve."""
        self.read_only = False
        self._files = files
        self._left = 0
        """What may still be admitted before the next look."""

    @property
    def detail(self) -> str:
        """Why clients may not write; empty when they may."""
        if not self.read_only:
            return ""
        return (
            f"the disk is full: {self.free_bytes} bytes are free beside the reserve of {self.reserve_bytes}; reads, offset "
            f"commits and acknowledgements go on, and writing begins again at {self.reserve_bytes // 2} free bytes"
        )

    def look(self) -> None:
        """See how much is free, take or give up the reserve, and decide whether clients may write."""
        try:
            free = self._files.free_bytes()
            is_safe = self._see_to_reserve(free)
            self.free_bytes = self._files.free_bytes()
        except StorageError as error:
            _log.warning("the free space of the disk is not known: %s", error)
            return
        floor = self.reserve_bytes // 4
        needed = self.reserve_bytes // 2 if self.read_only else floor
        was_read_only, self.read_only = self.read_only, not is_safe or self.free_bytes < needed
        self._left = self.free_bytes - floor
        if self.read_only is not was_read_only:
            _log.log(
                logging.ERROR if self.read_only else logging.INFO,
                "clients' writes are refused" if self.read_only else "clients may write again",
                extra={"disk_free_bytes": self.free_bytes, "disk_reserve_bytes": self.reserve_bytes},
            )

    def _see_to_reserve(self, free: int) -> bool:
        """Take the reserve where it is missing and there is room for it; whether it is there, or not needed."""
        if not self.reserve_bytes:
            return True
        if self._files.exists(_RESERVE):
            if self._files.size(_RESERVE) == self.reserve_bytes and free >= self.reserve_bytes // 16:
                return True
            self._files.unlink(_RESERVE)
            return False
        if free >= max(_PLENTY, 4 * self.reserve_bytes):
            return True
        if free < self.reserve_bytes + self.reserve_bytes // 2:
            return False
        file = self._files.create(_RESERVE)
        try:
            file.allocate(self.reserve_bytes)
        finally:
            file.close()
        return True

    def admit(self, size: int) -> None:
        """Let a client write ``size`` bytes. Raises DiskFull."""
        if not self.reserve_bytes:
            return
        if not self.read_only and size > self._left:
            self.look()
        if self.read_only:
            raise DiskFull(self.detail)
        if size > self._left:
            raise DiskFull(f"the disk has no room for {size} bytes more: {self.free_bytes} are free beside the reserve")
        self._left -= size

    def insist(self, write: Callable[[], Result]) -> Result:
        """Do what must go on; if the disk is full, once more with the reserve given up. Raises what ``write`` raises."""
        try:
            return write()
        except DiskFull:
            if not self.give_up_reserve():
                raise
            return write()

    def give_up_reserve(self) -> bool:
        """Free what was kept for this. Returns whether there was something."""
        self.read_only = bool(self.reserve_bytes)
        if not self._files.exists(_RESERVE):
            return False
        self._files.unlink(_RESERVE)
        _log.error("the disk is full: the reserve was given up", extra={"disk_reserve_bytes": self.reserve_bytes})
        return True
