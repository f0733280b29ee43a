"""A call to the system that fails: the caller is told, nothing is half done, and nothing acknowledged is lost.

SQLite's scheme: let the n-th call fail, for every n, once and for good, with each error that a disk knows.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from logbroker.errors import DiskFull, FlushFailed, StorageError
from logbroker.log.files.crashes import everything, flushed_only
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.partition import PartitionLog
from logbroker.model import ProducerStamp
from tests.log.helpers import NOW, PATH, append, batch, flush, open_log, read_all, values

SETTINGS = {"segment_bytes": 900, "index_interval_bytes": 100}
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)


class Told(NamedTuple):
    """What a client was told."""

    acknowledged: list[bytes]
    refused: list[bytes]
    log_start: int


def work(files: FaultFiles) -> Told:
    """Open, append, flush, roll, trim and close, as the engine does it: a flush that fails ends it."""
    acknowledged: list[bytes] = []
    refused: list[bytes] = []
    unflushed: list[bytes] = []
    start = 0
    try:
        log = open_log(files, NOW, **SETTINGS)
    except StorageError:
        return Told(acknowledged, refused, start)
    for number in range(14):
        value = b"%02d" % number * 60
        stamp = ProducerStamp(1, 0, log.end_offset) if number % 3 == 0 else None
        try:
            log.append(batch(value, producer=stamp and stamp._replace(base_sequence=_sequence(log))), NOW)
            unflushed.append(value)
        except FlushFailed:
            break
        except StorageError:
            refused.append(value)
        if number == 9:
            try:
                start = log.trim(log.flushed_offset // 2, NOW)
            except FlushFailed:
                break
            except StorageError:
                pass
        if number % 2:
            try:
                flush(log)
            except StorageError:
                break
            acknowledged += unflushed
            unflushed = []
    else:
        try:
            log.close()
            acknowledged += unflushed
        except StorageError:
            pass
    return Told(acknowledged, refused, start)


def _sequence(log: PartitionLog) -> int:
    known = log.producers()
    return known[0].last_sequence + 1 if known else 0


def points() -> Iterator[tuple[int, int, bool]]:
    """Every call, each error, once and for good."""
    files = FaultFiles()
    assert work(files).refused == []
    for number in range(files.changes):
        for error in ERRORS:
            for for_good in (False, True):
                yield number, error, for_good


def check(files: MemoryFiles, told: Told, when: str) -> None:
    log = open_log(files, NOW, **SETTINGS)
    found = values(read_all(log, 0)) if log.log_start_offset == 0 else values(read_all(log))
    kept = told.acknowledged[max(told.log_start, log.log_start_offset) :]
    assert [value for value in found if value in kept] == kept, when
    assert not [value for value in found if value in told.refused], when
    assert len(set(found)) == len(found), when
    appended = append(log, b"afterwards")
    assert values(read_all(log, appended.base_offset)) == [b"afterwards"], when


def test_whichever_call_fails_nothing_acknowledged_is_lost_and_nothing_refused_is_there() -> None:
    count = 0
    for number, error, for_good in points():
        files = FaultFiles()
        files.fail_next(None, OSError(error, os.strerror(error)), after=number, for_good=for_good)
        told = work(files)
        when = f"call {number} fails with {errno.errorcode[error]}, {'for good' if for_good else 'once'}"
        check(everything(files.operations), told, f"{when}, killed")
        check(flushed_only(files.operations), told, f"{when}, power lost")
        count += 1
    assert count > 400


def test_a_write_that_fails_changes_nothing_and_the_next_one_goes_on() -> None:
    files = FaultFiles()
    log = open_log(files, NOW, index_interval_bytes=0)
    append(log, b"first")
    before = log.segments(), log.size_bytes, log.end_offset
    files.fail_next("write", OSError(errno.ENOSPC, "no space"))
    with pytest.raises(DiskFull):
        append(log, b"refused")
    assert (log.segments(), log.size_bytes, log.end_offset) == before
    assert append(log, b"second").base_offset == 1
    assert values(read_all(log)) == [b"first", b"second"]


def test_no_room_for_an_index_refuses_the_append_before_anything_is_written() -> None:
    files = FaultFiles()
    log = open_log(files, NOW, index_interval_bytes=100)
    append(log, b"first")
    size = log.size_bytes
    files.fail_next("truncate", OSError(errno.ENOSPC, "no space"))
    with pytest.raises(DiskFull):
        append(log, b"refused")
    assert log.size_bytes == size
    assert files.size(f"topics/orders/0/{0:020d}.log") == size
    append(log, b"second")
    assert values(read_all(log)) == [b"first", b"second"]


def test_a_roll_for_which_there_is_no_room_leaves_the_active_segment_to_go_on() -> None:
    for number in range(12):
        files = FaultFiles()
        log = open_log(files)
        append(log, b"first")
        files.fail_next(None, OSError(errno.ENOSPC, "no space"), after=number)
        try:
            log.roll(NOW)
        except FlushFailed:
            with pytest.raises(FlushFailed):
                append(log, b"too late")
            continue
        except StorageError:
            assert len(log.segments()) == 1
        files.heal()
        append(log, b"second")
        log.roll(NOW)
        append(log, b"third")
        log.close()
        again = open_log(files)
        assert again.recovery.clean
        assert values(read_all(again)) == [b"first", b"second", b"third"]


def test_after_a_failed_flush_of_a_name_nothing_is_written() -> None:
    files = FaultFiles()
    log = open_log(files)
    append(log, b"first")
    files.fail_next("sync_dir", OSError(errno.EIO, "broken"))
    with pytest.raises(FlushFailed):
        log.roll(NOW)
    for call in (lambda: append(log, b"x"), lambda: log.trim(1, NOW), log.begin_flush, lambda: log.roll(NOW)):
        with pytest.raises(FlushFailed):
            call()
    assert values(read_all(log)) == [b"first"]


def test_a_checkpoint_that_cannot_be_written_only_makes_the_next_start_read_more() -> None:
    files = FaultFiles()
    log = open_log(files)
    later = NOW._replace(mono_ms=NOW.mono_ms + 5000)
    append(log, b"first", now=later)
    ticket = log.begin_flush()
    assert ticket is not None
    assert ticket.checkpoint_due
    ticket.sync()
    files.fail_next("create", OSError(errno.ENOSPC, "no space"))
    log.finish_flush(ticket)
    assert log.flushed_offset == 1
    again = open_log(files)
    assert again.recovery.bytes_read == log.size_bytes


def test_a_trim_that_cannot_be_stored_deletes_nothing() -> None:
    files = FaultFiles()
    log = open_log(files, NOW, segment_bytes=100)
    for number in range(4):
        append(log, b"%d" % number * 60)
        flush(log)
    files.fail_next("write", OSError(errno.ENOSPC, "no space"))
    with pytest.raises(DiskFull):
        log.trim(2, NOW)
    assert log.log_start_offset == 0
    assert len(read_all(log)) == 4
    assert log.trim(2, NOW) == 2


def test_a_file_that_cannot_be_removed_is_removed_later() -> None:
    files = FaultFiles()
    log = open_log(files, NOW, segment_bytes=100)
    for number in range(4):
        append(log, b"%d" % number * 60)
        flush(log)
    files.fail_next("unlink", OSError(errno.EIO, "broken"), after=1)
    assert log.trim(1, NOW) == 1
    assert log.trim(2, NOW) == 2
    assert [name for name in files.listdir(PATH) if name.startswith((f"{0:020d}", f"{1:020d}"))] == []


def test_a_rest_that_could_not_be_taken_back_is_cut_before_the_next_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DiskFiles(tmp_path)
    log = open_log(files)
    append(log, b"first")
    path = tmp_path / f"topics/orders/0/{0:020d}.log"
    size = path.stat().st_size
    pwritev = os.pwritev

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    def half(descriptor: int, parts: Sequence[bytes], position: int) -> int:
        return pwritev(descriptor, [b"".join(parts)[:50]], position)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", half)
        patch.setattr(os, "pwrite", refuse)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(StorageError):
            append(log, b"refused")
    assert path.stat().st_size == size + 50
    log._segments.active.log.let_go()  # as when other files were used more
    append(log, b"second")
    assert values(read_all(log)) == [b"first", b"second"]
    assert values(read_all(open_log(files))) == [b"first", b"second"]
