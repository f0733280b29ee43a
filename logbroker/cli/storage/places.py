"""What a target on the command line stands for: a topic, a partition, a segment, or files named by their path.

What lives here: names to directories, by the catalogue of the data directory. What may not: what is inside a segment.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from logbroker.cli import settings
from logbroker.cli.framework import Invocation
from logbroker.engine.datadir import partition_path, read_catalog
from logbroker.errors import DataDirectoryError, InvalidRequest, UnknownTopicOrPartition
from logbroker.log.files.disk import DiskFiles
from logbroker.log.names import LOG, file_name, sort_out

_TARGET = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)(/(?P<partition>\d+)(/(?P<base>\d+))?)?")


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """One segment: the directory it lies in and the offset its files are named after."""

    label: str
    """``topic/partition``, or the directory when it was named by its path."""
    directory: Path
    base_offset: int

    @property
    def files(self) -> DiskFiles:
        return DiskFiles(self.directory)

    def path(self, kind: str = LOG) -> Path:
        """The file of that kind."""
        return self.directory / file_name(self.base_offset, kind)

    def size(self, kind: str = LOG) -> int | None:
        """The bytes of that file, None where there is none."""
        path = self.path(kind)
        return path.stat().st_size if path.exists() else None


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """The directory of one partition; ``base_offset`` narrows it down to one segment."""

    label: str
    directory: Path
    base_offset: int | None = None

    def base_offsets(self) -> list[int]:
        """Those of all segments in the directory, ascending, whatever it is narrowed down to."""
        return sort_out(entry.name for entry in self.directory.iterdir()).logs if self.directory.is_dir() else []

    def segments(self) -> list[SegmentPlace]:
        """Its segments. Raises UnknownTopicOrPartition when the one it is narrowed down to is not there."""
        bases = self.base_offsets()
        if self.base_offset is not None and self.base_offset not in bases:
            raise UnknownTopicOrPartition(
                f"{self.label} has no segment with base offset {self.base_offset}; there are: {bases}"
            )
        chosen = bases if self.base_offset is None else [self.base_offset]
        return [SegmentPlace(self.label, self.directory, base) for base in chosen]


def data_dir_of(invocation: Invocation) -> Path:
    """The data directory a command is about. Raises InvalidConfig."""
    flags = {} if invocation.data_dir is None else {"data_dir": invocation.data_dir}
    return Path(settings.load(flags, os.environ).broker.data_dir)


def partitions(target: str | None, data_dir: Path) -> list[PartitionPlace]:
    """The partitions a target names.

    A target is ``TOPIC``, ``TOPIC/PARTITION``, ``TOPIC/PARTITION/BASE_OFFSET``, a ``.log`` file, or a directory of such
    (one that Kafka wrote, for example); None means the whole data directory. Raises UnknownTopicOrPartition,
    DataDirectoryError, InvalidRequest.
    """
    if target is not None and ("/" in target or target.endswith(f".{LOG}")) and Path(target).exists():
        return [_by_path(Path(target))]
    return list(_by_catalog(target, data_dir))


def segments(target: str | None, data_dir: Path) -> list[SegmentPlace]:
    """The segments a target names, by base offset. Raises as ``partitions``."""
    return [segment for place in partitions(target, data_dir) for segment in place.segments()]


def one_partition(target: str, data_dir: Path) -> list[SegmentPlace]:
    """The segments of exactly one partition. Raises InvalidRequest for a target that is more."""
    found = partitions(target, data_dir)
    if len(found) > 1:
        raise InvalidRequest(f"{target!r} has several partitions: name one, as {found[0].label}")
    return found[0].segments()


def _by_path(path: Path) -> PartitionPlace:
    if path.is_dir():
        return PartitionPlace(str(path), path)
    if not re.fullmatch(rf"\d{{20}}\.{LOG}", path.name):
        raise InvalidRequest(f"{path} is no segment: its name should be 20 digits and .{LOG}")
    return PartitionPlace(str(path.parent), path.parent, int(path.stem))


def _by_catalog(target: str | None, data_dir: Path) -> Iterator[PartitionPlace]:
    if not data_dir.is_dir():
        raise DataDirectoryError(f"{data_dir} is no directory; name the data directory with --data-dir")
    catalog = read_catalog(DiskFiles(data_dir))
    if catalog is None:
        raise DataDirectoryError(f"{data_dir} holds no catalog.json, so it is no data directory of logbroker")
    named = _TARGET.fullmatch(target) if target is not None else None
    if target is not None and named is None:
        raise InvalidRequest(f"{target!r} is no target: give TOPIC, TOPIC/PARTITION, TOPIC/PARTITION/BASE_OFFSET or a path")
    entries = [catalog.topic(named["topic"])] if named else sorted(catalog, key=lambda entry: entry.name)
    base = int(named["base"]) if named and named["base"] else None
    for entry in entries:
        numbers = [int(named["partition"])] if named and named["partition"] else range(entry.partitions)
        for number in numbers:
            if number >= entry.partitions:
                raise UnknownTopicOrPartition(f"topic {entry.name!r} has {entry.partitions} partitions, no {number}")
            yield PartitionPlace(f"{entry.name}/{number}", data_dir / partition_path(entry.id, number), base)
