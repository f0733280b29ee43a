"""Where to move a reader to, in JSON: for resets of a group and for seeks of a member."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.positions import EARLIEST, LATEST, AtOffset, AtTime
from logbroker.broker.resets import Current, Each, OfGroup, Shift, Target
from logbroker.errors import InvalidRequest
from logbroker.http_api.payloads import Offset, PartitionNumber, Timestamp
from logbroker.model import TopicPartition

_PLACES: Mapping[str, Target] = {"earliest": EARLIEST, "latest": LATEST, "current": Current()}
Offsets = Annotated[dict[PartitionNumber, Offset], Meta(description="An offset for each partition, of one topic.")]


class TargetIn(msgspec.Struct, forbid_unknown_fields=True):
    """A place: exactly one of the fields. ``current`` and ``shift`` count from where the reader is."""

    at: Literal["earliest", "latest", "current"] | UnsetType = UNSET
    timestamp_ms: Timestamp | UnsetType = UNSET
    duration_ms: Annotated[int, Meta(ge=0, le=2**63 - 1, description="So long ago.")] | UnsetType = UNSET
    offset: Offset | UnsetType = UNSET
    offsets: Offsets | UnsetType = UNSET
    shift: Annotated[int, Meta(ge=-(2**62), le=2**62, description="So many offsets further, or back.")] | UnsetType = UNSET
    group: Annotated[str, Meta(min_length=1, description="Where that group is.")] | UnsetType = UNSET


class PartitionIn(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A partition."""

    topic: str
    partition: PartitionNumber


class PartitionRef(msgspec.Struct):
    """A partition."""

    topic: str
    partition: int


class PositionOut(msgspec.Struct):
    """Where a partition is read on."""

    topic: str
    partition: int
    offset: int


def target_of(given: TargetIn, now_ms: int) -> Target:
    """The target. Raises InvalidRequest unless exactly one field is given."""
    names = [name for name in given.__struct_fields__ if getattr(given, name) is not UNSET]
    if len(names) != 1:
        raise InvalidRequest(f"a place is one of {', '.join(given.__struct_fields__)}; given: {', '.join(names) or 'none'}")
    if given.at is not UNSET:
        return _PLACES[given.at]
    if given.timestamp_ms is not UNSET:
        return AtTime(given.timestamp_ms)
    if given.duration_ms is not UNSET:
        return AtTime(max(now_ms - given.duration_ms, 0))
    return _by_number(given)


def _by_number(given: TargetIn) -> Target:
    if given.offset is not UNSET:
        return AtOffset(given.offset)
    if given.offsets is not UNSET:
        return Each(given.offsets)
    if given.shift is not UNSET:
        return Shift(given.shift)
    assert given.group is not UNSET, "one of the fields is given"
    return OfGroup(given.group)


def partitions_of(given: list[PartitionIn]) -> list[TopicPartition]:
    """The partitions. Raises InvalidRequest when one is named twice."""
    partitions = [TopicPartition(one.topic, one.partition) for one in given]
    if len(set(partitions)) < len(partitions):
        raise InvalidRequest("a partition is named twice")
    return partitions
