"""What becomes of a failed message: retry topic, order, dead letters."""

from dataclasses import replace

import pytest

from logbroker.errors import MessageTooLarge, QueueFull, StorageError
from logbroker.model import Header
from logbroker.queues import commands as c
from logbroker.queues.headers import MAX_ERROR_BYTES, Reason, decoded
from logbroker.queues.messages import came_back
from logbroker.queues.positions import Source
from logbroker.queues.redelivery import RetryKind, RetryPolicy
from logbroker.queues.rules import KEY_WINDOW, LeaseRules
from tests.queues.world import DISK_FULL, LEASE_MS, NO_DELAY, World, message_id, text

EXACT = RetryPolicy(jitter=0)
KEYED = LeaseRules(retry=RetryPolicy(RetryKind.FIXED, initial_ms=1_000, jitter=0), ordered=True, max_attempts=3)


def fail(world: World, times: int, error: str | None = None) -> None:
    for _ in range(times):
        world.nack(world.one().receipt, error=error)


# -- delays --------------------------------------------------------------------------------------------------------------


def test_a_nack_brings_the_message_back_after_the_policys_delay_and_never_early() -> None:
    world = World(LeaseRules(retry=EXACT))
    world.publish("a")
    for delay in (100, 200, 400):
        world.nack(world.one().receipt)
        world.advance(delay - 1)
        assert world.receive() == []
        world.advance(1)


def test_a_nack_may_bring_its_own_delay() -> None:
    world = World(LeaseRules(retry=EXACT))
    world.publish("a")
    world.nack(world.one().receipt, delay_ms=5_000)
    world.advance(4_999)
    assert world.receive() == []
    world.advance(1)
    assert text(world.one()) == "a"


def test_t10_unequal_delays_do_not_block_each_other() -> None:
    world = World()
    world.publish("slow", *(f"fast {n}" for n in range(100)))
    taken = world.receive(200)
    for delivery in taken:
        world.nack(delivery.receipt, 3_600_000 if text(delivery) == "slow" else 1_000)
    world.advance(1_000)
    assert world.ready() == [f"fast {n}" for n in range(100)]
    world.advance(3_599_000)
    assert "slow" in world.ready()


def test_t12_nack_and_expiry_wait_by_the_same_policy() -> None:
    world = World(LeaseRules(retry=EXACT))
    world.publish("nacked", "expired")
    nacked, _ = world.receive(2)
    world.clock.advance(LEASE_MS - 1)
    world.nack(nacked.receipt)
    world.advance(1)
    assert world.machine.next_due_ms() == world.clock.now().wall_ms - 1 + 100
    world.advance(99)
    assert world.ready() == ["nacked"]
    world.advance(1)
    assert world.ready() == ["nacked", "expired"]


def test_t15_a_message_that_kills_its_worker_ends_in_the_dead_letters() -> None:
    world = World(LeaseRules(max_attempts=3, retry=NO_DELAY))
    world.publish("poison")
    for _ in range(3):
        world.one()
        world.advance(LEASE_MS)
    [letter] = world.dead()
    header = decoded(letter.headers)
    assert (header.failures, header.deliveries, header.reason) == (3, 3, Reason.MAX_ATTEMPTS)
    assert world.receive() == []


def test_t15_a_release_burns_no_attempt() -> None:
    world = World(LeaseRules(max_attempts=2, retry=NO_DELAY))
    world.publish("a")
    for _ in range(10):
        world.do(c.Release((world.one().receipt,)))
    last = world.one()
    assert (last.message.failures, last.deliveries) == (0, 11)


def test_unlimited_attempts_never_give_up() -> None:
    world = World(LeaseRules(max_attempts=None, retry=NO_DELAY))
    world.publish("a")
    fail(world, 50)
    assert world.one().message.failures == 50
    assert world.dead() == []


def test_t16_a_message_on_its_last_attempt_is_delivered_alone() -> None:
    world = World(LeaseRules(max_attempts=2, retry=NO_DELAY))
    world.publish("a", "b", "c")
    fail(world, 1)
    world.advance(1)
    world.publish("d")
    assert [text(d) for d in world.receive(10)] == ["a"]
    assert [text(d) for d in world.receive(10)] == ["b", "c", "d"]


def test_t16_a_crash_with_a_prefetch_of_fifty_dead_letters_no_innocents() -> None:
    world = World(LeaseRules(max_attempts=2, retry=NO_DELAY))
    world.publish(*(str(n) for n in range(50)))
    world.receive(50)
    world.advance(LEASE_MS)
    assert world.dead() == []
    world.receive(50)
    world.advance(LEASE_MS)
    assert len(world.dead()) == 1


# -- copies --------------------------------------------------------------------------------------------------------------


