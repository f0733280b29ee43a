"""Repairing a damaged partition: what comes back, what is lost, and that it is said exactly."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.engine.encoding import decode_from
from logbroker.errors import PartitionDamaged
from logbroker.log import mending
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.mending import Kind, Mode
from logbroker.log.names import DIGEST, LOG, TORN_SUFFIX, file_name
from logbroker.log.partition import PartitionLog
from logbroker.log.repair import RepairPlan, back_up, carry_out, plan_repair
from logbroker.log.verify import DAMAGE, NOTE, verify_partition
from logbroker.model import StoredRecord
from tests.log.helpers import PATH, append, copy_of, flush, open_log, read_bytes, read_chunk, values

FIRST = f"{PATH}/{file_name(0, LOG)}"
RECORDS = 40


def written(*, segment_bytes: int = 2_000, count: int = RECORDS, closed: bool = True) -> MemoryFiles:
    """Files of a log of ``count`` batches of two records each, in several segments."""
    files = MemoryFiles()
    log = open_log(files, segment_bytes=segment_bytes)
    for number in range(count):
        append(log, b"%03d" % number * 40, b"second")
        flush(log)
    if closed:
        log.close()
    return files


def logs(files: MemoryFiles) -> list[str]:
    return sorted(path for path in files.contents if path.endswith(f".{LOG}"))


def flip(files: MemoryFiles, path: str, position: int, bit: int = 1) -> None:
    files.contents[path].data[position] ^= bit


def offsets_of(log: PartitionLog) -> list[int]:
    """The offsets of all records, read as the engine reads them."""
    found: list[StoredRecord] = []
    position = log.log_start_offset
    while position < log.end_offset:
        records, following = decode_from([read_chunk(log, position, 700, log.end_offset)], position, None)
        assert following > position
        found += records
        position = following
    return [one.offset for one in found]


def repaired(files: MemoryFiles, mode: Mode = Mode.SKIP) -> RepairPlan:
    plan = plan_repair(files, PATH, mode)
    back_up(files, plan, "repairs/1")
    carry_out(files, plan)
    return plan


def damages(files: MemoryFiles) -> list[str]:
    return [one.message for one in verify_partition(files, PATH) if one.severity == DAMAGE]


def batch_size(files: MemoryFiles) -> int:
    return int.from_bytes(files.contents[FIRST].data[8:12], "big") + 12


def test_an_undamaged_log_needs_nothing() -> None:
    for closed in (True, False):
        files = written(closed=closed)
        before = copy_of(files)
        plan = repaired(files)
        assert (plan.changes, plan.segments, plan.touched, plan.checkpoint) == ([], [], [], None)
        assert {path: one.data for path, one in files.contents.items()} == {
            path: one.data for path, one in before.contents.items()
        }


@pytest.mark.parametrize("byte", range(21))
@pytest.mark.parametrize("batch", [0, 3, -1])
def test_a_changed_byte_of_a_header_that_no_crc_covers_loses_nothing(byte: int, batch: int) -> None:
    """Base offset, length, epoch, magic and the CRC itself of a sealed segment: the digest proves what was there."""
    files = written()
    intact = read_bytes(files, FIRST)
    size = batch_size(files)
    flip(files, FIRST, (batch % (len(intact) // size)) * size + byte, 0x10)
    assert damages(files)
    plan = repaired(files)
    assert [(one.kind, one.lost) for one in plan.changes] == [(Kind.MENDED, 0)]
    assert read_bytes(files, FIRST) == intact
    assert damages(files) == []


def test_records_that_are_lost_leave_a_gap_that_readers_pass() -> None:
    files = written()
    size = batch_size(files)
    flip(files, FIRST, 3 * size + 100)
    plan = repaired(files)
    assert [(one.kind, one.first_offset, one.last_offset, one.lost) for one in plan.changes] == [(Kind.SKIPPED, 6, 7, 2)]
    assert plan.changes[0].position == 3 * size
    assert damages(files) == []
    log = open_log(files)
    assert offsets_of(log) == [one for one in range(2 * RECORDS) if one not in (6, 7)]
    records, _ = decode_from([read_chunk(log, 7, 10_000, log.end_offset)], 7, None)
    assert records[0].offset == 8
    assert append(log, b"new").base_offset == 2 * RECORDS


def test_what_was_changed_is_kept_as_it_was() -> None:
    files = written()
    flip(files, FIRST, 200)
    before = {path: bytes(one.data) for path, one in files.contents.items()}
    plan = repaired(files)
    assert FIRST.rpartition("/")[2] in plan.touched
    for name in plan.touched:
        path = f"{PATH}/{name}"
        if path in before:
            assert read_bytes(files, f"repairs/1/{name}") == before[path]


def test_cutting_drops_everything_behind_and_says_so() -> None:
    files = written()
    paths = logs(files)
    size = batch_size(files)
    flip(files, paths[1], size + 100)
    start = int(paths[1][-24:-4])
    plan = repaired(files, Mode.TRUNCATE)
    assert {one.kind for one in plan.changes} == {Kind.CUT}
    assert plan.changes[0].first_offset == start + 2
    assert sum(one.lost for one in plan.changes) == 2 * RECORDS - start - 2
    assert plan.changes[-1].last_offset == 2 * RECORDS - 1
    log = open_log(files)
    assert offsets_of(log) == list(range(start + 2))
    assert damages(files) == []


def test_a_batch_that_is_lost_in_the_active_segment_is_passed_too() -> None:
    files = written(segment_bytes=1 << 20)
    size = batch_size(files)
    flip(files, FIRST, 5 * size + 80)
    repaired(files)
    log = open_log(files)
    assert offsets_of(log) == [one for one in range(2 * RECORDS) if one not in (10, 11)]
    assert not log.recovery.torn_files


def test_flushed_bytes_missing_at_the_end_never_give_an_offset_twice() -> None:
    files = written(segment_bytes=1 << 20)
    size = batch_size(files)
    del files.contents[FIRST].data[(RECORDS - 3) * size + 10 :]
    plan = repaired(files)
    assert [(one.first_offset, one.last_offset) for one in plan.changes] == [(2 * RECORDS - 6, 2 * RECORDS - 1)]
    log = open_log(files)
    assert offsets_of(log) == list(range(2 * RECORDS - 6))
    assert append(log, b"new").base_offset == 2 * RECORDS


def test_a_tail_that_was_never_flushed_is_left_to_recovery() -> None:
    files = written(segment_bytes=1 << 20)
    files.contents[FIRST].data += b"half a batch"
    assert plan_repair(files, PATH, Mode.SKIP).changes == []
    log = open_log(files)
    assert offsets_of(log) == list(range(2 * RECORDS))
    assert log.recovery.torn_files[0].endswith(TORN_SUFFIX)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_file_is_passed(which: int) -> None:
    files = written()
    paths = logs(files)
    bases = [*(int(path[-24:-4]) for path in paths), 2 * RECORDS]
    number = which % len(paths)
    files.unlink(paths[number])
    plan = repaired(files)
    assert sum(one.lost for one in plan.changes) == bases[number + 1] - bases[number]
    log = open_log(files)
    lost = range(bases[number], bases[number + 1])
    assert offsets_of(log) == [one for one in range(2 * RECORDS) if one not in lost]
    assert append(log, b"new").base_offset == 2 * RECORDS
    assert damages(files) == []


def test_a_partition_without_any_log_file_goes_on_at_its_end() -> None:
    files = written()
    for path in logs(files):
        files.unlink(path)
    plan = repaired(files)
    assert [(one.first_offset, one.last_offset) for one in plan.changes] == [(0, 2 * RECORDS - 1)]
    log = open_log(files)
    assert offsets_of(log) == []
    assert append(log, b"new").base_offset == 2 * RECORDS


def test_a_repair_that_was_broken_off_can_be_done_again() -> None:
    files = written()
    for number in (0, 1):
        flip(files, logs(files)[number], 150)
    plan = plan_repair(files, PATH, Mode.SKIP)
    carry_out(files, plan._replace(segments=plan.segments[:1], checkpoint=None))
    assert damages(files)
    assert [one.kind for one in repaired(files).changes] == [Kind.SKIPPED]
    assert len(offsets_of(open_log(files))) == 2 * RECORDS - 4


def test_a_second_repair_of_a_segment_with_a_gap_leaves_the_gap() -> None:
    files = written()
    size = batch_size(files)
    flip(files, FIRST, 2 * size + 100)
    repaired(files)
    flip(files, FIRST, 4 * size + 100)
    carry_out(files, plan_repair(files, PATH, Mode.SKIP))
    assert damages(files) == []
    assert len(offsets_of(open_log(files))) == 2 * RECORDS - 4


def test_a_compaction_that_was_interrupted_is_finished_first() -> None:
    files = written()
    files.create(f"{FIRST}.swap")
    with pytest.raises(PartitionDamaged, match="start the broker once"):
        plan_repair(files, PATH, Mode.SKIP)


def test_in_a_compacted_segment_the_gaps_stay_and_only_what_is_damaged_goes() -> None:
    files = written()
    size = batch_size(files)
    for batch in (1, 3):  # as compaction leaves it: gaps, and a digest that counts the records
        flip(files, FIRST, batch * size + 100)
    repaired(files)
    files.rmtree("repairs/1")
    size_of_gap = 61
    flip(files, FIRST, size + size_of_gap + 12)  # the epoch of a batch between
    plan = repaired(files)
    assert [(one.kind, one.lost) for one in plan.changes] == [(Kind.MENDED, 0)]
    assert damages(files) == []
    assert offsets_of(open_log(files)) == [one for one in range(2 * RECORDS) if one not in (2, 3, 6, 7)]


def test_repairing_without_a_digest_still_loses_only_what_is_damaged() -> None:
    files = written()
    files.unlink(f"{PATH}/{file_name(0, DIGEST)}")
    flip(files, FIRST, 5, 0x10)
    plan = repaired(files)
    assert [one.kind for one in plan.changes] == [Kind.MENDED]
    assert [one.severity for one in verify_partition(files, PATH)].count(NOTE) == 0
    assert len(offsets_of(open_log(files))) == 2 * RECORDS


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 30), st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=4),
    mode=st.sampled_from(Mode),
    segment_bytes=st.sampled_from([1_000, 3_000, 1 << 20]),
    closed=st.booleans(),
)
def test_whatever_bytes_change_a_repair_keeps_the_rest_and_counts_what_is_lost(
    places: list[tuple[int, float, int]], mode: Mode, segment_bytes: int, closed: bool
) -> None:
    files = written(segment_bytes=segment_bytes, count=20, closed=closed)
    intact = {one.offset: one.value for one in all_records(open_log(copy_of(files)))}
    paths = logs(files)
    for number, fraction, bits in places:
        data = files.contents[paths[number % len(paths)]].data
        if data:
            data[int(fraction * len(data))] ^= bits
    plan = repaired(files, mode)
    assert plan_repair(files, PATH, mode).changes == []
    log = open_log(files)
    found = {one.offset: one.value for one in all_records(log)}
    assert found.items() <= intact.items()
    lost = {offset for one in plan.changes if one.lost for offset in range(one.first_offset, one.last_offset + 1)}
    never_flushed = set() if closed else set(intact) - set(range(log.end_offset))
    assert intact.keys() - found.keys() <= lost | never_flushed
    if mode is Mode.SKIP:
        assert lost.isdisjoint(found)


def all_records(log: PartitionLog) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    position = log.log_start_offset
    while position < log.end_offset:
        records, position = decode_from([read_chunk(log, position, 1 << 20, log.end_offset)], position, None)
        found += records
    return found


def test_control_a_repair_without_its_proof_invents_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking any bytes for a batch once its CRC is set right is what the proof keeps from happening."""

    def unproven(planner: mending._Planner, position: int, end: int, after: int | None) -> bytes | None:
        planner._trusting = True
        return mended(planner, position, end, after)

    mended: Callable[[mending._Planner, int, int, int | None], bytes | None] = mending._Planner._mended
    files = written()
    flip(files, FIRST, 3 * batch_size(files) + 100)
    intact = values(all_records(open_log(written())))
    monkeypatch.setattr(mending._Planner, "_mended", unproven)
    repaired(files)
    assert values(all_records(open_log(files))) != intact
    assert len(all_records(open_log(files))) == len(intact)
