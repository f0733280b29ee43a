"""Where the files of one partition lie, how they are opened, and how far they reached at a moment."""

from dataclasses import dataclass
from typing import NamedTuple

from logbroker.log.descriptors import Descriptors, OpenFile
from logbroker.log.files import Files
from logbroker.log.names import file_name


@dataclass(slots=True)
class Place:
    """A partition's directory."""

    files: Files
    path: str
    descriptors: Descriptors
    index_interval_bytes: int
    """The topic's setting; it may change while the log is open."""
    may_have_gaps: bool = False
    """Whether the topic is compacted, so that a segment whose digest is gone may lack offsets."""

    def at(self, name: str) -> str:
        """The path of a file of this partition."""
        return f"{self.path}/{name}"

    def numbered(self, offset: int, kind: str) -> OpenFile:
        """A file of the segment at ``offset``."""
        return self.named(file_name(offset, kind))

    def named(self, name: str) -> OpenFile:
        """A file of this partition."""
        return OpenFile(self.files, self.at(name), self.descriptors)

    def sync(self) -> None:
        """Make the names in the directory durable. Raises StorageError."""
        self.files.sync_dir(self.path)


class Mark(NamedTuple):
    """Where a log stood at one moment: its last segment, and how far that was written."""

    base_offset: int
    size: int
    next_offset: int
    log_start_offset: int
    active_since_ms: int
    has_producers: bool
