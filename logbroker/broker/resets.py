"""Moving the committed offsets of a group: first a plan, then the same plan carried out.

What lives here: targets, what each means in a partition, and the plan. What may not: formats of a door.
Invariant: a planned offset lies within the partition as it stands; where the target does not, the change says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from logbroker.broker.positions import Position, resolve
from logbroker.broker.topics import Topics
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import GroupNotFound, InvalidRequest, LogbrokerError
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.messages import OffsetToCommit, ResetOffsets
from logbroker.model import TopicPartition


@dataclass(frozen=True, slots=True)
class Current:
    """Where it is now; the end, where it is nowhere."""


@dataclass(frozen=True, slots=True)
class Shift:
    """So many offsets further, or back where negative, from where it is now."""

    by: int


@dataclass(frozen=True, slots=True)
class Each:
    """An offset for each partition named; the others stay."""

    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class OfGroup:
    """Where another group is."""

    group_id: str


Target: TypeAlias = Position | Current | Shift | Each | OfGroup


class Change(NamedTuple):
    """One partition of a plan. ``old`` is None where nothing was committed."""

    where: TopicPartition
    old: int | None
    new: int
    clamped: bool
    """Whether the target lies outside the partition, and ``new`` is its nearest end."""


async def offset_for(engine: Engine, where: TopicPartition, target: Target, current: int | None) -> tuple[int, bool]:
    """The offset a target stands for in a partition, moved into its bounds, and whether it had to be.

    Raises UnknownTopicOrPartition, PartitionDamaged, and InvalidRequest for OfGroup and for Each without this partition.
    """
    bounds = await engine.bounds(where)
    match target:
        case Current():
            offset = bounds.high_watermark if current is None else current
        case Shift(by):
            offset = (bounds.high_watermark if current is None else current) + by
        case Each(offsets):
            if where.partition not in offsets:
                raise InvalidRequest(f"no offset is given for {where}")
            offset = offsets[where.partition]
        case OfGroup():
            raise InvalidRequest("the offsets of another group are no place in a partition")
        case _:
            offset = await resolve(engine, where, target, Isolation.READ_UNCOMMITTED)
    inside = min(max(offset, bounds.log_start_offset), bounds.high_watermark)
    return inside, inside != offset


class Resets:
    """The use case of moving a group."""

    def __init__(self, engine: Engine, topics: Topics, groups: GroupCoordinator) -> None:
        self._engine = engine
        self._topics = topics
        self._groups = groups

    async def plan(self, group_id: str, target: Target, topics: Sequence[str] | None) -> list[Change]:
        """What a reset would do, in all partitions of ``topics``, or of None, in those the group has committed for.

        Raises GroupNotFound, InvalidRequest, InvalidTopic, UnknownTopicOrPartition.
        """
        committed = await self._offsets(group_id)
        if isinstance(target, OfGroup):
            return await self._like(target.group_id, committed, topics)
        partitions = sorted(committed) if topics is None else list(self._partitions(topics))
        if not partitions:
            raise GroupNotFound(f"group {group_id!r} has committed nothing: name the topics to set offsets for")
        if isinstance(target, Each):
            partitions = named(target, partitions)
        changes = []
        for where in partitions:
            old = committed.get(where)
            changes.append(Change(where, old, *await offset_for(self._engine, where, target, old)))
        return changes

    async def carry_out(
        self, group_id: str, changes: Sequence[Change], *, force: bool
    ) -> list[tuple[TopicPartition, LogbrokerError | None]]:
        """Commit what was planned; durable on return. Raises NonEmptyGroup unless ``force``."""
        offsets = tuple(OffsetToCommit(change.where, change.new) for change in changes)
        return list((await self._groups.reset_offsets(group_id, ResetOffsets(offsets, force))).results)

    async def _like(
        self, group_id: str, committed: Mapping[TopicPartition, int], topics: Sequence[str] | None
    ) -> list[Change]:
        model = await self._offsets(group_id)
        chosen = sorted(where for where in model if topics is None or where.topic in topics)
        if not chosen:
            raise GroupNotFound(f"group {group_id!r} has committed nothing to go by")
        changes = []
        for where in chosen:
            place = Each({where.partition: model[where]})
            changes.append(Change(where, committed.get(where), *await offset_for(self._engine, where, place, None)))
        return changes

    async def _offsets(self, group_id: str) -> dict[TopicPartition, int]:
        return {where: found.offset for where, found in (await self._groups.fetch_offsets(group_id)).items()}

    def _partitions(self, topics: Iterable[str]) -> Iterable[TopicPartition]:
        for name in sorted(set(topics)):
            info = self._topics.get(name)
            yield from (TopicPartition(info.name, number) for number in range(info.partitions))


def named(target: Each, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
    """The partitions a target names. Raises InvalidRequest unless all are of one topic and there."""
    names = {where.topic for where in partitions}
    if len(names) > 1:
        raise InvalidRequest(f"offsets by partition are for one topic; here are {', '.join(sorted(names))}: name one")
    missing = sorted(target.offsets.keys() - {where.partition for where in partitions})
    if missing:
        raise InvalidRequest(f"there is no partition {missing[0]} to set: {', '.join(map(str, partitions))}")
    return [where for where in partitions if where.partition in target.offsets]
