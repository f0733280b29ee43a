"""What nobody takes is dropped after a time; what is held, or was left out, is not confused with it."""

import pytest

from logbroker.queues import commands as c
from logbroker.queues.aging import MARKS
from logbroker.queues.events import Marked, Skipped
from logbroker.queues.positions import Position, Source
from tests.queues.world import World, text

KEEP_MS = 32_000


def age(world: World) -> int:
    dropped: int = world.do(c.Age(len(world.logs[Source.SOURCE].records), KEEP_MS))
    return dropped


def test_a_message_is_kept_as_long_as_promised_and_then_dropped_with_its_count() -> None:
    world = World()
    world.publish("a", "b")
    assert age(world) == 0
    world.advance(KEEP_MS - 1)
    world.publish("c")
    assert age(world) == 0
    world.advance(1)
    assert age(world) == 2
    assert world.ready() == ["c"]


def test_what_a_consumer_holds_is_not_dropped() -> None:
    world = World()
    world.publish("a", "b", "c")
    age(world)
    world.advance(KEEP_MS - 1_000)
    a, b = world.receive(2, lease_ms=60_000)
    world.do(c.Release((a.receipt,)))
    world.advance(1_000)
    assert age(world) == 2
    assert world.open_positions() == {"b": [Position(Source.SOURCE, 1)]}
    assert world.ack(b.receipt) == [None]
    assert (world.machine.floor(Source.SOURCE), world.machine._state.hard.returned) == (3, {})


def test_what_is_dropped_stays_dropped_after_a_crash() -> None:
    world = World()
    world.publish("a", "b")
    age(world)
    held = world.one(lease_ms=90_000)
    world.advance(KEEP_MS)
    age(world)
    before = world.machine._state.hard
    world.crash()
    assert world.machine._state.hard.logs == before.logs
    assert world.ready() == []
    assert world.ack(held.receipt) == [None]


def test_a_message_that_failed_waits_in_the_retry_topic_whatever_its_age() -> None:
    world = World()
    world.publish("a")
    age(world)
    world.nack(world.one().receipt, delay_ms=10 * KEEP_MS)
    world.advance(10 * KEEP_MS)
    assert age(world) == 0
    assert world.ready() == ["a"]


def test_a_key_goes_on_when_what_stood_before_it_was_dropped() -> None:
    world = World()
    world.machine._state.rules = world.rules = type(world.rules)(ordered=True, retry=world.rules.retry)
    world.publish("a", "b", key="k")
    world.fill()
    age(world)
    world.advance(KEEP_MS)
    world.publish("c", key="k")
    assert age(world) == 2
    assert world.ready() == ["c"]


def test_after_a_seek_the_time_begins_anew() -> None:
    world = World()
    world.publish("a")
    age(world)
    world.advance(KEEP_MS)
    world.do(c.Seek(0))
    assert age(world) == 0
    assert [text(one) for one in world.receive()] == ["a"]
    world.advance(KEEP_MS - 1)
    assert age(world) == 0


def test_there_are_few_marks_however_often_one_looks() -> None:
    world = World()
    for _ in range(10 * MARKS):
        world.publish("x")
        world.advance(KEEP_MS // MARKS // 4)
        age(world)
    assert len(world.machine._state.hard.marks) <= MARKS + 2
    assert sum(isinstance(event, Marked) for event in world.machine.snapshot()) <= MARKS + 2


def test_nothing_is_noted_for_a_reader_that_keeps_up() -> None:
    world = World()
    world.publish("a")
    world.ack(world.one().receipt)
    written = len(world.journal)
    world.advance(KEEP_MS)
    age(world)
    assert len(world.journal) == written


# -- left out ----------------------------------------------------------------------------------------------------------


def test_what_a_filter_leaves_out_is_one_event_for_a_whole_read() -> None:
    world = World()
    world.takes = lambda record: record.offset % 3 == 0
    world.publish(*(str(n) for n in range(300)))
    written = len(world.journal)
    world.fill()
    assert len(world.journal) == written + 1
    assert len(world.journal[-1]) < 300
    assert world.machine.floor(Source.SOURCE) == 0
    assert world.machine.backlog(300) == 100


def test_a_leased_message_that_a_filter_would_leave_out_now_stays_leased() -> None:
    world = World()
    world.publish("a", "b", "c")
    held = world.receive(2)[1]
    world.takes = lambda record: record.offset != 1
    world.crash()
    assert world.ready() == ["c"]
    assert world.open_positions()["b"] == [Position(Source.SOURCE, 1)]
    assert world.ack(held.receipt) == [None]


@pytest.mark.parametrize("spans", [[], [(5, 6)], [(5, 9), (12, 13)], [(7, 8), (8, 9)]])
def test_runs_tell_the_spans_they_were_made_of(spans: list[tuple[int, int]]) -> None:
    assert list(Skipped.over(5, spans).spans()) == spans
