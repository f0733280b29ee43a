"""However many logs there are, the open files stay within the limit."""

import gc
import os
from pathlib import Path

import pytest

from logbroker.config import TopicConfig
from logbroker.log.descriptors import Descriptors
from logbroker.log.files.disk import DiskFiles
from logbroker.log.partition import PartitionLog
from logbroker.model import TopicPartition
from tests.log.helpers import NOW, append, flush, read_all, values

LIMIT = 20


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def logs(tmp_path: Path) -> list[PartitionLog]:
    files, descriptors = DiskFiles(tmp_path), Descriptors(LIMIT)
    config = TopicConfig(segment_bytes=500, index_interval_bytes=0)
    return [
        PartitionLog.open(files, f"t/{number}", TopicPartition("t", number), config, NOW, descriptors)
        for number in range(60)
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux shows them")
def test_open_files_stay_within_the_limit(logs: list[PartitionLog]) -> None:
    gc.collect()
    before = open_descriptors()
    for round_ in range(4):
        for number, log in enumerate(logs):
            append(log, b"%d/%d" % (number, round_) * 20)
            assert open_descriptors() <= before + LIMIT + 3  # and what one operation itself holds
        for log in logs:
            flush(log)
            read_all(log)
            log.offset_at(NOW.wall_ms, log.end_offset)
        assert open_descriptors() <= before + LIMIT + 3
    for number, log in enumerate(logs):
        assert values(read_all(log)) == [b"%d/%d" % (number, round_) * 20 for round_ in range(4)]
    for log in logs:
        log.close()
    gc.collect()
    assert open_descriptors() <= before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux shows them")
def test_a_flush_of_many_segments_opens_them_one_at_a_time(logs: list[PartitionLog]) -> None:
    log = logs[0]
    gc.collect()
    before = open_descriptors()
    for number in range(100):
        append(log, b"%d" % number * 200)
    ticket = log.begin_flush()
    assert ticket is not None and len(ticket.files) > 100
    assert open_descriptors() <= before + LIMIT + 3
    ticket.sync()
    assert open_descriptors() <= before + LIMIT + 3
    log.finish_flush(ticket)
    assert log.flushed_offset == log.end_offset == 100


def test_a_flush_of_a_file_that_went_with_its_topic_is_no_failure(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    config = TopicConfig(segment_bytes=500)
    log = PartitionLog.open(files, "t", TopicPartition("t", 0), config, NOW, Descriptors(2))
    for number in range(5):
        append(log, b"%d" % number * 500)
    ticket = log.begin_flush()
    assert ticket is not None
    log.delete()
    files.rmtree("t")
    ticket.sync()


def test_a_flush_that_is_under_way_keeps_its_files_open(logs: list[PartitionLog]) -> None:
    append(logs[0], b"first")
    ticket = logs[0].begin_flush()
    assert ticket is not None
    for log in logs[1:]:
        append(log, b"x")
    ticket.sync()
    logs[0].finish_flush(ticket)
    assert logs[0].flushed_offset == 1


def test_a_limit_of_the_system_is_an_error_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from logbroker.errors import StorageError

    files = DiskFiles(tmp_path)
    log = PartitionLog.open(files, "t", TopicPartition("t", 0), TopicConfig(), NOW, Descriptors(LIMIT))
    append(log, b"a")

    def refuse(*_: object, **__: object) -> int:
        raise OSError(24, os.strerror(24))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StorageError, match="Too many open files"):
            log.roll(NOW)
    append(log, b"b")
    assert values(read_all(log)) == [b"a", b"b"]
