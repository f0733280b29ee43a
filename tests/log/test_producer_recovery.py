"""A start that reads the log for the windows of producers: damage on the way, control records that end nothing."""

from typing import Any

import pytest

from logbroker.errors import PartitionDamaged
from logbroker.log.files.crashes import flushed_only
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.names import LOG, file_name
from logbroker.model import ProducerStamp
from logbroker.records.batch import CONTROL_BIT, HEADER_SIZE, parse_header, sealed_header
from tests.log.helpers import NOW, PATH, append, batch, flush, open_log, read_all, values

FIRST = f"{PATH}/{file_name(0, LOG)}"


def with_producer(**settings: Any) -> MemoryFiles:
    """A log that was closed, with batches of an idempotent producer, whose snapshot is gone."""
    files = MemoryFiles()
    log = open_log(files, NOW, **settings)
    for number in range(4):
        log.append(batch(b"%d" % number * 40, producer=ProducerStamp(1, 0, number)), NOW)
    log.close()
    for name in files.listdir(PATH):
        if name.endswith(".producers"):
            files.unlink(f"{PATH}/{name}")
    return files


def test_damage_in_what_is_read_for_the_windows_fails_closed() -> None:
    files = with_producer()
    size = len(files.contents[FIRST].data) // 4
    files.contents[FIRST].data[2 * size + 70] ^= 1
    before = bytes(files.contents[FIRST].data)
    with pytest.raises(PartitionDamaged) as raised:
        open_log(files)
    assert raised.value.fields["position"] == 2 * size
    assert raised.value.fields["first_offset"] == 2
    assert bytes(files.contents[FIRST].data) == before


def test_windows_are_read_over_several_segments() -> None:
    log = open_log(with_producer(segment_bytes=250), NOW, segment_bytes=250)
    assert len(log.segments()) > 1
    [state] = log.producers()
    assert state.last_sequence == 3


def test_a_control_record_of_another_kind_ends_no_transaction() -> None:
    """Kafka's quorum writes some; a start reads past them."""
    files = MemoryFiles()
    log = open_log(files)
    append(log, b"first")
    flush(log)
    log.close()
    log = open_log(files)
    stamp = ProducerStamp(1, 0, 0)
    log.append(batch(b"open", producer=stamp), NOW)
    plain = memoryview(batch(b"x"))
    header = parse_header(plain)
    control = header._replace(attributes=header.attributes | CONTROL_BIT, base_offset=2)
    data = sealed_header(control, plain[HEADER_SIZE:]) + bytes(plain[HEADER_SIZE:])
    files.contents[FIRST].data += data
    again = open_log(files)
    assert again.end_offset == 3
    assert [state.last_sequence for state in again.producers()] == [0]
    assert values(read_all(again, 0, 2)) == [b"first", b"open"]


def test_a_log_whose_trimmed_records_were_lost_goes_on_behind_them() -> None:
    """The start is durable when trimmed, the records were not: no offset is given out twice."""
    files = FaultFiles()
    log = open_log(files)
    append(log, b"first", b"second")
    assert log.trim(2, NOW) == 2
    again = open_log(flushed_only(files.operations))
    assert (again.log_start_offset, again.end_offset) == (2, 2)
    assert append(again, b"third").base_offset == 2
