"""Topics as every door sees them: names, reserved names, idempotent creation, growth, settings, deletion.

What lives here: the rules about names and the checks that span the whole broker. What may not: HTTP or Kafka words, files.
Invariants: a name ending in ``.retry`` or ``.dlq``, or starting with ``__``, is changed by logbroker alone; the partitions
of all topics together never exceed ``max_partitions`` (changes of the catalogue pass here one at a time).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from logbroker.config import BrokerConfig, TopicConfig, checked
from logbroker.engine.api import Engine, TopicInfo
from logbroker.errors import (
    ConfigConflict,
    InvalidPartitions,
    InvalidTopic,
    LogbrokerError,
    PartitionDamaged,
    TopicAlreadyExists,
    TopicInUse,
    TopicReserved,
    UnknownTopicOrPartition,
)
from logbroker.model import TopicPartition

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_RESERVED_ENDINGS = (".retry", ".dlq")
INTERNAL_PREFIX = "__"
_PARTITIONS_PER_SLICE = 500
"""How many partitions are looked at before others get the loop."""

Guard = Callable[[TopicInfo], None]
"""Looks at a topic just before it is changed and raises when the caller had another state in mind."""
Forget = Callable[[str], Awaitable[None]]
"""Drops what others keep about a topic of that name, before another can take the name."""


def check_topic_name(name: str) -> None:
    """Raise InvalidTopic unless ``name`` is a topic name (1 to 249 of ``A-Za-z0-9._-``, neither ``.`` nor ``..``)."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InvalidTopic(
            f"{name[:260]!r} is not a valid topic name: it takes 1 to 249 of A-Z, a-z, 0-9, '.', '_', '-', "
            "and is neither '.' nor '..'"
        )


def is_reserved(name: str) -> bool:
    """Whether only logbroker itself may create, write, alter, trim and delete the topic."""
    return name.startswith(INTERNAL_PREFIX) or name.endswith(_RESERVED_ENDINGS)


def check_changeable(name: str) -> None:
    """Raise InvalidTopic or TopicReserved unless a client may change a topic of this name."""
    check_topic_name(name)
    if is_reserved(name):
        raise TopicReserved(
            f"{name!r} is reserved: logbroker alone writes names that end in '.retry' or '.dlq', or start with '__'",
            topic=name,
        )


def kind_of(info: TopicInfo) -> str:
    """What a topic is for: ``log``, ``queue``, ``retry``, ``dlq`` or ``internal``."""
    if info.name.startswith(INTERNAL_PREFIX):
        return "internal"
    for ending in _RESERVED_ENDINGS:
        if info.name.endswith(ending):
            return ending[1:]
    return "queue" if (info.owner or "").startswith("queue:") else "log"


class TopicSize(NamedTuple):
    """How much the partitions hold that are not damaged. ``bytes`` is None where the engine cannot tell."""

    records: int
    bytes: int | None
    damaged_partitions: int


