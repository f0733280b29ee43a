"""What is asked of a pass of the cleaner, and what it tells: plain values that go between processes as JSON.

What lives here: these values. What may not: carrying them out.
"""

import msgspec


class Source(msgspec.Struct, frozen=True):
    """A sealed segment."""

    base_offset: int
    next_offset: int
    size: int
    index_entries: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over a partition."""

    path: str
    """The directory of the partition, relative to the root of its files."""
    sources: list[Source]
    """The segments that may be rewritten: from the first of the log on."""
    deciding: list[Source]
    """Those behind, in which markers of transactions of the sources may stand."""
    dirty_from: int
    """Below it every key was seen by an earlier pass."""
    now_ms: int
    delete_retention_ms: int
    producers: dict[int, int]
    """The last offset of each producer that is remembered."""
    segment_bytes: int
    index_bytes: int
    index_interval_bytes: int
    table_bytes: int
    bytes_per_second: int = 0
    """How much may be read and written; 0 for no limit."""


class Output(msgspec.Struct, frozen=True):
    """A compacted copy, complete and flushed, of one or more segments that follow each other."""

    base_offset: int
    next_offset: int
    size: int
    sources: list[Source]


class Result(msgspec.Struct, frozen=True):
    """What a pass did."""

    cleaned_to: int
    """Where the next pass may begin; less than the end of the sources where the table was full."""
    outputs: list[Output]
    """Only those that differ from what is there."""
    records_read: int = 0
    records_kept: int = 0
