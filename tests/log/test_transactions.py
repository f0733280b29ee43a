"""Transactions in one partition: where the stable part of the log ends, and which transactions were aborted.

The model knows nothing of indexes and snapshots: it walks all batches that stand in the log.
"""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.config import DAY_MS
from logbroker.errors import InvalidProducerEpoch, InvalidTransactionState, OutOfOrderSequence
from logbroker.log.aborted import ENTRY, Aborted
from logbroker.log.files import Files
from logbroker.log.files.crashes import crash_states
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.partition import PartitionLog
from logbroker.log.verify import verify_partition
from logbroker.model import Now, ProducerStamp
from logbroker.records.batch import check_batch, iter_headers, parse_header
from logbroker.records.codec import decode
from logbroker.records.markers import encode_marker, is_commit
from tests.log.helpers import (
    NOW,
    PATH,
    append,
    batch,
    copy_of,
    flush,
    open_log,
    read_bytes,
    read_chunk,
    transactional,
    write_bytes,
)

SETTINGS: dict[str, Any] = {"segment_bytes": 700, "index_interval_bytes": 100}


class Facts(NamedTuple):
    """What a walk over the whole log finds."""

    first_open: int | None
    aborted: list[tuple[int, int, int]]
    """Producer id, first offset, offset of the marker."""


def facts_of(log: PartitionLog) -> Facts:
    open_since: dict[int, int] = {}
    aborted = []
    position = log.log_start_offset
    while chunk := read_chunk(log, position, 4096, log.end_offset):
        for at, header in iter_headers(chunk):
            position = header.next_offset
            if header.is_control:
                first = open_since.pop(header.producer_id, None)
                if first is not None and is_commit(chunk, at) is False:
                    aborted.append((header.producer_id, first, header.base_offset))
            elif header.is_transactional:
                open_since.setdefault(header.producer_id, max(header.base_offset, log.log_start_offset))
    return Facts(min(open_since.values(), default=None), aborted)


