"""Changed bytes are found; damage in the middle of a log is named and never cut away."""

import random
from pathlib import Path

import pytest

from logbroker.errors import PartitionDamaged
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.names import DIGEST, LOG, file_name
from logbroker.log.recovery import _Recovery
from logbroker.log.verify import DAMAGE, Finding, verify_partition, verify_segment
from tests.log.helpers import (
    NOW,
    PATH,
    append,
    batch,
    copy_of,
    flush,
    open_log,
    read_all,
    read_bytes,
    read_chunk,
    values,
    write_bytes,
)

FIRST = f"{PATH}/{file_name(0, LOG)}"


def sealed_segment(value_bytes: int, batches: int, *, compressible: bool = False) -> tuple[MemoryFiles, int]:
    """Files with a sealed segment of batches of this size, and where the next segment starts."""
    files = MemoryFiles()
    log = open_log(files)
    rng = random.Random(1)
    for _ in range(batches):
        append(log, bytes(value_bytes) if compressible else rng.randbytes(value_bytes), b"small")
    log.roll(NOW)
    end = log.end_offset
    log.close()
    return files, end


def undetected_flips(files: MemoryFiles, following: int, positions: range) -> list[int]:
    """Positions of the log where a changed byte is not found."""
    data = files.contents[FIRST].data
    rng = random.Random(2)
    missed = []
    for position in positions:
        original = data[position]
        data[position] ^= rng.randrange(1, 256)
        found = verify_segment(files, PATH, 0, following)
        data[position] = original
        if not any(one.severity == DAMAGE for one in found):
            missed.append(position)
    return missed


def test_an_intact_segment_has_nothing_wrong_with_it() -> None:
    files, end = sealed_segment(3000, 20)
    assert verify_segment(files, PATH, 0, end) == []


def test_every_changed_byte_of_a_sealed_segment_is_found() -> None:
    files, end = sealed_segment(31_000, 2)
    size = len(files.contents[FIRST].data)
    assert 60_000 < size < 66_000
    assert undetected_flips(files, end, range(size)) == []


def test_every_changed_header_byte_of_many_batches_is_found() -> None:
    """The 17 bytes that the CRC of a batch leaves open are the hard ones."""
    files, end = sealed_segment(100, 30)
    assert undetected_flips(files, end, range(len(files.contents[FIRST].data))) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_changed_byte_of_a_sealed_segment_of_small_batches_is_found() -> None:
    files, end = sealed_segment(900, 64)
    assert undetected_flips(files, end, range(len(files.contents[FIRST].data))) == []


def test_without_the_digest_only_changed_leader_epochs_escape() -> None:
    """As Kafka's own checks leave it, and why there is a digest."""
    files, end = sealed_segment(100, 30)
    files.unlink(f"{PATH}/{file_name(0, DIGEST)}")
    size = len(files.contents[FIRST].data) // 30
    missed = undetected_flips(files, end, range(len(files.contents[FIRST].data)))
    assert {position % size for position in missed} <= {12, 13, 14, 15}


def test_every_changed_byte_of_a_digest_or_an_index_is_found() -> None:
    files, end = sealed_segment(5000, 5)
    for kind in ("digest", "index", "timeindex"):
        data = files.contents[f"{PATH}/{file_name(0, kind)}"].data
        assert data
        for position in range(len(data)):
            data[position] ^= 1
            assert verify_segment(files, PATH, 0, end), f"{kind}, {position}"
            data[position] ^= 1


@pytest.mark.parametrize("cut", [1, 60, 61, 1000])
def test_a_shortened_log_is_found(cut: int) -> None:
    files, end = sealed_segment(3000, 20)
    write_bytes(files, FIRST, read_bytes(files, FIRST)[:-cut])
    assert [one.severity for one in verify_segment(files, PATH, 0, end)].count(DAMAGE) >= 1


def test_what_lies_behind_the_damage_is_checked_too() -> None:
    files, end = sealed_segment(500, 20)
    data = files.contents[FIRST].data
    size = len(data) // 20
    for number in (3, 11):
        data[number * size + 200] ^= 1
    found = [
        one for one in verify_segment(files, PATH, 0, end) if one.position is not None and "no valid batch" in one.message
    ]
    assert [(one.position, one.first_offset, one.last_offset) for one in found] == [(3 * size, 6, 7), (11 * size, 22, 23)]


def test_verifying_reports_how_far_it_is(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    log = open_log(files, NOW, segment_bytes=3000)
    for number in range(30):
        append(log, b"%d" % number * 100)
    log.close()
    done: list[int] = []
    assert list(verify_partition(files, PATH, done.append)) == []
    assert sum(done) == log.size_bytes


def test_a_missing_segment_is_found() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, segment_bytes=500)
    for number in range(20):
        append(log, b"%d" % number * 50)
    log.close()
    bases = [int(path[-24:-4]) for path in files.contents if path.endswith(".log")]
    files.unlink(f"{PATH}/{file_name(bases[2], LOG)}")
    messages = [one.message for one in verify_partition(files, PATH) if one.severity == DAMAGE]
    assert any(str(bases[3]) in message for message in messages)
    assert isinstance(next(verify_partition(files, PATH)), Finding)


# -- what a start does about it --------------------------------------------------------------------------------------


def killed_log(batches: int = 12, *, flushed: int = 2) -> tuple[MemoryFiles, int]:
    """Files of a log that was killed, all but the first batches past the recovery point; the size of a batch."""
    files = MemoryFiles()
    log = open_log(files)
    for number in range(batches):
        append(log, b"%02d" % number * 400)
        if number == flushed - 1:
            flush(log)
            log.close()
            log = open_log(files)
    return files, log.size_bytes // batches


