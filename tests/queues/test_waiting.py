"""Messages that nobody holds: delayed ones, by id, dead letters sent back, purge and seek, holes in the log."""

import pytest

from logbroker.errors import MessageNotFound, StorageError, Throttled
from logbroker.model import Header
from logbroker.queues import commands as c
from logbroker.queues.copies import Edit
from logbroker.queues.headers import Reason, decoded
from logbroker.queues.positions import MessageId, Position, Source, index_of
from logbroker.queues.redelivery import RetryKind, RetryPolicy
from logbroker.queues.rules import LeaseRules
from tests.queues.world import DISK_FULL, World, message_id, text

HOUR = 3_600_000
KEYED = LeaseRules(retry=RetryPolicy(RetryKind.FIXED, initial_ms=1_000, jitter=0), ordered=True)


def first(source: Source, offset: int) -> int:
    return index_of(Position(source, offset))


# -- delay, reschedule, cancel -------------------------------------------------------------------------------------------


def test_a_delayed_message_waits_through_a_restart_and_is_never_early() -> None:
    world = World()
    assert world.later("a", HOUR) == c.Placed(Position(Source.RETRY, 0))
    world.crash()
    world.advance(HOUR - 1)
    assert world.receive() == []
    world.advance(1)
    delivery = world.one()
    assert (text(delivery), message_id(world, delivery)) == ("a", "7-0-r0")


def test_a_failed_delayed_publish_is_told_to_the_publisher_and_leaves_nothing() -> None:
    world = World()
    world.fail_moves = DISK_FULL
    assert isinstance(world.later("a", HOUR), StorageError)
    assert (world.machine.next_deadline(world.clock.now()), world.machine.waiting) == (None, 0)


def test_a_waiting_message_is_rescheduled_and_promoted_by_its_id() -> None:
    world = World()
    world.later("a", HOUR)
    world.reschedule(first(Source.RETRY, 0), world.clock.now().wall_ms + 2 * HOUR)
    world.advance(HOUR)
    assert world.receive() == []
    world.reschedule(first(Source.RETRY, 0), world.clock.now().wall_ms)
    delivery = world.one()
    assert message_id(world, delivery) == "7-0-r0", "the id stays"
    assert list(world.open_positions()) == ["a"]


def test_a_message_that_is_ready_may_be_put_off() -> None:
    world = World()
    world.publish("a", "b")
    world.fill()
    world.reschedule(first(Source.SOURCE, 0), world.clock.now().wall_ms + HOUR)
    assert world.ready() == ["b"]
    world.advance(HOUR)
    assert sorted(world.ready()) == ["a", "b"]


def test_promoting_what_is_ready_changes_nothing() -> None:
    world = World()
    world.publish("a")
    assert world.reschedule(first(Source.SOURCE, 0), 0) == c.Placed(Position(Source.SOURCE, 0))


def test_a_reschedule_that_fails_leaves_the_message_as_it_was() -> None:
    world = World()
    world.later("a", HOUR)
    world.fail_moves = DISK_FULL
    assert isinstance(world.reschedule(first(Source.RETRY, 0), world.clock.now().wall_ms), StorageError)
    assert world.receive() == []
    world.advance(HOUR)
    assert text(world.one()) == "a"


def test_t36_cancel_says_cancelled_or_already_delivered() -> None:
    world = World()
    world.later("waits", HOUR)
    world.publish("ready", "leased", "done")
    world.receive(1)
    world.do(c.Release((world.receive(1)[0].receipt,)))
    assert world.do(c.Cancel(first(Source.RETRY, 0))) is c.Outcome.CANCELLED
    assert world.do(c.Cancel(first(Source.SOURCE, 0))) is c.Outcome.ALREADY_DELIVERED
    assert world.do(c.Cancel(first(Source.SOURCE, 1))) is c.Outcome.CANCELLED
    world.ack(world.one().receipt)
    assert world.do(c.Cancel(first(Source.SOURCE, 2))) is c.Outcome.ALREADY_DELIVERED
    world.advance(HOUR)
    assert "waits" not in world.ready()
    world.crash()
    assert list(world.open_positions()) == ["ready"]


def test_t36_a_message_that_waits_for_a_retry_can_be_cancelled_by_its_first_id() -> None:
    world = World()
    world.publish("a")
    world.nack(world.one().receipt, delay_ms=HOUR)
    assert world.do(c.Cancel(first(Source.SOURCE, 0))) is c.Outcome.CANCELLED
    assert world.open_positions() == {}


