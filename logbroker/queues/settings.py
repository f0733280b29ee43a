"""The configuration of a queue: what ``PUT /v1/queues/{q}`` takes, its defaults, and what is refused.

What lives here: the settings and the checks on them and on changes. What may not: names of topics, storage.
Invariant: ``QueueSettings`` that went through ``checked`` hold in themselves; ``partitions_for`` fits them to a topic.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Literal

import msgspec

from logbroker.config import DAY_MS, HOUR_MS, INT64_MAX
from logbroker.errors import ConfigConflict, InvalidConfig, InvalidPartitions
from logbroker.queues.redelivery import RetryKind, RetryPolicy
from logbroker.queues.rules import MAX_LEASE_MS, LeaseRules

MAX_DELAY_MS = 10 * 365 * DAY_MS
"""The longest delay of a message, on publish, reschedule or nack."""
MIN_LEASE_MS = 100
MAX_PRIORITIES = 10
RESERVED_ENDINGS = (".retry", ".dlq")


class RetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a failed message comes back; the formula is ``RetryPolicy.delay_ms``."""

    policy: Literal["none", "fixed", "linear", "exponential", "list"] = "exponential"
    initial_ms: int = 100
    factor: float = 2
    max_ms: int = 60_000
    jitter: float = 0.2
    delays_ms: tuple[int, ...] = ()


class DlqSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many dead letters are kept, and what happens to one more."""

    max_size: int = 10_000
    overflow: Literal["drop_oldest", "reject"] = "drop_oldest"


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a queue. Times are milliseconds; None means no limit (of ``partitions``: as many as fit)."""

    partitions: int | None = None
    kafka_produce: Literal["refuse", "by_partition"] = "refuse"
    max_size: int | None = None
    overflow: Literal["reject"] = "reject"
    visibility_timeout_ms: int = 30_000
    max_attempts: int | None = 10
    message_ttl_ms: int | None = None
    retry: RetrySettings = RetrySettings()
    dlq: DlqSettings = DlqSettings()
    priorities: int = 1
    priority_mode: Literal["strict", "weighted"] = "strict"
    ordering: Literal["none", "key"] = "none"
    dedup_window_ms: int = 600_000
    max_in_flight: int = 20_000

    def rules(self) -> LeaseRules:
        """What a lease machine must know of it."""
        retry = self.retry
        policy = RetryPolicy(
            RetryKind(retry.policy), retry.initial_ms, retry.factor, retry.max_ms, retry.jitter, retry.delays_ms
        )
        return LeaseRules(self.max_attempts, policy, self.message_ttl_ms, self.ordering == "key")


_RANGES: Mapping[str, tuple[float, float]] = {
    "partitions": (1, 20_000),
    "max_size": (1, INT64_MAX),
    "visibility_timeout_ms": (MIN_LEASE_MS, MAX_LEASE_MS),
    "max_attempts": (1, 10_000),
    "message_ttl_ms": (1, MAX_DELAY_MS),
    "retry.initial_ms": (0, MAX_DELAY_MS),
    "retry.factor": (1, 1_000),
    "retry.max_ms": (0, MAX_DELAY_MS),
    "retry.jitter": (0, 1),
    "dlq.max_size": (1, INT64_MAX),
    "priorities": (1, MAX_PRIORITIES),
    "dedup_window_ms": (1_000, 168 * HOUR_MS),
    "max_in_flight": (1, 1_000_000),
}


def checked(settings: QueueSettings) -> QueueSettings:
    """The same settings. Raises InvalidConfig naming the setting, its value and what would be accepted."""
    for name, (low, high) in _RANGES.items():
        value: float | None = attrgetter(name)(settings)
        if value is not None and not low <= value <= high:
            raise _refused(name, value, f"must be from {low} to {high}")
    _check_delays(settings.retry)
    _check_priorities(settings)
    return settings


def _check_delays(retry: RetrySettings) -> None:
    if (retry.policy == "list") != bool(retry.delays_ms):
        raise _refused("retry.delays_ms", list(retry.delays_ms), "is given with policy 'list', and only with it")
    wrong = [delay for delay in retry.delays_ms if not 0 <= delay <= MAX_DELAY_MS]
    if wrong:
        raise _refused("retry.delays_ms", wrong[0], f"each must be from 0 to {MAX_DELAY_MS}")


def _check_priorities(settings: QueueSettings) -> None:
    if settings.priorities > 1 and settings.ordering == "key":
        raise _refused(
            "priorities",
            settings.priorities,
            "does not go with ordering = key, because messages of one key would lie in several bands; use priorities = 1",
        )
    if settings.partitions is not None and settings.partitions % settings.priorities:
        raise _refused(
            "partitions",
            settings.partitions,
            f"must be a multiple of priorities = {settings.priorities}, one band for each",
        )


def _refused(name: str, value: object, why: str) -> InvalidConfig:
    return InvalidConfig(f"{name} = {value!r} is not accepted: {why}", setting=name)


def partitions_for(settings: QueueSettings, existing: int | None) -> int:
    """How many partitions the queue's topic has to have, where ``existing`` is how many it has, if it exists.

    Raises InvalidPartitions when an existing topic does not fit.
    """
    wanted = settings.partitions if settings.partitions is not None else existing or settings.priorities
    if existing is not None and wanted < existing:
        raise InvalidPartitions(f"the topic has {existing} partitions and cannot shrink to {wanted}")
    if wanted % settings.priorities:
        raise InvalidPartitions(
            f"the topic has {wanted} partitions, which is no multiple of priorities = {settings.priorities}; "
            "give partitions = a larger multiple"
        )
    return wanted


def check_change(old: QueueSettings, new: QueueSettings) -> None:
    """Raises ConfigConflict for a change that would break what waits in the queue already."""
    for name in ("ordering", "priorities"):
        if getattr(old, name) != getattr(new, name):
            raise ConfigConflict(
                f"{name} of a queue cannot change from {getattr(old, name)!r} to {getattr(new, name)!r}, "
                "because messages lie in their partitions by it; make another queue",
                setting=name,
            )


def check_no_cycle(name: str, topic: str, topics: Mapping[str, str]) -> None:
    """Raises InvalidConfig when subscription ``name`` over ``topic`` would be fed by its own failures.

    ``topics`` holds the topic of every other subscription. Dead letters of ``x`` lie in ``x.dlq``, retries in ``x.retry``.
    """
    source: str | None = topic
    passed: list[str] = []
    while source is not None and source.endswith(RESERVED_ENDINGS):
        owner = source.rsplit(".", 1)[0]
        passed.append(source)
        if owner == name:
            raise InvalidConfig(f"{name!r} would read its own failures by way of {', '.join(passed)}", setting="topic")
        source = topics.get(owner) if len(passed) <= len(topics) else None
