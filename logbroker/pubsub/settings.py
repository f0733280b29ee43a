"""The configuration of a subscription: what ``PUT /v1/subscriptions/{s}`` takes, its defaults, and what is refused.

What lives here: the settings, the checks on them and on changes, and the same in the words of a queue. What may not: I/O.
Invariant: ``SubscriptionSettings`` that went through ``checked`` hold in themselves, their filter compiles.
"""

from typing import Literal

import msgspec

from logbroker.config import DAY_MS
from logbroker.errors import ConfigConflict, InvalidConfig
from logbroker.filters import compile_filter
from logbroker.queues import settings as queue_settings
from logbroker.queues.rules import MAX_LEASE_MS
from logbroker.queues.settings import MAX_DELAY_MS, MIN_LEASE_MS, DlqSettings, QueueSettings, RetrySettings

MIN_RETAIN_MS = 1_000


class SubscriptionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a subscription over ``topic``; without ``filter`` it gets every record."""

    topic: str
    filter: str | None = None
    ack_deadline_ms: int = 30_000
    max_attempts: int | None = 3
    retry: RetrySettings = RetrySettings()
    dlq: DlqSettings = DlqSettings()
    ordering: Literal["none", "key"] = "none"
    retain_unacked_ms: int = 7 * DAY_MS

    def delivery(self) -> QueueSettings:
        """How its messages are delivered, as a queue would say it."""
        return QueueSettings(
            visibility_timeout_ms=self.ack_deadline_ms,
            max_attempts=self.max_attempts,
            retry=self.retry,
            dlq=self.dlq,
            ordering=self.ordering,
        )


def checked(settings: SubscriptionSettings) -> SubscriptionSettings:
    """The same settings. Raises InvalidConfig, and FilterInvalid with the column."""
    _check_range("ack_deadline_ms", settings.ack_deadline_ms, MIN_LEASE_MS, MAX_LEASE_MS)
    _check_range("retain_unacked_ms", settings.retain_unacked_ms, MIN_RETAIN_MS, MAX_DELAY_MS)
    queue_settings.checked(settings.delivery())
    if settings.filter is not None:
        compile_filter(settings.filter)
    return settings


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidConfig(f"{name} = {value!r} is not accepted: must be from {low} to {high}", setting=name)


def check_change(old: SubscriptionSettings, new: SubscriptionSettings) -> None:
    """Raises ConfigConflict for a change that would break what is under way already."""
    for name in ("topic", "ordering"):
        if getattr(old, name) != getattr(new, name):
            raise ConfigConflict(
                f"{name} of a subscription cannot change from {getattr(old, name)!r} to {getattr(new, name)!r}; "
                "make another subscription",
                setting=name,
            )
