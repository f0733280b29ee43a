"""What is checked before anything is written: sizes agree with the encoder, one error names every bad record."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.broker.checks import BATCH_OVERHEAD, exact_size, problems_of, refused, size_bound
from logbroker.config import TopicConfig
from logbroker.engine.api import TopicInfo
from logbroker.errors import InvalidTimestamp, MessageTooLarge, UnknownTopicOrPartition
from logbroker.model import Header, Record
from logbroker.records.codec import encode

NOW = 1_700_000_000_000
contents = st.none() | st.binary(max_size=200)
records = st.builds(
    Record,
    value=contents,
    key=contents,
    headers=st.lists(
        st.builds(Header, st.text(st.characters(exclude_categories=["Cs"]), max_size=70), contents), max_size=3
    ).map(tuple),
    timestamp_ms=st.just(NOW),
)


def topic(**config: object) -> TopicInfo:
    return TopicInfo("t", uuid4(), 2, {}, TopicConfig(**config), NOW)  # type: ignore[arg-type]  # free-form in tests


@given(records)
def test_the_exact_size_is_what_the_encoder_makes(record: Record) -> None:
    assert BATCH_OVERHEAD + exact_size(record) == len(encode([record], now_ms=NOW))


@given(st.lists(records, min_size=1, max_size=5))
def test_the_bound_is_never_too_small(many: list[Record]) -> None:
    assert BATCH_OVERHEAD + sum(map(size_bound, many)) >= len(encode(many, now_ms=NOW))


def check(info: TopicInfo, many: list[Record], partitions: list[int | None] | None = None) -> dict[int, type]:
    found = problems_of(info, many, partitions, list(map(size_bound, many)), NOW)
    return {index: type(problem) for index, problem in found.items()}


def test_good_records_have_no_problems() -> None:
    assert check(topic(), [Record(b"a", timestamp_ms=NOW)], [1]) == {}


def test_timestamps_are_held_to_what_the_topic_accepts() -> None:
    info = topic(message_timestamp_before_max_ms=10, message_timestamp_after_max_ms=20)
    times = [NOW - 11, NOW - 10, NOW + 20, NOW + 21]
    assert check(info, [Record(b"a", timestamp_ms=time) for time in times]) == {0: InvalidTimestamp, 3: InvalidTimestamp}
    stamping = topic(message_timestamp_type="LogAppendTime", message_timestamp_before_max_ms=10)
    assert check(stamping, [Record(b"a", timestamp_ms=0)]) == {}


def test_the_refusal_is_that_of_the_first_and_names_all() -> None:
    many = [Record(b"x" * 2_000, timestamp_ms=NOW), Record(b"a", timestamp_ms=NOW), Record(b"a", timestamp_ms=2 * NOW)]
    problems = problems_of(topic(max_message_bytes=1_000), many, [0, 9, 1], list(map(size_bound, many)), NOW)
    error = refused(problems)
    assert isinstance(error, MessageTooLarge)
    assert [(one["pointer"], one["code"]) for one in error.fields["errors"]] == [
        ("#/records/0/value", "MESSAGE_TOO_LARGE"),
        ("#/records/1/partition", UnknownTopicOrPartition.code),
        ("#/records/2/timestamp_ms", "INVALID_TIMESTAMP"),
    ]


@pytest.mark.parametrize("size", range(880, 960))
def test_a_record_is_too_large_exactly_when_its_batch_is(size: int) -> None:
    record = Record(b"x" * size, timestamp_ms=NOW)
    too_large = len(encode([record], now_ms=NOW)) > 1_000
    assert (check(topic(max_message_bytes=1_000), [record]) == {0: MessageTooLarge}) is too_large