def test_t36_a_message_that_moves_is_neither_cancelled_nor_moved_twice() -> None:
    world = World(auto=False)
    world.later("a", HOUR)
    world.flush()
    world.reschedule(first(Source.RETRY, 0), world.clock.now().wall_ms)
    assert isinstance(world.do(c.Cancel(first(Source.RETRY, 0))), Throttled)
    assert isinstance(world.reschedule(first(Source.RETRY, 0), 0), Throttled)


def test_a_cancelled_head_lets_the_next_of_its_key_through() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", "a3", key="a")
    world.fill()
    world.do(c.Cancel(first(Source.SOURCE, 1)))
    world.do(c.Cancel(first(Source.SOURCE, 0)))
    assert world.ready() == ["a3"]


def test_an_id_that_is_none_is_told_apart() -> None:
    assert MessageId.parse("1f-2-s42") == (0x1F, 2, Position(Source.SOURCE, 42))
    with pytest.raises(MessageNotFound, match="looks like"):
        MessageId.parse("1f-2-d42")


# -- redrive -------------------------------------------------------------------------------------------------------------


def dead_letter(world: World, value: str = "a") -> None:
    headers = (Header("logbroker-dedup-id", b"x"), Header("logbroker-ttl-ms", b"50000"), Header("mine", b"1"))
    world.publish(value, headers=headers)
    world.reject(world.one().receipt, "no")


def test_t20_a_redrive_starts_anew_and_counts_itself() -> None:
    world = World(LeaseRules(ttl_ms=100_000))
    dead_letter(world)
    world.advance(99_000)
    assert world.redrive(0) == c.Placed(Position(Source.RETRY, 0))
    assert (world.machine.dead, len(world.logs[Source.SOURCE].records)) == (0, 1)
    world.advance(60_000)
    back = world.one()
    header = decoded(back.message.record.headers)
    assert (back.message.failures, header.redriven, header.reason) == (0, 1, Reason.REDRIVEN)
    assert [h.name for h in back.message.record.headers if not h.name.startswith("lb-")] == ["mine"]


def test_t20_a_dead_letter_is_redriven_once() -> None:
    world = World()
    dead_letter(world)
    world.redrive(0)
    assert isinstance(world.redrive(0), MessageNotFound)
    assert len(world.logs[Source.RETRY].records) == 1


def test_t20_a_redrive_that_fails_or_is_cut_short_leaves_the_dead_letter() -> None:
    world = World()
    dead_letter(world)
    world.fail_moves = DISK_FULL
    assert isinstance(world.redrive(0), StorageError)
    assert world.machine.dead == 1
    world.fail_moves, world.auto = None, False
    assert world.redrive(0) is None
    world.crash(retry=0)
    assert (world.machine.dead, world.receive()) == (1, [])


def test_t20_a_redrive_may_edit_value_and_headers() -> None:
    world = World()
    dead_letter(world)
    world.redrive(0, Edit(b"mended", (Header("mine", b"2"), Header("lb-due", b"9"))))
    back = world.one()
    assert text(back) == "mended"
    assert back.message.record.headers[0] == Header("mine", b"2")
    assert message_id(world, back) == "7-0-s0"


def test_t20_a_redriven_message_of_a_key_goes_behind_the_newer_ones() -> None:
    world = World(KEYED)
    world.publish("old", "new 1", "new 2", key="a")
    world.reject(world.one().receipt, "no")
    world.fill()
    world.redrive(0)
    order = []
    for _ in range(3):
        delivery = world.one()
        order.append(text(delivery))
        world.ack(delivery.receipt)
    assert order == ["new 1", "new 2", "old"]


def test_discarded_dead_letters_are_gone_and_moving_ones_are_left() -> None:
    world = World()
    for value in "abc":
        dead_letter(world, value)
    world.auto = False
    world.redrive(1)
    assert world.do(c.Discard((0, 1, 1, 9))) == 1
    assert world.do(c.DropOldest(5)) == 1
    world.flush()
    assert world.open_positions() == {"b": [Position(Source.RETRY, 0)]}


# -- purge and seek ------------------------------------------------------------------------------------------------------


def test_t38_a_purge_ends_everything_that_waits_or_is_leased_but_not_the_dead_letters() -> None:
    world = World()
    world.publish("dead", "leased", "retrying", "released", "unread")
    world.reject(world.one().receipt, "no")
    leased, retrying, released = world.receive(3)
    world.nack(retrying.receipt, delay_ms=HOUR)
    world.do(c.Release((released.receipt,)))
    world.later("delayed", HOUR)
    world.do(c.Purge(5, world.machine.seen(Source.RETRY)))
    assert world.ack(leased.receipt) != [None]
    world.publish("after")
    world.advance(2 * HOUR)
    assert world.ready() == ["after"]
    world.crash()
    assert sorted(world.open_positions()) == ["after", "dead"]