def test_t11_a_copy_takes_over_its_message_and_the_answer_comes_when_it_is_durable() -> None:
    world = World(auto=False)
    world.publish("a")
    receipt = world.one().receipt
    assert world.nack(receipt) is None
    assert world.receive() == [], "an unflushed copy is not handed out"
    world.flush_log(Source.RETRY)
    assert set(world.answers) == {1}
    assert text(world.one()) == "a"
    assert list(world.open_positions()) == ["a"]


def test_t11_while_a_message_moves_nothing_else_touches_it() -> None:
    world = World(auto=False)
    world.publish("a")
    receipt = world.one().receipt
    world.nack(receipt)
    assert world.ack(receipt) != [None]
    assert world.do(c.Extend(((receipt, 1_000),))) != (1_000,)
    world.advance(2 * LEASE_MS)
    assert len(world.appended) == 1, "expiry does not move it again"


def test_t14_headers_do_not_grow_with_the_number_of_copies() -> None:
    world = World(LeaseRules(max_attempts=None, retry=NO_DELAY))
    world.publish("a", headers=(Header("mine", b"1"), Header("lb-failures", b"forged")))
    sizes = []
    for n in range(30):
        delivery = world.one()
        sizes.append(sum(len(h.name) + len(h.value or b"") for h in delivery.message.record.headers))
        world.nack(delivery.receipt, error=f"error {n:02}")
    headers = world.one().message.record.headers
    assert sizes[-1] - sizes[11] <= 4, "a few more digits at most"
    assert [h for h in headers if not h.name.startswith("lb-")] == [Header("mine", b"1")]
    header = decoded(headers)
    assert (header.first_error, header.last_error) == (b"error 00", b"error 29")
    [line] = header.happened()
    assert (line.queue, line.reason, line.count) == ("orders", Reason.NACK, 30)


