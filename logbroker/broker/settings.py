"""The settings of the broker that may change while it runs, and what was changed.

What lives here: which ones may, their values in force, and keeping the changes. What may not: declarations (``config``),
names of a door. Invariants: a change is durable before it is in force; what is in force has passed every check together.

The changes are one record, ``{"version": 1, "settings": {...}}`` as JSON, at the end of an internal topic: every change
appends all of them and trims what stood before, so nothing has to be compacted. They lie over what flags, environment and
file say. The topic is made by the first change.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from logbroker.config import INT32_MAX, BrokerConfig, checked, configured
from logbroker.engine.api import INTERNAL, Engine
from logbroker.errors import DataDirectoryError, InvalidConfig, TopicAlreadyExists, UnknownTopicOrPartition
from logbroker.model import Record, TopicPartition

SETTINGS_TOPIC: Final = "__broker_settings"
DYNAMIC: Final = (
    "num_partitions",
    "max_partitions",
    "auto_create_topics",
    "group_initial_rebalance_delay_ms",
    "group_min_session_timeout_ms",
    "group_max_session_timeout_ms",
    "group_consumer_session_timeout_ms",
    "group_consumer_heartbeat_interval_ms",
    "group_max_size",
    "offset_metadata_max_bytes",
)
"""What can be changed while the broker runs."""
_WHERE: Final = TopicPartition(SETTINGS_TOPIC, 0)
_TOPIC_CONFIG: Final[Mapping[str, object]] = {
    "retention_ms": -1,
    "retention_bytes": -1,
    "durability": "fsync",
    "max_message_bytes": INT32_MAX,
}
_VERSION: Final = 1
_READ_BYTES: Final = 1 << 20


class _Stored(msgspec.Struct):
    version: int
    settings: dict[str, Any]


class BrokerSettings:
    """The settings in force. ``started`` is what the process was started with."""

    def __init__(self, engine: Engine, started: BrokerConfig) -> None:
        self.started: Final = started
        self.broker = started
        """What is in force."""
        self.overrides: Mapping[str, object] = {}
        """What was changed, by name."""
        self._engine = engine
        self._changing = asyncio.Lock()
        self._followers: list[Callable[[BrokerConfig], None]] = []

    def follow(self, follower: Callable[[BrokerConfig], None]) -> None:
        """Call ``follower`` with the settings in force whenever they change."""
        self._followers.append(follower)

    async def load(self) -> None:
        """Take over what was changed in earlier runs. Raises DataDirectoryError for what a newer logbroker wrote."""
        try:
            self._engine.topic(SETTINGS_TOPIC)
        except UnknownTopicOrPartition:
            return
        offset = (await self._engine.bounds(_WHERE)).log_start_offset
        last: bytes | None = None
        while True:
            read = await self._engine.read(_WHERE, offset, max_bytes=_READ_BYTES)
            if read.records:
                last = read.records[-1].value
            if read.next_offset == offset:
                break
            offset = read.next_offset
        if last is not None:
            self._take(_decoded(last))

    async def change(self, changes: Mapping[str, object | None], *, check_only: bool = False) -> None:
        """Set (or, with None, unset) settings; durable and in force on return. Raises InvalidConfig."""
        async with self._changing:
            overrides = self._changed(changes)
            configured(self.started, overrides)
            if check_only:
                return
            await self._store(overrides)
            self._take(overrides)

    def _changed(self, changes: Mapping[str, object | None]) -> dict[str, object]:
        fixed = sorted(changes.keys() - set(DYNAMIC))
        if fixed:
            raise InvalidConfig(
                f"{fixed[0]} cannot be changed while the broker runs; these can: {', '.join(DYNAMIC)}", setting=fixed[0]
            )
        given = checked(BrokerConfig, {name: value for name, value in changes.items() if value is not None})
        kept = {name: value for name, value in self.overrides.items() if name not in changes}
        return {**kept, **given}

    async def _store(self, overrides: Mapping[str, object]) -> None:
        with contextlib.suppress(TopicAlreadyExists):
            await self._engine.create_topic(SETTINGS_TOPIC, 1, _TOPIC_CONFIG, owner=INTERNAL)
        value = msgspec.json.encode(_Stored(_VERSION, dict(overrides)))
        appended = await self._engine.append(_WHERE, [Record(value)])
        await self._engine.trim(_WHERE, appended.base_offset)

    def _take(self, overrides: Mapping[str, object]) -> None:
        self.broker = configured(self.started, overrides)
        self.overrides = overrides
        for follower in self._followers:
            follower(self.broker)


def _decoded(value: bytes) -> dict[str, Any]:
    try:
        stored = msgspec.json.decode(value, type=_Stored)
    except msgspec.MsgspecError as error:
        raise DataDirectoryError(f"the last record of {SETTINGS_TOPIC} is not readable: {error}") from None
    if stored.version > _VERSION:
        raise DataDirectoryError(f"{SETTINGS_TOPIC} was written by a newer logbroker: use that")
    return stored.settings
