"""What a partition log does, in the order of its life."""

from collections.abc import Callable
from typing import Any

import pytest

from logbroker.config import DAY_MS, HOUR_MS
from logbroker.errors import (
    CorruptMessage,
    DuplicateSequence,
    InvalidTimestamp,
    InvalidTransactionState,
    MessageTooLarge,
    OutOfOrderSequence,
    StorageError,
)
from logbroker.log.files import Files
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.partition import ColdRead, PartitionLog
from logbroker.model import Appended, Now, OffsetAndTimestamp, ProducerStamp, Record
from logbroker.records.batch import Compression, check_batch, iter_headers, parse_header, sealed_header
from logbroker.records.codec import decode_all, encode
from tests.log.helpers import (
    NOW,
    PATH,
    append,
    batch,
    filled,
    flush,
    open_log,
    read_all,
    read_bytes,
    read_chunk,
    transactional,
    values,
)

# -- appending -------------------------------------------------------------------------------------------------------


def test_offsets_are_given_out_one_after_another(files: Files) -> None:
    log = open_log(files)
    assert (log.log_start_offset, log.end_offset, log.flushed_offset) == (0, 0, 0)
    assert append(log, b"a", b"b") == Appended(0, 2, -1, 0)
    assert append(log, b"c") == Appended(2, 3, -1, 0)
    assert values(read_all(log)) == [b"a", b"b", b"c"]
    assert log.end_offset == 3


def test_several_batches_go_in_together(files: Files) -> None:
    log = open_log(files)
    assert log.append(batch(b"a", b"b") + batch(b"c"), NOW) == Appended(0, 3, -1, 0)
    assert [header.base_offset for _, header in iter_headers(read_chunk(log, 0, 1000, 3))] == [0, 2]


def test_what_is_stored_is_what_was_produced_but_for_offset_and_epoch(files: Files) -> None:
    log = open_log(files)
    append(log, b"first")
    produced = batch(b"x" * 1000, b"y")
    log.append(memoryview(bytearray(produced)), NOW)
    stored = bytes(read_chunk(log, 1, 5000, 3))
    assert stored[16:] == produced[16:]
    header = parse_header(stored)
    assert (header.base_offset, header.leader_epoch) == (1, 0)
    check_batch(stored, 0, header)


def wrong_crc() -> bytes:
    data = bytearray(batch(b"value"))
    data[-1] ^= 1
    return bytes(data)


def with_attributes(bits: int) -> bytes:
    data = batch(b"value")
    header = parse_header(data)
    return sealed_header(header._replace(attributes=header.attributes | bits), data[61:]) + data[61:]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptMessage),
        (b"\0" * 10, CorruptMessage),
        (batch(b"value")[:-1], CorruptMessage),
        (batch(b"value") + b"x", CorruptMessage),
        (wrong_crc(), CorruptMessage),
        (transactional(b"value"), InvalidTransactionState),
        (with_attributes(0x10), CorruptMessage),
        (with_attributes(0x30), CorruptMessage),
        (batch(b"x" * 2000), MessageTooLarge),
        (batch(b"value", timestamp_ms=NOW.wall_ms + HOUR_MS + 1), InvalidTimestamp),
        (batch(b"value", timestamp_ms=NOW.wall_ms - DAY_MS - 1), InvalidTimestamp),
    ],
    ids=[
        "nothing",
        "zeros",
        "cut",
        "a tail",
        "CRC",
        "transactional",
        "transactional of nobody",
        "control",
        "too large",
        "in the future",
        "long ago",
    ],
)
def test_a_wrong_batch_is_refused_with_all_that_came_along(files: Files, data: bytes, error: type[Exception]) -> None:
    log = open_log(files, NOW, max_message_bytes=1000, message_timestamp_before_max_ms=DAY_MS)
    with pytest.raises(error):
        log.append(batch(b"good") + data if data else data, NOW)
    assert log.end_offset == 0
    assert log.size_bytes == 0
    append(log, b"good")


def test_timestamps_at_the_edge_are_accepted() -> None:
    log = open_log(MemoryFiles(), NOW, message_timestamp_before_max_ms=DAY_MS)
    append(log, b"a", timestamp_ms=NOW.wall_ms + HOUR_MS)
    append(log, b"b", timestamp_ms=NOW.wall_ms - DAY_MS)
    assert log.end_offset == 2


