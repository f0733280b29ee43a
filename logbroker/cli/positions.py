"""Times as people write them: ``2026-11-24T10:00``, ``10m``.

What lives here: text to milliseconds. What may not: what a command does with them.
"""

import re
import time
from datetime import UTC, datetime

from logbroker.errors import InvalidOffset, InvalidRequest

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")


def duration_ms(text: str) -> int:
    """Milliseconds of a duration. Raises InvalidRequest."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"{text!r} is no duration: give one as 500ms, 30s, 10m, 2h or 1d")
    return int(found[1]) * _UNITS_MS[found[2]]


def time_ms(text: str) -> int:
    """Milliseconds since the epoch of an ISO time, or of a duration ago. Raises InvalidOffset."""
    ago = _DURATION.fullmatch(text)
    if ago:
        return time.time_ns() // 1_000_000 - int(ago[1]) * _UNITS_MS[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOffset(
            f"{text!r} is no position: give earliest, latest, an offset, a time as 2026-11-24T10:00, or 10m"
        ) from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
