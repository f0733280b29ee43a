"""Leases: who holds a message, and what a receipt can still do."""

from collections.abc import Iterable

import pytest

from logbroker.errors import InvalidRequest, LeaseLost
from logbroker.queues import commands as c
from logbroker.queues.positions import MessageId, Position, Receipt, Source
from logbroker.queues.redelivery import RetryPolicy
from logbroker.queues.rules import MAX_LEASE_MS, REMEMBERED_ACKS, LeaseRules
from tests.queues.world import LEASE_MS, World, text


def lost(results: Iterable[object]) -> bool:
    return all(isinstance(result, LeaseLost) for result in results)


def test_messages_come_in_order_and_each_to_one_consumer() -> None:
    world = World()
    world.publish("a", "b", "c")
    assert [text(d) for d in world.receive(2)] == ["a", "b"]
    assert [text(d) for d in world.receive(2)] == ["c"]
    assert world.receive(2) == []
    assert world.machine.in_flight == 3


def test_acks_in_any_order_move_the_frontier_when_they_reach_it() -> None:
    world = World()
    world.publish("a", "b", "c")
    a, b, c_ = (d.receipt for d in world.receive(3))
    assert world.ack(c_, b) == [None, None]
    assert world.machine.floor(Source.SOURCE) == 0
    assert world.ack(a) == [None]
    assert world.machine.floor(Source.SOURCE) == 3
    assert world.open_positions() == {}


def test_t01_an_ack_after_expiry_is_refused_even_before_anybody_noticed_the_expiry() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    world.clock.advance(LEASE_MS)
    assert lost(world.ack(receipt))
    world.tick()
    assert lost(world.ack(receipt))
    again = world.one()
    assert (text(again), again.message.failures, again.deliveries) == ("a", 1, 2)


def test_t01_a_repeated_ack_is_fine_while_it_is_remembered() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    assert world.ack(receipt, receipt) == [None, None]
    assert world.ack(receipt) == [None]


def test_t01_the_last_ten_thousand_acks_are_remembered() -> None:
    world = World()
    world.publish(*(str(n) for n in range(REMEMBERED_ACKS + 1)))
    receipts = [d.receipt for d in world.receive(REMEMBERED_ACKS + 1)]
    world.ack(*receipts)
    assert world.ack(receipts[1]) == [None]
    assert lost(world.ack(receipts[0]))


def test_t02_a_stale_receipt_never_touches_a_redelivery() -> None:
    world = World()
    world.publish("a")
    stale = world.one().receipt
    world.do(c.Release((stale,)))
    fresh = world.one().receipt
    assert fresh.position == stale.position
    assert lost(world.ack(stale))
    assert isinstance(world.nack(stale), LeaseLost)
    assert isinstance(world.reject(stale, "no"), LeaseLost)
    assert lost(world.do(c.Release((stale,))))
    assert lost(world.do(c.Extend(((stale, 0),))))
    assert world.ack(fresh) == [None]


def test_t02_a_receipt_is_not_the_id_of_the_message() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    assert str(receipt) != str(MessageId(7, 0, receipt.position))
    assert Receipt.parse(str(receipt)) == receipt


