"""The windows of idempotent producers: Kafka's rules of sequence and epoch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.config import DAY_MS
from logbroker.errors import DuplicateSequence, InvalidProducerEpoch, LogbrokerError, OutOfOrderSequence
from logbroker.log.producers import Producers, decode_producers, encode_producers
from logbroker.records.batch import BatchHeader

LAST_SEQUENCE = 2**31 - 1


def header(sequence: int, count: int = 1, *, epoch: int = 0, producer: int = 7) -> BatchHeader:
    return BatchHeader(0, 100, 0, 2, 0, 0, count - 1, 0, 0, producer, epoch, sequence, count)


def wrote(*headers: BatchHeader, now_ms: int = 0) -> Producers:
    """Producers that appended these, one behind the other from offset 100."""
    producers = Producers()
    offset = 100
    for one in headers:
        assert producers.check([one]) is None
        producers.record(one, offset, -1, now_ms)
        offset += one.record_count
    return producers


def test_a_producer_may_begin_with_any_sequence_when_it_is_not_known() -> None:
    assert wrote(header(41)).check([header(42)]) is None


def test_a_batch_without_a_producer_is_never_checked() -> None:
    producers = wrote(header(-1, producer=-1), header(-1, producer=-1))
    assert len(producers) == 0


@pytest.mark.parametrize(
    ("written", "next_one", "error"),
    [
        ([header(0)], header(2), OutOfOrderSequence),
        ([header(0, 5)], header(3), OutOfOrderSequence),
        ([header(0, epoch=3)], header(1, epoch=2), InvalidProducerEpoch),
        ([header(0)], header(5, epoch=1), OutOfOrderSequence),
        ([header(number) for number in range(8)], header(1), DuplicateSequence),
        ([header(LAST_SEQUENCE)], header(1), OutOfOrderSequence),
    ],
    ids=["gap", "overlap", "old epoch", "new epoch in the middle", "older than the window", "gap over the wrap"],
)
def test_a_batch_that_does_not_follow_is_refused(
    written: list[BatchHeader], next_one: BatchHeader, error: type[LogbrokerError]
) -> None:
    with pytest.raises(error):
        wrote(*written).check([next_one])


@pytest.mark.parametrize(
    ("written", "next_one"),
    [
        ([header(0, 3)], header(3)),
        ([header(0)], header(0, epoch=1)),
        ([header(LAST_SEQUENCE)], header(0)),
        ([header(LAST_SEQUENCE - 1, 4)], header(2)),
        ([header(0)], header(9, producer=8)),
    ],
    ids=["next", "new epoch", "wraps", "wraps inside a batch", "another producer"],
)
def test_a_batch_that_follows_is_accepted(written: list[BatchHeader], next_one: BatchHeader) -> None:
    assert wrote(*written).check([next_one]) is None


def test_each_of_the_last_five_batches_is_recognised() -> None:
    written = [header(number * 2, 2) for number in range(9)]
    producers = wrote(*written)
    for number in range(4, 9):
        original = producers.check([written[number]])
        assert original is not None
        assert (original.base_offset, original.last_offset) == (100 + number * 2, 101 + number * 2)
    with pytest.raises(DuplicateSequence):
        producers.check([written[3]])


def test_batches_that_come_together_follow_each_other() -> None:
    producers = wrote(header(0))
    assert producers.check([header(1), header(2), header(3)]) is None
    with pytest.raises(OutOfOrderSequence):
        producers.check([header(1), header(3)])


def test_batches_that_were_appended_together_are_recognised_together() -> None:
    producers = wrote(header(0), header(1), header(2))
    original = producers.check([header(1), header(2)])
    assert original is not None
    assert (original.base_offset, original.last_offset) == (101, 102)
    with pytest.raises(OutOfOrderSequence, match="some were not"):
        producers.check([header(2), header(3)])


def test_a_new_epoch_forgets_the_batches_of_the_old_one() -> None:
    producers = wrote(header(0), header(1), header(0, epoch=1))
    with pytest.raises(InvalidProducerEpoch):
        producers.check([header(1)])
    assert [len(state.batches) for state in producers] == [1]


def test_who_has_not_appended_for_a_day_is_forgotten() -> None:
    producers = wrote(header(0), now_ms=1000)
    producers.expire(1000 + DAY_MS - 1)
    assert len(producers) == 1
    producers.expire(1000 + DAY_MS)
    assert len(producers) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**15 - 1), st.integers(0, LAST_SEQUENCE), st.integers(1, 9))
    )
)
def test_a_snapshot_gives_back_what_was_there(appends: list[tuple[int, int, int, int]]) -> None:
    producers = Producers()
    for number, (producer, epoch, sequence, count) in enumerate(appends):
        producers.record(header(sequence, count, epoch=epoch, producer=producer), number, number % 3 - 1, number)
    decoded = decode_producers(encode_producers(producers, 4711))
    assert decoded is not None
    assert (list(decoded[0]), decoded[1]) == (list(producers), 4711)


def test_every_changed_or_missing_byte_of_a_snapshot_is_noticed() -> None:
    data = encode_producers(wrote(header(0), header(1)), 102)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]
        assert decode_producers(changed) is None
        assert decode_producers(data[:position]) is None