def test_append_time_is_stamped_with_a_valid_checksum(files: Files) -> None:
    log = open_log(files, NOW, message_timestamp_type="LogAppendTime")
    later = Now(NOW.wall_ms + 5000, 5000)
    assert append(log, b"a", b"b", now=later, timestamp_ms=12).append_time_ms == later.wall_ms
    stored = read_chunk(log, 0, 5000, 2)
    check_batch(stored, 0, parse_header(stored))
    assert [(one.timestamp_ms, one.append_time) for one in decode_all(stored)] == [(later.wall_ms, True)] * 2
    assert log.max_timestamp(2) == OffsetAndTimestamp(0, later.wall_ms)


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        ("producer", Compression.GZIP),
        ("uncompressed", Compression.NONE),
        ("gzip", Compression.GZIP),
        ("zstd", Compression.ZSTD),
        ("lz4", Compression.LZ4),
        ("snappy", Compression.SNAPPY),
    ],
)
def test_the_topic_may_ask_for_another_compression(wanted: str, stored: Compression) -> None:
    log = open_log(MemoryFiles(), NOW, compression_type=wanted)
    records = [Record(b"value" * 100, b"key", timestamp_ms=NOW.wall_ms + number) for number in range(3)]
    stamp = ProducerStamp(9, 1, 40)
    produced = encode(records, now_ms=0, compression=Compression.GZIP, producer=stamp)
    log.append(produced, NOW)
    chunk = read_chunk(log, 0, 9999, 3)
    header = parse_header(chunk)
    assert header.compression is stored
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == stamp
    assert [(one.value, one.key, one.timestamp_ms) for one in decode_all(chunk)] == [
        (one.value, one.key, one.timestamp_ms) for one in records
    ]


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_read_starts_with_the_batch_of_its_offset_and_holds_whole_batches(files: Files) -> None:
    log = open_log(files, NOW, index_interval_bytes=100, segment_bytes=1000)
    for number in range(40):
        append(log, b"%d" % number, b"second", b"third")
    end = log.end_offset
    for offset in range(end):
        for max_bytes in (0, 1, 100, 250, 100_000):
            headers = [header for _, header in iter_headers(read_chunk(log, offset, max_bytes, end))]
            assert headers[0].base_offset == offset - offset % 3
            assert sum(header.size for header in headers) <= max(max_bytes, headers[0].size)
            assert len(headers) == 1 or max_bytes > 100


@pytest.mark.parametrize("segment_bytes", [300, 100_000])
def test_nothing_at_or_past_upto_is_read(files: Files, segment_bytes: int) -> None:
    log = open_log(files, NOW, segment_bytes=segment_bytes, index_interval_bytes=50)
    for number in range(20):
        append(log, b"%d" % number, b"second")
    for upto in range(0, 41, 2):
        for offset in range(40):
            chunk = read_chunk(log, offset, 100_000, upto)
            last = max((header.last_offset for _, header in iter_headers(chunk)), default=-1)
            assert (offset <= last < upto) if chunk else (offset >= upto)


def test_a_batch_larger_than_was_asked_for_is_read_whole(files: Files) -> None:
    log = open_log(files)
    append(log, b"x" * 100_000)
    append(log, b"y")
    assert [one.offset for one in decode_all(read_chunk(log, 0, 10, 2))] == [0]


def test_readers_at_many_places_do_not_disturb_each_other(files: Files) -> None:
    log = open_log(files, NOW, segment_bytes=2000, index_interval_bytes=100)
    for number in range(300):
        append(log, b"%d" % number)
    positions = list(range(0, 300, 1))
    for _ in range(3):
        for number, offset in enumerate(positions):
            if offset < 300:
                found = list(decode_all(read_chunk(log, offset, 150, 300), from_offset=offset))
                assert found[0].offset == offset
                assert found[0].value == b"%d" % offset
                positions[number] = found[-1].offset + 1


def test_bytes_that_were_read_stay_as_they_were_whatever_happens_to_the_log(files: Files) -> None:
    log = open_log(files, NOW, segment_bytes=4000)
    for number in range(60):
        append(log, b"%d" % number * 50)
    chunk = read_chunk(log, 0, 3000, 60)
    before = bytes(chunk)
    for number in range(60):
        append(log, b"later %d" % number * 50)
    flush(log)
    log.trim(100, NOW)
    log.close()
    assert bytes(chunk) == before


