"""Compaction of one partition: what stays, in which form, and that everything else goes on over the gaps."""

from collections.abc import Sequence

import pytest

from logbroker.config import INT64_MAX, TopicConfig
from logbroker.errors import KeyRequired, PartitionDamaged
from logbroker.log.compaction.keys import KeyTable
from logbroker.log.files import Files
from logbroker.log.partition import PartitionLog
from logbroker.log.verify import DAMAGE, verify_partition
from logbroker.model import Now, OffsetAndTimestamp, ProducerStamp, Record
from logbroker.records.batch import Compression, iter_headers
from logbroker.records.codec import encode
from tests.log.compacting import SETTINGS, chunks, compact, everything, keyed
from tests.log.helpers import NOW, PATH, flush, open_log, write_bytes

LATER = Now(NOW.wall_ms + 10_000, 10_000)


def segments_of(
    files: Files, *segments: Sequence[Sequence[tuple[bytes, bytes | None]]], **settings: object
) -> PartitionLog:
    """A log whose sealed segments hold these batches; each batch a millisecond younger than the one before."""
    log = open_log(files, NOW, **{**SETTINGS, **settings})
    stamp = NOW.wall_ms
    for batches in segments:
        for records in batches:
            log.append(keyed(*records, timestamp_ms=stamp), NOW)
            stamp += 1
        log.roll(NOW)
    log.append(keyed((b"active", b"last"), timestamp_ms=stamp), NOW)
    flush(log)
    return log


def left(log: PartitionLog) -> list[tuple[int, bytes | None, bytes | None]]:
    return [one[:3] for one in everything(log)]