def test_damage_in_the_middle_past_the_recovery_point_fails_closed() -> None:
    files, size = killed_log()
    before = copy_of(files)
    files.contents[FIRST].data[5 * size + 300] ^= 1
    with pytest.raises(PartitionDamaged) as raised:
        open_log(files)
    assert raised.value.fields == {"file": FIRST, "position": 5 * size, "first_offset": 5, "last_offset": 5}
    for part in (FIRST, str(5 * size), "offsets 5 to 5"):
        assert part in raised.value.detail
    files.contents[FIRST].data[5 * size + 300] ^= 1
    assert {path: content.data for path, content in files.contents.items() if path.endswith(".log")} == {
        path: content.data for path, content in before.contents.items() if path.endswith(".log")
    }
    assert len(read_all(open_log(files))) == 12


def test_control_cutting_at_every_bad_batch_would_lose_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kafka does, and may do since it has replicas."""
    files, size = killed_log()
    files.contents[FIRST].data[5 * size + 300] ^= 1
    monkeypatch.setattr(_Recovery, "_judge", lambda *args, **kwargs: None)
    assert len(read_all(open_log(files))) == 5


def test_every_changed_byte_past_the_recovery_point_fails_closed_or_ends_the_log() -> None:
    """Never a wrong record, never a record missing in the middle; only the last batch can pass for a torn tail."""
    files, size = killed_log(batches=6)
    intact = values(read_all(open_log(copy_of(files))))
    outcomes = set()
    for position in range(2 * size, 6 * size, 7):
        copy = copy_of(files)
        copy.contents[FIRST].data[position] ^= 0x80
        try:
            log = open_log(copy)
        except PartitionDamaged:
            assert position < 5 * size
            outcomes.add("refused")
        else:
            found = values(read_all(log))
            if len(found) == 6:
                assert position % size in (12, 13, 14, 15)  # the leader epoch: the records are right
                assert found == intact
            else:
                assert position >= 5 * size
                assert found == intact[:5]
                outcomes.add("cut")
    assert outcomes == {"refused", "cut"}


def test_a_changed_byte_in_front_of_the_recovery_point_is_found_when_read_or_verified() -> None:
    files, size = killed_log()
    files.contents[FIRST].data[10] ^= 1  # the length of the first batch
    log = open_log(files)
    with pytest.raises(PartitionDamaged, match="damaged at byte"):
        read_chunk(log, 0, 3 * size, log.end_offset)
    assert len(read_all(log, 5)) == 7


def test_flushed_bytes_that_are_missing_are_damage() -> None:
    files, size = killed_log(flushed=6)
    write_bytes(files, FIRST, read_bytes(files, FIRST)[: 5 * size])
    with pytest.raises(PartitionDamaged, match="were flushed"):
        open_log(files)


def test_a_missing_log_file_is_damage_and_never_an_empty_log() -> None:
    files, _ = killed_log()
    files.unlink(FIRST)
    with pytest.raises(PartitionDamaged, match="no log file"):
        open_log(files)


def test_a_missing_segment_in_the_middle_is_damage() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, segment_bytes=500)
    for number in range(20):
        append(log, b"%02d" % number * 50)
    log.close()
    bases = sorted(int(path[-24:-4]) for path in files.contents if path.endswith(".log"))
    for base in bases:
        copy = copy_of(files)
        copy.unlink(f"{PATH}/{file_name(base, LOG)}")
        with pytest.raises(PartitionDamaged):
            open_log(copy, NOW, segment_bytes=500)


def test_a_segment_that_vanished_with_all_its_files_is_damage_and_no_lost_tail() -> None:
    """The digest of the one before says that this is its end."""
    files = MemoryFiles()
    log = open_log(files, NOW, segment_bytes=500)
    for number in range(20):
        append(log, b"%02d" % number * 50)
    bases = [segment.base_offset for segment in log.segments()]
    for path in [path for path in files.contents if f"/{bases[2]:020d}." in path]:
        files.unlink(path)
    with pytest.raises(PartitionDamaged, match=f"{bases[2]:020d}.log is not there"):
        open_log(files, NOW, segment_bytes=500)


# -- the checkpoint --------------------------------------------------------------------------------------------------


def test_every_changed_byte_of_a_checkpoint_gives_the_same_records() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, segment_bytes=1000)
    for number in range(8):
        append(log, b"%d" % number * 200)
        flush(log)
    log.trim(3, NOW)
    log.trim(5, NOW)
    log.close()
    expected = values(read_all(open_log(copy_of(files))))
    path = f"{PATH}/checkpoint"
    for position in range(len(files.contents[path].data)):
        copy = copy_of(files)
        copy.contents[path].data[position] ^= 0xFF
        found = values(read_all(open_log(copy)))
        # With the newest slot gone an earlier log start counts: records may reappear, none may be lost.
        assert found[-len(expected) :] == expected


@pytest.mark.parametrize("content", [None, b"", b"\0" * 624, b"x" * 100])
def test_without_a_usable_checkpoint_everything_is_read_again(content: bytes | None) -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, segment_bytes=1000)
    for number in range(8):
        log.append(batch(b"%d" % number * 200), NOW)
    log.close()
    if content is None:
        files.unlink(f"{PATH}/checkpoint")
    else:
        write_bytes(files, f"{PATH}/checkpoint", content)
    again = open_log(files)
    assert values(read_all(again)) == [b"%d" % number * 200 for number in range(8)]
    assert again.recovery.bytes_read == log.size_bytes
