"""A frozen copy of the data directory of a running broker, as of one moment, for a backup to read at leisure.

What lives here: where every log stood at that moment, and the links that keep the files. What may not: copying a record
(``cli/storage/backup`` does, in another process).

All logs are measured in one turn of the loop, so the copy is of one moment: no journal names what its topics do not have.
Files are hard-linked, which takes no space and lets retention and compaction go on: a sealed file never changes, and of the
active one only what was written at that moment counts (``FROZEN`` says how much). A checkpoint of the copy's own lets a
broker on it read the last segment of each partition again from its start, and check it.

Invariants: what is flushed is in it; a directory is linked without a wait, so nothing changes half-way; at a start
leftovers are removed.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import uuid4

import msgspec

from logbroker.clock import Clock
from logbroker.engine.api import FrozenCopy
from logbroker.engine.catalog import encode_catalog
from logbroker.engine.datadir import CATALOG, DataDirectory, partition_path
from logbroker.engine.partition import Partition
from logbroker.errors import PartitionDamaged, StorageError
from logbroker.log.checkpoint import Checkpointed, encode_slot
from logbroker.log.files import Files, make_dirs
from logbroker.log.names import CHECKPOINT, LOG, PRODUCERS, file_name, sort_out
from logbroker.log.partition import Mark
from logbroker.log.state import fresh_state
from logbroker.model import TopicPartition

FROZEN_DIR: Final = "frozen"
FROZEN: Final = "frozen.json"


class FrozenFile(msgspec.Struct, frozen=True):
    """A file of a frozen copy; only its first ``size`` bytes belong to it."""

    path: str
    size: int


class FrozenList(msgspec.Struct, frozen=True):
    """What ``FROZEN`` holds."""

    cluster_id: str
    created_ms: int
    files: list[FrozenFile]


class Freezer:
    """Makes and removes frozen copies. One at a time is made; all calls on the loop's thread."""

    def __init__(
        self,
        files: Files,
        directory: DataDirectory,
        partitions: Mapping[TopicPartition, Partition],
        damaged: Mapping[TopicPartition, PartitionDamaged],
        clock: Clock,
        catalog_lock: asyncio.Lock,
    ) -> None:
        self._files = files
        self._directory = directory
        self._partitions = partitions
        self._damaged = damaged
        self._clock = clock
        self._catalog_lock = catalog_lock
        self._copies: dict[str, str] = {}

    def clear(self) -> None:
        """Remove what an earlier process has left."""
        if self._files.exists(FROZEN_DIR):
            self._files.rmtree(FROZEN_DIR)

    async def freeze(self) -> FrozenCopy:
        """A copy as of now; a damaged partition is in it as it is. Raises StorageError, and then nothing is left."""
        name = str(uuid4())
        path = f"{FROZEN_DIR}/{name}"
        async with self._catalog_lock:
            created_ms = self._clock.now().wall_ms
            marks = {where: partition.log.mark() for where, partition in self._partitions.items()}
            catalog = self._directory.catalog
            make_dirs(self._files, path)
            try:
                listed = [self._write(f"{path}/{CATALOG}", encode_catalog(catalog), CATALOG)]
                for where, mark in marks.items():
                    listed += self._link(path, partition_path(catalog.topic(where.topic).id, where.partition), mark)
                    await asyncio.sleep(0)
                for where in self._damaged:
                    listed += self._link_all(path, partition_path(catalog.topic(where.topic).id, where.partition))
                document = FrozenList(catalog.cluster_id, created_ms, listed)
                self._write(f"{path}/{FROZEN}", msgspec.json.encode(document), FROZEN)
            except BaseException:
                self._files.rmtree(path)
                raise
        self._copies[name] = path
        return FrozenCopy(name, path, created_ms, len(listed), sum(one.size for one in listed))

    async def release(self, name: str) -> None:
        """Remove a copy, if it is there."""
        path = self._copies.pop(name, None)
        if path is not None:
            await asyncio.to_thread(self._files.rmtree, path)

    def _link(self, copy: str, directory: str, mark: Mark) -> Iterator[FrozenFile]:
        """Link the files of a partition up to ``mark``."""
        to = f"{copy}/{directory}"
        make_dirs(self._files, to)
        listing = sort_out(self._files.listdir(directory))
        for kind, offsets in {LOG: listing.logs, **listing.kinds}.items():
            for offset in offsets:
                is_wanted = offset <= mark.next_offset if kind == PRODUCERS else offset < mark.base_offset
                if is_wanted:
                    yield self._linked(copy, f"{directory}/{file_name(offset, kind)}")
        active = f"{directory}/{file_name(mark.base_offset, LOG)}"
        start, base = mark.log_start_offset, mark.base_offset
        if self._files.exists(active):
            yield self._linked(copy, active, mark.size)
        else:  # all that was in it has been deleted meanwhile
            start = base = mark.next_offset
            yield self._write(f"{to}/{file_name(base, LOG)}", b"", f"{directory}/{file_name(base, LOG)}")
        checkpoint = Checkpointed(fresh_state(base), start, mark.active_since_ms, mark.has_producers)
        yield self._write(f"{to}/{CHECKPOINT}", encode_slot(1, checkpoint), f"{directory}/{CHECKPOINT}")

    def _link_all(self, copy: str, directory: str) -> Iterator[FrozenFile]:
        make_dirs(self._files, f"{copy}/{directory}")
        for name in self._files.listdir(directory):
            yield self._linked(copy, f"{directory}/{name}")

    def _linked(self, copy: str, path: str, size: int | None = None) -> FrozenFile:
        self._files.link(path, f"{copy}/{path}")
        there = self._files.size(path)
        if size is not None and there < size:
            raise StorageError(f"{path} has {there} bytes, {size} were written")
        return FrozenFile(path, there if size is None else size)

    def _write(self, at: str, data: bytes, path: str) -> FrozenFile:
        file = self._files.create(at)
        try:
            file.append([data])
        finally:
            file.close()
        return FrozenFile(path, len(data))