def test_t38_a_purge_makes_a_move_under_way_void() -> None:
    for crash in (False, True):
        world = World(auto=False)
        world.publish("a")
        world.nack(world.one().receipt)
        world.do(c.Purge(1, 0))
        world.flush_journal()
        if crash:
            world.crash()
        else:
            world.flush()
        assert world.open_positions() == {}
        assert world.receive() == []


def test_a_purge_below_an_offset_leaves_the_rest_of_each_key() -> None:
    world = World(KEYED)
    world.publish("a1", "a2", "a3", key="a")
    world.one()
    world.do(c.Purge(2, 0))
    assert world.ready() == ["a3"]


def test_a_seek_back_delivers_again_and_makes_older_copies_void() -> None:
    for crash in (False, True):
        world = World(auto=False)
        world.publish("a", "b")
        a, b = world.receive(2)
        world.ack(a.receipt)
        world.nack(b.receipt)
        world.do(c.Seek(0))
        world.flush_journal()
        if crash:
            world.crash()
        else:
            world.flush()
        assert world.ack(b.receipt) != [None]
        assert [(text(d), d.message.failures) for d in world.receive(5)] == [("a", 0), ("b", 0)]
        assert world.machine.floor(Source.RETRY) == 1


def test_a_seek_forward_skips() -> None:
    world = World()
    world.publish("a", "b", "c")
    world.receive(1)
    world.do(c.Seek(2))
    assert world.ready() == ["c"]
    world.crash()
    assert world.ready() == ["c"]


def test_a_queue_on_an_existing_topic_starts_where_it_is_told() -> None:
    world = World()
    world.publish("before")
    world.do(c.Seek(1))
    world.publish("after")
    assert world.ready() == ["after"]


# -- holes, losses, copies that are not ours -----------------------------------------------------------------------------


def punch(world: World, *offsets: int) -> None:
    for offset in offsets:
        world.logs[Source.SOURCE].records[offset] = None


def test_offsets_without_a_record_do_not_hold_the_frontier() -> None:
    world = World()
    world.publish("a", "marker", "b", "marker")
    punch(world, 1, 3)
    world.ack(*(d.receipt for d in world.receive(5)))
    assert world.machine.floor(Source.SOURCE) == 4


def test_holes_are_told_again_after_a_crash_without_harm() -> None:
    world = World()
    world.publish("a", "marker", "b", "c")
    punch(world, 1)
    leased = world.receive(2)
    punch(world, 2)
    world.crash()
    assert world.ready() == ["c"]
    assert world.ack(*(d.receipt for d in leased)) == [None, None], "a lease outlives its record"


def test_t21_a_message_whose_record_is_gone_is_done_and_never_handed_out_empty() -> None:
    world = World()
    world.publish("a", "b")
    world.do(c.Release(tuple(d.receipt for d in world.receive(2))))
    assert world.do(c.Lose((Position(Source.SOURCE, 0),))) == 1
    assert world.do(c.Lose((Position(Source.SOURCE, 0),))) == 0
    assert world.ready() == ["b"]


def test_t21_a_waiting_retry_holds_its_topic_however_long_its_delay() -> None:
    world = World()
    world.publish("long", "short")
    for delivery in world.receive(2):
        world.nack(delivery.receipt, delay_ms=HOUR * 24 * 365 if text(delivery) == "long" else 0)
    world.ack(world.one().receipt)
    assert world.machine.floor(Source.RETRY) == 0


def test_copies_of_an_earlier_queue_of_that_name_are_void() -> None:
    earlier = World(incarnation=1)
    earlier.publish("a")
    earlier.nack(earlier.one().receipt, delay_ms=HOUR)
    later = World(incarnation=2)
    later.logs = earlier.logs
    later.load()
    later.advance(2 * HOUR)
    assert later.ready() == ["a"], "from the source, once"
    assert later.machine.floor(Source.RETRY) == 1


def test_a_read_that_is_not_from_where_the_machine_stands_is_ignored() -> None:
    world = World()
    world.publish("a")
    world.fill()
    world.do(c.TakeIn(0, (), 1))
    assert world.ready() == ["a"]


def test_a_retry_that_pins_much_is_written_again_with_its_own_due_time() -> None:
    world = World()
    world.later("long", HOUR)
    for _ in range(20):
        world.later("short", 0)
        world.ack(world.one().receipt)
    assert world.machine.worth_rewriting(64 * 1024 * 1024 / 19, 10) == [0]
    world.reschedule(first(Source.RETRY, 0), world.clock.now().wall_ms + HOUR)
    assert world.machine.floor(Source.RETRY) == 21
    world.advance(HOUR)
    assert text(world.one()) == "long"
