"""``logbroker consume``: records of topics to standard output, up to their end or on and on.

What lives here: where to start and stop, the loop over ``/v1/fetch``, and the printing of each record. What may not:
decoding of payloads, which is ``payloads``.
Invariant: the records of a partition are printed in order; partitions take turns, so that none waits for another's end.
"""

import contextlib
import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import click

from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.group_reading import MemberReader
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import print_rows
from logbroker.cli.payloads import columns, formatted, readable
from logbroker.cli.positions import time_ms
from logbroker.cli.record_filters import record_filter_options
from logbroker.client.problems import error_of

_FOLLOW_WAIT_MS = 10_000
_MAX_RECORDS = 1_000
_MAX_PARTITIONS = 1_000
_TITLES = ("PARTITION", "OFFSET", "TIMESTAMP", "KEY", "VALUE")

format_option = click.option(
    "--format", "template", metavar="TEMPLATE", help=r"As '%p %o %k %v\n'; also %t topic, %T time, %h headers."
)

Record = dict[str, Any]


@dataclass(slots=True)
class _Cursor:
    """How far one partition has been read; ``end`` is where to stop, None for never."""

    topic: str
    partition: int
    offset: int
    end: int | None

    @property
    def done(self) -> bool:
        return self.end is not None and self.offset >= self.end


@click.command(cls=Command)
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option("--from", "start", metavar="POSITION", help="Where to start; see below.")
@click.option("--to", "stop", metavar="POSITION", help="Where to stop, exclusive; by default the end as it is now.")
@click.option("--partition", "-p", "partitions", type=click.IntRange(0), multiple=True, help="Only this partition.")
@click.option("--count", "-n", type=click.IntRange(1), help="Stop after so many records.")
@record_filter_options
@click.option("--follow/--exit-at-end", "-f/-e", default=False, help="Wait for more, or stop at the end (the default).")
@click.option("--group", "-g", metavar="GROUP", help="Read as a member of this consumer group.")
@click.option("--commit/--no-commit", default=True, help="Whether a member commits what it has printed (the default).")
@format_option
@pass_invocation
def consume(
    invocation: Invocation,
    /,
    topics: Sequence[str],
    start: str | None,
    stop: str | None,
    partitions: Sequence[int],
    count: int | None,
    wanted: str | None,
    follow: bool,
    group: str | None,
    commit: bool,
    template: str | None,
) -> None:
    """Read records from TOPICs.

    A POSITION is earliest, latest, an offset (1234), an offset from the start (+10), the last records of each partition
    (-100), a time (2026-11-24T10:00, UTC unless it says otherwise), or a time ago (10m). Reading starts at earliest, and
    with --follow at latest. A member of a group goes on where the group is; only where that is nowhere, --from counts.
    """
    if follow and stop is not None:
        raise click.UsageError("--follow never stops, so --to means nothing with it")
    if follow and invocation.output == "json" and template is None:
        raise click.UsageError("--follow never stops, and -o json is one array: use -o jsonl")
    start = start or ("latest" if follow else "earliest")
    if group is not None and wanted is not None:
        raise click.UsageError("a member of a group reads all there is: --filter, --key and --header do not go with it")
    if group is not None and (stop is not None or partitions or start not in ("earliest", "latest")):
        raise click.UsageError(
            "the group decides what its members read: --to, --partition and other --from do not go with it"
        )
    with HttpClient(invocation.url, invocation.timeout_s) as client:
        if group is not None:
            reader = MemberReader(client, group, topics, start, commit)
            with contextlib.closing(reader.batches(count, follow=follow)) as batches:
                print_records(invocation, batches, template)
            return
        cursors = [
            _cursor(client, topic, partition, start, None if follow else stop or "latest")
            for topic in topics
            for partition in _partitions(client, topic, partitions)
        ]
        print_records(invocation, _limited(_read(client, cursors, follow, wanted), count), template)


