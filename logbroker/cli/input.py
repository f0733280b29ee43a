"""The input of ``produce`` and ``queue send``: standard input or files, as batches of records.

What lives here: reading and cutting. A batch holds what one read of the input gave, so that a slow pipe is passed on line
by line and a file in large batches. What may not: HTTP, and what a record means.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import click

from logbroker.cli.output import Progress
from logbroker.cli.payloads import Fields, producible, to_wire
from logbroker.errors import LogbrokerError

_READ_BYTES = 256 * 1024
_MAX_RECORDS = 5_000

Record = dict[str, Any]


def total_bytes(files: Sequence[Path]) -> int | None:
    """How much there is to read; None for standard input."""
    return sum(file.stat().st_size for file in files) if files else None


def header(text: str) -> list[str]:
    """A header as it is written on the line. Raises click.UsageError."""
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise click.UsageError(f"{text!r} is no header NAME:VALUE")
    return [name, value]


def batches(files: Sequence[Path], kind: str, fields: Fields, bar: Progress) -> Iterator[list[Record]]:
    """The records of ``files``, or of standard input. Raises InvalidRequest, LogbrokerError.

    ``kind`` is lines (a value each), jsonl (an object each, with ``fields``) or raw (one value).
    """
    parse = _parser(kind, fields)
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


def _parser(kind: str, fields: Fields) -> Callable[[bytes, int], Record]:
    if kind == "jsonl":
        return lambda line, number: producible(line, number, fields)
    return lambda line, _: dict(to_wire("value", line))


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
