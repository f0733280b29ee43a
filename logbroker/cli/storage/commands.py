"""``logbroker segment``: look into the files of a data directory, or into segment files that Kafka wrote."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Group, Invocation, pass_invocation
from logbroker.cli.output import note, print_item, print_rows, progress, timestamp
from logbroker.cli.storage.contents import Walk, batch_row, finding_rows, index_rows, record_rows
from logbroker.cli.storage.places import SegmentPlace, data_dir_of, one_partition, partitions, segments
from logbroker.cli.storage.repair import repair
from logbroker.errors import MessageNotFound
from logbroker.log.names import DIGEST, INDEX, TIME_INDEX
from logbroker.log.verify import DAMAGE

Row = dict[str, Any]


@click.group(cls=Group)
def segment() -> None:
    """Look into the files of a data directory.

    A TARGET is TOPIC, TOPIC/PARTITION or TOPIC/PARTITION/BASE_OFFSET in the data directory, or the path of a .log file or
    of a directory of them. All but 'repair --execute' change nothing, so they also work beside a running broker.
    """


segment.add_command(repair)


@segment.command("ls")
@click.argument("target", required=False)
@pass_invocation
def list_segments(invocation: Invocation, target: str | None) -> None:
    """List segments and the sizes of their files."""
    rows = [
        {
            "partition": place.label,
            "base_offset": place.base_offset,
            "bytes": place.size(),
            "index_bytes": place.size(INDEX),
            "time_index_bytes": place.size(TIME_INDEX),
            "sealed": place.size(DIGEST) is not None,
            "path": str(place.path()),
        }
        for place in segments(target, data_dir_of(invocation))
    ]
    print_rows(invocation, rows, ("partition", "base_offset", "bytes", "index_bytes", "time_index_bytes", "sealed"))


@segment.command("dump")
@click.argument("target")
@click.option("--deep", is_flag=True, help="The records, not only the batches.")
@click.option("--print-data", is_flag=True, help="The records with keys, headers and values.")
@click.option("--offsets", metavar="A:B", help="Only batches (or records) with offsets from A to before B.")
@pass_invocation
def dump(invocation: Invocation, target: str, deep: bool, print_data: bool, offsets: str | None) -> int:
    """Print the batches, or the records, of segments; exits 8 where a file holds something else."""
    low, high = _range(offsets)
    walks = [Walk(place) for place in segments(target, data_dir_of(invocation))]
    if deep or print_data:
        rows = (row for row in _records(walks, with_data=print_data) if low <= row["offset"] < high)
        columns = ["partition", "offset", "timestamp_ms", "key_bytes", "value_bytes", "headers"]
        columns += ["key", "value"] if print_data else []
    else:
        rows = (row for row in _batches(walks) if row["last_offset"] >= low and row["base_offset"] < high)
        columns = ["partition", "position", "base_offset", "last_offset", "records", "bytes", "compression", "crc"]
    print_rows(invocation, rows, columns)
    return _told(invocation, walks)


def _range(offsets: str | None) -> tuple[int, int]:
    if offsets is None:
        return 0, 2**63
    bounds = re.fullmatch(r"(\d*):(\d*)", offsets)
    if bounds is None:
        raise click.UsageError(f"{offsets!r} is no range A:B")
    return int(bounds[1] or 0), int(bounds[2] or 2**63)


def _batches(walks: Iterable[Walk]) -> Iterator[Row]:
    for walk in walks:
        for batch in walk:
            yield batch_row(walk.place, batch)


def _records(walks: Iterable[Walk], *, with_data: bool) -> Iterator[Row]:
    for walk in walks:
        for batch in walk:
            yield from record_rows(walk.place, batch, with_data=with_data)


def _told(invocation: Invocation, walks: Sequence[Walk]) -> int:
    """Tell where walks ended early, and the exit code for it."""
    stops = [walk.stopped for walk in walks if walk.stopped is not None]
    for stop in stops:
        note(invocation, f"warning: {stop}")
    return failures.DAMAGE_FOUND if stops else 0


@segment.command("index")
@click.argument("target")
@pass_invocation
def index(invocation: Invocation, target: str) -> None:
    """Print the entries of the offset and time indexes."""
    rows = list(chain.from_iterable(index_rows(place) for place in segments(target, data_dir_of(invocation))))
    print_rows(invocation, rows, ("partition", "file", "offset", "position", "timestamp_ms"))


@segment.command("verify")
@click.argument("target", required=False)
@pass_invocation
def verify(invocation: Invocation, target: str | None) -> int:
    """Read every byte of TARGET, or of all topics, and tell what is wrong; exits 8 for damage.

    "damage": records are lost or changed. "derived": a file that the broker builds again by itself is wrong. "note": worth
    knowing. What a live broker is just writing can look like damage at the end of the newest segment.
    """
    places = [place for place in partitions(target, data_dir_of(invocation)) if place.directory.is_dir()]
    found = [segment for place in places for segment in place.segments()]
    size = sum(segment.size() or 0 for segment in found)
    with progress(invocation, "bytes", size) as bar:
        rows = [row for place in places for row in finding_rows(place, bar.advance)]
    print_rows(invocation, rows, ("partition", "severity", "file", "position", "first_offset", "last_offset", "message"))
    damages = sum(row["severity"] == DAMAGE for row in rows)
    verdict = f"{damages} damaged places" if damages else "no damage"
    note(invocation, f"{verdict} in {len(found)} segments of {len(places)} partitions, {size} bytes")
    return failures.DAMAGE_FOUND if damages else 0


@segment.command("find")
@click.argument("target")
@click.option("--offset", type=click.IntRange(0), help="The record at this offset.")
@click.option("--timestamp", "timestamp_ms", type=click.IntRange(0), help="The first record at or after this time, in ms.")
@pass_invocation
def find(invocation: Invocation, target: str, offset: int | None, timestamp_ms: int | None) -> None:
    """Find the segment, batch and byte position of a record of one partition. Reads the files, not their indexes."""
    if (offset is None) == (timestamp_ms is None):
        raise click.UsageError("give one of --offset and --timestamp")
    places = one_partition(target, data_dir_of(invocation))
    found = _find_offset(places, offset) if offset is not None else _find_time(places, timestamp_ms or 0)
    if found is None:
        wanted = f"offset {offset}" if offset is not None else f"time {timestamp_ms} ({timestamp(timestamp_ms)}) or later"
        raise MessageNotFound(f"{target} holds no record with {wanted}")
    print_item(invocation, found)


def _find_offset(places: Sequence[SegmentPlace], offset: int) -> Row | None:
    for place in reversed(places):
        if place.base_offset <= offset:
            return _find(place, lambda row: row["last_offset"] >= offset, lambda row: row["offset"] == offset)
    return None


def _find_time(places: Sequence[SegmentPlace], timestamp_ms: int) -> Row | None:
    def late(row: Row) -> bool:
        latest: int = row["max_timestamp_ms" if "max_timestamp_ms" in row else "timestamp_ms"]
        return latest >= timestamp_ms

    return next((row for row in (_find(place, late, late) for place in places) if row is not None), None)


def _find(place: SegmentPlace, may_hold: Callable[[Row], bool], matches: Callable[[Row], bool]) -> Row | None:
    """The first matching record of the first batch that may hold one."""
    for batch in Walk(place):
        row = batch_row(place, batch)
        if may_hold(row):
            for record in record_rows(place, batch, with_data=False):
                if matches(record):
                    where = {"file": str(place.path()), "position": batch.position, "base_offset": row["base_offset"]}
                    return {**where, "offset": record["offset"], "timestamp_ms": record["timestamp_ms"]}
    return None
