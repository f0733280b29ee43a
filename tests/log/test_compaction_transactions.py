"""What compaction makes of transactions: aborted records go at once, markers when nothing of theirs is left (KIP-98)."""

from collections.abc import Sequence
from typing import TypeAlias

import pytest

from logbroker.config import INT64_MAX
from logbroker.log.compaction.cleaner import Cleaner
from logbroker.log.compaction.job import Job, Source
from logbroker.log.compaction.transactions import Outcomes
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import ProducerStamp, Record
from logbroker.records.batch import BatchHeader, iter_headers
from logbroker.records.codec import decode, encode
from logbroker.records.markers import encode_marker
from tests.log.compacting import keyed
from tests.log.helpers import write_bytes

NOW_MS = 1_700_000_000_000
RETENTION_MS = 1000


def written(producer_id: int, *records: tuple[bytes, bytes | None]) -> bytes:
    """A batch of a transaction."""
    made = [Record(value, key=key, timestamp_ms=NOW_MS) for key, value in records]
    return encode(made, now_ms=NOW_MS, producer=ProducerStamp(producer_id, 0, 0), transactional=True)


def ended(producer_id: int, *, committed: bool) -> bytes:
    return encode_marker(producer_id, 0, committed, NOW_MS)


Left: TypeAlias = tuple[BatchHeader, list[bytes | None]]
"""A batch and its values."""


class Stretch:
    """One sealed segment of batches that no client could append here, compacted by itself."""

    def __init__(self, *batches: bytes, behind: Sequence[bytes] = ()) -> None:
        self.files = MemoryFiles()
        self.files.mkdir("p")
        self.end = self._write(0, batches)
        self.behind = self._write(self.end, behind) if behind else self.end

    def _write(self, base: int, batches: Sequence[bytes]) -> int:
        data, offset = b"", base
        for batch in batches:
            [(_, header)] = iter_headers(batch)
            data += offset.to_bytes(8, "big") + batch[8:]
            offset += header.last_offset_delta + 1
        self.size = len(data)
        write_bytes(self.files, f"p/{base:020d}.log", data)
        return offset

    def compact(
        self, now_ms: int = NOW_MS, producers: dict[int, int] | None = None
    ) -> list[tuple[BatchHeader, list[bytes | None]]]:
        """A pass over all; returns what is left by batch."""
        size = self.files.size(f"p/{0:020d}.log")
        behind = (
            [] if self.behind == self.end else [Source(self.end, self.behind, self.files.size(f"p/{self.end:020d}.log"))]
        )
        job = Job(
            path="p",
            sources=[Source(0, self.end, size)],
            deciding=behind,
            dirty_from=0,
            now_ms=now_ms,
            delete_retention_ms=RETENTION_MS,
            producers=producers or {},
            segment_bytes=1 << 20,
            index_bytes=1 << 20,
            index_interval_bytes=4096,
            table_bytes=1 << 16,
        )
        cleaner = Cleaner(self.files, job)
        for _ in cleaner.run():
            pass
        for kind in ("log", "index", "timeindex", "digest"):
            made = f"p/{0:020d}.{kind}.cleaned"
            if self.files.exists(made):
                self.files.rename(made, f"p/{0:020d}.{kind}")
        data = self.files.contents[f"p/{0:020d}.log"].data
        return [
            (header, [one.value for one in decode(data, at, control=True)] if header.record_count else [])
            for at, header in iter_headers(data)
        ]


def test_aborted_records_go_and_never_count_as_the_last_of_their_key() -> None:
    stretch = Stretch(
        keyed((b"a", b"kept"), timestamp_ms=NOW_MS), written(1, (b"a", b"aborted")), ended(1, committed=False)
    )
    left = stretch.compact()
    assert [(header.base_offset, header.is_control) for header, _ in left] == [(0, False), (2, True)]
    assert left[0][1] == [b"kept"]


def test_committed_records_count_like_all_others() -> None:
    stretch = Stretch(keyed((b"a", b"old"), timestamp_ms=NOW_MS), written(1, (b"a", b"new")), ended(1, committed=True))
    assert [header.base_offset for header, _ in stretch.compact()] == [1, 2]


@pytest.mark.parametrize("committed", [True, False])
def test_a_marker_in_a_later_segment_decides(committed: bool) -> None:
    stretch = Stretch(
        written(1, (b"a", b"x")), keyed((b"b", b"y"), timestamp_ms=NOW_MS), behind=[ended(1, committed=committed)]
    )
    assert [header.base_offset for header, _ in stretch.compact()] == ([0, 1] if committed else [1])


@pytest.mark.parametrize("committed", [True, False])
def test_a_marker_goes_when_its_batches_are_gone_and_its_time_has_come(committed: bool) -> None:
    newer = keyed((b"a", b"newest"), timestamp_ms=NOW_MS)
    stretch = Stretch(written(1, (b"a", b"x")), ended(1, committed=committed), newer)
    first = stretch.compact()
    assert [(header.base_offset, header.delete_horizon_ms) for header, _ in first] == [(1, None), (2, None)]
    second = stretch.compact(NOW_MS + 10)
    assert [(header.base_offset, header.delete_horizon_ms) for header, _ in second] == [
        (1, NOW_MS + 10 + RETENTION_MS),
        (2, None),
    ]
    assert len(stretch.compact(NOW_MS + 9 + RETENTION_MS)) == 2
    assert [header.base_offset for header, _ in stretch.compact(NOW_MS + 10 + RETENTION_MS)] == [2]


def test_a_marker_stays_while_a_batch_of_its_transaction_is_there_if_only_for_the_sequence() -> None:
    newer = keyed((b"a", b"newest"), timestamp_ms=NOW_MS)
    stretch = Stretch(written(1, (b"a", b"x")), ended(1, committed=True), newer)
    for _ in range(3):
        left = stretch.compact(NOW_MS + 5000, {1: 0})
        assert [(header.base_offset, header.record_count, header.delete_horizon_ms) for header, _ in left] == [
            (0, 0, None),
            (1, 1, None),
            (2, 1, None),
        ]
        assert left[0][0].is_transactional


def test_the_first_marker_behind_a_batch_decides_it() -> None:
    outcomes = Outcomes()
    outcomes.ended(1, 5, aborted=True)
    outcomes.ended(1, 9, aborted=False)
    outcomes.ended(2, 7, aborted=True)
    assert [outcomes.is_aborted(1, offset) for offset in (0, 4, 6, 8, 10)] == [True, True, False, False, False]
    assert outcomes.is_aborted(2, 6) and not outcomes.is_aborted(3, INT64_MAX)
