"""A start after a kill or a crash: what is read, what is cut off, what is kept."""

from pathlib import Path

import pytest

from logbroker.errors import PartitionDamaged
from logbroker.log.files.crashes import flushed_only
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.names import LOG, file_name
from logbroker.model import ProducerStamp
from tests.log.helpers import NOW, PATH, append, batch, copy_of, flush, open_log, read_all, read_bytes, values, write_bytes

FIRST = f"{PATH}/{file_name(0, LOG)}"
SECTOR = 512


def killed(batches: int, value_bytes: int = 40) -> tuple[MemoryFiles, int]:
    """Files of a log that was killed before its first flush, and the size of a batch."""
    files = MemoryFiles()
    log = open_log(files, NOW, index_interval_bytes=100)
    for number in range(batches):
        append(log, b"%02d" % number * (value_bytes // 2))
    return files, log.size_bytes // batches


def test_every_truncation_of_the_active_segment_recovers_to_the_last_whole_batch() -> None:
    files, size = killed(12)
    whole = read_bytes(files, FIRST)
    expected = values(read_all(open_log(copy_of(files))))
    for length in range(len(whole) + 1):
        copy = copy_of(files)
        write_bytes(copy, FIRST, whole[:length])
        log = open_log(copy)
        count = length // size
        assert values(read_all(log)) == expected[:count]
        assert log.end_offset == log.flushed_offset == count
        torn = length % size
        assert log.recovery.truncated_bytes == torn
        kept = [read_bytes(copy, path) for path in log.recovery.torn_files]
        assert kept == ([whole[count * size : length]] if torn else [])
        assert copy.size(FIRST) == count * size
        assert append(log, b"next").base_offset == count


def test_truncation_on_a_disk_recovers_too(tmp_path: Path) -> None:
    memory, size = killed(12)
    whole = read_bytes(memory, FIRST)
    for length in range(0, len(whole) + 1, 97):
        files = DiskFiles(tmp_path / str(length))
        open_log(files)
        write_bytes(files, FIRST, whole[:length])
        log = open_log(files)
        assert len(read_all(log)) == length // size
        log.close()
        assert open_log(files).recovery.clean


def test_only_what_lies_past_the_recovery_point_is_read() -> None:
    files = MemoryFiles()
    log = open_log(files)
    for number in range(50):
        append(log, b"%d" % number * 50)
    flush(log)
    log.close()
    log = open_log(files)
    before = log.size_bytes
    append(log, b"after")
    again = open_log(files)
    assert not again.recovery.clean
    assert again.recovery.bytes_read == log.size_bytes - before
    assert len(read_all(again)) == 51


def test_a_recovery_point_is_stored_each_second_of_flushing_and_each_64_mib() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, max_message_bytes=1 << 26)
    now = NOW
    for number in range(30):
        append(log, b"%d" % number, now=now)
        flush(log)
        now = now._replace(mono_ms=now.mono_ms + 100)
    read = open_log(copy_of(files)).recovery.bytes_read
    assert 0 < read <= 11 * log.size_bytes // 30
    for _ in range(5):
        append(log, bytes(15 << 20), now=now)
        flush(log)
    assert open_log(copy_of(files)).recovery.bytes_read < 64 << 20


def test_a_second_kill_reads_nothing_again() -> None:
    files, _ = killed(10)
    assert not open_log(files).recovery.clean
    assert open_log(files).recovery.clean


def test_a_zero_sector_in_front_of_a_valid_batch_was_never_flushed() -> None:
    files, size = killed(8, value_bytes=1200)
    data = files.contents[FIRST].data
    sector = (3 * size // SECTOR + 1) * SECTOR
    data[sector : sector + SECTOR] = bytes(SECTOR)
    expected = bytes(data[3 * size :])
    log = open_log(files)
    assert len(read_all(log)) == 3
    assert [read_bytes(files, path) for path in log.recovery.torn_files] == [expected]


def test_a_first_sector_that_holds_an_older_batch_only_was_never_flushed() -> None:
    """The sector stands as it did after the append before."""
    files, size = killed(8, value_bytes=1200)
    data = files.contents[FIRST].data
    start = 3 * size
    end = start - start % SECTOR + SECTOR
    assert end - start > 12
    data[start:end] = bytes(end - start)
    assert len(read_all(open_log(files))) == 3


def test_changed_bytes_in_front_of_a_valid_batch_are_damage() -> None:
    files, size = killed(8, value_bytes=1200)
    files.contents[FIRST].data[3 * size + 500] ^= 1
    with pytest.raises(PartitionDamaged) as raised:
        open_log(files)
    assert raised.value.fields["position"] == 3 * size
    assert (raised.value.fields["first_offset"], raised.value.fields["last_offset"]) == (3, 3)


def test_zeros_up_to_the_end_are_a_length_without_data() -> None:
    files, size = killed(5)
    write_bytes(files, FIRST, read_bytes(files, FIRST) + bytes(100_000))
    log = open_log(files)
    assert len(read_all(log)) == 5
    assert log.recovery.truncated_bytes == 100_000
    assert files.size(FIRST) == 5 * size


def test_segments_behind_a_torn_one_are_set_aside_whole() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, segment_bytes=300)
    for number in range(9):
        append(log, b"%d" % number * 60)
    bases = [segment.base_offset for segment in log.segments()]
    assert len(bases) >= 4
    second = f"{PATH}/{file_name(bases[1], LOG)}"
    write_bytes(files, second, read_bytes(files, second)[:-3])
    others = [read_bytes(files, f"{PATH}/{file_name(base, LOG)}") for base in bases[2:]]
    log = open_log(files, NOW, segment_bytes=300)
    assert log.end_offset == bases[2] - 1
    assert len(log.recovery.torn_files) == 1 + len(others)
    assert sorted(read_bytes(files, path) for path in log.recovery.torn_files)[-len(others) :] == sorted(others)
    assert values(read_all(log)) == [b"%d" % number * 60 for number in range(bases[2] - 1)]
    append(log, b"next")
    log.close()
    assert open_log(files).recovery.clean


def test_a_damaged_end_of_a_sealed_segment_is_not_cut_after_a_power_cut() -> None:
    """What stands behind it was acknowledged: only a recovery point past the seal, on disk by then, can tell."""
    files = FaultFiles()
    log = open_log(files)
    append(log, b"in the first segment")
    log.roll(NOW)
    append(log, b"in the second")
    flush(log)
    found = flushed_only(files.operations)
    found.contents[FIRST].data[-3] ^= 1
    log = open_log(found)
    assert log.recovery.torn_files == ()
    assert values(read_all(log, 1)) == [b"in the second"]


def test_without_a_checkpoint_a_damaged_end_of_a_sealed_segment_is_damage() -> None:
    """Its digest says that it has its full length, and nothing in it looks as if it had never been written."""
    files = MemoryFiles()
    log = open_log(files)
    append(log, b"in the first segment")
    log.roll(NOW)
    append(log, b"in the second")
    log.close()
    files.unlink(f"{PATH}/checkpoint")
    files.contents[FIRST].data[-3] ^= 1
    with pytest.raises(PartitionDamaged, match="full length"):
        open_log(files)


def test_header_bytes_that_no_checksum_of_a_batch_covers_are_compared_with_the_digest() -> None:
    files = MemoryFiles()
    log = open_log(files)
    append(log, b"in the first segment")
    log.roll(NOW)
    append(log, b"in the second")
    files.contents[FIRST].data[14] ^= 1  # the leader epoch
    with pytest.raises(PartitionDamaged, match="do not fit its digest"):
        open_log(files)


def test_what_is_cut_off_is_kept_whenever_the_power_fails() -> None:
    memory, size = killed(4)
    tail = read_bytes(memory, FIRST)[2 * size :]
    damaged = bytearray(tail)
    damaged[size + 30] ^= 1
    damaged[:SECTOR] = bytes(SECTOR)
    write_bytes(memory, FIRST, read_bytes(memory, FIRST)[: 2 * size] + damaged)
    files = FaultFiles(memory)
    before = len(files.operations)
    assert open_log(files).recovery.torn_files
    for count in range(before, len(files.operations) + 1):
        found = flushed_only(files.operations[:count])
        kept = [bytes(content.data) for path, content in found.contents.items() if path.endswith(".torn")]
        assert bytes(damaged) in kept or read_bytes(found, FIRST).endswith(damaged)


def test_what_was_read_is_written_again_before_it_is_flushed() -> None:
    """After a flush that failed the page cache may hold, unmarked, what never reached the disk."""
    memory, size = killed(3)
    files = FaultFiles(memory)
    before = len(files.operations)
    open_log(files)
    done = [one for one in files.operations[before:] if one.path == FIRST]
    assert [one.kind for one in done] == ["write", "fdatasync"]
    assert (done[0].position, len(done[0].data)) == (0, 3 * size)


def test_torn_files_of_before_are_not_written_over() -> None:
    files, size = killed(3)
    for _ in range(3):
        write_bytes(files, FIRST, read_bytes(files, FIRST)[: 3 * size] + b"garbage")
        open_log(files)
    torn = [name for name in files.listdir(PATH) if name.endswith(".torn")]
    assert len(torn) == 3
    assert open_log(files).recovery.unknown_files == ()


def test_producers_are_rebuilt_from_what_is_read_and_forget_what_was_cut() -> None:
    files = MemoryFiles()
    log = open_log(files)
    for sequence in range(4):
        log.append(batch(b"x", producer=ProducerStamp(7, 0, sequence)), NOW)
    write_bytes(files, FIRST, read_bytes(files, FIRST)[:-1])
    log = open_log(files)
    assert log.append(batch(b"x", producer=ProducerStamp(7, 0, 2)), NOW).duplicate
    assert not log.append(batch(b"x", producer=ProducerStamp(7, 0, 3)), NOW).duplicate


def test_snapshots_of_producers_behind_the_end_go_with_what_was_cut() -> None:
    """The log will get there again, with other producers."""
    files = MemoryFiles()
    log = open_log(files)
    for sequence in range(4):
        log.append(batch(b"x", producer=ProducerStamp(7, 0, sequence)), NOW)
    log.close()
    files.unlink(f"{PATH}/checkpoint")
    write_bytes(files, FIRST, read_bytes(files, FIRST)[:-1])
    open_log(files)
    assert [name for name in files.listdir(PATH) if name.endswith("producers")] == [f"{3:020d}.producers"]


def test_an_empty_segment_of_a_roll_that_failed_is_removed() -> None:
    files, _ = killed(4)
    files.create(f"{PATH}/{file_name(2, LOG)}")
    log = open_log(files)
    assert len(read_all(log)) == 4
    assert len(log.segments()) == 1


def test_a_segment_that_reaches_into_the_next_is_damage() -> None:
    files, size = killed(4)
    write_bytes(files, f"{PATH}/{file_name(2, LOG)}", read_bytes(files, FIRST)[2 * size :])
    with pytest.raises(PartitionDamaged, match="reaches up to"):
        open_log(files)


@pytest.mark.parametrize("kind", ["checkpoint", "digest"])
def test_a_file_of_a_newer_version_is_refused(kind: str) -> None:
    from logbroker.log import checkpoint, state

    files = MemoryFiles()
    log = open_log(files)
    append(log, b"a")
    log.roll(NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "_VERSION", state._VERSION + 1)
        patch.setattr(checkpoint, "_VERSION", checkpoint._VERSION + 1)
        if kind == "digest":
            files.unlink(f"{PATH}/{file_name(0, 'digest')}")
            log._segments.first.write_digest(log._segments.first.state())
        else:
            log.close()
    with pytest.raises(PartitionDamaged, match="newer logbroker"):
        open_log(files).segments()