def test_what_is_not_in_memory_is_left_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles()
    log = open_log(files)
    for number in range(10):
        append(log, b"%d" % number)
    monkeypatch.setattr("logbroker.log.files.memory.MemoryFile.pread_cached", lambda self, size, position: None)
    assert isinstance(log.read(3, 1000, 10), ColdRead)
    assert [one.offset for one in decode_all(read_chunk(log, 3, 1000, 10))] == [3, 4, 5, 6, 7, 8, 9]


# -- by time ---------------------------------------------------------------------------------------------------------


def test_records_are_found_by_time_in_whatever_order_they_came(files: Files) -> None:
    log = open_log(files, NOW, segment_bytes=400, index_interval_bytes=100)
    stamps = [50, 10, 70, 70, 20, 90, 30, 80, 91, 5, 60]
    for stamp in stamps:
        append(log, b"x" * 20, timestamp_ms=NOW.wall_ms + stamp)
    assert len(log.segments()) > 1
    for wanted in range(100):
        expected = next((number for number, stamp in enumerate(stamps) if stamp >= wanted), None)
        found = log.offset_at(NOW.wall_ms + wanted, log.end_offset)
        assert (found.offset if found else None) == expected
    assert log.max_timestamp(log.end_offset) == OffsetAndTimestamp(8, NOW.wall_ms + 91)
    assert log.max_timestamp(8) == OffsetAndTimestamp(5, NOW.wall_ms + 90)
    assert log.max_timestamp(0) is None


def test_the_first_of_equal_timestamps_inside_a_batch_is_found() -> None:
    log = open_log(MemoryFiles())
    made = [Record(b"x", timestamp_ms=NOW.wall_ms + after) for after in (3, 9, 9, 1)]
    log.append(encode(made, now_ms=0), NOW)
    assert log.offset_at(NOW.wall_ms + 4, 4) == log.max_timestamp(4) == OffsetAndTimestamp(1, NOW.wall_ms + 9)


# -- flushing --------------------------------------------------------------------------------------------------------


def test_flushed_is_what_was_written_when_the_flush_began(files: Files) -> None:
    log = open_log(files)
    assert log.begin_flush() is None
    append(log, b"a")
    ticket = log.begin_flush()
    assert ticket is not None
    append(log, b"b")
    ticket.sync()
    assert log.flushed_offset == 0
    log.finish_flush(ticket)
    assert log.flushed_offset == 1
    flush(log)
    assert log.flushed_offset == 2
    assert log.begin_flush() is None


def test_a_flush_syncs_each_dirty_file_once_and_older_segments_first() -> None:
    files = FaultFiles()
    log = open_log(files)
    append(log, b"a")
    append(log, b"b")
    log.roll(NOW)
    append(log, b"c")
    before = len(files.operations)
    flush(log)
    synced = [one.path[-24:] for one in files.operations[before:] if one.kind == "fdatasync" and one.path.endswith(".log")]
    assert synced == [f"{0:020d}.log", f"{2:020d}.log"]


def test_a_flush_becomes_due_after_a_roll_and_after_much_unflushed() -> None:
    log = open_log(MemoryFiles(), NOW, max_message_bytes=1 << 26)
    due = []
    for step in (
        lambda: append(log, b"a"),
        lambda: log.roll(NOW),
        lambda: flush(log),
        lambda: [append(log, bytes(16 << 20)) for _ in range(5)],
        lambda: flush(log),
    ):
        step()
        due.append(log.flush_is_due)
    assert due == [False, True, False, True, False]


# -- rolling ---------------------------------------------------------------------------------------------------------


def bases(log: PartitionLog) -> list[int]:
    return [segment.base_offset for segment in log.segments()]


@pytest.mark.parametrize(
    ("settings", "wait_ms", "expected"),
    [
        ({"segment_bytes": 150}, 0, [0, 2, 4]),
        ({"segment_ms": 1000}, 400, [0, 3]),
        ({"segment_bytes": 14}, 0, [0, 1, 2, 3, 4]),
        ({}, 1000, [0]),
    ],
    ids=["bytes", "age", "always", "never"],
)
def test_a_segment_is_rolled_before_it_is_too_large_or_too_old(settings: Any, wait_ms: int, expected: list[int]) -> None:
    log = open_log(MemoryFiles(), NOW, **settings)
    now = NOW
    for _ in range(5):
        append(log, b"x", now=now)
        now = Now(now.wall_ms + wait_ms, now.mono_ms + wait_ms)
    assert bases(log) == expected


