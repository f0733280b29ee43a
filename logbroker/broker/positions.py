"""Positions: where a reader wants to start, and what that means for a partition now.

What lives here: the value, its text form (``earliest``, ``latest``, ``ts:N``, ``N``) and its resolution against the engine.
What may not: waiting, formats of a door. Invariant: a resolved offset lies within the partition's bounds, except that an
explicit offset is passed on as it is (the read says when it is out of range).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from logbroker.config import INT64_MAX
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import InvalidOffset
from logbroker.model import TopicPartition

_LOOK_BACK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class At:
    """The start or the end of what can be read."""

    place: Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True)
class AtTime:
    """The first record at or after a timestamp; the end when there is none."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class AtOffset:
    """An offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Last:
    """The last ``count`` records."""

    count: int


Position: TypeAlias = At | AtTime | AtOffset | Last

EARLIEST = At("earliest")
LATEST = At("latest")


def parse_position(text: str) -> Position:
    """A position from ``earliest``, ``latest``, ``ts:N`` or ``N``. Raises InvalidOffset."""
    if text == "earliest":
        return EARLIEST
    if text == "latest":
        return LATEST
    digits = text.removeprefix("ts:")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19 or int(digits) > INT64_MAX:
        raise InvalidOffset(f"{text[:40]!r} is not a position: give earliest, latest, ts:MILLISECONDS or an offset")
    return AtOffset(int(digits)) if digits == text else AtTime(int(digits))


def parse_vector(text: str) -> dict[int, int]:
    """Offsets by partition from ``0:42,1:17``, the form of tail ids. Raises InvalidOffset."""
    vector: dict[int, int] = {}
    for part in text.split(","):
        partition, colon, offset = part.strip().partition(":")
        plain = (partition + offset).isascii() and partition.isdigit() and offset.isdigit()
        if not colon or not plain or len(partition) > 10 or len(offset) > 19 or int(offset) > INT64_MAX:
            raise InvalidOffset(f"{text[:80]!r} is not a position vector such as 0:42,1:17")
        vector[int(partition)] = int(offset)
    return vector


def format_vector(offsets: Mapping[int, int]) -> str:
    """``0:42,1:17`` for offsets by partition."""
    return ",".join(f"{partition}:{offset}" for partition, offset in offsets.items())


async def resolve(engine: Engine, where: TopicPartition, position: Position, isolation: Isolation) -> int:
    """The offset a position stands for. Raises UnknownTopicOrPartition."""
    match position:
        case AtOffset(offset):
            return offset
        case AtTime(timestamp_ms):
            found = await engine.offset_at(where, timestamp_ms)
            end = await end_of(engine, where, isolation)
            return min(found.offset, end) if found is not None else end
        case Last(count):
            end = await end_of(engine, where, isolation)
            offsets = await last_offsets(engine, where, end, count, isolation) if count > 0 else []
            return offsets[0] if offsets else end
        case At("earliest"):
            return (await engine.bounds(where)).log_start_offset
        case _:
            return await end_of(engine, where, isolation)


async def end_of(engine: Engine, where: TopicPartition, isolation: Isolation) -> int:
    """The offset after the last record that a reader of this isolation sees."""
    return isolation.end(await engine.bounds(where))


async def last_offsets(engine: Engine, where: TopicPartition, end: int, count: int, isolation: Isolation) -> list[int]:
    """The offsets of the last ``count`` records before ``end``, ascending; fewer when there are not as many.

    Offsets need not be dense, so the look back grows until it has found enough or stands at the log start.
    """
    start = (await engine.bounds(where)).log_start_offset
    span = count
    while True:
        begin = max(start, end - span)
        offsets = await _offsets(engine, where, begin, end, isolation)
        if len(offsets) >= count or begin == start:
            return offsets[-count:]
        span *= 2


async def _offsets(engine: Engine, where: TopicPartition, begin: int, end: int, isolation: Isolation) -> list[int]:
    offsets: list[int] = []
    while begin < end:
        read = await engine.read(where, begin, max_bytes=_LOOK_BACK_BYTES, isolation=isolation)
        offsets += [record.offset for record in read.records if record.offset < end]
        if read.next_offset <= begin:
            break
        begin = read.next_offset
    return offsets
