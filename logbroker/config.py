"""Every setting of logbroker, declared once: name, type, default, check, unit and explanation.

What lives here: the declarations and the pure functions that check values against them. What may not: reading a file or
the environment (``cli/settings.py`` alone does that). ``config/logbroker.toml`` is generated from these declarations and a
test fails when it drifts. Topic settings carry Kafka's names with dots as underscores.
Invariant: a ``BrokerConfig`` or ``TopicConfig`` that exists has passed every check.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from logbroker.errors import InvalidConfig

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
KIB = 1024
MIB = 1024 * KIB
INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1

DURABILITIES = ("fsync", "interval", "os")


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting. ``choices`` and the bounds are inclusive; ``unit`` is for people."""

    name: str
    type: type
    default: Any
    doc: str
    unit: str
    at_least: int | None
    at_most: int | None
    choices: tuple[str, ...]

    @property
    def kafka_name(self) -> str:
        """The name Kafka's tools use: dots for underscores."""
        return self.name.replace("_", ".")

    def check(self, value: Any) -> Any:
        """The value, typed. Text is parsed, as it comes from an environment, a flag or the Kafka protocol.

        Raises InvalidConfig naming the setting, the value and what would be accepted.
        """
        typed = self._parse(value) if isinstance(value, str) and self.type is not str else self._widened(value)
        elements = typed if isinstance(typed, tuple) else ()
        right_type = type(typed) is self.type and all(isinstance(element, str) for element in elements)
        if not right_type:
            raise self._refused(value, f"must be of type {_TYPE_NAMES[self.type]}")
        self._check_choices(typed)
        if self.type in (int, float):
            self._check_bounds(typed)
        return typed

    def _widened(self, value: Any) -> Any:
        """JSON knows no tuples, and writes a number with nothing behind the point without it."""
        if self.type is tuple and type(value) is list:
            return tuple(value)
        return float(value) if self.type is float and type(value) is int else value

    def _check_choices(self, value: str | tuple[str, ...]) -> None:
        given = value if isinstance(value, tuple) else (value,)
        if self.choices and any(one not in self.choices for one in given):
            raise self._refused(value, f"must be one of {', '.join(self.choices)}")

    def _check_bounds(self, value: float) -> None:
        if self.at_least is not None and not value >= self.at_least:  # nor is "not a number" at least anything
            raise self._refused(value, f"must be at least {self.at_least}")
        if self.at_most is not None and value > self.at_most:
            raise self._refused(value, f"must be at most {self.at_most}")

    def _parse(self, text: str) -> Any:
        if self.type is bool:
            parsed = {"true": True, "false": False}.get(text.strip().lower())
            if parsed is None:
                raise self._refused(text, "must be true or false")
            return parsed
        if self.type is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        try:
            return self.type(text)
        except ValueError:
            raise self._refused(text, f"must be a {_TYPE_NAMES[self.type]}") from None

    def _refused(self, value: object, why: str) -> InvalidConfig:
        return InvalidConfig(f"{self.name} = {value!r} is not accepted: {why}", setting=self.name)


_TYPE_NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text", tuple: "list of texts"}


