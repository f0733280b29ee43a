"""What a target on the command line stands for: a topic, a partition, a segment, or files named by their path.

What lives here: names to directories, by the catalogue of the data directory. What may not: what is inside a segment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def segments(target: str | None, data_dir: Path) -> list[SegmentPlace]:
    """The segments a target names, by base offset.

    A target is ``TOPIC``, ``TOPIC/PARTITION``, ``TOPIC/PARTITION/BASE_OFFSET``, a ``.log`` file, or a directory of such
    (one that Kafka wrote, for example); None means the whole data directory. Raises UnknownTopicOrPartition,
    DataDirectoryError, InvalidRequest.
    """
    if target is not None and ("/" in target or target.endswith(f".{LOG}")) and Path(target).exists():
        return _by_path(Path(target))
    return [place for label, directory in _partitions(target, data_dir) for place in _in(label, directory, target)]


def one_partition(target: str, data_dir: Path) -> list[SegmentPlace]:
    """The segments of exactly one partition. Raises InvalidRequest for a target that is more."""
    found = segments(target, data_dir)
    if len({place.label for place in found}) > 1:
        raise InvalidRequest(f"{target!r} has several partitions: name one, as {found[0].label}")
    return found


def _by_path(path: Path) -> list[SegmentPlace]:
    if path.is_dir():
        return list(_in(str(path), path, None))
    if not re.fullmatch(rf"\d{{20}}\.{LOG}", path.name):
        raise InvalidRequest(f"{path} is no segment: its name should be 20 digits and .{LOG}")
    return [SegmentPlace(str(path.parent), path.parent, int(path.stem))]


def _in(label: str, directory: Path, target: str | None) -> Iterator[SegmentPlace]:
    """The segments of a directory, or the one that the target's last part names."""
    named = _TARGET.fullmatch(target) if target else None
    wanted = int(named["base"]) if named and named["base"] else None
    bases = sort_out(entry.name for entry in directory.iterdir()).logs if directory.is_dir() else []
    if wanted is not None and wanted not in bases:
        raise UnknownTopicOrPartition(f"{label} has no segment with base offset {wanted}; there are: {bases}")
    for base in bases:
        if wanted in (None, base):
            yield SegmentPlace(label, directory, base)


def _partitions(target: str | None, data_dir: Path) -> Iterator[tuple[str, Path]]:
    if not data_dir.is_dir():
        raise DataDirectoryError(f"{data_dir} is no directory; name the data directory with --data-dir")
    catalog = read_catalog(DiskFiles(data_dir))
    if catalog is None:
        raise DataDirectoryError(f"{data_dir} holds no catalog.json, so it is no data directory of logbroker")
    named = _TARGET.fullmatch(target) if target is not None else None
    if target is not None and named is None:
        raise InvalidRequest(f"{target!r} is no target: give TOPIC, TOPIC/PARTITION, TOPIC/PARTITION/BASE_OFFSET or a path")
    entries = [catalog.topic(named["topic"])] if named else sorted(catalog, key=lambda entry: entry.name)
    for entry in entries:
        numbers = [int(named["partition"])] if named and named["partition"] else range(entry.partitions)
        for number in numbers:
            if number >= entry.partitions:
                raise UnknownTopicOrPartition(f"topic {entry.name!r} has {entry.partitions} partitions, no {number}")
            yield f"{entry.name}/{number}", data_dir / partition_path(entry.id, number)