def test_t14_an_error_is_cut_at_four_kibibytes_between_characters() -> None:
    world = World()
    world.publish("a")
    world.nack(world.one().receipt, error="é" * 3_000)
    record = world.logs[Source.RETRY].records[-1]
    assert record is not None
    error = decoded(record.headers).last_error
    assert error is not None
    assert error.decode() == "é" * (MAX_ERROR_BYTES // 2)


def test_a_message_keeps_its_id_key_and_time_through_retry_dead_letter_and_redrive() -> None:
    world = World(LeaseRules(max_attempts=2, retry=NO_DELAY))
    world.publish("a", key="k")
    born = world.clock.now().wall_ms
    first = world.one()
    name = message_id(world, first)
    world.advance(10)
    world.nack(first.receipt)
    fail(world, 1)
    [letter] = world.dead()
    assert str(decoded(letter.headers).id) == name
    world.redrive(letter.offset)
    back = world.one()
    assert (message_id(world, back), back.message.record.key) == (name, b"k")
    header = decoded(back.message.record.headers)
    assert (header.timestamp_ms, header.topic) == (born, "orders")


def test_reserved_headers_of_a_producer_are_not_believed() -> None:
    world = World(LeaseRules(max_attempts=5))
    world.publish("a", headers=(Header("lb-failures", b"4"), Header("lb-due", b"99999999999999")))
    assert world.one().message.failures == 0


# -- key order -----------------------------------------------------------------------------------------------------------


def test_t09_a_key_waits_through_the_backoff_while_other_keys_flow() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", key="a")
    world.publish("b1", key="b")
    a1, b1 = world.receive(10)
    assert (text(a1), text(b1)) == ("a1", "b1")
    world.nack(a1.receipt)
    assert world.machine.parked == 1
    assert world.receive(10) == []
    world.advance(1_000)
    a1 = world.one()
    assert text(a1) == "a1"
    assert world.receive(10) == []
    world.ack(a1.receipt)
    assert text(world.one()) == "a2"


def test_t09_a_dead_letter_frees_its_key() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", key="a")
    world.reject(world.one().receipt, "never")
    assert text(world.one()) == "a2"


def test_t09_a_released_message_stays_in_front_of_its_key() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", key="a")
    world.do(c.Release((world.one().receipt,)))
    assert world.ready() == ["a1"]


def test_t09_parked_keys_are_bounded_ahead_of_the_frontier() -> None:
    world = World(KEYED)
    world.publish(*("x" for _ in range(KEY_WINDOW + 50)), key="a")
    head = world.one()
    assert world.machine.parked == KEY_WINDOW + 49, "one read may end beyond the bound"
    assert world.machine.intake is None
    for _ in range(50):
        world.ack(head.receipt)
        head = world.one()
    world.ack(head.receipt)
    assert world.machine.intake == KEY_WINDOW + 50


def test_t09_the_order_of_a_key_survives_a_restart_at_any_point() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", "a3", key="a")
    world.nack(world.one().receipt)
    world.crash()
    world.advance(1)
    assert world.receive(10) == []
    world.advance(999)
    a1 = world.one()
    assert text(a1) == "a1"
    world.crash()
    assert world.receive(10) == [], "the leased one still holds its key"
    world.ack(a1.receipt)
    assert text(world.one()) == "a2"
    world.crash()
    assert world.receive(10) == []


def test_t09_a_lease_that_ends_after_a_restart_keeps_its_key_before_anything_was_read() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", key="a")
    world.later("a3", 0, key="a")
    world.one(lease_ms=100)
    world.crash()
    read = world.logs[Source.RETRY].read(0)
    world.do(c.Supply(tuple(came_back(record) for record in read)))
    assert list(world.do(c.Acquire("c", LEASE_MS, 5, 5))) == []
    world.advance(100)
    assert world.receive(5) == []
    world.advance(1_000)
    assert text(world.one()) == "a1"


def test_messages_without_a_key_stand_in_no_line() -> None:
    world = World(KEYED)
    world.publish("1", "2")
    assert [text(d) for d in world.receive(10)] == ["1", "2"]


def test_t33_a_delayed_publish_does_not_hold_its_key_until_it_is_due() -> None:
    world = World(KEYED)
    world.later("later", 5_000, key="a")
    world.publish("now", key="a")
    now = world.one()
    assert text(now) == "now"
    world.advance(5_000)
    assert world.receive() == [], "one of a key at a time"
    world.ack(now.receipt)
    assert text(world.one()) == "later"


def test_t33_order_is_by_due_time_then_by_offset() -> None:
    world = World()
    world.later("third", 300)
    world.later("first", 100)
    world.later("also first", 100)
    world.advance(200)
    world.publish("second")
    world.advance(200)
    assert world.ready() == ["first", "also first", "second", "third"]


# -- dead letters --------------------------------------------------------------------------------------------------------


def test_t18_a_failed_move_holds_the_message_and_starts_over_after_one_to_sixty_seconds() -> None:
    world = World()
    world.publish("a")
    world.fail_moves = DISK_FULL
    receipt = world.one().receipt
    assert isinstance(world.nack(receipt), StorageError)
    waits = []
    for _ in range(8):
        deadline = world.machine.next_deadline(world.clock.now())
        assert deadline is not None
        waits.append(deadline - world.clock.now().mono_ms)
        world.advance(waits[-1])
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    assert world.receive() == []
    world.fail_moves = None
    world.advance(60_000)
    assert world.one().message.failures == 1


def test_t18_a_copy_that_is_too_large_loses_its_headers_and_not_its_payload() -> None:
    world = World()
    world.publish("a")
    receipt = world.one().receipt
    world.nack(receipt, error="e" * 4_000)
    receipt = world.one().receipt
    world.fail_moves = MessageTooLarge()
    world.nack(receipt, error="f" * 4_000)
    world.fail_moves = None
    world.advance(1_000)
    back = world.one()
    header = decoded(back.message.record.headers)
    assert (text(back), header.failures) == ("a", 2)
    assert (len(header.first_error or b""), len(header.last_error or b""), header.history) == (256, 256, None)


def test_t18_a_full_dead_letter_topic_holds_the_message_until_there_is_room() -> None:
    world = World()
    world.publish("a")
    world.do(c.DeadFull(True))
    assert isinstance(world.reject(world.one().receipt, "no"), QueueFull)
    world.advance(10_000)
    assert (world.machine.in_flight, world.dead(), world.receive()) == (1, [], [])
    world.do(c.DeadFull(False))
    world.advance(60_000)
    assert [letter.value for letter in world.dead()] == [b"a"]
    assert world.machine.in_flight == 0


def test_t18_a_held_message_is_not_lost_by_a_crash() -> None:
    world = World()
    world.publish("a")
    world.fail_moves = DISK_FULL
    world.nack(world.one().receipt)
    world.crash()
    world.fail_moves = None
    world.advance(LEASE_MS)
    assert world.one().message.failures == 1


def test_t19_a_dead_letter_holds_payload_headers_and_the_whole_story() -> None:
    world = World(LeaseRules(max_attempts=3, retry=NO_DELAY))
    world.publish("a", key="k", headers=(Header("mine", b"1"),))
    world.nack(world.one().receipt, error="first")
    world.one()
    world.advance(LEASE_MS)
    world.nack(world.one().receipt, error="last")
    [letter] = world.dead()
    header = decoded(letter.headers)
    assert (letter.value, letter.key, letter.headers[0]) == (b"a", b"k", Header("mine", b"1"))
    assert (header.queue, header.topic, str(header.id)) == ("orders", "orders", "7-0-s0")
    assert (header.first_error, header.last_error, header.reason) == (b"first", b"last", Reason.MAX_ATTEMPTS)
    assert {(line.reason, line.count) for line in header.happened()} == {(Reason.NACK, 2), (Reason.LEASE_EXPIRED, 1)}


def test_a_rejected_message_goes_straight_to_the_dead_letters_with_its_reason() -> None:
    world = World()
    world.publish("a")
    assert isinstance(world.reject(world.one().receipt, "no such user"), c.Placed)
    [letter] = world.dead()
    header = decoded(letter.headers)
    assert (header.reason, header.last_error) == (Reason.REJECTED, b"no such user")
    assert world.machine.dead == 1


def test_overflow_drops_the_oldest_dead_letters() -> None:
    world = World()
    world.publish("a", "b", "c", "d")
    for delivery in world.receive(4):
        world.reject(delivery.receipt, "no")
    world.do(c.Discard((1,)))
    assert world.do(c.DropOldest(2)) == 2
    assert [letter.value for letter in world.dead()] == [b"d"]
    assert (world.machine.dead, world.machine.floor(Source.DEAD)) == (1, 3)
    world.crash()
    assert world.machine.dead == 1


# -- time to live --------------------------------------------------------------------------------------------------------


def test_an_expired_message_is_never_delivered_and_goes_to_the_dead_letters_with_its_reason() -> None:
    world = World(LeaseRules(ttl_ms=1_000))
    world.publish("old")
    world.advance(500)
    world.publish("young")
    world.clock.advance(500)
    assert [text(d) for d in world.receive(10)] == ["young"]
    [letter] = world.dead()
    assert (letter.value, decoded(letter.headers).reason) == (b"old", Reason.EXPIRED)


def test_the_lower_of_the_queues_and_the_messages_time_to_live_wins() -> None:
    world = World(LeaseRules(ttl_ms=1_000))
    world.publish("short", headers=(Header("logbroker-ttl-ms", b"10"),))
    world.publish("long", headers=(Header("logbroker-ttl-ms", b"99999"),))
    world.publish("odd", headers=(Header("logbroker-ttl-ms", b"soon"),))
    world.clock.advance(10)
    assert world.ready() == ["long", "odd"]
    world.clock.advance(990)
    assert world.ready() == []
    assert len(world.dead()) == 3


def test_messages_that_nobody_receives_expire_by_the_clock() -> None:
    world = World(LeaseRules(ttl_ms=1_000))
    world.publish("a", "b")
    world.fill()
    assert world.machine.next_deadline(world.clock.now()) == world.clock.now().mono_ms + 1_000
    world.advance(1_000)
    assert len(world.dead()) == 2


def test_a_running_lease_is_not_ended_by_the_time_to_live() -> None:
    world = World(LeaseRules(ttl_ms=1_000))
    world.publish("a")
    receipt = world.one().receipt
    world.advance(2_000)
    assert world.ack(receipt) == [None]


def test_the_time_to_live_of_a_delayed_message_counts_from_when_it_is_due() -> None:
    world = World(LeaseRules(ttl_ms=1_000))
    world.later("a", 5_000)
    world.advance(5_999)
    assert world.ready() == ["a"]
    world.advance(1)
    assert world.ready() == []


def test_expired_messages_stay_where_they_are_while_the_dead_letter_topic_is_full() -> None:
    world = World(LeaseRules(ttl_ms=1_000))
    world.publish("a")
    world.fill()
    world.do(c.DeadFull(True))
    world.advance(5_000)
    assert (world.receive(), world.dead(), world.machine.next_deadline(world.clock.now())) == ([], [], None)
    world.do(c.DeadFull(False))
    world.tick()
    assert len(world.dead()) == 1


# -- priority and configuration ------------------------------------------------------------------------------------------


def test_t34_a_retry_stays_in_its_partition_and_so_keeps_its_priority() -> None:
    world = World()
    world.publish("a")
    world.nack(world.one().receipt)
    assert world.machine.place.retry.partition == world.machine.place.source.partition


def test_rules_may_change_while_messages_wait() -> None:
    world = World(LeaseRules(max_attempts=5, retry=NO_DELAY))
    world.publish("a")
    fail(world, 1)
    world.do(c.Configure(replace(world.rules, max_attempts=2)))
    fail(world, 1)
    assert len(world.dead()) == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_attempt_limit_is_the_number_of_failures(attempts: int) -> None:
    world = World(LeaseRules(max_attempts=attempts, retry=NO_DELAY))
    world.publish("a")
    fail(world, attempts - 1)
    assert world.dead() == []
    fail(world, 1)
    assert len(world.dead()) == 1


def test_t16_a_message_on_its_last_attempt_does_not_join_the_messages_of_other_partitions() -> None:
    world = World(LeaseRules(max_attempts=2, retry=NO_DELAY))
    world.publish("a")
    fail(world, 1)
    world.fill()
    assert world.do(c.Acquire("c", LEASE_MS, 10, 10, in_company=True)) == ()
    assert [text(d) for d in world.receive(10)] == ["a"]
