"""Durations and instants as people give them, as milliseconds.

What lives here: the conversions. What may not: clocks. Numbers are seconds, as everywhere in Python; texts name their unit.
"""

import math
import re
from datetime import datetime, timedelta
from typing import TypeAlias

from logbroker.errors import InvalidRequest

Duration: TypeAlias = float | timedelta | str
"""Seconds, a timedelta, or a text such as ``"250ms"``, ``"30s"``, ``"5m"``, ``"2h"``, ``"7d"``, ``"1h30m"``."""
Instant: TypeAlias = datetime | int
"""An aware datetime, or milliseconds since the epoch."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def to_ms(duration: Duration) -> int:
    """A duration in milliseconds, rounded up, so that nothing ends early. Raises InvalidRequest."""
    if isinstance(duration, timedelta):
        return -(-duration // timedelta(milliseconds=1))
    if isinstance(duration, str):
        text = duration.replace(" ", "")
        if not _WHOLE.fullmatch(text):
            raise InvalidRequest(f"{duration!r} is no duration: give seconds, or a text such as 250ms, 30s, 5m, 7d")
        return _up(sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text)))
    if not isinstance(duration, int | float) or isinstance(duration, bool):
        raise InvalidRequest(f"{duration!r} is no duration: give seconds, a timedelta, or a text such as 30s")
    return _up(duration * 1_000)


def _up(ms: float) -> int:
    if not math.isfinite(ms):
        raise InvalidRequest(f"{ms} ms is no duration: give seconds, a timedelta, or a text such as 30s")
    whole = round(ms)
    return whole if abs(ms - whole) < 1e-6 else int(ms) + (ms > 0)


def instant_ms(instant: Instant) -> int:
    """An instant in milliseconds since the epoch. Raises InvalidRequest, as for a datetime without a time zone."""
    if isinstance(instant, int) and not isinstance(instant, bool):
        return instant
    if not isinstance(instant, datetime):
        raise InvalidRequest(f"{instant!r} is no instant: give an aware datetime, or milliseconds since the epoch")
    if instant.tzinfo is None:
        raise InvalidRequest(f"{instant} has no time zone: give an aware datetime, as datetime.now(UTC)")
    return round(instant.timestamp() * 1_000)
