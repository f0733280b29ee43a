"""Telling what retention deleted, above all what somebody had not read yet, and what compaction did.

What lives here: the counts and the log lines. What may not: deleting. Queues and subscriptions hold what they need, so they
never miss anything here; a consumer group holds nothing, as with Kafka, and its committed offset shows what it has missed.
"""

import logging
from collections.abc import Iterable

from logbroker.engine.api import Compacted, Deleted
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.metrics import Metrics

log = logging.getLogger(__name__)


class Cleanup:
    """The use case of reporting what was cleaned up."""

    def __init__(self, groups: GroupCoordinator, metrics: Metrics) -> None:
        self._groups = groups
        self._deleted = metrics.counter(
            "retention_deleted_records_total", "Records that retention has deleted.", ("topic",)
        )
        self._unread = metrics.counter(
            "retention_unread_records_total",
            "Records that retention has deleted before a consumer group committed past them, once for each such group.",
            ("topic",),
        )
        self._duration = metrics.histogram("compaction_duration_seconds", "How long the compaction of a partition took.")
        self._compactions = metrics.counter("compactions_total", "Compactions of a partition.", ("topic",))
        self._reclaimed = metrics.counter(
            "compaction_reclaimed_bytes_total", "Bytes that compaction has freed.", ("topic",)
        )
        self._dropped = metrics.counter("compaction_dropped_records_total", "Records that compaction removed.", ("topic",))

    def deleted(self, deletions: Iterable[Deleted]) -> None:
        """Count ``deletions``, and log those that a group had not read."""
        for one in deletions:
            topic = one.where.topic
            self._deleted.add(one.records, topic)
            log.info("retention deleted offsets %d to %d of %s", one.start, one.end - 1, one.where)
            for group_id, committed in self._groups.committed_in(one.where).items():
                missed = min(one.end - max(committed, one.start), one.records)
                if missed > 0:
                    self._unread.add(missed, topic)
                    log.warning(
                        "retention deleted %d records of %s that group %r had not read: offsets %d to %d",
                        missed,
                        one.where,
                        group_id,
                        one.end - missed,
                        one.end - 1,
                    )

    def compacted(self, done: Compacted) -> None:
        """Count a compaction, and log it."""
        topic = done.where.topic
        self._duration.observe(done.seconds)
        self._compactions.add(1, topic)
        self._reclaimed.add(max(done.bytes_before - done.bytes_after, 0), topic)
        self._dropped.add(done.records_dropped, topic)
        log.info(
            "compaction of %s up to offset %d took %.1f s: %d of %d bytes are left, %d records went",
            done.where,
            done.end,
            done.seconds,
            done.bytes_after,
            done.bytes_before,
            done.records_dropped,
        )
