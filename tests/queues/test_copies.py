"""The reserved headers: what is written is read, and what is not ours is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.config import KIB
from logbroker.errors import CorruptMessage
from logbroker.model import Header, Now, Record, StoredRecord, TopicPartition
from logbroker.queues.copies import CopyPlan, delayed
from logbroker.queues.headers import MAX_HISTORY, CopyHeader, Happened, Reason, decoded, encoded, extended
from logbroker.queues.messages import arrived, came_back
from logbroker.queues.positions import MessageId, Place, Position, Receipt, Source, first_of, index_of
from logbroker.queues.rules import LeaseRules

NOW = Now(1_000, 0)
PLACE = Place("q", 0x1F, 3, 1, TopicPartition("q", 3), TopicPartition("q.retry", 3), TopicPartition("q.dlq", 3))
numbers = st.integers(0, 2**62)
positions = st.builds(Position, st.sampled_from(Source), numbers)
firsts = st.builds(Position, st.sampled_from([Source.SOURCE, Source.RETRY]), numbers)
ids = st.builds(MessageId, st.integers(0, 2**64 - 1), st.integers(0, 2**31 - 1), firsts)
optional = st.one_of(st.none(), st.binary(max_size=9))
headers = st.builds(
    CopyHeader,
    *(st.integers(0, 2**64 - 1), numbers, st.one_of(st.none(), positions), st.one_of(st.none(), ids)),
    *(numbers, numbers, numbers, numbers, numbers),
    *(st.text("ab.-", min_size=1), st.text("ab", min_size=1), st.sampled_from(Reason), numbers),
    *(optional, optional, optional),
)


@given(headers)
def test_what_is_encoded_is_decoded(header: CopyHeader) -> None:
    assert decoded(encoded(header)) == header


@given(ids, firsts, st.integers(0, 2**31 - 1), numbers)
def test_ids_indexes_and_receipts_keep_what_they_name(name: MessageId, first: Position, partition: int, n: int) -> None:
    assert MessageId.parse(str(name)) == name
    assert first_of(index_of(first)) == first
    receipt = Receipt(name.incarnation, partition, first, n, n)
    assert Receipt.parse(str(receipt)) == receipt


@pytest.mark.parametrize("broken", [(), (Header("lb-due", b"x"),), (Header("lb-replaces", b"z9"),)])
def test_a_record_that_is_no_copy_is_told_so(broken: tuple[Header, ...]) -> None:
    good = encoded(decoded(delayed(PLACE, 0, Record(b"v"), 5, NOW).headers))
    names = {header.name for header in broken}
    rest = tuple(header for header in good if header.name not in names) if broken else ()
    with pytest.raises(CorruptMessage, match="lb-"):
        decoded(rest + broken)


def test_a_delayed_message_is_its_own_first_position() -> None:
    record = delayed(PLACE, 2, Record(b"v", b"k", (Header("mine", b"1"), Header("lb-id", b"1-0-s0"))), 5_000, NOW)
    message = came_back(StoredRecord(9, 1_000, record.key, record.value, record.headers))
    assert (message.first, message.due_ms, message.failures) == (index_of(Position(Source.RETRY, 9)), 5_000, 0)
    assert (decoded(record.headers).replaces, decoded(record.headers).generation) == (None, 2)
    assert record.headers[0] == Header("mine", b"1")


def test_history_is_compressed_by_queue_and_reason_and_bounded() -> None:
    history: list[Happened] = []
    for n in range(40):
        header = CopyHeader(
            0, 0, None, None, 0, 0, 0, 0, 0, "q", "q", "nack", history=extended(history, f"q{n}", Reason.NACK, n)
        )
        history = header.happened()
    assert [line.queue for line in history] == [f"q{n}" for n in range(40 - MAX_HISTORY, 40)]


def test_the_headers_of_a_copy_stay_far_below_the_allowance_of_its_topic() -> None:
    name = "q" * 243
    place = PLACE._replace(queue=name, source=TopicPartition(name, 0))
    record = StoredRecord(2**62, 2**40, None, b"", ())
    for n in range(MAX_HISTORY + 2):
        position = Position(Source.RETRY if n else Source.SOURCE, 2**62)
        plan = CopyPlan(
            place._replace(queue=f"{n:03}" + name[3:]),
            *(2**31, position, Position(Source.SOURCE, 2**62), 10_000, 10_000, 2**42, 2**42),
            *(Reason.LEASE_EXPIRED, Reason.MAX_ATTEMPTS, "e" * 10_000),
        )
        record = StoredRecord(2**62, 2**40, None, b"", plan.make(record).headers)
    assert sum(len(header.name) + len(header.value or b"") + 10 for header in record.headers) < 32 * KIB


def test_a_time_to_live_that_is_not_a_number_is_none() -> None:
    for value in (b"", b"-5", b"1e3", b"9" * 30, None):
        record = StoredRecord(0, 10, None, b"v", (Header("logbroker-ttl-ms", value),))
        assert arrived(record).expires_ms(LeaseRules()) is None
    record = StoredRecord(0, 10, None, b"v", (Header("logbroker-ttl-ms", b"9"), Header("logbroker-ttl-ms", b"5")))
    assert arrived(record).expires_ms(LeaseRules()) == 15
