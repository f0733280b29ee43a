"""The states in which a crash may leave the files, given what was done to them.

What lives here: building such states from the operations ``FaultFiles`` recorded. What may not: judging what is found.

The model (ALICE, CrashMonkey, LazyFS): what was flushed is there. Of what was not flushed any subset may be there, in any
order, also without what it came after: a write, or some of its 512-byte sectors, the others as they stood after some
earlier write; a length without the data; a file without its name; a new name without the old one gone. A sector
that is there holds all that was written to it before, since the system writes pages as they are. A change of a
directory is flushed by ``sync_dir`` of that directory, a change of a file by its ``fdatasync``; what one that failed
should have covered is never flushed.
"""

import random
from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple, TypeAlias

from logbroker.log.files import parent
from logbroker.log.files.faults import (
    CREATE,
    MKDIR,
    RENAME,
    SYNC,
    SYNC_DIR,
    SYNC_FAILED,
    TRUNCATE,
    UNLINK,
    WRITE,
    Operation,
)
from logbroker.log.files.memory import MemoryContent, MemoryFiles

SECTOR = 512

Sector: TypeAlias = tuple[int, int]
"""A file and the number of a sector in it."""


class CrashState(NamedTuple):
    """Files as a crash may leave them."""

    name: str
    files: MemoryFiles


def durable_operations(operations: Sequence[Operation]) -> set[int]:
    """The numbers of the operations that a later flush covers."""
    durable: set[int] = set()
    files: dict[int, list[int]] = {}
    directories: dict[str, list[int]] = {}
    for number, operation in enumerate(operations):
        if operation.kind == SYNC:
            durable.update(files.pop(operation.inode, ()))
        elif operation.kind == SYNC_FAILED:
            files.pop(operation.inode, None)
        elif operation.kind == SYNC_DIR:
            durable.update(directories.pop(operation.path, ()))
        elif operation.kind in (WRITE, TRUNCATE):
            files.setdefault(operation.inode, []).append(number)
        else:
            directories.setdefault(parent(operation.path), []).append(number)
    return durable


