"""Which records of a batch stay when a log is compacted: Kafka's rules, as a pure function of what is known.

A record behind the end of the table stays. Otherwise it stays if it has a key, is the last with it, and has a value, or
is a tombstone whose time has not come. Records of aborted transactions go. A marker goes when no batch of its transaction
is there any more and its time has come. That time, the delete horizon, is set when a batch with tombstones, or such a
marker, is first seen: ``delete_retention_ms`` from then (KIP-534). Of a producer that is remembered, the batch with its
last sequence stays, without records if need be.
"""

from collections.abc import Mapping
from typing import NamedTuple

from logbroker.errors import CorruptMessage, MessageTooLarge
from logbroker.log.compaction.keys import KeyTable
from logbroker.log.compaction.transactions import Outcomes
from logbroker.log.files import Buffer
from logbroker.records.batch import BatchHeader
from logbroker.records.codec import Outline, outline
from logbroker.records.shrinking import emptied, shrunk


class Rules(NamedTuple):
    """By what a pass goes."""

    keys: KeyTable
    latest: int
    """The last offset that ``keys`` has seen; later records stay."""
    outcomes: Outcomes
    producers: Mapping[int, int]
    """The last offset of each producer that is remembered."""
    now_ms: int
    delete_retention_ms: int


class Keeper:
    """Decides batch by batch, in the order of the log."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._traversed: set[int] = set()
        """Producers of whose open transaction a batch was seen."""

    def kept(self, header: BatchHeader, buffer: Buffer, at: int) -> bytes | None:
        """What stays of the batch at ``at``: its bytes, b"" for nothing, None for all of it as it is."""
        if header.is_control:
            return self._marker(header, buffer, at)
        aborted = False
        if header.is_transactional:
            self._traversed.add(header.producer_id)
            aborted = self._rules.outcomes.is_aborted(header.producer_id, header.base_offset)
        # Aborted records behind the table go as well: nobody ever saw them.
        if not header.record_count or aborted:
            return self._without_records(header)
        if header.base_offset > self._rules.latest:
            return None
        return self._records(header, buffer, at)

    def _marker(self, header: BatchHeader, buffer: Buffer, at: int) -> bytes | None:
        is_alone = header.producer_id not in self._traversed
        self._traversed.discard(header.producer_id)
        if not header.record_count:
            return self._without_records(header)
        if not is_alone:
            return None
        if header.delete_horizon_ms is None:
            return self._with_horizon(header, *_outline(buffer, at))
        return self._without_records(header) if header.delete_horizon_ms <= self._rules.now_ms else None

    def _without_records(self, header: BatchHeader) -> bytes | None:
        """Nothing stays, unless the batch has its producer's last sequence."""
        if self._rules.producers.get(header.producer_id, -1) != header.last_offset:
            return b""
        return emptied(header) if header.record_count else None

    def _records(self, header: BatchHeader, buffer: Buffer, at: int) -> bytes | None:
        records, plain = _outline(buffer, at)
        if plain is None:
            return None
        horizon_ms = header.delete_horizon_ms
        keeps_tombstones = horizon_ms is None or self._rules.now_ms < horizon_ms
        latest, last = self._rules.latest, self._rules.keys.last
        kept = [
            offset > latest or (key is not None and (has_value or keeps_tombstones) and offset >= last(key))
            for offset, _, key, has_value in records
        ]
        if not any(kept):
            return self._without_records(header)
        has_tombstones = any(stays and not one.has_value for stays, one in zip(kept, records, strict=True))
        if has_tombstones and horizon_ms is None:
            return shrunk(header, plain, records, kept, self._new_horizon())
        return None if all(kept) else shrunk(header, plain, records, kept)

    def _with_horizon(self, header: BatchHeader, records: list[Outline], plain: memoryview | None) -> bytes | None:
        return None if plain is None else shrunk(header, plain, records, [True] * len(records), self._new_horizon())

    def _new_horizon(self) -> int:
        return self._rules.now_ms + self._rules.delete_retention_ms


def _outline(buffer: Buffer, at: int) -> tuple[list[Outline], memoryview | None]:
    """The records; no plain form for a batch that was written malformed, which stays as it is."""
    try:
        return outline(buffer, at)
    except (CorruptMessage, MessageTooLarge):
        return [], None
