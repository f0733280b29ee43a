"""Where reading starts, as people say it, in the words of the API.

What lives here: the conversion. What may not: what a position means in a partition.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from logbroker.client.durations import Instant, instant_ms
from logbroker.errors import InvalidOffset, InvalidRequest

Place: TypeAlias = Literal["earliest", "latest"]


class Snapshot(str):
    """The place that a snapshot of this name keeps."""

    __slots__ = ()


Start: TypeAlias = Literal["earliest", "latest"] | int | datetime | Mapping[int, int] | Snapshot
"""The start or the end, an offset, a time, an offset for each partition, or a snapshot (of subscriptions only)."""


def position_of(start: Start) -> dict[str, Any]:
    """A position in JSON. Raises InvalidOffset."""
    if isinstance(start, Snapshot):
        return {"snapshot": str(start)}
    if start in ("earliest", "latest"):
        return {"at": start}
    if isinstance(start, datetime):
        return {"timestamp_ms": instant_ms(start)}
    if isinstance(start, int) and not isinstance(start, bool) and start >= 0:
        return {"offset": start}
    if isinstance(start, Mapping):
        return {"offsets": dict(start)}
    raise InvalidOffset(f"{start!r} is no position: give earliest, latest, an offset, a datetime, or {{partition: offset}}")


def target_of(offset: int | None, timestamp: Instant | None, at: Place | None) -> dict[str, Any]:
    """Where a consumer is to go, in JSON. Raises InvalidRequest unless exactly one is given."""
    given = {
        "offset": offset,
        "timestamp_ms": None if timestamp is None else instant_ms(timestamp),
        "at": at,
    }
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise InvalidRequest("give one of offset, timestamp and at")
    return named
