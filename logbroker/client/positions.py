"""Where reading starts, as people say it, in the words of the API.

What lives here: the conversion. What may not: what a position means in a partition.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from logbroker.client.durations import instant_ms
from logbroker.errors import InvalidOffset

Start: TypeAlias = Literal["earliest", "latest"] | int | datetime | Mapping[int, int]
"""The start or the end, an offset, a time, or an offset for each partition."""


def position_of(start: Start) -> dict[str, Any]:
    """A position in JSON. Raises InvalidOffset."""
    if start in ("earliest", "latest"):
        return {"at": start}
    if isinstance(start, datetime):
        return {"timestamp_ms": instant_ms(start)}
    if isinstance(start, int) and not isinstance(start, bool) and start >= 0:
        return {"offset": start}
    if isinstance(start, Mapping):
        return {"offsets": dict(start)}
    raise InvalidOffset(f"{start!r} is no position: give earliest, latest, an offset, a datetime, or {{partition: offset}}")