class Topics:
    """The use cases on topics."""

    def __init__(self, engine: Engine, config: BrokerConfig, forget: Forget | None = None) -> None:
        self._engine = engine
        self.config = config
        """The settings in force; replaced when they change."""
        self._forget = forget
        self.changing = asyncio.Lock()
        """Held while the catalogue changes."""
        self.readers: Callable[[str], Sequence[str]] = lambda topic: ()
        """The subscriptions that stand on a topic."""

    # -- looking -----------------------------------------------------------------------------------------------------

    def get(self, name: str) -> TopicInfo:
        """The topic. Raises InvalidTopic, UnknownTopicOrPartition."""
        check_topic_name(name)
        return self._engine.topic(name)

    def changeable(self, name: str) -> TopicInfo:
        """The topic, to be written or changed. Raises InvalidTopic, TopicReserved, UnknownTopicOrPartition."""
        check_changeable(name)
        return self._engine.topic(name)

    def partition(self, name: str, partition: int) -> TopicPartition:
        """One partition, to be read. Raises InvalidTopic, UnknownTopicOrPartition."""
        return partition_of(self.get(name), partition)

    def list(self, prefix: str = "", *, internal: bool = False) -> list[TopicInfo]:
        """The topics whose names start with ``prefix``, by name; internal ones only when asked for."""
        return [
            info
            for info in self._engine.topics()
            if info.name.startswith(prefix) and (internal or not info.name.startswith(INTERNAL_PREFIX))
        ]

    async def size(self, info: TopicInfo) -> TopicSize:
        """Records (as offsets, so gaps count) and bytes of all partitions."""
        storage = self._engine.storage
        records = size = damaged = 0
        for number in range(info.partitions):
            where = TopicPartition(info.name, number)
            try:
                bounds = await self._engine.bounds(where)
                size += storage.size_bytes(where) if storage is not None else 0
            except PartitionDamaged:
                damaged += 1
            else:
                records += bounds.high_watermark - bounds.log_start_offset
            if number % _PARTITIONS_PER_SLICE == _PARTITIONS_PER_SLICE - 1:
                await asyncio.sleep(0)
        return TopicSize(records, size if storage is not None else None, damaged)

    # -- changing ----------------------------------------------------------------------------------------------------

    def check_new(self, name: str, partitions: int | None, overrides: Mapping[str, object]) -> None:
        """Raise what ``create`` would, without creating."""
        check_changeable(name)
        checked(TopicConfig, overrides)
        if name in {info.name for info in self._engine.topics()}:
            raise TopicAlreadyExists(f"topic {name!r} exists", topic=name)
        self.check_room(self._partitions_or_default(partitions))

    async def create(self, name: str, partitions: int | None, overrides: Mapping[str, object]) -> TopicInfo:
        """Create a topic; ``partitions=None`` takes the broker's ``num_partitions``.

        Raises TopicAlreadyExists, InvalidTopic, TopicReserved, InvalidPartitions, InvalidConfig.
        """
        async with self.changing:
            self.check_new(name, partitions, overrides)
            return await self._engine.create_topic(name, self._partitions_or_default(partitions), overrides)

    async def ensure(
        self,
        name: str,
        partitions: int | None,
        overrides: Mapping[str, object],
        *,
        replace: Guard | None = None,
    ) -> tuple[TopicInfo, bool]:
        """The topic as declared, and whether it was created now.

        One that exists with the same declaration is left alone. A different one raises ConfigConflict, or is replaced
        when ``replace`` is given and lets it pass. Raises as ``create`` and ``grow``.
        """
        check_changeable(name)
        try:
            return await self.create(name, partitions, overrides), True
        except TopicAlreadyExists:
            pass
        async with self.changing:
            info = self._engine.topic(name)
            wanted = checked(TopicConfig, overrides)
            if replace is not None:
                replace(info)
                unset = dict.fromkeys(info.overrides.keys() - wanted.keys())
                return await self._alter(info, partitions, {**wanted, **unset}), False
            difference = _difference(info, partitions, wanted)
            if difference:
                raise ConfigConflict(f"topic {name!r} exists with {difference}", topic=name)
            return info, False

    async def alter(
        self,
        name: str,
        partitions: int | None,
        changes: Mapping[str, object | None],
        *,
        guard: Guard | None = None,
        check_only: bool = False,
    ) -> TopicInfo:
        """Grow a topic and change its settings (None unsets one); all is checked before anything is changed.

        Raises InvalidTopic, TopicReserved, UnknownTopicOrPartition, InvalidPartitions, InvalidConfig, TopicInUse.
        """
        async with self.changing:
            info = self.changeable(name)
            if guard is not None:
                guard(info)
            if check_only:
                self._check_alteration(info, partitions, changes)
                return info
            return await self._alter(info, partitions, changes)

    async def _alter(self, info: TopicInfo, partitions: int | None, changes: Mapping[str, object | None]) -> TopicInfo:
        settings = self._check_alteration(info, partitions, changes)
        if partitions is not None and partitions > info.partitions:
            info = await self._engine.grow_topic(info.name, partitions)
        effective = {name: value for name, value in settings.items() if info.overrides.get(name) != value}
        return await self._engine.configure_topic(info.name, effective) if effective else info

    def _check_alteration(
        self, info: TopicInfo, partitions: int | None, changes: Mapping[str, object | None]
    ) -> dict[str, object | None]:
        """The changes, typed. Raises what ``alter`` would."""
        settings = _checked_changes(changes)
        if partitions is not None and partitions < info.partitions:
            raise InvalidPartitions(
                f"topic {info.name!r} has {info.partitions} partitions; their number can only grow, not to {partitions}"
            )
        if partitions is not None and partitions > info.partitions:
            if info.owner is not None:
                raise TopicInUse(f"topic {info.name!r} belongs to {info.owner}: give that more partitions", topic=info.name)
            self.check_room(partitions - info.partitions)
        return settings

    async def delete(self, name: str, *, guard: Guard | None = None) -> None:
        """Delete a topic and its records.

        Raises InvalidTopic, TopicReserved, UnknownTopicOrPartition, TopicInUse.
        """
        async with self.changing:
            info = self.changeable(name)
            if guard is not None:
                guard(info)
            if info.owner is not None:
                raise TopicInUse(f"topic {name!r} belongs to {info.owner}: delete that instead", topic=name)
            self.check_unread(name)
            await self._engine.delete_topic(name)
            await self.forgotten(name)

    def check_unread(self, *names: str) -> None:
        """Raise TopicInUse where a subscription stands on one of these topics."""
        for name in names:
            readers = self.readers(name)
            if readers:
                raise TopicInUse(f"topic {name!r} is read by {', '.join(readers)}: delete that first", topic=name)

    async def forgotten(self, name: str) -> None:
        """The topic is gone whatever comes now: a full disk, say, must not make its deletion fail. A start repairs it."""
        if self._forget is not None:
            try:
                await self._forget(name)
            except LogbrokerError as error:
                log.warning("topic %r is deleted, what groups committed for it is not yet: %s", name, error)

    def _partitions_or_default(self, partitions: int | None) -> int:
        return self.config.num_partitions if partitions is None else partitions

    def check_room(self, more: int) -> None:
        """Raise InvalidPartitions unless the broker has room for so many more partitions."""
        if more < 1:
            raise InvalidPartitions(f"a topic takes at least 1 partition, not {more}")
        present = sum(info.partitions for info in self._engine.topics())
        if present + more > self.config.max_partitions:
            raise InvalidPartitions(
                f"{more} more partitions would make {present + more} in the whole broker; "
                f"max_partitions is {self.config.max_partitions}"
            )


def partition_of(info: TopicInfo, partition: int) -> TopicPartition:
    """A partition of the topic. Raises UnknownTopicOrPartition."""
    if not 0 <= partition < info.partitions:
        raise UnknownTopicOrPartition(
            f"topic {info.name!r} has partitions 0 to {info.partitions - 1}, not {partition}",
            topic=info.name,
            partition=partition,
        )
    return TopicPartition(info.name, partition)


def _checked_changes(changes: Mapping[str, object | None]) -> dict[str, object | None]:
    """``changes`` typed and checked, those to None included. Raises InvalidConfig."""
    defaults = TopicConfig()
    given = {name: getattr(defaults, name, None) if value is None else value for name, value in changes.items()}
    typed = checked(TopicConfig, given)
    return {name: None if value is None else typed[name] for name, value in changes.items()}


def _difference(info: TopicInfo, partitions: int | None, wanted: Mapping[str, object]) -> str:
    if partitions is not None and partitions != info.partitions:
        return f"{info.partitions} partitions, not {partitions}"
    for name in sorted(wanted.keys() | info.overrides.keys()):
        if wanted.get(name) != info.overrides.get(name):
            return f"{name} = {info.overrides.get(name)!r}, not {wanted.get(name)!r}"
    return ""
