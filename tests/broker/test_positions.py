"""Positions: their text, and what they mean in a log with gaps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.broker.positions import (
    EARLIEST,
    LATEST,
    AtOffset,
    AtTime,
    Last,
    format_vector,
    last_offsets,
    parse_position,
    parse_vector,
    resolve,
)
from logbroker.engine.api import Isolation
from logbroker.errors import InvalidOffset
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine

WHERE = TopicPartition("t", 0)
PLAIN = Isolation.READ_UNCOMMITTED
MAX = 2**63 - 1


def test_positions_are_read_from_text() -> None:
    assert parse_position("earliest") == EARLIEST
    assert parse_position("latest") == LATEST
    assert parse_position("12") == AtOffset(12)
    assert parse_position("ts:12") == AtTime(12)
    assert parse_position(str(MAX)) == AtOffset(MAX)


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", "1.0", "ts:", "ts:x", "ts:-1", "ts:ts:1", str(MAX + 1), "١", "1 "])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidOffset):
        parse_position(text)


@given(st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, MAX), min_size=1))
def test_a_vector_is_read_back_as_it_was_written(vector: dict[int, int]) -> None:
    assert parse_vector(format_vector(vector)) == vector


@pytest.mark.parametrize("text", ["", "0", "0:", ":1", "0:1,", "0:-1", "0:1:2", "a:1", f"0:{MAX + 1}"])
def test_a_vector_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOffset):
        parse_vector(text)


@pytest.mark.asyncio
@pytest.mark.parametrize("gap", [0, 1, 40])
async def test_the_last_records_are_found_across_gaps(gap: int) -> None:
    engine = FakeEngine(gap=gap)
    await engine.create_topic("t", 1, {})
    offsets = [(await engine.append(WHERE, [Record(b"x")])).base_offset for _ in range(9)]
    end = (await engine.bounds(WHERE)).high_watermark
    for count in (1, 2, 8, 9, 50):
        assert await last_offsets(engine, WHERE, end, count, PLAIN) == offsets[-count:]
        assert await resolve(engine, WHERE, Last(count), PLAIN) == offsets[-min(count, 9)]
    assert await last_offsets(engine, WHERE, offsets[4], 2, PLAIN) == offsets[2:4]
    assert await last_offsets(engine, WHERE, 0, 2, PLAIN) == []


@pytest.mark.asyncio
async def test_in_an_empty_partition_every_place_is_the_end() -> None:
    engine = FakeEngine()
    await engine.create_topic("t", 1, {})
    for position in (EARLIEST, LATEST, Last(5), AtTime(0)):
        assert await resolve(engine, WHERE, position, PLAIN) == 0
