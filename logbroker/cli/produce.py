"""``logbroker produce``: records from standard input or files into a topic.

What lives here: requests out of batches of input, and what is told of the answers. What may not: reading the input, which
is ``input``; retrying, since an answer that did not come leaves open whether the records were written.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.input import batches, header, total_bytes
from logbroker.cli.output import note, print_rows, progress
from logbroker.cli.payloads import RECORD_FIELDS
from logbroker.errors import LogbrokerError

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
        common["headers"] = [header(text) for text in headers]
    if partition is not None:
        common["partition"] = partition
    written = _Written(stream=invocation.output == "jsonl")
    with (
        HttpClient(invocation.url, invocation.timeout_s) as client,
        progress(invocation, "bytes", total_bytes(files)) as bar,
    ):
        try:
            for batch in batches(files, kind, RECORD_FIELDS, bar):
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