@pytest.mark.parametrize(
    "junk", ["", "1f-0-s42", "AAAA", "é", str(Receipt(1, 0, Position(Source.DEAD, 1), 2, 3))[:-4] + "===="]
)
def test_what_is_not_a_receipt_is_refused_with_advice(junk: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a receipt"):
        Receipt.parse(junk)


def test_t03_an_extension_in_time_beats_the_expiry_that_was_planned() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    world.clock.advance(LEASE_MS - 1)
    assert world.do(c.Extend(((receipt, LEASE_MS),))) == (LEASE_MS,)
    world.advance(1)
    assert world.receive() == []
    assert world.ack(receipt) == [None]


def test_t03_an_extension_never_revives_a_lease_that_ended() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    world.clock.advance(LEASE_MS)
    assert lost(world.do(c.Extend(((receipt, LEASE_MS),))))
    world.tick()
    holder = world.one().receipt
    assert lost(world.do(c.Extend(((receipt, LEASE_MS),))))
    assert world.ack(holder) == [None]


def test_t04_an_extension_counts_from_the_call_and_may_shorten() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    world.advance(10_000)
    assert world.do(c.Extend(((receipt, 1_000),))) == (1_000,)
    world.advance(999)
    assert world.machine.in_flight == 1
    world.advance(1)
    assert world.machine.in_flight == 0


def test_t04_an_extension_by_zero_releases_at_once_without_counting() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    assert world.do(c.Extend(((receipt, 0),))) == (0,)
    assert world.machine.available(world.clock.now()), "a long poll is woken"
    again = world.one()
    assert (again.message.failures, again.deliveries) == (0, 2)


def test_t04_a_lease_lasts_twelve_hours_at_most_however_often_it_is_extended() -> None:
    world = World()
    world.publish("a")
    receipt = world.one(lease_ms=MAX_LEASE_MS).receipt
    world.advance(MAX_LEASE_MS - 5)
    assert world.do(c.Extend(((receipt, MAX_LEASE_MS),))) == (5,)
    world.advance(5)
    assert lost(world.ack(receipt))


def test_t05_setting_the_wall_clock_ends_no_lease() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    world.clock.set_wall(world.clock.now().wall_ms + 10**9)
    world.tick()
    assert world.ack(receipt) == [None]


def test_t05_down_time_does_not_run_against_a_lease() -> None:
    world = World()
    world.publish("a", "b")
    a = world.one(lease_ms=10_000).receipt
    world.clock.advance(4_000)
    world.one()
    world.clock.advance(3_600_000)
    world.crash()
    world.advance(5_999)
    assert world.machine.in_flight == 2
    assert world.do(c.Extend(((a, 10_000),))) == (10_000,)
    world.advance(10_000)
    assert world.machine.in_flight == 1


def test_t05_leases_that_end_together_come_back_spread_over_the_jitter() -> None:
    world = World(LeaseRules(retry=RetryPolicy(initial_ms=1_000, jitter=1)))
    world.publish(*(str(n) for n in range(50)))
    world.receive(50)
    world.advance(LEASE_MS)
    world.advance(999)
    assert world.machine.wanted(world.clock.now(), 100) == []
    world.advance(501)
    assert 20 <= len(world.machine.wanted(world.clock.now(), 100)) <= 30
    world.advance(500)
    assert len(world.machine.wanted(world.clock.now(), 100)) == 50


def test_t06_a_release_after_a_lost_reply_gives_the_messages_back_at_once_and_first() -> None:
    world = World()
    world.publish("a", "b", "c")
    taken = world.receive(2)
    assert world.do(c.Release(tuple(d.receipt for d in taken))) == (None, None)
    again = world.receive(3)
    assert [(text(d), d.message.failures, d.deliveries) for d in again] == [("a", 0, 2), ("b", 0, 2), ("c", 0, 1)]


def test_t07_each_message_of_a_batch_has_a_deadline_of_its_own() -> None:
    world = World()
    world.publish("a", "b")
    a, b = world.receive(2)
    assert a.expires_ms == b.expires_ms == world.clock.now().wall_ms + LEASE_MS
    world.do(c.Extend(((b.receipt, 2 * LEASE_MS),)))
    world.advance(LEASE_MS)
    assert lost(world.ack(a.receipt))
    assert world.ack(b.receipt) == [None]


def test_t08_the_lease_of_a_request_is_taken_as_asked() -> None:
    world = World()
    world.publish("a", "b")
    world.one(lease_ms=100)
    world.one(lease_ms=LEASE_MS)
    world.advance(100)
    assert world.machine.in_flight == 1


def test_t13_at_the_cap_nothing_new_is_delivered_but_retries_are() -> None:
    world = World()
    world.publish("a", "b", "c")
    world.nack(world.one().receipt)
    assert world.machine.in_flight == 0, "a waiting retry is not in flight"
    assert [text(d) for d in world.receive(10, fresh=0)] == ["a"]
    assert world.receive(10, fresh=0) == []
    assert [text(d) for d in world.receive(10, fresh=1)] == ["b"]


def test_t38_a_receipt_of_an_earlier_queue_of_that_name_is_refused() -> None:
    earlier, later = World(incarnation=1), World(incarnation=2)
    for world in (earlier, later):
        world.publish("a")
    stale, good = earlier.one().receipt, later.one().receipt
    assert lost(later.ack(stale._replace(run=good.run)))
    assert later.ack(good) == [None]


def test_a_power_cut_that_forgets_a_lease_does_not_let_its_receipt_settle_the_next() -> None:
    world = World(auto=False)
    world.publish("a")
    forgotten = world.one().receipt
    world.crash(journal=0)
    holder = world.one().receipt
    assert (forgotten.number, forgotten.position) == (holder.number, holder.position)
    assert lost(world.ack(forgotten))
    assert world.ack(holder) == [None]


def test_a_killed_broker_comes_back_with_the_same_holders_and_counts() -> None:
    world = World()
    world.publish("a", "b", "c")
    a, b, _ = world.receive(3)
    world.nack(b.receipt)
    world.do(c.Release((a.receipt,)))
    a = world.one()
    world.crash()
    assert world.ack(a.receipt) == [None]
    retried = world.one()
    assert (text(retried), retried.message.failures, retried.deliveries) == ("b", 1, 2)
    assert world.receive(10) == []


def test_one_bad_receipt_does_not_spoil_a_batch() -> None:
    world = World()
    world.publish("a", "b")
    a, b = (d.receipt for d in world.receive(2))
    results = world.ack(a, b._replace(number=99), b)
    assert [result is None for result in results] == [True, False, True]