def check_facts(log: PartitionLog) -> None:
    """What the log says of its transactions is what stands in it, over every stretch of it."""
    facts = facts_of(log)
    assert log.first_undecided(log.end_offset) == facts.first_open
    stable = log.end_offset if facts.first_open is None else facts.first_open
    start = log.log_start_offset
    for offset in range(start, stable):
        for upto in {offset + 1, (offset + stable + 1) // 2, stable}:
            given = log.aborted(offset, upto)
            assert given is not None
            assert not given or log.aborted(offset, upto, len(given) - 1) is None
            assert log.aborted(offset, upto, len(given)) == given
            found = {(one.producer_id, max(one.first_offset, start), one.last_offset) for one in given}
            needed = {one for one in facts.aborted if one[1] < upto and one[2] >= offset}
            trimmed = {one for one in found if one[1] == start}
            assert needed <= found <= {*facts.aborted, *trimmed}, (offset, upto)


class Producer:
    """One transactional producer of a test log."""

    def __init__(self, number: int, epoch: int = 0) -> None:
        self.number, self.epoch, self.sequence = number, epoch, 0

    def write(self, log: PartitionLog, *values: bytes) -> int:
        data = transactional(*values, producer=self.number, epoch=self.epoch, sequence=self.sequence)
        self.sequence += len(values)
        return log.append(data, NOW, transactional=True).base_offset

    def end(self, log: PartitionLog, committed: bool) -> int | None:
        appended = log.end_transaction(self.number, self.epoch, committed, NOW)
        return None if appended is None else appended.base_offset


def test_a_marker_is_a_control_batch_as_kafka_writes_it() -> None:
    for committed in (True, False):
        data = encode_marker(11, 3, committed, NOW.wall_ms)
        header = parse_header(data)
        check_batch(data, 0, header)
        assert (header.is_control, header.is_transactional, header.base_sequence) == (True, True, -1)
        assert (header.producer_id, header.producer_epoch) == (11, 3)
        (record,) = decode(data, control=True)
        assert record.key == (b"\0\0\0\1" if committed else b"\0\0\0\0")
        assert record.value == b"\0\0\0\0\0\0"
        assert is_commit(data, 0) is committed


def test_the_stable_part_ends_where_the_oldest_open_transaction_begins(files: Files) -> None:
    log = open_log(files)
    one, two = Producer(1), Producer(2)
    append(log, b"plain")
    assert log.first_undecided(1) is None
    one.write(log, b"a")
    two.write(log, b"b")
    one.write(log, b"c")
    assert log.first_undecided(4) == 1
    assert one.end(log, True) == 4
    assert log.first_undecided(5) == 2
    assert two.end(log, True) == 5
    assert log.first_undecided(6) is None


def test_a_transaction_is_undecided_until_its_marker_is_below_the_high_watermark(files: Files) -> None:
    """A crash can take back what is not flushed, the marker too."""
    log = open_log(files)
    producer = Producer(1)
    producer.write(log, b"a")
    marker = producer.end(log, True)
    assert marker == 1
    assert log.first_undecided(1) == 0
    assert log.first_undecided(2) is None


def test_an_aborted_transaction_stands_in_kafkas_index(files: Files) -> None:
    log = open_log(files)
    one, two = Producer(1), Producer(2)
    one.write(log, b"a")
    two.write(log, b"b")
    two.end(log, False)
    assert log.aborted(0, 1) == []
    one.end(log, False)
    expected = [Aborted(2, 1, 2, 0), Aborted(1, 0, 3, 4)]
    assert log.aborted(0, 4) == expected
    flush(log)
    stored = read_bytes(files, f"{PATH}/{0:020d}.txnindex")
    assert [fields[1:] for fields in ENTRY.iter_unpack(stored)] == expected
    assert {fields[0] for fields in ENTRY.iter_unpack(stored)} == {0}


def test_a_marker_is_written_once_and_lets_in_no_lower_epoch(files: Files) -> None:
    log = open_log(files)
    producer = Producer(1, epoch=4)
    producer.write(log, b"a")
    assert producer.end(log, True) == 1
    assert producer.end(log, True) is None
    assert log.end_transaction(1, 5, False, NOW) is not None
    with pytest.raises(InvalidProducerEpoch):
        producer.write(log, b"late")
    with pytest.raises(InvalidProducerEpoch):
        producer.end(log, True)
    with pytest.raises(OutOfOrderSequence):
        log.append(transactional(b"x", producer=1, epoch=5, sequence=3), NOW, transactional=True)
    log.append(transactional(b"x", producer=1, epoch=5), NOW, transactional=True)
    assert log.end_offset == 4


def test_a_batch_of_no_transaction_is_refused_while_one_is_open(files: Files) -> None:
    log = open_log(files)
    Producer(1).write(log, b"a")
    plain = transactional(b"b", producer=1, sequence=1)
    with pytest.raises(InvalidTransactionState):
        log.append(plain, NOW)
    with pytest.raises(InvalidTransactionState):
        log.append(batch(b"b", producer=ProducerStamp(1, 0, 1)), NOW, transactional=True)
    assert log.end_offset == 1


def test_a_producer_is_not_forgotten_while_its_transaction_is_open(files: Files) -> None:
    log = open_log(files)
    Producer(1).write(log, b"a")
    much_later = Now(NOW.wall_ms + 3 * DAY_MS, 3 * DAY_MS)
    log.roll(much_later)
    assert log.first_undecided(1) == 0
    log.close()
    log = open_log(files, much_later)
    assert log.recovery.clean
    assert log.first_undecided(1) == 0
    log.end_transaction(1, 0, True, much_later)
    assert log.first_undecided(2) is None


def test_trimming_into_an_open_transaction_leaves_nothing_below_the_log_start(files: Files) -> None:
    log = open_log(files)
    producer = Producer(1)
    producer.write(log, b"a")
    append(log, b"b", b"c")
    flush(log)
    log.trim(2, NOW)
    assert log.first_undecided(3) == 2
    producer.end(log, False)
    assert log.first_undecided(4) is None
    check_facts(log)


# -- crashes and lost files ------------------------------------------------------------------------------------------


def a_life(rng: random.Random, log: PartitionLog, steps: int) -> None:
    """Three producers, each in and out of transactions, flushes and rolls in between."""
    producers = [Producer(number) for number in range(3)]
    for _ in range(steps):
        producer = rng.choice(producers)
        match rng.randrange(7):
            case 0:
                append(log, b"plain")
            case 1:
                flush(log)
            case 2:
                producer.end(log, True)
            case 3:
                producer.end(log, False)
            case _:
                producer.write(log, b"v" * rng.choice((1, 60, 300)))
    for producer in producers[:2]:
        producer.end(log, False)


@pytest.mark.parametrize("seed", range(4))
def test_every_crash_leaves_transactions_as_they_stand_in_the_log(seed: int) -> None:
    rng = random.Random(seed)
    files = FaultFiles()
    a_life(rng, open_log(files, **SETTINGS), 30)
    states = 0
    for count in range(0, len(files.operations) + 1, 2):
        for state in crash_states(files.operations[:count], rng, subsets=1):
            log = open_log(state.files, **SETTINGS)
            check_facts(log)
            states += 1
            log.close()
            again = open_log(state.files, **SETTINGS)
            assert again.recovery.clean
            check_facts(again)
    assert states > 50


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_what_is_known_of_transactions_is_what_stands_in_the_log(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    files = MemoryFiles()
    log = open_log(files, **SETTINGS)
    a_life(rng, log, steps)
    check_facts(log)
    killed = open_log(copy_of(files), **SETTINGS)
    check_facts(killed)
    log.close()
    check_facts(open_log(files, **SETTINGS))


def lost(files: MemoryFiles, path: str) -> None:
    files.unlink(path)


def flipped(files: MemoryFiles, path: str) -> None:
    data = bytearray(read_bytes(files, path))
    data[len(data) // 2] ^= 0x10
    write_bytes(files, path, bytes(data))


def cut(files: MemoryFiles, path: str) -> None:
    write_bytes(files, path, read_bytes(files, path)[:-3])


@pytest.mark.parametrize("damage", [lost, flipped, cut])
@pytest.mark.parametrize("kind", ["txnindex", "digest", "producers"])
def test_no_file_beside_the_log_is_needed_to_know_its_transactions(
    kind: str, damage: Callable[[MemoryFiles, str], None]
) -> None:
    files = MemoryFiles()
    log = open_log(files, **SETTINGS)
    a_life(random.Random(5), log, 60)
    log.close()
    paths = [f"{PATH}/{name}" for name in files.listdir(PATH) if name.endswith(f".{kind}")]
    assert paths
    for path in paths:
        damage(files, path)
    for _ in range(2):
        log = open_log(files, **SETTINGS)
        check_facts(log)
        log.close()
    assert [one for one in verify_partition(files, PATH) if one.severity != "note"] == []


def test_a_damaged_index_of_aborted_transactions_is_found() -> None:
    files = MemoryFiles()
    log = open_log(files, **SETTINGS)
    a_life(random.Random(5), log, 60)
    log.close()
    assert list(verify_partition(files, PATH)) == []
    (path, *_) = [f"{PATH}/{name}" for name in files.listdir(PATH) if name.endswith(".txnindex")]
    flipped(files, path)
    assert [(one.severity, one.file) for one in verify_partition(files, PATH)] == [("derived", path)]
