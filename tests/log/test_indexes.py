"""Whatever an index file holds, is as long as, or whether it is there: what is read stays the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from logbroker.log.files import Files
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY, SparseIndex
from logbroker.log.partition import PartitionLog
from logbroker.log.segment import Segment
from tests.log.helpers import NOW, PATH, append, copy_of, flush, open_log, read_all, read_bytes, read_chunk, write_bytes

SETTINGS: dict[str, Any] = {"segment_bytes": 1500, "index_interval_bytes": 150}
JITTER = (0, 50, -30, 20, 70, 10, 65, -5)


def fill(files: Files, batches: int = 40) -> PartitionLog:
    """A log of a few segments with timestamps that go up and down."""
    log = open_log(files, NOW, **SETTINGS)
    for number in range(batches):
        append(log, b"%d" % number, b"y" * 20, timestamp_ms=NOW.wall_ms + number * 10 + JITTER[number % len(JITTER)])
    flush(log)
    return log


def seen(log: PartitionLog) -> list[object]:
    """All that an index has a part in: reads from each offset, and look-ups around each time."""
    end = log.end_offset
    reads: list[object] = [bytes(read_chunk(log, offset, 1, end)) for offset in range(log.log_start_offset, end)]
    times = range(NOW.wall_ms - 40, NOW.wall_ms + 500, 7)
    return [*reads, *(log.offset_at(time, end) for time in times), log.max_timestamp(end), read_all(log)]


def entries_of(files: Files, kind: str, layout: Any) -> list[tuple[int, int]]:
    """The entries of all indexes of a kind, with the name of their file."""
    names = [name for name in files.listdir(PATH) if name.endswith(f".{kind}")]
    return [entry for name in names for entry in layout.iter_unpack(read_bytes(files, f"{PATH}/{name}"))]


def test_entries_stand_where_kafka_puts_them() -> None:
    """An entry for the first batch behind more than the interval; its offset is the last of the batch."""
    files = MemoryFiles()
    log = open_log(files, NOW, index_interval_bytes=200)
    sizes = []
    for number, timestamp in enumerate([5, 9, 3, 20, 20, 7, 30]):
        before = log.size_bytes
        append(log, b"value", b"other", timestamp_ms=NOW.wall_ms + timestamp)
        sizes.append(log.size_bytes - before)
        assert number * 2 + 2 == log.end_offset
    assert len(set(sizes)) == 1
    size = sizes[0]
    assert 200 / 3 < size < 100
    log.close()
    # Three batches make more than 200 bytes: the fourth and the seventh get an entry.
    assert entries_of(files, "index", OFFSET_ENTRY) == [(7, 3 * size), (13, 6 * size)]
    assert entries_of(files, "timeindex", TIME_ENTRY) == [(NOW.wall_ms + 20, 7), (NOW.wall_ms + 30, 13)]


def test_the_largest_timestamp_is_noted_when_a_segment_is_sealed() -> None:
    files = MemoryFiles()
    log = open_log(files)
    append(log, b"a", timestamp_ms=NOW.wall_ms + 5)
    append(log, b"b", timestamp_ms=NOW.wall_ms + 3)
    log.roll(NOW)
    assert entries_of(files, "timeindex", TIME_ENTRY) == [(NOW.wall_ms + 5, 0)]


def test_index_files_appear_with_their_first_entry_and_are_cut_when_sealed() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, index_interval_bytes=100)
    assert not [name for name in files.listdir(PATH) if "index" in name]
    for _ in range(4):
        append(log, b"x" * 60)
    assert files.size(f"{PATH}/{0:020d}.index") == 4096
    log.roll(NOW)
    assert files.size(f"{PATH}/{0:020d}.index") % 8 == 0 < files.size(f"{PATH}/{0:020d}.index") < 4096


def test_an_index_doubles_as_it_fills() -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, index_interval_bytes=0)
    for _ in range(600):
        append(log, b"x")
    assert files.size(f"{PATH}/{0:020d}.index") == 8192
    assert [bytes(read_chunk(log, offset, 1, 600))[:8] for offset in (0, 300, 599)] == [
        offset.to_bytes(8, "big") for offset in (0, 300, 599)
    ]


def damages(content: bytes) -> Iterator[bytes | None]:
    """Every byte changed, every length, more than there was, other entries, and no file."""
    for position in range(len(content)):
        yield content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
    yield from (content[:size] for size in range(len(content)))
    yield content + b"\0" * 8
    yield content + b"\xff" * 24
    yield b"\0" * len(content)
    yield b"\xff" * len(content)
    yield None


def damaged_copies(files: MemoryFiles) -> Iterator[tuple[str, MemoryFiles]]:
    for path, content in list(files.contents.items()):
        if path.endswith("index"):
            for number, damage in enumerate(damages(bytes(content.data))):
                copy = copy_of(files)
                if damage is None:
                    copy.unlink(path)
                else:
                    write_bytes(copy, path, damage)
                yield f"{path}, damage {number}", copy


def test_every_damaged_index_of_a_closed_log_gives_the_same_reads() -> None:
    files = MemoryFiles()
    log = fill(files)
    expected = seen(log)
    assert len(log.segments()) >= 3
    log.close()
    count = 0
    for name, copy in damaged_copies(files):
        count += 1
        assert seen(open_log(copy, NOW, **SETTINGS)) == expected, name
    assert count > 500


def test_every_damaged_index_of_a_killed_log_gives_the_same_reads() -> None:
    files = MemoryFiles()
    log = fill(files, batches=14)
    expected = seen(log)
    for name, copy in mostly(damaged_copies(files), 40):
        assert seen(open_log(copy, NOW, **SETTINGS)) == expected, name


def mostly(items: Iterator[tuple[str, MemoryFiles]], step: int) -> Iterator[tuple[str, MemoryFiles]]:
    """Each ``step``-th: the files of an active segment are 4096 bytes, nearly all of them beyond the entries."""
    return (item for number, item in enumerate(items) if number % step == 0 or number < 200)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-5], lambda data: b"\xff" * len(data)])
def test_damaged_indexes_on_a_disk_raise_no_signal(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    files = DiskFiles(tmp_path)
    log = fill(files)
    expected = seen(log)
    log.close()
    for name in files.listdir(PATH):
        if name.endswith("index"):
            write_bytes(files, f"{PATH}/{name}", damage(read_bytes(files, f"{PATH}/{name}")))
    assert seen(open_log(files, NOW, **SETTINGS)) == expected


def test_an_index_cut_while_the_log_is_open_is_built_again_when_next_mapped(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    log = fill(files)
    expected = seen(log)
    for segment in log._segments:
        segment.let_go()  # as when other files were used more
    for name in files.listdir(PATH):
        if name.endswith("index"):
            write_bytes(files, f"{PATH}/{name}", b"")
    assert seen(log) == expected
    append(log, b"more")
    assert read_all(log)[-1].value == b"more"


def test_without_a_digest_a_sealed_segment_is_read_once_and_gets_one(tmp_path: Path) -> None:
    """As a segment that Kafka wrote."""
    files = DiskFiles(tmp_path)
    log = fill(files)
    expected = seen(log)
    log.close()
    digests = [f"{PATH}/{name}" for name in files.listdir(PATH) if name.endswith("digest")]
    before = [read_bytes(files, path) for path in digests]
    for path in digests:
        files.unlink(path)
    assert seen(open_log(files, NOW, **SETTINGS)) == expected
    assert [read_bytes(files, path) for path in digests] == before


def test_an_index_that_sends_a_reader_to_a_wrong_place_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it was whole when it was mapped."""
    files = MemoryFiles()
    log = fill(files)
    expected = seen(log)
    log.close()
    log = open_log(files, NOW, **SETTINGS)
    sealed = log._segments.first
    sealed.ready()
    sealed.index.file.mapping(writable=True).write(0, OFFSET_ENTRY.pack(3, 17))
    assert seen(log) == expected
    assert not sealed.index_lies


def test_control_an_index_that_is_believed_blindly_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles()
    log = fill(files)
    expected = seen(log)
    log.close()
    monkeypatch.setattr(SparseIndex, "is_whole", lambda self: True)
    monkeypatch.setattr(Segment, "index_lies", property(lambda self: False, lambda self, value: None))
    wrong = 0
    for _, copy in damaged_copies(files):
        try:
            wrong += seen(open_log(copy, NOW, **SETTINGS)) != expected
        except Exception:
            wrong += 1
    assert wrong
