"""How far groups are behind, read from the data directory of a broker that does not run.

What lives here: the journal of groups and the logs they read, put together by the same machine and the same arithmetic that
the broker uses. Beside a running broker, what is not yet flushed counts too. Nothing is changed.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logbroker.cli.storage.offline_log import bounds_of, records_from
from logbroker.cli.storage.places import PartitionPlace, partitions
from logbroker.errors import CorruptMessage, GroupNotFound, PartitionDamaged, UnknownTopicOrPartition
from logbroker.groups.coordinator import OFFSETS_TOPIC
from logbroker.groups.events import CommittedOffset
from logbroker.groups.group import Group, JournalEvent
from logbroker.groups.lag import LagStatus, PartitionLag, first_unread_from, lag_of, lag_unknown
from logbroker.groups.messages import GroupLimits
from logbroker.journal.loader import Loader
from logbroker.journal.records import EventCodec
from logbroker.model import OffsetAndTimestamp, TopicPartition

Row = dict[str, Any]


def lag_rows(data_dir: Path, group_id: str | None) -> Iterator[Row]:
    """The lag of all groups, or of one, in every partition it has committed for, as the HTTP API tells it.

    Raises GroupNotFound, DataDirectoryError, PartitionDamaged.
    """
    groups = dict(_groups(data_dir))
    if group_id is not None and group_id not in groups:
        raise GroupNotFound(f"there is no consumer group {group_id!r} in {data_dir}")
    logs = {place.label: place for place in partitions(None, data_dir)}
    now_ms = time.time_ns() // 1_000_000
    for name in sorted(groups) if group_id is None else [group_id]:
        for where, committed in sorted(groups[name].hard.offsets.items()):
            place = logs.get(f"{where.topic}/{where.partition}")
            if place is not None:
                yield {"group": name, **_row(_lag(place, where, committed, now_ms))}


def _groups(data_dir: Path) -> Iterator[tuple[str, Group]]:
    codec = EventCodec(JournalEvent)
    try:
        journals = partitions(OFFSETS_TOPIC, data_dir)
    except UnknownTopicOrPartition:
        return
    for number, place in enumerate(journals):
        loader = Loader(lambda _: Group(GroupLimits()))
        for record in records_from(place, bounds_of(place).log_start_offset):
            loader.take(codec.decode(TopicPartition(OFFSETS_TOPIC, number), record))
        yield from ((name, group) for name, group in loader.machines.items() if not group.is_vacant)


def _lag(place: PartitionPlace, where: TopicPartition, committed: CommittedOffset, now_ms: int) -> PartitionLag:
    try:
        bounds = bounds_of(place)
        first = next(records_from(place, first_unread_from(committed.offset, bounds)), None)
    except (PartitionDamaged, CorruptMessage):
        return lag_unknown(where, committed, None, LagStatus.DAMAGED)
    unread = OffsetAndTimestamp(first.offset, first.timestamp_ms) if first is not None else None
    return lag_of(where, committed, bounds, unread, now_ms)


def _row(lag: PartitionLag) -> Row:
    committed, bounds = lag.committed, lag.bounds
    return {
        "topic": lag.where.topic,
        "partition": lag.where.partition,
        "committed": committed.offset if committed else None,
        "log_start_offset": bounds.log_start_offset if bounds else None,
        "end": bounds.high_watermark if bounds else None,
        "lag": lag.lag,
        "lag_ms": lag.lag_ms,
        "status": lag.status.value,
        "metadata": committed.metadata if committed else None,
        "committed_ms": committed.committed_ms if committed else None,
        "member_id": None,
    }