def _setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    at_least: int | None = None,
    at_most: int | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that carries its declaration; ``settings_of`` reads it back."""
    declared = Setting("", type(default), default, doc, unit, at_least, at_most, choices)
    return field(default=default, metadata={"setting": declared})


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """The settings of one topic. Each can be given per topic, or for all topics under ``[topics]`` of the broker's file."""

    retention_ms: int = _setting(
        7 * DAY_MS, "How long records are kept, by their timestamps; -1 keeps them for ever.", unit="ms", at_least=-1
    )
    retention_bytes: int = _setting(
        -1, "How many bytes of a partition are kept, in whole segments; -1 sets no limit.", unit="bytes", at_least=-1
    )
    max_messages: int = _setting(
        -1,
        "How many records of a partition are kept, exactly; the files follow in whole segments. -1 sets no limit.",
        at_least=-1,
    )
    retention: str = _setting(
        "limits",
        "limits: each of retention_ms, retention_bytes and max_messages deletes, except what a queue or subscription still "
        "needs. acked: retention_ms alone deletes, and only what every queue and subscription has finished.",
        choices=("limits", "acked"),
    )
    segment_bytes: int = _setting(
        128 * MIB, "A segment file is rolled before it grows past this.", unit="bytes", at_least=14, at_most=INT32_MAX
    )
    segment_ms: int = _setting(
        DAY_MS, "A segment is rolled when its first record is older than this.", unit="ms", at_least=1
    )
    segment_index_bytes: int = _setting(
        10 * MIB,
        "A segment is rolled when one of its indexes reaches this.",
        unit="bytes",
        at_least=4 * KIB,
        at_most=INT32_MAX,
    )
    index_interval_bytes: int = _setting(
        4 * KIB,
        "An index entry is added after this many bytes of records.",
        unit="bytes",
        at_least=0,
        at_most=INT32_MAX,
    )
    max_message_bytes: int = _setting(
        MIB + 12, "The largest record batch that is accepted.", unit="bytes", at_least=0, at_most=INT32_MAX
    )
    message_timestamp_type: str = _setting(
        "CreateTime",
        "Whether records keep the producer's timestamp or get the broker's append time.",
        choices=("CreateTime", "LogAppendTime"),
    )
    message_timestamp_before_max_ms: int = _setting(
        INT64_MAX, "How far a record's timestamp may lie in the past.", unit="ms", at_least=0
    )
    message_timestamp_after_max_ms: int = _setting(
        HOUR_MS,
        "How far a record's timestamp may lie in the future; more would defeat retention.",
        unit="ms",
        at_least=0,
    )
    compression_type: str = _setting(
        "producer",
        "Store batches compressed like this; 'producer' keeps what the producer sent.",
        choices=("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
    )
    cleanup_policy: tuple[str, ...] = _setting(
        ("delete",),
        "delete: retention deletes old segments. compact: of the records with one key only the last is kept, and a record "
        "needs a key. Both may be given; with neither everything is kept.",
        choices=("delete", "compact"),
    )
    min_cleanable_dirty_ratio: float = _setting(
        0.5,
        "A partition is compacted when more than this part of it is new since the last time.",
        at_least=0,
        at_most=1,
    )
    min_compaction_lag_ms: int = _setting(0, "How long a record is at least kept as it is.", unit="ms", at_least=0)
    max_compaction_lag_ms: int = _setting(
        INT64_MAX,
        "A partition is compacted, however little of it is new, when a new record is older than this.",
        unit="ms",
        at_least=1,
    )
    delete_retention_ms: int = _setting(
        DAY_MS,
        "How long compaction keeps a tombstone, a record without a value that deletes its key.",
        unit="ms",
        at_least=0,
    )
    compact_unread: bool = _setting(
        False,
        "Compact also what a queue or subscription has not finished: it may then miss all but the last value of a key.",
    )
    durability: str = _setting(
        "fsync",
        "fsync: an acknowledgement waits for the disk. interval: flushed every flush_ms, a power cut may lose that much. "
        "os: flushed when the system likes, a power cut may lose all of it. A crash of the broker loses nothing in any.",
        choices=DURABILITIES,
    )
    flush_ms: int = _setting(
        SECOND_MS, "With durability = interval, the longest time between flushes.", unit="ms", at_least=1
    )
    flush_messages: int = _setting(
        INT64_MAX, "Flush after this many records whatever the durability; 1 flushes each append.", at_least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The settings of one broker process."""

    data_dir: str = _setting("./data", "Where everything is kept. One broker owns it at a time.")
    http: str = _setting("127.0.0.1:8080", "HOST:PORT of the HTTP door, or 'off'; port 0 picks a free one.")
    kafka: str = _setting("127.0.0.1:9092", "HOST:PORT of the Kafka door, or 'off'.")
    kafka_advertised: str = _setting(
        "", "HOST:PORT that Kafka clients are told to connect to; empty for the address the door listens on."
    )
    node_id: int = _setting(0, "The id this broker has among Kafka's clients.", at_least=0, at_most=INT32_MAX)
    kafka_max_frame_bytes: int = _setting(
        100 * MIB,
        "The largest Kafka request; memory follows what has arrived of it.",
        unit="bytes",
        at_least=64 * KIB,
        at_most=INT32_MAX,
    )
    kafka_max_connections: int = _setting(
        10_000, "The most Kafka connections; further ones are closed at once.", at_least=1, at_most=1_000_000
    )
    kafka_max_idle_ms: int = _setting(
        10 * MINUTE_MS, "A Kafka connection that is not heard for so long is closed.", unit="ms", at_least=1_000
    )
    insecure_public: bool = _setting(
        False,
        "Allow an address other than loopback although there is no authentication: anyone who reaches it may do all.",
    )
    allow_host: tuple[str, ...] = _setting(
        (), "Host names, besides loopback and the bound address, that may stand in Host and Origin headers."
    )
    max_partitions: int = _setting(20_000, "The most partitions in the whole broker.", at_least=1, at_most=1_000_000)
    num_partitions: int = _setting(
        1, "Partitions of a topic that is created without saying how many.", at_least=1, at_most=20_000
    )
    auto_create_topics: bool = _setting(
        True, "Create a topic when a Kafka client first asks for it (Kafka's auto.create.topics.enable)."
    )
    max_open_files: int = _setting(
        4096,
        "The most descriptors held for log and index files; the least used are closed.",
        at_least=64,
        at_most=1_000_000,
    )
    disk_reserve_bytes: int = _setting(
        64 * MIB,
        "Kept free for acknowledgements, offset commits and making room: clients' writes are refused (DISK_FULL) while "
        "less than a quarter of it is free beside it. 0 keeps nothing, and writes fail when the disk is full.",
        unit="bytes",
        at_least=0,
    )
    scrub_bytes_per_second: int = _setting(
        8 * MIB,
        "How fast sealed segments are read again to find damage early; 0 never reads them.",
        unit="bytes",
        at_least=0,
    )
    scrub_interval_ms: int = _setting(7 * DAY_MS, "How often each sealed segment is read again.", unit="ms", at_least=1_000)
    max_in_flight_bytes: int = _setting(
        256 * MIB,
        "The most bytes of requests and answers that all connections hold together; above it answers get small and large "
        "requests wait.",
        unit="bytes",
        at_least=16 * MIB,
    )
    http_max_idle_ms: int = _setting(
        10 * MINUTE_MS, "An HTTP connection without a request for so long is closed.", unit="ms", at_least=1_000
    )
    request_timeout_ms: int = _setting(
        30 * SECOND_MS,
        "A connection that has not sent a whole request in this time is closed; a large request has a second more for "
        "each KiB that has come.",
        unit="ms",
        at_least=100,
    )
    max_request_bytes: int = _setting(
        16 * MIB, "The largest HTTP request body.", unit="bytes", at_least=64 * KIB, at_most=INT32_MAX
    )
    object_stores: tuple[str, ...] = _setting(
        (),
        "Stores of large payloads as NAME=URL, as invoices=s3://bucket/folder (what fsspec speaks to; its package for the "
        "protocol has to be installed). 'local' is the folder objects in the data directory unless it is named here.",
    )
    claim_max_bytes: int = _setting(100 * MIB, "The largest payload that is kept in a store.", unit="bytes", at_least=1)
    flush_threads: int = _setting(4, "Threads that flush files to disk.", at_least=1, at_most=64)
    group_initial_rebalance_delay_ms: int = _setting(
        3 * SECOND_MS, "How long an empty consumer group waits for more members before it starts.", unit="ms", at_least=0
    )
    group_min_session_timeout_ms: int = _setting(
        6 * SECOND_MS, "The shortest session timeout a member of a group may ask for.", unit="ms", at_least=1
    )
    group_max_session_timeout_ms: int = _setting(
        30 * MINUTE_MS, "The longest session timeout a member of a group may ask for.", unit="ms", at_least=1
    )
    group_consumer_session_timeout_ms: int = _setting(
        45 * SECOND_MS,
        "How long a member of the consumer protocol (KIP-848) may be silent before it is out.",
        unit="ms",
        at_least=1,
    )
    group_consumer_heartbeat_interval_ms: int = _setting(
        5 * SECOND_MS, "How often a member of the consumer protocol (KIP-848) is told to heartbeat.", unit="ms", at_least=1
    )
    group_max_size: int = _setting(INT32_MAX, "The most members of a consumer group.", at_least=1, at_most=INT32_MAX)
    offset_metadata_max_bytes: int = _setting(
        4 * KIB, "The longest note a consumer may commit with an offset.", unit="bytes", at_least=0, at_most=INT32_MAX
    )
    retention_check_ms: int = _setting(
        5 * MINUTE_MS, "How often retention looks for old segments.", unit="ms", at_least=100
    )
    compaction_check_ms: int = _setting(
        15 * SECOND_MS, "How often compaction looks for something to do.", unit="ms", at_least=100
    )
    compaction_dedupe_buffer_bytes: int = _setting(
        128 * MIB,
        "The most memory for the table of keys, 24 bytes a slot; where it is too small, compaction takes several passes.",
        unit="bytes",
        at_least=KIB,
    )
    compaction_io_bytes_per_second: int = _setting(
        INT64_MAX, "How much compaction reads and writes at most.", unit="bytes", at_least=KIB
    )
    drain_ms: int = _setting(
        10 * SECOND_MS, "How long a stop waits for requests that are under way.", unit="ms", at_least=0
    )
    queue_stats_log_ms: int = _setting(
        0, "How often the counts of each queue are logged, as 30000; 0 logs none.", unit="ms", at_least=0
    )
    log_level: str = _setting("info", "What is logged.", choices=("debug", "info", "warning", "error"))


Config = TypeVar("Config", TopicConfig, BrokerConfig)


def settings_of(config: type[TopicConfig] | type[BrokerConfig]) -> dict[str, Setting]:
    """The declarations of a configuration class by name, in the order of the file."""
    return {
        declared.name: dataclasses.replace(declared.metadata["setting"], name=declared.name)
        for declared in dataclasses.fields(config)
    }


TOPIC_SETTINGS = settings_of(TopicConfig)
BROKER_SETTINGS = settings_of(BrokerConfig)


def checked(config: type[TopicConfig] | type[BrokerConfig], values: Mapping[str, object]) -> dict[str, Any]:
    """``values`` typed and checked; raises InvalidConfig on an unknown name or a bad value."""
    declared = TOPIC_SETTINGS if config is TopicConfig else BROKER_SETTINGS
    unknown = sorted(values.keys() - declared.keys())
    if unknown:
        raise InvalidConfig(f"there is no setting {unknown[0]!r}; there are: {', '.join(declared)}", setting=unknown[0])
    return {name: declared[name].check(value) for name, value in values.items()}


def configured(base: Config, values: Mapping[str, object]) -> Config:
    """``base`` with ``values`` laid over it. Raises InvalidConfig."""
    return dataclasses.replace(base, **checked(type(base), values))