def test_the_last_record_of_each_key_stays_with_its_offset_and_timestamp(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1"), (b"b", b"2")], [(b"a", b"3")]], [[(b"c", b"4"), (b"a", b"5"), (b"c", b"6")]])
    assert compact(files, log, LATER)
    assert everything(log) == [
        (1, b"b", b"2", NOW.wall_ms),
        (4, b"a", b"5", NOW.wall_ms + 2),
        (5, b"c", b"6", NOW.wall_ms + 2),
        (6, b"active", b"last", NOW.wall_ms + 3),
    ]
    assert not compact(files, log, LATER), "nothing is new"
    log.close()
    again = open_log(files, LATER, **SETTINGS)
    assert again.recovery.clean
    assert left(again) == left(log)
    assert not compact(files, again, LATER)


def test_small_segments_become_one_and_the_active_one_is_left_alone(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1")]], [[(b"a", b"2")]], [[(b"a", b"3")]])
    assert len(log.segments()) == 4
    compact(files, log, LATER)
    assert [(one.base_offset, one.next_offset) for one in log.segments()] == [(0, 3), (3, 4)]
    assert sorted(name for name in files.listdir(PATH) if name.endswith(".log")) == [f"{0:020d}.log", f"{3:020d}.log"]
    assert not [name for name in files.listdir(PATH) if name.endswith((".cleaned", ".swap"))]


def test_segments_are_merged_no_further_than_a_segment_may_grow(files: Files) -> None:
    log = segments_of(files, *[[[(b"k%d" % number, bytes(100))]] for number in range(10)], segment_bytes=500)
    compact(files, log, LATER)
    sizes = [one.size_bytes for one in log.segments()[:-1]]
    assert len(sizes) == 5 and max(sizes) <= 500
    assert len(left(log)) == 11


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("max_bytes", [1, 100, 1 << 20])
def test_a_read_at_an_offset_that_is_gone_goes_on_at_the_next_one(files: Files, offset: int, max_bytes: int) -> None:
    log = segments_of(
        files, [[(b"a", b"1")], [(b"b", b"2")], [(b"a", b"3")]], [[(b"c", b"4")], [(b"a", b"5")], [(b"c", b"6")]]
    )
    compact(files, log, LATER)
    expected = [one for one in everything(log) if one[0] >= offset]
    assert [one[0] for one in expected] == [one for one in (1, 4, 5, 6) if one >= offset]
    assert everything(log, offset, max_bytes) == expected


@pytest.mark.parametrize("compression", list(Compression))
def test_a_batch_keeps_its_compression(files: Files, compression: Compression) -> None:
    log = open_log(files, NOW, **SETTINGS)
    log.append(keyed((b"a", bytes(500)), (b"b", bytes(500)), timestamp_ms=NOW.wall_ms, compression=compression), NOW)
    log.append(keyed((b"a", b"new"), timestamp_ms=NOW.wall_ms, compression=compression), NOW)
    log.roll(NOW)
    log.append(keyed((b"x", b"y"), timestamp_ms=NOW.wall_ms), NOW)
    flush(log)
    compact(files, log, LATER)
    headers = [header for chunk in chunks(log) for _, header in iter_headers(chunk)]
    assert [header.compression for header in headers][:2] == [compression] * 2
    assert left(log)[:2] == [(1, b"b", bytes(500)), (2, b"a", b"new")]


def test_a_tombstone_stays_for_its_time_after_it_became_clean_and_then_goes(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1"), (b"b", b"2")]], [[(b"a", None)]])
    compact(files, log, LATER)
    assert left(log)[:2] == [(1, b"b", b"2"), (2, b"a", None)]
    batch = next(header for chunk in chunks(log) for _, header in iter_headers(chunk) if header.base_offset == 2)
    assert batch.delete_horizon_ms == LATER.wall_ms + 1000
    log.roll(LATER)
    log.append(keyed((b"z", b"9"), timestamp_ms=LATER.wall_ms), LATER)
    flush(log)
    assert compact(files, log, Now(LATER.wall_ms + 999, 0))
    assert (2, b"a", None, NOW.wall_ms + 1) in everything(log), "with the timestamp it had"
    log.roll(LATER)
    log.append(keyed((b"z", b"10"), timestamp_ms=LATER.wall_ms), LATER)
    flush(log)
    assert compact(files, log, Now(LATER.wall_ms + 1000, 0))
    assert [one[:2] for one in left(log)] == [(1, b"b"), (3, b"active"), (4, b"z"), (5, b"z")]


def test_a_full_table_takes_several_passes_and_leaves_the_same(files: Files) -> None:
    segments = [[[(b"%d" % (number * 7 % 12), b"%d" % number)]] for number in range(60)]
    log = segments_of(files, *segments)
    compact(files, log, LATER, table_bytes=24 * 8)
    last = {number * 7 % 12: number for number in range(60)}
    assert [one[0] for one in left(log)] == [*sorted(last.values()), 60]


def test_the_lookup_by_time_goes_on_over_gaps(files: Files) -> None:
    log = segments_of(
        files, [[(b"a", b"1")], [(b"b", b"2")], [(b"a", b"3")]], [[(b"b", b"4")], [(b"c", b"5")], [(b"c", b"6")]]
    )
    compact(files, log, LATER)
    assert [one[0] for one in left(log)] == [2, 3, 5, 6]
    for after, expected in ((0, 2), (1, 2), (2, 2), (3, 3), (4, 5), (5, 5), (6, 6)):
        assert log.offset_at(NOW.wall_ms + after, INT64_MAX) == OffsetAndTimestamp(expected, NOW.wall_ms + expected)
    assert log.offset_at(NOW.wall_ms + 7, INT64_MAX) is None
    assert log.max_timestamp(6) == OffsetAndTimestamp(5, NOW.wall_ms + 5)


def test_retention_by_count_counts_records_not_offsets(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]], [[(b"c", b"4")], [(b"c", b"5")]])
    compact(files, log, LATER)
    assert [one[0] for one in left(log)] == [1, 2, 4, 5]
    log.configure(TopicConfig(cleanup_policy=("compact", "delete"), max_messages=2))
    retained = log.retain(NOW, 100)
    assert retained is not None and (retained.end, retained.records) == (3, 2)
    assert [one[0] for one in left(log)] == [4, 5]


def test_a_compacted_topic_refuses_a_record_without_a_key(files: Files) -> None:
    log = open_log(files, NOW, **SETTINGS)
    bare = encode([Record(b"1", key=b"a"), Record(b"2")], now_ms=NOW.wall_ms, compression=Compression.ZSTD)
    with pytest.raises(KeyRequired, match="record 1"):
        log.append(bare, NOW)
    assert log.end_offset == 0


def test_records_without_a_key_from_before_go(files: Files) -> None:
    log = open_log(files, NOW)
    log.append(encode([Record(b"1")], now_ms=NOW.wall_ms), NOW)
    log.configure(TopicConfig(**SETTINGS))
    log.roll(NOW)
    log.append(keyed((b"a", b"2"), timestamp_ms=NOW.wall_ms), NOW)
    flush(log)
    compact(files, log, LATER)
    assert left(log) == [(1, b"a", b"2")]
    assert [one.base_offset for one in log.segments()] == [0, 1], "an empty batch holds the place"


def test_the_last_batch_of_a_producer_stays_without_its_records(files: Files) -> None:
    log = open_log(files, NOW, **SETTINGS)
    for sequence, key in enumerate((b"a", b"a", b"a")):
        log.append(encode([Record(b"v", key=key)], now_ms=NOW.wall_ms, producer=ProducerStamp(7, 0, sequence)), NOW)
    log.append(keyed((b"a", b"other"), timestamp_ms=NOW.wall_ms), NOW)
    log.roll(NOW)
    log.append(keyed((b"x", b"y"), timestamp_ms=NOW.wall_ms), NOW)
    flush(log)
    compact(files, log, LATER)
    headers = [header for chunk in chunks(log) for _, header in iter_headers(chunk)]
    assert [(one.base_offset, one.record_count, one.base_sequence) for one in headers] == [
        (2, 0, 2),
        (3, 1, -1),
        (4, 1, -1),
    ]
    log.close()
    for name in files.listdir(PATH):
        if name.endswith(".producers"):
            files.unlink(f"{PATH}/{name}")
    again = open_log(files, LATER, **SETTINGS)
    repeated = encode([Record(b"v", key=b"a")], now_ms=NOW.wall_ms, producer=ProducerStamp(7, 0, 2))
    assert again.append(repeated, LATER).duplicate


# -- what is compacted -----------------------------------------------------------------------------------------------


def test_nothing_at_or_past_the_limit_is_touched(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1")], [(b"a", b"2")]], [[(b"a", b"3")], [(b"a", b"4")]])
    compact(files, log, LATER, limit=3)
    assert [one[0] for one in left(log)] == [1, 2, 3, 4]


def test_a_segment_that_a_recovery_would_read_is_not_touched(files: Files) -> None:
    log = open_log(files, NOW, **SETTINGS)
    log.append(keyed((b"a", b"1"), timestamp_ms=NOW.wall_ms), NOW)
    log.roll(NOW)
    assert log.plan_compaction(LATER, INT64_MAX) is None
    flush(log)
    assert log.plan_compaction(LATER, INT64_MAX) is not None


def test_the_least_and_the_longest_wait(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1")]], [[(b"a", b"2")]], min_compaction_lag_ms=5000)
    assert log.plan_compaction(Now(NOW.wall_ms + 4999, 0), INT64_MAX) is None
    planned = log.plan_compaction(Now(NOW.wall_ms + 5000, 0), INT64_MAX)
    assert planned is not None and [one.base_offset for one in planned.sources] == [0]
    log.configure(TopicConfig(cleanup_policy=("compact",), min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=5000))
    early = log.plan_compaction(Now(NOW.wall_ms + 5000, 0), INT64_MAX)
    late = log.plan_compaction(Now(NOW.wall_ms + 5001, 0), INT64_MAX)
    assert early is not None and not early.is_due
    assert late is not None and late.is_due


def test_an_active_segment_is_sealed_in_time_to_be_compacted(files: Files) -> None:
    log = open_log(files, NOW, **SETTINGS, max_compaction_lag_ms=1000)
    log.append(keyed((b"a", b"1"), timestamp_ms=NOW.wall_ms), NOW)
    log.roll_if_due(Now(NOW.wall_ms + 999, 999))
    assert len(log.segments()) == 1
    log.roll_if_due(Now(NOW.wall_ms + 1000, 1000))
    assert len(log.segments()) == 2


def test_a_topic_that_is_not_compacted_is_left_alone(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1")], [(b"a", b"2")]])
    log.configure(TopicConfig())
    assert log.plan_compaction(LATER, INT64_MAX) is None


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_table_knows_the_last_offset_until_it_is_full() -> None:
    table = KeyTable(24 * 16, 1000)
    assert table.put_all((b"%d" % number, number) for number in range(12)) is None
    assert table.put_all([(b"3", 20), (b"12", 21)]) == 21
    assert [table.last(b"%d" % number) for number in (3, 4, 12)] == [20, 4, -1]


def test_a_small_log_takes_a_small_table() -> None:
    table = KeyTable(1 << 40, 3)
    assert table.put_all([(b"a", 0), (b"b", 1), (b"c", 2)]) is None
    assert (table.last(b"c"), table.last(b"d")) == (2, -1)


# -- damage ----------------------------------------------------------------------------------------------------------


def damage_in(files: Files) -> list[str]:
    return [one.message for one in verify_partition(files, PATH) if one.severity == DAMAGE]


def test_verify_finds_nothing_wrong_with_a_compacted_log_and_every_byte_that_changes(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1"), (b"b", b"2")], [(b"a", b"3")]], [[(b"c", None), (b"a", b"5"), (b"c", b"6")]])
    compact(files, log, LATER)
    log.close()
    assert list(verify_partition(files, PATH)) == []
    path = f"{PATH}/{0:020d}.log"
    file = files.open(path)
    whole = file.pread(file.size(), 0)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        write_bytes(files, path, bytes(changed))
        assert damage_in(files), position
    write_bytes(files, path, whole)
    assert damage_in(files) == []


@pytest.mark.parametrize("kind", ["index", "timeindex", "digest"])
def test_the_index_files_and_the_digest_of_a_compacted_segment_are_made_again(files: Files, kind: str) -> None:
    log = segments_of(files, [[(b"a", b"1"), (b"b", b"2")], [(b"a", b"3")]], [[(b"c", b"4"), (b"c", b"6")]])
    compact(files, log, LATER)
    expected = everything(log)
    log.close()
    files.unlink(f"{PATH}/{0:020d}.{kind}")
    again = open_log(files, LATER, **SETTINGS)
    assert everything(again) == expected
    assert again.offset_at(NOW.wall_ms + 1, INT64_MAX) is not None
    again.close()
    assert damage_in(files) == []


def test_without_its_digest_a_gap_is_damage_where_nobody_compacts(files: Files) -> None:
    log = segments_of(files, [[(b"a", b"1")], [(b"a", b"2")]], [[(b"a", b"3")]])
    compact(files, log, LATER)
    log.close()
    files.unlink(f"{PATH}/{0:020d}.digest")
    again = open_log(files, LATER)
    with pytest.raises(PartitionDamaged, match="starts with offset 2, not 0"):
        everything(again)