def _partitions(client: HttpClient, topic: str, chosen: Sequence[int]) -> Sequence[int]:
    return chosen or range(client.get(path("topics", topic))["partitions"])


def _cursor(client: HttpClient, topic: str, partition: int, start: str, stop: str | None) -> _Cursor:
    first = _offset(client, topic, partition, start)
    return _Cursor(topic, partition, first, None if stop is None else _offset(client, topic, partition, stop))


def _offset(client: HttpClient, topic: str, partition: int, position: str) -> int:
    """The offset a position stands for in one partition. Raises InvalidOffset."""
    here = path("topics", topic, "partitions", partition)
    if position in ("earliest", "latest"):
        return int(client.get(f"{here}/offset", {"at": position})["offset"])
    if re.fullmatch(r"\d+", position):
        return int(position)
    if re.fullmatch(r"\+\d+", position):
        return int(client.get(here)["log_start_offset"]) + int(position)
    if re.fullmatch(r"-\d+", position):
        last = client.get(f"{here}/records", {"last": position[1:], "max_records": 1, "fields": "meta"})
        return int(last["records"][0]["offset"] if last["records"] else last["next_offset"])
    found = client.get(f"{here}/offset", {"timestamp_ms": time_ms(position)})["offset"]
    return int(found) if found is not None else _offset(client, topic, partition, "latest")


def _read(client: HttpClient, cursors: Sequence[_Cursor], follow: bool, wanted: str | None) -> Iterator[list[Record]]:
    """Records of all cursors; each request starts with another partition, since the first is served first."""
    waiting = deque(cursor for cursor in cursors if not cursor.done)
    wait_ms = _FOLLOW_WAIT_MS if follow else 0
    while waiting:
        turn = list(islice(waiting, _MAX_PARTITIONS))
        asked = [{"topic": cursor.topic, "partition": cursor.partition, "offset": cursor.offset} for cursor in turn]
        body: dict[str, Any] = {"partitions": asked, "max_records": _MAX_RECORDS, "wait_ms": wait_ms, "encoding": "b64"}
        if wanted is not None:
            body["filter"] = wanted
        answers = client.request("POST", path("fetch"), body=body, wait_ms=wait_ms)["partitions"]
        for cursor, answer in zip(turn, answers, strict=True):
            if "error" in answer:
                raise error_of(answer["error"])
            yield [
                {"topic": cursor.topic, **record}
                for record in answer["records"]
                if cursor.end is None or record["offset"] < cursor.end
            ]
            cursor.offset = answer["next_offset"]
        waiting.rotate(-1)
        waiting = deque(cursor for cursor in waiting if not cursor.done)


def _limited(batches: Iterable[list[Record]], count: int | None) -> Iterator[list[Record]]:
    """The batches up to ``count`` records in all."""
    left = count
    for batch in batches:
        yield batch if left is None else batch[:left]
        if left is not None:
            left -= len(batch)
            if left <= 0:
                return


def print_records(invocation: Invocation, batches: Iterable[list[Record]], template: str | None) -> None:
    """Print batches as they come; what one request brought is shown before the next is waited for."""
    if invocation.output == "json" and template is None:
        print_rows(invocation, [readable(record) for batch in batches for record in batch], ())
        return
    out = sys.stdout.buffer
    line = _line(invocation, template)
    if invocation.output == "table" and template is None and invocation.headers:
        out.write("\t".join(_TITLES).encode() + b"\n")
        out.flush()
    for batch in batches:
        out.write(b"".join(map(line, batch)))
        out.flush()


def _line(invocation: Invocation, template: str | None) -> Callable[[Record], bytes]:
    """How one record is printed."""
    if template is not None:
        return lambda record: formatted(template, record)
    if invocation.output == "table":
        return lambda record: "\t".join(columns(record)).encode() + b"\n"
    return lambda record: json.dumps(readable(record), ensure_ascii=False).encode() + b"\n"
