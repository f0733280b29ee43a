"""The journal of a lease machine: its bytes are fixed, and a state of any size fits into events of a bounded size."""

import time
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest

from logbroker.model import Now, StoredRecord
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.headers import CopyHeader, Reason
from logbroker.queues.messages import FoundCopy, arrived
from logbroker.queues.positions import MessageId, Position, Source
from logbroker.queues.schedule import Schedule
from logbroker.queues.snapshot import PER_EVENT
from tests.queues.world import World

POSITION = Position(Source.RETRY, 9)
GRANT = e.Grant(POSITION, 19, 1, 2, b"k")
STORED: list[tuple[Any, list[Any]]] = [
    (e.Leased(5, 6, 7, 30_000, "w", (GRANT,)), ["L", 5, 6, 7, 30_000, "w", [[[1, 9], 19, 1, 2, b"k"]]]),
    (e.Acked(5, (7, 8)), ["A", 5, [7, 8]]),
    (e.Released(5, (7,)), ["R", 5, [7]]),
    (e.Extended(5, ((7, 99),)), ["E", 5, [[7, 99]]]),
    (e.Copied(POSITION, None, 10), ["C", [1, 9], None, 10]),
    (e.Voided(POSITION, 10), ["V", [1, 9], 10]),
    (e.Seen(Source.DEAD, 10), ["N", 2, 10]),
    (e.Finished(Source.SOURCE, ((1, 2),)), ["F", 0, [[1, 2]]]),
    (e.Skipped.over(10, [(12, 13), (13, 15)]), ["K", 10, [2, 1, 0, 2]]),
    (e.Marked(99, 10), ["M", 99, 10]),
    (e.Aged(10), ["G", 10]),
    (e.Purged(1, 2), ["P", 1, 2]),
    (e.Sought(1, 2), ["S", 1, 2]),
    (e.Resumed(5), ["B", 5]),
    (e.Base(5, 1, 8), ["b", 5, 1, 8]),
    (e.Log(Source.RETRY, 1, 2, (4,)), ["l", 1, 1, 2, [4]]),
    (e.Done(Source.RETRY, ((3, 5),)), ["d", 1, [[3, 5]]]),
    (e.Leases((e.LeaseState(7, 6, "w", GRANT, 99, 5),)), ["h", [[7, 6, "w", [[1, 9], 19, 1, 2, b"k"], 99, 5]]]),
    (e.Returned(((POSITION, 2),)), ["r", [[[1, 9], 2]]]),
    (e.Remembered(6, (7,)), ["a", 6, [7]]),
]


@pytest.mark.parametrize(("event", "stored"), STORED, ids=lambda one: type(one).__name__)
def test_an_event_is_stored_as_it_always_was(event: Any, stored: list[Any]) -> None:
    data = msgspec.msgpack.encode(event)
    assert msgspec.msgpack.decode(data) == stored
    assert msgspec.msgpack.decode(data, type=e.LeaseEvent) == event


def test_every_event_that_is_stored_is_pinned() -> None:
    assert {type(event) for event, _ in STORED} == set(get_args(e.LeaseEvent))


def test_a_snapshot_of_a_large_state_comes_in_small_events_and_gives_it_back() -> None:
    world = World()
    world.publish(*(str(n) for n in range(3 * PER_EVENT)))
    taken = world.receive(3 * PER_EVENT)
    world.ack(*(delivery.receipt for delivery in taken[1::2]))
    world.do(c.Release(tuple(delivery.receipt for delivery in taken[0 : PER_EVENT * 2 : 4])))
    events = list(world.machine.snapshot())
    assert max(len(msgspec.msgpack.encode(event)) for event in events) < 256 * 1024
    restored = World().machine
    for event in events:
        restored.apply(event)
    assert restored._state.hard == world.machine._state.hard


# -- size and cost -------------------------------------------------------------------------------------------------------


def test_a_waiting_message_takes_less_than_two_hundred_bytes() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    schedule = Schedule()
    for n in range(50_000):
        schedule.put(10**9 + n * 2, 1_700_000_000_000 + n * 7919 % 3_600_000, 10**9 + n)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / len(schedule) < 200


def loaded(waiting: int) -> World:
    """A machine with that many retries and that many dead letters, an hour ahead."""
    world = World()
    due = world.clock.now().wall_ms + 3_600_000
    for source in (Source.RETRY, Source.DEAD):
        for start in range(0, waiting, 1_000):
            copies = []
            for offset in range(start, min(start + 1_000, waiting)):
                first = Position(Source.SOURCE, offset + waiting * (source is Source.DEAD))
                header = CopyHeader(
                    *(7, 0, first, MessageId(7, 0, first), 1, 1, due + offset * 7919 % 100_000, 0, 0, "q", "q", Reason.NACK)
                )
                copies.append(FoundCopy(offset, header))
            world.machine_run(c.TakeOver(source, tuple(copies), start + len(copies)))
    return world


def microseconds_a_message(world: World, messages: int = 10_000, batch: int = 10) -> float:
    """Receive and ack, in processor time."""
    now: Now = world.clock.now()
    offset = world.machine.intake
    assert offset is not None
    records = [StoredRecord(offset + n, now.wall_ms, None, b"v", ()) for n in range(messages)]
    world.machine_run(c.TakeIn(offset, tuple(arrived(record) for record in records), offset + messages))
    started = time.process_time()
    for _ in range(messages // batch):
        deliveries = world.machine_run(c.Acquire("w", 30_000, batch, batch))
        world.machine_run(c.Ack(tuple(delivery.receipt for delivery in deliveries)))
    return (time.process_time() - started) / messages * 1e6


@pytest.mark.slow
def test_receive_and_ack_cost_the_same_with_a_million_messages_waiting() -> None:
    few, many = loaded(1_000), loaded(500_000)
    assert (many.machine.waiting, many.machine.dead) == (500_000, 500_000)
    costs = [(microseconds_a_message(few), microseconds_a_message(many)) for _ in range(5)]
    assert min(cost for _, cost in costs) < 1.5 * min(cost for cost, _ in costs)
