"""Any life of a compacted log leaves what the plainest description of compaction says, record by record."""

from typing import TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logbroker.config import INT64_MAX, TopicConfig
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.verify import DAMAGE, verify_partition
from logbroker.model import Now, OffsetAndTimestamp
from logbroker.records.batch import Compression
from tests.log.compacting import SETTINGS, NaiveLog, compact, everything, keyed
from tests.log.helpers import NOW, PATH, copy_of, flush, open_log

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
values = st.one_of(st.none(), st.binary(max_size=60))
compressions = st.sampled_from([Compression.NONE, Compression.LZ4])
Batch: TypeAlias = list[tuple[bytes, bytes | None]]
records = st.lists(st.tuples(keys, values), min_size=1, max_size=4)


class CompactedLog(RuleBasedStateMachine):
    """A log beside its naive twin."""

    def __init__(self) -> None:
        super().__init__()
        self.files = MemoryFiles()
        self.now = NOW
        self.naive = NaiveLog()
        self.config = {**SETTINGS, "segment_bytes": 600, "index_interval_bytes": 100}
        self.log = open_log(self.files, self.now, **self.config)

    @rule(
        batches=st.lists(records, min_size=1, max_size=6),
        compression=compressions,
        later=st.sampled_from([0, 1, 300, 1500]),
        seal=st.booleans(),
    )
    def append(self, batches: list[Batch], compression: Compression, later: int, seal: bool) -> None:
        for batch in batches:
            self.now = Now(self.now.wall_ms + later, self.now.mono_ms + later)
            data = keyed(*batch, timestamp_ms=self.now.wall_ms, compression=compression)
            appended = self.log.append(data, self.now)
            self.naive.append(appended.base_offset, batch, self.now.wall_ms)
        if seal:
            self.log.roll(self.now)

    @rule()
    def flush(self) -> None:
        flush(self.log)

    @rule(part=st.one_of(st.just(1.0), st.floats(0, 1)), slots=st.integers(2, 40))
    def compact(self, part: float, slots: int) -> None:
        flush(self.log)
        start = self.log.log_start_offset
        limit = start + round((self.log.end_offset - start) * part)
        planned = self.log.plan_compaction(self.now, limit)
        done = compact(self.files, self.log, self.now, limit=limit, table_bytes=slots * 24)
        assert done == (planned is not None)
        if planned is not None:
            self.naive.compact(planned.sources[-1].next_offset, self.now.wall_ms, 1000)

    @rule(part=st.floats(0, 0.3))
    def trim(self, part: float) -> None:
        start = self.log.log_start_offset
        start = self.log.trim(start + round(max(self.log.flushed_offset - start, 0) * part), self.now)
        for batch in self.naive.batches:
            batch.records = {offset: record for offset, record in batch.records.items() if offset >= start}

    @rule(most=st.integers(5, 20))
    def retain(self, most: int) -> None:
        flush(self.log)
        self.log.configure(TopicConfig(cleanup_policy=("compact", "delete"), max_messages=most))
        self.log.retain(Now(0, 0), INT64_MAX)
        self.log.configure(TopicConfig(**self.config))
        there = [offset for offset, *_ in self.naive.everything()]
        gone = set(there[: max(len(there) - most, 0)])
        for batch in self.naive.batches:
            batch.records = {offset: record for offset, record in batch.records.items() if offset not in gone}

    @rule()
    def stop_and_start(self) -> None:
        self.log.close()
        assert not [one for one in verify_partition(self.files, PATH) if one.severity == DAMAGE]
        self.log = open_log(self.files, self.now, **self.config)
        assert self.log.recovery.clean

    @rule()
    def get_killed(self) -> None:
        self.files = copy_of(self.files)
        self.log = open_log(self.files, self.now, **self.config)

    @precondition(lambda self: self.log.end_offset > self.log.log_start_offset)
    @rule(part=st.floats(0, 0.999), max_bytes=st.integers(1, 1500))
    def read_from(self, part: float, max_bytes: int) -> None:
        start = self.log.log_start_offset
        offset = start + int((self.log.end_offset - start) * part)
        expected = [one for one in self.naive.everything() if one[0] >= offset]
        assert everything(self.log, offset, max_bytes) == expected

    @rule(after=st.integers(-10, 3000))
    def look_up(self, after: int) -> None:
        wanted = NOW.wall_ms + after
        found = next((one for one in self.naive.everything() if one[3] >= wanted), None)
        expected = None if found is None else OffsetAndTimestamp(found[0], found[3])
        assert self.log.offset_at(wanted, INT64_MAX) == expected

    @invariant()
    def holds_the_same(self) -> None:
        assert everything(self.log, self.log.log_start_offset) == self.naive.everything()


TestCompactedLog = CompactedLog.TestCase
TestCompactedLog.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