def test_a_segment_is_rolled_when_an_index_is_full() -> None:
    log = open_log(MemoryFiles(), NOW, index_interval_bytes=0, segment_index_bytes=4096)
    for number in range(700):
        append(log, b"x", timestamp_ms=NOW.wall_ms + number)
    # 341 entries of 12 bytes fit, one is kept for the seal; the first batch of a segment has no entry.
    assert bases(log) == [0, 341, 682]


def test_a_segment_is_rolled_before_relative_offsets_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logbroker.log.partition.INT32_MAX", 10)
    log = open_log(MemoryFiles())
    for _ in range(5):
        append(log, b"a", b"b", b"c", b"d")
    assert bases(log) == [0, 8, 16]


def test_an_idle_segment_is_rolled_when_its_age_is_reached() -> None:
    log = open_log(MemoryFiles(), NOW, segment_ms=1000)
    append(log, b"a")
    log.roll_if_due(Now(NOW.wall_ms + 999, 999))
    assert bases(log) == [0]
    log.roll_if_due(Now(NOW.wall_ms + 1000, 1000))
    assert bases(log) == [0, 1]
    log.roll_if_due(Now(NOW.wall_ms + 5000, 5000))
    assert bases(log) == [0, 1]


def test_the_age_of_a_segment_goes_on_over_a_stop() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, segment_ms=1000)
    append(log, b"a")
    log.close()
    log = open_log(files, Now(NOW.wall_ms + 900, 0), segment_ms=1000)
    log.roll_if_due(Now(NOW.wall_ms + 1000, 0))
    assert bases(log) == [0, 1]


def test_records_of_long_ago_do_not_roll_a_segment_each() -> None:
    """Kafka goes by the records' timestamps; a load of old data then makes a segment a day of data."""
    log = open_log(MemoryFiles(), NOW, segment_ms=DAY_MS)
    for day in range(20):
        append(log, b"x", timestamp_ms=NOW.wall_ms - day * 30 * DAY_MS)
    assert bases(log) == [0]


# -- trim and retention ----------------------------------------------------------------------------------------------


def test_trimming_moves_the_log_start_and_deletes_whole_segments(files: Files) -> None:
    log = filled(files)
    assert log.trim(4, NOW) == 4
    assert bases(log) == [4, 5, 6, 7, 8, 9]
    assert log.trim(2, NOW) == 4
    assert values(read_all(log)) == [b"%d" % number for number in range(4, 10)]
    assert sorted(name for name in files.listdir(PATH) if name.endswith(".log"))[0] == f"{4:020d}.log"
    assert log.offset_at(0, 10) == OffsetAndTimestamp(4, NOW.wall_ms + 4 * 60_000)


def test_trimming_inside_a_batch_hides_its_first_records(files: Files) -> None:
    log = open_log(files)
    log.append(encode([Record(b"%d" % n, timestamp_ms=NOW.wall_ms + 9 - n) for n in range(4)], now_ms=0), NOW)
    assert log.trim(2, NOW) == 2
    assert values(read_all(log)) == [b"2", b"3"]
    assert log.offset_at(0, 4) == log.max_timestamp(4) == OffsetAndTimestamp(2, NOW.wall_ms + 7)


def test_trimming_everything_frees_the_active_segment_too(files: Files) -> None:
    log = filled(files)
    append(log, b"last")
    flush(log)
    assert log.trim(99, NOW) == 11
    flush(log)
    assert bases(log) == [11]
    assert log.size_bytes == 0
    assert [name for name in files.listdir(PATH) if name.endswith(".log")] == [f"{11:020d}.log"]
    assert append(log, b"next").base_offset == 11


def test_the_log_start_is_kept_over_a_stop_and_a_kill(files: Files) -> None:
    log = filled(files)
    log.trim(5, NOW)
    assert open_log(files, NOW).log_start_offset == 5
    log = open_log(files, NOW)
    log.trim(7, NOW)
    log.close()
    assert open_log(files, NOW).log_start_offset == 7


# -- producers -------------------------------------------------------------------------------------------------------