def _sectors(operation: Operation) -> Iterator[tuple[Sector, int, int]]:
    """The sectors of a write, each with the stretch of the file that the write fills in it."""
    end = operation.position + len(operation.data)
    for sector in range(operation.position // SECTOR, (end + SECTOR - 1) // SECTOR):
        yield (operation.inode, sector), max(sector * SECTOR, operation.position), min((sector + 1) * SECTOR, end)


class Disk:
    """A disk on which operations arrive, all or some of them and in part."""

    def __init__(self) -> None:
        self._contents: dict[int, MemoryContent] = {}
        self._names: dict[str, int] = {}
        self._directories = {""}

    def arrive(self, operation: Operation) -> None:
        """Take over one change."""
        if operation.kind == MKDIR:
            self._directories.add(operation.path)
        elif operation.kind == CREATE:
            self._names[operation.path] = operation.inode
        elif operation.kind == RENAME:
            self._names.pop(operation.path, None)
            self._names[operation.new_path] = operation.inode
        elif operation.kind == UNLINK:
            self._names.pop(operation.path, None)
            self._directories.discard(operation.path)
        elif operation.kind == WRITE:
            self._content(operation.inode).write(operation.data, operation.position)
        elif operation.kind == TRUNCATE:
            self._content(operation.inode).resize(operation.position)

    def arrive_in_part(self, operation: Operation, number: int, cutoff: Callable[[Sector], int]) -> None:
        """Take over those sectors of the write with this number that stand as they did after it or a later one."""
        content = self._content(operation.inode)
        for sector, start, stop in _sectors(operation):
            if number <= cutoff(sector):
                content.write(operation.data[start - operation.position : stop - operation.position], start)

    def lengthen(self, operation: Operation) -> None:
        """Take over the length that a write gave a file."""
        content = self._content(operation.inode)
        content.resize(max(len(content.data), operation.position + len(operation.data)))

    def files(self) -> MemoryFiles:
        """What a start after the crash finds. Names in directories that are not there cannot be found."""
        found = MemoryFiles()
        found.directories = {one for one in self._directories if self._reachable(one)}
        for path, inode in self._names.items():
            if self._reachable(parent(path)):
                found.contents[path] = MemoryContent(bytes(self._content(inode).data))
        return found

    def _content(self, inode: int) -> MemoryContent:
        return self._contents.setdefault(inode, MemoryContent())

    def _reachable(self, directory: str) -> bool:
        return not directory or (directory in self._directories and self._reachable(parent(directory)))


def everything(operations: Sequence[Operation]) -> MemoryFiles:
    """As if nothing was lost: what a killed process leaves."""
    disk = Disk()
    for operation in operations:
        disk.arrive(operation)
    return disk.files()


def flushed_only(operations: Sequence[Operation]) -> MemoryFiles:
    """As if all that was not flushed was lost."""
    return _there(operations, durable_operations(operations))


def _there(operations: Sequence[Operation], chosen: Set[int]) -> MemoryFiles:
    """The chosen operations, and with each sector all that was written to it before."""
    reached: dict[Sector, int] = {}
    for number in chosen:
        if operations[number].kind == WRITE:
            for sector, _, _ in _sectors(operations[number]):
                reached[sector] = max(number, reached.get(sector, -1))
    disk = Disk()
    for number, operation in enumerate(operations):
        if number in chosen:
            disk.arrive(operation)
        elif operation.kind == WRITE:
            disk.arrive_in_part(operation, number, lambda sector: reached.get(sector, -1))
    return disk.files()


def _sectors_up_to(operations: Sequence[Operation], durable: Set[int], cutoff: Callable[[Sector], int]) -> MemoryFiles:
    """Everything, but each sector only as it stood after the write that ``cutoff`` names; lengths are all there."""
    disk = Disk()
    for number, operation in enumerate(operations):
        if operation.kind == WRITE and number not in durable:
            disk.lengthen(operation)
            disk.arrive_in_part(operation, number, cutoff)
        else:
            disk.arrive(operation)
    return disk.files()


class _RandomCutoffs(dict[Sector, int]):
    """For each sector, the write after which it stands as it did."""

    def __init__(self, rng: random.Random, choices: Sequence[int]) -> None:
        super().__init__()
        self._rng = rng
        self._choices = choices

    def __missing__(self, sector: Sector) -> int:
        cutoff = self[sector] = self._rng.choice(self._choices)
        return cutoff


def crash_states(
    operations: Sequence[Operation], rng: random.Random, *, subsets: int = 4, every_byte: bool = False
) -> Iterator[CrashState]:
    """States that a crash right after the last of ``operations`` may leave.

    All of (a) everything, (b) only what was flushed, (c) that and each single operation more, or (d) random subsets
    more, (e) the last write torn at each sector boundary, or at ``every_byte``, (f) lengths without data, (g) names
    lost, (h) names ahead of the data, (i) sectors as they stood after different writes.
    """
    durable = durable_operations(operations)
    volatile = [
        number
        for number, operation in enumerate(operations)
        if number not in durable and operation.kind not in (SYNC, SYNC_DIR, SYNC_FAILED)
    ]
    yield CrashState("everything", everything(operations))
    yield CrashState("flushed only", flushed_only(operations))
    for one in volatile:
        yield CrashState(f"flushed and {one}", _there(operations, durable | {one}))
    for number in range(subsets):
        chosen = {one for one in volatile if rng.random() < 0.5}
        yield CrashState(f"subset {number}", _there(operations, durable | chosen))
    writes = [one for one in volatile if operations[one].kind == WRITE]
    names = {one for one in volatile if operations[one].kind not in (WRITE, TRUNCATE)}
    yield CrashState("names without data", _there(operations, durable | names))
    yield CrashState("data without names", _there(operations, (durable | set(volatile)) - names))
    if writes:
        yield from _torn(operations, writes[-1], every_byte=every_byte)
        yield CrashState("lengths without data", _sectors_up_to(operations, durable, lambda _: -1))
        for number in range(subsets):
            cutoffs = _RandomCutoffs(rng, [-1, len(operations), *writes])
            state = _sectors_up_to(operations, durable, cutoffs.__getitem__)
            yield CrashState(f"sectors {number}", state)


def _torn(operations: Sequence[Operation], last: int, *, every_byte: bool) -> Iterator[CrashState]:
    """Everything, but of the last write only a first part."""
    write = operations[last]
    first = 1 if every_byte else SECTOR - write.position % SECTOR
    for size in range(first, len(write.data), 1 if every_byte else SECTOR):
        cut = [*operations[:last], write._replace(data=write.data[:size]), *operations[last + 1 :]]
        yield CrashState(f"write {last} torn at {size}", everything(cut))
