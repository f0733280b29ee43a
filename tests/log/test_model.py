"""The partition log against a plain list, over appends, reads, look-ups, rolls, trims, stops and crashes."""

import random
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from logbroker.config import configured
from logbroker.log.files.crashes import crash_states
from logbroker.log.files.faults import FaultFiles
from logbroker.model import Now, OffsetAndTimestamp, Record
from logbroker.records.codec import encode
from tests.log.helpers import NOW, flush, open_log, read_all, read_chunk

SPAN_MS = 1000


@dataclass(frozen=True)
class Kept:
    """A record of the model."""

    value: bytes
    timestamp_ms: int


GONE = Kept(b"", 0)

records = st.lists(
    st.tuples(st.binary(max_size=40) | st.integers(200, 900).map(lambda size: b"L" * size), st.integers(0, SPAN_MS)),
    min_size=1,
    max_size=5,
)


class LogAgainstList(RuleBasedStateMachine):
    """``kept[n]`` is the record at offset ``n``; those below ``start`` are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.files = FaultFiles()
        self.kept: list[Kept] = []
        self.start = 0
        self.flushed = 0
        self.boundaries = {0}
        self.now = NOW

    @initialize(
        segment_bytes=st.sampled_from([300, 1500, 100_000]),
        interval=st.sampled_from([0, 100, 4096]),
        descriptors=st.sampled_from([2, 100]),
        stamps=st.sampled_from(["CreateTime", "CreateTime", "LogAppendTime"]),
    )
    def begin(self, segment_bytes: int, interval: int, descriptors: int, stamps: str) -> None:
        self.settings = {
            "segment_bytes": segment_bytes,
            "index_interval_bytes": interval,
            "message_timestamp_type": stamps,
            "retention_bytes": 2000,
            "retention_ms": -1,
        }
        self.descriptors = descriptors
        self.open()

    def open(self) -> None:
        self.log = open_log(self.files, self.now, descriptors=self.descriptors, **self.settings)

    # -- changes -----------------------------------------------------------------------------------------------------

    @rule(batches=st.lists(records, min_size=1, max_size=3), later=st.integers(0, 300))
    def append(self, batches: list[list[tuple[bytes, int]]], later: int) -> None:
        self.now = Now(self.now.wall_ms + later, self.now.mono_ms + later)
        stamps = self.settings["message_timestamp_type"] == "LogAppendTime"
        before = len(self.kept)
        data = b""
        for batch in batches:
            made = [Record(value, timestamp_ms=NOW.wall_ms + after) for value, after in batch]
            data += encode(made, now_ms=self.now.wall_ms)
            self.kept += [Kept(value, self.now.wall_ms if stamps else NOW.wall_ms + after) for value, after in batch]
            self.boundaries.add(len(self.kept))
        appended = self.log.append(data, self.now)
        assert (appended.base_offset, appended.next_offset) == (before, len(self.kept))
        assert appended.append_time_ms == (self.now.wall_ms if stamps else -1)

    @rule()
    def flush(self) -> None:
        flush(self.log)
        self.flushed = len(self.kept)

    @rule()
    def roll(self) -> None:
        self.log.roll(self.now)

    @rule(part=st.floats(0, 1), flushed_only=st.booleans())
    def trim(self, part: float, flushed_only: bool) -> None:
        target = round((self.flushed if flushed_only else len(self.kept)) * part)
        self.start = max(self.start, target)
        assert self.log.trim(target, self.now) == self.start

    @rule(part=st.floats(0, 1))
    def retain(self, part: float) -> None:
        floor = round(self.flushed * part)
        gone = self.log.retain(self.now, floor)
        if gone:
            assert gone.start == self.start < gone.end <= floor
            assert gone.records == gone.end - gone.start
            self.start = gone.end
        assert not gone or self.log.size_bytes >= 2000 or len(self.log.segments()) == 1

    @rule(part=st.floats(0, 1), most=st.integers(0, 40))
    def retain_so_many(self, part: float, most: int) -> None:
        floor = round(self.flushed * part)
        usual = self.log.config
        self.log.configure(configured(usual, {"max_messages": most, "retention_bytes": -1}))
        self.log.retain(self.now, floor)
        self.log.configure(usual)
        self.start = max(self.start, min(len(self.kept) - most, floor))
        assert self.log.log_start_offset == self.start

    @rule()
    def stop_and_start(self) -> None:
        self.log.close()
        self.open()
        assert self.log.recovery.clean
        self.flushed = len(self.kept)

    @rule(seed=st.integers(0, 2**32))
    def lose_power(self, seed: int) -> None:
        rng = random.Random(seed)
        states = list(crash_states(self.files.operations, rng, subsets=2))
        self.files = FaultFiles(rng.choice(states).files)
        self.come_back()

    @rule()
    def get_killed(self) -> None:
        self.come_back()

    def come_back(self) -> None:
        self.open()
        end = self.log.end_offset
        assert max(self.flushed, self.start) <= end <= max(len(self.kept), self.start)
        del self.kept[end:]
        self.kept += [GONE] * (end - len(self.kept))  # trimmed and then lost: the offsets are not given out again
        self.boundaries = {one for one in self.boundaries if one <= end} | {end}
        assert end in self.boundaries
        self.flushed = len(self.kept)

    # -- questions ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.kept) > self.start)
    @rule(part=st.floats(0, 0.999), max_bytes=st.integers(0, 3000), upto=st.randoms(use_true_random=False))
    def read(self, part: float, max_bytes: int, upto: random.Random) -> None:
        offset = self.start + int((len(self.kept) - self.start) * part)
        end = upto.choice(sorted(one for one in self.boundaries if one > offset))
        found = read_all(self.log, offset, end, max_bytes)
        assert [record.offset for record in found] == list(range(offset, end))
        assert [Kept(record.value or b"", record.timestamp_ms) for record in found] == self.kept[offset:end]
        first = len(read_chunk(self.log, offset, max_bytes, end))
        assert first > 0

    @rule(after=st.integers(-5, SPAN_MS + 5), upto=st.randoms(use_true_random=False))
    def look_up_time(self, after: int, upto: random.Random) -> None:
        timestamp = NOW.wall_ms + after
        end = upto.choice(sorted(one for one in self.boundaries if one >= self.start) or [self.start])
        in_range = [(offset, self.kept[offset].timestamp_ms) for offset in range(self.start, end)]
        expected = next((OffsetAndTimestamp(*one) for one in in_range if one[1] >= timestamp), None)
        assert self.log.offset_at(timestamp, end) == expected
        latest = max(in_range, key=lambda one: (one[1], -one[0]), default=None)
        assert self.log.max_timestamp(end) == (OffsetAndTimestamp(*latest) if latest else None)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.log_start_offset == self.start
        assert self.log.end_offset == len(self.kept)
        assert self.log.flushed_offset >= self.flushed
        segments = self.log.segments()
        assert segments[0].base_offset <= self.start
        assert [one.base_offset for one in segments[1:]] == [one.next_offset for one in segments[:-1]]
        assert sum(one.size_bytes for one in segments) == self.log.size_bytes


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