def once(sequence: int, *values: bytes, epoch: int = 0) -> bytes:
    return batch(*values, producer=ProducerStamp(7, epoch, sequence))


def test_a_repeated_batch_is_answered_with_the_offsets_of_the_original(files: Files) -> None:
    log = open_log(files)
    append(log, b"other")
    first = log.append(once(0, b"a", b"b"), NOW)
    log.append(once(2, b"c"), NOW)
    assert log.append(once(0, b"a", b"b"), NOW) == first._replace(duplicate=True)
    assert log.append(once(2, b"c"), NOW) == Appended(3, 4, -1, 0, duplicate=True)
    assert log.end_offset == 4


@pytest.mark.parametrize(
    "come_back", [lambda log: log.close(), lambda log: None, flush], ids=["stop", "kill", "flush, kill"]
)
@pytest.mark.parametrize("segment_bytes", [14, 200, 10_000])
def test_producer_windows_survive(files: Files, come_back: Callable[[PartitionLog], None], segment_bytes: int) -> None:
    log = open_log(files, NOW, segment_bytes=segment_bytes)
    for number in range(8):
        log.append(once(number, b"%d" % number), NOW)
    come_back(log)
    log = open_log(files, NOW, segment_bytes=segment_bytes)
    for number in range(3, 8):
        assert log.append(once(number, b"%d" % number), NOW) == Appended(number, number + 1, -1, 0, duplicate=True)
    with pytest.raises(DuplicateSequence):
        log.append(once(1, b"1"), NOW)
    with pytest.raises(OutOfOrderSequence):
        log.append(once(9, b"9"), NOW)
    assert log.append(once(8, b"8"), NOW).base_offset == 8


def test_windows_outlive_the_deletion_of_their_records(files: Files) -> None:
    log = open_log(files, NOW, segment_bytes=14)
    for number in range(4):
        log.append(once(number, b"%d" % number), NOW)
        flush(log)
    log.trim(4, NOW)
    log.close()
    log = open_log(files, NOW)
    assert log.append(once(3, b"3"), NOW).duplicate
    assert log.append(once(4, b"4"), NOW).base_offset == 4


def test_a_snapshot_that_is_not_whole_is_replaced_by_reading_the_log(files: Files) -> None:
    log = open_log(files, NOW)
    for number in range(4):
        log.append(once(number, b"%d" % number), NOW)
    log.close()
    for name in files.listdir(PATH):
        if name.endswith(".producers"):
            files.open(f"{PATH}/{name}").pwrite(b"?", 20)
    log = open_log(files, NOW)
    assert not log.recovery.clean
    assert log.append(once(3, b"3"), NOW).duplicate
    assert open_log(files, NOW).recovery.clean


# -- stop ------------------------------------------------------------------------------------------------------------


def test_a_closed_log_is_opened_without_reading_it(files: Files) -> None:
    log = filled(files)
    append(log, b"last")
    log.close()
    again = open_log(files, NOW, segment_bytes=14)
    assert again.recovery.clean
    assert again.recovery.bytes_read == 0
    assert len(read_all(again)) == 11
    assert again.flushed_offset == 11


def test_opening_a_closed_log_opens_no_file_of_its_segments() -> None:
    files = FaultFiles()
    filled(files).close()
    copy = FaultFiles(files)
    before = copy.count("open")
    open_log(copy, NOW)
    assert copy.count("open") - before == 1  # the checkpoint


def test_a_closed_log_takes_nothing_more(files: Files) -> None:
    log = open_log(files)
    append(log, b"a")
    log.close()
    with pytest.raises(StorageError, match="closed"):
        append(log, b"b")


def test_a_stop_without_changes_writes_nothing() -> None:
    files = FaultFiles()
    filled(files).close()
    copy = FaultFiles(files)
    before = copy.changes
    open_log(copy, NOW).close()
    assert copy.changes == before


def test_unknown_files_are_reported_and_left_alone(files: Files) -> None:
    open_log(files).close()
    files.create(f"{PATH}/notes.txt").append([b"mine"])
    log = open_log(files)
    assert log.recovery.unknown_files == (f"{PATH}/notes.txt",)
    assert read_bytes(files, f"{PATH}/notes.txt") == b"mine"


def test_a_new_partition_makes_one_file(files: Files) -> None:
    open_log(files)
    assert files.listdir(PATH) == [f"{0:020d}.log"]
