"""``logbroker produce``: records from standard input or files into a topic.

What lives here: reading input and cutting it into requests. A request holds what one read of the input gave, so that a
slow pipe is passed on line by line and a file in large batches. What may not: retrying; an answer that did not come
leaves open whether the records were written.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import Progress, note, print_rows, progress
from logbroker.cli.payloads import producible, to_wire
from logbroker.errors import LogbrokerError

_READ_BYTES = 256 * 1024
_MAX_RECORDS = 5_000

Record = dict[str, Any]


@dataclass(slots=True)
class _Written:
    """What the broker answered so far."""

    stream: bool
    results: list[Record] = field(default_factory=list)
    count: int = 0
    failed: int = 0

    def add(self, results: Sequence[Record]) -> None:
        failed = sum("error" in result for result in results)
        self.failed += failed
        self.count += len(results) - failed
        if self.stream:
            for result in results:
                print(json.dumps(result))
        else:
            self.results += results

    def summary(self) -> list[Record]:
        """One row per partition: how many records and which offsets."""
        rows: dict[int, Record] = {}
        for result in self.results:
            if "error" in result:
                continue
            at, offset = result["partition"], result["offset"]
            row = rows.setdefault(at, {"partition": at, "records": 0, "first_offset": offset, "last_offset": offset})
            row["records"] += 1
            row["first_offset"] = min(row["first_offset"], offset)
            row["last_offset"] = max(row["last_offset"], offset)
        return [rows[partition] for partition in sorted(rows)]


@click.command(cls=Command)
@click.argument("topic")
@click.option("--key", "-k", help="The key of every record.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="A header of every record.")
@click.option("--partition", "-p", type=click.IntRange(0), help="The partition; by default the key decides.")
@click.option("--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Input.")
@click.option(
    "--input",
    "kind",
    type=click.Choice(("lines", "jsonl", "raw")),
    default="lines",
    show_default=True,
    help="A record a line; a JSON record a line, as 'consume -o jsonl' prints them; the whole input as one record.",
)
@pass_invocation
def produce(
    invocation: Invocation,
    /,
    topic: str,
    key: str | None,
    headers: Sequence[str],
    partition: int | None,
    files: Sequence[Path],
    kind: str,
) -> int:
    """Write records to TOPIC, from standard input or from files."""
    common: Record = {} if key is None else {"key": key}
    if headers:
        common["headers"] = [_header(text) for text in headers]
    if partition is not None:
        common["partition"] = partition
    written = _Written(stream=invocation.output == "jsonl")
    total = sum(file.stat().st_size for file in files) if files else None
    with HttpClient(invocation.url, invocation.timeout_s) as client, progress(invocation, "bytes", total) as bar:
        try:
            for batch in _batches(files, kind, bar):
                records = [{**record, **common} for record in batch]
                answer = client.request("POST", path("topics", topic, "records"), body={"records": records})
                written.add(answer["results"])
        except LogbrokerError:
            if written.count:
                note(invocation, f"{written.count} records were written before this:")
            raise
    if invocation.output == "json":
        print(json.dumps(written.results, indent=2))
    elif invocation.output == "table":
        print_rows(invocation, written.summary(), ("partition", "records", "first_offset", "last_offset"))
    return _verdict(written)


def _verdict(written: _Written) -> int:
    if not written.failed:
        return 0
    for result in written.results:
        if "error" in result:
            print(f"error[{result['error'].get('code')}]: {result['error'].get('detail')}", file=sys.stderr)
    return failures.PARTIAL


def _header(text: str) -> list[str]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise click.UsageError(f"{text!r} is no header NAME:VALUE")
    return [name, value]


def _batches(files: Sequence[Path], kind: str, bar: Progress) -> Iterator[list[Record]]:
    parse: Callable[[bytes, int], Record] = producible if kind == "jsonl" else lambda line, _: dict(to_wire("value", line))
    for source in _sources(files):
        if kind == "raw":
            yield [dict(to_wire("value", source.read()))]
            continue
        number = 0
        for lines in _lines(source, bar):
            batch = [parse(line, number + at) for at, line in enumerate(lines, 1) if line or kind == "lines"]
            number += len(lines)
            if batch:
                yield batch


def _sources(files: Sequence[Path]) -> Iterator[BufferedReader]:
    if not files:
        yield cast(BufferedReader, sys.stdin.buffer)
    for name in files:
        with name.open("rb") as file:
            yield file


def _lines(source: BufferedReader, bar: Progress) -> Iterator[list[bytes]]:
    """The lines of each read that ended at least one; the last need not end in a newline."""
    rest = b""
    while chunk := _read(source):
        bar.advance(len(chunk))
        *lines, rest = (rest + chunk).split(b"\n")
        for at in range(0, len(lines), _MAX_RECORDS):
            yield [line.removesuffix(b"\r") for line in lines[at : at + _MAX_RECORDS]]
    if rest:
        yield [rest]


def _read(source: BufferedReader) -> bytes:
    """What is there, waiting only when there is nothing."""
    try:
        return source.read1(_READ_BYTES)
    except OSError as error:
        raise LogbrokerError(f"the input cannot be read: {error}") from None
