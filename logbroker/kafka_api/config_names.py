"""Kafka's names and spellings of settings.

What lives here: names, types and texts, both ways. What may not: values in force. Invariant: a topic setting is Kafka's
with dots for underscores; where Kafka's brokers call a setting otherwise than we do, the name is in one of the tables.
"""

from collections.abc import Mapping
from typing import Any, Final

from logbroker.config import BROKER_SETTINGS, INT32_MAX, TOPIC_SETTINGS, Setting
from logbroker.errors import InvalidConfig

BROKER_NAMES: Final[Mapping[str, str]] = {
    **{name: setting.kafka_name for name, setting in BROKER_SETTINGS.items()},
    "auto_create_topics": "auto.create.topics.enable",
    "data_dir": "log.dirs",
    "kafka": "listeners",
    "kafka_advertised": "advertised.listeners",
    "kafka_max_frame_bytes": "socket.request.max.bytes",
    "kafka_max_connections": "max.connections",
    "kafka_max_idle_ms": "connections.max.idle.ms",
    "compaction_check_ms": "log.cleaner.backoff.ms",
    "compaction_dedupe_buffer_bytes": "log.cleaner.dedupe.buffer.size",
    "compaction_io_bytes_per_second": "log.cleaner.io.max.bytes.per.second",
    "retention_check_ms": "log.retention.check.interval.ms",
}
"""What Kafka calls our broker settings; those that it does not have keep our name with dots."""
TOPIC_DEFAULT_NAMES: Final[Mapping[str, str]] = {
    "retention_ms": "log.retention.ms",
    "retention_bytes": "log.retention.bytes",
    "segment_bytes": "log.segment.bytes",
    "segment_ms": "log.roll.ms",
    "segment_index_bytes": "log.index.size.max.bytes",
    "index_interval_bytes": "log.index.interval.bytes",
    "max_message_bytes": "message.max.bytes",
    "message_timestamp_type": "log.message.timestamp.type",
    "message_timestamp_before_max_ms": "log.message.timestamp.before.max.ms",
    "message_timestamp_after_max_ms": "log.message.timestamp.after.max.ms",
    "compression_type": "compression.type",
    "cleanup_policy": "log.cleanup.policy",
    "flush_messages": "log.flush.interval.messages",
    "flush_ms": "log.flush.interval.ms",
    "min_cleanable_dirty_ratio": "log.cleaner.min.cleanable.ratio",
    "min_compaction_lag_ms": "log.cleaner.min.compaction.lag.ms",
    "max_compaction_lag_ms": "log.cleaner.max.compaction.lag.ms",
    "delete_retention_ms": "log.cleaner.delete.retention.ms",
}
"""What Kafka's brokers call the defaults of topic settings."""
FIXED_TOPIC_SETTINGS: Final[Mapping[str, str]] = {
    "min.insync.replicas": "1",
    "preallocate": "false",
    "remote.storage.enable": "false",
    "unclean.leader.election.enable": "false",
}
"""Topic settings of Kafka that can have but one value on one node; setting them to it is taken and changes nothing."""

_OURS: Final = {setting.kafka_name: name for name, setting in TOPIC_SETTINGS.items()}
_OUR_BROKER_SETTINGS: Final = {kafka_name: name for name, kafka_name in BROKER_NAMES.items()}
BOOLEAN, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7
"""Config types on the wire (DescribeConfigs)."""


def text_of(value: object) -> str:
    """A value as Kafka spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def type_of(setting: Setting) -> int:
    """The type on the wire."""
    if setting.type is int:
        return INT if setting.at_most is not None and setting.at_most <= INT32_MAX else LONG
    if setting.type in (bool, float):
        return BOOLEAN if setting.type is bool else DOUBLE
    return LIST if setting.type is tuple else STRING


def topic_setting(kafka_name: str) -> str | None:
    """Our name of a topic setting; None for one that is fixed. Raises InvalidConfig for one that we do not have."""
    if kafka_name in FIXED_TOPIC_SETTINGS:
        return None
    try:
        return _OURS[kafka_name]
    except KeyError:
        raise InvalidConfig(
            f"there is no topic setting {kafka_name!r}; there are: {', '.join(_OURS)}", setting=kafka_name
        ) from None


def broker_setting(kafka_name: str) -> str:
    """Our name of a broker setting. Raises InvalidConfig for one that we do not have."""
    try:
        return _OUR_BROKER_SETTINGS[kafka_name]
    except KeyError:
        raise InvalidConfig(
            f"there is no broker setting {kafka_name!r} that can be changed; describe the broker to see which there are",
            setting=kafka_name,
        ) from None


def overrides_from_kafka(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Topic settings under our names, as texts (None unsets one). Raises InvalidConfig; values are checked elsewhere."""
    overrides: dict[str, Any] = {}
    for kafka_name, value in values.items():
        name = topic_setting(kafka_name)
        if name is not None:
            overrides[name] = value
        elif value is not None and value != FIXED_TOPIC_SETTINGS[kafka_name]:
            raise InvalidConfig(f"{kafka_name} can only be {FIXED_TOPIC_SETTINGS[kafka_name]} here", setting=kafka_name)
    return overrides
